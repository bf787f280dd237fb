//! What a rotation begun now would do: strategy, consumers, restarts, gap, and what is in the way. Pure.

#[cfg(test)]
mod consumers;
mod sessions;

use std::collections::BTreeSet;
use std::time::Duration;

use keywheel_core::assignment::{self, Assignment, Progress};
use keywheel_core::binding::{AckLevel, Reload, Spec};
use keywheel_core::decision;
use keywheel_core::id::{ContainerId, HostId};
use keywheel_core::resource::{Resource, Strategy};
use keywheel_core::schedule::OnDeadline;
use keywheel_core::secret::Secret;
use keywheel_core::world::World;
use keywheel_schemas::api::{PlannedConsumer, RotationPlan};

use super::fires::schedule_words;
use super::{count, host_name, rollout_words};

/// The plan of a rotation.
///
/// `refusal` is why one would not begin now; `is_silent` says whether a host's injector is not heard.
#[must_use]
pub fn rotation_plan(
    world: &World,
    secret: &Secret,
    refusal: Option<String>,
    is_silent: &dyn Fn(HostId) -> bool,
) -> RotationPlan {
    let served = || {
        let all = world.consumers(secret.id);
        all.filter(|(_, state)| !state.is_unserved())
    };
    let consumers: Vec<PlannedConsumer> = served()
        .map(|(key, state)| consumer(world, key, state))
        .collect();
    let restarting = consumers.iter().filter(|one| one.restarts);
    let restarting: BTreeSet<&str> = restarting.map(|one| one.container.as_str()).collect();
    let restarts = count(restarting.len());
    let policy = &secret.spec.rotation;
    let mut blockers = Vec::from_iter(refusal);
    blockers.extend(stale_store(world, secret));
    blockers.extend(consumers_in_the_way(world, secret));
    blockers.extend(hosts_in_the_way(world, secret, is_silent));
    RotationPlan {
        secret: secret.name.to_string(),
        version: secret.last_version.saturating_add(1),
        strategy: strategy(secret),
        expected_gap: expected_gap(secret, restarts, world.last_gap(secret.id)),
        restarts,
        consumers,
        deadline_seconds: policy.ack_deadline().as_secs(),
        on_deadline: deadline_word(policy.on_deadline).to_owned(),
        blockers,
        schedule: schedule_words(policy),
        sessions: sessions::sessions(world, secret),
        canary: canary(world, secret),
    }
}

/// A deadline policy as manifests write it.
#[must_use]
pub const fn deadline_word(policy: OnDeadline) -> &'static str {
    match policy {
        OnDeadline::Hold => "hold",
        OnDeadline::Force => "force",
    }
}

fn strategy(secret: &Secret) -> String {
    if let Some(resource) = secret.spec.rotator.as_deref() {
        let words = at_resource(resource);
        return match secret.place() {
            Some(place) => format!(
                "{words}; store `{}` has it, too: beside the one before from `set` on where it has a stage, and as the current one with the promotion",
                place.store
            ),
            None => words,
        };
    }
    let place = secret.place();
    let makes_itself = secret.is_made_there();
    let kept = secret.retains_beside(secret.last_version.saturating_add(1));
    if let Some(kept) = kept.filter(|_| !makes_itself) {
        let store = place.map_or("local", |place| place.store.as_str());
        return format!(
            "overlap: the value is made in the store `{store}`; version {kept} stays alive beside it, for templates, and what is older dies once every consumer has acknowledged and no file has it any more"
        );
    }
    match place {
        None => "overlap: the value is made in the store `local`; old and new both live until every consumer has acknowledged".to_owned(),
        Some(place) if makes_itself => format!(
            "cut-over: store `{}` makes the value itself at `set`, and from then on the one before is refused; it only goes forward",
            place.store
        ),
        Some(place) => format!(
            "overlap: the value is made and written to store `{}`; the version before lives there until every consumer has acknowledged",
            place.store
        ),
    }
}

/// How the passwords of accounts go together.
fn at_resource(resource: &Resource) -> String {
    let word = resource.strategy.word();
    let accounts = resource.accounts.join("`, `");
    match resource.strategy {
        Strategy::AlternatingUsers => format!(
            "overlap (`{word}`): of accounts `{accounts}` the one that stands by gets the new password; both are open until every consumer has acknowledged"
        ),
        Strategy::DualPassword => format!(
            "overlap (`{word}`): account `{accounts}` takes the old and the new password until every consumer has acknowledged"
        ),
        Strategy::SingleUser => format!(
            "cut-over (`{word}`): account `{accounts}` takes one password, and from `set` on the old one is refused; after the promotion it only goes forward"
        ),
    }
}

