//! The next fire of a whole policy: of its schedule, its largest age and its lifetime the one that
//! comes first, out of closed windows and freezes. Pure, given the time zone database.
//!
//! Invariants: a fire lies in an open window and in no freeze, unless the version's lifetime would end
//! before they allow one; it follows from policy, promotion and what was served alone, so every
//! scheduler comes to the same.

use std::time::Duration;

use keywheel_core::schedule::{RotationPolicy, Schedule, Window};
use keywheel_core::time::Timestamp;

use super::cron::{Found, Jump};
use super::{next_cron, next_interval};

/// How long after a rotation that left a version in place which is too old another one is wanted.
pub const AGE_RETRY: Duration = Duration::from_secs(600);
/// Kept free before the end of a window, so that a delay does not end on it.
const MARGIN: Duration = Duration::from_secs(1);

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

/// The first fire after an instant; `None` when there is none. Interval, age and lifetime count from
/// `anchor`, the last promotion.
#[must_use]
pub fn next_fire(policy: &RotationPolicy, after: Timestamp, anchor: Timestamp) -> Option<Fire> {
    let slot = next_slot(policy, after, anchor);
    let aged = |age: Option<Duration>| {
        let at = next_of_age(age?, after, anchor)?;
        Some(Found { at, jump: None })
    };
    let wanted = [
        (slot, Cause::Schedule),
        (aged(policy.max_age), Cause::MaxAge),
        (aged(policy.renewal_age()), Cause::Lifetime),
    ];
    wanted
        .into_iter()
        .filter_map(|(found, cause)| allowed(policy, anchor, found?, cause))
        .min_by_key(|fire| fire.at)
}

/// The first slot of the schedule that is not held off.
fn next_slot(policy: &RotationPolicy, after: Timestamp, anchor: Timestamp) -> Option<Found> {
    let from = policy.hold_off.map_or(after, |hold_off| {
        // The slot at its very end counts.
        after.max(before(anchor.plus(hold_off), Duration::from_micros(1)))
    });
    match &policy.schedule {
        Schedule::OnDemand => None,
        Schedule::Interval(every) => {
            let at = next_interval(*every, from, anchor)?;
            Some(Found { at, jump: None })
        }
        Schedule::Cron {
            expression,
            timezone,
        } => {
            let offset = offset(policy);
            let found = next_cron(expression, timezone, before(from, offset))?;
            let at = found.at.plus(offset);
            Some(Found { at, ..found })
        }
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

/// When a version is of an age, and from then on every [`AGE_RETRY`].
fn next_of_age(age: Duration, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
    let first = anchor.plus(age);
    if first > after {
        return Some(first);
    }
    let every = AGE_RETRY.as_micros();
    let passed = after.since(first).as_micros() / every;
    let more = u64::try_from((passed + 1) * every).ok()?;
    Some(first.plus(Duration::from_micros(more)))
}

/// Moves what is wanted to where windows and freezes allow it.
fn allowed(policy: &RotationPolicy, anchor: Timestamp, found: Found, cause: Cause) -> Option<Fire> {
    let wanted = found.at;
    let end = policy.lifetime.map(|lifetime| anchor.plus(lifetime));
    let opening = opening(policy, wanted);
    let comes_too_late = |end: Timestamp| opening.is_none_or(|opening| opening.at >= end);
    let place = match end.filter(|end| cause == Cause::Lifetime && comes_too_late(*end)) {
        Some(end) => Opening {
            at: wanted,
            until: Some(end).filter(|end| *end > wanted),
        },
        None => opening?,
    };
    Some(Fire {
        at: place.at,
        wanted,
        cause,
        until: place.until,
        jump: found.jump,
    })
}

/// The first instant from one on that lies in a window and in no freeze.
pub(crate) fn opening(policy: &RotationPolicy, from: Timestamp) -> Option<Opening> {
    let mut at = from;
    // A step leaves a freeze for good or goes to where a window opens; then only a freeze keeps it.
    for _ in 0..2 * policy.freezes.len() + 3 {
        if let Some(freeze) = policy.freezes.iter().find(|freeze| freeze.holds(at)) {
            at = freeze.until;
            continue;
        }
        let frozen = policy.freezes.iter().map(|freeze| freeze.from);
        let frozen = frozen.filter(|from| *from > at).min();
        if policy.windows.is_empty() {
            return Some(Opening { at, until: frozen });
        }
        let windows = policy.windows.iter();
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

/// When a window is open from an instant on, and when it closes then.
fn next_open(window: &Window, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
    // The first one that is not closed yet.
    let since = before(at, window.duration);
    let opened = next_cron(&window.expression, &window.timezone, since)?.at;
    Some((opened.max(at), opened.plus(window.duration)))
}

/// Whether a slot that is due now may fire. A version near the end of its lifetime waits for nothing
/// that opens after it.
pub(crate) fn gate(policy: &RotationPolicy, now: Timestamp, anchor: Timestamp) -> Gate {
    if policy.windows.is_empty() && policy.freezes.is_empty() {
        return Gate::Open(None);
    }
    let opening = opening(policy, now);
    if let Some(opening) = opening.filter(|opening| opening.at <= now) {
        return Gate::Open(opening.until);
    }
    let renewal = policy.renewal_age().map(|age| anchor.plus(age));
    let end = policy.lifetime.map(|lifetime| anchor.plus(lifetime));
    let is_ending = renewal.is_some_and(|renewal| renewal <= now)
        && end.is_some_and(|end| opening.is_none_or(|opening| opening.at >= end));
    match opening {
        _ if is_ending => Gate::Open(end.filter(|end| *end > now)),
        Some(opening) => Gate::Until(opening),
        None => Gate::Never,
    }
}
