//! Plans that came long after a newer one: which are, and what the audit hears of them.
//!
//! Invariants: an older plan is acted on by nobody; one within the time of repeats is one, and one
//! after it is stale: counted by the bus like a message it refuses, and noted for the audit. At most
//! one note in [`NOTE_WINDOW`] is given out; what comes within it is counted into the next.

use std::time::Duration;

use keywheel_core::report::StalePlan;
use keywheel_core::time::Timestamp;
use keywheel_engine::late::Late;

/// One note for the audit at most in this time.
pub(crate) const NOTE_WINDOW: Duration = Duration::from_secs(60);

/// See the file.
#[derive(Debug, Default)]
pub(crate) struct StalePlans {
    late: Late,
    waiting: Option<StalePlan>,
    /// When a note was given out last.
    noted: Option<Duration>,
}

impl StalePlans {
    /// A plan of this generation was taken.
    pub(crate) fn took(&mut self, generation: u64, now: Duration) {
        self.late.took(generation, now);
    }

    /// An older plan than the one that is held came; whether it is stale.
    pub(crate) fn came(
        &mut self,
        (generation, held): (u64, u64),
        now: Duration,
        at: Timestamp,
    ) -> bool {
        if !self.late.is_stale(generation, now) {
            return false;
        }
        let note = self.waiting.get_or_insert(StalePlan {
            generation,
            held,
            at,
            count: 0,
        });
        note.count = note.count.saturating_add(1);
        true
    }

    /// The note that is due, if any.
    pub(crate) fn note(&mut self, now: Duration) -> Option<StalePlan> {
        let noted = self.noted;
        if noted.is_some_and(|noted| now.saturating_sub(noted) < NOTE_WINDOW) {
            return None;
        }
        let note = self.waiting.take()?;
        self.noted = Some(now);
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use keywheel_engine::late::REPEAT_LIMIT;

    use super::*;

    const START: Duration = Duration::from_secs(500);
    const AT: Timestamp = Timestamp::from_micros(7);

    #[test]
    fn a_flood_of_stale_plans_is_counted_and_noted_once_in_a_window() {
        let mut plans = StalePlans::default();
        plans.took(5, START);
        plans.took(6, START);
        assert!(!plans.came((4, 6), START, AT), "a repeat");
        assert_eq!(plans.note(START), None);
        let now = START + REPEAT_LIMIT;
        for generation in [4, 3, 4] {
            assert!(plans.came((generation, 6), now, AT));
        }
        let note = |generation, count| StalePlan {
            generation,
            held: 6,
            at: AT,
            count,
        };
        assert_eq!(plans.note(now), Some(note(4, 3)));
        assert_eq!(plans.note(now), None, "told");
        for _ in 0..1000 {
            assert!(plans.came((2, 6), now, AT));
        }
        let almost = now + NOTE_WINDOW - Duration::from_nanos(1);
        assert_eq!(plans.note(almost), None);
        assert_eq!(plans.note(now + NOTE_WINDOW), Some(note(2, 1000)));
        assert_eq!(plans.note(now + NOTE_WINDOW * 9), None);
    }
}
