//! Bugs that the simulation has to find. They are planted where decisions and the fold come out of the
//! core, so no switch for them is in the product; what they do is what the bug in the core would do.

use keywheel_core::event::Event;
use keywheel_core::rotation::{self, Step};
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
}

pub(crate) const ALL: [Planted; 4] = [
    Planted::RevokeBeforeAcknowledgement,
    Planted::StartEscapesBarrier,
    Planted::FloorInsteadOfDeadSet,
    Planted::RevokeBeforeDrained,
];

impl Planted {
    /// What the decision would have been with the bug.
    pub(crate) fn spoil(self, events: &mut Vec<Event>) {
        match self {
            Self::RevokeBeforeAcknowledgement => revoke_at_once(events),
            Self::RevokeBeforeDrained => believe_any_answer(events),
            Self::StartEscapesBarrier => forget_hosts(events),
            Self::FloorInsteadOfDeadSet => {}
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
