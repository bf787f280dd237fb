//! A revocation that waits for a replacement: a rotation first makes another version, and the named ones die once
//! that is in use.
//!
//! They die in the very append in which the new version is promoted and the last running consumer acknowledged it; in
//! an emergency with the promotion. Invariants: a rotation that is refused refuses all of it, and one that brings
//! nothing leaves the revocation waiting for the next one, where a person sees it; in an emergency the versions die
//! without a replacement then. What it takes over the rotation itself does not end, for the proof needs their values.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{Context, Rejection, lease, revoke, rotate, secret_or_reject};
use crate::command::Replacing;
use crate::event::Event;
use crate::id::{HostId, RevocationId, RotationId, SecretId};
use crate::revocation::{self, Revocation};
use crate::rotation::{self, Outcome, Phase, Rotation, Step, Trigger};
use crate::secret::{self, Secret};
use crate::world::World;

/// Why nothing is left to do of one whose versions died otherwise.
const DEAD_OTHERWISE: &str =
    "none is needed: its versions died meanwhile, by another revocation or by a rotation";

/// Takes a person's wish.
pub(super) fn request(
    world: &World,
    wish: &Replacing,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    revoke::check_reason(&wish.reason)?;
    let secret = secret_or_reject(world, &wish.secret)?;
    match begun(world, secret, wish, ctx) {
        Err(refused) if wish.is_emergency => at_once(world, wish, &refused, ctx),
        decided => decided,
    }
}

/// Without a replacement, for there is none to be had.
fn at_once(
    world: &World,
    wish: &Replacing,
    refused: &Rejection,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let named = (wish.revocation, &wish.secret);
    let why = (wish.reason.as_str(), wish.is_emergency);
    let mut events = lease::revoke(world, named, wish.version, why, ctx)?;
    events.push(given_up(wish.revocation, refused.to_string()));
    Ok(events)
}

fn begun(
    world: &World,
    secret: &Secret,
    wish: &Replacing,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    if secret.gives_leases() || secret.lease_of().is_some() {
        let secret = secret.name.clone();
        return Err(revocation::Rejection::LeaseNotReplaced { secret }.into());
    }
    let open = world.open_rotation(secret.id);
    if let Some(open) = open.filter(|open| !brings(open, secret, wish.version)) {
        let (secret, rotation) = (secret.name.clone(), open.id);
        return Err(revocation::Rejection::ReplacementHeldUp { secret, rotation }.into());
    }
    let versions = meant(secret, open, wish.version)?;
    let waiting = revocation::Event::ReplacementAwaited {
        secret: secret.id,
        versions,
        reason: wish.reason.trim().to_owned(),
        rotation: open.map_or(wish.rotation, |open| open.id),
        is_emergency: wish.is_emergency,
    };
    match open {
        None => {
            let mut events = vec![Event::Revocation(wish.revocation, waiting)];
            let started = rotate::start(world, secret, wish.rotation, Trigger::OnDemand, ctx);
            events.extend(started?);
            Ok(events)
        }
        Some(open) if is_in_use(open, wish.is_emergency) => {
            let why = revoke::Why::of_person(&wish.reason, wish.is_emergency);
            revoke::request_of(world, wish.revocation, secret, wish.version, why, None)
        }
        Some(_) => Ok(vec![Event::Revocation(wish.revocation, waiting)]),
    }
}

/// What is to die: never what the open rotation makes.
fn meant(
    secret: &Secret,
    open: Option<&Rotation>,
    version: Option<u64>,
) -> Result<Vec<u64>, Rejection> {
    if let Some(version) = version {
        // Refused where it is unknown, or dead.
        secret.decide_revoke(version)?;
        return Ok(vec![version]);
    }
    let mut versions = secret.alive();
    versions.retain(|version| open.is_none_or(|open| open.version != *version));
    if versions.is_empty() {
        let secret = secret.name.clone();
        return Err(revocation::Rejection::NothingAlive { secret }.into());
    }
    Ok(versions)
}

/// Whether the open rotation brings something else than what is to die. What it has promoted may be what leaked, so
/// that only an older version by name is replaced by it.
fn brings(open: &Rotation, secret: &Secret, version: Option<u64>) -> bool {
    let is_ending = match &open.phase {
        Phase::Performing { step, .. } | Phase::Retrying { step, .. } => {
            matches!(step, Step::RollBack | Step::RevokeOld)
        }
        _ => false,
    };
    let goes_back = open.returning.is_some() || open.aborted.is_some();
    let is_promoted = secret.current == Some(open.version);
    let is_meant = match version {
        Some(version) => version == open.version,
        None => is_promoted,
    };
    !is_ending && !goes_back && !is_meant
}

/// Whether the new version is in use as far as is waited for.
fn is_in_use(open: &Rotation, is_emergency: bool) -> bool {
    let is_promoted = open.phase == Phase::Distributing || open.is_draining();
    is_promoted && open.returning.is_none() && (is_emergency || open.waiting.is_empty())
}

/// A rotation, and its secret, as they are once revocations have begun that waited for it.
pub(super) type Left<'a> = (Cow<'a, Rotation>, Cow<'a, Secret>);

/// Whether somebody needs an old version though nobody waits for them.
pub(super) type IsHeld<'f> = &'f dyn Fn(&Rotation) -> bool;

