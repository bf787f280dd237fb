//! What events ask of workers, and which of that a command answers.

use keywheel_core::command::{Command, ProofTaken};
use keywheel_core::effect::{self, Effect};
use keywheel_core::event::Event;
use keywheel_core::world::World;
use keywheel_core::{revocation, rotation};

/// What an event asks of workers.
pub(super) fn react(world: &World, event: &Event) -> Vec<Effect> {
    match event {
        Event::Rotation(id, event) => {
            let Some(open) = world.rotations.get(id) else {
                return Vec::new();
            };
            rotation::react(world, open, event)
        }
        Event::Revocation(id, event) => world
            .revocations
            .get(id)
            .map(|open| revocation::react(world, open, event))
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The effect a command answers. It is closed even when the answer comes too late to count.
pub(super) fn answered_effect(command: &Command) -> Option<effect::Key> {
    match command {
        Command::StepOutcome {
            rotation,
            step,
            attempt,
            ..
        } => Some(effect::Key::Step(*rotation, *step, *attempt)),
        Command::RevokeOutcome {
            revocation,
            attempt,
            ..
        }
        | Command::ProofOutcome(ProofTaken {
            revocation,
            attempt,
            ..
        }) => Some(effect::Key::Revoke(*revocation, *attempt)),
        _ => None,
    }
}
