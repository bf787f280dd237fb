//! Decisions about leases: who gets one, how long it is kept for a container that does not run, its end.
//!
//! A lease is made by a rotation of its container's hidden secret, and ended by a revocation of it, like any
//! other value. Invariant: a container has one at a time, however often it asks or starts anew; nothing here
//! refuses a report.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::report::is_granted;
use super::{Context, Rejection, drain, revoke as revocation, rotate};
use crate::command::Observation;
use crate::event::Event;
use crate::id::{ContainerId, HostId, RevocationId, RotationId, SecretId};
use crate::lease::{self, Lease, LeaseOf, MAX_LEASES, MAX_NAME_BYTES, MAX_UNCONFIRMED};
use crate::name::SecretName;
use crate::report::{Fact, HostReport, Item};
use crate::rotation::{self, Outcome, Rotation, Step, Trigger};
use crate::secret::{self, Secret};
use crate::world::World;

/// Ids that this file draws begin here: others of the same command are smaller.
const FIRST_ID: u32 = 50_000;
/// Ids of the ends of leases begin here.
const FIRST_END: u32 = 100_000;
/// Why a lease ends whose container is gone.
const GONE: &str = "its container does not run any more, or is not to have it";
/// Why a lease ends that its store let go of.
const LOST: &str = "it ended at its store while its container did not run";
/// Why a lease ends that another one took the place of.
const SWAPPED: &str = "its container has another one";
/// Why a lease ends that its rotation could not take back.
const NOT_ENDED: &str = "its rotation was rolled back, and its store did not end it then";
/// Why a lease ends whose host is gone.
const EVICTED: &str = "its container's host was evicted";

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

/// What a report means for leases: who wants one, and who does not run any more. Gives those that end with it,
/// about which nothing else is to be decided in the same append.
pub(super) fn record(
    world: &World,
    report: &HostReport,
    ctx: &Context,
    events: &mut Vec<Event>,
) -> Result<BTreeSet<SecretId>, Rejection> {
    let is_over = |item: &&Item| item.fact == Fact::Removed;
    let removed = report.items.iter().filter(is_over);
    let removed: BTreeSet<SecretId> = removed.map(|item| item.secret).collect();
    record_wants(world, report, &removed, ctx, events);
    let is_here = |item: &&Item| !matches!(item.fact, Fact::Vanished | Fact::Removed);
    let named = report.items.iter().filter(is_here);
    let named = named.map(|item| &item.container);
    let present: BTreeSet<&ContainerId> = report.containers.iter().chain(named).collect();
    let mut ending = BTreeSet::new();
    for (secret, count) in world.leases_at(report.host).zip(FIRST_END..) {
        if removed.contains(&secret.id) {
            // It does not start again, or its binding means it no more: nothing is to be kept for it.
            let revocation = RevocationId::from_bytes(ctx.id(count));
            let why = revocation::Why::of_rule(GONE);
            events.extend(ended(world, secret, revocation, (why, None))?);
            ending.insert(secret.id);
        } else if let Some(event) = kept(world, secret, &present, ctx)
            // Who is named is here, but only of a complete report who is not named is not.
            && (report.complete || event == secret::Event::LeaseResumed)
        {
            events.push(Event::Secret(secret.id, event));
        }
    }
    Ok(ending)
}

/// Gives leases to those who want one.
fn record_wants(
    world: &World,
    report: &HostReport,
    removed: &BTreeSet<SecretId>,
    ctx: &Context,
    events: &mut Vec<Event>,
) {
    let wanted = report.items.iter().filter(|item| item.fact == Fact::Wanted);
    let mut wanted = wanted.peekable();
    if wanted.peek().is_none() {
        return;
    }
    let mut counts: BTreeMap<SecretId, usize> = BTreeMap::new();
    for of in world.leases_at(report.host).filter_map(Secret::lease_of) {
        *counts.entry(of.secret).or_default() += 1;
    }
    let mut asked = BTreeSet::new();
    for (item, count) in wanted.zip(FIRST_ID..FIRST_END) {
        let alive = counts.entry(item.secret).or_default();
        let is_gone = removed.contains(&lease::secret_of(item.secret, &item.container));
        if is_gone || *alive >= MAX_LEASES || !asked.insert((item.secret, &item.container)) {
            continue;
        }
        let rotation = RotationId::from_bytes(ctx.id(count));
        let given = give(world, report, item, (rotation, ctx));
        *alive += usize::from(!given.is_empty());
        events.extend(given);
    }
}

