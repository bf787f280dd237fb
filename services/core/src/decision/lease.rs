//! Decisions about leases: who gets one, how long it is kept for a container that does not run, its end.
//!
//! A lease is made by a rotation of its container's hidden secret, and ended by a revocation of it, like any
//! other value. Invariant: a container has one at a time, however often it asks or starts anew; nothing here
//! refuses a report.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::report::is_granted;
use super::{Context, Rejection, revoke as revocation, rotate};
use crate::command::Observation;
use crate::event::Event;
use crate::id::{ContainerId, HostId, RevocationId, RotationId, SecretId};
use crate::lease::{self, Lease, LeaseOf, MAX_NAME_BYTES};
use crate::name::SecretName;
use crate::report::{Fact, HostReport, Item};
use crate::rotation::Trigger;
use crate::secret::{self, Secret};
use crate::world::World;

/// Ids that this file draws begin here: others of the same command are smaller.
const FIRST_ID: u32 = 50_000;
/// Why a lease ends whose container is gone.
const GONE: &str = "its container does not run any more";

/// A report with each lease under its binding's own id: a host knows it by another one.
pub(super) fn turned_back<'r>(world: &World, report: &'r HostReport) -> Cow<'r, HostReport> {
    let is_lease = |secret: &SecretId| {
        let known = world.secrets.get(secret);
        known.is_some_and(|known| known.lease_of().is_some())
    };
    let due = report.restarts.iter().flat_map(|wish| &wish.due);
    let items = report.items.iter().map(|item| &item.secret);
    let notes = report.notes.iter().map(|note| &note.secret);
    let mut told = items.chain(notes).chain(due.map(|due| &due.secret));
    if !told.any(is_lease) {
        return Cow::Borrowed(report);
    }
    let mut report = report.clone();
    for item in &mut report.items {
        item.binding = world.own_binding(item.binding, item.secret);
    }
    for note in &mut report.notes {
        note.binding = world.own_binding(note.binding, note.secret);
    }
    for due in report.restarts.iter_mut().flat_map(|wish| &mut wish.due) {
        due.binding = world.own_binding(due.binding, due.secret);
    }
    Cow::Owned(report)
}

/// Whether a fact is about a lease, and not about a version that a container has.
fn is_ours(fact: &Fact) -> bool {
    matches!(fact, Fact::Wanted | Fact::Removed)
}

/// What a report tells of containers and versions; a lease is its own container's alone.
pub(super) fn without<'r>(
    world: &'r World,
    report: &'r HostReport,
) -> impl Iterator<Item = &'r Item> {
    let is_own = move |item: &&Item| {
        let secret = world.secrets.get(&item.secret);
        let of = secret.and_then(Secret::lease_of);
        of.is_none_or(|of| of.host == report.host && of.container == item.container)
    };
    let facts = report.items.iter().filter(|item| !is_ours(&item.fact));
    facts.filter(is_own)
}

/// What a report means for leases: who wants one, and who does not run any more.
pub(super) fn record(world: &World, report: &HostReport, ctx: &Context, events: &mut Vec<Event>) {
    let mut asked = BTreeSet::new();
    let wanted = report.items.iter().filter(|item| item.fact == Fact::Wanted);
    for (item, count) in wanted.zip(FIRST_ID..) {
        if asked.insert((item.secret, &item.container)) {
            let rotation = RotationId::from_bytes(ctx.id(count));
            events.extend(give(world, report, item, (rotation, ctx)));
        }
    }
    let removed = report
        .items
        .iter()
        .filter(|item| item.fact == Fact::Removed);
    let removed: BTreeSet<&ContainerId> = removed.map(|item| &item.container).collect();
    let is_here = |item: &&Item| !matches!(item.fact, Fact::Vanished | Fact::Removed);
    let named = report.items.iter().filter(is_here);
    let named = named.map(|item| &item.container);
    let present: BTreeSet<&ContainerId> = report.containers.iter().chain(named).collect();
    for secret in world.leases_at(report.host) {
        let Some(of) = secret.lease_of() else {
            continue;
        };
        if removed.contains(&of.container) {
            // It does not start again: nothing is to be kept for it.
            let over = secret::Event::LeaseLingering { until: ctx.now };
            events.push(Event::Secret(secret.id, over));
            continue;
        }
        let is_present = present.contains(&of.container);
        let event = match (is_present, secret.lingers_until) {
            _ if !report.complete => continue,
            (true, Some(_)) => secret::Event::LeaseResumed,
            (false, None) => secret::Event::LeaseLingering {
                until: ctx.now.plus(of.linger),
            },
            (true, None) | (false, Some(_)) => continue,
        };
        events.push(Event::Secret(secret.id, event));
    }
}

