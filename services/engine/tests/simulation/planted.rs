//! Bugs that the simulation has to find. They are planted where decisions and the fold come out of the
//! core, so no switch for them is in the product; what they do is what the bug in the core would do.

use keywheel_core::command::Command;
use keywheel_core::decision::{Refusal, Rejection};
use keywheel_core::effect::Part;
use keywheel_core::event::Event;
use keywheel_core::id::{ContainerId, RotationId, SecretId};
use keywheel_core::lease;
use keywheel_core::plan::HostPlan;
use keywheel_core::report::Fact;
use keywheel_core::revocation;
use keywheel_core::rollout;
use keywheel_core::rotation::{self, Outcome, Phase, Rotation, Step, Trigger};
use keywheel_core::secret;
use keywheel_core::world::World;

mod orders;
mod runs;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// The old version is revoked as soon as the new one is promoted, whoever still runs on it.
    RevokeBeforeAcknowledgement,
    /// A rotation waits for the consumers it knows, and for no host that may start others.
    StartEscapesBarrier,
    /// What is dead is one number: everything up to it.
    FloorInsteadOfDeadSet,
    /// The old version is revoked at the first answer about its sessions, whatever it says.
    RevokeBeforeDrained,
    /// What the gateway decides on is no more what its log says.
    WorldBesideLog,
    /// A deadline that passes kills the old version, whatever its secret says.
    ForceUnasked,
    /// A version that consumers move back from dies before they have.
    DiesOnTheWayBack,
    /// Everybody who waits for leave to restart gets it.
    LeaveForAll,
    /// Containers that are no canaries get what is not promoted.
    PendingForAll,
    /// What a canary does not run well with is promoted.
    PromotedUnwell,
    /// A container that asks for a login and has one gets another one.
    AnotherForWhoAsks,
    /// A login whose making was cut off is made once more.
    MintsTwice,
    /// The end of a login that its container needs no more is asked of nobody.
    OrphanLeft,
    /// What a swap replaced ends while its container still has it.
    EndsBeforeSwapped,
    /// A data key goes as soon as the server says that it did its part.
    DestroyedUnproven,
    /// A host that was away is told what is new, and not what died.
    ReturnsWithoutFloor,
    /// Who has a revocation given up and says so twice counts for two.
    ForgetsAlone,
    /// What is revoked is brought on.
    RotatesOn,
    /// A revocation closes though a host may hold what it is about.
    ClosedWhileHeld,
    /// A step that comes late has a server accept what was revoked.
    SetsWhatIsRevoked,
    /// A rotation destroys what a revocation has to prove dead.
    RetiresUnproven,
    /// Sessions are waited for only where a secret says so.
    DrainsOnlyWhereAsked,
    /// A step that was under way when the gateway died begins once more.
    BeginsAgain,
    /// Who approves twice counts for two.
    CountsTwice,
    /// Who starts a run approves it.
    ApprovesOwn,
    /// A step begins before those it follows have ended.
    BeginsEarly,
    /// A run that was cancelled goes on.
    CancelledGoesOn,
    /// A run goes on whose run above was cancelled.
    BelowGoesOn,
    /// A run that was paused begins one step more.
    PausedGoesOn,
    /// A step that waits for a proof takes the server's word.
    ProvenByWord,
    /// A restart that was begun is not written down before the engine is asked.
    RestartsTwice,
    /// A plan says nothing of who is in quarantine.
    GivesInQuarantine,
    /// All containers of a step restart together.
    RestartsAll,
    /// An order counts as done when it is given.
    DoneUntold,
    /// An order that is taken back keeps its room.
    KeepsRoom,
}

