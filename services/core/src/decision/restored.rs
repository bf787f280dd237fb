//! Decisions of a log that was put back to an earlier time: no number that was given out in the time it lost may mean
//! another version. Whether it lost a time, and what was given out in it, others know.

use super::{Rejection, secret_or_reject};
use crate::command::BuryLost;
use crate::event::Event;
use crate::secret::{self, Secret};
use crate::world::World;

/// Most numbers that are buried at once: two events for each. Whoever has more asks again.
pub const MAX_BURIED: u64 = 1024;

/// Buries the numbers above those that are known here. A repeat changes nothing.
pub(super) fn bury(world: &World, lost: &BuryLost) -> Result<Vec<Event>, Rejection> {
    let secret = secret_or_reject(world, &lost.secret)?;
    let most = secret.last_version.saturating_add(MAX_BURIED);
    Ok(buried(secret, lost.up_to.min(most)))
}

/// Each was never here, so it is dead and there is nothing to destroy.
fn buried(secret: &Secret, up_to: u64) -> Vec<Event> {
    let numbers = secret.last_version.saturating_add(1)..=up_to;
    let events = numbers.flat_map(|version| {
        [
            secret::Event::VersionRevoked { version },
            secret::Event::VersionDestroyed { version },
        ]
    });
    events
        .map(|event| Event::Secret(secret.id, event))
        .collect()
}
