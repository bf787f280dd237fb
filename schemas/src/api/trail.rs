//! The audit trail and the journal's own check, as clients see them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::leaf::Octets;
use crate::mirror::Text;
use crate::wire::audit::AuditRecord;

/// One line of `GET /v1/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditLine {
    /// Its number: index of the leaf, from 0.
    pub index: u64,
    /// The record.
    pub record: AuditRecord,
}

/// `GET /v1/audit/export`: everything needed to verify the trail without us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditExport {
    /// The log's origin, as in the checkpoint.
    pub origin: String,
    /// Ed25519 key that signs checkpoints.
    pub public_key: Text<[u8; 32]>,
    /// Name of that key, as in the checkpoint's signature line.
    pub key_name: String,
    /// The newest checkpoint: a C2SP signed note.
    pub checkpoint: String,
    /// The leaves in order: the exact bytes that are hashed, as base64.
    pub records: Vec<Text<Octets>>,
}

/// `GET /v1/journal/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// Whether everything holds.
    pub verified: bool,
    /// Events read.
    pub events: u64,
    /// Hash of the last one, hexadecimal.
    pub head_hash: String,
    /// Audit records read.
    pub audit_records: u64,
    /// Root of the audit tree, hexadecimal.
    pub audit_root: String,
    /// What does not hold, where, and the next step.
    pub faults: Vec<String>,
}