pub(crate) const ALL: [Planted; 35] = [
    Planted::RevokeBeforeAcknowledgement,
    Planted::StartEscapesBarrier,
    Planted::FloorInsteadOfDeadSet,
    Planted::RevokeBeforeDrained,
    Planted::WorldBesideLog,
    Planted::ForceUnasked,
    Planted::DiesOnTheWayBack,
    Planted::LeaveForAll,
    Planted::PendingForAll,
    Planted::PromotedUnwell,
    Planted::AnotherForWhoAsks,
    Planted::MintsTwice,
    Planted::OrphanLeft,
    Planted::EndsBeforeSwapped,
    Planted::DestroyedUnproven,
    Planted::ReturnsWithoutFloor,
    Planted::ForgetsAlone,
    Planted::RotatesOn,
    Planted::ClosedWhileHeld,
    Planted::SetsWhatIsRevoked,
    Planted::RetiresUnproven,
    Planted::DrainsOnlyWhereAsked,
    Planted::BeginsAgain,
    Planted::CountsTwice,
    Planted::ApprovesOwn,
    Planted::BeginsEarly,
    Planted::CancelledGoesOn,
    Planted::BelowGoesOn,
    Planted::PausedGoesOn,
    Planted::ProvenByWord,
    Planted::RestartsTwice,
    Planted::GivesInQuarantine,
    Planted::RestartsAll,
    Planted::DoneUntold,
    Planted::KeepsRoom,
];

impl Planted {
    /// What the decision would have been with the bug.
    pub(crate) fn spoil(self, world: &World, command: &Command, events: &mut Vec<Event>) {
        match self {
            Self::RevokeBeforeAcknowledgement => revoke_at_once(events),
            Self::RevokeBeforeDrained => believe_any_answer(events),
            Self::StartEscapesBarrier => forget_hosts(events),
            Self::ForceUnasked => force_unasked(world, events),
            Self::DiesOnTheWayBack => roll_back_at_once(world, events),
            Self::LeaveForAll => give_leave(events),
            Self::PromotedUnwell => promote_unwell(world, events),
            Self::AnotherForWhoAsks => give_another(world, command, events),
            Self::OrphanLeft => leave_orphan(events),
            Self::EndsBeforeSwapped => end_at_once(world, events),
            Self::DestroyedUnproven => destroy_unproven(world, events),
            Self::RotatesOn => rotate_on(events),
            Self::ClosedWhileHeld => close_while_held(world, events),
            Self::RetiresUnproven => retire_unproven(world, events),
            Self::DrainsOnlyWhereAsked => drain_only_where_asked(world, events),
            Self::BeginsEarly => runs::begin_early(world, command, events),
            Self::CancelledGoesOn => runs::forget_cancel(events),
            Self::BelowGoesOn => runs::forget_below(command, events),
            Self::PausedGoesOn => runs::begin_paused(world, events),
            Self::ProvenByWord => runs::prove_by_word(world, events),
            Self::RestartsAll => orders::restart_all(world, events),
            Self::DoneUntold => orders::count_as_done(events),
            Self::KeepsRoom => orders::keep_room(events),
            Self::FloorInsteadOfDeadSet
            | Self::WorldBesideLog
            | Self::PendingForAll
            | Self::MintsTwice
            | Self::ReturnsWithoutFloor
            | Self::ForgetsAlone
            | Self::SetsWhatIsRevoked
            | Self::BeginsAgain
            | Self::CountsTwice
            | Self::ApprovesOwn
            | Self::RestartsTwice
            | Self::GivesInQuarantine => {}
        }
    }

    /// What a run's first move after a crash would have been with the bug.
    pub(crate) fn spoil_after_crash(self, world: &World, events: &mut Vec<Event>) {
        if self == Self::BeginsAgain {
            runs::begin_again(world, events);
        }
    }

    /// What would have been decided with the bug where it is refused.
    pub(crate) fn let_pass(self, command: &Command, refusal: &Refusal) -> Option<Vec<Event>> {
        let Rejection::Revocation(revocation::Rejection::SecondPrincipal(id)) = refusal.reason
        else {
            return runs::approve(self, command, refusal);
        };
        let Command::ForgetRevocation { by, reason, .. } = command else {
            return None;
        };
        let forgotten = revocation::Event::Forgotten {
            by: by.clone(),
            reason: reason.clone(),
        };
        (self == Self::ForgetsAlone).then(|| vec![Event::Revocation(id, forgotten)])
    }

