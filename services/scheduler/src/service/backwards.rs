//! A wall clock that was set back: how far, how often, and for how long people are told (rule TM2).
//!
//! Compared with the monotonic clock, which nobody sets. Nothing is decided here: what was served is known by
//! its slot's id, and does not fire again whatever the clock says. Pure.

use std::time::Duration;

use keywheel_core::time::Timestamp;

/// A wall clock that goes back by more than this is reported: less is a time server at work.
const ALARM: Duration = Duration::from_secs(5);
/// How long people are told that it was.
const TOLD_FOR: Duration = Duration::from_secs(3600);

/// What was read of both clocks.
#[derive(Debug, Default)]
pub(super) struct Backwards {
    last: Option<(Timestamp, Duration)>,
    /// When it was set back last, by the monotonic clock, and how far.
    set_back: Option<(Duration, Duration)>,
    times: u64,
}

impl Backwards {
    /// Takes a reading of both clocks; gives how far the wall clock was set back since the one before.
    pub(super) fn read(&mut self, wall: Timestamp, steady: Duration) -> Option<Duration> {
        let before = self.last.replace((wall, steady));
        let (last_wall, last_steady) = before?;
        let expected = last_wall.plus(steady.saturating_sub(last_steady));
        let back = expected.since(wall);
        if back <= ALARM {
            return None;
        }
        self.set_back = Some((steady, back));
        self.times = self.times.saturating_add(1);
        Some(back)
    }

    /// How often it was set back since the start.
    pub(super) const fn times(&self) -> u64 {
        self.times
    }

    /// How far it was set back last, as long as people are told.
    pub(super) fn told(&self, steady: Duration) -> Option<Duration> {
        let (at, back) = self.set_back?;
        (steady.saturating_sub(at) < TOLD_FOR).then_some(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(seconds))
    }

    const fn steady(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_a_clock_that_went_back_by_more_than_the_limit_is_reported() {
        let mut clock = Backwards::default();
        assert_eq!(
            clock.read(at(1000), steady(0)),
            None,
            "nothing to compare with"
        );
        // It runs, is slewed, jumps ahead.
        for (wall, after) in [(1010, 10), (1015, 20), (5000, 30)] {
            assert_eq!(clock.read(at(wall), steady(after)), None, "{wall}");
        }
        assert_eq!((clock.times(), clock.told(steady(30))), (0, None));
        let back = clock.read(at(5000), steady(36));
        assert_eq!(back, Some(ALARM + Duration::from_secs(1)));
        assert_eq!(clock.times(), 1);
        // Once for each time.
        assert_eq!(clock.read(at(5001), steady(37)), None);
        assert_eq!(clock.times(), 1);
    }

    #[test]
    fn people_are_told_for_a_while() {
        let mut clock = Backwards::default();
        let _first = clock.read(at(100_000), steady(10));
        assert_eq!(clock.read(at(50_000), steady(10)), Some(steady(50_000)));
        let last = steady(10) + TOLD_FOR;
        let still = last.saturating_sub(Duration::from_secs(1));
        assert_eq!(clock.told(still), Some(steady(50_000)));
        assert_eq!((clock.told(last), clock.times()), (None, 1));
    }
}
