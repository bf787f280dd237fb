//! Canaries: a few containers get a version after `test` and before its promotion, and it is promoted only when
//! they run well with it for a while. Else they go back, and only then it is revoked.
//!
//! Invariants: hosts of canaries are granted the version like any other, so that it is dead everywhere as soon
//! as it is dead, and it is revoked only when none of them holds it any more; everybody else keeps, and starts
//! with, the version before; nobody gets it ahead where the version before is not good beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::{Moved, is_acknowledged, needs_old};
use super::rollout::waiting;
use super::{Context, Rejection, drain, rollout, rotate, staging};
use crate::assignment::{self, Assignment, Progress};
use crate::binding::Spec;
use crate::event::Event;
use crate::id::{ContainerId, DeliveryId, HostId, RotationId};
use crate::report::HostReport;
use crate::rollout::{Member, Stage};
use crate::rotation::{self, Phase, Rotation, Step, Trigger};
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::world::World;

/// Why there is none where one password ends the other.
const NO_OVERLAP: &str = "the version before is not good any more beside the new one";
/// Why there is none where files name the version before.
const IS_KEPT: &str = "files of containers have the version before beside the current one";
/// Why there is none where nobody has anything to lose.
const NOBODY: &str = "no container has the version before";
/// Why there is none where nobody can be judged.
const NOBODY_WELL: &str = "no container is known to run well with the version before, on a host whose injector takes versions ahead of their promotion";
/// Why there is none where the value is in use already.
const TAKEN_OVER: &str = "the value was changed outside, and is in use there";
/// Why they are watched no longer.
const OLD_REVOKED: &str = "the version before was revoked meanwhile, so nobody is to go back to it";
/// What became of a canary that is no consumer any more.
const GONE: &str = "it ended, was removed, or gave up the secret while it ran on it before all others; look at its log, then rotate again";
/// What became of a canary whose host is trusted with nothing any more.
const HOST_GONE: &str = "its host was evicted while it ran on it before all others; rotate again";

/// What one container has of a secret.
type Held<'w> = Vec<(&'w assignment::Key, &'w Assignment)>;

/// Which consumers get the next version before it is promoted, or why none does; `None` where nobody asked for
/// that. All that a container has of the secret moves together.
#[must_use]
pub fn canaries(
    world: &World,
    secret: &Secret,
) -> Option<Result<Vec<assignment::Key>, &'static str>> {
    let wish = secret.spec.rotation.canary?;
    let current = secret.current.filter(|v| secret.is_deliverable(*v));
    let mut containers: BTreeMap<(HostId, &ContainerId), Held<'_>> = BTreeMap::new();
    for (key, state) in world.consumers(secret.id) {
        let held = containers.entry((key.host, &key.container)).or_default();
        held.push((key, state));
    }
    containers.retain(|_, held| held.iter().any(|(_, state)| !state.is_unserved()));
    let Some(current) = current.filter(|_| !containers.is_empty()) else {
        return Some(Err(NOBODY));
    };
    if !secret.has_way_back() {
        return Some(Err(NO_OVERLAP));
    }
    if secret.spec.rotation.keep_previous {
        return Some(Err(IS_KEPT));
    }
    let is_fit = |((host, container), held): &((HostId, &ContainerId), Held<'_>)| {
        let member = world.rollout_member(*host, container);
        staging::knows(world, *host)
            && world.is_given_to(secret.id, *host)
            && member.is_none_or(|member| !member.is_unavailable())
            && held
                .iter()
                .all(|one| runs_well(world, secret, current, *one))
    };
    let fit = containers.into_iter().filter(is_fit);
    let most = usize::try_from(wish.consumers).unwrap_or(usize::MAX);
    let chosen = fit.take(most).flat_map(|(_, held)| held);
    let chosen: Vec<assignment::Key> = chosen.map(|(key, _)| key.clone()).collect();
    Some(match chosen.is_empty() {
        true => Err(NOBODY_WELL),
        false => Ok(chosen),
    })
}

/// A consumer as it is after a report.
fn state_of<'w>(
    world: &'w World,
    moved: &'w Moved,
    key: &assignment::Key,
) -> Option<&'w Assignment> {
    moved.get(key).or_else(|| world.assignments.get(key))
}

