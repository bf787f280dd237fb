//! How one sink is: how far it was told, since when records wait for it, and what went wrong last.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_engine::presence::{Fact, SINK_FACT};

/// What is known of one sink; shared by the task that tells it and by whoever looks.
#[derive(Debug)]
pub(crate) struct State {
    name: String,
    kind: &'static str,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The first record that it was not told.
    next: u64,
    /// A size that the copy had, and when: until it was told so many, that long do records wait.
    mark: Option<(u64, Duration)>,
    /// What went wrong last; gone with the next success.
    fault: Option<String>,
    failures: u64,
    /// What it has is not what the copy has.
    conflict: Option<String>,
}

/// How a sink is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// What sort it is.
    pub kind: &'static str,
    /// Records that it was told.
    pub told: u64,
    /// Records that wait for it.
    pub waiting: u64,
    /// How long the oldest of them has waited, at least.
    pub waits: Duration,
    /// Attempts that failed since the start.
    pub failures: u64,
    /// What went wrong last.
    pub fault: Option<String>,
    /// What it has is not what the copy has.
    pub conflict: Option<String>,
}

impl State {
    pub(super) fn new(name: &str, kind: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            inner: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where it begins, and how far the copy is.
    pub(super) fn stands(&self, next: u64, size: u64, now: Duration) {
        let mut inner = self.inner();
        inner.next = next;
        // A mark is kept until all is told that there was then, so who is slow for ever does not look well for ever.
        match inner.mark {
            Some((wanted, _)) if next < wanted => {}
            _ => inner.mark = (next < size).then_some((size, now)),
        }
    }

    /// It stands where it stood, and the copy is so far: for an attempt that did not come to its place.
    pub(super) fn still_stands(&self, size: u64, now: Duration) {
        let next = self.inner().next;
        self.stands(next, size, now);
    }

    /// An attempt went well.
    pub(super) fn is_well(&self) {
        let mut inner = self.inner();
        inner.fault = None;
        inner.conflict = None;
    }

    /// An attempt failed; whether the one before had not.
    pub(super) fn fails(&self, fault: String) -> bool {
        let mut inner = self.inner();
        inner.failures = inner.failures.saturating_add(1);
        inner.fault.replace(fault).is_none()
    }

    /// What it has is not what the copy has; whether that is news.
    pub(super) fn differs(&self, conflict: String) -> bool {
        self.inner().conflict.replace(conflict).is_none()
    }

    /// How it is, with a copy of this size.
    pub(crate) fn standing(&self, size: u64, now: Duration) -> Standing {
        let inner = self.inner();
        let since = inner.mark.map(|(_, since)| since);
        Standing {
            name: self.name.clone(),
            kind: self.kind,
            told: inner.next,
            waiting: size.saturating_sub(inner.next),
            waits: since.map_or(Duration::ZERO, |since| now.saturating_sub(since)),
            failures: inner.failures,
            fault: inner.fault.clone(),
            conflict: inner.conflict.clone(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// As `status` tells it; a problem is what does not count among those that take records.
    pub(crate) fn fact(&self, max_lag: Duration) -> Fact {
        let name = format!("{SINK_FACT}{}", self.name);
        let told = format!("{} records told by {}", self.told, self.kind);
        if let Some(conflict) = &self.conflict {
            let next = "keep the sink's records and the journal, and compare them: `keywheel audit verify --against FILE`";
            return Fact::problem(&name, conflict.clone(), next);
        }
        let why = self.fault.as_deref().unwrap_or("it is slow");
        let waits = format!(
            "{told}; {} wait, the oldest for {} s: {why}",
            self.waiting,
            self.waits.as_secs()
        );
        let next =
            "mend the receiver or the way to it; it is tried again by itself and loses nothing";
        if self.waits > max_lag {
            Fact::problem(&name, waits, next)
        } else if self.fault.is_some() {
            Fact::warning(&name, waits, next)
        } else {
            Fact::ok(&name, format!("{told}; {} wait", self.waiting))
        }
    }
}

#[cfg(test)]
mod tests {
    use keywheel_engine::presence::Health;

    use super::*;

    const LAG: Duration = Duration::from_secs(60);
    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn health(state: &State, size: u64, now: u64) -> Health {
        state.standing(size, at(now)).fact(LAG).health
    }

    #[test]
    fn a_sink_is_well_until_a_record_has_waited_too_long() {
        let state = State::new("siem", "syslog");
        state.stands(0, 0, at(0));
        assert_eq!(health(&state, 0, 1000), Health::Ok);
        state.stands(0, 5, at(1000));
        assert_eq!(health(&state, 5, 1060), Health::Ok);
        assert_eq!(health(&state, 5, 1061), Health::Problem);
        state.stands(5, 5, at(1061));
        assert_eq!(health(&state, 5, 2000), Health::Ok);
    }

    #[test]
    fn one_that_fails_is_a_warning_first_and_says_why() {
        let state = State::new("siem", "syslog");
        state.stands(0, 5, at(0));
        assert!(state.fails("no route".to_owned()));
        assert!(!state.fails("no route".to_owned()), "told once");
        assert_eq!(health(&state, 5, 10), Health::Warning);
        let look = state.standing(5, at(61));
        assert_eq!((look.waiting, look.failures), (5, 2));
        let fact = look.fact(LAG);
        assert_eq!(fact.health, Health::Problem);
        assert!(fact.note.contains("no route"), "{}", fact.note);
        assert_eq!(fact.name, "sink siem");
        state.is_well();
        assert!(state.fails("again".to_owned()), "news again");
    }

    #[test]
    fn one_that_cannot_even_begin_is_a_problem_after_as_long() {
        let state = State::new("archive", "file");
        for second in [0, 30, 61] {
            state.still_stands(5, at(second));
            state.fails("no such directory".to_owned());
        }
        assert_eq!(health(&state, 5, 60), Health::Warning);
        assert_eq!(health(&state, 5, 61), Health::Problem);
    }

    #[test]
    fn one_that_is_always_behind_does_not_look_well_because_it_moves() {
        let state = State::new("siem", "syslog");
        for second in 0..100 {
            // It is told one record a second, and ten come.
            state.stands(second, 1000 + 10 * second, at(second));
        }
        assert_eq!(health(&state, 2000, 100), Health::Problem);
        // One that keeps up with a log that never rests is well.
        let state = State::new("siem", "syslog");
        for second in 0..100 {
            state.stands(10 * second, 10 * second + 10, at(second));
        }
        assert_eq!(health(&state, 1000, 100), Health::Ok);
    }

    #[test]
    fn a_sink_that_has_something_else_is_a_problem_at_once() {
        let state = State::new("archive", "file");
        state.stands(5, 5, at(0));
        assert!(state.differs("record 4 differs".to_owned()));
        assert_eq!(health(&state, 5, 0), Health::Problem);
    }
}
