//! Shape of the configuration file for its JSON Schema. Loading does not go through it: it keeps
//! where each text came from, which serde's own shapes lose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The configuration file of `keywheel up` and of services that run apart, TOML. Environment variables `KEYWHEEL_<FIELD>` and flags
/// win over it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Directory of journal and cache. Default `/var/lib/keywheel`: where Linux keeps a service's
    /// state. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// The API's unix socket. Default `/run/keywheel/keywheel.sock`: emptied at boot. Path of at most
    /// 107 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 107))]
    pub socket: Option<String>,
    /// Runtime state: the injector's socket and private bundles. Default: the socket's directory. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_dir: Option<String>,
    /// File with the unseal key. Default `/etc/keywheel/unseal.key`; never inside `data_dir`, so that
    /// a copy of the data opens nothing. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseal_key_file: Option<String>,
    /// This host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostSection>,
    /// Logging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSection>,
    /// Keys and values in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySection>,
    /// The injector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injector: Option<InjectorSection>,
    /// Metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsSection>,
    /// Traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<OtlpSection>,
    /// Directory of this service's credentials, as `keywheel init` or `keywheel-injector join` made
    /// it. For services that run apart. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_dir: Option<String>,
    /// The bus between services that run apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<BusSection>,
    /// The journal's database, for a gateway that runs apart. Default: SQLite in `data_dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<DatabaseSection>,
    /// The cache's database, for a store-sync that runs apart. Default: SQLite in `data_dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<DatabaseSection>,
    /// Stores outside, for store-sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stores: Option<StoresSection>,
    /// What store-sync may ask of this machine for rotators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotators: Option<RotatorsSection>,
    /// Signals from outside, and notifications to there, for the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signals: Option<SignalsSection>,
    /// TCP ports of a gateway that runs apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<ListenSection>,
    /// What the gateway gives to services and hosts that run apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSection>,
    /// Where audit records go besides the journal, and how many of these have to take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditSection>,
    /// What takes several people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dual_control: Option<DualControlSection>,
    /// Where people log in, for the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginSection>,
}

/// How many different people, whoever asks being one, an operation takes: `2` to `16`. Default of each: one. Set
/// at the gateway, the same at each; `access.md` has the whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DualControlSection {
    /// Unsealing by shares: each share comes from somebody else, however many it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([2-9]|1[0-6])$"))]
    pub unseal: Option<String>,
    /// Taking audit records out, with their proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([2-9]|1[0-6])$"))]
    pub audit_export: Option<String>,
    /// Having the audit told to other sinks: no new work begins before that is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([2-9]|1[0-6])$"))]
    pub sink_change: Option<String>,
    /// Putting a set of policies in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([2-9]|1[0-6])$"))]
    pub policy_change: Option<String>,
    /// Letting a machine take the name of a host that was evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([2-9]|1[0-6])$"))]
    pub host_return: Option<String>,
}

/// `[login]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginSection {
    /// File with the provider of identities (OpenID Connect) at which people log in, TOML, described by
    /// `login-provider.v1.json`. Default: none, and nobody logs in. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_file: Option<String>,
}

/// `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditSection {
    /// File with the sinks of the audit sink's process, TOML: `[[sink]]` once for each, described by
    /// `audit-sinks.v1.json`. Default: none but the copy. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks_file: Option<String>,
    /// How many sinks have to take records, `0` to `17`, the audit sink's copy being one; with fewer the
    /// gateway refuses new work, and revocations last. Default `0`: it refuses nothing. Set at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]|1[0-7])$"))]
    pub min_sinks: Option<String>,
    /// How long a record may wait for a sink before that counts as failed, from `1s` to `24h`. Default
    /// `1m`. Set at the audit sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub max_lag: Option<String>,
    /// At which age audit records leave the journal, from `90d` to `36500d`: their leaf hashes stay, so that all later
    /// ones can be proven, and so do events. Default: never, all are kept. Set at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub keep_records: Option<String>,
}

/// Keys and values in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemorySection {
    /// Whether the process refuses to start where it may not lock keys and values in memory: `on` or
    /// `off`. Default `off`: it starts, and says so in its log and in `keywheel status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(on|off)$"))]
    pub require_locked: Option<String>,
}

/// What the gateway gives to services and hosts that run apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialsSection {
    /// How long certificates and permits for the bus live, from `10s` to `24h`; they are renewed at
    /// half of it. Default `1h`: what is stolen is soon worth nothing. Set at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub lifetime: Option<String>,
}

/// The bus between services that run apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BusSection {
    /// NATS servers, separated by commas: `tls://HOST:PORT`, or `nats://127.0.0.1:PORT` on loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<String>,
    /// The servers' monitoring ports, `http://HOST:PORT`, with commas between them. Default: none.
    /// Only `keywheel status` reads them, to show whether the servers write before they acknowledge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitors: Option<String>,
}

/// A database on a server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSection {
    /// `postgres://USER@HOST:PORT/NAME`, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// File with the password. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
}

