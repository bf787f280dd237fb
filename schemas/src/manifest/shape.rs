//! Shapes of the manifests for the JSON Schema that editors read. Parsing does not go through them:
//! it keeps positions, which serde's own shapes lose.

mod outward;
mod playbook;
mod reload;
mod store;

pub use outward::{
    EmailReceiver, NatsReceiver, Notification, SignalSource, SlackReceiver, WebhookReceiver,
};
pub use playbook::{
    Approve, Call, Evict, Notify, OnFailure, OnFailureWord, Playbook, PlaybookParameter,
    PlaybookStep, PlaybookTrigger, Prove, Revoke, RevokeVersions, RunPlaybook, Selections, Wait,
};
pub use reload::{CommandReload, Reload, Restart, RestartReload, Rollout, Signal, SignalReload};
pub use store::{
    AppRole, Aws, AwsAuth, Cert, Credential, Jwt, Keys, Source, Store, Vault, VaultAuth,
};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", deny_unknown_fields)]
pub enum Document {
    /// A secret.
    Secret {
        /// Always `keywheel.dev/v1`.
        #[serde(rename = "apiVersion")]
        #[schemars(regex(pattern = r"^keywheel\.dev/v1$"))]
        api_version: String,
        /// Its name.
        metadata: Metadata,
        /// What is asked of it.
        spec: Secret,
    },
    /// A store outside.
    Store {
        /// Always `keywheel.dev/v1`.
        #[serde(rename = "apiVersion")]
        #[schemars(regex(pattern = r"^keywheel\.dev/v1$"))]
        api_version: String,
        /// Its name.
        metadata: Metadata,
        /// What is declared.
        spec: store::Store,
    },
    /// A binding of a secret to containers.
    Binding {
        /// Always `keywheel.dev/v1`.
        #[serde(rename = "apiVersion")]
        #[schemars(regex(pattern = r"^keywheel\.dev/v1$"))]
        api_version: String,
        /// Its name.
        metadata: Metadata,
        /// What it grants.
        spec: Binding,
    },
    /// Who outside is told which events.
    Notification {
        /// Always `keywheel.dev/v1`.
        #[serde(rename = "apiVersion")]
        #[schemars(regex(pattern = r"^keywheel\.dev/v1$"))]
        api_version: String,
        /// Its name.
        metadata: Metadata,
        /// What is declared.
        spec: outward::Notification,
    },
    /// Who outside may say that something happened.
    SignalSource {
        /// Always `keywheel.dev/v1`.
        #[serde(rename = "apiVersion")]
        #[schemars(regex(pattern = r"^keywheel\.dev/v1$"))]
        api_version: String,
        /// Its name.
        metadata: Metadata,
        /// What is declared.
        spec: outward::SignalSource,
    },
    /// A playbook.
    Playbook {
        /// Always `keywheel.dev/v1`.
        #[serde(rename = "apiVersion")]
        #[schemars(regex(pattern = r"^keywheel\.dev/v1$"))]
        api_version: String,
        /// Its name.
        metadata: Metadata,
        /// What it does.
        spec: playbook::Playbook,
    },
}

/// What names a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits, `.`, `_` and `-`, in parts separated by single `/`.
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[a-z0-9._-]+(/[a-z0-9._-]+)*$")
    )]
    pub name: String,
}

/// What is asked of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Where the values live: `local`, which is the default, or the name of a declared store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9._-]+$"))]
    pub store: Option<String>,
    /// Where in that store; goes with every store but `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<store::Source>,
    /// The server for which Keywheel itself needs it, exactly as a `kind: Store` names it: the
    /// `address` of Vault, the `endpoint` of AWS, or `aws`; or of a rotator `TYPE://HOST:PORT`. Fixed once it has a value; no container
    /// gets it.
    #[serde(
        default,
        rename = "credentialFor",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(min = 1, max = 2048))]
    pub credential_for: Option<String>,
    /// The accounts that its versions open, at a database or a cache. With another store than `local` each version lies
    /// there, too; not with a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotator: Option<AnyRotator>,
    /// How values are made; absent: they are always provided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<Generator>,
    /// When it rotates by itself; absent: only on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// Who rotates it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AnyRotator {
    /// Accounts of a server.
    Accounts(Rotator),
    /// A role of a store.
    Dynamic(DynamicRotator),
}

