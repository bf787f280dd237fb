//! The programs that we run in containers ourselves, by the engine's ids, so that they are not taken
//! for a person's. Bounded: the oldest is forgotten, long after its event has come.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Ids that are kept.
pub(crate) const MAX_OWN_EXECS: usize = 4096;

/// See the file.
#[derive(Debug, Default)]
pub(crate) struct OwnExecs(Mutex<VecDeque<String>>);

impl OwnExecs {
    /// Before it is begun.
    pub(crate) fn note(&self, exec: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_OWN_EXECS {
            known.pop_front();
        }
        known.push_back(exec.to_owned());
    }

    /// Whether it is one of ours.
    pub(crate) fn has(&self, exec: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Most often it is the newest.
        known.iter().rev().any(|one| one == exec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_and_no_more_than_the_limit() {
        let own = OwnExecs::default();
        for number in 0..=MAX_OWN_EXECS {
            own.note(&number.to_string());
        }
        assert!(!own.has("0"));
        assert!(own.has("1") && own.has(&MAX_OWN_EXECS.to_string()));
        assert!(!own.has(""));
    }
}
