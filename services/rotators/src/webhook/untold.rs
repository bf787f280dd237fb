//! What the port `accounts` is told of a receiver: nobody signs in there but by the receiver itself.
//!
//! Invariant: what cannot be told is said to be so, and never guessed. Asks nobody.

use async_trait::async_trait;
use keywheel_core::resource::Resource;
use keywheel_engine::port::accounts::{Accounts, Keep, Login, Mark};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

/// The accounts of a receiver, as far as anything can be told of them.
pub struct WebhookAccounts {
    resource: Resource,
    grants: String,
}

impl WebhookAccounts {
    /// Those of this receiver.
    ///
    /// # Errors
    /// When `connection` is no URL that may be asked.
    pub fn new(resource: Resource) -> Result<Self, PortError> {
        let grants = super::grants(&resource)?;
        Ok(Self { resource, grants })
    }

    fn not_here<T>(&self) -> Result<T, PortError> {
        let text = format!(
            "{} performs the steps itself, and lets nobody in otherwise; leave it to its rotation",
            self.resource
        );
        Err(PortError::new(ErrorKind::Denied, text))
    }
}

#[async_trait]
impl Accounts for WebhookAccounts {
    async fn accept(
        &self,
        _: &Login,
        _: &SecretBytes,
        _: Keep,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()?;
        self.not_here()
    }

    async fn admits(&self, _: &Login, _: &SecretBytes, until: &Until) -> Result<bool, PortError> {
        until.check()?;
        self.not_here()
    }

    async fn refuse(
        &self,
        _: &Login,
        _: Option<&SecretBytes>,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()?;
        self.not_here()
    }

    async fn end_sessions(&self, _: &Login, until: &Until) -> Result<u64, PortError> {
        until.check()?;
        self.not_here()
    }

    async fn mark(&self, until: &Until) -> Result<Mark, PortError> {
        until.check().map(|()| Mark(0))
    }

    async fn older(&self, _: &Login, _: &Mark, until: &Until) -> Result<Option<u64>, PortError> {
        until.check().map(|()| None)
    }

    fn grants(&self) -> String {
        self.grants.clone()
    }
}
