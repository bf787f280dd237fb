//! Rotations beside the view of one: what a person asks of it, and what one would do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /v1/rotations/{id}/abort`, `/v1/rotations/{id}/retry` and `/v1/rotations/{id}/force`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterveneRequest {
    /// Why, for the record.
    pub reason: String,
}

/// `GET /v1/rotation-plan/{name}`: what a rotation begun now would do. Nothing is begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationPlan {
    /// The secret's name.
    pub secret: String,
    /// The version it would make.
    pub version: u64,
    /// How old and new go together, in words.
    pub strategy: String,
    /// Everyone who would have to acknowledge.
    pub consumers: Vec<PlannedConsumer>,
    /// How many containers would restart.
    pub restarts: u64,
    /// How long consumers would be without a value that works, in words.
    pub expected_gap: String,
    /// How long consumers may take, in seconds, before the deadline policy holds.
    pub deadline_seconds: u64,
    /// `hold` or `force`.
    pub on_deadline: String,
    /// What would refuse it, fail it or hold it up, each with the next step.
    pub blockers: Vec<String>,
    /// What else leads to a rotation of the secret, in words; empty from older gateways.
    #[serde(default)]
    pub schedule: String,
    /// Whether sessions of the old credential would be waited for before it dies, in words.
    #[serde(default)]
    pub sessions: String,
    /// Which containers would get the version before it is promoted, and for how long, or why none; empty where
    /// that was not asked for.
    #[serde(default)]
    pub canary: String,
}

/// One consumer in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedConsumer {
    /// Full container id.
    pub container: String,
    /// Container name.
    pub name: String,
    /// Host name.
    pub host: String,
    /// The binding's name.
    pub binding: String,
    /// Version its copy holds; 0 for none.
    pub version: u64,
    /// What would be done, in words.
    pub action: String,
    /// Whether it would restart.
    pub restarts: bool,
    /// What has to be shown of it: `swapped` or `reloaded`.
    pub acknowledges: String,
}
