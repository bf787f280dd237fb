//! What takes several people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A request that takes several people, `GET /v1/approvals`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalView {
    /// Its id.
    pub approval_id: String,
    /// What for: `unseal`, `audit-export`, `sink-change`, `policy-change` or `host-return`.
    pub operation: String,
    /// What it is about.
    pub object: String,
    /// What would happen, or happened.
    pub plan: String,
    /// SHA-256 of exactly what was asked for, in hexadecimal.
    pub digest: String,
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: String,
    /// `waiting`, `approved`, `used`, `denied`, `withdrawn`, `expired`, or `overtaken` by what was done since.
    pub state: String,
    /// Why nothing can be done with it any more, where it was overtaken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub over: Option<String>,
    /// How many people it takes, whoever asked being one.
    pub needed: u64,
    /// How many more have to be for it.
    pub missing: u64,
    /// Who is for it.
    pub approved_by: Vec<String>,
    /// When it was asked for, RFC 3339.
    pub asked_at: String,
    /// From then on it is good for nothing, RFC 3339.
    pub expires_at: String,
    /// Who had it go without the others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub broken_glass: Option<BrokenGlassView>,
}

/// Somebody went without the others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BrokenGlassView {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, RFC 3339.
    pub at: String,
    /// Who reviewed it; absent until somebody has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reviewed_by: Option<String>,
    /// What they found.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub review: Option<String>,
}

/// A word about a request: for it, against it, without the others, or after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// Why, for the record; of a review, what was found.
    pub reason: String,
}
