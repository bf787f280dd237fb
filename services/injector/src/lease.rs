//! The lease: how long the host may use what it has since the gateway's last word (rules X5, TM2).
//!
//! Pure but for [`Moment::read`]. Invariants: time only adds up; within one boot the longer of wall
//! clock and time since boot counts; a wall clock that went back ends the lease; what is not known
//! counts as over.

use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use serde::{Deserialize, Serialize};

/// A lease as it is counted while the injector runs, on the monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lease {
    /// When it was counted last, and how much was spent then; `None` before the first word.
    since: Option<(Duration, Duration)>,
}

/// An instant, for the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) wall: Timestamp,
    pub(crate) boot: String,
    pub(crate) uptime: Duration,
}

/// A lease on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    spent_micros: u64,
    wall_micros: i64,
    boot: String,
    uptime_micros: u64,
}

impl Moment {
    /// Now. Blocks for two small reads of procfs; without it only the wall clock counts.
    pub(crate) fn read(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            boot: keywheel_sys::boot::id().unwrap_or_default(),
            uptime: keywheel_sys::boot::uptime().unwrap_or_default(),
        }
    }
}

impl Lease {
    /// The gateway spoke.
    pub(crate) fn renew(&mut self, now: Duration) {
        self.since = Some((now, Duration::ZERO));
    }

    /// Goes on where an earlier run left it.
    pub(crate) fn resume(&mut self, now: Duration, spent: Duration) {
        self.since = Some((now, spent));
    }

    /// How much is spent; `None` before the first word.
    pub(crate) fn spent(&self, now: Duration) -> Option<Duration> {
        let (since, spent) = self.since?;
        Some(spent.saturating_add(now.saturating_sub(since)))
    }

    /// Whether a lease of this length is over.
    pub(crate) fn is_over(&self, now: Duration, length: Duration) -> bool {
        self.spent(now).is_none_or(|spent| spent >= length)
    }

    /// When it will be over, if it is not.
    pub(crate) fn ends_at(&self, now: Duration, length: Duration) -> Option<Duration> {
        let left = length.checked_sub(self.spent(now)?)?;
        (!left.is_zero()).then(|| now.saturating_add(left))
    }

    /// For the disk.
    pub(crate) fn store(&self, now: Duration, at: &Moment) -> Option<Stored> {
        Some(Stored {
            spent_micros: micros(self.spent(now)?),
            wall_micros: at.wall.micros(),
            boot: at.boot.clone(),
            uptime_micros: micros(at.uptime),
        })
    }
}

impl Stored {
    /// How much is spent by now; `None` when a clock went back, which ends it.
    pub(crate) fn spent(&self, now: &Moment) -> Option<Duration> {
        let by_wall = now.wall.micros().checked_sub(self.wall_micros)?;
        let mut passed = u64::try_from(by_wall).ok()?;
        if !self.boot.is_empty() && self.boot == now.boot {
            let by_boot = micros(now.uptime).checked_sub(self.uptime_micros)?;
            passed = passed.max(by_boot);
        }
        Some(Duration::from_micros(
            self.spent_micros.saturating_add(passed),
        ))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(100);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(wall: i64, boot: &str, uptime: u64) -> Moment {
        Moment {
            wall: Timestamp::from_micros(wall * 1_000_000),
            boot: boot.to_owned(),
            uptime: secs(uptime),
        }
    }

    #[test]
    fn it_is_over_before_the_first_word_and_its_length_after_the_last() {
        let mut lease = Lease::default();
        assert!(lease.is_over(secs(0), LENGTH));
        assert_eq!(lease.ends_at(secs(0), LENGTH), None);
        lease.renew(secs(10));
        assert!(!lease.is_over(secs(109), LENGTH));
        assert_eq!(lease.ends_at(secs(50), LENGTH), Some(secs(110)));
        assert!(lease.is_over(secs(110), LENGTH));
        assert_eq!(lease.ends_at(secs(110), LENGTH), None);
        lease.renew(secs(200));
        assert!(!lease.is_over(secs(200), LENGTH));
    }

    #[test]
    fn a_restart_goes_on_counting_and_never_gives_time_back() {
        let mut lease = Lease::default();
        lease.renew(secs(0));
        let stored = lease.store(secs(30), &at(1000, "a", 500)).unwrap();
        assert_eq!(stored.spent(&at(1020, "a", 520)), Some(secs(50)));
        assert_eq!(
            stored.spent(&at(1005, "a", 520)),
            Some(secs(50)),
            "the wall clock was set back while it was down"
        );
        assert_eq!(stored.spent(&at(1040, "b", 3)), Some(secs(70)), "a reboot");
        assert_eq!(stored.spent(&at(999, "b", 3)), None, "time went back");
        assert_eq!(stored.spent(&at(999, "a", 520)), None, "time went back");
        let mut next = Lease::default();
        next.resume(secs(7), secs(70));
        assert_eq!(next.ends_at(secs(7), LENGTH), Some(secs(37)));
    }
}
