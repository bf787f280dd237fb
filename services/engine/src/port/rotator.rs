//! A rotator: performs the steps of a rotation against one kind of backend.
//!
//! Laws: every step is idempotent under the rotation's token; `create` gives one credential however
//! often it is asked; `revoke` and `destroy` of what is gone already succeed. Reasons never hold a
//! value.

use async_trait::async_trait;
use keywheel_core::effect::StepWork;
use keywheel_core::id::SecretId;

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
    /// Makes it current at the store.
    async fn finish(&self, work: &StepWork, until: &Until) -> Result<(), PortError>;
    /// Makes versions unusable at the backend, then destroys their data keys.
    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<(), PortError>;
    /// Whether the backend accepts this version right now; `None` where that cannot be asked.
    async fn probe(&self, secret: SecretId, version: u64) -> Result<Option<bool>, PortError>;
}
