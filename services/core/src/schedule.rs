//! When a secret rotates by itself, as written by a person. Computing instants from it is the
//! scheduler's work: time zones and calendars are IO here.

use std::time::Duration;

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

/// Schedule, spread and missed-run rule of one secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RotationPolicy {
    /// When.
    pub schedule: Schedule,
    /// Largest delay added to a slot; the same slot always gets the same one.
    pub jitter: Duration,
    /// What happens to a missed slot.
    pub missed_run: MissedRun,
}
