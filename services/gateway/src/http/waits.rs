//! Waits for the end of a rotation or revocation, so that one wait is one record though a client asks
//! again and again.
//!
//! Invariants: the first request of a person for a thing is never called a repeat, nor one that comes
//! [`WAIT_WINDOW`] after it; the number of waits that are remembered is bounded, and what is not
//! remembered is recorded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keywheel_core::audit::Principal;
use keywheel_core::time::Timestamp;

/// How long one record speaks for a person's waits for one thing.
const WAIT_WINDOW: Duration = Duration::from_secs(60);
/// Waits that are remembered.
const MAX_WAITS: usize = 256;

/// Waits that are on record.
#[derive(Debug, Default)]
pub struct Waits(Mutex<BTreeMap<String, Timestamp>>);

impl Waits {
    /// Whether a record of this wait is there; otherwise one is to be made now.
    pub fn is_repeated(&self, now: Timestamp, principal: &Principal, path: &str) -> bool {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.retain(|_, at| now < at.plus(WAIT_WINDOW));
        let wait = key(principal, path);
        if recorded.contains_key(&wait) {
            return true;
        }
        if recorded.len() < MAX_WAITS {
            recorded.insert(wait, now);
        }
        false
    }

    /// The record of a person's wait could not be made: the next one is no repeat.
    pub fn forget(&self, principal: &Principal, path: &str) {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.remove(&key(principal, path));
    }
}

fn key(principal: &Principal, path: &str) -> String {
    format!("{principal:?} {path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(uid: u32) -> Principal {
        let name = String::new();
        Principal::User { uid, name }
    }

    #[test]
    fn a_wait_is_recorded_once_per_person_thing_and_window() {
        let (waits, begin) = (Waits::default(), Timestamp::default());
        assert!(!waits.is_repeated(begin, &person(1), "a"));
        assert!(waits.is_repeated(begin, &person(1), "a"));
        assert!(!waits.is_repeated(begin, &person(2), "a"));
        assert!(!waits.is_repeated(begin, &person(1), "b"));
        waits.forget(&person(2), "a");
        assert!(!waits.is_repeated(begin, &person(2), "a"));
        let later = begin.plus(WAIT_WINDOW);
        assert!(!waits.is_repeated(later, &person(1), "a"));
    }

    #[test]
    fn what_does_not_fit_is_recorded_each_time() {
        let (waits, now) = (Waits::default(), Timestamp::default());
        for n in 0..MAX_WAITS {
            assert!(!waits.is_repeated(now, &person(1), &n.to_string()));
        }
        for _ in 0..2 {
            assert!(!waits.is_repeated(now, &person(1), "one more"));
        }
        assert!(waits.is_repeated(now, &person(1), "0"));
    }
}
