//! Planted bugs of slots: one fires once more.

use keywheel_core::command::Command;
use keywheel_core::decision::{Context, decide};
use keywheel_core::event::Event;
use keywheel_core::rotation::{self, Trigger};
use keywheel_core::world::World;

use super::Planted;

impl Planted {
    /// What would be begun with the bug by a slot that is refused.
    pub(crate) fn fire_again(
        self,
        world: &World,
        command: &Command,
        ctx: &Context,
    ) -> Option<Vec<Event>> {
        let Command::Due {
            rotation,
            secret,
            slot,
            scheduled,
            after: None,
            ..
        } = command
        else {
            return None;
        };
        let last = world.last_slot(*secret);
        if self != Self::FiresAgain || last.is_none_or(|last| last <= *scheduled) {
            return None;
        }
        let begin = Command::Rotate {
            rotation: *rotation,
            secret: world.secrets.get(secret)?.name.clone(),
        };
        let mut events = decide(world, &begin, ctx).ok()?;
        for event in &mut events {
            if let Event::Rotation(_, rotation::Event::Started { trigger, .. }) = event {
                *trigger = Trigger::Slot {
                    slot: *slot,
                    scheduled: *scheduled,
                    tzdata: None,
                };
            }
        }
        Some(events)
    }
}