/// TCP ports of a gateway that runs apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenSection {
    /// `IP:PORT` for operators, over mutual TLS. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Whether who shows no certificate at `api` may come with a token: `on` or `off`. Default `off`: then the
    /// handshake keeps everybody else out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(on|off)$"))]
    pub api_tokens: Option<String>,
    /// `IP:PORT` where hosts join with a token. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<String>,
    /// `HOST:PORT` that join tokens name. Default: `join`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_join: Option<String>,
}

/// This host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostSection {
    /// Its name as selectors see it. Default: what the machine calls itself, in lower case, so that
    /// manifests read as people speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9._-]+$"), length(max = 255))]
    pub name: Option<String>,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    /// `text` (lines for people), `json` (one object a line) or `journald` (entries of systemd's journal,
    /// with fields). Default: `journald` where standard error is the journal's, else `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(text|json|journald)$"))]
    pub format: Option<String>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter like `info,keywheel_injector=debug`.
    /// Default `info`: one line per lifecycle step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

/// Metrics of this process, for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsSection {
    /// Where `GET /metrics` is served in plain HTTP: `127.0.0.1:PORT`, or `unix:/PATH`. Default:
    /// nowhere, since every user of the machine reads a loopback port, and the page names secrets and
    /// hosts (never a value). Each process needs one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(127\.[0-9.]+:[0-9]+|\[::1\]:[0-9]+|unix:/.+)$"))]
    pub listen: Option<String>,
}

/// Spans of this process, for an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpSection {
    /// Base address of the collector, which takes OTLP over HTTP (`/v1/traces` below it):
    /// `http://127.0.0.1:4318`. Default: none, and no span is made. `OTEL_EXPORTER_OTLP_ENDPOINT` is
    /// heard, too. Spans name secrets, hosts and containers, never a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^@/]+(/.*)?$"))]
    pub endpoint: Option<String>,
    /// File with headers for the collector, `name=value` between commas or one a line, values
    /// percent-encoded where they hold either; others may not read it. They may hold a credential, so
    /// they go over `https` or to a loopback address only. Default: `OTEL_EXPORTER_OTLP_HEADERS`, in the
    /// same form. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<String>,
    /// `gzip` or `none`. Default `none`: a collector is near. `OTEL_EXPORTER_OTLP_COMPRESSION` is heard,
    /// too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(gzip|none)$"))]
    pub compression: Option<String>,
}

/// The injector.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InjectorSection {
    /// How often it compares plan and containers without being told, from `1s` to `1h`. Default
    /// `30s`: what an event that got lost may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub reconcile_interval: Option<String>,
    /// How old this host's key for sealed values becomes, from `5s` to `24h`, where the injector runs
    /// apart; then it is replaced, and destroyed. Default `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub sealing_key_age: Option<String>,
    /// Whether the first use of each version of a file is on record: `on` or `off`. Default `off`: it is
    /// one record more for every container and version, and who opened the file is not told. Variables
    /// cannot be watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(on|off)$"))]
    pub first_use: Option<String>,
    /// The namespace helper. Default: `keywheel-nsjoin` beside the running program, since they ship
    /// together. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
    /// Where the key is that seals what the host keeps for the time without the control plane:
    /// `keyring` (the kernel's; outlives a crash, not a reboot), `key-file`, `systemd-credential`, or
    /// `off` (nothing is kept). Default `keyring`: it needs nothing of anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(keyring|key-file|systemd-credential|off)$"))]
    pub host_cache: Option<String>,
    /// The key file for `host_cache = "key-file"`; made when missing, never below the directory that
    /// holds the cache. Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_cache_key_file: Option<String>,
    /// Name of the credential for `host_cache = "systemd-credential"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"), length(max = 255))]
    pub host_cache_credential: Option<String>,
    /// How long the host may use what it has without a word of the gateway, from `5m` to `30d`.
    /// Default `24h`: a day's repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub lease: Option<String>,
    /// What becomes of values in running containers when the lease is over: `keep`, or `withdraw`
    /// (files are removed, containers with a variable are stopped). Default `keep`: an outage of the
    /// control plane must not become one of the services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(keep|withdraw)$"))]
    pub lease_policy: Option<String>,
}

/// `[stores]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoresSection {
    /// Directory below which the credentials lie that a `kind: Store` names as files. Default
    /// `/etc/keywheel/stores`; neither the data nor the unseal key below it. Absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_dir: Option<String>,
}

/// `[signals]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalsSection {
    /// Where signals are taken in plain HTTP: `127.0.0.1:PORT`, with a proxy in front of it that has a
    /// certificate. Default: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(127\.[0-9.]+:[0-9]+|\[::1\]:[0-9]+)$"))]
    pub listen: Option<String>,
    /// Directory below which the keys lie that a `kind: Notification` or `kind: SignalSource` names as files.
    /// Default `/etc/keywheel/signals`; neither the data nor the unseal key below it. Absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_dir: Option<String>,
    /// Addresses of this machine and its link at which a receiver of a notification may be: `IP:PORT`, several
    /// with commas between. None by default: a manifest makes the gateway ask no service beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<String>,
}

/// `[rotators]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotatorsSection {
    /// Addresses of this machine and its link at which a receiver (`type: webhook`) may be: `IP:PORT`, several
    /// with commas between. None by default: a manifest makes store-sync ask no service beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_allow: Option<String>,
}
