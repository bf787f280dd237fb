//! New work that may not begin now, because too few sinks take the audit's records (rule A1).
//!
//! Invariants: a revocation, what carries one out, what a host says that is so, and records of what was denied are
//! never held back; a person's command that is held back is on record before its sender hears of it; nothing of it is
//! remembered, so the same command is decided as if it were new once there are sinks enough.

use std::sync::Arc;

use keywheel_core::audit::Principal;
use keywheel_core::id::CommandId;

use super::{CommandBus, Submission, class};
use crate::auditing::{self, Deed};
use crate::port::journal::{Class, Decision};
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

    /// What a person's command leaves that is held back. A service asks again by itself, which is no deed.
    pub(super) fn held_record(&self, submission: &Submission, why: &str) -> Option<Decision> {
        let is_person = matches!(
            submission.principal,
            Principal::User { .. } | Principal::Operator { .. }
        );
        if !is_person {
            return None;
        }
        let deed = Deed {
            principal: &submission.principal,
            id: submission.id,
            time: self.parts.clock.now(),
            traceparent: submission.traceparent.as_deref(),
        };
        let records = auditing::held_records(&self.draft, &deed, &submission.command, why);
        // An id of its own: the command itself is not answered.
        let own = CommandId::from_bytes(self.parts.ids.draw());
        Some(self.records_only(own, deed.time, records))
    }
}
