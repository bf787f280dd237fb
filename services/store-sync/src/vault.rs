//! The vault with failpoints around its insert, which is the moment at which a new version comes to
//! be. Owns nothing else: every call goes to the vault beneath it.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_daemon::failpoint::{self, Injected};
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use keywheel_seal::hpke::HostKeyPair;

/// A vault in which a test can stop the program right before and right after an insert.
pub struct Watched(Arc<dyn VersionVault>);

impl Watched {
    /// Over this vault.
    #[must_use]
    pub fn new(vault: Arc<dyn VersionVault>) -> Self {
        Self(vault)
    }
}

fn injected(error: Injected) -> PortError {
    PortError::caused(ErrorKind::Unavailable, "the insert was not done", error)
}

#[async_trait]
impl VersionVault for Watched {
    async fn insert(
        &self,
        secret: SecretId,
        version: u64,
        token: RotationId,
        value: &SecretBytes,
    ) -> Result<Inserted, PortError> {
        failpoint::hit_async("storesync.before_insert")
            .await
            .map_err(injected)?;
        let inserted = self.0.insert(secret, version, token, value).await?;
        failpoint::hit_async("storesync.after_insert")
            .await
            .map_err(injected)?;
        Ok(inserted)
    }

    async fn open(&self, secret: SecretId, version: u64) -> Result<SecretBytes, PortError> {
        self.0.open(secret, version).await
    }

    async fn has(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        self.0.has(secret, version).await
    }

    async fn is_destroyed(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        self.0.is_destroyed(secret, version).await
    }

    async fn destroy(&self, secret: SecretId, version: u64) -> Result<(), PortError> {
        self.0.destroy(secret, version).await
    }

    async fn stash(&self, token: RotationId, value: &SecretBytes) -> Result<Inserted, PortError> {
        self.0.stash(token, value).await
    }

    async fn stashed(&self, token: RotationId) -> Result<Option<SecretBytes>, PortError> {
        self.0.stashed(token).await
    }

    async fn store_keys(&self) -> Result<Vec<HostKeyPair>, PortError> {
        self.0.store_keys().await
    }

    async fn drop_stashed(&self, token: RotationId) -> Result<(), PortError> {
        self.0.drop_stashed(token).await
    }
}
