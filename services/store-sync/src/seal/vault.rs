//! The seal in the vault's place: it hands every call on, or says that it is sealed.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_engine::port::PortError;
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_seal::SecretBytes;
use keywheel_seal::hpke::HostKeyPair;

use super::Seal;

impl Seal {
    /// For whoever works with a vault.
    #[must_use]
    pub fn as_vault(&self) -> Arc<dyn VersionVault> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl VersionVault for Seal {
    async fn insert(
        &self,
        secret: SecretId,
        version: u64,
        token: RotationId,
        value: &SecretBytes,
    ) -> Result<Inserted, PortError> {
        self.vault()?.insert(secret, version, token, value).await
    }

    async fn open(&self, secret: SecretId, version: u64) -> Result<SecretBytes, PortError> {
        self.vault()?.open(secret, version).await
    }

    async fn has(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        self.vault()?.has(secret, version).await
    }

    async fn is_destroyed(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        self.vault()?.is_destroyed(secret, version).await
    }

    async fn destroy(&self, secret: SecretId, version: u64) -> Result<(), PortError> {
        self.vault()?.destroy(secret, version).await
    }

    async fn stash(&self, token: RotationId, value: &SecretBytes) -> Result<Inserted, PortError> {
        self.vault()?.stash(token, value).await
    }

    async fn stashed(&self, token: RotationId) -> Result<Option<SecretBytes>, PortError> {
        self.vault()?.stashed(token).await
    }

    async fn store_keys(&self) -> Result<Vec<HostKeyPair>, PortError> {
        self.vault()?.store_keys().await
    }

    async fn drop_stashed(&self, token: RotationId) -> Result<(), PortError> {
        self.vault()?.drop_stashed(token).await
    }
}
