//! How Keywheel itself is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the running program.
    pub version: String,
    /// Name of this host.
    pub host: String,
    /// Where the journal and the cache are.
    pub data_dir: String,
    /// Whether the unseal key is missing, so that no value can be opened.
    pub sealed: bool,
    /// Its pid.
    pub pid: u32,
    /// Secrets known.
    pub secrets: u64,
    /// Bindings that grant.
    pub bindings: u64,
    /// Rotations that run.
    pub rotations_open: u64,
    /// The journal.
    pub journal: JournalStatus,
    /// The audit trail.
    pub audit: AuditStatus,
    /// The OCI runtime.
    pub runtime: RuntimeStatus,
    /// What works on this machine, and what does not and why.
    pub features: Vec<Feature>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalStatus {
    /// Events in it.
    pub events: u64,
    /// Hash of the last one, hexadecimal.
    pub head_hash: String,
}

/// The audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditStatus {
    /// Records in it.
    pub records: u64,
}

/// The OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeStatus {
    /// Whether the engine knows the runtime `keywheel`.
    pub registered: bool,
    /// What to do when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeatureState {
    /// It works.
    Ready,
    /// It works, but weaker than elsewhere.
    Degraded,
    /// It does not work here.
    Unavailable,
}

/// One thing this machine lets Keywheel do or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: FeatureState,
    /// Why, and the next step.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}
