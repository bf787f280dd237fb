//! The seal of store-sync in the API: how it is, and what may unseal it.
//!
//! Invariant: a share or a passphrase stands here only sealed to store-sync's key, and in no answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/seal`, and the answer to `POST /v1/unseal`, `POST /v1/seal` and `POST /v1/rotate-kek`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealView {
    /// Whether no value can be opened.
    pub sealed: bool,
    /// Who gives the key: `key-file`, `passphrase`, `shamir`, `kms` or `transit`.
    pub provider: String,
    /// To what shares and passphrases are encrypted: X25519 public key, base64. Another one after every unsealing.
    pub public_key: String,
    /// Deployment id, bound into what is encrypted.
    pub deployment: String,
    /// Shares that are there; absent where none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<u8>,
    /// Shares that are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares_needed: Option<u8>,
    /// Rows of the cache whose data key is still wrapped by a key that goes; absent when there is one key alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kek_rows_left: Option<u64>,
}

/// `POST /v1/unseal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnsealRequest {
    /// A share, a passphrase, or nothing where a key file or a key service opens it; encrypted to the key of
    /// `GET /v1/seal` (HPKE envelope), base64.
    pub offer: String,
}

/// `POST /v1/seal` and `POST /v1/rotate-kek`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealRequest {
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
