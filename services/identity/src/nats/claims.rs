//! NATS claims: JSON Web Tokens of version 2, signed with Ed25519 nkeys.
//!
//! Owns their shape and nothing else. A claim's id is the hash of its content, as the format wants.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_core::time::Timestamp;
use keywheel_schemas::subject::Permissions;
use nkeys::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::NatsError;
use crate::hex;

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
const VERSION: u32 = 2;
/// No limit of its own.
const UNLIMITED: i64 = -1;

/// Signs `body` about `subject`.
pub(super) fn sign(
    by: &KeyPair,
    subject: &str,
    name: &str,
    at: i64,
    until: Option<i64>,
    body: Value,
) -> Result<String, NatsError> {
    let mut claim = json!({
        "iat": at,
        "iss": by.public_key(),
        "name": name,
        "sub": subject,
        "nats": body,
    });
    if let Some(until) = until {
        claim["exp"] = until.into();
    }
    claim["jti"] = hex::encode(&Sha256::digest(claim.to_string())).into();
    let header = URL_SAFE_NO_PAD.encode(HEADER);
    let content = URL_SAFE_NO_PAD.encode(claim.to_string());
    let signed = format!("{header}.{content}");
    let signature = URL_SAFE_NO_PAD.encode(by.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

/// What is read of an account's claim.
#[derive(serde::Deserialize)]
pub(super) struct Content {
    pub(super) iat: i64,
    pub(super) sub: String,
    pub(super) nats: AccountContent,
}

#[derive(serde::Deserialize)]
pub(super) struct AccountContent {
    #[serde(default)]
    pub(super) revocations: BTreeMap<String, i64>,
}

/// Reads an account's claim signed by `by`.
pub(super) fn read(claim: &str, by: &KeyPair) -> Result<Content, NatsError> {
    let bad = |_| NatsError::Claim;
    let (signed, signature) = claim.trim().rsplit_once('.').ok_or(NatsError::Claim)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(bad)?;
    by.verify(signed.as_bytes(), &signature)
        .map_err(|_| NatsError::Claim)?;
    let (_, content) = signed.split_once('.').ok_or(NatsError::Claim)?;
    let content = URL_SAFE_NO_PAD.decode(content).map_err(bad)?;
    serde_json::from_slice(&content).map_err(|_| NatsError::Claim)
}

/// What is read of a user's claim; who signed it is the bus server's matter.
#[derive(serde::Deserialize)]
pub(super) struct UserContent {
    pub(super) nats: UserPermissions,
}

#[derive(serde::Deserialize)]
pub(super) struct UserPermissions {
    #[serde(default, rename = "pub")]
    publish: Allowed,
    #[serde(default, rename = "sub")]
    subscribe: Allowed,
    #[serde(default)]
    resp: Option<Value>,
}

#[derive(Default, serde::Deserialize)]
struct Allowed {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

impl UserPermissions {
    /// What it allows; something that is denied besides is no permission of ours.
    pub(super) fn read(permit: &str) -> Option<Permissions> {
        let content = permit.trim().split('.').nth(1)?;
        let content = URL_SAFE_NO_PAD.decode(content).ok()?;
        let content: UserContent = serde_json::from_slice(&content).ok()?;
        let UserPermissions {
            publish,
            subscribe,
            resp,
        } = content.nats;
        let is_plain = publish.deny.is_empty() && subscribe.deny.is_empty();
        is_plain.then_some(Permissions {
            publish: publish.allow,
            subscribe: subscribe.allow,
            responses: resp.is_some(),
        })
    }
}

pub(super) fn operator(system_account: &str) -> Value {
    json!({
        "system_account": system_account,
        "type": "operator",
        "version": VERSION,
    })
}

pub(super) fn system_account() -> Value {
    json!({
        "limits": limits(false),
        "type": "account",
        "version": VERSION,
    })
}

/// Our account: streams on disk and in memory, no leaf nodes, nothing shared with other accounts.
pub(super) fn account(revoked: &BTreeMap<String, i64>) -> Value {
    json!({
        "limits": limits(true),
        "revocations": revoked,
        "type": "account",
        "version": VERSION,
    })
}

fn limits(streams: bool) -> Value {
    let mut limits = json!({
        "subs": UNLIMITED,
        "data": UNLIMITED,
        "payload": UNLIMITED,
        "imports": UNLIMITED,
        "exports": UNLIMITED,
        "wildcards": true,
        "conn": UNLIMITED,
        "leaf": 0,
    });
    if streams {
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits[limit] = UNLIMITED.into();
        }
    }
    limits
}

/// A user: what is not listed is refused.
pub(super) fn user(allowed: &Permissions, answers: u64, within: Duration) -> Value {
    let mut body = json!({
        "pub": { "allow": allowed.publish },
        "sub": { "allow": allowed.subscribe },
        "subs": UNLIMITED,
        "data": UNLIMITED,
        "payload": UNLIMITED,
        "allowed_connection_types": ["STANDARD"],
        "type": "user",
        "version": VERSION,
    });
    if allowed.responses {
        let nanos = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        body["resp"] = json!({ "max": answers, "ttl": nanos });
    }
    body
}

/// Whole seconds since 1970, as claims hold them.
pub(super) fn seconds(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000)
}
