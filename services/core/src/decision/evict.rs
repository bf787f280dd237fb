//! The decision to evict a host: it is trusted with nothing any more, what ran on it is no consumer,
//! and nothing waits for it. All of it is one append.

use std::borrow::Cow;

use super::report::needs_old;
use super::{
    Context, Rejection, canary, drain, lease, order, replace, revoke, rollout, rotate, staging,
};
use crate::assignment;
use crate::event::Event;
use crate::host;
use crate::id::HostId;
use crate::revocation::{self, Revocation};
use crate::rotation::{self, Phase, Rotation};
use crate::time::Timestamp;
use crate::world::World;

pub(super) fn evict(
    world: &World,
    id: HostId,
    reason: &str,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    if reason.trim().is_empty() {
        return Err(host::Rejection::ReasonMissing.into());
    }
    let Some(known) = world.hosts.get(&id) else {
        return Err(host::Rejection::NotEnrolled(id).into());
    };
    if known.is_evicted() {
        return Ok(Vec::new());
    }
    let evicted = host::Event::Evicted {
        reason: reason.trim().to_owned(),
    };
    let mut events = vec![Event::Host(id, evicted)];
    for (token, _) in world.join_tokens.iter().filter(|(_, open)| open.host == id) {
        let spent = host::Event::JoinTokenSpent { token: *token };
        events.push(Event::Host(id, spent));
    }
    for key in world.assignments.keys().filter(|key| key.host == id) {
        let vanished = assignment::Event::Vanished;
        events.push(Event::Assignment(key.clone(), vanished));
    }
    order::let_go(world, known, ctx.now, &mut events);
    let mut rollouts = rollout::Draft::of(world, ctx.now);
    for restart in known.restarts.values() {
        rollouts.end_ordered(id, restart);
    }
    rollouts.forget_host(id);
    // What its containers have leases of ends with it.
    let is_let_go = |open: &&Rotation| lease::is_of_host(world, open.secret, id);
    for open in world
        .open_rotations()
        .filter(|open| open.phase == Phase::Staging && !is_let_go(open))
    {
        let rolls_back = staging::release(world, id, open, &mut events)?;
        if rolls_back {
            rollouts.pass_over(open.id);
            rollouts.touch_all();
        }
    }
    let has_canaries = |open: &&Rotation| open.phase == Phase::Canary && !is_let_go(open);
    for open in world.open_rotations().filter(has_canaries) {
        if let Some(turned) = canary::let_go(world, id, open, ctx.now)? {
            rollouts.pass_over(open.id);
            events.extend(turned);
        }
    }
    let is_distributing = |open: &&Rotation| open.phase == Phase::Distributing && !is_let_go(open);
    for open in world.open_rotations().filter(is_distributing) {
        release_rotation(world, (id, &rollouts, ctx.now), open, &mut events)?;
    }
    for open in world.revocations.values().filter(|open| !open.closed) {
        release_revocation(id, open, &mut events);
    }
    events.extend(rollouts.give());
    events.extend(lease::let_go(world, id, ctx)?);
    Ok(events)
}

fn release_rotation(
    world: &World,
    (host, rollouts, now): (HostId, &rollout::Draft<'_>, Timestamp),
    open: &Rotation,
    events: &mut Vec<Event>,
) -> Result<(), Rejection> {
    let mut after = open.clone();
    let mut push = |after: &mut Rotation, event: rotation::Event| {
        after.evolve(&event);
        events.push(Event::Rotation(open.id, event));
    };
    for consumer in open.waiting.iter().filter(|key| key.host == host) {
        let consumer = consumer.clone();
        push(
            &mut after,
            rotation::Event::ConsumerAcknowledged { consumer },
        );
    }
    if let Some(measured) = staging::gap(open, &after, now) {
        push(&mut after, measured);
    }
    if open.barrier.contains(&host) {
        push(&mut after, rotation::Event::HostReleased { host });
    }
    let Some(secret) = world.secrets.get(&open.secret) else {
        return Ok(());
    };
    let is_held = |open: &Rotation| {
        let mut others = world.consumers(open.secret);
        others.any(|(key, state)| key.host != host && needs_old(world, key, state, open))
    };
    let left = (Cow::Owned(after), secret);
    let (after, secret) = replace::take_over(world, left, (Some(host), &is_held), events)?;
    let is_moving = open.returning.is_some() && rollouts.is_moving(open);
    if after.is_settled() && !is_held(&after) && !is_moving {
        let seen = drain::Seen::of(world).without(Some(host));
        events.extend(rotate::settled(&seen, &after, &secret, now)?);
    }
    Ok(())
}

fn release_revocation(host: HostId, open: &Revocation, events: &mut Vec<Event>) {
    if !open.waiting.contains(&host) {
        return;
    }
    let released = revocation::Event::HostReleased { host };
    revoke::withdrawn(open, released, events);
}
