//! The cache as the engine's port.
//!
//! Owns only the translation of errors: kinds by what the caller can do, the text for people, and the
//! library's error beneath it.

use async_trait::async_trait;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use keywheel_seal::hpke::HostKeyPair;

use crate::cache::Cache;
use crate::error::{Error, Kind};
use crate::table::Table;

#[async_trait]
impl<T: Table> VersionVault for Cache<T> {
    async fn insert(
        &self,
        secret: SecretId,
        version: u64,
        token: RotationId,
        value: &SecretBytes,
    ) -> Result<Inserted, PortError> {
        self.insert_pending(secret, version, token, value)
            .await
            .map_err(|error| port(error, ErrorKind::Denied))
    }

    async fn open(&self, secret: SecretId, version: u64) -> Result<SecretBytes, PortError> {
        self.open_version(secret, version)
            .await
            .map_err(|error| port(error, ErrorKind::NotFound))
    }

    async fn has(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        Self::has(self, secret, version)
            .await
            .map_err(|error| port(error, ErrorKind::NotFound))
    }

    async fn is_destroyed(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        match self.open_version(secret, version).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == Kind::Destroyed => Ok(true),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(port(error, ErrorKind::NotFound)),
        }
    }

    async fn destroy(&self, secret: SecretId, version: u64) -> Result<(), PortError> {
        Self::destroy(self, secret, version)
            .await
            .map_err(|error| port(error, ErrorKind::NotFound))
    }

    async fn stash(&self, token: RotationId, value: &SecretBytes) -> Result<Inserted, PortError> {
        Self::stash(self, token, value)
            .await
            .map_err(|error| port(error, ErrorKind::Denied))
    }

    async fn stashed(&self, token: RotationId) -> Result<Option<SecretBytes>, PortError> {
        Self::stashed(self, token)
            .await
            .map_err(|error| port(error, ErrorKind::NotFound))
    }

    async fn store_keys(&self) -> Result<Vec<HostKeyPair>, PortError> {
        Self::store_keys(self)
            .await
            .map_err(|error| port(error, ErrorKind::NotFound))
    }

    async fn drop_stashed(&self, token: RotationId) -> Result<(), PortError> {
        Self::drop_stashed(self, token)
            .await
            .map_err(|error| port(error, ErrorKind::NotFound))
    }
}

impl From<Error> for PortError {
    fn from(error: Error) -> Self {
        port(error, ErrorKind::NotFound)
    }
}

/// Our error at the port; `destroyed` is what a destroyed version means to this operation.
fn port(error: Error, destroyed: ErrorKind) -> PortError {
    let kind = match error.kind() {
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Destroyed => destroyed,
        Kind::Corrupt => ErrorKind::Corrupt,
        Kind::Unavailable => ErrorKind::Unavailable,
        Kind::Conflict => ErrorKind::Conflict,
        Kind::Refused => ErrorKind::Denied,
    };
    let text = error.to_string();
    match error.into_source() {
        Some(source) => PortError::caused(kind, text, source),
        None => PortError::new(kind, text),
    }
}