/// Begins those revocations that waited for what this rotation brought, as it is by now, but for an emergency not while
/// somebody who was told of late is held by an old version. Nothing waits for a host that is let go in the same append.
pub(super) fn take_over<'a>(
    world: &World,
    (rotation, secret): (Cow<'a, Rotation>, &'a Secret),
    (without, is_held): (Option<HostId>, IsHeld<'_>),
    events: &mut Vec<Event>,
) -> Result<Left<'a>, Rejection> {
    let mut left = (rotation, Cow::Borrowed(secret));
    for waiting in world.awaiting(secret.id) {
        let is_emergency = is_emergency(waiting);
        let is_early = !is_emergency && is_held(&left.0);
        if !is_in_use(&left.0, is_emergency) || is_early {
            continue;
        }
        let dying = dying(waiting, &left.1, Some(left.0.version));
        if dying.is_empty() {
            events.extend(needless(waiting.id));
            continue;
        }
        events.extend(begin(world, waiting, &mut left.1, (&dying, without))?);
        left.0.to_mut().give_over(&dying);
    }
    Ok(left)
}

/// Those of its versions that live.
fn dying(waiting: &Revocation, secret: &Secret, made: Option<u64>) -> Vec<u64> {
    let versions = waiting.versions.iter().copied();
    let versions = versions.filter(|version| made != Some(*version));
    versions
        .filter(|version| secret.is_deliverable(*version))
        .collect()
}

/// Whether the person who would have them replaced called it an emergency.
fn is_emergency(waiting: &Revocation) -> bool {
    let asked = waiting.replacement.as_ref();
    asked.is_some_and(|asked| asked.is_emergency)
}

/// Its versions are dead from now on, for the reason and with the urgency that it was wished for.
fn begin(
    world: &World,
    waiting: &Revocation,
    secret: &mut Cow<'_, Secret>,
    (dying, without): (&[u64], Option<HostId>),
) -> Result<Vec<Event>, Rejection> {
    let is_emergency = is_emergency(waiting);
    let why = revoke::Why::of_person(&waiting.reason, is_emergency);
    let requested = revoke::requested(world, secret, (dying, without), why);
    let mut events = Vec::new();
    for version in dying {
        let revoked = secret.decide_revoke(*version)?;
        secret.to_mut().evolve(&revoked);
        events.push(Event::Secret(secret.id, revoked));
    }
    events.extend(revoke::requested_events(waiting.id, requested));
    Ok(events)
}

fn given_up(id: RevocationId, reason: String) -> Event {
    Event::Revocation(id, revocation::Event::ReplacementGivenUp { reason })
}

/// Nothing of it is left to revoke.
fn needless(id: RevocationId) -> [Event; 2] {
    let closed = Event::Revocation(id, revocation::Event::Closed);
    [given_up(id, DEAD_OTHERWISE.to_owned()), closed]
}

/// What a decision means for revocations that wait for a replacement and had no part in it: what they are about died
/// otherwise, or in an emergency the rotation ended that was to bring it.
pub(super) fn follow(world: &World, events: &mut Vec<Event>) -> Result<(), Rejection> {
    let mut further = Vec::new();
    for id in concerned(world, events) {
        let Some(secret) = world.secrets.get(&id) else {
            continue;
        };
        let ended = ended_in(world, id, events);
        let is_hit = |event: &Event| {
            let Event::Secret(of, event) = event else {
                return false;
            };
            *of == id && matches!(event, secret::Event::VersionRevoked { .. })
        };
        if ended.is_none() && !events.iter().any(is_hit) {
            continue;
        }
        let mut after = Cow::Borrowed(secret);
        for event in events.iter() {
            if let Event::Secret(of, event) = event
                && *of == id
            {
                after.to_mut().evolve(event);
            }
        }
        let settled = settled_in(events);
        for waiting in world.awaiting(id).filter(|one| !settled.contains(&one.id)) {
            let is_emergency = is_emergency(waiting);
            let dying = dying(waiting, &after, None);
            if dying.is_empty() {
                further.extend(needless(waiting.id));
            } else if let Some((rotation, outcome)) = ended.filter(|_| is_emergency) {
                further.extend(begin(world, waiting, &mut after, (&dying, None))?);
                let reason = format!("rotation {rotation} {}", ended_as(outcome));
                further.push(given_up(waiting.id, reason));
            }
        }
    }
    events.append(&mut further);
    Ok(())
}

/// Secrets of which a revocation waits, and of which a version dies in a decision or a rotation ends.
fn concerned(world: &World, events: &[Event]) -> BTreeSet<SecretId> {
    let secret = |event: &Event| match event {
        Event::Secret(id, secret::Event::VersionRevoked { .. }) => Some(*id),
        Event::Rotation(id, rotation::Event::Closed { .. }) => {
            world.rotations.get(id).map(|run| run.secret)
        }
        _ => None,
    };
    let waits = |id: &SecretId| world.awaiting(*id).next().is_some();
    events.iter().filter_map(secret).filter(waits).collect()
}

/// Revocations that a decision begins, or ends.
fn settled_in(events: &[Event]) -> BTreeSet<RevocationId> {
    let settles = |event: &Event| match event {
        Event::Revocation(id, revocation::Event::Requested { .. } | revocation::Event::Closed) => {
            Some(*id)
        }
        _ => None,
    };
    events.iter().filter_map(settles).collect()
}

/// The rotation of a secret that a decision ends before it was through.
fn ended_in<'e>(
    world: &World,
    secret: SecretId,
    events: &'e [Event],
) -> Option<(RotationId, &'e Outcome)> {
    events.iter().find_map(|event| match event {
        Event::Rotation(id, rotation::Event::Closed { outcome }) => {
            let is_of_it = world
                .rotations
                .get(id)
                .is_some_and(|run| run.secret == secret);
            (is_of_it && *outcome != Outcome::Completed).then_some((*id, outcome))
        }
        _ => None,
    })
}

const fn ended_as(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "was completed",
        Outcome::RolledBack => "was rolled back, and brought none",
        Outcome::Parked => "was parked before it brought one",
        Outcome::Cancelled => "was cancelled by another revocation",
    }
}
