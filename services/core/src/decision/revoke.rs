//! Decisions of a revocation. Revoke beats rotate: an open rotation is cancelled in the same append.

use super::{Rejection, canary, drain, secret_or_reject};
use crate::audit::Principal;
use crate::command::ProofTaken;
use crate::event::Event;
use crate::id::{HostId, RevocationId};
use crate::lease;
use crate::name::SecretName;
use crate::revocation::{self, Revocation};
use crate::rotation::{self, Outcome, Phase, Rotation, Step, Trigger};
use crate::secret::{self, Secret};
use crate::time::Timestamp;
use crate::world::World;

/// Why something is revoked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Why<'r> {
    reason: &'r str,
    is_emergency: bool,
    by_person: bool,
}

impl<'r> Why<'r> {
    /// A person says so, perhaps in an emergency.
    pub(super) const fn of_person(reason: &'r str, is_emergency: bool) -> Self {
        Self {
            reason,
            is_emergency,
            by_person: true,
        }
    }

    /// It follows from a rule.
    pub(super) const fn of_rule(reason: &'r str) -> Self {
        Self {
            reason,
            is_emergency: false,
            by_person: false,
        }
    }
}

pub(super) fn request(
    world: &World,
    id: RevocationId,
    name: &SecretName,
    version: Option<u64>,
    why: Why<'_>,
) -> Result<Vec<Event>, Rejection> {
    let secret = secret_or_reject(world, name)?;
    request_of(world, id, secret, version, why, None)
}

/// The same of a secret that is known by its id. Nothing waits for a host that is let go in the same append.
pub(super) fn request_of(
    world: &World,
    id: RevocationId,
    secret: &Secret,
    version: Option<u64>,
    why: Why<'_>,
    without: Option<HostId>,
) -> Result<Vec<Event>, Rejection> {
    check_reason(why.reason)?;
    let versions = version.map_or_else(|| secret.alive(), |version| vec![version]);
    if versions.is_empty() {
        return Err(revocation::Rejection::NothingAlive {
            secret: secret.name.clone(),
        }
        .into());
    }
    let (mut versions, beaten) = struck(world, secret, &versions);
    let (mut events, mut later) = (Vec::new(), Vec::new());
    for version in &versions {
        events.push(Event::Secret(secret.id, secret.decide_revoke(*version)?));
    }
    if let Some(open) = world.open_rotation(secret.id) {
        if beaten.is_some() {
            events.extend(taken_over(secret, open));
            let cancelled = rotation::Event::Closed {
                outcome: Outcome::Cancelled,
            };
            events.push(Event::Rotation(open.id, cancelled));
            versions.extend(left_over(world, secret, open));
            versions.sort_unstable();
            versions.dedup();
        } else if open.is_draining() {
            // It leaves to the revocation what that has to prove, so it has to be there.
            later = drained(open, secret, &versions)?;
        } else if secret.current.is_some_and(|old| versions.contains(&old)) {
            events.extend(canary::hurried(open));
        }
    }
    let requested = requested(world, secret, (&versions, without), why);
    events.extend(requested_events(id, requested));
    events.extend(later);
    Ok(events)
}

/// Refuses a reason that no record takes: an incident needs one.
pub(super) fn check_reason(reason: &str) -> Result<(), revocation::Rejection> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(revocation::Rejection::ReasonMissing);
    }
    if reason.chars().count() > revocation::MAX_REASON_CHARS {
        return Err(revocation::Rejection::ReasonTooLong);
    }
    Ok(())
}

/// That these versions of a secret, as it is before they die, are dead from now on.
pub(super) fn requested(
    world: &World,
    secret: &Secret,
    (versions, without): (&[u64], Option<HostId>),
    why: Why<'_>,
) -> revocation::Event {
    let mut hosts = hosts_holding(world, secret, versions);
    hosts.retain(|host| without != Some(*host));
    revocation::Event::Requested {
        secret: secret.id,
        is_to_prove: is_to_prove(world, secret, versions)
            || (why.by_person && secret.lease_of().is_some()),
        versions: versions.to_vec(),
        hosts,
        reason: why.reason.trim().to_owned(),
        is_emergency: why.is_emergency,
    }
}

/// A request, and what is true with it: where no host may hold one of them, they are gone everywhere.
pub(super) fn requested_events(id: RevocationId, requested: revocation::Event) -> Vec<Event> {
    let mut after = Revocation::new(id);
    after.evolve(&requested);
    let mut events = vec![Event::Revocation(id, requested)];
    if after.waiting.is_empty() {
        let everywhere = revocation::Event::WithdrawnEverywhere;
        events.push(Event::Revocation(id, everywhere));
    }
    events
}