/// A role of a Vault or an OpenBao that makes a login for each container. Says nothing beside `store`,
/// `source`, `generator`, `rotation` and `credentialFor`: none of them is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DynamicRotator {
    /// `dynamic`.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = r"^dynamic$"))]
    pub kind: String,
    /// Name of the declared store.
    #[schemars(length(min = 1, max = 255))]
    pub store: String,
    /// The path at which it gives logins: `database/creds/app`.
    #[schemars(length(min = 1, max = 2048))]
    pub role: String,
    /// How long a login is kept for a container that does not run, from `30s` to `24h`; by default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linger: Option<String>,
    /// The server that its logins are for: there each is tried when it is made, and once more when a person has
    /// revoked it. Absent: of what was revoked its store is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// The server at which the logins that a store makes are tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Probe {
    /// `postgres`, `mariadb` (also MySQL) or `redis` (also Valkey).
    #[serde(rename = "type")]
    #[schemars(regex(pattern = r"^(postgres|mariadb|redis)$"))]
    pub kind: String,
    /// Where it is, without a login: `postgres://db.example:5432/shop`.
    #[schemars(length(min = 1, max = 1024))]
    pub connection: String,
    /// File on the machine of store-sync with the authorities (PEM) that the server's certificate has to
    /// come from; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub ca_file: Option<String>,
}

/// Accounts at a server that checks passwords. An account belongs to one secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rotator {
    /// `postgres`, `mariadb` (also MySQL), `redis` (also Valkey) or `webhook`: a receiver of your own.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = r"^(postgres|mariadb|redis|webhook)$"))]
    pub kind: String,
    /// Where it is, with the admin's name and without a password:
    /// `postgres://admin@db.example:5432/shop`; of a webhook its URL, `https://hooks.example/rotate`.
    #[schemars(length(min = 1, max = 1024))]
    pub connection: String,
    /// The account; a list of two where they take turns, and then a value is
    /// `{"username":"…","password":"…"}`, else the password alone. A webhook needs none: left out, it is
    /// the path of its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Accounts>,
    /// The secret that holds the admin's password, or a webhook's signing key (`whsec_…`); it says
    /// `credentialFor: TYPE://HOST:PORT`.
    #[schemars(length(min = 1, max = 255))]
    pub admin_secret: String,
    /// `alternatingUsers`, `dualPassword` or `singleUser`; by default the best one for so many accounts,
    /// and for a webhook `singleUser`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(alternatingUsers|dualPassword|singleUser)$"))]
    pub strategy: Option<String>,
    /// File on the machine of store-sync with the authorities (PEM) that the server's certificate has to
    /// come from; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub ca_file: Option<String>,
}

/// One account, or two that take turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Accounts {
    /// One.
    One(String),
    /// Two.
    Two(Vec<String>),
}

/// How values are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// Characters in a value, 32 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub length: Option<u32>,
    /// Characters to draw from; absent: printable ones without quotes, `/`, `\` and backtick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub alphabet: Option<String>,
    /// Characters never drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub exclude: Option<String>,
}

/// When it rotates by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// A cron line of five fields, or six with seconds first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub schedule: Option<String>,
    /// IANA time zone of the cron line, `UTC` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub timezone: Option<String>,
    /// Every so often after the last promotion, for example `12h`; instead of `schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub interval: Option<String>,
    /// Largest delay added to a slot, for example `5m`; nothing by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub jitter: Option<String>,
    /// `once` (default): one catch-up run after a downtime; `skip`: wait for the next slot.
    #[serde(default, rename = "missedRun", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(once|skip)$"))]
    pub missed_run: Option<String>,
    /// How long consumers may take, for example `10m`; `5m` by default, `10s` to `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub deadline: Option<String>,
    /// `hold` (default): the old version stays alive and the rotation is parked; `force`: it is revoked
    /// all the same, and who is left behind is on record.
    #[serde(
        default,
        rename = "onDeadline",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(regex(pattern = r"^(hold|force)$"))]
    pub on_deadline: Option<String>,
    /// What becomes of the version before the current one once all consumers run on the new one: `revoke`,
    /// the default; `keep`: it stays alive until the next rotation ends, for templates that name it by
    /// `version="previous"`. Not for a secret with a `rotator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(revoke|keep)$"))]
    pub previous: Option<String>,
    /// `drained`: the old version is revoked only once the server shows no session of it from before the last
    /// acknowledgement. `reloaded`: acknowledgements are enough. Left out it is `drained` where two accounts
    /// alternate, and where an account takes two passwords and a container has the value as a file without
    /// `reload`; `reloaded` everywhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(reloaded|drained)$"))]
    pub ack: Option<String>,
    /// It also rotates when its version is so old, for example `90d`, whatever the schedule says.
    #[serde(default, rename = "maxAge", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub max_age: Option<String>,
    /// How long the other side takes a version, for example `90d`: it also rotates after two thirds of that,
    /// outside of windows and in freezes too when the version would end before they allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub lifetime: Option<String>,
    /// Slots sooner than this after a rotation are passed over.
    #[serde(default, rename = "holdOff", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub hold_off: Option<String>,
    /// It rotates by itself only while one of these is open; absent: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub windows: Option<Vec<Window>>,
    /// It does not rotate by itself during these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub freezes: Option<Vec<Freeze>>,
    /// Its place among related secrets that are not to rotate at the same time; goes with `schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// It also rotates after these of Keywheel's own events, signals from outside among them.
    #[serde(default, rename = "onEvent", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub on_event: Option<Vec<EventRule>>,
    /// A few containers get a new version before it is promoted, and it is promoted only when they run well with
    /// it for a while; else they get the version before back. Only where that one stays good beside it: not with
    /// `strategy: singleUser`, with a static role, or with `previous: keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// Who gets a new version before all others, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// How many containers, 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub consumers: Option<u32>,
    /// How long all of them have to run well with it, for example `5m`; `30s` by default, `1s` to `1d`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub watch: Option<String>,
}

