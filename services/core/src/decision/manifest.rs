//! Decisions about what people declare: secrets and bindings.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeFrom;

use super::{Context, Rejection, lease, outward, playbook, rotate, secret_or_reject, store};
use crate::binding::{self, Binding, Target};
use crate::command::Declaration;
use crate::event::Event;
use crate::id::{BindingId, DeliveryId, HostId, RotationId, SecretId};
use crate::name::{BindingName, SecretName};
use crate::rotation::Trigger;
use crate::schedule::GroupOffset;
use crate::secret::{self, Secret};
use crate::world::World;

/// What a declaration does to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was not there.
    Created,
    /// It was there and said something else.
    Changed,
    /// It is as declared already.
    Unchanged,
}

/// What becomes of one declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// In one word.
    pub action: Action,
    /// What happens.
    pub events: Vec<Event>,
}

/// Says what declarations lead to, each on what those before it make; changes nothing.
///
/// # Errors
/// When one of them is refused: then none of them holds.
pub fn plan_apply(
    world: &World,
    declarations: &[Declaration],
    ctx: &Context,
) -> Result<Vec<Planned>, Rejection> {
    let mut draft = Cow::Borrowed(world);
    let mut planned = Vec::new();
    for (place, declaration) in (1..).zip(declarations) {
        let declared = declare(&draft, declaration, &ctx.part(place - 1));
        let declared = declared.map_err(|reason| match declarations.len() {
            1 => reason,
            _ => Rejection::Declared {
                place,
                what: words(declaration),
                reason: Box::new(reason),
            },
        })?;
        if place < declarations.len() {
            for event in &declared.events {
                // The draft is thrown away, and no decision here looks at a generation.
                draft.to_mut().apply(0, event);
            }
        }
        planned.push(declared);
    }
    refuse_shared_phases(world, declarations)?;
    refuse_unkept(world, declarations)?;
    Ok(planned)
}

/// A secret keeps the version before its current one for as long as templates name it. What is declared
/// counts, not what it replaces: both may change in one apply.
fn refuse_unkept(world: &World, declarations: &[Declaration]) -> Result<(), Rejection> {
    let keeps_no_more = |declaration: &Declaration| match declaration {
        Declaration::Secret { name, spec, .. } if !spec.rotation.keep_previous => {
            let known = world.secret_named(name)?;
            known.spec.rotation.keep_previous.then_some(known)
        }
        _ => None,
    };
    for secret in declarations.iter().filter_map(keeps_no_more) {
        if let Some(binding) = naming_previous(world, declarations, secret) {
            let secret = secret.name.clone();
            return Err(secret::Rejection::PreviousNamed { secret, binding }.into());
        }
    }
    Ok(())
}

/// A binding whose templates name the version before of a secret, once all of this is applied.
fn naming_previous(
    world: &World,
    declarations: &[Declaration],
    secret: &Secret,
) -> Option<BindingName> {
    let mut declared: BTreeMap<&BindingName, bool> = BTreeMap::new();
    for declaration in declarations {
        if let Declaration::Binding { name, previous, .. } = declaration {
            declared.insert(name, previous.contains(&secret.name));
        }
    }
    let standing = world
        .bindings
        .values()
        .filter(|binding| !declared.contains_key(&binding.name))
        .filter_map(|binding| Some((&binding.name, binding.declared()?)))
        .find(|(_, spec)| spec.previous.contains(&secret.id))
        .map(|(name, _)| name);
    let named = declared.iter().find(|(_, names)| **names);
    named.map(|(name, _)| *name).or(standing).cloned()
}

/// Two secrets of a group with the same offset would rotate at the same time. What is declared counts,
/// not what it replaces: two may exchange their offsets in one apply.
fn refuse_shared_phases(world: &World, declarations: &[Declaration]) -> Result<(), Rejection> {
    let declared: BTreeMap<&SecretName, Option<&GroupOffset>> = declarations
        .iter()
        .filter_map(|declaration| match declaration {
            Declaration::Secret { name, spec, .. } => Some((name, spec.rotation.phase.as_ref())),
            Declaration::Store { .. }
            | Declaration::Binding { .. }
            | Declaration::Notification { .. }
            | Declaration::SignalSource { .. }
            | Declaration::Playbook { .. } => None,
        })
        .collect();
    if declared.values().all(Option::is_none) {
        return Ok(());
    }
    let standing = world
        .secrets
        .values()
        .filter(|secret| !declared.contains_key(&secret.name));
    let mut taken: BTreeMap<&GroupOffset, &SecretName> = standing
        .filter_map(|secret| Some((secret.spec.rotation.phase.as_ref()?, &secret.name)))
        .collect();
    for (name, phase) in declared {
        let Some(phase) = phase else { continue };
        if let Some(other) = taken.insert(phase, name) {
            return Err(secret::Rejection::PhaseTaken {
                secret: name.clone(),
                group: phase.group.clone(),
                other: other.clone(),
            }
            .into());
        }
    }
    Ok(())
}

