//! What was refused at the door: the first by themselves, the rest of a flood counted. Pure.
//!
//! Invariant: what gets no record of its own is counted until its record is durable, and the last of it is
//! known; nothing grows with how many come, nor with the names that they come to.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::audit::Principal;
use keywheel_core::time::Timestamp;

use super::limit::Bucket;

/// How much of a source's room one record takes: some at once, and a few a minute after that.
const PLACES_A_RECORD: u32 = 10;
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

/// What was refused at each declared source, and at all names together that are none: a flood at one hides nothing of
/// another.
#[derive(Default)]
pub(crate) struct Refusals(BTreeMap<String, Pot>);

/// What was refused of one since the record before.
struct Pot {
    /// Room for records of their own.
    room: Bucket,
    /// The last that has none, and how many there are.
    counted: Option<(Refusal, u64)>,
}

impl Refusals {
    fn pot(&mut self, name: &str) -> &mut Pot {
        self.0.entry(name.to_owned()).or_insert_with(|| Pot {
            room: Bucket::full(),
            counted: None,
        })
    }

    /// Whether one gets a record of its own now.
    pub(crate) fn has_room(&mut self, pot: &str, now: Duration) -> bool {
        self.pot(pot).room.take(now, PLACES_A_RECORD).is_ok()
    }

    /// Counts so many, of which that is the last; what was put back is older than what was counted since.
    pub(crate) fn count(&mut self, pot: &str, refusal: Refusal, more: u64) {
        let pot = self.pot(pot);
        let (last, count) = match pot.counted.take() {
            Some((known, count)) if known.time > refusal.time => (known, count),
            Some((_, count)) => (refusal, count),
            None => (refusal, 0),
        };
        pot.counted = Some((last, count.saturating_add(more)));
    }

    /// What was counted of each; from now on anew. Who is not declared any more is forgotten.
    pub(crate) fn take_counted(
        &mut self,
        is_declared: impl Fn(&str) -> bool,
    ) -> Vec<(String, Refusal, u64)> {
        let taken = self.0.iter_mut().filter_map(|(name, pot)| {
            let (last, count) = pot.counted.take()?;
            Some((name.clone(), last, count))
        });
        let taken = taken.collect();
        self.0.retain(|name, _| is_declared(name));
        taken
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
        let own = (0..1000).filter(|_| refusals.has_room("scanner", now));
        assert_eq!(own.count(), (BURST / PLACES_A_RECORD) as usize);
        assert!(refusals.take_counted(|_| true).is_empty());
        refusals.count("scanner", refusal(1), 1);
        refusals.count("scanner", refusal(2), 1);
        let counted = ("scanner".to_owned(), refusal(2), 2);
        assert_eq!(refusals.take_counted(|_| true), [counted]);
        assert!(refusals.take_counted(|_| true).is_empty());
    }

    #[test]
    fn a_flood_at_one_hides_nothing_of_another() {
        let mut refusals = Refusals::default();
        let now = Duration::from_secs(1);
        while refusals.has_room("", now) {}
        for second in 1..=9 {
            refusals.count("", refusal(second), 1);
        }
        assert!(refusals.has_room("scanner", now));
        refusals.count("scanner", refusal(5), 1);
        let counted = refusals.take_counted(|_| true);
        let counted: Vec<_> = counted
            .iter()
            .map(|(name, last, count)| (name.as_str(), last.time, *count))
            .collect();
        let wanted = [("", refusal(9).time, 9), ("scanner", refusal(5).time, 1)];
        assert_eq!(counted, wanted);
    }

    #[test]
    fn who_is_not_declared_any_more_is_told_of_once_and_forgotten() {
        let mut refusals = Refusals::default();
        for name in ["gone", "kept"] {
            refusals.count(name, refusal(1), 1);
        }
        assert_eq!(refusals.take_counted(|name| name == "kept").len(), 2);
        assert_eq!(refusals.0.keys().collect::<Vec<_>>(), ["kept"]);
    }

    #[test]
    fn what_could_not_be_recorded_is_counted_on_and_the_last_stays_the_last() {
        let mut refusals = Refusals::default();
        refusals.count("scanner", refusal(3), 1);
        refusals.count("scanner", refusal(2), 7);
        let counted = ("scanner".to_owned(), refusal(3), 8);
        assert_eq!(refusals.take_counted(|_| true), [counted]);
    }
}
