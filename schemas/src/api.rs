//! The HTTP API on the unix socket, as JSON.
//!
//! Invariant: no response type can hold a secret's value. The one place where a value travels is
//! [`PutRequest::sealed`], sealed by the client to store-sync's key.

mod approval;
mod backup;
mod consistency;
mod doctor;
mod entitlement;
mod host;
mod login;
mod outward;
mod playbook;
mod policy;
mod report;
mod revocation;
mod rotation;
mod schedule;
mod seal;
mod status;
mod store;
mod subscription;
mod token;

pub use approval::{ApprovalRequest, ApprovalView, BrokenGlassView};
pub use backup::BackupView;
pub use consistency::AuditConsistency;
pub use doctor::DoctorReport;
pub use entitlement::{EntitlementView, RefusedStartView, RulePart, RuleView};
pub use host::{EvictAnswer, EvictRequest, HeldView, HostPage, HostView, JoinTokenAnswer};
pub use login::{
    DeviceLogin, LoginAnswer, LoginRequest, LoginSettings, LogoutAnswer, LogoutRequest,
};
pub use outward::{LetterView, NotificationView, ReplayRequest, SignalSourceView};
pub use playbook::{
    ApproveRequest, PlannedPlaybookStep, PlaybookPlan, PlaybookRunView, PlaybookView,
    QuarantineView, RunPlaybookRequest, RunScore, RunStepView, RunTargetView,
};
pub use policy::{
    ApplyPoliciesRequest, NearPolicy, PoliciesInForce, PoliciesView, PolicyExplanation,
    PolicyFinding,
};
pub use report::{
    EvidenceReport, EvidenceSummary, MAX_REPORT_EVENTS, MAX_REPORT_RECORDS, ProvenRecord,
    REPORT_FORMAT, ReportApproval, ReportConsumer, ReportDeed, ReportEntry, ReportHost,
    ReportLogin, ReportMark, ReportProof, ReportScore, ReportSecret, ReportStep, ReportTarget,
    SignedEvent,
};
pub use revocation::{
    AwayHost, EvidenceView, ForgetRequest, ForgetView, PlannedLoss, PlannedRevocation,
    RefusedRevocation, ReplacementView, RevocationStates, RevokeByAnswer, RevokeByRequest,
    RevokePlan, RevokeScope,
};
pub use rotation::{InterveneRequest, PlannedConsumer, RotationPlan};
pub use schedule::{FireView, ScheduleView};
pub use seal::{SealRequest, SealView, UnsealRequest};
pub use status::{
    Component, ComponentKind, Connection, FactView, Feature, Finding, HealthWord, Status,
};

pub use store::{RefreshAnswer, RefreshRequest, Refreshed, StorePage, StoreSecret, StoreView};

