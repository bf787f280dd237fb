//! When a secret rotates by itself, as written by a person. Computing instants from it is the
//! scheduler's work: time zones and calendars are IO here.

use std::time::Duration;

use crate::rotation::ACK_DEADLINE;
use crate::time::Timestamp;

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
    /// Every so often after the first promotion of the current version.
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

/// What has to be shown before the old version may die, beyond each binding's own level. Where a secret says
/// nothing, its strategy and its consumers decide: `decision::drain_cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ack {
    /// Every consumer has the new version and reloaded as its binding says; nothing more.
    Reloaded,
    /// Besides, the backend has no session of the old credential from before the last acknowledgement.
    Drained,
}

/// A time in which the secret may rotate by itself: from each fire of a cron line on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// The line that opens it, checked by whoever took it in.
    pub expression: String,
    /// Its time zone.
    pub timezone: String,
    /// How long it stays open, in real time.
    pub duration: Duration,
}

/// A time in which the secret does not rotate by itself; its end is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Freeze {
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// What for, in a person's words; may be empty.
    pub reason: String,
}

impl Freeze {
    /// Whether an instant lies in it.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

/// A secret's place among related ones that are not to rotate at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupOffset {
    /// Name of the group.
    pub group: String,
    /// How much later than its schedule says this one rotates; no other of the group has the same.
    pub offset: Duration,
}

/// Shortest time between a promotion and a rotation that an event leads to, unless its rule says another.
pub const EVENT_HOLD_OFF: Duration = Duration::from_secs(600);

/// One of Keywheel's own events that leads to a rotation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OnEvent {
    /// The event's type, for example `dev.keywheel.rotation.closed.v1`.
    pub event: String,
    /// What has to hold for the event, in CEL, checked by whoever took it in; `None` for every one.
    pub when: Option<String>,
    /// How long after the last promotion the rotation begins at the earliest; `None` for
    /// [`EVENT_HOLD_OFF`]. An event that comes sooner waits.
    pub hold_off: Option<Duration>,
}

impl OnEvent {
    /// How long after the last promotion the rotation begins at the earliest.
    #[must_use]
    pub fn rest(&self) -> Duration {
        self.hold_off.unwrap_or(EVENT_HOLD_OFF)
    }
}

/// How many containers get a new version before the others, unless a secret says another number.
pub const CANARIES: u32 = 1;
/// Most containers that may get a new version before the others.
pub const MAX_CANARIES: u32 = 100;
/// How long they have to run well with it, unless a secret says another time.
pub const CANARY_WATCH: Duration = Duration::from_secs(30);

/// Who gets a new version before it is promoted, and for how long nobody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Canary {
    /// How many containers.
    pub consumers: u32,
    /// How long all of them have to run well with it, from the last one's acknowledgement on.
    pub watch: Duration,
}

/// Schedule, spread, limits, missed-run rule and deadline of one secret.
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
    /// It also rotates when its version is so old, counted from its first promotion, whatever the
    /// schedule says.
    pub max_age: Option<Duration>,
    /// How long the other side takes a version; it also rotates after two thirds of that.
    pub lifetime: Option<Duration>,
    /// Slots of the schedule sooner than this after a promotion, be it of the version before, are passed
    /// over.
    pub hold_off: Option<Duration>,
    /// It rotates only while one of these is open; none means always.
    pub windows: Vec<Window>,
    /// It does not rotate during these.
    pub freezes: Vec<Freeze>,
    /// How its schedule stands to those of related secrets.
    pub phase: Option<GroupOffset>,
    /// Whether the version before the current one stays alive, for templates that name it, until the next
    /// rotation ends.
    pub keep_previous: bool,
    /// It also rotates after one of these.
    pub on_event: Vec<OnEvent>,
    /// What has to be shown before the old version may die; `None` for what suits its strategy and its consumers.
    pub ack: Option<Ack>,
    /// Whether a few containers get a version before it is promoted; `None` for no.
    pub canary: Option<Canary>,
}

impl RotationPolicy {
    /// How long consumers may take.
    #[must_use]
    pub fn ack_deadline(&self) -> Duration {
        self.deadline.unwrap_or(ACK_DEADLINE)
    }

