//! Presence on the wire: what one running instance tells about itself. Its role and host are the
//! sender's, so they are not repeated here.

use keywheel_core::id::EventId;
use keywheel_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mirror::Text;

/// What one running instance tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PresenceShape {
    /// This run of it.
    pub instance: Text<EventId>,
    /// The machine it runs on, as that calls itself.
    #[schemars(length(max = 255))]
    pub machine: String,
    /// Its version.
    #[schemars(length(max = 64))]
    pub version: String,
    /// When it started, by its clock.
    pub started: Text<Timestamp>,
    /// When it said this, by its clock.
    pub sent: Text<Timestamp>,
    /// Whether it ends on purpose with this.
    pub leaving: bool,
    /// When its credentials end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_end: Option<Text<Timestamp>>,
    /// Its connection to the bus server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<BusEndShape>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<ReachedShape>,
    /// What it found; at most 32.
    #[schemars(length(max = 32))]
    pub facts: Vec<FactShape>,
}

/// An instance's connection to the bus server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BusEndShape {
    /// Whether there is one.
    pub connected: bool,
    /// What the bus server says it is.
    #[schemars(length(max = 64))]
    pub server_version: String,
    /// Connects since the start.
    pub connects: u64,
    /// Messages that this end refused.
    pub refused: u64,
    /// What is not as it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub problem: Option<String>,
}

/// How far an instance has read or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReachedShape {
    /// Number of the last event it knows.
    Event(u64),
    /// Audit records it keeps.
    AuditRecords(u64),
    /// Generation of the plan it works on.
    Plan(u64),
}

/// One thing an instance tells about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FactShape {
    /// What.
    #[schemars(length(max = 64))]
    pub name: String,
    /// How it is.
    pub health: HealthWord,
    /// That in words.
    #[schemars(length(max = 500))]
    pub note: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub next: Option<String>,
}

/// How a thing is, best first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HealthWord {
    /// As it should be.
    #[default]
    Ok,
    /// It cannot be known from here.
    Unknown,
    /// It works, and a person should know.
    Warning,
    /// It does not work, and a person has to act.
    Problem,
}
