//! What a host's report means: assignments move, rotations and revocations come nearer their end.
//!
//! A report of a host that may speak is never refused as a whole: stale items are passed over, because a late report of an
//! older plan is normal.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Context, Rejection, canary, drain, join, lease, order, replace, revoke, rollout, rotate,
    staging,
};
use crate::assignment::{self, Assignment};
use crate::binding::AckLevel;
use crate::event::Event;
use crate::id::{BindingId, ContainerId, HostId, SecretId};
use crate::report::{Fact, HostReport, Item, MAX_SERVICE_BYTES};
use crate::revocation;
use crate::rotation::{self, Phase, Rotation};
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::world::World;

/// Assignments as they are after the report's items.
pub(super) type Moved = BTreeMap<assignment::Key, Assignment>;

pub(super) fn record(
    world: &World,
    report: &HostReport,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    join::refuse_silent(world, report.host, ctx.enrolment)?;
    let turned_back = lease::turned_back(world, report);
    let report: &HostReport = &turned_back;
    let mut events = Vec::from_iter(staging::shown(world, report));
    events.extend(order::shown(world, report));
    let mut moved = Moved::new();
    for item in lease::without(world, report) {
        record_item(world, report, item, &mut moved, &mut events);
    }
    let ended = lease::record(world, report, ctx, &mut events)?;
    let held: BTreeSet<(SecretId, u64)> = report.holds.iter().copied().collect();
    if report.complete {
        record_absent(world, report, &mut moved, &mut events);
        record_left(world, report, &held, &mut moved, &mut events);
    }
    let mut rollouts = rollout::Draft::of(world, ctx.now);
    order::record(world, (report, ctx.now), &mut rollouts, &mut events);
    rollouts.take(report);
    for open in world
        .open_rotations()
        .filter(|open| open.phase == Phase::Staging && !ended.contains(&open.secret))
    {
        staging::advance(world, report, open, &mut events);
    }
    for open in world
        .open_rotations()
        .filter(|open| open.phase == Phase::Canary && !ended.contains(&open.secret))
    {
        let seen = (report, &mut rollouts, ctx.now);
        canary::advance(world, seen, open, &moved, &mut events)?;
    }
    let distributing = world.open_rotations();
    let distributing = distributing
        .filter(|open| open.phase == Phase::Distributing && !ended.contains(&open.secret));
    for (nth, open) in (0..).zip(distributing) {
        match rollouts.failure_of(open) {
            Some(failure) => {
                rollouts.pass_over(open.id);
                let turned = rollout::turn_back(world, open, failure, &moved, (ctx, nth));
                events.extend(turned?);
            }
            None => {
                let seen = (report, &rollouts, ctx.now);
                advance_rotation(world, seen, open, &moved, &held, &mut events)?;
            }
        }
    }
    for open in world.revocations.values().filter(|open| !open.closed) {
        advance_revocation(world, (report, open), &held, &mut events);
    }
    events.extend(rollouts.give());
    Ok(events)
}

fn record_item(
    world: &World,
    report: &HostReport,
    item: &Item,
    moved: &mut Moved,
    events: &mut Vec<Event>,
) {
    let container = (report.host, &item.container);
    let key = world.consumer_key(container, item.binding, item.secret);
    let Some(secret) = world.secrets.get(&item.secret) else {
        return;
    };
    let known = world.assignments.get(&key).cloned().unwrap_or_default();
    let is_told = moved.contains_key(&key);
    let state = moved.entry(key.clone()).or_insert(known);
    // Another secret has its place since.
    if item.fact == Fact::Withdrawn && state.secret != item.secret && state.holds > 0 {
        return;
    }
    let mut push = |state: &mut Assignment, event: assignment::Event| {
        state.evolve(&event);
        events.push(Event::Assignment(key.clone(), event));
    };
    let is_known =
        |version| state.assigned == version && state.secret == item.secret && state.is_live();
    if let Some(version) = version_of(&item.fact)
        && !is_known(version)
    {
        if let Some(shown) = shown_late(secret, report.host, item, state) {
            push(state, shown);
            return;
        }
        // A start takes the plan's current without asking. What was used meanwhile of another
        // version is history; anything else is a stale report.
        let is_start = secret.current == Some(version)
            && !canary::is_ahead(world, &key, state)
            && is_granted(world, report.host, item.binding, item.secret);
        // What its binding gives no more was replaced; what this report told of a moment ago was not.
        let is_given = is_granted(world, report.host, item.binding, state.secret);
        let is_history = || is_history(secret, report.host, item, (state, is_told, is_given));
        let is_credible = is_start || (world.bindings.contains_key(&item.binding) && is_history());
        if !is_credible {
            return;
        }
        let assigned = assignment::Event::Assigned {
            secret: item.secret,
            version,
            container_name: item.container_name.clone(),
            image_digest: item.image_digest.clone(),
        };
        push(state, assigned);
    }
    let Some(fact) = event_of(&item.fact) else {
        return;
    };
    if let Ok(Some(event)) = state.decide_report(&key, fact) {
        push(state, event);
    }
    let noted = service_of(item).filter(|_| state.is_live());
    if let Some(noted) = noted
        && let Ok(Some(event)) = state.decide_report(&key, noted)
    {
        push(state, event);
    }
}

