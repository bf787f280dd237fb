//! What becomes of rotations, revocations, containers and hosts, told as it is appended: a line in the
//! log per step, and the span of each rotation and revocation at its end.
//!
//! Invariant: only what this gateway appended is told here, so that of several gateways one tells it.

mod line;

use std::sync::Arc;

use keywheel_core::event::Event;
use keywheel_core::id::{RevocationId, RotationId, SecretId};
use keywheel_core::rotation::Outcome;
use keywheel_core::{revocation, rotation};
use keywheel_engine::command_bus::Witness;
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_engine::state::Committed;
use keywheel_telemetry::traces::{Kind, Span, names};

/// Whose spans these are.
const SERVICE: &str = "gateway";

/// Tells what is appended.
#[must_use]
pub fn witness() -> Witness {
    Arc::new(|committed, events| events.iter().for_each(|event| tell(committed, event)))
}

fn tell(committed: &Committed, recorded: &RecordedEvent) {
    if let Some(line) = line::of(committed, recorded) {
        line.write();
    }
    match &recorded.event {
        Event::Rotation(id, rotation::Event::Closed { outcome }) => {
            tell_rotation(committed, *id, outcome);
        }
        Event::Revocation(id, revocation::Event::Closed) => tell_revocation(committed, *id),
        _ => {}
    }
}

/// A rotation's own span, below the command that started it: all that it led to stands below it.
fn tell_rotation(committed: &Committed, id: RotationId, outcome: &Outcome) {
    let times = committed.rotation_times(id);
    let (Some(above), Some(own)) = (times.trace, committed.rotation_trace(id)) else {
        return;
    };
    let Some(started) = times.requested else {
        return;
    };
    let mut span = Span::at(
        SERVICE,
        names::ROTATION,
        Kind::Internal,
        own,
        Some(above.span),
    )
    .since(started)
    .with(names::ROTATION_ID, id.to_string())
    .with(names::OUTCOME, outcome_word(outcome));
    if let Some(rotation) = committed.world.rotations.get(&id) {
        span.set(names::SECRET_NAME, secret_name(committed, rotation.secret));
        span.set(names::VERSION, rotation.version);
    }
    match outcome {
        Outcome::Completed | Outcome::Cancelled => {}
        Outcome::RolledBack => {
            let why = "a step or a restart failed; the version before is in use";
            span.fail("rolled_back", why);
        }
        Outcome::Parked => span.fail("parked", "consumers did not acknowledge in time"),
    }
}

/// A revocation's own span.
fn tell_revocation(committed: &Committed, id: RevocationId) {
    let times = committed.revocation_times(id);
    let (Some(above), Some(own)) = (times.trace, committed.revocation_trace(id)) else {
        return;
    };
    let Some(requested) = times.requested else {
        return;
    };
    let mut span = Span::at(
        SERVICE,
        names::REVOCATION,
        Kind::Internal,
        own,
        Some(above.span),
    )
    .since(requested)
    .with(names::REVOCATION_ID, id.to_string());
    if let Some(revocation) = committed.world.revocations.get(&id) {
        span.set(
            names::SECRET_NAME,
            secret_name(committed, revocation.secret),
        );
    }
}

/// How a rotation ended, in one word.
pub(crate) const fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::RolledBack => "rolled_back",
        Outcome::Parked => "parked",
        Outcome::Cancelled => "cancelled",
    }
}

fn secret_name(committed: &Committed, id: SecretId) -> String {
    let secret = committed.world.secrets.get(&id);
    secret.map_or_else(|| id.to_string(), |secret| secret.name.to_string())
}