/// Leases of a host that is trusted with nothing any more: nothing is kept for its containers.
pub(super) fn let_go(world: &World, host: HostId, ctx: &Context) -> impl Iterator<Item = Event> {
    let until = ctx.now;
    let leases = world.leases_at(host).map(|secret| secret.id);
    leases.map(move |id| Event::Secret(id, secret::Event::LeaseLingering { until }))
}

/// A lease for a container that wants one, unless it has one or one is being made.
fn give(
    world: &World,
    report: &HostReport,
    item: &Item,
    (rotation, ctx): (RotationId, &Context),
) -> Vec<Event> {
    let declared = world.secrets.get(&item.secret);
    let Some((declared, wish)) = declared.and_then(|one| Some((one, spec_of(one, report, item)?)))
    else {
        return Vec::new();
    };
    if !is_granted(world, report.host, item.binding, declared.id) {
        return Vec::new();
    }
    let id = lease::secret_of(declared.id, &item.container);
    let mut events = Vec::new();
    let secret = match world.secrets.get(&id) {
        Some(known) if has_one(world, known) => return Vec::new(),
        Some(known) => {
            let mut known = known.clone();
            if known.spec != wish {
                known.spec = wish.clone();
                let changed = secret::Event::SpecChanged { spec: wish };
                events.push(Event::Secret(id, changed));
            }
            known
        }
        None => {
            let Some(name) = lease::name_of(&declared.name, &item.container) else {
                return Vec::new();
            };
            let registered = secret::Event::Registered {
                name: name.clone(),
                spec: wish.clone(),
            };
            events.push(Event::Secret(id, registered));
            Secret::registered(id, name, wish)
        }
    };
    match rotate::start(world, &secret, rotation, Trigger::Initial, ctx) {
        Ok(started) => {
            events.extend(started);
            events
        }
        // It is asked for again.
        Err(_) => Vec::new(),
    }
}

/// What a hidden secret is, as its declared one is now.
fn spec_of(declared: &Secret, report: &HostReport, item: &Item) -> Option<secret::Spec> {
    let Some(Lease::PerContainer { linger }) = declared.spec.lease.as_deref() else {
        return None;
    };
    let of = LeaseOf {
        secret: declared.id,
        host: report.host,
        container: item.container.clone(),
        linger: *linger,
    };
    Some(secret::Spec {
        lease: Some(Box::new(Lease::Of(of))),
        ..declared.spec.clone()
    })
}

/// Whether a container has a lease, or what is under way has to end before it gets another one.
fn has_one(world: &World, secret: &Secret) -> bool {
    secret.current.is_some()
        || world.open_rotation(secret.id).is_some()
        || world.unconfirmed_revocation(secret.id).is_some()
}

/// Takes word that a lease ended, or cannot be renewed for long: the container gets another one.
pub(super) fn observed(
    world: &World,
    secret: &Secret,
    seen: &Observation,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    if seen.found.is_some() || secret.current.is_none() {
        return Ok(Vec::new());
    }
    rotate::start(world, secret, seen.rotation, Trigger::OnDemand, ctx)
}

/// Ends the lease of a container that was gone for as long as it is kept.
pub(super) fn end(world: &World, id: SecretId, ctx: &Context) -> Result<Vec<Event>, Rejection> {
    let Some(secret) = world.secrets.get(&id) else {
        return Ok(Vec::new());
    };
    let is_over = secret.lingers_until.is_some_and(|until| ctx.now >= until);
    if !is_over || secret.alive().is_empty() {
        let secret = secret.name.clone();
        return Err(secret::Rejection::NotLingering { secret }.into());
    }
    let revocation = RevocationId::from_bytes(ctx.id(FIRST_ID));
    revocation::request(world, revocation, &secret.name, None, GONE)
}

/// Revokes a secret; of one that gives leases each lease, the first under the revocation's own id.
pub(super) fn revoke(
    world: &World,
    (id, name): (RevocationId, &SecretName),
    version: Option<u64>,
    reason: &str,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let declared = world.secret_named(name).filter(|one| one.gives_leases());
    let mut leases = declared
        .map(|one| world.leases_of(one.id))
        .into_iter()
        .flatten();
    let Some(first) = leases.next().filter(|_| version.is_none()) else {
        return revocation::request(world, id, name, version, reason);
    };
    let mut events = revocation::request(world, id, &first.name, None, reason)?;
    for (lease, count) in leases.zip(FIRST_ID..) {
        let id = RevocationId::from_bytes(ctx.id(count));
        events.extend(revocation::request(world, id, &lease.name, None, reason)?);
    }
    Ok(events)
}

/// Refuses a name to which no container can be added.
pub(super) fn refuse_name(name: &SecretName, spec: &secret::Spec) -> Result<(), secret::Rejection> {
    if spec.lease.is_none() || name.as_str().len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    let secret = name.clone();
    Err(secret::Rejection::LeaseNameTooLong { secret })
}