fn spec_of<'w>(world: &'w World, key: &assignment::Key) -> Option<&'w Spec> {
    world.bindings.get(&key.binding)?.spec.as_ref()
}

fn runs_well(
    world: &World,
    secret: &Secret,
    current: u64,
    (key, state): (&assignment::Key, &Assignment),
) -> bool {
    let spec = spec_of(world, key).filter(|spec| world.gives(spec, secret.id));
    spec.is_some_and(|spec| state.has_reached(current, spec.ack_level()))
}

/// What follows `test` where canaries are asked for: those who can be are given the version, or it is on record
/// why nobody is. `None` where nobody asked.
pub(super) fn begin(
    world: &World,
    rotation: &Rotation,
    secret: &Secret,
    ctx: &Context,
) -> Result<Option<Vec<Event>>, Rejection> {
    let Some(chosen) = canaries(world, secret) else {
        return Ok(None);
    };
    let is_in_use = matches!(rotation.trigger, Trigger::External { .. });
    let chosen = if is_in_use { Err(TAKEN_OVER) } else { chosen };
    let completed = rotation::Event::StepCompleted { step: Step::Test };
    let mut events = vec![Event::Rotation(rotation.id, completed)];
    let consumers = match chosen {
        Ok(consumers) => consumers,
        Err(reason) => {
            events.extend(skipped(rotation.id, reason));
            return Ok(Some(events));
        }
    };
    let mut hosts: Vec<HostId> = consumers.iter().map(|key| key.host).collect();
    hosts.dedup();
    for (count, host) in (1..).zip(&hosts) {
        let delivery = DeliveryId::from_bytes(ctx.id(count));
        let delivered = secret.decide_deliver(*host, rotation.version, delivery)?;
        events.extend(delivered.map(|event| Event::Secret(secret.id, event)));
    }
    for key in &consumers {
        if let Some(known) = world.assignments.get(key) {
            let assigned = assigned(secret, rotation.version, known);
            events.push(Event::Assignment(key.clone(), assigned));
        }
    }
    let started = rotation::Event::CanaryStarted {
        consumers,
        hosts,
        deadline: ctx.now.plus(secret.spec.rotation.ack_deadline()),
    };
    events.push(Event::Rotation(rotation.id, started));
    // Restarts for other secrets wait for a promotion, and this one is far.
    events.extend(rollout::released(world, rotation.id, ctx));
    Ok(Some(events))
}

fn assigned(secret: &Secret, version: u64, known: &Assignment) -> assignment::Event {
    assignment::Event::Assigned {
        secret: secret.id,
        version,
        container_name: known.container_name.clone(),
        image_digest: known.image_digest.clone(),
    }
}

fn skipped(id: RotationId, reason: &str) -> [Event; 2] {
    let reason = reason.to_owned();
    promoting(id, rotation::Event::CanarySkipped { reason })
}

/// What is promoted next, and why.
fn promoting(id: RotationId, why: rotation::Event) -> [Event; 2] {
    let finish = rotation::Event::StepStarted {
        step: Step::Finish,
        attempt: 1,
    };
    [why, finish].map(|event| Event::Rotation(id, event))
}

/// Whether a consumer is to run on a version that is not promoted yet: what is still told of it with the current
/// one is late.
pub(super) fn is_ahead(world: &World, key: &assignment::Key, known: &Assignment) -> bool {
    let open = world.open_rotation(known.secret);
    known.is_live() && open.is_some_and(|open| known.assigned == open.version && open.is_ahead(key))
}