/// Events that lead to a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    /// The event's type, for example `dev.keywheel.rotation.closed.v1`.
    #[serde(rename = "type")]
    #[schemars(regex(
        pattern = r"^dev\.keywheel\.(secret|rotation|revocation|host|store|signal)\.[a-z_]+\.v1$"
    ))]
    pub event: String,
    /// What has to hold for it, in CEL over `event` and `held`; absent: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub when: Option<String>,
    /// How long after the last promotion the rotation begins at the earliest, `10m` by default; an event
    /// that comes sooner waits.
    #[serde(default, rename = "holdOff", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub hold_off: Option<String>,
}

/// A time in which a secret may rotate by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The cron line that opens it.
    #[schemars(length(max = 128))]
    pub schedule: String,
    /// Its IANA time zone; that of the rotation's `schedule` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub timezone: Option<String>,
    /// How long it stays open, in real time: `1m` to `31d`.
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub duration: String,
}

/// A time in which a secret does not rotate by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Its first instant, RFC 3339, like `2026-12-20T00:00:00+01:00`.
    #[schemars(extend("format" = "date-time"))]
    pub from: String,
    /// The first instant after it.
    #[schemars(extend("format" = "date-time"))]
    pub until: String,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
}

/// A place among related secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Name of the group.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9._-]+$"))]
    pub group: String,
    /// How much later than `schedule` says: `0s` to `31d`; no other of the group has the same.
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub offset: String,
}

/// What a binding grants: give `file` or `env`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Name of the secret.
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[a-z0-9._-]+(/[a-z0-9._-]+)*$")
    )]
    pub secret: String,
    /// Which containers.
    pub containers: Containers,
    /// Give it as a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    /// Give it as several files that change together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// Give it as an env variable: the weaker tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Env>,
    /// What happens on change; by default nothing for a file, a restart for an env variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// What befalls a container beside that its file goes, when a value that it has is revoked and no other is to be
    /// had: `remove` (nothing, the default), `restart` (without the file), `disconnect` (cut off all its networks),
    /// `pause`, `stop`. With `env` it is stopped in any case.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "onRevoke")]
    #[schemars(regex(pattern = r"^(remove|restart|disconnect|pause|stop)$"))]
    pub on_revoke: Option<String>,
}

/// Which containers; every part that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Containers {
    /// Name of the host they run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9._-]+$"))]
    pub host: Option<String>,
    /// Config digest `sha256:…`, or a repository name, which is weaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Labels they carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The name they were given, or how it begins, with `*` behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]*\*?$"))]
    pub name: Option<String>,
    /// The Compose project that they belong to: its label `com.docker.compose.project`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub project: Option<String>,
    /// The user that their programs run as, by name or number as the container was configured, without a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub user: Option<String>,
    /// Accept a selector that does not name host and image.
    #[serde(
        default,
        rename = "insecureSelector",
        skip_serializing_if = "Option::is_none"
    )]
    pub insecure_selector: Option<bool>,
}

/// A file in a read-only directory of the injector's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The directory, `/run/secrets` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^/"), length(max = 255))]
    pub directory: Option<String>,
    /// The file's name.
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"))]
    pub name: String,
    /// Owner inside the container, 0 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group inside the container, 0 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Permission bits: octal digits in quotes, `"0400"` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub mode: Option<String>,
    /// What stands in it around values: text with `{{ secret("NAME") }}`, of 8 secrets at most; the value as it is by default.
    /// `{{ secret("NAME", version="previous") }}` is the version before the current one, empty while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub template: Option<String>,
}

/// Several files in a directory of their own, which changes as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Where that directory is, `/run/secrets` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^/"), length(max = 255))]
    pub directory: Option<String>,
    /// Its name.
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"))]
    pub name: String,
    /// Owner of the files inside the container, 0 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group inside the container, 0 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Permission bits of the files: octal digits in quotes, `"0400"` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub mode: Option<String>,
    /// What stands in each file, by its name: text with `{{ secret("NAME") }}`; 1 to 32 files, 16384 bytes together, 8 secrets at most.
    pub templates: BTreeMap<String, String>,
}

/// An env variable of the container's first program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Env {
    /// The variable.
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
}
