//! What clients send, and the direct answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keywheel_core::id::RotationId;

use crate::mirror::Text;
use crate::wire::sealed::SealedValue;

/// `POST /v1/apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// YAML, one or more documents.
    pub manifests: String,
    /// Where they come from, for error texts: a file name, or `-`.
    pub source: String,
    /// Say what would change, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an apply did, document by document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyResponse {
    /// In the order of the documents.
    pub results: Vec<ApplyResult>,
}

/// What an apply did with one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyResult {
    /// What it declares.
    pub kind: ManifestKind,
    /// Its name.
    pub name: String,
    /// What was done.
    pub action: ApplyAction,
    /// What a person should know about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a manifest declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManifestKind {
    /// A secret.
    Secret,
    /// A binding.
    Binding,
}

/// What an apply did with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApplyAction {
    /// It was new.
    Created,
    /// It says something else now.
    Changed,
    /// Everything is as asked already.
    Unchanged,
}

/// `GET /v1/store-key`: values are sealed to this key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreKey {
    /// Store-sync's public key (X25519).
    pub public_key: Text<[u8; 32]>,
    /// Its id.
    pub key_id: String,
}

/// `POST /v1/put`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutRequest {
    /// The secret; an unknown name is registered.
    pub name: String,
    /// The rotation's id, drawn by the client: the value is sealed for it, and a repeat is safe.
    pub rotation_id: Text<RotationId>,
    /// The value; absent to have one generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedValue>,
}

/// `POST /v1/rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// The secret.
    pub secret: String,
    /// The rotation's id, drawn by the client so that a repeat is safe; absent: the gateway draws it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_id: Option<Text<RotationId>>,
}

/// `POST /v1/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// The secret.
    pub secret: String,
    /// One version; absent: all that are alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Why, in a person's words.
    pub reason: String,
}

/// Query of `/v1/rotations/{id}` and `/v1/revocations/{id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    /// Seconds to wait until it is closed or parked or has changed; at most
    /// [`MAX_WAIT_SECONDS`](super::MAX_WAIT_SECONDS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

/// Query of `/v1/events` and `/v1/audit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowQuery {
    /// Only what comes after this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Most lines; at most [`MAX_PAGE`](super::MAX_PAGE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Stay and send what is new.
    #[serde(default)]
    pub follow: bool,
}

/// Query of `/v1/consumers`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumersQuery {
    /// Only those of this secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}