pub use subscription::{AcknowledgeRequest, SubscribeRequest, SubscriptionView};
pub use token::{
    IssueTokenAnswer, IssueTokenRequest, MayView, RevokeTokenRequest, RevokeTokensAnswer,
    RevokeTokensRequest, TokenView, WhoamiView,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::resource::Resource;

/// Gives the shape of every request and answer to a macro.
macro_rules! of_shapes {
    ($to:ident) => {
        $to![
            Problem,
            Status,
            ApplyRequest,
            ApplyAnswer,
            SecretView,
            ScheduleView,
            VersionView,
            BindingView,
            ConsumerView,
            RotationView,
            RevocationView,
            HostView,
            HostPage,
            EvictRequest,
            EvictAnswer,
            JoinTokenAnswer,
            PutRequest,
            RotateRequest,
            InterveneRequest,
            RotationPlan,
            RevokeRequest,
            ForgetRequest,
            RevokeByRequest,
            RevokeByAnswer,
            RevokePlan,
            PlaybookView,
            PlaybookPlan,
            PlaybookRunView,
            QuarantineView,
            RunPlaybookRequest,
            ApproveRequest,
            HistoryView,
            StoreKey,
            StoreView,
            StorePage,
            RefreshRequest,
            RefreshAnswer,
            SealView,
            UnsealRequest,
            SealRequest,
            SubscriptionView,
            SubscribeRequest,
            AcknowledgeRequest,
            NotificationView,
            ReplayRequest,
            SignalSourceView,
            LetterView,
            AuditExport,
            AuditProof,
            AuditConsistency,
            AuditRetentionView,
            VerifyReport,
            EvidenceReport,
            PoliciesView,
            ApplyPoliciesRequest,
            PolicyExplanation,
            TokenView,
            IssueTokenRequest,
            IssueTokenAnswer,
            RevokeTokenRequest,
            RevokeTokensRequest,
            RevokeTokensAnswer,
            WhoamiView,
            EntitlementView,
            BackupView,
            ApprovalView,
            ApprovalRequest,
            LoginSettings,
            DeviceLogin,
            LoginRequest,
            LoginAnswer,
            LogoutRequest,
            LogoutAnswer
        ]
    };
}
pub(crate) use of_shapes;

/// Largest request body, in bytes: the largest manifest or sealed value, and room for its frame.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Most rows one page of a stream returns.
pub const MAX_PAGE: usize = 1000;
/// Longest `Idempotency-Key`, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// Every code of a problem; none is ever given another meaning.
pub const PROBLEM_CODES: [&str; 8] = [
    "not_found",
    "conflict",
    "invalid",
    "denied",
    "unavailable",
    "corrupt",
    "sealed",
    "waiting",
];

/// What the detail of a denial says of who may not come in at all, in difference to who may not do one thing.
pub const NOT_LET_IN: &str = "may not use this socket";

/// A failure, as RFC 9457 problem details with the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `about:blank#CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short and constant per code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What, why, and what to do next.
    pub detail: String,
    /// Stable code.
    #[schemars(extend("enum" = PROBLEM_CODES))]
    pub code: String,
}

/// The last line of a stream whose right ended: no event or record begins like it. As a server-sent event it is one of
/// type `ended`, with the problem alone as its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamEnd {
    /// Why.
    pub ended: Problem,
}

/// `POST /v1/apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The manifests, YAML, several documents.
    pub manifests: String,
    /// Where they came from, for error texts.
    pub source: String,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Declare stores without trying them first.
    #[serde(default)]
    pub no_check: bool,
}

/// Answer to `POST /v1/apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyAnswer {
    /// One per document, in order.
    pub results: Vec<Applied>,
}

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// `Secret`, `Store`, `Binding`, `Notification`, `SignalSource` or `Playbook`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `created`, `changed` or `unchanged`.
    pub action: String,
    /// What to know about it, for example that a selector is weak.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionView {
    /// Its number.
    pub version: u64,
    /// `pending`, `current`, `previous` or empty.
    pub stage: String,
    /// `alive`, `revoked` or `destroyed`.
    pub state: String,
    /// Names of hosts that may hold it.
    pub hosts: Vec<String>,
    /// Names of hosts that had it when they were evicted, and may have it still.
    #[serde(default)]
    pub evicted_hosts: Vec<String>,
}

/// One secret. No value is here and none can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Where its values live.
    pub store: String,
    /// Number of the current version.
    pub current: Option<u64>,
    /// Number of the version being made.
    pub pending: Option<u64>,
    /// Highest number ever given out.
    pub last_version: u64,
    /// Whether values are generated.
    pub generated: bool,
    /// When it rotates by itself, in words.
    pub schedule: String,
    /// The next fires, RFC 3339, before jitter.
    pub next_fires: Vec<String>,
    /// How many live consumers.
    pub consumers: u64,
    /// The rotation that runs.
    pub open_rotation: Option<String>,
    /// The accounts that its versions open; absent for a value that opens none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotator: Option<Resource>,
    /// Starts that were refused for want of it, newest first, as far as the newest audit records have them; only where
    /// one asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_starts: Vec<RefusedStartView>,
}

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BindingView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The secret's name.
    pub secret: String,
    /// Names of further secrets that its templates name; seldom any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Which containers, in words.
    pub selector: String,
    /// File or env variable, in words.
    pub target: String,
    /// What happens on change, in words.
    pub reload: String,
    /// What befalls a container that loses a revoked value: `remove` (its file goes), `restart`, `disconnect`, `pause`
    /// or `stop`; absent in answers of older gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_revoke: Option<String>,
    /// How many live consumers.
    pub consumers: u64,
    /// What to know, for example that a selector is weak.
    pub note: Option<String>,
    /// Why it gives nothing, in words, where policies say that its service may not have what it would give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

