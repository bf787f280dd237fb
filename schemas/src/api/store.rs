//! Stores outside, and looking there now.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HealthWord;
use crate::event::store::{Source, StoreSpec};

/// One store, `GET /v1/stores`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreView {
    /// Its name.
    pub name: String,
    /// `vault` or `aws`.
    pub kind: String,
    /// Where it is.
    pub address: String,
    /// How often it is asked for outside changes.
    pub poll_seconds: u64,
    /// How many secrets lie in it.
    pub secrets: u64,
    /// How it is, as the worst store-sync finds it.
    pub health: HealthWord,
    /// That in words: whether it answers, when it was looked at last, since when it is stale and why.
    pub note: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// One store with what lies in it, `GET /v1/stores/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StorePage {
    /// The store.
    pub store: StoreView,
    /// What was declared. Credentials are named by where they are read.
    pub spec: StoreSpec,
    /// What lies in it.
    pub secrets: Vec<StoreSecret>,
}

/// A secret that lies in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreSecret {
    /// Its name.
    pub name: String,
    /// Where in the store.
    pub source: Source,
    /// The store's version that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub known: Option<String>,
    /// Whether Keywheel wrote that one.
    pub written: bool,
    /// The version that starting containers get.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub current: Option<u64>,
    /// Whether Keywheel makes its values.
    pub generated: bool,
}

/// `POST /v1/refresh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// The secret; absent for all that lie outside.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<String>,
}

/// Answer to `POST /v1/refresh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefreshAnswer {
    /// One per secret, by name.
    pub results: Vec<Refreshed>,
}

/// What a look at one secret's place gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refreshed {
    /// The secret.
    pub secret: String,
    /// `unchanged`, `changed`, `busy` (a rotation is under way), `absent` or `failed`.
    pub found: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The rotation that takes over what was found.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rotation: Option<String>,
}
