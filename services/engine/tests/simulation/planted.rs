//! Bugs that the simulation has to find. They are planted where decisions and the fold come out of the
//! core, so no switch for them is in the product; what they do is what the bug in the core would do.

use keywheel_core::event::Event;
use keywheel_core::id::RotationId;
use keywheel_core::rollout;
use keywheel_core::rotation::{self, Outcome, Rotation, Step};
use keywheel_core::secret;
use keywheel_core::world::World;

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
}

pub(crate) const ALL: [Planted; 8] = [
    Planted::RevokeBeforeAcknowledgement,
    Planted::StartEscapesBarrier,
    Planted::FloorInsteadOfDeadSet,
    Planted::RevokeBeforeDrained,
    Planted::WorldBesideLog,
    Planted::ForceUnasked,
    Planted::DiesOnTheWayBack,
    Planted::LeaveForAll,
];

impl Planted {
    /// What the decision would have been with the bug.
    pub(crate) fn spoil(self, world: &World, events: &mut Vec<Event>) {
        match self {
            Self::RevokeBeforeAcknowledgement => revoke_at_once(events),
            Self::RevokeBeforeDrained => believe_any_answer(events),
            Self::StartEscapesBarrier => forget_hosts(events),
            Self::ForceUnasked => force_unasked(world, events),
            Self::DiesOnTheWayBack => roll_back_at_once(world, events),
            Self::LeaveForAll => give_leave(events),
            Self::FloorInsteadOfDeadSet | Self::WorldBesideLog => {}
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
