//! Whether a container gets a secret, and which rule says so. Pure.
//!
//! Invariant: it judges by the parts of a selector, all of which hold exactly when a host's injector takes the container
//! as meant. Whether the facts that it is told are so, only the host knows.

use std::cmp::Reverse;

use keywheel_core::assignment::Progress;
use keywheel_core::binding::{Binding, ContainerFacts, Part, Spec};
use keywheel_core::host::Host;
use keywheel_core::name::{HostName, SecretName};
use keywheel_core::secret::Secret;
use keywheel_core::world::World;
use keywheel_schemas::api::{EntitlementView, RulePart, RuleView};

use super::{target_words, with_leases};

/// A binding of the secret, held against the container.
struct Rule<'w> {
    binding: &'w Binding,
    spec: &'w Spec,
    parts: Vec<Part>,
    /// How many parts do not hold.
    missing: usize,
    /// The secret of which there is nothing to give.
    lacks: Option<&'w SecretName>,
    /// Why policies withhold it.
    withheld: Option<String>,
}

/// Whether whoever asks may list a secret.
type Seen<'a> = &'a dyn Fn(&SecretName) -> bool;

/// Whether a container of a host gets a secret. Other secrets of a binding are named only if `is_seen` says so.
#[must_use]
pub fn entitlement(
    world: &World,
    secret: &Secret,
    (host, facts): (&HostName, &ContainerFacts),
    is_seen: Seen<'_>,
) -> EntitlementView {
    let mut rules: Vec<Rule<'_>> = world
        .bindings
        .values()
        .filter_map(|binding| rule((world, binding), (secret, is_seen), (host, facts)))
        .collect();
    rules.sort_by_key(|rule| {
        let gives_nothing = (rule.withheld.is_some(), rule.lacks.is_some());
        let parts = Reverse(rule.parts.len());
        (rule.missing, gives_nothing, parts, &rule.binding.name)
    });
    let known = world.host_named(host);
    let denied = denial(secret, (host, facts), known, (rules.first(), is_seen));
    let (reason, next) = match &denied {
        Some((reason, next)) => (reason.clone(), Some(next.clone())),
        None => (granted(&rules), None),
    };
    EntitlementView {
        secret: secret.name.to_string(),
        container: facts.name.clone(),
        id: facts.id.to_string(),
        host: host.to_string(),
        entitled: denied.is_none(),
        binding: rules.first().map(|rule| rule.binding.name.to_string()),
        reason,
        next,
        rules: rules
            .iter()
            .map(|rule| rule_view(world, secret, (known, facts), rule))
            .collect(),
    }
}

fn rule<'w>(
    (world, binding): (&'w World, &'w Binding),
    (secret, is_seen): (&Secret, Seen<'_>),
    (host, facts): (&HostName, &ContainerFacts),
) -> Option<Rule<'w>> {
    let spec = binding.declared()?;
    let parts = spec.selector.parts(host, facts);
    let missing = parts.iter().filter(|part| !part.holds).count();
    let lacks = lacking(world, spec);
    spec.names(secret.id).then_some(Rule {
        binding,
        spec,
        parts,
        missing,
        lacks,
        withheld: withheld_words(world, binding, is_seen),
    })
}