/// What a host's report means for a rotation whose canaries run ahead.
pub(super) fn advance(
    world: &World,
    (report, rollouts, now): (&HostReport, &mut rollout::Draft<'_>, Timestamp),
    open: &Rotation,
    moved: &Moved,
    events: &mut Vec<Event>,
) -> Result<(), Rejection> {
    let Some(secret) = world.secrets.get(&open.secret) else {
        return Ok(());
    };
    let mut own = open.canaries.iter().filter(|key| key.host == report.host);
    let fault = |key| fault_of(state_of(world, moved, key), open);
    let told = || own.find_map(|key| Some((key.clone(), fault(key)?)));
    if let Some(failure) = rollouts.failure_of(open).or_else(told) {
        rollouts.pass_over(open.id);
        events.push(halted(open.id, failure));
        events.extend(back(world, open, secret, (moved, None), now)?);
        return Ok(());
    }
    let reached = |key: &&assignment::Key| {
        let state = state_of(world, moved, key).filter(|_| key.host == report.host);
        state.is_some_and(|state| is_acknowledged(world, key, state, open))
    };
    let reached: Vec<&assignment::Key> = open.waiting.iter().filter(reached).collect();
    let is_last = !reached.is_empty() && reached.len() == open.waiting.len();
    for key in reached {
        let consumer = key.clone();
        let acknowledged = rotation::Event::ConsumerAcknowledged { consumer };
        events.push(Event::Rotation(open.id, acknowledged));
    }
    if is_last {
        // Nobody asks for them any more where the wish is gone.
        let wish = secret.spec.rotation.canary;
        let watch = wish.map_or(Duration::ZERO, |wish| wish.watch);
        let until = now.plus(watch);
        let watched = rotation::Event::CanaryWatched { until };
        events.push(Event::Rotation(open.id, watched));
    }
    Ok(())
}

/// Why a canary does not run well with the version.
fn fault_of(known: Option<&Assignment>, open: &Rotation) -> Option<String> {
    match known.filter(|known| known.is_live() && known.secret == open.secret) {
        None => Some(GONE.to_owned()),
        Some(known) => match &known.progress {
            Progress::Refused(reason) => Some(reason.clone()),
            _ => None,
        },
    }
}

fn halted(id: RotationId, (consumer, reason): (assignment::Key, String)) -> Event {
    Event::Rotation(id, rotation::Event::Halted { consumer, reason })
}

/// Canaries move back to the version that never ceased to be current, and the other one dies once none of their
/// hosts holds it any more; at once where there is nobody to wait for. A host that is evicted in the same append
/// is not waited for.
pub(super) fn back(
    world: &World,
    open: &Rotation,
    secret: &Secret,
    (moved, without): (&Moved, Option<HostId>),
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let is_alive = |back: &u64| *back < open.version && secret.is_deliverable(*back);
    let Some(back) = secret.current.filter(is_alive) else {
        // What hosts have of it is taken back with the word that it is dead.
        let step = rotation::Event::StepStarted {
            step: Step::RollBack,
            attempt: 1,
        };
        let mut events = Vec::from_iter(staging::dying(open, secret)?);
        events.push(Event::Rotation(open.id, step));
        return Ok(events);
    };
    let mut events = Vec::new();
    let (mut consumers, mut takes) = (Vec::new(), Duration::ZERO);
    for key in open.canaries.iter().filter(|key| Some(key.host) != without) {
        let is_its = |known: &&Assignment| known.is_live() && known.secret == secret.id;
        let Some(known) = state_of(world, moved, key).filter(is_its) else {
            continue;
        };
        let assigned = assigned(secret, back, known);
        let mut after = known.clone();
        after.evolve(&assigned);
        events.push(Event::Assignment(key.clone(), assigned));
        let spec = spec_of(world, key).filter(|spec| world.gives(spec, secret.id));
        if let Some(spec) = spec.filter(|spec| !after.has_reached(back, spec.ack_level())) {
            takes = takes.max(rollout::longest_restart(spec));
            consumers.push(key.clone());
        }
    }
    let granted = |(host, version): &(HostId, u64)| (*version == open.version).then_some(*host);
    let mut hosts: Vec<HostId> = secret.delivered.keys().filter_map(granted).collect();
    hosts.retain(|host| Some(*host) != without);
    let waits = secret.spec.rotation.ack_deadline();
    let turned = rotation::Event::TurnedBack {
        version: back,
        consumers,
        hosts,
        deadline: now.plus(waits.saturating_add(takes)),
    };
    let mut after = open.clone();
    after.evolve(&turned);
    events.push(Event::Rotation(open.id, turned));
    let mut others = world.consumers(secret.id);
    let is_held = others.any(|(key, known)| {
        let known = moved.get(key).unwrap_or(known);
        Some(key.host) != without && needs_old(world, key, known, &after)
    });
    if after.is_settled() && !is_held {
        let seen = drain::Seen::of(world).moved(moved).without(without);
        events.extend(rotate::settled(&seen, &after, secret, now)?);
    }
    Ok(events)
}

/// Its version could not be promoted, for good: canaries go back. Where there is nothing to go back to, what they
/// run on is all there is, and it is tried on.
pub(super) fn given_up(
    world: &World,
    open: &Rotation,
    secret: &Secret,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    if secret.current.is_none() {
        return Ok(Vec::new());
    }
    back(world, open, secret, (&Moved::new(), None), now)
}

/// A host was evicted. What its canaries have of the version is not promoted, for whoever has the machine would
/// have the next password: those on other hosts move back. `None` where it had none.
pub(super) fn let_go(
    world: &World,
    host: HostId,
    open: &Rotation,
    now: Timestamp,
) -> Result<Option<Vec<Event>>, Rejection> {
    let secret = world.secrets.get(&open.secret);
    let given = secret.filter(|secret| secret.delivered.contains_key(&(host, open.version)));
    let own = open.canaries.iter().find(|key| key.host == host);
    let Some((secret, consumer)) = given.zip(own) else {
        return Ok(None);
    };
    let mut events = vec![halted(open.id, (consumer.clone(), HOST_GONE.to_owned()))];
    events.extend(back(world, open, secret, (&Moved::new(), Some(host)), now)?);
    Ok(Some(events))
}

/// The time of canaries is over: for showing that they run on the version, or for running well with it.
pub(super) fn deadline(
    world: &World,
    open: &Rotation,
    secret: &Secret,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    if open.deadline.is_none_or(|deadline| now < deadline) {
        return Err(rotation::Rejection::NoDeadline(open.id).into());
    }
    // Who began anew since it acknowledged has to have shown it again: nobody knows that it runs well.
    let is_unshown = |key: &&assignment::Key| {
        let known = world.assignments.get(*key);
        known.is_some_and(|known| !is_acknowledged(world, key, known, open))
    };
    let late = open.waiting.first();
    let Some(late) = late.or_else(|| open.canaries.iter().find(is_unshown)) else {
        return Ok(promoting(open.id, rotation::Event::CanaryPassed).to_vec());
    };
    let is_held_back = waiting::is_held_back(world, open);
    let barring = waiting::barring(world, open).filter(|_| is_held_back);
    if is_held_back && barring.is_none() {
        let deadline = now.plus(secret.spec.rotation.ack_deadline());
        let moved = rotation::Event::DeadlineMoved { deadline };
        return Ok(vec![Event::Rotation(open.id, moved)]);
    }
    let lack = barring.map_or_else(|| rotation::lack_of(world, late), barred_by);
    let reason = format!("it did not show in time that it runs on it: {lack}");
    let passed = rotation::Event::DeadlinePassed;
    let mut events = vec![Event::Rotation(open.id, passed)];
    events.push(halted(open.id, (late.clone(), reason)));
    events.extend(back(world, open, secret, (&Moved::new(), None), now)?);
    Ok(events)
}

/// Why a canary may not restart, and will not.
fn barred_by(down: &Member) -> String {
    let why = match &down.stage {
        Stage::Failed(reason) => format!(" ({reason})"),
        Stage::Waiting | Stage::Leave { .. } | Stage::Unwell => String::new(),
    };
    format!(
        "container {} of its service is down{why}, so that none of the others may restart; bring it up, or leave `canary` out of the secret's `rotation` where it is down with the version before, then rotate again",
        down.container_name
    )
}

/// Whether a revocation takes away what canaries go back to.
pub(super) fn is_stranded(open: &Rotation, secret: &Secret, versions: &[u64]) -> bool {
    let is_dying = |version: u64| versions.contains(&version);
    open.is_canary_return()
        && open.returning.is_some_and(is_dying)
        && !is_dying(open.version)
        && secret.is_deliverable(open.version)
}

/// The version before was revoked while canaries ran ahead of it: everybody else needs the new one now.
pub(super) fn hurried(open: &Rotation) -> Vec<Event> {
    match open.phase {
        Phase::Canary => skipped(open.id, OLD_REVOKED).to_vec(),
        _ => Vec::new(),
    }
}
