//! Decisions of a rotation: start, each step's outcome, promotion with distribution, and the end.

use std::borrow::Cow;

use super::{
    Context, Rejection, canary, drain, lease, replace, revoke, rollout, secret_or_reject, staging,
};
use crate::assignment::{self, Assignment};
use crate::event::Event;
use crate::id::{DeliveryId, HostId, RotationId, SecretId, SlotId};
use crate::name::SecretName;
use crate::rotation::{self, MAX_SLOT_SKEW, Outcome, Rotation, Sessions, Step, Trigger};
use crate::secret::{self, Generator, Secret};
use crate::store::RemoteVersion;
use crate::time::Timestamp;
use crate::world::World;

pub(super) fn start(
    world: &World,
    secret: &Secret,
    id: RotationId,
    trigger: Trigger,
    _ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    start_after(world, secret, (id, trigger), None)
}

/// The same, where a rotation of it ends in the same append.
pub(super) fn start_after(
    world: &World,
    secret: &Secret,
    (id, trigger): (RotationId, Trigger),
    ending: Option<RotationId>,
) -> Result<Vec<Event>, Rejection> {
    let has_value = matches!(trigger, Trigger::Provided | Trigger::External { .. });
    secret.refuse_lease(has_value)?;
    lease::refuse_host(world, secret)?;
    let open = world.open_rotation(secret.id);
    if let Some(open) = open.filter(|open| Some(open.id) != ending) {
        let secret = secret.name.clone();
        return Err(rotation::Rejection::AlreadyOpen {
            secret,
            rotation: open.id,
        }
        .into());
    }
    if world.rotations.contains_key(&id) {
        return Err(rotation::Rejection::IdTaken(id).into());
    }
    let is_made = secret.spec.generator.is_some() || secret.lease_of().is_some();
    if !is_made && !has_value {
        return Err(rotation::Rejection::NoGenerator {
            secret: secret.name.clone(),
        }
        .into());
    }
    let staged = secret.decide_stage(id)?;
    let version = secret.last_version.saturating_add(1);
    let started = rotation::Event::Started {
        secret: secret.id,
        version,
        trigger,
    };
    let create = rotation::Event::StepStarted {
        step: Step::Create,
        attempt: 1,
    };
    Ok(vec![
        Event::Secret(secret.id, staged),
        Event::Rotation(id, started),
        Event::Rotation(id, create),
    ])
}

pub(super) fn on_demand(
    world: &World,
    id: RotationId,
    name: &SecretName,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    start(
        world,
        secret_or_reject(world, name)?,
        id,
        Trigger::OnDemand,
        ctx,
    )
}

pub(super) fn put(
    world: &World,
    id: SecretId,
    rotation: RotationId,
    name: &SecretName,
    provided: bool,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let trigger = if provided {
        Trigger::Provided
    } else {
        Trigger::OnDemand
    };
    if let Some(known) = world.secret_named(name) {
        // Of a lease its store alone makes a value, also where none was given.
        known.refuse_lease(known.lease_of().is_some())?;
        if provided || known.spec.generator.is_some() {
            return start(world, known, rotation, trigger, ctx);
        }
        known.refuse_making()?;
        let mut wish = known.clone();
        wish.spec.generator = Some(Generator::default());
        let changed = secret::Event::SpecChanged {
            spec: wish.spec.clone(),
        };
        let mut events = vec![Event::Secret(known.id, changed)];
        events.extend(start(world, &wish, rotation, trigger, ctx)?);
        return Ok(events);
    }
    lease::refuse_lease_name(name)?;
    let generator = (!provided).then(Generator::default);
    let spec = secret::Spec {
        generator,
        ..secret::Spec::default()
    };
    let registered = secret::Event::Registered {
        name: name.clone(),
        spec: spec.clone(),
    };
    let fresh = Secret::registered(id, name.clone(), spec);
    let mut events = vec![Event::Secret(id, registered)];
    events.extend(start(world, &fresh, rotation, trigger, ctx)?);
    Ok(events)
}

