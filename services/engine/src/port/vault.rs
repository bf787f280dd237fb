//! store-sync's encrypted cache, as a port for the `local` store and for serving hosts.
//!
//! Laws: everyone who shares the vault opens what was sealed to a key that one of them told; a token's first value wins, for ever; a destroyed version never comes back, also when it
//! never existed before it was destroyed; plaintext is never at rest.

use async_trait::async_trait;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_seal::SecretBytes;
use keywheel_seal::hpke::HostKeyPair;

use super::PortError;

/// What an insert found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The value is kept.
    New,
    /// The token had a value already; that one stays.
    Existing,
}

/// Values by secret and version, sealed at rest.
#[async_trait]
pub trait VersionVault: Send + Sync {
    /// Keeps the value of a version under its rotation's token. A version that was destroyed is
    /// refused as `Denied`.
    async fn insert(
        &self,
        secret: SecretId,
        version: u64,
        token: RotationId,
        value: &SecretBytes,
    ) -> Result<Inserted, PortError>;
    /// Opens a version. Unknown or destroyed is `NotFound`; tampered is `Corrupt`.
    async fn open(&self, secret: SecretId, version: u64) -> Result<SecretBytes, PortError>;
    /// Whether the version can be opened, without opening it.
    async fn has(&self, secret: SecretId, version: u64) -> Result<bool, PortError>;
    /// Whether the version was destroyed. What is neither destroyed nor there never was, or was lost.
    async fn is_destroyed(&self, secret: SecretId, version: u64) -> Result<bool, PortError>;
    /// Destroys the data key and ciphertext of a version; a repeat is a no-op.
    async fn destroy(&self, secret: SecretId, version: u64) -> Result<(), PortError>;
    /// Keeps a provided value until its rotation creates the version; first one wins.
    async fn stash(&self, token: RotationId, value: &SecretBytes) -> Result<Inserted, PortError>;
    /// The stashed value, if it is there.
    async fn stashed(&self, token: RotationId) -> Result<Option<SecretBytes>, PortError>;
    /// The key pairs to which provided values are sealed, newest first: that one is told, all of them
    /// open. The first time makes one; from time to time the next one is made, by whoever asks first.
    async fn store_keys(&self) -> Result<Vec<HostKeyPair>, PortError>;
    /// Drops a stashed value; a repeat is a no-op.
    async fn drop_stashed(&self, token: RotationId) -> Result<(), PortError>;
}