    /// What a host's plan would say with the bug; a host that was away had another.
    pub(crate) fn spoil_plan(self, plan: &mut HostPlan, had: Option<&HostPlan>) {
        if let (Self::ReturnsWithoutFloor, Some(had)) = (self, had) {
            leave_as_it_was(plan, had);
        }
        if self == Self::GivesInQuarantine {
            orders::forget_quarantines(plan);
        }
        if self != Self::PendingForAll {
            return;
        }
        for staged in plan.staged.iter().filter(|one| !one.canaries.is_empty()) {
            let mut bindings = plan.bindings.iter_mut();
            while let Some(binding) = bindings.find(|one| one.secret == staged.secret) {
                binding.current = Some(staged.grant);
            }
        }
    }

    /// What the gateway's memory would be after an event with the bug, beside its log.
    pub(crate) fn spoil_memory(self, world: &mut World, event: &Event) {
        if let (
            Self::WorldBesideLog,
            Event::Rotation(id, rotation::Event::HostBarrierAcknowledged { .. }),
        ) = (self, event)
            && let Some(rotation) = world.rotations.get_mut(id)
        {
            rotation.acknowledged.clear();
        }
    }

    /// What the world would be after an event with the bug.
    pub(crate) fn spoil_fold(self, world: &mut World, event: &Event) {
        if let (
            Self::FloorInsteadOfDeadSet,
            Event::Secret(id, secret::Event::VersionRevoked { version }),
        ) = (self, event)
            && let Some(secret) = world.secrets.get_mut(id)
        {
            secret.floor = secret.floor.max(*version);
            secret.dead.clear();
        }
    }
}

/// What died meanwhile is alive to it.
fn leave_as_it_was(plan: &mut HostPlan, had: &HostPlan) {
    for planned in &mut plan.bindings {
        let mut before = had.bindings.iter();
        let before = before.find(|one| {
            (one.binding, one.secret) == (planned.binding, planned.secret) && one.current.is_some()
        });
        if let Some(before) = before {
            planned.current = before.current;
            planned.floor = before.floor;
            planned.dead.clone_from(&before.dead);
        }
    }
}

fn destroy_unproven(world: &World, events: &mut Vec<Event>) {
    let confirmed = events.iter().find_map(|event| match event {
        Event::Revocation(id, revocation::Event::BackendConfirmed) => world.revocations.get(id),
        _ => None,
    });
    let Some(open) = confirmed.filter(|open| open.part == Part::Disable) else {
        return;
    };
    let destroyed = open.versions.iter().map(|version| {
        let destroyed = secret::Event::VersionDestroyed { version: *version };
        Event::Secret(open.secret, destroyed)
    });
    events.extend(destroyed);
    let destroyed = revocation::Event::Destroyed;
    events.push(Event::Revocation(open.id, destroyed));
}

fn rotate_on(events: &mut Vec<Event>) {
    let is_request = |event: &Event| {
        matches!(
            event,
            Event::Revocation(_, revocation::Event::Requested { .. })
        )
    };
    let cancelled = rotation::Event::Closed {
        outcome: Outcome::Cancelled,
    };
    if events.iter().any(is_request) {
        events.retain(|event| !matches!(event, Event::Rotation(_, own) if *own == cancelled));
    }
}

fn close_while_held(world: &World, events: &mut Vec<Event>) {
    let destroyed = events.iter().find_map(|event| match event {
        Event::Revocation(id, revocation::Event::Destroyed) => world.revocations.get(id),
        _ => None,
    });
    if let Some(open) = destroyed.filter(|open| !open.waiting.is_empty()) {
        events.push(Event::Revocation(open.id, revocation::Event::Closed));
    }
}

fn retire_unproven(world: &World, events: &mut Vec<Event>) {
    let ended = rotation::Event::StepCompleted {
        step: Step::RevokeOld,
    };
    let retired = events.iter().find_map(|event| match event {
        Event::Rotation(id, own) if *own == ended => known(world, *id),
        _ => None,
    });
    if let Some(open) = retired {
        let old = open.old.iter().copied();
        let needed = old.filter(|version| world.awaits_proof(open.secret, *version));
        let destroyed = needed.map(|version| secret::Event::VersionDestroyed { version });
        events.extend(destroyed.map(|event| Event::Secret(open.secret, event)));
    }
}

