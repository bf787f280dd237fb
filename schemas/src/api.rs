//! Shapes of the HTTP API on the unix socket, used by the gateway and by every client.
//!
//! Invariant: no response has a place for a value (C4); a value comes in only as a
//! [`SealedValue`](crate::wire::sealed::SealedValue) nobody on the way can open. Shapes only: what a
//! request means is the gateway's.

mod paths;
mod problem;
mod requests;
mod rotations;
mod status;
mod things;
mod trail;

#[cfg(test)]
mod tests;

pub use paths::{
    APPLY, AUDIT, AUDIT_EXPORT, BINDINGS, CONSUMERS, EVENTS, HOSTS, JOURNAL_VERIFY, MAX_BODY_BYTES,
    MAX_PAGE, MAX_WAIT_SECONDS, PUT, REVOCATIONS, REVOKE, ROTATE, ROTATIONS, SECRETS, STATUS,
    STORE_KEY,
};
pub use problem::Problem;
pub use requests::{
    ApplyAction, ApplyRequest, ApplyResponse, ApplyResult, ConsumersQuery, FollowQuery,
    ManifestKind, PutRequest, RevokeRequest, RotateRequest, StoreKey, WaitQuery,
};
pub use rotations::{
    BackendState, ConsumerState, ConsumerView, RevocationState, RevocationView, RotationState,
    RotationView, Timings, TriggerKind,
};
pub use status::{AuditStatus, Feature, FeatureState, JournalStatus, RuntimeStatus, Status};
pub use things::{BindingView, HostView, SecretView, VersionStage, VersionState, VersionView};
pub use trail::{AuditExport, AuditLine, VerifyReport};

/// A list, so that an answer can grow fields.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
}