fn granted(rules: &[Rule<'_>]) -> String {
    let holding = rules.iter();
    let holding =
        holding.filter(|rule| rule.missing == 0 && rule.lacks.is_none() && rule.withheld.is_none());
    let named = holding.map(|rule| {
        let gives = target_words(&rule.spec.target);
        format!("binding `{}` gives it as {gives}", rule.binding.name)
    });
    named.collect::<Vec<_>>().join("; ")
}

/// Why it does not get the secret, and what to do; the first reason in the order in which a host finds them.
fn denial(
    secret: &Secret,
    (host, facts): (&HostName, &ContainerFacts),
    known: Option<&Host>,
    (nearest, is_seen): (Option<&Rule<'_>>, Seen<'_>),
) -> Option<(String, String)> {
    let Some(known) = known else {
        return Some((
            format!("no host is named `{host}`"),
            "`keywheel get hosts` lists them; name the container's with --host".to_owned(),
        ));
    };
    if known.quarantines.contains_key(&facts.id) {
        let (name, id) = (&facts.name, facts.id.short());
        return Some((
            format!("container `{name}` is in quarantine"),
            format!("a person lifts that with `keywheel playbook lift {id} --reason \"…\"`"),
        ));
    }
    let Some(rule) = nearest else {
        return Some((
            "no binding gives it to any container".to_owned(),
            format!(
                "apply a Binding with `secret: {}` and `containers: {{ host: {host}, image: \"{}\" }}`",
                secret.name, facts.image_digest
            ),
        ));
    };
    let name = &rule.binding.name;
    if rule.missing > 0 {
        let missing = rule.parts.iter().filter(|part| !part.holds);
        let words: Vec<String> = missing.map(Part::words).collect();
        return Some((
            format!(
                "no binding means it; `{name}` comes nearest: {}",
                words.join(", ")
            ),
            format!("widen `containers` of binding `{name}`, or apply one that means it"),
        ));
    }
    if let Some(withheld) = &rule.withheld {
        return Some(by_policies(secret, rule, withheld));
    }
    let lacking = rule.lacks?;
    if !is_seen(lacking) {
        return Some((
            format!(
                "binding `{name}` gives it together with a secret that has no version that may be used, and that you may not list"
            ),
            format!("ask whoever may list all that binding `{name}` gives"),
        ));
    }
    Some((
        format!(
            "binding `{name}` gives it, but secret `{lacking}` has no version that may be used"
        ),
        format!("make one with `keywheel rotate {lacking}` or `keywheel secret put {lacking}`"),
    ))
}

/// Why policies withhold what a binding would give; names a secret only if `is_seen` says so.
pub(super) fn withheld_words(
    world: &World,
    binding: &Binding,
    is_seen: Seen<'_>,
) -> Option<String> {
    let denial = &binding.withheld.as_ref()?.denial;
    let known = world.secrets.get(&denial.secret);
    let secret = match known.filter(|known| is_seen(&known.name)) {
        Some(known) => format!("`secret/{}`", known.name),
        None => "a secret that you may not list".to_owned(),
    };
    Some(format!(
        "policies withhold it: service `{}` may not read {secret} ({})",
        denial.service, denial.reason
    ))
}

/// Of a binding that means it and is withheld.
fn by_policies(secret: &Secret, rule: &Rule<'_>, withheld: &str) -> (String, String) {
    let name = &rule.binding.name;
    let denied = rule.binding.withheld.as_ref();
    let is_own = denied.is_some_and(|withheld| withheld.denial.secret == secret.id);
    let next = match is_own {
        true => format!(
            "`keywheel policy explain service:{} read secret/{}` tells more; whoever may `grant` can permit it",
            rule.spec.service(name),
            secret.name
        ),
        false => format!(
            "it is another secret that binding `{name}` gives with it; whoever may `grant` can permit that"
        ),
    };
    (format!("binding `{name}` means it, and {withheld}"), next)
}

/// The first secret of a binding of which there is nothing to give; a lease is made when it is asked for.
fn lacking<'w>(world: &'w World, spec: &Spec) -> Option<&'w SecretName> {
    let mut secrets = spec.secrets().filter_map(|id| world.secrets.get(&id));
    let lacks = |secret: &&Secret| {
        let current = secret.current.filter(|v| secret.is_deliverable(*v));
        !secret.gives_leases() && current.is_none()
    };
    secrets.find(lacks).map(|secret| &secret.name)
}

fn rule_view(
    world: &World,
    secret: &Secret,
    (host, facts): (Option<&Host>, &ContainerFacts),
    rule: &Rule<'_>,
) -> RuleView {
    let consumer = with_leases(world, secret.id).find(|(key, _)| {
        key.binding == rule.binding.id
            && key.container == facts.id
            && host.is_some_and(|host| host.id == key.host)
    });
    let progress = consumer.map(|(_, assignment)| &assignment.progress);
    let refused = progress.and_then(|progress| match progress {
        Progress::Refused(reason) => Some(reason.clone()),
        _ => None,
    });
    RuleView {
        binding: rule.binding.name.to_string(),
        holds: rule.missing == 0,
        gives: target_words(&rule.spec.target),
        parts: rule.parts.iter().map(part_view).collect(),
        state: progress.map(|progress| super::progress_word(progress).to_owned()),
        refused,
        withheld: rule.withheld.clone(),
    }
}

fn part_view(part: &Part) -> RulePart {
    RulePart {
        field: part.field.clone(),
        wanted: part.wanted.clone(),
        found: part.found.clone(),
        holds: part.holds,
    }
}
