//! When a secret rotates by itself, as written by a person. Computing instants from it is the
//! scheduler's work: time zones and calendars are IO here.

use std::time::Duration;

use crate::rotation::ACK_DEADLINE;

/// The rule for the next fire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Schedule {
    /// Only on demand.
    #[default]
    OnDemand,
    /// A cron line of five fields, or six with seconds first, in an IANA time zone.
    Cron {
        /// The line, checked by whoever took it in.
        expression: String,
        /// The zone, for example `Europe/Berlin`.
        timezone: String,
    },
    /// Every so often after the last promotion.
    Interval(Duration),
}

/// What happens to a slot nobody served in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum MissedRun {
    /// One catch-up run, however many slots were missed.
    #[default]
    Once,
    /// Wait for the next slot.
    Skip,
}

/// What happens when consumers did not acknowledge in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum OnDeadline {
    /// The old version stays alive; the rotation is parked and a person decides.
    #[default]
    Hold,
    /// The old version dies all the same, on the record.
    Force,
}

/// Schedule, spread, missed-run rule and deadline of one secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RotationPolicy {
    /// When.
    pub schedule: Schedule,
    /// Largest delay added to a slot; the same slot always gets the same one.
    pub jitter: Duration,
    /// What happens to a missed slot.
    pub missed_run: MissedRun,
    /// How long consumers may take; `None` for [`ACK_DEADLINE`].
    pub deadline: Option<Duration>,
    /// What happens to those who take longer.
    pub on_deadline: OnDeadline,
}

impl RotationPolicy {
    /// How long consumers may take.
    #[must_use]
    pub fn ack_deadline(&self) -> Duration {
        self.deadline.unwrap_or(ACK_DEADLINE)
    }
}
