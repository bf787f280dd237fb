//! Computing instants from a schedule: pure, given the time zone database.
//!
//! Daylight saving time by rule TM1. A time of day that falls into the missing hour fires once,
//! right after the gap; one that falls into the repeated hour fires once, in the first pass. A line
//! whose hour is `*` (or a step of it) counts real hours: nothing extra at the gap, and each pass of
//! the repeated hour.
//!
//! What else a policy says of the next fire is in `plan`: largest age, lifetime, hold-off, offset in a
//! group, windows and freezes. Events that lead to a rotation have no instants here: `timer` waits for them.

mod cron;
pub(crate) mod plan;
#[cfg(test)]
mod tests;
pub(crate) mod tzdata;
mod words;
mod zone;

pub use cron::{Jump, Pass};
pub use plan::{AGE_RETRY, Cause, Fire, LONGEST_REST, Origin, Reading, next_fire, rest_of};
pub use tzdata::{tzdata, tzdata_of};
pub use words::{describe, instant, local, notes, rules};

use std::time::Duration;

use cron::Found;
use keywheel_core::id::{EventId, PlaybookId, RotationId, RunId, SecretId, SlotId};
use keywheel_core::playbook_run;
use keywheel_core::schedule::Schedule;
use keywheel_core::time::Timestamp;
use sha2::{Digest as _, Sha256};

/// Shortest interval a secret may rotate in.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Checks a cron line and its zone, for people.
///
/// # Errors
/// With text that names the field or the zone, what is wrong, and what is allowed.
pub fn check(expression: &str, timezone: &str) -> Result<(), String> {
    zone::find(timezone)?;
    cron::parse(expression).map(drop)
}

/// The first slot after an instant; `None` when there is none. An interval counts from `anchor`,
/// the first promotion of the current version.
#[must_use]
pub fn next_after(schedule: &Schedule, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
    match schedule {
        Schedule::OnDemand => None,
        Schedule::Interval(every) => next_interval(*every, after, anchor),
        Schedule::Cron {
            expression,
            timezone,
        } => next_cron(expression, timezone, after).map(|found| found.at),
    }
}

fn next_cron(expression: &str, timezone: &str, after: Timestamp) -> Option<Found> {
    let zone = zone::find(timezone).ok()?;
    cron::next(&cron::read_line(expression).ok()?, &zone, after)
}

fn next_interval(every: Duration, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
    let every = i64::try_from(every.max(MIN_INTERVAL).as_micros()).ok()?;
    let passed = after.micros().saturating_sub(anchor.micros()).max(0) / every;
    let offset = passed.checked_add(1)?.checked_mul(every)?;
    anchor
        .micros()
        .checked_add(offset)
        .map(Timestamp::from_micros)
}

/// The slot's id: the same for every scheduler, another for every secret and instant (rule TM3).
#[must_use]
pub fn slot_id(secret: SecretId, scheduled: Timestamp) -> SlotId {
    SlotId::from_bytes(derive(b"keywheel slot v1", secret.bytes(), scheduled))
}

/// Id of the rotation a slot starts.
#[must_use]
pub fn slot_rotation(secret: SecretId, scheduled: Timestamp) -> RotationId {
    RotationId::from_bytes(derive(
        b"keywheel slot rotation v1",
        secret.bytes(),
        scheduled,
    ))
}

/// The id of the slot that an event is for a secret: the same for every scheduler, another for every secret
/// and event.
#[must_use]
pub fn event_slot(secret: SecretId, event: EventId) -> SlotId {
    let parts: [&[u8]; 2] = [secret.bytes(), event.bytes()];
    SlotId::from_bytes(hash(b"keywheel event slot v1", &parts))
}

/// Id of the rotation that an event starts.
#[must_use]
pub fn event_rotation(slot: SlotId) -> RotationId {
    RotationId::from_bytes(hash(b"keywheel event rotation v1", &[slot.bytes()]))
}

/// Id of the run of a playbook that an event begins, or a slot: the same for every scheduler.
#[must_use]
pub(crate) fn run_of(playbook: PlaybookId, cause: playbook_run::Cause) -> RunId {
    use playbook_run::Cause as C;
    let (purpose, at) = match cause {
        C::Slot { scheduled } => (
            "keywheel playbook slot v1",
            scheduled.micros().to_be_bytes(),
        ),
        C::Event { number } => ("keywheel playbook event v1", number.to_be_bytes()),
        C::Person => ("keywheel playbook person v1", [0; 8]),
    };
    RunId::from_bytes(hash(purpose.as_bytes(), &[playbook.bytes(), &at]))
}

/// Derives sixteen bytes from a purpose, an id and an instant.
pub(crate) fn derive(purpose: &[u8], id: &[u8; 16], at: Timestamp) -> [u8; 16] {
    hash(purpose, &[id, &at.micros().to_be_bytes()])
}

fn hash(purpose: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(purpose);
    hash.update([0]);
    for part in parts {
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

/// The delay of a slot: at most `most`, and always the same for the same slot.
#[must_use]
pub fn jitter(slot: SlotId, most: Duration) -> Duration {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    let drawn = derive(b"keywheel jitter v1", slot.bytes(), Timestamp::default());
    let (half, _) = drawn.split_at(8);
    let drawn = half
        .iter()
        .fold(0_u64, |drawn, byte| (drawn << 8) | u64::from(*byte));
    Duration::from_micros(drawn % most.saturating_add(1).max(1))
}