pub(super) fn due(
    world: &World,
    id: RotationId,
    secret: SecretId,
    (slot, scheduled, tzdata): (SlotId, Timestamp, &Option<String>),
    after: Option<u64>,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let Some(secret) = world.secrets.get(&secret) else {
        return Err(rotation::Rejection::Unknown(id).into());
    };
    let policy = &secret.spec.rotation;
    let is_wanted = match after {
        Some(_) => !policy.on_event.is_empty(),
        None => policy.is_automatic(),
    };
    if !is_wanted {
        return Err(rotation::Rejection::NotScheduled {
            secret: secret.name.clone(),
        }
        .into());
    }
    if let Some(event) = after {
        // What served an event is the log's order to say, whatever clocks do.
        if world
            .last_start(secret.id)
            .is_some_and(|start| start >= event)
        {
            return Err(rotation::Rejection::SlotServed {
                secret: secret.name.clone(),
            }
            .into());
        }
        let trigger = Trigger::Slot {
            slot,
            scheduled: scheduled.min(ctx.now),
            tzdata: tzdata.clone(),
        };
        return start(world, secret, id, trigger, ctx);
    }
    if scheduled > ctx.now.plus(MAX_SLOT_SKEW) {
        return Err(rotation::Rejection::SlotEarly {
            secret: secret.name.clone(),
        }
        .into());
    }
    if world
        .last_slot(secret.id)
        .is_some_and(|last| scheduled <= last)
    {
        return Err(rotation::Rejection::SlotServed {
            secret: secret.name.clone(),
        }
        .into());
    }
    let trigger = Trigger::Slot {
        slot,
        scheduled,
        tzdata: tzdata.clone(),
    };
    start(world, secret, id, trigger, ctx)
}

pub(super) fn open(world: &World, id: RotationId) -> Result<(&Rotation, &Secret), Rejection> {
    let rotation = world
        .rotations
        .get(&id)
        .ok_or(rotation::Rejection::Unknown(id))?;
    let secret = world
        .secrets
        .get(&rotation.secret)
        .ok_or(rotation::Rejection::Unknown(id))?;
    Ok((rotation, secret))
}

/// What a worker says about a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) step: Step,
    pub(super) attempt: u32,
    pub(super) failure: Option<rotation::Failure<'a>>,
    /// What is current at the store outside after `finish`.
    pub(super) remote: Option<&'a RemoteVersion>,
    /// What the backend says of sessions after `drain`.
    pub(super) sessions: Option<Sessions>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(
        (step, attempt): (Step, u32),
        failure: Option<rotation::Failure<'a>>,
        (remote, sessions): (Option<&'a RemoteVersion>, Option<Sessions>),
    ) -> Self {
        Self {
            step,
            attempt,
            failure,
            remote,
            sessions,
        }
    }
}

pub(super) fn outcome(
    world: &World,
    id: RotationId,
    answer: &Answer<'_>,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let (rotation, secret) = open(world, id)?;
    let (step, failure) = (answer.step, answer.failure);
    let mut own = rotation.decide_outcome(step, answer.attempt, failure)?;
    if own.len() == 1 && is_overtaken(rotation, secret, (step, failure)) {
        own.push(rotation::Event::StepStarted {
            step: Step::RollBack,
            attempt: 1,
        });
    }
    if step == Step::Drain && failure.is_none() {
        return drain::counted(rotation, secret, answer, ctx);
    }
    let is_made = step == Step::Create && failure.is_none() && !rotation.is_given_up_at(step);
    if is_made && let Some(staged) = staging::begin(world, rotation, secret, ctx)? {
        return Ok(staged);
    }
    let is_tested = step == Step::Test && failure.is_none() && !rotation.is_given_up_at(step);
    if is_tested && let Some(begun) = canary::begin(world, rotation, secret, ctx)? {
        return Ok(begun);
    }
    let mut events = in_order(world, (rotation, secret), own, ctx.now)?;
    events.extend(staging::cut_over(
        rotation,
        secret,
        (step, failure),
        ctx.now,
    ));
    if failure.is_some() {
        events.extend(lease::left_to_end(world, rotation, secret, answer)?);
        events.extend(rollout::released(world, id, ctx));
        return Ok(events);
    }
    match step {
        Step::Finish if !rotation.is_open() => {
            // What was revoked meanwhile is current there now: no news from outside.
            events.extend(note_remote(rotation, secret, answer));
        }
        Step::Finish => {
            events.extend(promote(world, rotation, secret, answer, ctx)?);
            events.extend(rollout::released(world, id, ctx));
        }
        Step::RevokeOld => {
            let retired = secret.written_before(rotation.version).into_iter();
            events.extend(retired.map(|remote| {
                Event::Secret(secret.id, secret::Event::RemoteVersionRetired { remote })
            }));
            for version in rotation::retired_by(world, rotation) {
                let destroyed = secret.decide_destroy(version)?;
                events.extend(destroyed.map(|event| Event::Secret(secret.id, event)));
            }
        }
        Step::RollBack => events.extend(rolled_back(rotation, secret)?),
        Step::Create | Step::Set | Step::Test | Step::Drain => {
            if secret.lease_of().is_some() {
                // From here on the log knows which one it is to end.
                events.extend(note_remote(rotation, secret, answer));
            }
            if rotation.is_given_up_at(step) {
                events.extend(rollout::released(world, id, ctx));
            }
        }
    }
    Ok(events)
}

