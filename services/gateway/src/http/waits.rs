//! Waits for the end of a rotation or revocation, so that one wait is one record though a client asks
//! again and again.
//!
//! Invariants: a request of a person for a thing is called a repeat only once a record of the first is made, and none that
//! comes [`WAIT_WINDOW`] after it; the number of waits that are remembered is bounded, and what is not
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
    /// Whether a record of this wait is there.
    pub fn is_recorded(&self, now: Timestamp, principal: &Principal, path: &str) -> bool {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.retain(|_, at| now < at.plus(WAIT_WINDOW));
        recorded.contains_key(&key(principal, path))
    }

    /// A record of this wait was made.
    pub fn note(&self, now: Timestamp, principal: &Principal, path: &str) {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() < MAX_WAITS {
            recorded.insert(key(principal, path), now);
        }
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
        let is_recorded = |uid, path, at| waits.is_recorded(at, &person(uid), path);
        assert!(!is_recorded(1, "a", begin));
        // Asking alone makes none.
        assert!(!is_recorded(1, "a", begin));
        waits.note(begin, &person(1), "a");
        assert!(is_recorded(1, "a", begin));
        assert!(!is_recorded(2, "a", begin));
        assert!(!is_recorded(1, "b", begin));
        assert!(!is_recorded(1, "a", begin.plus(WAIT_WINDOW)));
    }

    #[test]
    fn what_does_not_fit_is_recorded_each_time() {
        let (waits, now) = (Waits::default(), Timestamp::default());
        for n in 0..MAX_WAITS {
            waits.note(now, &person(1), &n.to_string());
        }
        waits.note(now, &person(1), "one more");
        assert!(!waits.is_recorded(now, &person(1), "one more"));
        assert!(waits.is_recorded(now, &person(1), "0"));
    }
}