/// Who would get the version before it is promoted, or why nobody; empty where nobody asked for that.
fn canary(world: &World, secret: &Secret) -> String {
    let wish = secret.spec.rotation.canary;
    let Some((wish, found)) = wish.zip(decision::canaries(world, secret)) else {
        return String::new();
    };
    let consumers = match found {
        Ok(consumers) => consumers,
        Err(reason) => return format!("none: {reason}"),
    };
    let named = consumers.iter().map(|key| {
        let known = world.assignments.get(key);
        match known.map(|known| known.container_name.as_str()) {
            None | Some("") => key.container.short().to_owned(),
            Some(name) => name.to_owned(),
        }
    });
    let names: BTreeSet<String> = named.collect();
    let names: Vec<String> = names.into_iter().collect();
    format!(
        "{}, alone for {}; if it does not run well, the old value comes back and nobody else gets the new one",
        names.join(", "),
        span(wish.watch)
    )
}

fn expected_gap(secret: &Secret, restarts: u64, last: Option<Duration>) -> String {
    let is_cut_over = !secret.has_way_back() && secret.current.is_some();
    let away = match restarts {
        0 => String::new(),
        1 => "; 1 container is away for its own restart".to_owned(),
        n => format!("; {n} containers are away, each for its own restart"),
    };
    if is_cut_over {
        let long = last.map_or_else(
            || "a gap, how long is not known yet".to_owned(),
            |last| format!("a gap of about {}", span(last)),
        );
        return format!(
            "{long}, no way back: from `set` until each consumer has the new value new sessions are refused, open ones go on{away}"
        );
    }
    match restarts {
        0 => "none: the old value works until every consumer has the new one".to_owned(),
        _ => format!("none in the value{away}"),
    }
}

/// A span as a person reads it.
fn span(span: Duration) -> String {
    match span {
        short if short < Duration::from_secs(1) => format!("{} ms", short.as_millis()),
        long => format!("{} s", long.as_secs()),
    }
}

fn spec_of<'w>(world: &'w World, key: &assignment::Key) -> Option<&'w Spec> {
    world.bindings.get(&key.binding)?.spec.as_ref()
}

fn consumer(world: &World, key: &assignment::Key, state: &Assignment) -> PlannedConsumer {
    let spec = spec_of(world, key);
    let (action, restarts) = spec.map_or_else(
        || ("nothing: its binding is gone".to_owned(), false),
        |spec| action_of(&spec.reload),
    );
    let acknowledges = match spec.map(Spec::ack_level) {
        Some(AckLevel::Swapped) | None => "swapped",
        Some(AckLevel::Reloaded) => "reloaded",
    };
    PlannedConsumer {
        container: key.container.to_string(),
        name: state.container_name.clone(),
        host: host_name(world, key.host),
        binding: world
            .bindings
            .get(&key.binding)
            .map(|known| known.name.to_string())
            .unwrap_or_default(),
        version: state.holds,
        action,
        restarts,
        acknowledges: acknowledges.to_owned(),
    }
}

/// What is done to a container, and whether that restarts it.
fn action_of(reload: &Reload) -> (String, bool) {
    match reload {
        Reload::None => ("file replaced".to_owned(), false),
        Reload::Signal(number) => (format!("file replaced, signal {number}"), false),
        Reload::Command { .. } => ("file replaced, command run".to_owned(), false),
        Reload::Label => ("file replaced, then as its label says".to_owned(), false),
        Reload::Restart { rollout, .. } => {
            let rollout = rollout.as_ref().map(rollout_words).unwrap_or_default();
            (format!("restarted{rollout}"), true)
        }
    }
}

fn stale_store(world: &World, secret: &Secret) -> Option<String> {
    let place = secret.place()?;
    let mut stores = world.stores.values();
    let declared = stores.find(|declared| declared.store.name == place.store)?;
    declared.is_stale.then(|| {
        format!(
            "store `{0}` does not answer, and a rotation waits until it does; `keywheel store describe {0}` says why",
            place.store
        )
    })
}

fn consumers_in_the_way(world: &World, secret: &Secret) -> Vec<String> {
    let served = world.consumers(secret.id);
    let refused = served.filter_map(|(key, state)| {
        let Progress::Refused(reason) = &state.progress else {
            return None;
        };
        let name = match state.container_name.as_str() {
            "" => key.container.short(),
            name => name,
        };
        // Who never had a copy holds nobody up.
        (!state.is_unserved()).then(|| format!("container {name} is refused: {reason}"))
    });
    let mut lines: Vec<String> = refused.collect();
    let instances: BTreeSet<(HostId, &ContainerId)> = world
        .consumers(secret.id)
        .map(|(key, _)| (key.host, &key.container))
        .collect();
    for (host, container) in instances {
        let member = world.rollout_member(host, container);
        if let Some(member) = member.filter(|member| member.is_down) {
            lines.push(format!(
                "container {} is not well since its last restart; `keywheel consumers --secret {}` shows it",
                member.container_name, secret.name
            ));
        }
    }
    lines
}

