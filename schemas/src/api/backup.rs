//! A backup on the HTTP API: where it lies, of which moment it is, and by what it is known. Never its bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer to `POST /v1/backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupView {
    /// The sealed file, on the machine that serves. It is there until it is fetched, or the next one is made.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it, hexadecimal.
    pub sha256: String,
    /// Whose it is.
    pub deployment: String,
    /// When it was made, RFC 3339.
    pub made_at: String,
    /// Number of the last event in it.
    pub head: u64,
    /// How many audit records are in it.
    pub records: u64,
    /// The signed checkpoint over them.
    pub checkpoint: String,
}
