//! The programs that we run in containers ourselves, by container and the engine's id, so that they are
//! not taken for a person's. By both, because a container's labels overlay what an event says: one with
//! the label `execID` could pass off what runs in it as ours elsewhere. Bounded: the oldest is forgotten,
//! long after its event has come.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use keywheel_core::id::ContainerId;

/// Ids that are kept.
pub(crate) const MAX_OWN_EXECS: usize = 4096;

/// See the file.
#[derive(Debug, Default)]
pub(crate) struct OwnExecs(Mutex<VecDeque<(ContainerId, String)>>);

impl OwnExecs {
    /// Before it is begun.
    pub(crate) fn note(&self, container: &ContainerId, exec: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_OWN_EXECS {
            known.pop_front();
        }
        known.push_back((container.clone(), exec.to_owned()));
    }

    /// One that did not begin: no event of it comes.
    pub(crate) fn forget(&self, container: &ContainerId, exec: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(place, one)| one != exec || place != container);
    }

    /// Whether one of ours began in this container and was not taken yet, for an engine that tells of an exec
    /// without its id: of as many events as we began programs nothing is said.
    pub(crate) fn take(&self, container: &ContainerId) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(place, _)| place == container);
        at.and_then(|at| known.remove(at)).is_some()
    }

    /// Whether it is one of ours.
    pub(crate) fn has(&self, container: &ContainerId, exec: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Most often it is the newest.
        let mut known = known.iter().rev();
        known.any(|(place, one)| one == exec && place == container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_in_their_container_and_no_more_than_the_limit() {
        let own = OwnExecs::default();
        let id = ContainerId::parse(&"a".repeat(64)).unwrap();
        for number in 0..=MAX_OWN_EXECS {
            own.note(&id, &number.to_string());
        }
        assert!(!own.has(&id, "0"));
        assert!(own.has(&id, "1") && own.has(&id, &MAX_OWN_EXECS.to_string()));
        assert!(!own.has(&id, ""));
        let other = ContainerId::parse(&"b".repeat(64)).unwrap();
        assert!(!own.has(&other, "1"));
    }

    #[test]
    fn without_ids_as_many_are_ours_as_began() {
        let own = OwnExecs::default();
        let id = |digit: &str| ContainerId::parse(&digit.repeat(64)).unwrap();
        for exec in ["1", "2", "3"] {
            own.note(&id("a"), exec);
        }
        own.forget(&id("b"), "1");
        own.forget(&id("a"), "2");
        assert!(!own.take(&id("b")));
        assert!(own.take(&id("a")) && own.take(&id("a")) && !own.take(&id("a")));
    }
}
