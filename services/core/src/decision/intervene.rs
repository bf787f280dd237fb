//! What ends a rotation's wait before everyone acknowledged: its deadline, or a person who aborts,
//! retries or forces it.
//!
//! Invariants: a person's reason is on the log with what it led to; nothing is aborted while nobody knows
//! which version is current; a parked rotation goes on only while what it made is what is in use.

use std::borrow::Cow;

use super::report::{Moved, is_acknowledged, needs_old};
use super::rollout::waiting;
use super::{Context, Rejection, canary, drain, replace, revoke, rollout, rotate, staging};
use crate::assignment;
use crate::event::Event;
use crate::id::{HostId, RotationId};
use crate::rotation::{self, Intervention, Outcome, Phase, Rotation, Step};
use crate::schedule::OnDeadline;
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::world::World;

pub(super) fn intervene(
    world: &World,
    id: RotationId,
    intervention: Intervention,
    reason: &str,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(rotation::Rejection::ReasonMissing.into());
    }
    if reason.chars().count() > rotation::MAX_REASON_CHARS {
        return Err(rotation::Rejection::ReasonTooLong.into());
    }
    let (known, secret) = rotate::open(world, id)?;
    let said = rotation::Event::Intervened {
        intervention,
        reason: reason.to_owned(),
    };
    let mut after = known.clone();
    after.evolve(&said);
    let mut events = vec![Event::Rotation(id, said)];
    events.extend(match intervention {
        Intervention::Abort => abort(world, known, secret, ctx)?,
        Intervention::Retry => retry(world, &mut after, secret, ctx)?,
        Intervention::Force => force(world, &mut after, secret, ctx)?,
    });
    Ok(events)
}

/// Ends the wait for consumers. Whoever moves back to the version before is never forced: a person
/// decides which of the two dies. Nor is whoever would restart and has to wait for others: they get the
/// deadline anew. The end of a grace is no deadline: then the old version dies. Sessions that hold it alive
/// are asked for on, without an end: pools open theirs anew by and by. A version that was never promoted is
/// waited for like that, too, where canaries go back from it: parked, it would bar the next rotation.
pub(super) fn deadline(
    world: &World,
    id: RotationId,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let (open, secret) = rotate::open(world, id)?;
    if open.phase == Phase::Staging {
        return staging::deadline(world, open, now);
    }
    if open.phase == Phase::Canary {
        return canary::deadline(world, open, secret, now);
    }
    let mut events = vec![Event::Rotation(id, open.decide_deadline(now)?)];
    let is_draining = open.is_draining();
    if is_draining && (open.drain.grace.is_some() || !drain::is_left_to_die(open, secret)) {
        return drain::drained(open, secret);
    }
    let forces = secret.spec.rotation.on_deadline == OnDeadline::Force;
    if forces && open.returning.is_none() {
        if waiting::is_held_back(world, open) {
            let deadline = now.plus(secret.spec.rotation.ack_deadline());
            let moved = rotation::Event::DeadlineMoved { deadline };
            return Ok(vec![Event::Rotation(id, moved)]);
        }
        events.extend(forced(world, open, secret, now)?);
        return Ok(events);
    }
    events.push(Event::Rotation(id, named(world, open)));
    if is_draining || open.is_canary_return() {
        return Ok(events);
    }
    events.push(Event::Rotation(
        id,
        rotation::Event::Closed {
            outcome: Outcome::Parked,
        },
    ));
    Ok(events)
}

