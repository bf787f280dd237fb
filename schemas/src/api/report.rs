//! The evidence of one run: signed records, their seal, and what follows from them.
//!
//! Invariant: [`EvidenceSummary`] is made of the records alone, so whoever has these makes it anew and compares.
//! Nothing here has a place for what a secret gives out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Format of a report that is written and read.
pub const REPORT_FORMAT: u32 = 1;
/// Most events of one report: a run over some ten thousand containers.
pub const MAX_REPORT_EVENTS: usize = 50_000;
/// Most audit records of one report.
pub const MAX_REPORT_RECORDS: usize = 20_000;

/// `GET /v1/reports/{kind}/{id}`, there without `summary`; and, whole, what `keywheel report` writes. `keywheel report
/// verify` needs nothing else but the public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceReport {
    /// 1.
    pub format: u32,
    /// What kind of run: `revocation`, `rotation`, `host` (an eviction) or `playbook-run`.
    pub kind: String,
    /// The run's id; of an eviction the host's.
    pub id: String,
    /// Origin line of the checkpoint.
    pub origin: String,
    /// Ed25519 public key of the gateway, base64. A key in a report proves nothing: compare it with one had elsewhere.
    pub public_key: String,
    /// C2SP signed checkpoint of the audit's tree.
    pub checkpoint: String,
    /// Events of the run and what they refer to, in the log's order.
    pub events: Vec<SignedEvent>,
    /// Audit records of the run in their order; the last one is the seal.
    pub records: Vec<ProvenRecord>,
    /// What follows from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<EvidenceSummary>,
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedEvent {
    /// The event as stored: canonical JSON.
    pub event: String,
    /// Ed25519 signature over its chain hash, base64.
    pub signature: String,
}

/// An audit record with its way to the checkpoint's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvenRecord {
    /// Place of the record; the first is 0.
    pub index: u64,
    /// The record as stored.
    pub record: String,
    /// SHA-256 hashes from the record's leaf to the checkpoint's root (RFC 9162), hexadecimal.
    pub path: Vec<String>,
}

/// What the records of a report come to. Times are the gateway's: when it was durable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceSummary {
    /// By which rules it is told and laid out; another version of Keywheel may have others.
    pub telling: u32,
    /// Name of the secret, host or playbook.
    pub name: String,
    /// How far it is, in words.
    pub state: String,
    /// Why, in a person's words; empty where nobody gave a reason.
    pub reason: String,
    /// When it began, RFC 3339.
    pub begun: String,
    /// When the report was made; it says nothing of what came later.
    pub made: String,
    /// For whom.
    pub made_for: String,
    /// What was reached, in order.
    pub marks: Vec<ReportMark>,
    /// What became of each secret's versions.
    pub secrets: Vec<ReportSecret>,
    /// Hosts that might hold them.
    pub hosts: Vec<ReportHost>,
    /// Containers that had them, or were to have them.
    pub consumers: Vec<ReportConsumer>,
    /// Whether they were shown to be dead, in words; empty for a run that shows no such thing.
    pub proof: String,
    /// Logins with them, and what the server answered.
    pub logins: Vec<ReportLogin>,
    /// What people did, and were refused.
    pub people: Vec<ReportDeed>,
    /// Everything else that happened, in order.
    pub timeline: Vec<ReportEntry>,
    /// Steps of a playbook's run and of the runs below it, as they are declared; empty for other runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<ReportStep>,
    /// Who approved what steps waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ReportApproval>,
    /// Of each version that died with a playbook's run, whether that was shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<ReportProof>,
    /// How well a playbook's run went; absent while it is open, and for other runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<ReportScore>,
}

/// A step of a playbook's run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportStep {
    /// The playbook whose step it is.
    pub playbook: String,
    /// The run of it.
    pub run: String,
    /// Its name.
    pub name: String,
    /// What it does: `rotate`, `revoke every version`, `wait for 2 approvals`, `wait until no host has it`, …
    pub action: String,
    /// What had to be over before it began, with ` failed` where it had to have failed.
    pub after: Vec<String>,
    /// `pending`, `open`, `completed`, `failed` or `skipped`.
    pub state: String,
    /// When it began, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<String>,
    /// When it was over, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// From the one to the other, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    /// When it had to be over, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why it failed, or what it found; empty for neither.
    pub result: String,
    /// What it did something to.
    pub targets: Vec<ReportTarget>,
}

