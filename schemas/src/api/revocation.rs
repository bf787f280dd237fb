//! How far a revocation is, beside what [`RevocationView`](super::RevocationView) says first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RevocationView;

/// What each half of a revocation came to. None waits for another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
pub struct RevocationStates {
    /// Whether no host may hold one of the versions any more.
    pub withdrawn_everywhere: bool,
    /// Hosts that may still hold one, and were not heard lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<AwayHost>,
    /// Whether the store made them unusable.
    pub dead_at_backend: bool,
    /// The store outside that goes on to give one of them to whoever may read there, since it cannot be without a
    /// current version: a rotation, or a person there, puts another one in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_current_at: Option<String>,
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
    /// What takes the place of the versions, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<ReplacementView>,
}

/// What takes the place of what is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplacementView {
    /// The rotation that was to bring it; absent where none could begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_id: Option<String>,
    /// `awaited`, `made` or `none`.
    pub state: String,
    /// What it waits for, with the next step, or why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
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
    /// `wrong_password`, `no_login`, `refused` or `accepted`; where the store of a lease was asked and no login was
    /// made, `lease_gone` or `lease_alive`.
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

/// What a revocation is about: exactly one of them is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct RevokeScope {
    /// One secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// With `secret`: only this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Every secret at this path or below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Every secret that lies in this store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Whatever this container has: its name, its id, or at least twelve digits of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Whatever the containers of this image have: its config digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whatever the containers of this service have: `PROJECT/SERVICE` or `SERVICE` of Compose, or Swarm's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whatever policies let this service have, bindings grant it, or its containers have: `service:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

/// `POST /v1/revoke-by`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeByRequest {
    /// What it is about.
    pub scope: RevokeScope,
    /// Why, for the record.
    pub reason: String,
    /// All that is alive of every secret that is hit dies, also what a rotation under way may have made; with
    /// `replace` all but what is to replace it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
    /// Another version of each is made first, and what is hit dies once that is in use; in an emergency as soon as it
    /// is promoted, and without one where there is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

/// What came of `POST /v1/revoke-by`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevokeByAnswer {
    /// What whoever asked should look at first, such as a service that no binding and no container names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Those that began.
    pub revocations: Vec<RevocationView>,
    /// Those that did not, and why. The others go on.
    pub refused: Vec<RefusedRevocation>,
}

/// A secret that was not revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedRevocation {
    /// The secret.
    pub secret: String,
    /// Why, and the next step.
    pub reason: String,
}

/// `GET /v1/revoke-plan`: the blast radius of a revocation begun now. Nothing is begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokePlan {
    /// What whoever asked should look at first, such as a service that no binding and no container names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Every secret that is hit, in the order of names.
    pub secrets: Vec<PlannedRevocation>,
    /// How many containers lose something.
    pub containers: u64,
    /// How many of them stop: the value is in their environment, or their binding says so.
    pub stops: u64,
    /// How many restart: their binding says so, or another version takes the place of what dies.
    #[serde(default)]
    pub restarts: u64,
    /// How many hosts may hold something of it.
    pub hosts: u64,
    /// Those of them that were not heard lately: what they hold is withdrawn when they come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<AwayHost>,
}

/// A host that may hold what is revoked, and is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AwayHost {
    /// Host name.
    pub host: String,
    /// When it was last heard, RFC 3339, since this gateway started; absent when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// Until when containers may start there with what it holds, RFC 3339: its lease of a day, unless
    /// `injector.lease` says another one on that host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_until: Option<String>,
}

/// One secret in a blast radius.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedRevocation {
    /// The secret's name.
    pub secret: String,
    /// The versions that would die.
    pub versions: Vec<u64>,
    /// Where its values lie: `local`, or a store's name.
    pub store: String,
    /// The resource whose accounts they open; their sessions end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Whether a login is to show that they are dead.
    pub is_proven: bool,
    /// The rotation that is cancelled with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancels: Option<String>,
    /// Hosts that may hold one of them.
    pub hosts: Vec<String>,
    /// Who loses what.
    pub consumers: Vec<PlannedLoss>,
    /// What takes their place first, in words, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
}

/// One container in a blast radius.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedLoss {
    /// Full container id.
    pub container: String,
    /// Container name.
    pub name: String,
    /// Config digest of its image.
    pub image: String,
    /// Host name.
    pub host: String,
    /// The binding's name.
    pub binding: String,
    /// The version that it loses.
    pub version: u64,
    /// What is done, in words.
    pub action: String,
    /// Whether it stops.
    pub stops: bool,
    /// Whether it restarts.
    #[serde(default)]
    pub restarts: bool,
}
