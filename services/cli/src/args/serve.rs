//! `server` and `init` as clap reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use keywheel_core::audit::Role;

/// The gateway's unseal key where nothing else is said.
const DEFAULT_GATEWAY_KEY_FILE: &str = "/etc/keywheel/gateway-unseal.key";

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerRole {
    /// Decides and keeps the journal.
    Gateway,
    /// Fires schedules and deadlines.
    Scheduler,
    /// Speaks to stores and keeps the sealed cache.
    StoreSync,
    /// Keeps the audit's second copy.
    AuditSink,
}

impl ServerRole {
    /// The role on the bus.
    pub(crate) const fn role(self) -> Role {
        match self {
            Self::Gateway => Role::Gateway,
            Self::Scheduler => Role::Scheduler,
            Self::StoreSync => Role::StoreSync,
            Self::AuditSink => Role::AuditSink,
        }
    }
}

/// Whose set-up is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorRole {
    /// A gateway's.
    Gateway,
    /// A scheduler's.
    Scheduler,
    /// A store-sync's.
    StoreSync,
    /// An audit sink's.
    AuditSink,
    /// A host's.
    Injector,
}

impl DoctorRole {
    /// The role on the bus.
    pub(crate) const fn role(self) -> Role {
        match self {
            Self::Gateway => Role::Gateway,
            Self::Scheduler => Role::Scheduler,
            Self::StoreSync => Role::StoreSync,
            Self::AuditSink => Role::AuditSink,
            Self::Injector => Role::Injector,
        }
    }
}

/// `doctor`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  keywheel doctor                                                 is the gateway reached?\n  keywheel doctor --config /etc/keywheel/keywheel.toml            a machine with `keywheel up`\n  keywheel doctor --config injector.toml --role injector          a host\n  keywheel --address https://gw.example:8443 --identity DIR doctor\n\nIt changes nothing. It ends with 0, or with 4 when something is a problem."
)]
pub(crate) struct DoctorArgs {
    /// A service's configuration: its file, credentials, bus, disk and keys are checked too.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Whose configuration that is; without it the credentials say.
    #[arg(long, value_name = "ROLE", requires = "config")]
    pub(crate) role: Option<DoctorRole>,
}

/// `server`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example:\n  keywheel server gateway --config /etc/keywheel/gateway.toml\n\nThe configuration names the credentials (`identity_dir`) that `keywheel init` made for this service."
)]
pub(crate) struct ServerArgs {
    /// Which service.
    pub(crate) role: ServerRole,
    /// Configuration, TOML; flags win over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of what the service keeps.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Socket to serve, for the gateway.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Serve metrics for Prometheus there, on this machine only: 127.0.0.1:PORT or unix:/PATH.
    #[arg(long, value_name = "PLACE")]
    pub(crate) metrics_listen: Option<String>,
    /// Tell spans to the OpenTelemetry collector there, by OTLP over HTTP: http://127.0.0.1:4318.
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// How log lines look: text, json or journald; else journald where systemd's journal reads them.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
}

/// Where the authorities are.
#[derive(Debug, Clone, Args)]
pub(crate) struct HomeArgs {
    /// The gateway's directory of credentials: the authorities lie there.
    #[arg(long, value_name = "DIR", default_value = "/etc/keywheel/gateway")]
    pub(crate) gateway_dir: PathBuf,
    /// File of the gateway's unseal key.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/keywheel/gateway-unseal.key"
    )]
    pub(crate) unseal_key_file: PathBuf,
}

/// `credentials …`.
#[derive(Debug, Subcommand)]
pub(crate) enum CredentialsVerb {
    /// Make directories of credentials fresh: of services that were down too long, of people, of bus
    /// servers. For the gateway's machine.
    Refresh(RefreshArgs),
}

/// How what is done with the authorities comes on record, in their verbs' help, and how they end without it.
const NOTED: &str = "It is on record, and what came of it: both are noted in deeds.jsonl beside the authorities, from where the\ngateway takes them up. Without a place for the notes nothing is done: it ends with 73 where you may not write\nthere (or read the key), 69 where the disk or the notes are full, 2 where another `keywheel` is at it, and\n78 where no authorities are.";

