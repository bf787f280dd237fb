//! What `keywheel doctor -o json` says. It is made by the client; no request has it as an answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FactView, HealthWord};

/// A set-up, as seen from the client's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// The worst of the checks.
    pub state: HealthWord,
    /// Version of the client.
    pub version: String,
    /// What was looked at, in order.
    pub checks: Vec<FactView>,
}
