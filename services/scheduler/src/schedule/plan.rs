//! The next fire of a whole policy: of its schedule, its largest age and its lifetime the one that
//! comes first, out of closed windows and freezes. Pure, given the time zone database.
//!
//! Invariants: a fire lies in an open window and in no freeze, unless the version's lifetime would end
//! before they allow one; it follows from policy, promotion and what was served alone, so every
//! scheduler comes to the same.

use std::time::Duration;

use jiff::tz::TimeZone;
use keywheel_core::schedule::{MissedRun, RotationPolicy, Schedule};
use keywheel_core::time::Timestamp;
use keywheel_engine::anchors::Anchors;

use super::cron::{self, Found, Jump, Line};
use super::{next_interval, zone};

/// How long after a rotation that left a version in place which is too old another one is wanted.
pub const AGE_RETRY: Duration = Duration::from_secs(600);
/// Longest rest of an age after a run that was aborted or turned back.
pub const LONGEST_REST: Duration = Duration::from_secs(86_400);
/// Kept free before the end of a window, so that a delay does not end on it.
const MARGIN: Duration = Duration::from_secs(1);

/// What fires count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The first promotion of the version that is current: intervals and ages count from it.
    pub promoted: Timestamp,
    /// The last promotion, be it a return to the version before: hold-offs count from it.
    pub moved: Timestamp,
    /// When a run was last aborted or turned back, if nothing new was promoted since: ages rest then.
    pub stopped: Option<Timestamp>,
}

impl From<Timestamp> for Origin {
    fn from(promoted: Timestamp) -> Self {
        Self {
            promoted,
            moved: promoted,
            stopped: None,
        }
    }
}

impl From<&Anchors> for Origin {
    fn from(anchors: &Anchors) -> Self {
        Self {
            promoted: anchors.born(),
            moved: anchors.moved(),
            stopped: anchors.stopped(),
        }
    }
}

/// What wants a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A slot of the schedule.
    Schedule,
    /// The version has its largest age.
    MaxAge,
    /// Two thirds of the version's lifetime are over.
    Lifetime,
}

/// A fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire {
    /// When, before jitter.
    pub at: Timestamp,
    /// When it would be without windows and freezes.
    pub wanted: Timestamp,
    /// What wants it.
    pub cause: Cause,
    /// When the window closes or a freeze begins.
    pub until: Option<Timestamp>,
    /// What the clock of the schedule's zone does there.
    pub jump: Option<Jump>,
    /// Whether windows and freezes do not allow it, and the version's lifetime ends before they do.
    pub is_outside: bool,
}

impl Fire {
    /// The largest delay that does not carry it out of its window.
    #[must_use]
    pub fn spread(&self, most: Duration) -> Duration {
        spread(most, self.at, self.until)
    }
}

/// The next time that windows and freezes allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) at: Timestamp,
    pub(crate) until: Option<Timestamp>,
}

impl Opening {
    pub(crate) fn spread(&self, most: Duration) -> Duration {
        spread(most, self.at, self.until)
    }
}

/// Whether a slot that is due may fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Yes, until then.
    Open(Option<Timestamp>),
    /// Not before that.
    Until(Opening),
    /// Not any more.
    Never,
}

fn spread(most: Duration, at: Timestamp, until: Option<Timestamp>) -> Duration {
    until.map_or(most, |until| {
        most.min(until.since(at).saturating_sub(MARGIN))
    })
}

/// The first fire after an instant; `None` when there is none.
#[must_use]
pub fn next_fire(
    policy: &RotationPolicy,
    after: Timestamp,
    origin: impl Into<Origin>,
) -> Option<Fire> {
    Reading::of(policy).next_fire(after, origin.into())
}

/// How long an age rests after a run that was aborted or turned back: a tenth of it, but at least
/// [`AGE_RETRY`] and at most [`LONGEST_REST`]. What made containers fail is seldom gone sooner.
#[must_use]
pub fn rest_of(age: Duration) -> Duration {
    (age / 10).clamp(AGE_RETRY, LONGEST_REST)
}

