//! A rotator: performs the steps of a rotation against one kind of backend.
//!
//! Laws: every step is idempotent under the rotation's token: a repeat looks first and finds what an
//! earlier call did, also one that was cut off at its deadline; no call begins after `until`; `create`
//! gives one credential however often it is asked; `revoke` and `destroy` of what is gone already succeed. Reasons never hold a
//! value.

use async_trait::async_trait;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::SecretId;
use keywheel_core::store::RemoteVersion;

use super::PortError;
use crate::until::Until;

/// Performs the steps against one kind of backend.
#[async_trait]
pub trait Rotator: Send + Sync {
    /// Makes the new value and keeps it as pending.
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError>;
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
    /// Whether the backend accepts this version right now; `None` where that cannot be asked.
    async fn probe(&self, secret: SecretId, version: u64) -> Result<Option<bool>, PortError>;
}
