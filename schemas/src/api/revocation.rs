//! How far a revocation is, beside what [`RevocationView`](super::RevocationView) says first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What each half of a revocation came to. None waits for another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
pub struct RevocationStates {
    /// Whether no host may hold one of the versions any more.
    pub withdrawn_everywhere: bool,
    /// Whether the store made them unusable.
    pub dead_at_backend: bool,
    /// `not_probed`: no login is known that could be refused; `awaited`; `proven_dead`; `not_provable`;
    /// `still_accepted`.
    pub proof: String,
    /// Why it cannot be probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_probed_because: Option<String>,
    /// The logins with them, and how the server answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<EvidenceView>,
    /// Whether their data keys are gone.
    pub destroyed: bool,
    /// Why the store could not be asked last, or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Who would have the store asked no more; with the second one it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forget: Vec<ForgetView>,
    /// Request durable to dead at the backend, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_ms: Option<f64>,
    /// Request durable to proven dead, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_ms: Option<f64>,
    /// Request durable to destroyed, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed_ms: Option<f64>,
}

/// One login with a revoked credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceView {
    /// Which version.
    pub version: u64,
    /// When it was answered, RFC 3339.
    pub at: String,
    /// Which account of which server.
    pub place: String,
    /// `wrong_password`, `no_login`, `refused` or `accepted`.
    pub answer: String,
}

/// One principal's word that a revocation is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForgetView {
    /// Who.
    pub by: String,
    /// Why, in a person's words.
    pub reason: String,
}

/// `POST /v1/revocations/{id}/forget`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// Why, for the record.
    pub reason: String,
}