/// `credentials refresh`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = format!("Examples:\n  keywheel credentials refresh ./store-sync\n  keywheel credentials refresh --gateway-dir ./try/gateway --unseal-key-file ./try.key ./try/operators/admin\n\nWho it is and its keys for signing stay; certificate and permit are new. Services renew by themselves\nas long as they run, so this is for those that did not. A host joins again instead.\n\nThe first directory that cannot be made fresh ends it, with 66 where the directory cannot be read or written\nand 78 where it is a host's, or it, the authorities and the unseal key do not belong together; those before\nit are fresh.\n{NOTED}")
)]
pub(crate) struct RefreshArgs {
    /// Where the authorities are.
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Directories, or copies of them.
    #[arg(value_name = "DIR", required = true)]
    pub(crate) directories: Vec<PathBuf>,
}

/// `nats …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NatsVerb {
    /// Print or write a bus server's configuration, as `init` made it. For the gateway's machine.
    Config(NatsConfigArgs),
}

/// `nats config`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = format!("Examples:\n  keywheel nats config --bus bus.example:4222 --installed /etc/keywheel-deployment\n  keywheel nats config --bus bus-1.example:4222 --bus bus-2.example:4222 --bus bus-3.example:4222 \\\n    --node bus-3 --out ./bus-3      with a certificate of its own\n\nWhat is printed holds no key, and leaves no record. It ends with 64 where the bus servers are not named\nwell, 78 where authorities and unseal key do not belong together, and with --out with 73 where DIR cannot be\nwritten, or somebody else could get or change what is in it.\nWith --out: {NOTED}")
)]
pub(crate) struct NatsConfigArgs {
    /// Where the authorities are.
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// All bus servers, in the same order as at `init`.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4222")]
    pub(crate) bus: Vec<String>,
    /// Which of them: bus-1 is the first.
    #[arg(long, value_name = "NAME", default_value = "bus-1")]
    pub(crate) node: String,
    /// TLS also on loopback.
    #[arg(long)]
    pub(crate) bus_tls: bool,
    /// Directory of the bus servers' streams.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/nats")]
    pub(crate) bus_store: PathBuf,
    /// The deployment's directory on the bus server's machine; its files are in `nats/NAME` there.
    #[arg(long, value_name = "DIR", default_value = "/etc/keywheel-deployment")]
    pub(crate) installed: PathBuf,
    /// Write a directory with configuration and a fresh certificate instead.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// An authority of one's own.
#[derive(Debug, Clone, Args)]
pub(crate) struct OwnCa {
    /// PEM of your own authority: the issuing certificate first, its root last. Without it one is made.
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// PEM of its key (ECDSA P-256, P-384 or Ed25519); it is kept sealed under the unseal key.
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    pub(crate) ca_key: Option<PathBuf>,
}

/// `ca …`.
#[derive(Debug, Subcommand)]
pub(crate) enum CaVerb {
    /// Begin to use another root: certificates come from it, and both are trusted.
    Begin(CaArgs),
    /// Show whether a rollover is under way, and when it can be finished.
    #[command(
        after_help = "Example:\n  keywheel ca status\n\nIt only looks, and leaves no record. It ends with 0 either way, and with 78 where authorities and unseal key\ndo not belong together."
    )]
    Status(HomeArgs),
    /// Trust the old root no more.
    Finish(FinishArgs),
}

/// `ca begin`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = format!("Example:\n  keywheel ca begin\n\nNothing is restarted: the gateway takes the new root up by itself, services and hosts renew under it.\n\nIt ends with 2 where a rollover is under way, 66 where a file of your own authority cannot be read, 65 where it is\nno such authority, and 78 where authorities and unseal key do not belong together.\n{NOTED}")
)]
pub(crate) struct CaArgs {
    /// Where the authorities are.
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// The new root.
    #[command(flatten)]
    pub(crate) own: OwnCa,
}

/// `ca finish`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = format!("Example:\n  keywheel ca finish --drop-long-lived --lifetime 1h\n\nIt ends with 2 where it is too early, or no rollover is under way, 64 where --lifetime is none, and 78 where\nauthorities and unseal key do not belong together.\n{NOTED}")
)]
pub(crate) struct FinishArgs {
    /// Where the authorities are.
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Do not wait for certificates of people and bus servers: they have new ones.
    #[arg(long)]
    pub(crate) drop_long_lived: bool,
    /// What `credentials.lifetime` is at the gateway; certificates of services and hosts are waited for
    /// so long [default: 24h].
    #[arg(long, value_name = "SPAN")]
    pub(crate) lifetime: Option<String>,
}