pub(super) fn apply(
    world: &World,
    declarations: &[Declaration],
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let planned = plan_apply(world, declarations, ctx)?;
    Ok(planned.into_iter().flat_map(|one| one.events).collect())
}

fn words(declaration: &Declaration) -> String {
    match declaration {
        Declaration::Secret { name, .. } => format!("Secret `{name}`"),
        Declaration::Store { name, .. } => format!("Store `{name}`"),
        Declaration::Binding { name, .. } => format!("Binding `{name}`"),
        Declaration::Notification { name, .. } => format!("Notification `{name}`"),
        Declaration::SignalSource { name, .. } => format!("SignalSource `{name}`"),
        Declaration::Playbook { name, .. } => format!("Playbook `{name}`"),
    }
}

fn declare(world: &World, declaration: &Declaration, ctx: &Context) -> Result<Planned, Rejection> {
    let (is_new, events) = match declaration {
        Declaration::Secret {
            id,
            rotation,
            name,
            spec,
        } => (
            world.secret_named(name).is_none(),
            declare_secret(world, (*id, *rotation), name, spec, ctx)?,
        ),
        Declaration::Store { id, name, spec } => (
            world.store_named(name).is_none(),
            store::declare(world, *id, name, spec)?,
        ),
        Declaration::Notification { id, name, spec } => (
            world.notification_named(name).is_none(),
            outward::declare_notification(world, *id, name, spec)?,
        ),
        Declaration::SignalSource { id, name, spec } => (
            world.signal_source_named(name).is_none(),
            outward::declare_source(world, *id, name, spec)?,
        ),
        Declaration::Playbook { id, name, spec } => (
            world.playbook_named(name).is_none(),
            playbook::declare(world, *id, name, spec)?,
        ),
        Declaration::Binding {
            id,
            name,
            secret,
            also,
            selector,
            target,
            reload,
            previous,
            on_revoke,
        } => {
            let known = world.binding_named(name);
            let own = secret_or_reject(world, secret)?;
            let further = also.iter().filter(|other| *other != secret);
            let further = further.map(|other| secret_or_reject(world, other));
            let further: Vec<&Secret> = further.collect::<Result<_, _>>()?;
            let spec = binding::Spec {
                secret: own.id,
                also: further.iter().map(|secret| secret.id).collect(),
                selector: selector.clone(),
                target: target.clone(),
                reload: reload.clone(),
                previous: named_in(previous, own, &further),
                on_revoke: *on_revoke,
            };
            (
                known.is_none_or(|binding| binding.declared().is_none()),
                declare_binding(world, (*id, name), (own, &further[..]), &spec, ctx)?,
            )
        }
    };
    let action = match (events.is_empty(), is_new) {
        (true, _) => Action::Unchanged,
        (false, true) => Action::Created,
        (false, false) => Action::Changed,
    };
    Ok(Planned { action, events })
}

fn declare_secret(
    world: &World,
    (id, rotation): (SecretId, RotationId),
    name: &SecretName,
    spec: &secret::Spec,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    store::refuse_place(world, name, spec)?;
    let backend = world.backend_of(spec);
    Secret::refuse_keeping(name, spec, backend)?;
    Secret::refuse_draining(name, spec, backend)?;
    refuse_accounts(world, name, spec)?;
    lease::refuse_name(name, spec)?;
    if let Some(known) = world.secret_named(name) {
        known.refuse_purpose(spec)?;
        if !is_corrected(world, known, spec) {
            known.refuse_resource(spec)?;
        }
        known.refuse_lease_change(spec)?;
        lease::refuse_other_place(world, known, spec)?;
        if spec.credential_for.is_some() && world.is_bound(known.id) {
            let wish = Secret::registered(id, name.clone(), spec.clone());
            wish.refuse_binding()?;
        }
        let changed = known.spec != *spec;
        if known.spec.store != spec.store {
            store::refuse_move(world, known)?;
        }
        let event = secret::Event::SpecChanged { spec: spec.clone() };
        return Ok(if changed {
            vec![Event::Secret(known.id, event)]
        } else {
            Vec::new()
        });
    }
    lease::refuse_lease_name(name)?;
    let registered = secret::Event::Registered {
        name: name.clone(),
        spec: spec.clone(),
    };
    let mut events = vec![Event::Secret(id, registered)];
    // What lies outside is looked at first: there may be a value already.
    if spec.generator.is_some() && spec.store == secret::Store::Local {
        let fresh = Secret::registered(id, name.clone(), spec.clone());
        events.extend(rotate::start(
            world,
            &fresh,
            rotation,
            Trigger::Initial,
            ctx,
        )?);
    }
    Ok(events)
}

/// Whether a wrong address or account is corrected before anything was done there.
fn is_corrected(world: &World, known: &Secret, spec: &secret::Spec) -> bool {
    let ours = known.spec.rotator.as_ref();
    let both = ours.zip(spec.rotator.as_ref());
    both.is_some_and(|(ours, wished)| ours.kind == wished.kind) && world.is_unused(known)
}

