//! That the audit goes on from a checkpoint of before, on the HTTP API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/audit/consistency/{size}`: that the log of now begins with the one that an earlier checkpoint was signed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditConsistency {
    /// Origin line of the checkpoint.
    pub origin: String,
    /// Ed25519 public key of the gateway, base64.
    pub public_key: String,
    /// C2SP signed checkpoint of now.
    pub checkpoint: String,
    /// How many records there were at the earlier checkpoint, as it was asked for.
    pub size: u64,
    /// SHA-256 hashes of the consistency proof between the two (RFC 9162 §2.1.4), hexadecimal.
    pub path: Vec<String>,
}