/// What a report means for the time for which a lease is kept, where it is complete. A container that no binding
/// gives it any more keeps it no longer than one that does not run.
fn kept(
    world: &World,
    secret: &Secret,
    present: &BTreeSet<&ContainerId>,
    ctx: &Context,
) -> Option<secret::Event> {
    let of = secret.lease_of()?;
    let is_present = present.contains(&of.container) && world.is_given_to(secret.id, of.host);
    // Whose first one is being made may wait for it.
    let is_made = secret.current.is_some() || world.open_rotation(secret.id).is_none();
    match (is_present, secret.lingers_until) {
        (true, Some(_)) => Some(secret::Event::LeaseResumed),
        (false, None) if is_made => Some(secret::Event::LeaseLingering {
            until: ctx.now.plus(linger_of(world, of)),
        }),
        (true, None) | (false, _) => None,
    }
}

/// How long a lease is kept, as its declared secret says now.
fn linger_of(world: &World, of: &LeaseOf) -> Duration {
    let declared = world.secrets.get(&of.secret);
    match declared.and_then(|declared| declared.spec.lease.as_deref()) {
        Some(Lease::PerContainer { linger, .. }) => *linger,
        Some(Lease::Of(_)) | None => of.linger,
    }
}

/// Leases of a host that is trusted with nothing any more end with it; none of them waits for it. A person has it
/// evicted, so it is asked whether they are dead.
pub(super) fn let_go(world: &World, host: HostId, ctx: &Context) -> Result<Vec<Event>, Rejection> {
    let mut events = Vec::new();
    for (secret, count) in world.leases_at(host).zip(FIRST_END..) {
        let id = RevocationId::from_bytes(ctx.id(count));
        let why = revocation::Why::of_person(EVICTED, false);
        events.extend(ended(world, secret, id, (why, Some(host)))?);
    }
    Ok(events)
}

/// The end of a lease: nothing is kept any more, and what is alive of it is revoked.
fn ended(
    world: &World,
    secret: &Secret,
    revocation: RevocationId,
    (why, without): (revocation::Why<'_>, Option<HostId>),
) -> Result<Vec<Event>, Rejection> {
    let mut events = vec![Event::Secret(secret.id, secret::Event::LeaseEnded)];
    if !secret.alive().is_empty() {
        let revoked = revocation::request_of(world, revocation, secret, None, why, without)?;
        events.extend(revoked);
    }
    Ok(events)
}

/// The end of a swap: the lease before is revoked by itself. One that its store cannot end would hold up the next
/// swap otherwise, and the lease in use has an end of its own. What a playbook has replaced is to be proven dead, as
/// what a person revokes is; it gives way by itself otherwise.
pub(super) fn swapped(
    open: &Rotation,
    secret: &Secret,
    old: &[u64],
) -> Result<Vec<Event>, Rejection> {
    let id = open.id;
    let by_playbook = revocation::reason_of_playbook(open);
    // What was revoked meanwhile has a revocation already.
    let dying = old
        .iter()
        .filter(|version| secret.is_deliverable(**version));
    let versions: Vec<u64> = dying.copied().collect();
    let mut events = Vec::new();
    for version in &versions {
        events.push(Event::Secret(secret.id, secret.decide_revoke(*version)?));
    }
    let outcome = Outcome::Completed;
    events.push(Event::Rotation(id, rotation::Event::Closed { outcome }));
    if !versions.is_empty() {
        let requested = crate::revocation::Event::Requested {
            secret: secret.id,
            versions,
            hosts: Vec::new(),
            is_to_prove: by_playbook.is_some(),
            reason: by_playbook.unwrap_or_else(|| SWAPPED.to_owned()),
            is_emergency: false,
        };
        events.extend(revocation::requested_events(lease::end_of(id), requested));
    }
    Ok(events)
}

/// The end of a roll-back that its store refused so often: the rotation ends, and what it made is revoked by itself,
/// which is asked for as long as it takes. Not while so many ends wait already: then the rotation stays open, so that
/// no store makes ever more logins while it ends none.
pub(super) fn left_to_end(
    world: &World,
    rotation: &Rotation,
    secret: &Secret,
    answer: &rotate::Answer<'_>,
) -> Result<Vec<Event>, Rejection> {
    let is_refused = answer.failure.is_some_and(|failure| !failure.is_away);
    let gives_up = answer.step == Step::RollBack
        && is_refused
        && answer.attempt >= rotation::MAX_STEP_ATTEMPTS
        && secret.lease_of().is_some()
        && world.unconfirmed_revocations(secret.id) < MAX_UNCONFIRMED;
    if !gives_up {
        return Ok(Vec::new());
    }
    let version = rotation.version;
    let mut events = Vec::new();
    if secret.is_deliverable(version) {
        events.push(Event::Secret(secret.id, secret.decide_revoke(version)?));
    }
    let outcome = Outcome::RolledBack;
    let closed = rotation::Event::Closed { outcome };
    events.push(Event::Rotation(rotation.id, closed));
    let requested = crate::revocation::Event::Requested {
        secret: secret.id,
        versions: vec![version],
        hosts: Vec::new(),
        reason: NOT_ENDED.to_owned(),
        // It gives way by itself: what a person revokes is proven.
        is_to_prove: false,
        is_emergency: false,
    };
    let end = lease::end_of(rotation.id);
    events.push(Event::Revocation(end, requested));
    Ok(events)
}

/// Whether it is the lease of a container of this host.
pub(super) fn is_of_host(world: &World, secret: SecretId, host: HostId) -> bool {
    let of = world.secrets.get(&secret).and_then(Secret::lease_of);
    of.is_some_and(|of| of.host == host)
}

/// What a binding that comes, or comes back, gives of a declared secret's leases: each to its container's host
/// alone.
pub(super) fn given_by<'w>(
    world: &'w World,
    declared: &Secret,
    hosts: &[HostId],
) -> Vec<(&'w Secret, HostId, u64)> {
    let leases = world.leases_of(declared.id);
    let given = leases.filter_map(|lease| {
        let host = lease.lease_of()?.host;
        let version = lease.current.filter(|_| hosts.contains(&host))?;
        Some((lease, host, version))
    });
    given.collect()
}