/// Refuses accounts that belong to another secret, and an admin's password that is not meant for there.
fn refuse_accounts(
    world: &World,
    name: &SecretName,
    spec: &secret::Spec,
) -> Result<(), secret::Rejection> {
    let Some(resource) = &spec.rotator else {
        return Ok(());
    };
    if let Some((other, account)) = world.shares_account(name, resource) {
        return Err(secret::Rejection::AccountTaken {
            secret: name.clone(),
            other: other.name.clone(),
            account: account.to_owned(),
            resource: resource.to_string(),
        });
    }
    let server = resource.credential_server();
    let admin = world.secret_named(&resource.admin);
    if admin.is_some_and(|admin| admin.spec.credential_for.as_ref() == Some(&server)) {
        return Ok(());
    }
    Err(secret::Rejection::AdminNotMeant {
        secret: name.clone(),
        admin: resource.admin.clone(),
        server,
    })
}

fn declare_binding(
    world: &World,
    (id, name): (BindingId, &BindingName),
    (own, further): (&Secret, &[&Secret]),
    spec: &binding::Spec,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let secrets = || std::iter::once(own).chain(further.iter().copied());
    for secret in secrets() {
        secret.refuse_binding()?;
        if secret.spec.lease.is_some() && !further.is_empty() {
            let secret = secret.name.clone();
            return Err(secret::Rejection::LeaseNotAlone { secret }.into());
        }
        if secret.spec.lease.is_some() && spec.on_revoke != binding::OnRevoke::Remove {
            let binding = name.clone();
            return Err(binding::Rejection::LeaseOnRevoke { binding }.into());
        }
    }
    refuse_taken_target(world, name, spec)?;
    let fresh = Binding::new(id, name.clone());
    let binding = world.binding_named(name).unwrap_or(&fresh);
    let Some(event) = binding.decide_bind(spec)? else {
        return Ok(Vec::new());
    };
    for secret in secrets().filter(|secret| spec.previous.contains(&secret.id)) {
        lease::refuse_previous(secret)?;
        secret.refuse_previous()?;
    }
    let mut events = vec![Event::Binding(binding.id, event)];
    events.extend(give_out(world, (own, further), spec, ctx)?);
    Ok(events)
}

/// Grants what a binding that comes, or comes back, gives out to the hosts that it means.
pub(super) fn give_out(
    world: &World,
    (own, further): (&Secret, &[&Secret]),
    spec: &binding::Spec,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let mut events = Vec::new();
    let mut drawn = 1000..;
    let hosts = world
        .live_hosts()
        .filter(|host| spec.selector.means_host(&host.name));
    let hosts: Vec<HostId> = hosts.map(|host| host.id).collect();
    for secret in std::iter::once(own).chain(further.iter().copied()) {
        let is_named = spec.previous.contains(&secret.id);
        let previous = secret.given_beside().filter(|_| is_named);
        for version in secret.current.into_iter().chain(previous) {
            events.extend(deliver(secret, version, &hosts, (ctx, &mut drawn))?);
        }
    }
    for (lease, host, version) in lease::given_by(world, own, &hosts) {
        events.extend(deliver(lease, version, &[host], (ctx, &mut drawn))?);
    }
    Ok(events)
}

/// Those of a binding's secrets that are named here.
fn named_in(names: &BTreeSet<SecretName>, own: &Secret, further: &[&Secret]) -> BTreeSet<SecretId> {
    let all = std::iter::once(own).chain(further.iter().copied());
    let named = all.filter(|secret| names.contains(&secret.name));
    named.map(|secret| secret.id).collect()
}

fn refuse_taken_target(
    world: &World,
    name: &BindingName,
    spec: &binding::Spec,
) -> Result<(), Rejection> {
    let place = |target: &Target| match target {
        Target::File {
            directory, name, ..
        }
        | Target::Files {
            directory, name, ..
        } => format!("{directory}/{name}"),
        Target::Env { name } => name.as_str().to_owned(),
    };
    for other in world.bindings.values().filter(|other| other.name != *name) {
        let Some(taken) = other.declared() else {
            continue;
        };
        if taken.selector == spec.selector && place(&taken.target) == place(&spec.target) {
            return Err(Rejection::TargetTaken {
                binding: name.clone(),
                other: other.name.clone(),
            });
        }
    }
    Ok(())
}

pub(super) fn unbind(world: &World, name: &BindingName) -> Result<Vec<Event>, Rejection> {
    let Some(binding) = world.binding_named(name) else {
        return Err(Rejection::BindingUnknown(name.clone()));
    };
    Ok(vec![Event::Binding(binding.id, binding.decide_unbind()?)])
}

/// Grants a version to hosts that lack it.
fn deliver(
    secret: &Secret,
    version: u64,
    hosts: &[HostId],
    (ctx, drawn): (&Context, &mut RangeFrom<u32>),
) -> Result<Vec<Event>, Rejection> {
    let mut events = Vec::new();
    for (host, count) in hosts.iter().zip(drawn) {
        let delivery = DeliveryId::from_bytes(ctx.id(count));
        let event = secret.decide_deliver(*host, version, delivery)?;
        events.extend(event.map(|event| Event::Secret(secret.id, event)));
    }
    Ok(events)
}
