//! Hosts on the HTTP API: who they are, when they were heard of, what they hold, how they come and go.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostView {
    /// Its name; one that was evicted may share it with its successor.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `enrolled` (the gateway's own machine), `joined` or `evicted`.
    pub state: String,
    /// Generation of its plan.
    pub generation: u64,
    /// The newest plan generation it said it has carried out, since this gateway started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acknowledged: Option<u64>,
    /// Events from that generation to the plan's; 0: it is up to date.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lag: Option<u64>,
    /// When it was last heard of, RFC 3339, since this gateway started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_seen: Option<String>,
    /// How many live consumers.
    pub consumers: u64,
    /// What to know, for example that it is silent for longer than its lease.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// `GET /v1/hosts/{name}`: one host with what it may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostPage {
    /// The host.
    #[serde(flatten)]
    pub host: HostView,
    /// Public key its messages are signed with (Ed25519), base64; only of a host that joined.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signing_key: Option<String>,
    /// Public key values for it are sealed to (X25519), base64.
    pub sealing_key: String,
    /// Counts the keys of a host that joined.
    pub key_generation: u64,
    /// Why it was evicted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evicted_because: Option<String>,
    /// Versions it may hold and that are alive. Of an evicted host: what is to be rotated.
    pub held: Vec<HeldView>,
}

/// Versions of one secret that a host may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldView {
    /// The secret's name.
    pub secret: String,
    /// Versions that are alive, oldest first.
    pub versions: Vec<u64>,
    /// Whether the current one is among them.
    pub current: bool,
}

/// `POST /v1/hosts/{name}/evict`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvictRequest {
    /// Why, for the record.
    pub reason: String,
}

/// Answer to `POST /v1/hosts/{name}/evict`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvictAnswer {
    /// The host, evicted.
    pub host: HostView,
    /// What it may still hold: rotate each.
    pub held: Vec<HeldView>,
}

/// Answer to `POST /v1/hosts/{name}/join-token`. The token is shown this once; only a hash is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinTokenAnswer {
    /// The name the machine may take.
    pub name: String,
    /// The host it becomes.
    pub host: String,
    /// The token: one line of text.
    pub token: String,
    /// From then on it opens nothing, RFC 3339.
    pub expires_at: String,
}

impl fmt::Debug for JoinTokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinTokenAnswer({}, {}, …)", self.name, self.host)
    }
}