fn revoke_at_once(events: &mut Vec<Event>) {
    let promoted = events.iter().find_map(|event| match event {
        Event::Secret(id, secret::Event::VersionPromoted { .. }) => Some(*id),
        _ => None,
    });
    let waits = events.iter().find_map(|event| match event {
        Event::Rotation(
            id,
            rotation::Event::DistributionStarted {
                consumers,
                hosts,
                old,
                ..
            },
        ) if !(consumers.is_empty() && hosts.is_empty()) => Some((*id, old.clone())),
        _ => None,
    });
    let (Some(secret), Some((rotation, old))) = (promoted, waits) else {
        return;
    };
    let died = old
        .iter()
        .map(|version| secret::Event::VersionRevoked { version: *version });
    events.extend(died.map(|event| Event::Secret(secret, event)));
    let step = rotation::Event::StepStarted {
        step: Step::RevokeOld,
        attempt: 1,
    };
    events.push(Event::Rotation(rotation, step));
}

fn believe_any_answer(events: &mut Vec<Event>) {
    let left = events.iter().position(|event| {
        matches!(
            event,
            Event::Rotation(_, rotation::Event::SessionsLeft { .. })
        )
    });
    let Some(at) = left else {
        return;
    };
    if let Event::Rotation(rotation, _) = events.remove(at) {
        let step = Step::RevokeOld;
        let begun = rotation::Event::StepStarted { step, attempt: 1 };
        events.insert(at, Event::Rotation(rotation, begun));
    }
}

fn drain_only_where_asked(world: &World, events: &mut Vec<Event>) {
    let is_unsaid = |open: &Rotation| {
        let secret = world.secrets.get(&open.secret);
        secret.is_some_and(|secret| secret.spec.rotation.ack.is_none())
    };
    let asks = events.iter().position(|event| {
        matches!(event, Event::Rotation(id, rotation::Event::StepStarted { step: Step::Drain, .. })
            if known(world, *id).is_some_and(|open| open.returning.is_none() && is_unsaid(open)))
    });
    let Some(at) = asks else {
        return;
    };
    if let Event::Rotation(id, _) = events.remove(at)
        && let Some(open) = known(world, id)
    {
        die(world, open, &open.old, Step::RevokeOld, events);
    }
}

fn forget_hosts(events: &mut [Event]) {
    for event in events {
        if let Event::Rotation(_, rotation::Event::DistributionStarted { hosts, .. }) = event {
            hosts.clear();
        }
    }
}

fn force_unasked(world: &World, events: &mut Vec<Event>) {
    let parks = rotation::Event::Closed {
        outcome: Outcome::Parked,
    };
    let parked = events.iter().position(|event| {
        matches!(event, Event::Rotation(id, own)
            if *own == parks && known(world, *id).is_some_and(|open| open.returning.is_none()))
    });
    let Some(at) = parked else {
        return;
    };
    if let Event::Rotation(id, _) = events.remove(at)
        && let Some(open) = known(world, id)
    {
        events.push(Event::Rotation(id, rotation::Event::Forced));
        die(world, open, &open.old, Step::RevokeOld, events);
    }
}

fn roll_back_at_once(world: &World, events: &mut Vec<Event>) {
    let turned = events.iter().find_map(|event| match event {
        Event::Rotation(id, rotation::Event::TurnedBack { consumers, .. })
            if !consumers.is_empty() =>
        {
            Some(*id)
        }
        _ => None,
    });
    if let Some(open) = turned.and_then(|id| known(world, id)) {
        die(world, open, &[open.version], Step::RollBack, events);
    }
}

fn known(world: &World, id: RotationId) -> Option<&Rotation> {
    world.rotations.get(&id)
}

fn die(world: &World, open: &Rotation, versions: &[u64], step: Step, events: &mut Vec<Event>) {
    let secret = world.secrets.get(&open.secret);
    let is_alive = |version: &u64| secret.is_some_and(|secret| secret.is_deliverable(*version));
    for version in versions.iter().copied().filter(is_alive) {
        let revoked = secret::Event::VersionRevoked { version };
        events.push(Event::Secret(open.secret, revoked));
    }
    let begun = rotation::Event::StepStarted { step, attempt: 1 };
    events.push(Event::Rotation(open.id, begun));
}