/// A cron line in its zone.
type Clock = (Line, TimeZone);

fn read(expression: &str, timezone: &str) -> Option<Clock> {
    let zone = zone::find(timezone).ok()?;
    Some((cron::read_line(expression).ok()?, zone))
}

/// A policy whose lines are parsed: once, however many fires are asked for.
#[derive(Debug, Clone)]
pub struct Reading<'p> {
    policy: &'p RotationPolicy,
    slots: Option<Clock>,
    windows: Vec<(Clock, Duration)>,
}

impl<'p> Reading<'p> {
    /// Parses a policy's lines; one that is not understood never fires.
    #[must_use]
    pub fn of(policy: &'p RotationPolicy) -> Self {
        let slots = match &policy.schedule {
            Schedule::Cron {
                expression,
                timezone,
            } => read(expression, timezone),
            Schedule::OnDemand | Schedule::Interval(_) => None,
        };
        let windows = policy.windows.iter().filter_map(|window| {
            let clock = read(&window.expression, &window.timezone)?;
            Some((clock, window.duration))
        });
        Self {
            policy,
            slots,
            windows: windows.collect(),
        }
    }

    /// The first fire after an instant; `None` when there is none.
    #[must_use]
    pub fn next_fire(&self, after: Timestamp, origin: Origin) -> Option<Fire> {
        let slot = self.next_slot(after, origin);
        let aged = |age: Option<Duration>| {
            let at = next_of_age(age?, after, origin)?;
            Some(Found { at, jump: None })
        };
        let wanted = [
            (slot, Cause::Schedule),
            (aged(self.policy.max_age), Cause::MaxAge),
            (aged(self.policy.renewal_age()), Cause::Lifetime),
        ];
        wanted
            .into_iter()
            .filter_map(|(found, cause)| self.allowed(origin.promoted, found?, cause))
            .min_by_key(|fire| fire.at)
    }

    /// The first fire that lies ahead of now, where slots up to `served` are served: the one that waits
    /// for a window or a freeze's end, too. One that was missed comes when they allow it again, by the
    /// policy; one that fires in this moment is passed over.
    #[must_use]
    pub fn next_ahead(&self, served: Timestamp, now: Timestamp, origin: Origin) -> Option<Fire> {
        let fire = self.next_fire(served, origin)?;
        if fire.at > now {
            return Some(fire);
        }
        let next = self.next_fire(now, origin);
        let is_caught_up = self.policy.missed_run == MissedRun::Once;
        let opening = self.opening(now).filter(|opening| opening.at > now);
        let Some(opening) = opening.filter(|_| is_caught_up) else {
            return next;
        };
        let missed = Fire {
            at: opening.at,
            until: opening.until,
            is_outside: false,
            ..fire
        };
        let is_sooner = |next: &Fire| next.at < missed.at;
        next.filter(is_sooner).or(Some(missed))
    }

    /// The first slot of the schedule that is not held off.
    fn next_slot(&self, after: Timestamp, origin: Origin) -> Option<Found> {
        let from = self.policy.hold_off.map_or(after, |hold_off| {
            // The slot at its very end counts.
            after.max(before(
                origin.moved.plus(hold_off),
                Duration::from_micros(1),
            ))
        });
        if let Schedule::Interval(every) = &self.policy.schedule {
            let at = next_interval(*every, from, origin.promoted)?;
            return Some(Found { at, jump: None });
        }
        let (line, zone) = self.slots.as_ref()?;
        let offset = offset(self.policy);
        let found = cron::next(line, zone, before(from, offset))?;
        let at = found.at.plus(offset);
        Some(Found { at, ..found })
    }

