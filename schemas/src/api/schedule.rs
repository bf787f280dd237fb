//! When a secret rotates by itself, and what is to be said of each of its next fires.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A secret's schedule and its next fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleView {
    /// The secret's name.
    pub secret: String,
    /// Every rule, in words.
    pub rules: Vec<String>,
    /// The next fires, each as if those before it led to a new version at once.
    pub fires: Vec<FireView>,
    /// Why there is none, or what they wait for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// One fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FireView {
    /// When, RFC 3339 in UTC, before jitter.
    pub at: String,
    /// The same by the wall clock of the schedule's time zone, with day, zone and offset.
    pub local: String,
    /// What wants it: `schedule`, `max_age` or `lifetime`.
    pub cause: String,
    /// What the clock does there, and what moved it, in words.
    pub notes: Vec<String>,
}
