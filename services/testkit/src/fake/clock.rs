//! A clock that stands still until a test moves it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;

/// A clock that a test moves by hand.
#[derive(Debug)]
pub struct FakeClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl FakeClock {
    /// Stands at a point in time; the monotonic clock stands at zero.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self {
            state: Mutex::new((now, Duration::ZERO)),
        }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, span: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.plus(span);
        state.1 = state.1.saturating_add(span);
    }

    /// Sets the wall clock, also back; the monotonic clock does not notice.
    pub fn set_wall(&self, now: Timestamp) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = now;
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::at(Timestamp::default())
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_can_go_back_and_the_monotonic_one_cannot() {
        let clock = FakeClock::at(Timestamp::from_micros(5_000_000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Timestamp::from_micros(6_000_000));
        clock.set_wall(Timestamp::from_micros(1));
        assert_eq!(clock.now(), Timestamp::from_micros(1));
        assert_eq!(clock.monotonic(), Duration::from_secs(1));
    }
}
