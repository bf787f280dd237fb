//! Subscriptions: named places in the log, kept for clients that go on where they were, as a port.
//!
//! Laws: a place is of everyone who shares the log, and outlives every process; it never goes back;
//! making one that is there leaves it where it is; one that is made again under its name is another one,
//! which whoever knew the one before does not move; there are never more than [`MAX_SUBSCRIPTIONS`].
//! They are no events: a client that acknowledges events must not make some by it.

use async_trait::async_trait;
use keywheel_core::id::SubscriptionId;
use keywheel_core::name::SubscriptionName;

use super::PortError;

/// Most subscriptions of one log.
pub const MAX_SUBSCRIPTIONS: usize = 64;

/// A named place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its id, drawn when it was made.
    pub id: SubscriptionId,
    /// Its name.
    pub name: SubscriptionName,
    /// Number of the last event that its client acknowledged.
    pub acknowledged: u64,
}

/// Keeps them.
#[async_trait]
pub trait Subscriptions: Send + Sync {
    /// All of them, by name.
    async fn subscriptions(&self) -> Result<Vec<Subscription>, PortError>;
    /// Makes one that begins after an event, with this id unless it is there; one more than there may be
    /// is `Conflict`.
    async fn subscribe(
        &self,
        name: &SubscriptionName,
        id: SubscriptionId,
        after: u64,
    ) -> Result<Subscription, PortError>;
    /// Moves one on to an event, never back; an unknown one is `NotFound`, and one with another id is
    /// `Conflict`: it was made again since.
    async fn acknowledge(
        &self,
        name: &SubscriptionName,
        id: SubscriptionId,
        number: u64,
    ) -> Result<Subscription, PortError>;
    /// Forgets one; an unknown one is `NotFound`.
    async fn unsubscribe(&self, name: &SubscriptionName) -> Result<(), PortError>;
}

/// There are as many as there may be.
#[must_use]
pub fn too_many(name: &SubscriptionName) -> PortError {
    let text = format!(
        "there are {MAX_SUBSCRIPTIONS} subscriptions already, so `{name}` is not made; remove one that nobody uses with `keywheel events unsubscribe`"
    );
    PortError::new(super::ErrorKind::Conflict, text)
}

/// There is one of that name, and it is not the one that is meant.
#[must_use]
pub fn made_again(name: &SubscriptionName) -> PortError {
    let text = format!(
        "subscription `{name}` was removed and made again since: it has another id and is left where it stands; read it again and go on from there"
    );
    PortError::new(super::ErrorKind::Conflict, text)
}

/// There is none of that name.
#[must_use]
pub fn unknown(name: &SubscriptionName) -> PortError {
    let text = format!(
        "no subscription is named `{name}`; `keywheel events subscriptions` lists them, `keywheel events subscribe` makes one"
    );
    PortError::new(super::ErrorKind::NotFound, text)
}
