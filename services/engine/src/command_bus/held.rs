//! New work that may not begin now, because too few sinks take the audit's records (rule A1).
//!
//! Invariants: a revocation, what carries one out, what a host says that is so, and records of what was denied are
//! never held back; nothing of what is held back is remembered, so the same command is decided as if it were new once
//! there are sinks enough. That a person asked and was refused is on record by whoever served the request.

use std::sync::Arc;

use super::{CommandBus, Submission, class};
use crate::port::journal::Class;
use crate::port::{ErrorKind, PortError};

/// Says why no new work may begin now; nothing where it may.
pub type HoldBack = Arc<dyn Fn() -> Option<String> + Send + Sync>;

impl CommandBus {
    /// Asks this before each new work.
    #[must_use]
    pub fn with_hold_back(mut self, hold_back: HoldBack) -> Self {
        self.hold_back = Some(hold_back);
        self
    }

    /// Why a command is not decided now.
    pub(super) fn held_back(&self, submission: &Submission) -> Option<PortError> {
        let hold_back = self.hold_back.as_ref()?;
        if class::of(&self.draft, &submission.command) > Class::Work {
            return None;
        }
        hold_back().map(|why| PortError::new(ErrorKind::Unavailable, why))
    }
}
