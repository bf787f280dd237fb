//! A revocation that waits for a replacement: its versions live until another one is in use instead of them.
//!
//! When that is so, and what happens where nothing comes, is `decision`'s.

use super::{Backend, Event, Revocation};
use crate::id::RotationId;

/// What is to take the place of versions before they die.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The rotation that is to bring it; where that does not, any later one of the secret does.
    pub rotation: RotationId,
    /// Whether they die as soon as it is promoted, and without one where it is not.
    pub is_emergency: bool,
}

impl Revocation {
    /// Whether its versions are dead from its request on; until then it waits for a replacement.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.backend != Backend::NotAsked
    }

    /// Whether it waits for a replacement.
    #[must_use]
    pub fn is_awaiting(&self) -> bool {
        !self.closed && !self.is_begun()
    }

    /// What it waits for before anything of it begins.
    pub(super) fn evolve_replacement(&mut self, event: &Event) {
        match event {
            Event::ReplacementAwaited {
                secret,
                versions,
                reason,
                rotation,
                is_emergency,
            } => {
                self.secret = *secret;
                self.versions.clone_from(versions);
                self.reason.clone_from(reason);
                self.backend = Backend::NotAsked;
                self.replacement = Some(Replacement {
                    rotation: *rotation,
                    is_emergency: *is_emergency,
                });
            }
            Event::ReplacementGivenUp { reason } => self.given_up = Some(reason.clone()),
            _ => {}
        }
    }
}
