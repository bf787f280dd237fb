//! The host: a machine with an injector, known by its keys.

#[cfg(test)]
mod tests;

use crate::id::HostId;
use crate::name::HostName;

/// Public key to which values for a host are sealed (X25519).
pub type SealingKey = [u8; 32];

/// What happened to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is known from now on.
    Enrolled {
        /// Its name.
        name: HostName,
        /// Values for it are sealed to this key.
        sealing_key: SealingKey,
    },
    /// Its injector made a new key; what was sealed to the old one opens no more.
    KeyReplaced {
        /// The new key.
        sealing_key: SealingKey,
    },
}

/// A normal "no" about a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nobody enrolled it.
    #[error("host {0} is not enrolled")]
    NotEnrolled(HostId),
    /// Another host has that name.
    #[error("a host named `{0}` is enrolled already under another id")]
    NameTaken(HostName),
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: HostName,
    /// Values for it are sealed to this key.
    pub sealing_key: SealingKey,
}

impl Host {
    /// Brings a host's key up to date; the same key gives no event.
    #[must_use]
    pub fn decide_replace_key(&self, sealing_key: SealingKey) -> Option<Event> {
        (self.sealing_key != sealing_key).then_some(Event::KeyReplaced { sealing_key })
    }

    /// Folds one event; total.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Enrolled { name, sealing_key } => {
                self.name = name.clone();
                self.sealing_key = *sealing_key;
            }
            Event::KeyReplaced { sealing_key } => self.sealing_key = *sealing_key,
        }
    }
}