    /// Whether the secret ever rotates by itself.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        self.schedule != Schedule::OnDemand
            || self.max_age.is_some()
            || self.lifetime.is_some()
            || !self.on_event.is_empty()
    }

    /// Whether another policy wants its fires at the same instants. Windows and freezes only hold back what
    /// is wanted, and jitter, deadlines and the rule for missed runs come after it; events have no instants.
    #[must_use]
    pub fn wants_like(&self, other: &Self) -> bool {
        let offset = |policy: &Self| {
            let phase = policy.phase.as_ref();
            phase.map_or(Duration::ZERO, |phase| phase.offset)
        };
        self.schedule == other.schedule
            && self.max_age == other.max_age
            && self.lifetime == other.lifetime
            && self.hold_off == other.hold_off
            && offset(self) == offset(other)
    }

    /// The age at which a version with a lifetime is replaced: a third is left for what goes wrong.
    #[must_use]
    pub fn renewal_age(&self) -> Option<Duration> {
        let lifetime = self.lifetime?;
        Some(lifetime.saturating_sub(lifetime / 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evicted(hold_off: Option<Duration>) -> OnEvent {
        OnEvent {
            event: "dev.keywheel.host.evicted.v1".to_owned(),
            when: None,
            hold_off,
        }
    }

    #[test]
    fn an_event_waits_for_the_hold_off_of_its_rule_or_the_default() {
        let minute = Duration::from_secs(60);
        assert_eq!(evicted(Some(minute)).rest(), minute);
        assert_eq!(evicted(None).rest(), EVENT_HOLD_OFF);
    }

    #[test]
    fn a_policy_is_automatic_by_schedule_age_lifetime_or_event_alone() {
        let day = Duration::from_secs(86_400);
        let none = RotationPolicy::default();
        assert!(!none.is_automatic());
        let jitter = RotationPolicy {
            jitter: day,
            hold_off: Some(day),
            ..RotationPolicy::default()
        };
        assert!(!jitter.is_automatic());
        for policy in [
            RotationPolicy {
                schedule: Schedule::Interval(day),
                ..RotationPolicy::default()
            },
            RotationPolicy {
                max_age: Some(day),
                ..RotationPolicy::default()
            },
            RotationPolicy {
                lifetime: Some(day),
                ..RotationPolicy::default()
            },
            RotationPolicy {
                on_event: vec![evicted(None)],
                ..RotationPolicy::default()
            },
        ] {
            assert!(policy.is_automatic(), "{policy:?}");
        }
    }

    #[test]
    fn what_only_holds_fires_back_makes_no_others() {
        let day = Duration::from_secs(86_400);
        let ours = || RotationPolicy {
            schedule: Schedule::Interval(day),
            ..RotationPolicy::default()
        };
        let phase = |hours: u32| GroupOffset {
            group: "payments".to_owned(),
            offset: Duration::from_secs(3600) * hours,
        };
        let held = RotationPolicy {
            jitter: day,
            missed_run: MissedRun::Skip,
            deadline: Some(day),
            on_deadline: OnDeadline::Force,
            windows: vec![Window {
                expression: "0 0 * * *".to_owned(),
                timezone: "UTC".to_owned(),
                duration: day,
            }],
            freezes: vec![Freeze {
                from: Timestamp::from_micros(1),
                until: Timestamp::from_micros(2),
                reason: String::new(),
            }],
            phase: Some(phase(0)),
            keep_previous: true,
            on_event: vec![evicted(None)],
            canary: Some(Canary {
                consumers: CANARIES,
                watch: CANARY_WATCH,
            }),
            ..ours()
        };
        assert!(held.wants_like(&ours()));
        for other in [
            RotationPolicy::default(),
            RotationPolicy {
                max_age: Some(day),
                ..ours()
            },
            RotationPolicy {
                lifetime: Some(day),
                ..ours()
            },
            RotationPolicy {
                hold_off: Some(day),
                ..ours()
            },
            RotationPolicy {
                phase: Some(phase(1)),
                ..ours()
            },
        ] {
            assert!(!other.wants_like(&ours()), "{other:?}");
        }
    }

    #[test]
    fn a_version_is_replaced_after_two_thirds_of_its_lifetime() {
        let policy = |lifetime| RotationPolicy {
            lifetime,
            ..RotationPolicy::default()
        };
        let days = |n: u64| Some(Duration::from_secs(n * 86_400));
        assert_eq!(policy(days(90)).renewal_age(), days(60));
        assert_eq!(policy(None).renewal_age(), None);
        let longest = policy(Some(Duration::MAX)).renewal_age();
        assert!(longest.is_some_and(|age| age < Duration::MAX));
    }

    #[test]
    fn a_freeze_holds_its_beginning_and_not_its_end() {
        let at = Timestamp::from_micros;
        let freeze = Freeze {
            from: at(10),
            until: at(20),
            reason: String::new(),
        };
        let held: Vec<i64> = (8..22).filter(|n| freeze.holds(at(*n))).collect();
        assert_eq!(held, (10..20).collect::<Vec<_>>());
    }
}
