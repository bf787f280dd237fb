//! Whoever speaks with others outside, as the API asks it: a port.
//!
//! Laws: a test and a retry are one attempt each, and are answered with how it ended; neither moves a
//! receiver's place.

use std::collections::BTreeMap;

use async_trait::async_trait;
use keywheel_core::audit::Principal;
use keywheel_core::id::NotificationId;
use keywheel_core::name::NotificationName;
use keywheel_core::time::Timestamp;

use super::PortError;
use super::deliveries::Letter;

/// That a receiver could not be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Why, without a value.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// How often it was tried since.
    pub attempts: u32,
}

/// Speaks with others outside.
#[async_trait]
pub trait Outside: Send + Sync {
    /// Sends a message that says it is a test to a notification's receiver.
    async fn test(&self, name: &NotificationName) -> Result<(), PortError>;
    /// Delivers, or reads, a letter once more: what is taken then, that person takes. `Denied` where what it came
    /// from is another one by now under the same name.
    async fn retry(&self, letter: &Letter, by: &Principal) -> Result<(), PortError>;
    /// The receivers that this process could not tell last.
    fn troubles(&self) -> BTreeMap<NotificationId, Trouble>;
    /// Has whoever waits for a receiver, or for something to tell, look now.
    fn call(&self);
}
