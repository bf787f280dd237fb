//! The real clock: the wall clock for what the log holds, the monotonic clock for waiting.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Takes the present as the zero of the monotonic clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    fn now(&self) -> Timestamp {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => micros(before.duration()).saturating_neg(),
        })
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-01-01 and 2100-01-01, in microseconds.
    const PLAUSIBLE: std::ops::Range<i64> = 1_704_067_200_000_000..4_102_444_800_000_000;

    #[test]
    fn the_wall_clock_counts_microseconds_since_1970() {
        assert!(PLAUSIBLE.contains(&SystemClock::new().now().micros()));
    }

    #[test]
    fn the_monotonic_clock_starts_near_zero_and_never_goes_back() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(first < Duration::from_secs(5));
        assert!(clock.monotonic() >= first);
    }
}