/// Something that a step did something to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportTarget {
    /// What: a secret, a host, a playbook or a notification.
    pub target: String,
    /// `rotation ID`, `revocation ID`, `eviction`, `run ID`, `told`, `nothing to do`, `refused: …` or `not begun`.
    pub outcome: String,
    /// The event that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportApproval {
    /// The playbook whose step it is.
    pub playbook: String,
    /// The step.
    pub step: String,
    /// Who: `unix:0`, `certificate:anna`.
    pub who: String,
    /// When, RFC 3339.
    pub at: String,
    /// From when the step began to wait to then, in microseconds.
    pub after_us: u64,
    /// Why, in their words.
    pub reason: String,
    /// The event that shows it.
    pub event: u64,
}

/// Whether a version that died was shown to be dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportProof {
    /// The secret's name.
    pub secret: String,
    /// The version.
    pub version: u64,
    /// In words; where no login can be tried, why.
    pub verdict: String,
    /// When that was known, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// From the beginning of the run to then, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_us: Option<u64>,
    /// The event that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// How many of the rotations and revocations that a run was to begin came to a good end, by its own end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportScore {
    /// How many it was to begin.
    pub targets: u64,
    /// How many came to a good end.
    pub through: u64,
    /// Of a hundred; 100 where there were none.
    pub percent: u64,
    /// The event that shows it.
    pub event: u64,
}

/// Something that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportMark {
    /// What.
    pub what: String,
    /// When, RFC 3339; absent while it is not reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// From the beginning to then, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_us: Option<u64>,
    /// The event that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// A version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportSecret {
    /// The secret's name.
    pub secret: String,
    /// The version.
    pub version: u64,
    /// The accounts it opens; empty where none are known.
    pub resource: String,
    /// `alive`, `revoked` or `destroyed`.
    pub outcome: String,
    /// Since when, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// From the beginning to then, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_us: Option<u64>,
    /// The event that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// A host that might hold what the run is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportHost {
    /// Its name.
    pub host: String,
    /// `gone`, `evicted` or `not told`.
    pub outcome: String,
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// From the beginning to then, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_us: Option<u64>,
    /// The event that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportConsumer {
    /// Full id.
    pub container: String,
    /// Its name.
    pub name: String,
    /// Host name.
    pub host: String,
    /// Config digest of its image.
    pub image: String,
    /// The binding's name.
    pub binding: String,
    /// The secret's name.
    pub secret: String,
    /// Version that it had when the run began; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// `withdrawn`, `vanished`, `swapped to version N`, `runs on version N`, `refused: …` or `not told`; in words where
    /// its host was evicted.
    pub outcome: String,
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// From the beginning, of a rotation from the promotion, to then, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_us: Option<u64>,
    /// The event that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// A login with what was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportLogin {
    /// Which version.
    pub version: u64,
    /// When it was answered, by the clock of whoever asked, RFC 3339.
    pub at: String,
    /// Which account of which server.
    pub place: String,
    /// `wrong_password`, `no_login`, `refused` or `accepted`; of a lease `lease_gone` or `lease_alive`.
    pub answer: String,
    /// The event that shows it.
    pub event: u64,
    /// The secret's name, where a run may be about several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub secret: String,
}

/// What a person asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportDeed {
    /// When, RFC 3339.
    pub at: String,
    /// Who.
    pub who: String,
    /// What: `revoke`, `forget-revocation`, `rotate`, `evict`, …
    pub verb: String,
    /// On what.
    pub object: String,
    /// `allowed`, `rejected`, `denied` or `malformed`.
    pub outcome: String,
    /// Why, in their words, or by which rule.
    pub reason: String,
    /// Place of the audit record that shows it.
    pub record: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportEntry {
    /// When, RFC 3339.
    pub at: String,
    /// What, in words.
    pub what: String,
    /// The event that shows it.
    pub event: u64,
}
