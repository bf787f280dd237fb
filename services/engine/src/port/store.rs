//! A secret store outside: Vault, OpenBao, AWS Secrets Manager.
//!
//! Laws: every call may be repeated after a lost answer and does its work once, under the rotation's
//! token or the version's name; what was done and not answered is found by a probe; what a call says
//! was done can be read back; nothing of ours is written
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

use super::leases::Leases;
use super::{ErrorKind, PortError};
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

/// Lies beneath an error when the login itself was refused: it says nothing about one place or one call,
/// and work waits for it as for a store that does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the store refuses the login, and work there waits for one that it takes")]
pub struct LoginRefused;

impl LoginRefused {
    /// Marks a refusal; any other failure stays what it is.
    #[must_use]
    pub fn beneath(error: PortError) -> PortError {
        match error.kind {
            ErrorKind::Denied => PortError::caused(error.kind, error.text, Self),
            _ => error,
        }
    }

    /// Whether a failure is one.
    #[must_use]
    pub fn is_beneath(error: &PortError) -> bool {
        let source = error.source.as_deref();
        source.is_some_and(|source| source.is::<Self>())
    }
}

/// One configured store.
#[async_trait]
pub trait Store: Send + Sync {
    /// A dry connection: address, TLS, login, mount, and the rights that can be asked for. The error
    /// says exactly what is missing and the next step.
    async fn check(&self, until: &Until) -> Result<(), PortError>;
    /// Whether we may do at a secret's place what it needs, without changing anything there; the error
    /// names each right that is missing. Gives what could not be tried, in words.
    async fn check_use(
        &self,
        at: &Source,
        _writes: bool,
        until: &Until,
    ) -> Result<Vec<String>, PortError> {
        self.look(at, until).await.map(|_| Vec::new())
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
    /// Whether the store makes the values at this place itself, and is given none.
    fn makes(&self, _at: &Source) -> bool {
        false
    }
    /// Has the store make the next value where it [`Store::makes`] them, unless it did so over `expected`
    /// already; gives it.
    async fn make(
        &self,
        at: &Source,
        _expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        until.check()?;
        let text = format!("{} makes no values itself; put one", at.path);
        Err(PortError::new(ErrorKind::Denied, text))
    }
    /// Puts a new value beside the current one under the token, where the store has a stage for that
    /// (AWS: `AWSPENDING`); elsewhere nothing.
    async fn stage(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        until: &Until,
    ) -> Result<(), PortError>;
    /// Whether an earlier [`Store::stage`] under this token is still there; `false` where there is no
    /// stage.
    async fn probe_stage(
        &self,
        at: &Source,
        token: RotationId,
        until: &Until,
    ) -> Result<bool, PortError>;
    /// Makes the value current over `expected`, which is `None` when nothing was there; other fields
    /// stay. Gives its version there. `Conflict` when anything else is current: somebody else's, or
    /// ours of an attempt that was not probed.
    async fn promote(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<RemoteVersion, PortError>;
    /// The version that an earlier [`Store::promote`] of the same made current, if it still is. Makes
    /// none; what a cut-off attempt left beside it, as a label, is cleared away.
    async fn probe_promote(
        &self,
        at: &Source,
        token: RotationId,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError>;
    /// Takes back what `stage` did; what is not there is a success.
    async fn unstage(&self, at: &Source, token: RotationId, until: &Until)
    -> Result<(), PortError>;
    /// Makes a version unreadable there, as far as the store can (Vault: destroy; AWS: no stage left).
    /// What is gone is a success; the current version is refused as `Conflict`. Where the store
    /// [`Store::makes`] the values it makes the next one instead.
    async fn revoke(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError>;
    /// Ends a version of ours that a rotation took from everybody, as the store's declaration says
    /// (Vault: destroy, or delete so that it can be brought back). Nobody who asks as we do can read it
    /// then; a later [`Store::revoke`] ends it for good.
    async fn retire(
        &self,
        at: &Source,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError> {
        self.revoke(at, version, until).await
    }
    /// The logins that it makes for whoever asks; `None` where it makes none.
    fn leases(&self) -> Option<&dyn Leases> {
        None
    }
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
