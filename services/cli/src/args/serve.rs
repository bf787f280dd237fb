//! `server` and `init` as clap reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use keywheel_core::audit::Role;

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

/// `credentials refresh`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  keywheel credentials refresh ./store-sync\n  keywheel credentials refresh --gateway-dir ./try/gateway --unseal-key-file ./try.key ./try/operators/admin\n\nWho it is and its keys for signing stay; certificate and permit are new. Services renew by themselves\nas long as they run, so this is for those that did not. A host joins again instead."
)]
pub(crate) struct RefreshArgs {
    /// Where the authorities are.
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Directories, or copies of them.
    #[arg(value_name = "DIR", required = true)]
    pub(crate) directories: Vec<PathBuf>,
}

/// `init`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  keywheel init --out /etc/keywheel-deployment --gateway gateway.example \\\n    --bus bus-1.example:4222 --bus bus-2.example:4222 --bus bus-3.example:4222\n  keywheel init --out ./try --unseal-key-file ./try.key     everything on this machine\n\nNothing is started, and nothing that exists is changed."
)]
pub(crate) struct InitArgs {
    /// New directory for everything that is made.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// File of the gateway's unseal key, which opens the authorities; made when it is missing.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/keywheel/gateway-unseal.key"
    )]
    pub(crate) unseal_key_file: PathBuf,
    /// Where a bus server is reached; several make a cluster. Without TLS on loopback.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4222")]
    pub(crate) bus: Vec<String>,
    /// TLS also on loopback.
    #[arg(long)]
    pub(crate) bus_tls: bool,
    /// Directory of the bus servers' streams.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/nats")]
    pub(crate) bus_store: PathBuf,
    /// A name or IP address at which the gateway is reached; several are allowed.
    #[arg(long, value_name = "NAME|IP")]
    pub(crate) gateway: Vec<String>,
    /// The first person with a client certificate.
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub(crate) operator: String,
}
