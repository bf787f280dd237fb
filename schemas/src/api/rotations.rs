//! Rotations, revocations and the consumers they move, as clients see them.

use keywheel_core::id::{RevocationId, RotationId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mirror::Text;

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotationState {
    /// A new value is made.
    Creating,
    /// The backend is told.
    Setting,
    /// The backend is tried.
    Testing,
    /// The new version becomes current.
    Finishing,
    /// Consumers move.
    Distributing,
    /// The old version dies.
    RevokingOld,
    /// What was made is taken back.
    RollingBack,
    /// A step failed and is tried again.
    Retrying,
    /// Every consumer runs on the new version and the old one is dead.
    Completed,
    /// Nothing changed for consumers.
    RolledBack,
    /// Consumers were too slow; the old version stays alive and a person decides.
    Parked,
    /// A revocation took over.
    Cancelled,
}

impl RotationState {
    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_closed(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::RolledBack | Self::Parked | Self::Cancelled
        )
    }
}

/// Why a rotation began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// The secret was registered and had no version.
    Initial,
    /// A person or tool asked.
    OnDemand,
    /// A person provided the value.
    Provided,
    /// A schedule fired.
    Schedule,
}

/// Measured times of a rotation, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// From the request's append to the last acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_to_acknowledged_ms: Option<f64>,
    /// From the promotion's append to the last consumer's swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_to_swapped_ms: Option<f64>,
}

/// How far a consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsumerState {
    /// It has to move.
    Waiting,
    /// Its copy is replaced.
    Swapped,
    /// It uses the new value.
    Reloaded,
    /// It was not served; `reason` says why.
    Refused,
    /// Its copy is gone.
    Withdrawn,
    /// The container is gone.
    Vanished,
}

/// One container under one binding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerView {
    /// Full id of the container.
    pub container: String,
    /// Its name.
    pub name: String,
    /// The host it runs on.
    pub host: String,
    /// The binding it is served under.
    pub binding: String,
    /// The secret.
    pub secret: String,
    /// How far it is.
    pub state: ConsumerState,
    /// The version its copy holds, or has to move to while waiting; 0 for none.
    pub version: u64,
    /// From the promotion's append to its swap, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Why it was refused, with the next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One rotation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RotationView {
    /// Its id.
    pub rotation_id: Text<RotationId>,
    /// Name of the secret.
    pub secret: String,
    /// The version it makes.
    pub version: u64,
    /// Where it stands.
    pub state: RotationState,
    /// Why it began.
    pub trigger: TriggerKind,
    /// Why it is retried, rolled back or parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Measured times, as far as they are known.
    pub timings: Timings,
    /// Everyone who has to move.
    pub consumers: Vec<ConsumerView>,
    /// Consumers and hosts it waits for, in a person's words.
    pub waiting_for: Vec<String>,
}

/// Where a revocation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevocationState {
    /// Hosts still hold a version.
    Withdrawing,
    /// Hosts are clean; the store did not confirm yet.
    Backend,
    /// Withdrawn everywhere and confirmed.
    Closed,
}

/// The store's half of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// It was asked.
    Asked,
    /// It could not yet and is asked again.
    Failed,
    /// Unusable at the store, data keys destroyed.
    Confirmed,
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevocationView {
    /// Its id.
    pub revocation_id: Text<RevocationId>,
    /// Name of the secret.
    pub secret: String,
    /// The versions.
    pub versions: Vec<u64>,
    /// Where it stands.
    pub state: RevocationState,
    /// From the request's append until no host held a version, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_ms: Option<f64>,
    /// Hosts that may still hold one, by name.
    pub waiting_hosts: Vec<String>,
    /// The store's half.
    pub backend: BackendState,
    /// Why the store could not, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_reason: Option<String>,
    /// Why it was asked for.
    pub reason: String,
}