/// Versions that the rotation had revoked, and whose end its store did not confirm: nobody else asks for it once the
/// rotation is cancelled. What is only kept at a store outside the next rotation retires there, as is declared; what
/// opens an account does not wait for that.
fn left_over(world: &World, secret: &Secret, open: &Rotation) -> Vec<u64> {
    let was_retiring = match &open.phase {
        Phase::Performing { step, .. } | Phase::Retrying { step, .. } => *step == Step::RevokeOld,
        _ => false,
    };
    let is_only_kept = secret.stays_outside() && secret.spec.rotator.is_none();
    if !was_retiring || is_only_kept {
        return Vec::new();
    }
    let is_left = |version: &u64| {
        let is_ended =
            secret.destroyed.contains(version) || world.awaits_proof(secret.id, *version);
        !secret.is_deliverable(*version) && !is_ended
    };
    open.old.iter().copied().filter(is_left).collect()
}

/// What a playbook's rotation replaced dies by a revocation, since that shows that it is dead. `None` where no login is
/// known that could show it, or nothing is left to die. Nobody is waited for: every host said that it holds none of them.
pub(super) fn retired(
    open: &Rotation,
    secret: &Secret,
    old: &[u64],
) -> Result<Option<Vec<Event>>, Rejection> {
    let Some(reason) = reason_of_playbook(open) else {
        return Ok(None);
    };
    let dying = old
        .iter()
        .filter(|version| secret.is_deliverable(**version));
    let versions: Vec<u64> = dying.copied().collect();
    if versions.is_empty() || !has_resource(secret) {
        return Ok(None);
    }
    let mut events = Vec::new();
    for version in &versions {
        events.push(Event::Secret(secret.id, secret.decide_revoke(*version)?));
    }
    // What older versions left at a store outside ends with the rotation, as it always does.
    let left =
        (!secret.written_before(open.version).is_empty()).then_some(rotation::Event::StepStarted {
            step: Step::RevokeOld,
            attempt: 1,
        });
    if left.is_none() {
        let outcome = Outcome::Completed;
        let closed = rotation::Event::Closed { outcome };
        events.push(Event::Rotation(open.id, closed));
    }
    let requested = revocation::Event::Requested {
        secret: secret.id,
        versions,
        hosts: Vec::new(),
        reason,
        is_to_prove: true,
        is_emergency: false,
    };
    events.extend(requested_events(lease::end_of(open.id), requested));
    // After the revocation, to which it leaves the values that the proof needs.
    events.extend(left.map(|step| Event::Rotation(open.id, step)));
    Ok(Some(events))
}

/// Why what a rotation replaced is to be proven dead; `None` where no playbook had it replaced.
pub(super) fn reason_of_playbook(open: &Rotation) -> Option<String> {
    let Trigger::Playbook { run } = open.trigger else {
        return None;
    };
    let rotation = open.id;
    Some(format!(
        "replaced by rotation {rotation} of playbook run {run}"
    ))
}

/// The same where hosts did not say so in time, and are waited for no more: the revocation waits for them.
pub(super) fn waiting_for(open: &Rotation, mut events: Vec<Event>) -> Vec<Event> {
    for event in &mut events {
        if let Event::Revocation(_, revocation::Event::Requested { hosts, .. }) = event {
            *hosts = open.barrier.iter().copied().collect();
        }
    }
    let is_everywhere = |event: &Event| {
        matches!(
            event,
            Event::Revocation(_, revocation::Event::WithdrawnEverywhere)
        )
    };
    events.retain(|event| open.barrier.is_empty() || !is_everywhere(event));
    events
}

/// Whether its versions open accounts of a server that we know, or belong to a receiver.
fn has_resource(secret: &Secret) -> bool {
    secret.spec.rotator.is_some()
}

/// Whether somebody can be asked whether they are dead: they open accounts of a server that we know, or belong
/// to a receiver, and it may have been told of one. Of a lease its store is asked, and the server that the login is for
/// where one is named, where a person revokes it or has its host evicted: not whenever a container is through with its
/// own.
fn is_to_prove(world: &World, secret: &Secret, versions: &[u64]) -> bool {
    let may_be_set = |version: &u64| world.may_be_set(secret.id, *version);
    has_resource(secret) && versions.iter().any(may_be_set)
}

/// Sessions of what is dead are waited for no longer.
fn drained(open: &Rotation, secret: &Secret, dying: &[u64]) -> Result<Vec<Event>, Rejection> {
    let mut left = secret.clone();
    for version in dying {
        left.evolve(&secret::Event::VersionRevoked { version: *version });
    }
    match drain::is_left_to_die(open, &left) {
        true => Ok(Vec::new()),
        false => drain::drained(open, &left),
    }
}

/// What a revocation of these versions kills, and the rotation that ends with them.
pub(super) fn struck<'w>(
    world: &'w World,
    secret: &Secret,
    versions: &[u64],
) -> (Vec<u64>, Option<&'w Rotation>) {
    let mut versions = versions.to_vec();
    let open = world.open_rotation(secret.id);
    // Canaries have nothing to go back to then, and what was never promoted would bar the next rotation.
    let stranded = open.filter(|open| canary::is_stranded(open, secret, &versions));
    versions.extend(stranded.map(|open| open.version));
    let beaten = open.filter(|open| is_beaten(open, &versions));
    (versions, beaten)
}