/// What a fact means for its container's assignment, if any comes of it.
fn event_of(fact: &Fact) -> Option<assignment::Event> {
    Some(match fact {
        Fact::Swapped { version, at } => assignment::Event::Swapped {
            version: *version,
            at: *at,
        },
        Fact::Reloaded { version, at } => assignment::Event::Reloaded {
            version: *version,
            at: *at,
        },
        Fact::Withdrawn => assignment::Event::Withdrawn,
        Fact::Vanished => assignment::Event::Vanished,
        Fact::Refused { version, reason } => assignment::Event::Refused {
            version: *version,
            reason: reason.clone(),
        },
        Fact::Wanted | Fact::Removed => return None,
    })
}

/// What a container showed of a version that it has, though it is to have a newer one by now. It is not told of
/// again, and a rotation that goes back to that version would wait for it.
fn shown_late(
    secret: &Secret,
    host: HostId,
    item: &Item,
    known: &Assignment,
) -> Option<assignment::Event> {
    let (version, level, event) = match item.fact {
        Fact::Swapped { version, at } => {
            let event = assignment::Event::Swapped { version, at };
            (version, AckLevel::Swapped, event)
        }
        Fact::Reloaded { version, at } => {
            let event = assignment::Event::Reloaded { version, at };
            (version, AckLevel::Reloaded, event)
        }
        _ => return None,
    };
    let is_between = known.is_live()
        && known.secret == item.secret
        && (known.holds..known.assigned).contains(&version);
    let is_news = known.holds != version || known.shown.is_none_or(|shown| shown < level);
    (is_between && is_news && was_granted(secret, host, version)).then_some(event)
}

/// The service that an item tells; an older host tells of none.
fn service_of(item: &Item) -> Option<assignment::Event> {
    let is_told = !item.service.is_empty() && item.service.len() <= MAX_SERVICE_BYTES;
    let service = item.service.clone();
    is_told.then_some(assignment::Event::ServiceNoted { service })
}

/// What a complete report does not name any more is gone, as after a reboot or a lost report.
fn record_absent(world: &World, report: &HostReport, moved: &mut Moved, events: &mut Vec<Event>) {
    let named = report.items.iter().map(|item| &item.container);
    let present: BTreeSet<&ContainerId> = report.containers.iter().chain(named).collect();
    let is_ghost = |(key, state): &(&assignment::Key, &Assignment)| {
        state.is_live() && !present.contains(&key.container)
    };
    for (key, state) in world.assignments_at(report.host).filter(is_ghost) {
        let mut state = state.clone();
        state.evolve(&assignment::Event::Vanished);
        moved.insert(key.clone(), state);
        let vanished = assignment::Event::Vanished;
        events.push(Event::Assignment(key.clone(), vanished));
    }
}

/// What a binding gives no more and a complete report does not hold is gone, although what came to its place may be
/// all that was told of it.
fn record_left(
    world: &World,
    report: &HostReport,
    held: &BTreeSet<(SecretId, u64)>,
    moved: &mut Moved,
    events: &mut Vec<Event>,
) {
    // By an older plan what ended for a moment may come back with what it had.
    if report.generation < world.host_generation(report.host) {
        return;
    }
    for (key, known) in world.assignments_at(report.host) {
        let state = moved.get(key).unwrap_or(known);
        let is_held = held.contains(&(state.secret, state.holds));
        if !state.is_live() || state.holds == 0 || is_held {
            continue;
        }
        let secret = world.secrets.get(&state.secret);
        let has_value = secret.is_some_and(|secret| secret.current.is_some());
        if has_value && is_granted(world, key.host, key.binding, state.secret) {
            continue;
        }
        let mut state = state.clone();
        state.evolve(&assignment::Event::Withdrawn);
        moved.insert(key.clone(), state);
        let withdrawn = assignment::Event::Withdrawn;
        events.push(Event::Assignment(key.clone(), withdrawn));
    }
}

/// Whether the binding gives this secret to this host's containers, as the log's head has it.
pub(super) fn is_granted(
    world: &World,
    host: HostId,
    binding: BindingId,
    secret: SecretId,
) -> bool {
    let binding = world.bindings.get(&binding);
    let spec = binding.and_then(|binding| binding.spec.as_ref());
    let host = world.hosts.get(&host);
    spec.zip(host).is_some_and(|(spec, host)| {
        world.gives(spec, secret) && spec.selector.means_host(&host.name)
    })
}

/// Whether a fact that comes late tells of a copy that was rightly given out: the host had been
/// granted the version, or could have before it died. It never takes back what is known since.
fn is_history(
    secret: &Secret,
    host: HostId,
    item: &Item,
    (known, is_told, is_given): (&Assignment, bool, bool),
) -> bool {
    let (Fact::Swapped { version, .. } | Fact::Reloaded { version, .. }) = item.fact else {
        return false;
    };
    let is_known_better = known.is_live()
        && match known.secret == item.secret {
            // What its binding gives no more nothing moves on: that it went back is told here, or never.
            true => known.assigned > version && (is_given || known.holds <= version),
            false => is_told || is_given,
        };
    was_granted(secret, host, version) && !is_known_better
}

