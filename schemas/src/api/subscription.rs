//! Subscriptions: places in the stream of events, kept for clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionView {
    /// Its name.
    pub name: String,
    /// Its id: another one when it is removed and made again under its name.
    pub id: String,
    /// Number of the last event that its client acknowledged.
    pub acknowledged: u64,
    /// How many events came since.
    pub behind: u64,
}

/// `POST /v1/subscriptions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscribeRequest {
    /// Its name.
    pub name: String,
    /// Begin after this event, 0 for the whole log; without it, with what happens next.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<u64>,
}

/// `POST /v1/subscriptions/{name}/acknowledge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeRequest {
    /// Id of the subscription whose events were dealt with.
    pub id: String,
    /// Number of the last event that was dealt with.
    pub number: u64,
}
