//! Notifications, sources of signals, and letters: what could not be delivered or read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One notification, `GET /v1/notifications`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotificationView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `webhook`, `slack`, `nats` or `email`.
    pub kind: String,
    /// Where its receiver is; of a URL that is a credential, the file that holds it.
    pub receiver: String,
    /// Which events, in CEL; absent for every one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub when: Option<String>,
    /// Number of the last event that was dealt with.
    pub delivered: u64,
    /// How many events came since.
    pub behind: u64,
    /// How many of its events were given up, and are kept as letters.
    pub letters: u64,
    /// Why its receiver cannot be told now, as this gateway found it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<String>,
}

/// `POST /v1/notifications/{name}/replay`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Begin again after this event. Each message has the id that it had before.
    pub after: u64,
}

/// One source of signals, `GET /v1/signal-sources`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalSourceView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `cloudEvents`, `githubAlert`, `githubPartner` or `webhook`.
    pub format: String,
    /// How its signals are proven.
    pub proof: String,
    /// Where they are sent, below the address at which signals are taken.
    pub path: String,
    /// How many requests could not be read, and are kept as letters.
    pub letters: u64,
}

/// What could not be delivered, or not be read of what came, `GET /v1/letters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LetterView {
    /// Its id.
    pub id: String,
    /// `notification/NAME` or `signal-source/NAME`.
    pub owner: String,
    /// Which event, or what came, in words.
    pub heading: String,
    /// When it was given up, RFC 3339.
    pub time: String,
    /// Why.
    pub reason: String,
}
