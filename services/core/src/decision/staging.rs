//! A cut-over: hosts get the version before the server does, so that nothing is asked for between `set` and
//! the swap; and how long consumers were behind it.
//!
//! Invariants: a version is staged under grants like any other, so it is dead everywhere as soon as it is
//! dead; no container is given it before it is promoted; a host that is away holds nothing up longer than
//! [`rotation::STAGING_DEADLINE`], and one whose injector does not know staged versions not at all: it would
//! refuse a plan that names one.

use std::collections::BTreeSet;

use super::{Context, Rejection};
use crate::event::Event;
use crate::host;
use crate::id::{DeliveryId, HostId, SecretId};
use crate::report::HostReport;
use crate::rotation::{self, Rotation, STAGING_DEADLINE, Step, Trigger};
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::world::World;

/// What follows `create` where nobody's old password survives `set`: hosts with consumers are granted the
/// version. `None` where there is no such host, or the version before stays good.
pub(super) fn begin(
    world: &World,
    rotation: &Rotation,
    secret: &Secret,
    ctx: &Context,
) -> Result<Option<Vec<Event>>, Rejection> {
    if !is_cut_over(secret) {
        return Ok(None);
    }
    let served = served(world, secret.id);
    if served.is_empty() {
        return Ok(None);
    }
    let completed = rotation::Event::StepCompleted { step: Step::Create };
    let mut events = vec![Event::Rotation(rotation.id, completed)];
    let hosts: Vec<HostId> = served
        .into_iter()
        .filter(|host| knows(world, *host))
        .collect();
    if hosts.is_empty() {
        events.extend(set(world, rotation));
        return Ok(Some(events));
    }
    for (count, host) in (1..).zip(&hosts) {
        let delivery = DeliveryId::from_bytes(ctx.id(count));
        let delivered = secret.decide_deliver(*host, rotation.version, delivery)?;
        events.extend(delivered.map(|event| Event::Secret(secret.id, event)));
    }
    let deadline = ctx.now.plus(STAGING_DEADLINE);
    let started = rotation::Event::StagingStarted { hosts, deadline };
    events.push(Event::Rotation(rotation.id, started));
    Ok(Some(events))
}

/// Hosts with consumers. What no binding gives a host any more is in no plan of it.
fn served(world: &World, secret: SecretId) -> BTreeSet<HostId> {
    let served = world.consumers(secret);
    let served = served.filter(|(_, assignment)| !assignment.is_unserved());
    let hosts: BTreeSet<HostId> = served.map(|(key, _)| key.host).collect();
    let given = hosts.into_iter();
    given
        .filter(|host| world.is_given_to(secret, *host))
        .collect()
}

pub(super) fn knows(world: &World, host: HostId) -> bool {
    let known = world.hosts.get(&host);
    known.is_some_and(|known| known.knows_staged)
}

/// That a host's injector takes staged versions, the first time it says so.
pub(super) fn shown(world: &World, report: &HostReport) -> Option<Event> {
    let is_known = !world.hosts.contains_key(&report.host) || knows(world, report.host);
    let is_news = report.knows_staged && !is_known;
    is_news.then_some(Event::Host(report.host, host::Event::StagingKnown))
}

/// Whether consumers hold what `set` makes worthless.
fn is_cut_over(secret: &Secret) -> bool {
    !secret.overlaps() && secret.current.is_some()
}

/// What a host's report means for a rotation that waits until hosts have its version. One that no binding
/// gives the secret any more has nothing to take.
pub(super) fn advance(
    world: &World,
    report: &HostReport,
    open: &Rotation,
    events: &mut Vec<Event>,
) {
    let host = report.host;
    if !open.staging.contains(&host) {
        return;
    }
    if report.staged.contains(&(open.secret, open.version)) {
        after(world, open, rotation::Event::HostStaged { host }, events);
    } else if !world.is_given_to(open.secret, host) {
        after(world, open, rotation::Event::HostReleased { host }, events);
    }
}

