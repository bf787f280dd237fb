//! The spans of `keywheel-runtime`, told from here: it says when it did what, and tells nobody else.
//!
//! For people only; nothing is decided by it. Invariant: a time that it says counts only when it is past,
//! and not longer past than a container's create can take.

use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_engine::trace::Context;
use keywheel_telemetry::traces::{Kind, Span, names as spans};

use crate::runtime::wire::Question;
use crate::shared::Shared;

/// Whose spans they are.
const SERVICE: &str = "runtime";
/// What was longer ago belongs to no create.
const LONGEST: Duration = Duration::from_secs(600);

/// The whole of a container's create, and the first of its trace; told when it is dropped.
pub(crate) fn begin(shared: &Shared, question: &Question) -> Span {
    let span = Span::root(SERVICE, spans::RUNTIME, Kind::Internal, &*shared.ids)
        .with(spans::HOST, shared.options.host_name.to_string())
        .with(spans::CONTAINER_ID, question.id.clone());
    match said(question.begun, shared.clock.now()) {
        Some(begun) => span.since(begun),
        None => span,
    }
}

/// The real runtime's part of it.
pub(crate) fn tell_real(shared: &Shared, question: &Question, above: Option<Context>) {
    let now = shared.clock.now();
    let (called, returned) = (said(question.called, now), said(question.returned, now));
    if let (Some(called), Some(returned)) = (called, returned) {
        let span = Span::below(SERVICE, spans::REAL_RUNTIME, Kind::Internal, above);
        drop(span.since(called).until(returned));
    }
}

fn said(micros: i64, now: Timestamp) -> Option<Timestamp> {
    let at = Timestamp::from_micros(micros);
    (at <= now && now.since(at) < LONGEST).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_counts() {
        let now = Timestamp::from_micros(1_795_824_000_000_000);
        assert_eq!(said(now.micros(), now), Some(now));
        let oldest = now.micros() - 600_000_000;
        assert_eq!(said(oldest, now), None);
        assert!(said(oldest + 1, now).is_some());
        for wrong in [0, -1, i64::MIN, i64::MAX, now.micros() + 1] {
            assert_eq!(said(wrong, now), None, "{wrong}");
        }
    }
}