/// Whether what a server made for a rotation is not current there any more, and never will be: another
/// attempt would find the same, and the look after the roll-back takes over what is there.
fn is_overtaken(
    rotation: &Rotation,
    secret: &Secret,
    (step, failure): (Step, Option<rotation::Failure<'_>>),
) -> bool {
    let is_said = failure.is_some_and(|failure| !failure.is_away);
    let is_ours = !matches!(rotation.trigger, Trigger::External { .. });
    let looks_there = matches!(step, Step::Test | Step::Finish);
    is_said && is_ours && looks_there && rotation.is_open() && secret.is_made_there()
}

/// A rotation's own events; what hosts have of a version that is rolled back is dead before that begins. Canaries
/// move back before both.
fn in_order(
    world: &World,
    (rotation, secret): (&Rotation, &Secret),
    own: Vec<rotation::Event>,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let mut events = Vec::new();
    for event in own {
        let begins_back = rotation::Event::StepStarted {
            step: Step::RollBack,
            attempt: 1,
        };
        if event == begins_back && rotation.has_canaries() {
            events.extend(canary::given_up(world, rotation, secret, now)?);
            continue;
        }
        if event == begins_back {
            events.extend(staging::dying(rotation, secret)?);
        }
        events.push(Event::Rotation(rotation.id, event));
    }
    Ok(events)
}

/// Nothing is left of its version, neither at the server nor in the cache.
fn rolled_back(rotation: &Rotation, secret: &Secret) -> Result<Vec<Event>, Rejection> {
    let version = rotation.version;
    let mut events = Vec::new();
    if secret.lease_of().is_some() {
        let ended = secret.remotes_of(&[version]).into_iter();
        events.extend(ended.map(|remote| {
            Event::Secret(secret.id, secret::Event::RemoteVersionRetired { remote })
        }));
    }
    if secret.is_deliverable(version) {
        let revoked = secret.decide_revoke(version)?;
        events.push(Event::Secret(secret.id, revoked));
        let destroyed = secret::Event::VersionDestroyed { version };
        events.push(Event::Secret(secret.id, destroyed));
    } else {
        // A revocation may have taken the version already, consumers had run on it, or hosts had it.
        let destroyed = secret.decide_destroy(version)?;
        events.extend(destroyed.map(|event| Event::Secret(secret.id, event)));
    }
    // Last, since what is destroyed is forgotten of somebody else's versions.
    if rotation.aborted.is_some() {
        events.extend(revoke::taken_over(secret, rotation));
    }
    Ok(events)
}

/// Promotes the new version, assigns it to every consumer and grants it to every host, in one
/// append: no consumer can start on the old version afterwards.
fn promote(
    world: &World,
    rotation: &Rotation,
    secret: &Secret,
    answer: &Answer<'_>,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let version = rotation.version;
    let mut events = vec![Event::Secret(secret.id, secret.decide_promote(version)?)];
    events.extend(note_remote(rotation, secret, answer));
    for (count, host) in (1..).zip(world.hosts_of(secret.id)) {
        let delivery = DeliveryId::from_bytes(ctx.id(count));
        let delivered = secret.decide_deliver(host, version, delivery)?;
        events.extend(delivered.map(|event| Event::Secret(secret.id, event)));
    }
    let mut consumers = Vec::new();
    let served = |(_, assignment): &(_, &Assignment)| !assignment.is_unserved();
    for (key, assignment) in world.consumers(secret.id).filter(served) {
        let assigned = assignment::Event::Assigned {
            secret: secret.id,
            version,
            container_name: assignment.container_name.clone(),
            image_digest: assignment.image_digest.clone(),
        };
        events.push(Event::Assignment(key.clone(), assigned));
        consumers.push(key.clone());
    }
    let kept = secret.retains_beside(version);
    let is_old = |v: &u64| *v < version && Some(*v) != kept;
    let old: Vec<u64> = secret.alive().into_iter().filter(is_old).collect();
    let held = |(host, v): &(HostId, u64)| old.contains(v).then_some(*host);
    let mut hosts: Vec<HostId> = secret.delivered.keys().filter_map(held).collect();
    hosts.dedup();
    let started = rotation::Event::DistributionStarted {
        consumers,
        hosts,
        old,
        deadline: ctx.now.plus(secret.spec.rotation.ack_deadline()),
    };
    let mut after = rotation.clone();
    after.evolve(&started);
    events.push(Event::Rotation(rotation.id, started));
    let (after, secret) = replace::take_over(
        world,
        (Cow::Owned(after), secret),
        (None, &|_| false),
        &mut events,
    )?;
    if after.is_settled() {
        match drain::begin(&drain::Seen::of(world), &after, &secret, ctx.now) {
            Some(asked) => events.extend(asked),
            None => events.extend(retire_old(&after, &secret, &after.old)?),
        }
    }
    Ok(events)
}

/// Which version outside is the promoted one: our own write is no change from outside.
fn note_remote(rotation: &Rotation, secret: &Secret, answer: &Answer<'_>) -> Option<Event> {
    secret.place()?;
    let (remote, written) = match &rotation.trigger {
        Trigger::External { remote } => (remote, false),
        _ => (answer.remote?, true),
    };
    let noted = secret::Event::RemoteVersionNoted {
        version: rotation.version,
        remote: remote.clone(),
        written,
    };
    Some(Event::Secret(secret.id, noted))
}

/// Ends the wait for consumers: sessions of the old versions are asked for, or these die at once.
pub(super) fn settled(
    seen: &drain::Seen<'_>,
    open: &Rotation,
    secret: &Secret,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    match drain::begin(seen, open, secret, now) {
        Some(asked) => Ok(asked),
        None => ended(open, secret),
    }
}

/// Ends all waiting: the old versions die, or the new one when consumers moved back.
pub(super) fn ended(open: &Rotation, secret: &Secret) -> Result<Vec<Event>, Rejection> {
    let Some(back) = open.returning else {
        return retire_old(open, secret, &open.old);
    };
    // What is current at a store outside stays so, and without the version before nothing else dies; a
    // person decides. What only canaries had was current nowhere.
    let is_kept = secret.stays_outside() || !secret.is_deliverable(back);
    if is_kept && !open.is_canary_return() {
        let outcome = Outcome::Parked;
        return Ok(vec![Event::Rotation(
            open.id,
            rotation::Event::Closed { outcome },
        )]);
    }
    let mut events = Vec::new();
    if secret.is_deliverable(open.version) {
        let revoked = secret.decide_revoke(open.version)?;
        events.push(Event::Secret(secret.id, revoked));
    }
    let step = rotation::Event::StepStarted {
        step: Step::RollBack,
        attempt: 1,
    };
    events.push(Event::Rotation(open.id, step));
    Ok(events)
}

/// Ends the overlap: the old versions die, or there were none and the rotation is complete. Of leases it is complete
/// then, too.
pub(super) fn retire_old(
    open: &Rotation,
    secret: &Secret,
    old: &[u64],
) -> Result<Vec<Event>, Rejection> {
    let (id, version) = (open.id, open.version);
    if secret.lease_of().is_some() {
        return lease::swapped(open, secret, old);
    }
    if let Some(proven) = revoke::retired(open, secret, old)? {
        return Ok(proven);
    }
    let mut events = Vec::new();
    for version in old.iter().filter(|v| secret.is_deliverable(**v)) {
        events.push(Event::Secret(secret.id, secret.decide_revoke(*version)?));
    }
    let retires = !secret.written_before(version).is_empty();
    let next = if old.is_empty() && !retires {
        rotation::Event::Closed {
            outcome: Outcome::Completed,
        }
    } else {
        rotation::Event::StepStarted {
            step: Step::RevokeOld,
            attempt: 1,
        }
    };
    events.push(Event::Rotation(id, next));
    Ok(events)
}

pub(super) fn retry(world: &World, id: RotationId) -> Result<Vec<Event>, Rejection> {
    let (rotation, _) = open(world, id)?;
    Ok(vec![Event::Rotation(id, rotation.decide_retry()?)])
}