/// A host was evicted: nothing waits for it, and what it may have at hand is not promoted, for whoever has
/// the machine would have the next password. The server was told nothing yet. Whether it rolls back.
pub(super) fn release(
    world: &World,
    host: HostId,
    open: &Rotation,
    events: &mut Vec<Event>,
) -> Result<bool, Rejection> {
    let secret = world.secrets.get(&open.secret);
    let given = secret.filter(|secret| secret.delivered.contains_key(&(host, open.version)));
    if let Some(secret) = given {
        events.extend(dying(open, secret)?);
        let back = rotation::Event::StepStarted {
            step: Step::RollBack,
            attempt: 1,
        };
        events.push(Event::Rotation(open.id, back));
        return Ok(true);
    }
    if open.staging.contains(&host) {
        after(world, open, rotation::Event::HostReleased { host }, events);
    }
    Ok(false)
}

/// One host less is waited for; after the last one the server is told.
fn after(world: &World, open: &Rotation, event: rotation::Event, events: &mut Vec<Event>) {
    let mut left = open.clone();
    left.evolve(&event);
    events.push(Event::Rotation(open.id, event));
    if left.staging.is_empty() {
        events.extend(set(world, &left));
    }
}

/// Whoever is missing is on record, and the server is told.
fn set(world: &World, open: &Rotation) -> [Event; 2] {
    let mut missing = served(world, open.secret);
    missing.retain(|host| !knows(world, *host));
    missing.extend(&open.staging);
    let missing = missing.into_iter().collect();
    let step = rotation::Event::StepStarted {
        step: Step::Set,
        attempt: 1,
    };
    [rotation::Event::StagingEnded { missing }, step].map(|event| Event::Rotation(open.id, event))
}

/// Waits for hosts no longer.
pub(super) fn deadline(
    world: &World,
    open: &Rotation,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    if open.deadline.is_none_or(|deadline| now < deadline) {
        return Err(rotation::Rejection::NoDeadline(open.id).into());
    }
    Ok(set(world, open).to_vec())
}

/// What is rolled back dies first where hosts have it already: they drop it with the plan that says so.
pub(super) fn dying(open: &Rotation, secret: &Secret) -> Result<Option<Event>, Rejection> {
    let version = open.version;
    let mut granted = secret.delivered.keys();
    let is_staged = granted.any(|(_, granted)| *granted == version);
    if !is_staged || secret.pending != Some(version) {
        return Ok(None);
    }
    let revoked = secret.decide_revoke(version)?;
    Ok(Some(Event::Secret(secret.id, revoked)))
}

/// The first answer to `set` after which nobody knows that the version before is still good: it was done, or
/// was not answered.
pub(super) fn cut_over(
    rotation: &Rotation,
    secret: &Secret,
    (step, failure): (Step, Option<rotation::Failure<'_>>),
    now: Timestamp,
) -> Option<Event> {
    let may_be_done = failure.is_none_or(|failure| failure.is_away);
    let is_first = rotation.cut_over.is_none();
    // What somebody else had made before is behind since then, which nobody knows.
    let is_ours = !matches!(rotation.trigger, Trigger::External { .. });
    let ends_old = !secret.has_way_back() && secret.current.is_some() && is_ours;
    if step != Step::Set || !may_be_done || !is_first || !ends_old {
        return None;
    }
    let at = rotation::Event::CutOver { at: now };
    Some(Event::Rotation(rotation.id, at))
}

/// How long consumers were behind the server, once the last one has come over or is waited for no more.
pub(super) fn gap(before: &Rotation, after: &Rotation, now: Timestamp) -> Option<rotation::Event> {
    let since = after.cut_over?;
    let is_last = !before.waiting.is_empty() && after.waiting.is_empty();
    let is_measured = after.gap.is_some() || after.returning.is_some();
    let until = now;
    (is_last && !is_measured).then_some(rotation::Event::GapMeasured { since, until })
}
