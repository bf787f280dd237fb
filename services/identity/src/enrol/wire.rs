//! The JSON forms of joining, renewing and coming back. What is sent goes over TLS to the pinned gateway,
//! or over the bus inside a signed message.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// The form's version.
pub(super) const VERSION: u32 = 1;
/// Largest request or answer.
pub const MAX_ASK_BYTES: usize = 64 << 10;

/// What a new machine asks.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinAsk {
    pub(super) v: u32,
    pub(super) host: String,
    pub(super) name: String,
    pub(super) token: String,
    /// Base64 of the token's secret.
    pub(super) secret: Presented,
    /// PEM of a certificate signing request; only its key counts.
    pub(super) signing_request: String,
    /// Base64 of the Ed25519 key that its messages are signed with.
    pub(super) signing_key: String,
    /// Base64 of the X25519 key that values are sealed to.
    pub(super) sealing_key: String,
    /// Public key of its NATS user.
    pub(super) bus_key: String,
}

/// The secret as text; overwritten when dropped, never shown.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Presented(pub(super) String);

impl std::ops::Deref for Presented {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Presented {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for JoinAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinAsk({} as {}, …)", self.host, self.name)
    }
}

/// What the gateway answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinAnswer {
    pub(super) v: u32,
    pub(super) deployment: String,
    pub(super) host: String,
    /// PEM: certificate and chain.
    pub(super) certificate: String,
    /// PEM: roots to trust.
    pub(super) roots: String,
    /// The permit for the bus.
    pub(super) permit: String,
    /// Base64 of each role's key.
    pub(super) trust: BTreeMap<String, String>,
    pub(super) servers: Vec<String>,
}

/// What a member asks before its credentials end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewAsk {
    pub(super) v: u32,
    pub(super) signing_request: String,
    pub(super) bus_key: String,
    /// PEM of its current certificate with the chain, when that has addresses to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// A host's new sealing key, when one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sealing_key: Option<NewSealingKey>,
}

impl RenewAsk {
    /// Public key of its new user on the bus, for [`crate::nats::Revocations::note_issued`].
    #[must_use]
    pub fn bus_key(&self) -> &str {
        &self.bus_key
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSealingKey {
    pub(super) generation: u64,
    /// Base64 of the X25519 key.
    pub(super) public: String,
}

/// What the gateway answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewAnswer {
    pub(super) v: u32,
    pub(super) certificate: String,
    pub(super) roots: String,
    pub(super) permit: String,
    pub(super) trust: BTreeMap<String, String>,
    pub(super) servers: Vec<String>,
    /// HOST:PORT of the gateway's join port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<String>,
}

impl RenewAnswer {
    /// The same, telling a host where it can ask once its credentials have ended.
    #[must_use]
    pub fn telling(mut self, join_address: &str) -> Self {
        self.gateway = Some(join_address.to_owned()).filter(|address| !address.is_empty());
        self
    }
}

/// What a host asks at the join port when its credentials have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnAsk {
    pub(super) v: u32,
    pub(super) host: String,
    /// JSON of a [`RenewAsk`], as it was signed.
    pub(super) ask: String,
    /// Base64 of the signature with the host's pinned key, over deployment, host, the connection's
    /// binding and `ask`.
    pub(super) signature: String,
}
