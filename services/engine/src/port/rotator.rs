//! A rotator: performs the steps of a rotation against one kind of backend.
//!
//! Laws: a step that may have been attempted before is probed first, and the probe finds what an
//! earlier call did, also one that was cut off at its deadline and took effect after it. A step that is
//! performed again without a probe does nothing twice either, but may be refused as `Conflict`. No call
//! begins after `until`; `revoke` and `destroy` of what is gone already succeed. Reasons never hold a
//! value. Sessions are counted or said to be untold, never guessed. `prove` changes nothing at the backend, and
//! logs in once per version: a server that counts failed logins locks nobody out.

use async_trait::async_trait;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::SecretId;
use keywheel_core::revocation::{NOTHING_TO_ASK, Proof};
use keywheel_core::rotation::Sessions;
use keywheel_core::store::RemoteVersion;

use super::{ErrorKind, PortError};
use crate::until::Until;

/// What came of earlier attempts of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// All of it is done; after `finish` with the version that is current outside.
    Done(Option<RemoteVersion>),
    /// Not all of it is, or it leaves nothing that could be found: it is to be performed.
    NotDone,
}

/// Lies beneath an error of [`Rotator::prove`] when the backend answered and its answer tells nothing of the
/// credential, however often it is asked. Every other failure of a proof is tried again.
#[derive(Debug, thiserror::Error)]
#[error("what the backend answers tells nothing of the credential")]
pub struct TellsNothing(#[source] Option<Box<dyn std::error::Error + Send + Sync>>);

impl TellsNothing {
    /// An answer that tells nothing, in words.
    pub fn error(text: impl Into<String>) -> PortError {
        PortError::caused(ErrorKind::Denied, text, Self(None))
    }

    /// The same, with what the backend said.
    pub fn caused(
        text: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> PortError {
        PortError::caused(ErrorKind::Denied, text, Self(Some(source.into())))
    }

    /// Whether a failure is one.
    #[must_use]
    pub fn is_beneath(error: &PortError) -> bool {
        let source = error.source.as_deref();
        source.is_some_and(|source| source.is::<Self>())
    }
}

/// Performs the steps against one kind of backend.
#[async_trait]
pub trait Rotator: Send + Sync {
    /// Makes the new value and keeps it as pending.
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError>;
    /// The lease that `create` made, where it makes one: from then on the log knows it.
    async fn lease(&self, _work: &StepWork) -> Result<Option<RemoteVersion>, PortError> {
        Ok(None)
    }
    /// Makes the backend accept it.
    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError>;
    /// Shows that the backend accepts it.
    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError>;
    /// Makes it current at the store; gives the version that is current there, if it lies outside.
    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError>;
    /// Takes back what was made of the new version, and destroys its data key.
    async fn roll_back(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.revoke(work.secret, &work.versions, work.outside.as_deref(), until)
            .await
    }
    /// Makes versions unusable at the backend, those that `outside` names there, then destroys their
    /// data keys.
    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError>;
    /// The first part of `revoke` where a login is to prove it: they are unusable at the backend, and their
    /// data keys stay. Whoever makes no logins does all of it.
    async fn disable(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.revoke(secret, versions, outside, until).await
    }
    /// Logs in with each of these versions, once, and says how the server answered. An error is no answer, and it
    /// is tried again. What has no login, and of what the backend tells nothing ([`TellsNothing`]), is said to be
    /// lacking.
    async fn prove(
        &self,
        _secret: SecretId,
        _versions: &[u64],
        until: &Until,
    ) -> Result<Proof, PortError> {
        until.check()?;
        Ok(Proof::lacking(NOTHING_TO_ASK))
    }
    /// `revoke` at the end of a rotation: what `outside` names ends there as its store's declaration says.
    async fn retire(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.revoke(secret, versions, outside, until).await
    }
    /// Whether an earlier attempt of this step took effect; makes no version and changes none. An error
    /// is no answer: nothing is to be written then. `test`, `revoke` and `roll_back` see what there is by
    /// themselves, so there is nothing to find for them.
    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError>;
    /// How many sessions of what these versions open are from before the line that `work` names; without one
    /// the line is drawn now, after the last acknowledgement. `None` where the backend does not tell.
    async fn sessions(
        &self,
        _work: &StepWork,
        until: &Until,
    ) -> Result<Option<Sessions>, PortError> {
        until.check()?;
        Ok(None)
    }
}