/// A lease for a container that wants one, unless it has one or one is being made. One in quarantine wanted it before its
/// host knew of that.
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
    let is_apart = world.quarantine_of(report.host, &item.container).is_some();
    if is_apart || !is_granted(world, report.host, item.binding, declared.id) {
        return Vec::new();
    }
    let id = lease::secret_of(declared.id, &item.container);
    let mut events = Vec::new();
    let secret = match world.secrets.get(&id) {
        Some(known) if has_one(world, known) || !is_free(world, known, (declared.id, report)) => {
            return Vec::new();
        }
        Some(known) if is_held_back(world, known, &wish) => return Vec::new(),
        Some(known) => {
            let mut known = known.clone();
            if known.lingers_until.take().is_some() {
                events.push(Event::Secret(id, secret::Event::LeaseResumed));
            }
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
            if world.secret_named(&name).is_some() {
                // It is another secret's.
                return Vec::new();
            }
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
    let Some(Lease::PerContainer { linger, .. }) = declared.spec.lease.as_deref() else {
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

/// Whether a container has a lease, or one is being made.
fn has_one(world: &World, secret: &Secret) -> bool {
    secret.current.is_some() || world.open_rotation(secret.id).is_some()
}

/// Whether what is under way has to end before a container gets another lease. Not a revocation that its store may
/// never confirm, but at another place it would not find what it is to end; and no store makes ever more logins
/// while it ends none.
fn is_held_back(world: &World, secret: &Secret, wish: &secret::Spec) -> bool {
    let unconfirmed = world.unconfirmed_revocations(secret.id);
    let moves = secret.spec.store != wish.store;
    unconfirmed >= MAX_UNCONFIRMED || (moves && unconfirmed > 0)
}

/// Whether a hidden secret may be this host's: it is a lease of the declared one, and its container is on no other
/// host that may speak.
fn is_free(world: &World, secret: &Secret, (declared, report): (SecretId, &HostReport)) -> bool {
    secret.lease_of().is_some_and(|of| {
        let is_here = of.host == report.host || world.live_host(of.host).is_none();
        of.secret == declared && is_here
    })
}

/// Takes word that a lease ended, or cannot be renewed for long: the container gets another one, and the one before,
/// where a grace keeps it yet, keeps nothing up. Not one that does not run, or is given none any more: of it what ended
/// there ends here, and it gets another one when it wants it.
pub(super) fn observed(
    world: &World,
    secret: &Secret,
    seen: &Observation,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let is_given = |of: &LeaseOf| world.is_given_to(secret.id, of.host);
    let is_in_use = secret.lingers_until.is_none() && secret.lease_of().is_some_and(is_given);
    if seen.found.is_some() || secret.current.is_none() {
        return Ok(Vec::new());
    }
    if is_in_use {
        return succeed(world, secret, (seen.rotation, Trigger::OnDemand), ctx);
    }
    if !seen.is_gone {
        return Ok(Vec::new());
    }
    let revocation = RevocationId::from_bytes(ctx.id(FIRST_END));
    let why = revocation::Why::of_rule(LOST);
    ended(world, secret, revocation, (why, None))
}

/// Begins a rotation of any secret. Where nothing of it is open but the grace of a lease that gave way, that ends in
/// the same append: what is in use needs another one.
pub(super) fn succeed(
    world: &World,
    secret: &Secret,
    (rotation, trigger): (RotationId, Trigger),
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let open = world.open_rotation(secret.id);
    let Some(open) = open.filter(|_| !world.is_held_up(secret.id)) else {
        return rotate::start(world, secret, rotation, trigger, ctx);
    };
    let mut events = drain::drained(open, secret)?;
    let mut after = secret.clone();
    for event in &events {
        if let Event::Secret(_, event) = event {
            after.evolve(event);
        }
    }
    let started = rotate::start_after(world, &after, (rotation, trigger), Some(open.id))?;
    events.extend(started);
    Ok(events)
}

/// Ends the lease of a container that was gone for as long as it is kept.
pub(super) fn end(world: &World, id: SecretId, ctx: &Context) -> Result<Vec<Event>, Rejection> {
    let Some(secret) = world.secrets.get(&id) else {
        return Ok(Vec::new());
    };
    if secret.lingers_until.is_none_or(|until| ctx.now < until) {
        let secret = secret.name.clone();
        return Err(secret::Rejection::NotLingering { secret }.into());
    }
    let revocation = RevocationId::from_bytes(ctx.id(FIRST_END));
    let why = revocation::Why::of_rule(GONE);
    ended(world, secret, revocation, (why, None))
}

/// Revokes a secret; of one that gives leases each lease, the first under the revocation's own id.
pub(super) fn revoke(
    world: &World,
    (id, name): (RevocationId, &SecretName),
    version: Option<u64>,
    (reason, is_emergency): (&str, bool),
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let why = revocation::Why::of_person(reason, is_emergency);
    let declared = world.secret_named(name).filter(|one| one.gives_leases());
    let mut leases = declared
        .map(|one| world.leases_of(one.id))
        .into_iter()
        .flatten();
    let Some(first) = leases.next().filter(|_| version.is_none()) else {
        return revocation::request(world, id, name, version, why);
    };
    let mut events = revocation::request_of(world, id, first, None, why, None)?;
    for (lease, count) in leases.zip(FIRST_END..) {
        let id = RevocationId::from_bytes(ctx.id(count));
        let revoked = revocation::request_of(world, id, lease, None, why, None)?;
        events.extend(revoked);
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

/// Refuses a name that only a container's lease has.
pub(super) fn refuse_lease_name(name: &SecretName) -> Result<(), secret::Rejection> {
    if !lease::is_name(name) {
        return Ok(());
    }
    let secret = name.clone();
    Err(secret::Rejection::LeaseName { secret })
}

/// Refuses another role or store while containers have leases of the one before: they would be ended elsewhere.
pub(super) fn refuse_other_place(
    world: &World,
    known: &Secret,
    spec: &secret::Spec,
) -> Result<(), secret::Rejection> {
    let is_live = known.gives_leases() && world.leases_of(known.id).next().is_some();
    if !is_live || known.spec.store == spec.store {
        return Ok(());
    }
    let secret = known.name.clone();
    Err(secret::Rejection::LeasesLive { secret })
}

/// Refuses another server for the store of a lease that is alive: it would be renewed and ended where nobody knows it.
pub(super) fn refuse_moved(world: &World, secret: &Secret) -> Result<(), secret::Rejection> {
    if secret.lease_of().is_none() || secret.alive().is_empty() {
        return Ok(());
    }
    let declared = world.secrets.get(&world.home(secret.id));
    let secret = declared.unwrap_or(secret).name.clone();
    Err(secret::Rejection::LeasesLive { secret })
}

/// Refuses a template that names the version before of a secret that gives leases.
pub(super) fn refuse_previous(secret: &Secret) -> Result<(), secret::Rejection> {
    if secret.spec.lease.is_none() {
        return Ok(());
    }
    let secret = secret.name.clone();
    Err(secret::Rejection::PreviousOfLease { secret })
}

/// Refuses to make a lease for a host that is trusted with nothing any more.
pub(super) fn refuse_host(world: &World, secret: &Secret) -> Result<(), secret::Rejection> {
    let is_gone = |of: &LeaseOf| world.live_host(of.host).is_none();
    if !secret.lease_of().is_some_and(is_gone) {
        return Ok(());
    }
    let secret = secret.name.clone();
    Err(secret::Rejection::LeaseHostGone { secret })
}