fn give_leave(events: &mut Vec<Event>) {
    let asked: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Rollout(service, rollout::Event::Asked { instance, .. }) => {
                Some((service.clone(), instance.clone()))
            }
            _ => None,
        })
        .collect();
    for (service, instance) in asked {
        let given = rollout::Event::LeaveGiven {
            instance,
            not_before: None,
        };
        let given = Event::Rollout(service, given);
        if !events.contains(&given) {
            events.push(given);
        }
    }
}

fn promote_unwell(world: &World, events: &mut Vec<Event>) {
    let halted = events.iter().position(|event| {
        matches!(event, Event::Rotation(id, rotation::Event::Halted { .. })
            if known(world, *id).is_some_and(|open| open.phase == Phase::Canary))
    });
    let Some(at) = halted else {
        return;
    };
    // What follows is their way back.
    let first = events.drain(at..).next();
    if let Some(Event::Rotation(id, _)) = first {
        let step = Step::Finish;
        let begun = rotation::Event::StepStarted { step, attempt: 1 };
        for event in [rotation::Event::CanaryPassed, begun] {
            events.push(Event::Rotation(id, event));
        }
    }
}

fn give_another(world: &World, command: &Command, events: &mut Vec<Event>) {
    let Command::Report(report) = command else {
        return;
    };
    let wants = report.items.iter().filter(|one| one.fact == Fact::Wanted);
    let asked: Vec<(SecretId, &ContainerId)> =
        wants.map(|one| (one.secret, &one.container)).collect();
    for (declared, container) in asked {
        let id = lease::secret_of(declared, container);
        let secret = world.secrets.get(&id);
        let has_one = secret.filter(|one| one.current.is_some() && one.pending.is_none());
        let Some(secret) = has_one.filter(|_| world.open_rotation(id).is_none()) else {
            continue;
        };
        let version = secret.last_version + 1;
        let mut bytes = *id.bytes();
        bytes[..8].copy_from_slice(&version.to_be_bytes());
        let rotation = RotationId::from_bytes(bytes);
        let staged = secret::Event::VersionStaged { version, rotation };
        events.push(Event::Secret(id, staged));
        let started = rotation::Event::Started {
            secret: id,
            version,
            trigger: Trigger::Initial,
        };
        let step = Step::Create;
        let begun = rotation::Event::StepStarted { step, attempt: 1 };
        events.extend([started, begun].map(|event| Event::Rotation(rotation, event)));
    }
}

fn leave_orphan(events: &mut Vec<Event>) {
    let is_end = |event: &Event| matches!(event, Event::Secret(_, secret::Event::LeaseEnded));
    if events.iter().any(is_end) {
        events.retain(|event| {
            !matches!(
                event,
                Event::Revocation(_, revocation::Event::Requested { .. })
            )
        });
    }
}

fn end_at_once(world: &World, events: &mut Vec<Event>) {
    let waits = events.iter().find_map(|event| match event {
        Event::Rotation(id, rotation::Event::DistributionStarted { consumers, old, .. })
            if !consumers.is_empty() =>
        {
            Some((*id, old.clone()))
        }
        _ => None,
    });
    let Some((id, old)) = waits else {
        return;
    };
    let Some(open) = known(world, id) else {
        return;
    };
    let secret = world.secrets.get(&open.secret);
    if secret.is_none_or(|secret| secret.lease_of().is_none()) {
        return;
    }
    let died = old
        .iter()
        .map(|version| secret::Event::VersionRevoked { version: *version });
    events.extend(died.map(|event| Event::Secret(open.secret, event)));
    let closed = rotation::Event::Closed {
        outcome: Outcome::Completed,
    };
    events.push(Event::Rotation(id, closed));
    let requested = revocation::Event::Requested {
        secret: open.secret,
        versions: old,
        hosts: Vec::new(),
        reason: "its container has another one".to_owned(),
        is_to_prove: false,
        is_emergency: false,
    };
    events.push(Event::Revocation(lease::end_of(id), requested));
}
