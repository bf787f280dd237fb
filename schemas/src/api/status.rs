//! `GET /v1/status`: every service, host, store, bus and journal of a deployment, as one gateway
//! knows them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PoliciesInForce;
pub use crate::wire::presence::HealthWord;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The worst of all components.
    #[serde(default)]
    pub state: HealthWord,
    /// What a person should know or do, worst first.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Every service instance, host, store, bus and journal.
    #[serde(default)]
    pub components: Vec<Component>,
    /// Version of the program.
    pub version: String,
    /// Name of this host, as selectors see it.
    pub host: String,
    /// Directory of journal and cache. Told to root and the gateway's own user at its socket, and to whoever may `audit`
    /// or `grant` of the environment; absent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// Process id; told to the same, absent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The gateway's clock, RFC 3339.
    #[serde(default)]
    pub time: String,
    /// Whether no store-sync that is heard has its unseal key, so that no value can be given out.
    pub sealed: bool,
    /// How many secrets.
    pub secrets: u64,
    /// How many bindings.
    pub bindings: u64,
    /// How many live consumers.
    pub consumers: u64,
    /// How many rotations run.
    pub open_rotations: u64,
    /// How many revocations run.
    pub open_revocations: u64,
    /// Effects that no worker answered yet.
    #[serde(default)]
    pub open_effects: u64,
    /// Number of the last event.
    pub events: u64,
    /// Number of audit records.
    pub audit_records: u64,
    /// What this machine offers, one line each.
    pub features: Vec<Feature>,
    /// The findings as lines.
    pub warnings: Vec<String>,
    /// Which policies are in force; absent in answers of older gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<PoliciesInForce>,
}

/// What sort of part a component is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentKind {
    /// Decides and keeps the journal.
    Gateway,
    /// Keeps the timers.
    Scheduler,
    /// Speaks to stores and keeps the cache.
    StoreSync,
    /// Keeps the audit's second copy.
    AuditSink,
    /// A host, with its injector.
    Host,
    /// A store of secrets.
    Store,
    /// What services talk over.
    Bus,
    /// The log of record.
    Journal,
}

/// One part of the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Component {
    /// What it is.
    pub kind: ComponentKind,
    /// Its machine, its host's name, or which store, bus or journal it is.
    pub name: String,
    /// This run of a service, a uuid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance: Option<String>,
    /// The worst of its facts.
    pub state: HealthWord,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// When it started, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<String>,
    /// When this gateway last heard of it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heard: Option<String>,
    /// How far it is: events, audit records, or a plan's generation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reached: Option<u64>,
    /// How far that was behind the log when it was heard.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lag: Option<u64>,
    /// When its credentials end, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate_end: Option<String>,
    /// Its connection to the bus server.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connection: Option<Connection>,
    /// Everything else about it.
    pub facts: Vec<FactView>,
}

/// A connection to the bus server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// Whether there is one.
    pub connected: bool,
    /// What the bus server says it is.
    pub server_version: String,
    /// Connects since the start.
    pub connects: u64,
    /// Messages that this end refused.
    pub refused: u64,
}

/// One thing about a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FactView {
    /// What.
    pub name: String,
    /// How it is.
    pub state: HealthWord,
    /// That in words.
    pub note: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// Something that a person should know or do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// How bad it is: never `ok`.
    pub state: HealthWord,
    /// Of which sort of component.
    pub kind: ComponentKind,
    /// Which one.
    pub name: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// One thing this machine offers or lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// `ok`, `unknown` or `missing`.
    pub state: String,
    /// What that means.
    pub note: String,
}

impl ComponentKind {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Scheduler => "scheduler",
            Self::StoreSync => "store-sync",
            Self::AuditSink => "audit-sink",
            Self::Host => "host",
            Self::Store => "store",
            Self::Bus => "bus",
            Self::Journal => "journal",
        }
    }
}

impl HealthWord {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}