/// One consumer: a container instance under a binding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerView {
    /// Full container id.
    pub container: String,
    /// Container name.
    pub name: String,
    /// Host name.
    pub host: String,
    /// The secret's name.
    pub secret: String,
    /// The binding's name.
    pub binding: String,
    /// Version its copy holds; 0 for none.
    pub version: u64,
    /// Version it has to run on.
    pub assigned: u64,
    /// `waiting`, `swapped`, `reloaded`, `withdrawn`, `vanished` or `refused`.
    pub state: String,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What its rollout says of it: `waits for leave`, `may restart`, `not well yet` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restart: Option<String>,
    /// Promotion committed to file replaced, or to the new first program running, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_ms: Option<f64>,
    /// Version before that one, which stands in its file, too: its template names `previous`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<u64>,
}

/// One rotation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RotationView {
    /// Its id.
    pub rotation_id: String,
    /// The secret's name.
    pub secret: String,
    /// The version it makes.
    pub version: u64,
    /// `creating`, `staging`, `setting`, `testing`, `canary`, `finishing`, `distributing`, `draining`, `revoking_old`,
    /// `rolling_back`, `retrying`, `completed`, `rolled_back`, `parked` or `cancelled`.
    pub state: String,
    /// Why it began.
    pub trigger: String,
    /// What it waits for or why it ended so, in words.
    pub waiting_for: Vec<String>,
    /// Versions that die at its end, while it waits for consumers or is parked.
    #[serde(default)]
    pub dying: Vec<u64>,
    /// What a person can do now, where something is left to a person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_step: Option<String>,
    /// Measured times.
    pub timings: RotationTimings,
    /// Its consumers.
    pub consumers: Vec<ConsumerView>,
}

/// Measured times of a rotation, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RotationTimings {
    /// Request durable to last consumer acknowledged.
    pub requested_to_acknowledged_ms: Option<f64>,
    /// Promotion durable to the last file replaced.
    pub promoted_to_swapped_ms: Option<f64>,
    /// Request durable to closed.
    pub requested_to_closed_ms: Option<f64>,
    /// In a cut-over: the server took the new password to last consumer acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<f64>,
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevocationView {
    /// Its id.
    pub revocation_id: String,
    /// The secret's name.
    pub secret: String,
    /// The versions.
    pub versions: Vec<u64>,
    /// `running` or `closed`; `awaiting_replacement` while its versions live until another one is in use.
    pub state: String,
    /// `asked`, `failed` or `confirmed`; `forgotten` when two principals had it asked no more; `not_asked` where
    /// nothing of it has begun.
    pub backend: String,
    /// Hosts that may still hold one.
    pub waiting_hosts: Vec<String>,
    /// Why, in a person's words.
    pub reason: String,
    /// Request durable to gone from every container, in milliseconds.
    pub withdrawn_ms: Option<f64>,
    /// How far each half of it is; absent in answers of older gateways.
    #[serde(default)]
    pub states: RevocationStates,
    /// What a person can do now, where something is left to a person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_step: Option<String>,
}

/// `POST /v1/put`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutRequest {
    /// The secret.
    pub name: String,
    /// With a value: a uuid drawn by the client. The rotation's id is the first sixteen bytes of the SHA-256
    /// over `keywheel/put/v1` and the sixteen bytes of this; the sealed value is bound to that id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// The value, sealed to store-sync's key, base64; without it the value is generated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sealed: Option<String>,
}