fn abort(
    world: &World,
    known: &Rotation,
    secret: &Secret,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let id = known.id;
    let nothing = |state| rotation::Rejection::NothingToAbort {
        rotation: id,
        secret: secret.name.clone(),
        state,
    };
    match &known.phase {
        Phase::Performing {
            step: Step::Finish, ..
        }
        | Phase::Retrying {
            step: Step::Finish, ..
        } => Err(rotation::Rejection::Promoting(id).into()),
        Phase::Performing { step, .. } if rotation::is_before_promotion(*step) => {
            if known.aborted.is_some() {
                return Err(rotation::Rejection::AbortedAlready(id).into());
            }
            refuse_loss(known, secret)?;
            // Whoever performs it may be at it still: it rolls back once that is answered.
            Ok(Vec::new())
        }
        Phase::Staging => begin_back(world, known, secret, ctx),
        Phase::Canary => canary::back(world, known, secret, (&Moved::new(), None), ctx.now),
        Phase::Retrying { step, .. } if rotation::is_before_promotion(*step) => {
            begin_back(world, known, secret, ctx)
        }
        Phase::Distributing if known.returning.is_some() => {
            Err(nothing("goes back to the version before already").into())
        }
        Phase::Distributing => turn_back(world, known, secret, ctx),
        _ if known.is_draining() => turn_back(world, known, secret, ctx),
        Phase::Closed(Outcome::Parked) if known.returning.is_none() => {
            let mut after = known.clone();
            let mut events = vec![reopened(world, &mut after, secret, ctx)?];
            events.extend(turn_back(world, &after, secret, ctx)?);
            Ok(events)
        }
        Phase::Closed(Outcome::Parked) => Err(nothing("is back at the version before").into()),
        Phase::Performing { .. } | Phase::Retrying { .. } | Phase::Draining { .. } => {
            Err(nothing("takes its other version out of use already").into())
        }
        Phase::Closed(_) => Err(nothing("has ended").into()),
    }
}

/// What a server made itself is the only value that opens anything, from `set` on or, where it did so unasked,
/// from the start: nobody throws it away.
fn refuse_loss(open: &Rotation, secret: &Secret) -> Result<(), rotation::Rejection> {
    let is_made = open.was_set || matches!(open.trigger, rotation::Trigger::External { .. });
    if !(is_made && secret.is_made_there() && secret.current.is_some()) {
        return Ok(());
    }
    Err(rotation::Rejection::NoWayBack {
        rotation: open.id,
        secret: secret.name.clone(),
    })
}

/// Nobody is at it now, so it rolls back at once.
fn begin_back(
    world: &World,
    open: &Rotation,
    secret: &Secret,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    refuse_loss(open, secret)?;
    let back = rotation::Event::StepStarted {
        step: Step::RollBack,
        attempt: 1,
    };
    let mut events = Vec::from_iter(staging::dying(open, secret)?);
    events.push(Event::Rotation(open.id, back));
    events.extend(rollout::released(world, open.id, ctx));
    Ok(events)
}

fn turn_back(
    world: &World,
    open: &Rotation,
    secret: &Secret,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let moved = Moved::new();
    let Some(mut events) = rollout::move_back(world, open, &moved, (ctx, 0))? else {
        let (rotation, name) = (open.id, secret.name.clone());
        let refused = if secret.has_way_back() {
            rotation::Rejection::NoWayBack {
                rotation,
                secret: name,
            }
        } else {
            rotation::Rejection::CutOver {
                rotation,
                secret: name,
            }
        };
        return Err(refused.into());
    };
    let mut after = open.clone();
    for event in &events {
        if let Event::Rotation(_, event) = event {
            after.evolve(event);
        }
    }
    if may_end(world, &after, ctx) {
        events.extend(rotate::settled(
            &drain::Seen::of(world),
            &after,
            secret,
            ctx.now,
        )?);
    }
    Ok(events)
}

/// Whether nobody is waited for, and no container holds, or may need, what dies at the end.
fn may_end(world: &World, open: &Rotation, ctx: &Context) -> bool {
    let mut consumers = world.consumers(open.secret);
    let is_held = consumers.any(|(key, state)| needs_old(world, key, state, open));
    let is_moving =
        || open.returning.is_some() && rollout::Draft::of(world, ctx.now).is_moving(open);
    open.is_settled() && !is_held && !is_moving()
}

