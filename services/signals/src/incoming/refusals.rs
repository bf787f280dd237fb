//! What was refused at the door: the first by themselves, the rest of a flood counted. Pure.
//!
//! Invariant: what gets no record of its own is counted until its record is durable, and the last of it is
//! known; nothing grows with how many come.

use std::time::Duration;

use keywheel_core::audit::Principal;
use keywheel_core::time::Timestamp;

use super::limit::Bucket;

/// What was counted is put on record this often.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_secs(60);

/// One that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) time: Timestamp,
    pub(crate) principal: Principal,
    /// The name that was asked for, where it can be one.
    pub(crate) source: String,
    /// Why, in words of ours.
    pub(crate) fault: String,
}

/// What was refused since the record before.
pub(crate) struct Refusals {
    /// Room for records of their own.
    room: Bucket,
    /// The last that has none, and how many there are.
    counted: Option<(Refusal, u64)>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            room: Bucket::full(),
            counted: None,
        }
    }
}

impl Refusals {
    /// Whether one gets a record of its own now.
    pub(crate) fn has_room(&mut self, now: Duration) -> bool {
        self.room.take(now, 1).is_ok()
    }

    /// Counts so many, of which that is the last; what was put back is older than what was counted since.
    pub(crate) fn count(&mut self, refusal: Refusal, more: u64) {
        let (last, count) = match self.counted.take() {
            Some((known, count)) if known.time > refusal.time => (known, count),
            Some((_, count)) => (refusal, count),
            None => (refusal, 0),
        };
        self.counted = Some((last, count.saturating_add(more)));
    }

    /// What was counted; from now on anew.
    pub(crate) fn take_counted(&mut self) -> Option<(Refusal, u64)> {
        self.counted.take()
    }
}

#[cfg(test)]
mod tests {
    use super::super::limit::BURST;
    use super::*;

    fn refusal(second: i64) -> Refusal {
        Refusal {
            time: Timestamp::from_micros(second * 1_000_000),
            principal: Principal::Stranger {
                address: "192.0.2.1".to_owned(),
            },
            source: "scanner".to_owned(),
            fault: "the token is not the sender's".to_owned(),
        }
    }

    #[test]
    fn of_a_flood_the_first_are_told_apart_and_the_rest_is_counted() {
        let mut refusals = Refusals::default();
        let now = Duration::from_secs(1);
        let own = (0..1000).filter(|_| refusals.has_room(now)).count();
        assert_eq!(own, BURST as usize);
        assert_eq!(refusals.take_counted(), None);
        refusals.count(refusal(1), 1);
        refusals.count(refusal(2), 1);
        assert_eq!(refusals.take_counted(), Some((refusal(2), 2)));
        assert_eq!(refusals.take_counted(), None);
    }

    #[test]
    fn what_could_not_be_recorded_is_counted_on_and_the_last_stays_the_last() {
        let mut refusals = Refusals::default();
        refusals.count(refusal(3), 1);
        refusals.count(refusal(2), 7);
        assert_eq!(refusals.take_counted(), Some((refusal(3), 8)));
    }
}