/// `POST /v1/rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// The secret.
    pub secret: String,
}

/// `POST /v1/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// The secret.
    pub secret: String,
    /// One version, or all that are alive.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<u64>,
    /// Why, for the record.
    pub reason: String,
    /// Another version is made first, and these die once that is in use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// Whether it goes before other revocations, too; with `replace` they die as soon as the other version is promoted,
    /// and without one where there is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
}

/// `GET /v1/store-key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreKey {
    /// X25519 public key, base64.
    pub public_key: String,
    /// Deployment id, bound into what is sealed.
    pub deployment: String,
}

/// `GET /v1/history/{name}`: what the log says of a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryView {
    /// The secret's name.
    pub secret: String,
    /// The time that was asked for, RFC 3339.
    pub at: String,
    /// Number of the last event up to then; 0 for none.
    pub number: u64,
    /// Versions as they were, newest first.
    pub versions: Vec<VersionView>,
    /// Containers, and the version each one held.
    pub consumers: Vec<ConsumerView>,
}

/// Header of an answer with audit records, where old ones were removed: number of the first that is there.
pub const AUDIT_BEGINS: &str = "keywheel-audit-begins";

/// `GET /v1/audit/export`: everything needed to verify offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditExport {
    /// Origin line of the checkpoint.
    pub origin: String,
    /// Ed25519 public key of the gateway, base64.
    pub public_key: String,
    /// C2SP signed checkpoint.
    pub checkpoint: String,
    /// The records as stored, in order.
    pub records: Vec<String>,
    /// SHA-256 leaf hash of each, hexadecimal, so that a change names its index.
    pub leaf_hashes: Vec<String>,
    /// Leaf hashes of the records before the first, hexadecimal, where these were removed by their age; the first
    /// record's number is how many they are. Of a part there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_hashes: Vec<String>,
    /// Of a part of the audit: number of its first record, and the inclusion proofs (RFC 9162, hexadecimal)
    /// of its first and last, which together prove all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<AuditPart>,
}

/// Where the records of an export stand that has not all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditPart {
    /// Number of the first.
    pub first: u64,
    /// Inclusion proof of the first.
    pub first_path: Vec<String>,
    /// Inclusion proof of the last.
    pub last_path: Vec<String>,
}

/// `GET /v1/audit/proofs/{index}`: everything needed to show one record offline, without the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditProof {
    /// Origin line of the checkpoint.
    pub origin: String,
    /// Ed25519 public key of the gateway, base64.
    pub public_key: String,
    /// C2SP signed checkpoint.
    pub checkpoint: String,
    /// Place of the record; the first is 0.
    pub index: u64,
    /// The record as stored.
    pub record: String,
    /// SHA-256 hashes from the record's leaf to the checkpoint's root (RFC 9162), hexadecimal.
    pub path: Vec<String>,
}

// As serde calls it.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `GET /v1/journal/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// Whether nothing is wrong.
    pub verified: bool,
    /// Events checked.
    pub events: u64,
    /// Audit records checked.
    pub audit_records: u64,
    /// Events folded anew and compared with the state that the gateway decides on.
    #[serde(default)]
    pub replayed: u64,
    /// What is wrong, first first.
    pub faults: Vec<String>,
    /// Audit records that were removed by their age: of these the hashes were checked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed_records: u64,
}

/// `GET /v1/audit/retention`: what became of old audit records, and what would become of them next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRetentionView {
    /// How old a record has to be before it is removed; nothing where all are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
    /// Number of the first record that is there; those before it are gone, and their hashes are not.
    pub begins: u64,
    /// How many there are and were.
    pub size: u64,
    /// So many of those that are there are old enough, in whole units.
    pub removable: u64,
    /// When the next unit is old enough, RFC 3339; nothing where it is not full yet, or all are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Why nothing is removed now though it is old enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

#[cfg(test)]
mod tests;