    /// Moves what is wanted to where windows and freezes allow it.
    fn allowed(&self, promoted: Timestamp, found: Found, cause: Cause) -> Option<Fire> {
        let wanted = found.at;
        let lifetime = self.policy.lifetime;
        let end = lifetime.map(|lifetime| promoted.plus(lifetime));
        let opening = self.opening(wanted);
        let comes_too_late = |end: Timestamp| opening.is_none_or(|opening| opening.at >= end);
        let place = match end.filter(|end| cause == Cause::Lifetime && comes_too_late(*end)) {
            Some(end) => Opening {
                at: wanted,
                until: Some(end).filter(|end| *end > wanted),
            },
            None => opening?,
        };
        let is_held = opening.is_none_or(|opening| opening.at > wanted);
        Some(Fire {
            at: place.at,
            wanted,
            cause,
            until: place.until,
            jump: found.jump,
            is_outside: is_held && place.at == wanted,
        })
    }

    /// The first instant from one on that lies in a window and in no freeze.
    pub(crate) fn opening(&self, from: Timestamp) -> Option<Opening> {
        let freezes = &self.policy.freezes;
        let mut at = from;
        // A step leaves a freeze for good or goes to where a window opens; then only a freeze keeps it.
        for _ in 0..2 * freezes.len() + 3 {
            if let Some(freeze) = freezes.iter().find(|freeze| freeze.holds(at)) {
                at = freeze.until;
                continue;
            }
            let frozen = freezes.iter().map(|freeze| freeze.from);
            let frozen = frozen.filter(|from| *from > at).min();
            if self.policy.windows.is_empty() {
                return Some(Opening { at, until: frozen });
            }
            let windows = self.windows.iter();
            let (opens, closes) = windows
                .filter_map(|window| next_open(window, at))
                .min_by_key(|(opens, _)| *opens)?;
            if opens <= at {
                let until = frozen.map_or(closes, |frozen| frozen.min(closes));
                let until = Some(until);
                return Some(Opening { at, until });
            }
            at = opens;
        }
        None
    }
}

/// How much later than its cron line says the secret rotates.
pub(super) fn offset(policy: &RotationPolicy) -> Duration {
    policy
        .phase
        .as_ref()
        .map_or(Duration::ZERO, |phase| phase.offset)
}

/// An instant so much earlier, at most back to the beginning of time.
pub(super) fn before(at: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().saturating_sub(span))
}

/// When a version is of an age and its rest is over, and from then on again and again while it stays.
fn next_of_age(age: Duration, after: Timestamp, origin: Origin) -> Option<Timestamp> {
    let aged = origin.promoted.plus(age);
    let (first, every) = match origin.stopped {
        None => (aged, AGE_RETRY),
        Some(stopped) => (aged.max(stopped.plus(rest_of(age))), rest_of(age)),
    };
    if first > after {
        return Some(first);
    }
    let every = every.as_micros();
    let passed = after.since(first).as_micros() / every;
    let more = u64::try_from((passed + 1) * every).ok()?;
    Some(first.plus(Duration::from_micros(more)))
}

/// When a window is open from an instant on, and when it closes then.
fn next_open(
    ((line, zone), duration): &(Clock, Duration),
    at: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    // The first one that is not closed yet.
    let opened = cron::next(line, zone, before(at, *duration))?.at;
    Some((opened.max(at), opened.plus(*duration)))
}

/// Whether a slot that is due now may fire. A version near the end of its lifetime, which counts from
/// its first promotion, waits for nothing that opens after it.
pub(crate) fn gate(policy: &RotationPolicy, now: Timestamp, promoted: Timestamp) -> Gate {
    if policy.windows.is_empty() && policy.freezes.is_empty() {
        return Gate::Open(None);
    }
    let opening = Reading::of(policy).opening(now);
    if let Some(opening) = opening.filter(|opening| opening.at <= now) {
        return Gate::Open(opening.until);
    }
    let renewal = policy.renewal_age().map(|age| promoted.plus(age));
    let end = policy.lifetime.map(|lifetime| promoted.plus(lifetime));
    let is_ending = renewal.is_some_and(|renewal| renewal <= now)
        && end.is_some_and(|end| opening.is_none_or(|opening| opening.at >= end));
    match opening {
        _ if is_ending => Gate::Open(end.filter(|end| *end > now)),
        Some(opening) => Gate::Until(opening),
        None => Gate::Never,
    }
}
