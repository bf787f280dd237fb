//! How far receivers outside came in the log, and what could not be delivered or read, as a port.
//!
//! Laws: a place is of everyone who shares the log, and outlives every process; of several processes one at a
//! time has a receiver's turn, and a turn that is not renewed ends by itself; a place is moved only from where
//! its mover saw it, so who was overtaken moves nothing; only a person moves it back. Of letters each owner
//! keeps the newest [`MAX_LETTERS`]; one under the id of another takes its place; of one that is thrown away, is
//! too old, or whose owner is gone, nothing is left where that can be promised. Neither places nor letters
//! are events: what is told about an event must not make one.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::{LetterId, NotificationId};
use keywheel_core::time::Timestamp;

use super::PortError;

/// Most letters that are kept of one owner; the oldest goes.
pub const MAX_LETTERS: usize = 100;
/// Largest body that is kept with a letter, in bytes; sealed it is a little longer.
pub const MAX_LETTER_BYTES: usize = 16 << 10;
/// How long a letter of what came from outside is kept; a person mends a mapping within that.
pub const MAX_LETTER_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest reason that is kept with a letter, in characters.
pub const MAX_LETTER_REASON_CHARS: usize = 300;

/// What could not be delivered to somebody outside, or not be read of what came from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its id.
    pub id: LetterId,
    /// `notification/NAME` or `signal-source/NAME`.
    pub owner: String,
    /// Which event by its number, or what came, in words.
    pub heading: String,
    /// When it was given up.
    pub time: Timestamp,
    /// Why, without a value.
    pub reason: String,
    /// The number of the event; or what came, sealed. Empty where nothing is kept of it.
    pub body: Vec<u8>,
}

/// Keeps them.
#[async_trait]
pub trait Deliveries: Send + Sync {
    /// Takes a receiver's turn for a span, or keeps it, and gives its place, which begins after `first`;
    /// nothing while another process has the turn.
    async fn claim(
        &self,
        receiver: NotificationId,
        first: u64,
        span: Duration,
    ) -> Result<Option<u64>, PortError>;
    /// Moves a place on; whether it stood where its mover saw it.
    async fn advance(
        &self,
        receiver: NotificationId,
        from: u64,
        to: u64,
    ) -> Result<bool, PortError>;
    /// Moves a place back; whether it stood further on.
    async fn rewind(&self, receiver: NotificationId, to: u64) -> Result<bool, PortError>;
    /// Every place.
    async fn places(&self) -> Result<BTreeMap<NotificationId, u64>, PortError>;
    /// Forgets a receiver's place.
    async fn forget(&self, receiver: NotificationId) -> Result<(), PortError>;
    /// Keeps a letter; how many of its owner's oldest went for it.
    async fn keep(&self, letter: &Letter) -> Result<u64, PortError>;
    /// Every letter without its body, oldest first.
    async fn letters(&self) -> Result<Vec<Letter>, PortError>;
    /// One letter, whole.
    async fn letter(&self, id: LetterId) -> Result<Option<Letter>, PortError>;
    /// Throws a letter away; whether it was there.
    async fn discard(&self, id: LetterId) -> Result<bool, PortError>;
    /// Throws away the letters before a time, of all owners whose name begins so; how many.
    async fn expire(&self, owners: &str, before: Timestamp) -> Result<u64, PortError>;
    /// Throws away every letter of an owner; how many.
    async fn discard_all(&self, owner: &str) -> Result<u64, PortError>;
}
