//! Playbooks: what is declared, what a run would do, and how one stands.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::playbook::{PlaybookParameter, PlaybookStep, PlaybookTrigger};

/// `GET /v1/playbooks/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaybookView {
    /// Its name.
    pub name: String,
    /// What a run has to be told, or may be.
    pub parameters: Vec<PlaybookParameter>,
    /// What it does.
    pub steps: Vec<PlaybookStep>,
    /// What begins a run besides a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<PlaybookTrigger>,
    /// How many runs of it are open.
    pub open_runs: u64,
}

/// `GET /v1/playbook-plan/{name}`: what a run begun now would do. Nothing is begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaybookPlan {
    /// The playbook.
    pub playbook: String,
    /// Its steps, with what the run is told put in.
    pub steps: Vec<PlannedPlaybookStep>,
    /// What would refuse or fail a step, each with the next step; empty when nothing is in the way.
    pub blockers: Vec<String>,
}

/// One step in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedPlaybookStep {
    /// Its name.
    pub name: String,
    /// What it would do, in words.
    pub action: String,
    /// After which steps, in words.
    pub after: Vec<String>,
    /// What it would do something to: secrets with versions, a host, a playbook.
    pub targets: Vec<String>,
    /// How long it may take, in seconds.
    pub deadline_seconds: u64,
}

/// `POST /v1/playbooks/{name}/run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunPlaybookRequest {
    /// What it is told, by parameter.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
    /// Why, for the record.
    pub reason: String,
}

/// `GET /v1/quarantines`: a container that is cut off, paused or stopped, and given nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineView {
    /// Its name.
    pub container: String,
    /// Its full id.
    pub id: String,
    /// Its host.
    pub host: String,
    /// What is done to it: `disconnect`, `pause` or `stop`.
    pub action: String,
    /// `ordered` while its host did not tell of it, `done`, or `failed`: it is tried again.
    pub state: String,
    /// Why it could not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The run whose step gave it.
    pub run_id: String,
    /// Why.
    pub reason: String,
}

/// `POST /v1/playbook-runs/{id}/approve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The step; without it the one that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why, for the record.
    pub reason: String,
}

/// `GET /v1/playbook-runs/{id}`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlaybookRunView {
    /// Its id.
    pub run_id: String,
    /// The playbook.
    pub playbook: String,
    /// `running`, `paused`, `completed`, `failed` or `cancelled`.
    pub state: String,
    /// What it was told.
    pub arguments: BTreeMap<String, String>,
    /// Who started it: `unix:UID`, `certificate:NAME`, or `scheduler` for a trigger.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The run whose step it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its steps.
    pub steps: Vec<RunStepView>,
    /// How long it took, or takes so far, in milliseconds; absent where that is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
    /// How many of what its steps rotate or revoke are through.
    pub score: RunScore,
    /// When it began; absent where that is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<String>,
}

/// How well a run went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RunScore {
    /// How many rotations and revocations its steps were to begin.
    pub targets: u64,
    /// How many of them came to a good end.
    pub through: u64,
    /// How many of a hundred; 100 where there is nothing to do.
    pub percent: u64,
    /// Those that are not, as far as they are still known, each with why or where it stands.
    pub not_through: Vec<String>,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunStepView {
    /// Its name.
    pub name: String,
    /// What it does, in words.
    pub action: String,
    /// `pending`, `running`, `completed`, `failed` or `skipped`.
    pub state: String,
    /// When it has to be over, once it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long it took, in milliseconds, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
    /// What it found: how many are proven dead, and which cannot be probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Who approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<String>,
    /// What it does something to, and what came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<RunTargetView>,
}

/// One thing that a step does something to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunTargetView {
    /// The secret with its version, the host, the container or the playbook.
    pub target: String,
    /// What it began: `rotation ID`, `revocation ID`, `eviction`, `run ID`, `told`, `restart`, `quarantine`, or
    /// `nothing`; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}