fn retry(
    world: &World,
    known: &mut Rotation,
    secret: &Secret,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let id = known.id;
    match &known.phase {
        Phase::Retrying { .. } | Phase::Draining { .. } => {
            Ok(vec![Event::Rotation(id, known.decide_retry()?)])
        }
        Phase::Closed(Outcome::Parked) if known.halted.is_some() && known.returning.is_none() => {
            Err(rotation::Rejection::Halted {
                rotation: id,
                secret: secret.name.clone(),
            }
            .into())
        }
        Phase::Closed(Outcome::Parked) => {
            let mut events = vec![reopened(world, known, secret, ctx)?];
            let known = Cow::Borrowed(&*known);
            let is_held = |open: &Rotation| {
                let mut consumers = world.consumers(open.secret);
                consumers.any(|(key, state)| needs_old(world, key, state, open))
            };
            let whose = (None, &is_held as replace::IsHeld<'_>);
            let (after, secret) = replace::take_over(world, (known, secret), whose, &mut events)?;
            if may_end(world, &after, ctx) {
                events.extend(rotate::settled(
                    &drain::Seen::of(world),
                    &after,
                    &secret,
                    ctx.now,
                )?);
            }
            Ok(events)
        }
        _ => Err(rotation::Rejection::NothingToRetry(id).into()),
    }
}

fn force(
    world: &World,
    known: &mut Rotation,
    secret: &Secret,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let mut events = Vec::new();
    match &known.phase {
        Phase::Distributing
            if known.returning.is_some() && secret.stays_outside() && !known.is_canary_return() =>
        {
            return Err(rotation::Rejection::NothingDies {
                rotation: known.id,
                secret: secret.name.clone(),
            }
            .into());
        }
        Phase::Distributing => {}
        _ if known.is_draining() => {}
        Phase::Canary => return Err(rotation::Rejection::CanariesAhead(known.id).into()),
        Phase::Closed(Outcome::Parked) => events.push(reopened(world, known, secret, ctx)?),
        _ => return Err(rotation::Rejection::NothingToForce(known.id).into()),
    }
    events.extend(forced(world, known, secret, ctx.now)?);
    Ok(events)
}

/// Ends the wait: who is left behind is named, then what was to die at the end dies.
fn forced(
    world: &World,
    open: &Rotation,
    secret: &Secret,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let mut after = open.clone();
    after.evolve(&rotation::Event::Forced);
    let mut own = vec![named(world, open), rotation::Event::Forced];
    own.extend(staging::gap(open, &after, now));
    let own = own.into_iter().map(|event| Event::Rotation(open.id, event));
    let mut events: Vec<Event> = own.collect();
    let (after, secret) = replace::take_over(
        world,
        (Cow::Owned(after), secret),
        (None, &|_| false),
        &mut events,
    )?;
    let ended = rotate::ended(&after, &secret)?;
    events.extend(revoke::waiting_for(open, ended));
    Ok(events)
}

fn named(world: &World, open: &Rotation) -> rotation::Event {
    let mut consumers = rotation::stragglers(world, open);
    // Told of too late to be waited for by name.
    let late = world
        .consumers(open.secret)
        .filter(|(key, state)| !open.waiting.contains(*key) && needs_old(world, key, state, open));
    consumers.extend(late.map(|(key, _)| rotation::Straggler {
        consumer: key.clone(),
        reason: rotation::lack_of(world, key),
    }));
    rotation::Event::StragglersNamed {
        consumers,
        hosts: open.barrier.iter().copied().collect(),
    }
}

/// A parked rotation waits again, for those who lack something by now.
fn reopened(
    world: &World,
    parked: &mut Rotation,
    secret: &Secret,
    ctx: &Context,
) -> Result<Event, Rejection> {
    if let Some(open) = world.open_rotation(secret.id) {
        return Err(rotation::Rejection::AlreadyOpen {
            secret: secret.name.clone(),
            rotation: open.id,
        }
        .into());
    }
    let wanted = parked.wanted();
    // What is current at a store outside is never taken back, so moving back ends nowhere there.
    let has_end = parked.returning.is_none() || !secret.stays_outside();
    let is_in_use = secret.last_version == parked.version
        && secret.current == Some(wanted)
        && secret.is_deliverable(wanted);
    if !has_end || !is_in_use {
        return Err(rotation::Rejection::PassedBy {
            rotation: parked.id,
            secret: secret.name.clone(),
        }
        .into());
    }
    let lacks = world
        .consumers(secret.id)
        .filter(|(key, state)| !is_acknowledged(world, key, state, parked));
    let consumers: Vec<assignment::Key> = lacks.map(|(key, _)| key.clone()).collect();
    let may_hold = |(host, version): &(HostId, u64)| parked.old.contains(version).then_some(*host);
    let mut hosts: Vec<HostId> = secret.delivered.keys().filter_map(may_hold).collect();
    hosts.dedup();
    // Who restarts by now, or may do so later, has the time that leave gives.
    let restarting = waiting::with_leave(world, secret.id, consumers.iter(), ctx.now);
    let deadline = ctx.now.plus(secret.spec.rotation.ack_deadline());
    let reopened = rotation::Event::Reopened {
        secret: secret.id,
        consumers,
        hosts,
        deadline: restarting.map_or(deadline, |ends| ends.max(deadline)),
    };
    parked.evolve(&reopened);
    Ok(Event::Rotation(parked.id, reopened))
}