fn hosts_in_the_way(
    world: &World,
    secret: &Secret,
    is_silent: &dyn Fn(HostId) -> bool,
) -> Vec<String> {
    let holding = secret.delivered.keys().map(|(host, _)| *host);
    let hosts: BTreeSet<HostId> = holding.chain(world.hosts_of(secret.id)).collect();
    let silent = hosts.into_iter().filter(|host| is_silent(*host));
    let line = |host: HostId| {
        format!(
            "host {0} is silent, and the rotation waits for it; `keywheel host describe {0}` says since when, and `keywheel host evict {0}` ends the waiting for good",
            host_name(world, host)
        )
    };
    silent.map(line).collect()
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::{RotationId, SecretId};
    use keywheel_core::name::SecretName;
    use keywheel_core::resource::Kind;
    use keywheel_core::secret;

    use super::*;

    const SECRET: SecretId = SecretId::from_bytes([1; 16]);

    fn resource(strategy: Strategy, accounts: &[&str]) -> Resource {
        Resource {
            kind: Kind::Mariadb,
            connection: "mariadb://rotator@db.example:3306".to_owned(),
            accounts: accounts.iter().map(ToString::to_string).collect(),
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy,
            ca: None,
        }
    }

    /// The plan of a secret over accounts, whose version 1 is current.
    fn plan_of(strategy: Strategy, accounts: &[&str]) -> RotationPlan {
        let resource = resource(strategy, accounts);
        let registered = secret::Event::Registered {
            name: SecretName::parse("shop/db").unwrap(),
            spec: secret::Spec {
                rotator: Some(Box::new(resource)),
                ..secret::Spec::default()
            },
        };
        let staged = secret::Event::VersionStaged {
            version: 1,
            rotation: RotationId::default(),
        };
        let promoted = secret::Event::VersionPromoted { version: 1 };
        let mut world = World::default();
        for (number, event) in (1..).zip([registered, staged, promoted]) {
            world.apply(number, &keywheel_core::event::Event::Secret(SECRET, event));
        }
        rotation_plan(&world, &world.secrets[&SECRET], None, &|_| false)
    }

    #[test]
    fn a_plan_says_the_rotator_s_strategy_and_a_cut_over_s_gap() {
        for (strategy, accounts) in [
            (Strategy::AlternatingUsers, &["app", "app_b"][..]),
            (Strategy::DualPassword, &["app"][..]),
        ] {
            let plan = plan_of(strategy, accounts);
            assert_eq!(plan.schedule, "on demand");
            let word = format!("overlap (`{}`)", strategy.word());
            assert!(plan.strategy.contains(&word), "{}", plan.strategy);
            let named = format!("`{}`", accounts.join("`, `"));
            assert!(plan.strategy.contains(&named), "{}", plan.strategy);
            assert!(plan.expected_gap.starts_with("none"), "{plan:?}");
            let waits = strategy == Strategy::AlternatingUsers;
            assert_eq!(plan.sessions.starts_with("waited for"), waits, "{plan:?}");
        }
        let plan = plan_of(Strategy::SingleUser, &["app"]);
        assert!(
            plan.strategy.starts_with("cut-over (`singleUser`)"),
            "{plan:?}"
        );
        assert!(plan.strategy.contains("only goes forward"), "{plan:?}");
        assert!(
            plan.expected_gap
                .starts_with("a gap, how long is not known yet, no way back: from `set` until"),
            "{plan:?}"
        );
    }

    #[test]
    fn a_gap_that_was_measured_is_predicted() {
        let mut single = Secret::registered(
            SECRET,
            SecretName::parse("shop/db").unwrap(),
            secret::Spec::default(),
        );
        single.spec.rotator = Some(Box::new(resource(Strategy::SingleUser, &["app"])));
        single.current = Some(1);
        let told = expected_gap(&single, 0, Some(Duration::from_micros(42_300)));
        assert!(
            told.starts_with("a gap of about 42 ms, no way back"),
            "{told}"
        );
        let told = expected_gap(&single, 0, Some(Duration::from_millis(7_900)));
        assert!(
            told.starts_with("a gap of about 7 s, no way back"),
            "{told}"
        );
    }

    #[test]
    fn restarts_are_no_gap_in_the_value() {
        let local = Secret::registered(
            SECRET,
            SecretName::parse("shop/db").unwrap(),
            secret::Spec::default(),
        );
        assert!(expected_gap(&local, 0, None).starts_with("none: the old value"));
        assert_eq!(
            expected_gap(&local, 1, None),
            "none in the value; 1 container is away for its own restart"
        );
        assert!(expected_gap(&local, 2, None).contains("2 containers are away"));
    }
}
