//! Shapes of `kind: Playbook`.

use std::collections::BTreeMap;

use keywheel_core::playbook::{MAX_APPROVALS, MAX_PARAMETERS, MAX_SELECTIONS, MAX_STEPS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const _: () = assert!(
    MAX_APPROVALS == 8 && MAX_PARAMETERS == 16 && MAX_SELECTIONS == 64 && MAX_STEPS == 64,
    "the shapes say them, too"
);

/// What is done in an incident or a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    /// What a run is told; steps write it as `${name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub parameters: Option<Vec<PlaybookParameter>>,
    /// What it does, one step after the other.
    #[schemars(length(min = 1, max = 64))]
    pub steps: Vec<PlaybookStep>,
    /// What begins a run besides a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub triggers: Option<Vec<PlaybookTrigger>>,
}

/// What begins a run: `event`, with `when` and `holdOff`, or `schedule`, with `timezone`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaybookTrigger {
    /// Type of an event of a secret, a rotation, a revocation, a host, a store or a signal from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What has to hold for it, in CEL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// For how long another event that tells the same begins no other run; `10m` by default.
    #[serde(default, rename = "holdOff", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub hold_off: Option<String>,
    /// A cron line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Its time zone, `UTC` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What a run is told; of an event `${event.secret}`, `${event.host}` and texts of `${event.data.…}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<BTreeMap<String, String>>,
}

/// What a run has to be told, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaybookParameter {
    /// Its name.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9._-]+$"))]
    pub name: String,
    /// What it is when a run is not told; absent: a run has to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub default: Option<String>,
}

/// One step: a name and exactly one of `rotate`, `revoke`, `evict`, `restart`, `quarantine`, `wait`, `approve`, `run`,
/// `prove`, `notify`, `call`; or `parallel` alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaybookStep {
    /// Its name, unique in the playbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9._-]+$"))]
    pub name: Option<String>,
    /// How long it may take, `1h` by default; `1s` to `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub deadline: Option<String>,
    /// What follows when it fails: `stop`, which is the default, `continue`, or steps.
    #[serde(default, rename = "onFailure", skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Branches beside each other, each a list of steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub parallel: Option<Vec<Vec<PlaybookStep>>>,
    /// Begins a rotation of each secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<Selections>,
    /// Revokes versions of each secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<Revoke>,
    /// Evicts a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict: Option<Evict>,
    /// Waits until all that steps before it began has ended well, or for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Waits for people; `deadline` is their time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<Approve>,
    /// Runs another playbook and waits for its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunPlaybook>,
    /// Waits until a login with each credential that steps before it took away was refused, or cannot be tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prove: Option<Prove>,
    /// Tells receivers of notifications something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// Tells one receiver something, and waits until it has taken it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// Restarts containers, as many at a time as their services let.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Cuts containers off, pauses or stops them, and gives them nothing until a person lifts that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
}

/// Restarts containers that are served. Texts may hold parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Containers of these names or ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub containers: Option<Vec<String>>,
    /// Every container of one of these images, by config digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub images: Option<Vec<String>>,
    /// Every container of one of these services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub services: Option<Vec<String>>,
    /// Every container that has one of these secrets, or is to have it.
    #[serde(
        default,
        rename = "consumersOf",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(min = 1, max = 64))]
    pub consumers_of: Option<Vec<String>>,
    /// Every container on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Puts containers into quarantine. Texts may hold parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Containers of these names or ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub containers: Option<Vec<String>>,
    /// Every container of one of these images, by config digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub images: Option<Vec<String>>,
    /// Every container of one of these services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub services: Option<Vec<String>>,
    /// Every container that has one of these secrets, or is to have it.
    #[serde(
        default,
        rename = "consumersOf",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(min = 1, max = 64))]
    pub consumers_of: Option<Vec<String>>,
    /// This host: that is its eviction, and nothing else may be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What is done to containers: `disconnect`, `pause` or `stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(disconnect|pause|stop)$"))]
    pub action: Option<String>,
}

/// Waits for proof; it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prove {}

/// Tells receivers of notifications something, whatever else they are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// The notifications, by name.
    #[schemars(length(min = 1, max = 64))]
    pub notifications: Vec<String>,
    /// What they are told; may hold parameters.
    #[schemars(length(min = 1, max = 500))]
    pub text: String,
}

/// Tells one receiver something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The notification, by name.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9._-]+$"))]
    pub notification: String,
    /// What it is told; may hold parameters.
    #[schemars(length(min = 1, max = 500))]
    pub text: String,
}

/// What follows when a step fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OnFailure {
    /// The run ends, or goes on as if the step was done.
    Word(OnFailureWord),
    /// These steps, and then the run ends as failed.
    Steps(Vec<PlaybookStep>),
}

/// What follows when a step fails, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailureWord {
    /// What comes after it is skipped, and the run ends as failed.
    Stop,
    /// The run goes on as if the step was done.
    Continue,
}

/// Which secrets a step means. Texts may hold parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selections {
    /// Secrets by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub secrets: Option<Vec<String>>,
    /// All whose names begin with one of these paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub prefixes: Option<Vec<String>>,
    /// All that lie in one of these stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub stores: Option<Vec<String>>,
    /// What containers of these names or ids have, or are to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub containers: Option<Vec<String>>,
    /// The same of every container of one of these images, by config digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub images: Option<Vec<String>>,
    /// The same of every container of one of these services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub services: Option<Vec<String>>,
    /// All that this host may hold, also one that was evicted since the run began.
    #[serde(default, rename = "heldBy", skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
}

/// Revokes versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Secrets by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub secrets: Option<Vec<String>>,
    /// All whose names begin with one of these paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub prefixes: Option<Vec<String>>,
    /// All that lie in one of these stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub stores: Option<Vec<String>>,
    /// What containers of these names or ids have, or are to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub containers: Option<Vec<String>>,
    /// The same of every container of one of these images, by config digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub images: Option<Vec<String>>,
    /// The same of every container of one of these services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub services: Option<Vec<String>>,
    /// All that this host may hold.
    #[serde(default, rename = "heldBy", skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// `old`: those before the current one; `alive`: all of them.
    pub versions: RevokeVersions,
}

/// Which versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevokeVersions {
    /// Those that are alive and before the current one.
    Old,
    /// All that are alive.
    Alive,
}

/// Evicts a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evict {
    /// The host, by name or id.
    pub host: String,
}

/// Waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// For a time; absent: until all that steps before it began has ended well.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub span: Option<String>,
    /// `withdrawn`: until no host has what steps before it replace or revoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^withdrawn$"))]
    pub until: Option<String>,
}

/// Waits for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// How many different principals, without the one who started the run; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8))]
    pub count: Option<u32>,
    /// Who is none of them: `unix:UID`, `certificate:NAME`, `oidc:NAME`, or a parameter that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub not: Option<Vec<String>>,
}

/// Runs another playbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunPlaybook {
    /// Which.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9._-]+$"))]
    pub playbook: String,
    /// What it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<BTreeMap<String, String>>,
}
