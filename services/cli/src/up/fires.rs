//! The next fires of a schedule, as people see them.

use keywheel_core::schedule::Schedule;
use keywheel_core::time::Timestamp;
use keywheel_scheduler::schedule;

/// How many fires of a schedule are shown.
const SHOWN_FIRES: usize = 3;

/// The next fires of a schedule as RFC 3339 text.
pub(crate) fn next_fires(wanted: &Schedule, now: Timestamp) -> Vec<String> {
    let mut fires = Vec::new();
    let mut after = now;
    while fires.len() < SHOWN_FIRES {
        let Some(next) = schedule::next_after(wanted, after, now) else {
            break;
        };
        after = next;
        fires.push(
            jiff::Timestamp::from_microsecond(next.micros())
                .map(|t| t.to_string())
                .unwrap_or_default(),
        );
    }
    fires
}
