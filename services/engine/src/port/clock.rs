//! Time, as a port. Laws: `monotonic` never goes back; `now` may.

use std::time::Duration;

use keywheel_core::time::Timestamp;

/// Reads clocks.
pub trait Clock: Send + Sync {
    /// The wall clock, UTC.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point; never goes back.
    fn monotonic(&self) -> Duration;
}
