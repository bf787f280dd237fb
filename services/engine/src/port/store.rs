//! A secret store outside: Vault, OpenBao, AWS Secrets Manager.
//!
//! Laws: every call may be repeated after a lost answer and does its work once, under the rotation's
//! token or the version's name; what a call says was done can be read back; nothing of ours is written
//! over somebody else's newer version (`Conflict`); a value is asked for only by [`Store::fetch`],
//! versions are compared without it. No text of an error holds a value or a credential. A call begins
//! only before its `Until`, and ends at the store's own timeout.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::id::RotationId;
use keywheel_core::name::StoreName;
use keywheel_core::store::{CredentialRef, RemoteVersion, Source, StoreSpec};
use keywheel_core::time::Timestamp;
use keywheel_seal::SecretBytes;

use super::PortError;
use crate::until::Until;

/// The newest state at one place in a store, without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The version that is current there.
    pub version: RemoteVersion,
    /// When it was made there, if the store says so.
    pub created: Option<Timestamp>,
}

/// One page of names in a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// Names of secrets (never values), with the fields they have where the store tells them without
    /// telling values.
    pub entries: Vec<ListedEntry>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// One name in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// Path (Vault) or name (AWS).
    pub path: String,
    /// Its fields, where they can be known without a value.
    pub fields: Vec<String>,
}

/// Reads credentials for stores; asked each time one is needed, so a rotated one is taken up.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The bytes, without a trailing line break. `NotFound` names what is missing.
    async fn read(&self, credential: &CredentialRef) -> Result<SecretBytes, PortError>;
}

/// One configured store.
#[async_trait]
pub trait Store: Send + Sync {
    /// A dry connection: address, TLS, login, mount, and the rights that can be asked for. The error
    /// says exactly what is missing and the next step.
    async fn check(&self, until: &Until) -> Result<(), PortError>;
    /// Whether we may do at a secret's place what it needs; the error names each right that is missing.
    async fn check_use(&self, at: &Source, _writes: bool, until: &Until) -> Result<(), PortError> {
        self.look(at, until).await.map(drop)
    }
    /// What is current there, without its value; `None` when nothing is there or it was deleted. The
    /// answer is the path's: every field of it has the same.
    async fn look(&self, at: &Source, until: &Until) -> Result<Option<Observed>, PortError>;
    /// Whether a version that was found there was current before the known one: then who answered lags
    /// behind, and it is no change. Only of stores whose versions tell that.
    fn is_behind(&self, _known: &RemoteVersion, _found: &RemoteVersion) -> bool {
        false
    }
    /// The value of exactly this version. `NotFound` when it is gone, `Denied` when its field is.
    async fn fetch(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<SecretBytes, PortError>;
    /// Puts a new value beside the current one under the token, where the store has a stage for that
    /// (AWS: `AWSPENDING`); elsewhere nothing.
    async fn stage(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        until: &Until,
    ) -> Result<(), PortError>;
    /// Makes the value current, unless something newer than `expected` is; other fields stay. Gives
    /// its version there. A repeat after success gives the same version. `expected` is `None` when
    /// nothing was there. `Conflict` when somebody else wrote since.
    async fn promote(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<RemoteVersion, PortError>;
    /// Takes back what `stage` did; what is not there is a success.
    async fn unstage(&self, at: &Source, token: RotationId, until: &Until)
    -> Result<(), PortError>;
    /// Makes a version unreadable there, as far as the store can (Vault: destroy; AWS: no stage left).
    /// What is gone is a success; the current version is refused as `Conflict`.
    async fn revoke(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError>;
    /// Names below a prefix, a page at a time; never values.
    async fn list(
        &self,
        prefix: &str,
        page: Option<&str>,
        until: &Until,
    ) -> Result<Listed, PortError>;
}

/// Makes stores from what was declared.
pub trait Connect: Send + Sync {
    /// A store with this declaration. Opens no connection: that is done when it is asked.
    ///
    /// # Errors
    /// When this build has no such store, or it cannot be set up on this machine.
    fn connect(
        &self,
        name: &StoreName,
        spec: &StoreSpec,
        credentials: Arc<dyn Credentials>,
    ) -> Result<Arc<dyn Store>, PortError>;
}