/// Whether a host had been granted a version, or could have before it died.
fn was_granted(secret: &Secret, host: HostId, version: u64) -> bool {
    secret.delivered.contains_key(&(host, version))
        || (version > 0 && version <= secret.last_version && !secret.is_deliverable(version))
}

fn version_of(fact: &Fact) -> Option<u64> {
    match fact {
        Fact::Swapped { version, .. }
        | Fact::Reloaded { version, .. }
        | Fact::Refused { version, .. } => Some(*version),
        Fact::Withdrawn | Fact::Vanished | Fact::Wanted | Fact::Removed => None,
    }
}

fn advance_rotation(
    world: &World,
    (report, rollouts, now): (&HostReport, &rollout::Draft<'_>, Timestamp),
    open: &Rotation,
    moved: &Moved,
    held: &BTreeSet<(SecretId, u64)>,
    events: &mut Vec<Event>,
) -> Result<(), Rejection> {
    // Most reports are about few of many open rotations: one that nothing is said of costs no copy.
    let mut after = Cow::Borrowed(open);
    let mut push = |after: &mut Cow<'_, Rotation>, event: rotation::Event| {
        after.to_mut().evolve(&event);
        events.push(Event::Rotation(open.id, event));
    };
    for consumer in open.waiting.iter().filter(|key| key.host == report.host) {
        let state = moved
            .get(consumer)
            .or_else(|| world.assignments.get(consumer));
        if state.is_none_or(|state| is_acknowledged(world, consumer, state, open)) {
            push(
                &mut after,
                rotation::Event::ConsumerAcknowledged {
                    consumer: consumer.clone(),
                },
            );
        }
    }
    if let Some(measured) = staging::gap(open, &after, now) {
        push(&mut after, measured);
    }
    let clear = report.complete
        && report.generation >= open.generation
        && order::knows_lifted(world, report)
        && !open
            .old
            .iter()
            .any(|version| held.contains(&(open.secret, *version)));
    if clear && open.barrier.contains(&report.host) {
        push(
            &mut after,
            rotation::Event::HostBarrierAcknowledged { host: report.host },
        );
    }
    let Some(secret) = world.secrets.get(&open.secret) else {
        return Ok(());
    };
    // A start that was told of late may hold an older version though nobody waited for it.
    let is_held = |open: &Rotation| {
        let known = world
            .consumers(open.secret)
            .map(|(key, state)| (key, moved.get(key).unwrap_or(state)));
        known
            .chain(moved)
            .any(|(key, state)| needs_old(world, key, state, open))
    };
    let (after, secret) = replace::take_over(world, (after, secret), (None, &is_held), events)?;
    if !after.is_settled() {
        return Ok(());
    }
    // Whoever failed with what is taken back is brought up first.
    let is_moving = open.returning.is_some() && rollouts.is_moving(open);
    if !is_held(&after) && !is_moving {
        let seen = drain::Seen::of(world).moved(moved);
        events.extend(rotate::settled(&seen, &after, &secret, now)?);
    }
    Ok(())
}

/// Whether a consumer needs the older versions no more, as far as it is known by itself; what its
/// host holds beyond that is the barrier's.
pub(super) fn is_acknowledged(
    world: &World,
    key: &assignment::Key,
    state: &Assignment,
    open: &Rotation,
) -> bool {
    if !state.is_live() || state.is_unserved() || state.secret != open.secret {
        return true;
    }
    let binding = world.bindings.get(&key.binding);
    let spec = binding.and_then(|binding| binding.spec.as_ref());
    spec.filter(|spec| world.gives(spec, open.secret))
        .is_none_or(|spec| state.has_reached(open.wanted(), spec.ack_level()))
}

/// Whether a consumer has an older version, or its program may run on one though its file is new. It need
/// not be one that is waited for: its start may have been told of after the promotion.
pub(super) fn needs_old(
    world: &World,
    key: &assignment::Key,
    state: &Assignment,
    open: &Rotation,
) -> bool {
    if state.secret != open.secret {
        return false;
    }
    let is_old = |version| open.old.contains(version);
    is_old(&state.holds) || (is_old(&state.runs_on) && !is_acknowledged(world, key, state, open))
}

fn advance_revocation(
    world: &World,
    (report, open): (&HostReport, &revocation::Revocation),
    held: &BTreeSet<(SecretId, u64)>,
    events: &mut Vec<Event>,
) {
    let clear = report.complete
        && report.generation >= open.generation
        && open.waiting.contains(&report.host)
        && !open
            .versions
            .iter()
            .any(|version| held.contains(&(open.secret, *version)))
        && order::knows_lifted(world, report)
        && !order::keeps_in_memory(world, report, open);
    if !clear {
        return;
    }
    let withdrawn = revocation::Event::WithdrawnOnHost { host: report.host };
    revoke::withdrawn(open, withdrawn, events);
}