/// Whether a rotation has nothing left to bring: its version dies, or the one it turns back to. Then its
/// own stays alive: the next rotation retires it.
fn is_beaten(open: &Rotation, versions: &[u64]) -> bool {
    let is_dying = |back: u64| versions.contains(&back);
    let waits = open.phase == Phase::Distributing || open.is_draining();
    let has_no_way_back = waits && open.returning.is_some_and(is_dying);
    versions.contains(&open.version) || has_no_way_back
}

/// What the cancelled or aborted rotation was to take over from outside is known, and is not taken over
/// again by itself.
pub(super) fn taken_over(secret: &Secret, open: &Rotation) -> Option<Event> {
    let Trigger::External { remote } = &open.trigger else {
        return None;
    };
    let noted = secret::Event::RemoteVersionNoted {
        version: open.version,
        remote: remote.clone(),
        written: false,
    };
    Some(Event::Secret(secret.id, noted))
}

fn hosts_holding(world: &World, secret: &Secret, versions: &[u64]) -> Vec<HostId> {
    let granted = secret
        .delivered
        .keys()
        .filter(|(_, v)| versions.contains(v))
        .map(|(host, _)| *host);
    let holding = world
        .consumers(secret.id)
        .filter(|(_, assignment)| versions.contains(&assignment.holds))
        .map(|(key, _)| key.host);
    let mut hosts: Vec<HostId> = granted.chain(holding).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn known(world: &World, id: RevocationId) -> Result<&Revocation, Rejection> {
    world
        .revocations
        .get(&id)
        .ok_or_else(|| revocation::Rejection::Unknown(id).into())
}

pub(super) fn outcome(
    world: &World,
    id: RevocationId,
    attempt: u32,
    failure: Option<&str>,
) -> Result<Vec<Event>, Rejection> {
    let revocation = known(world, id)?;
    let event = revocation.decide_outcome(attempt, failure)?;
    let mut events = Vec::new();
    if event == revocation::Event::BackendConfirmed
        && let Some(secret) = world.secrets.get(&revocation.secret)
    {
        let retired = revocation.retire.iter().cloned();
        events.extend(retired.map(|remote| {
            Event::Secret(secret.id, secret::Event::RemoteVersionRetired { remote })
        }));
    }
    let mut after = revocation.clone();
    after.evolve(&event);
    if after.is_destroyed && !revocation.is_destroyed {
        events.extend(destroyed(world, revocation)?);
        if event != revocation::Event::Destroyed {
            events.push(Event::Revocation(id, revocation::Event::Destroyed));
        }
    }
    events.insert(0, Event::Revocation(id, event));
    events.extend(closed(&after));
    Ok(events)
}

/// What their data keys were is gone.
fn destroyed(world: &World, revocation: &Revocation) -> Result<Vec<Event>, Rejection> {
    let Some(secret) = world.secrets.get(&revocation.secret) else {
        return Ok(Vec::new());
    };
    let mut events = Vec::new();
    for version in &revocation.versions {
        let destroyed = secret.decide_destroy(*version)?;
        events.extend(destroyed.map(|event| Event::Secret(secret.id, event)));
    }
    Ok(events)
}

/// Ends one of which every half is done.
pub(super) fn closed(after: &Revocation) -> Option<Event> {
    let closed = Event::Revocation(after.id, revocation::Event::Closed);
    after.is_done().then_some(closed)
}

/// A host holds none of them any more, or is let go: says so, and what ends with it.
pub(super) fn withdrawn(open: &Revocation, event: revocation::Event, events: &mut Vec<Event>) {
    let is_last = open.is_withdrawn_by(&event);
    let mut after = open.clone();
    after.evolve(&event);
    events.push(Event::Revocation(open.id, event));
    if is_last {
        let everywhere = revocation::Event::WithdrawnEverywhere;
        events.push(Event::Revocation(open.id, everywhere));
    }
    events.extend(closed(&after));
}

/// Takes what came of the logins.
pub(super) fn proof(world: &World, taken: &ProofTaken) -> Result<Vec<Event>, Rejection> {
    let open = known(world, taken.revocation)?;
    let versions = revocation::to_prove(world, open);
    let event = open.decide_proof(taken.attempt, &taken.proof, &versions)?;
    Ok(vec![Event::Revocation(open.id, event)])
}

/// A principal would have the store asked no more.
pub(super) fn forget(
    world: &World,
    id: RevocationId,
    (by, reason): (&Principal, &str),
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let event = known(world, id)?.decide_forget(by, reason, now)?;
    Ok(vec![Event::Revocation(id, event)])
}

pub(super) fn retry(world: &World, id: RevocationId) -> Result<Vec<Event>, Rejection> {
    Ok(vec![Event::Revocation(
        id,
        known(world, id)?.decide_retry()?,
    )])
}