/// `init`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  keywheel init --out /etc/keywheel-deployment --gateway gateway.example \\\n    --bus bus-1.example:4222 --bus bus-2.example:4222 --bus bus-3.example:4222 \\\n    --database postgres://db.example\n  keywheel init --out ./try --unseal-key-file ./try.key     everything on this machine\n  keywheel init --single --out /var/lib/keywheel --unseal shamir:3/5    before the first `keywheel up`\n  keywheel init --single --out /var/lib/keywheel --unseal kms:/etc/keywheel/unseal.toml\n\nEach service gets credentials, and a configuration that can be used as it is. Nothing is started, and\nnothing that exists is changed."
)]
pub(crate) struct InitArgs {
    /// New directory for everything that is made; with --single that of `keywheel up`'s data.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// File of the gateway's unseal key, which opens the authorities; made when it is missing. That
    /// of store-sync, which opens its cache, is made beside it [default:
    /// /etc/keywheel/gateway-unseal.key, with --single /etc/keywheel/unseal.key].
    #[arg(long, value_name = "FILE")]
    pub(crate) unseal_key_file: Option<PathBuf>,
    /// What opens store-sync's cache: `key-file`, `passphrase` (typed, or on stdin),
    /// `shamir:T/N` for N shares of which T are enough (`shamir` alone: 3 of 5), or a key service: `kms:FILE` (AWS KMS),
    /// `transit:FILE` (Vault, OpenBao), where FILE has its settings. Shares are printed once, and
    /// kept nowhere.
    #[arg(long, value_name = "PROVIDER", default_value = "key-file")]
    pub(crate) unseal: String,
    /// Prepare the data directory of `keywheel up` instead.
    #[arg(long, conflicts_with_all = ["bus", "bus_tls", "bus_store", "gateway", "database", "root"])]
    pub(crate) single: bool,
    /// Where a bus server is reached; several make a cluster. Without TLS on loopback.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4222")]
    pub(crate) bus: Vec<String>,
    /// TLS also on loopback.
    #[arg(long)]
    pub(crate) bus_tls: bool,
    /// Directory of the bus servers' streams; else /var/lib/nats, below --root.
    #[arg(long, value_name = "DIR")]
    pub(crate) bus_store: Option<PathBuf>,
    /// A name or IP address at which the gateway is reached; several are allowed.
    #[arg(long, value_name = "NAME|IP")]
    pub(crate) gateway: Vec<String>,
    /// Port at which the gateway serves operators.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub(crate) api_port: u16,
    /// Port at which hosts join.
    #[arg(long, value_name = "PORT", default_value_t = 8444)]
    pub(crate) join_port: u16,
    /// Where journal and cache are kept: `postgres://HOST[:PORT]`, with `?sslrootcert=FILE` for an
    /// authority of one's own. Else each service keeps a file.
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// What lies on the services' machines below this directory: etc/keywheel (what is made here, and
    /// the keys), var/lib and run. Else it is used where --out made it.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Your own authority.
    #[command(flatten)]
    pub(crate) own: OwnCa,
    /// The first person with a client certificate.
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub(crate) operator: String,
}

/// `reseal`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  keywheel reseal --to shamir:3/5                                 of `keywheel up`, which is stopped\n  keywheel reseal --to passphrase --config /etc/keywheel/store-sync.toml\n  keywheel reseal --to transit:/etc/keywheel/unseal.toml\n\nIt asks for what opens the cache now. Shares are printed once, before anything is changed. Killed at\nany moment, the cache is opened by exactly one of the two."
)]
pub(crate) struct ResealArgs {
    /// What opens it from then on: `key-file`, `passphrase`, `shamir:T/N`, `kms:FILE` or
    /// `transit:FILE`.
    #[arg(long, value_name = "PROVIDER")]
    pub(crate) to: String,
    /// Configuration of `keywheel up` or of a store-sync that runs apart.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// File of the unseal key.
    #[arg(long, value_name = "FILE")]
    pub(crate) unseal_key_file: Option<PathBuf>,
}

impl InitArgs {
    /// The gateway's unseal key, or that of `keywheel up`.
    pub(crate) fn key_file(&self) -> PathBuf {
        let usual = match self.single {
            true => keywheel_schemas::config::DEFAULT_UNSEAL_KEY_FILE,
            false => DEFAULT_GATEWAY_KEY_FILE,
        };
        self.unseal_key_file
            .clone()
            .unwrap_or_else(|| PathBuf::from(usual))
    }
}
