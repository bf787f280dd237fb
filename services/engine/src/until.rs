//! Until when an effect may touch what is outside.
//!
//! The gateway says an instant with each effect it sends; whoever performs it asks here right before
//! every call. So a process that was paused makes no call that nobody waits for any more: the effect
//! is open, and comes again with another instant. It ends no call that has begun.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::time::Timestamp;

use crate::port::clock::Clock;
use crate::port::{ErrorKind, PortError};

/// An effect's last instant, and the clock that is asked.
#[derive(Clone)]
pub struct Until {
    deadline: Timestamp,
    clock: Arc<dyn Clock>,
}

impl Until {
    /// Until an instant, by this clock.
    #[must_use]
    pub fn new(deadline: Timestamp, clock: Arc<dyn Clock>) -> Self {
        Self { deadline, clock }
    }

    /// What this clock says now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether it is too late.
    #[must_use]
    pub fn is_past(&self) -> bool {
        self.clock.now() >= self.deadline
    }

    /// Refuses a call that would come too late; ask right before each one.
    ///
    /// # Errors
    /// When it is too late.
    pub fn check(&self) -> Result<(), PortError> {
        if self.is_past() {
            let text = "its deadline has passed; it is done when it comes again";
            return Err(PortError::new(ErrorKind::Unavailable, text));
        }
        Ok(())
    }

    /// How long it is until then.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.since(self.clock.now())
    }
}
