//! Configuration of `keywheel up` and of services that run apart: file, then environment, then flags; later ones win.
//!
//! Invariants: read whole before any socket opens; every fault is reported at once and names where
//! the text came from; unknown names are refused. No secret is in here: keys come by file path.

pub mod apart;
pub mod audit;
pub mod dual_control;
pub mod host_cache;
pub mod login;
mod memory;
pub mod metrics;
pub mod otlp;
pub mod shape;
pub mod signals;
pub mod sinks;
mod sources;
mod tables;
pub mod unseal;
pub mod variables;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_core::name::HostName;

use apart::Apart;
use audit::Audit;
use dual_control::DualControl;
use host_cache::HostCacheSettings;
use metrics::MetricsListen;
use otlp::Otlp;
use signals::Signals;
use sources::Sources;

/// Most addresses of `rotators.webhook_allow`.
pub const MAX_WEBHOOK_ALLOW: usize = 16;
/// Longest configuration file, in bytes.
pub const MAX_CONFIG_BYTES: usize = 64 << 10;
/// Longest path of a unix socket, in bytes: the kernel's `sun_path` without its closing zero.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Directory of journal and cache, by default: where Linux keeps a service's state.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/keywheel";
/// The socket, by default: emptied at boot, so nothing stale survives one.
pub const DEFAULT_SOCKET: &str = "/run/keywheel/keywheel.sock";
/// The unseal key, by default: apart from the data, so that a copy of those opens nothing.
pub const DEFAULT_UNSEAL_KEY_FILE: &str = "/etc/keywheel/unseal.key";
/// Where credentials of stores outside lie as files, by default: apart from every key of our own.
pub const DEFAULT_STORE_CREDENTIALS_DIR: &str = "/etc/keywheel/stores";
/// Log level, by default: one line per lifecycle step.
pub const DEFAULT_LOG_LEVEL: &str = "info";
/// How often an injector compares plan and containers without being told, by default: what an event
/// that got lost may cost.
pub const DEFAULT_RECONCILE_INTERVAL: Duration = Duration::from_secs(30);
/// Shortest reconcile interval: below it the engine is asked all the time.
pub const MIN_RECONCILE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest reconcile interval: above it a lost event is not noticed before people do.
pub const MAX_RECONCILE_INTERVAL: Duration = Duration::from_secs(3600);

/// How old a host's key for sealed values becomes, by default: what was recorded before opens nowhere.
pub const DEFAULT_SEALING_KEY_AGE: Duration = Duration::from_secs(24 * 3600);
/// Shortest age of such a key: below it hosts do nothing but tell new ones.
pub const MIN_SEALING_KEY_AGE: Duration = Duration::from_secs(5);
/// Longest age of such a key.
pub const MAX_SEALING_KEY_AGE: Duration = Duration::from_secs(24 * 3600);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// Entries of systemd's journal.
    Journald,
}

impl LogFormat {
    /// `text`, `json` or `journald`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines look; by default `journald` where stderr is the journal's, else `text`.
    pub format: Option<LogFormat>,
    /// `error`, `warn`, `info`, `debug`, `trace` or a filter like `info,keywheel_injector=debug`;
    /// `info` by default.
    pub level: String,
}

/// The injector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injector {
    /// How often it reconciles without being told; 30 seconds by default.
    pub reconcile_interval: Duration,
    /// The namespace helper; by default `keywheel-nsjoin` beside the running program.
    pub helper: Option<PathBuf>,
    /// How old this host's key for sealed values becomes, where it runs apart; a day by default.
    pub sealing_key_age: Duration,
    /// Whether the first use of a file is on record; off by default.
    pub first_use: bool,
    /// The time without the control plane.
    pub host_cache: HostCacheSettings,
}

/// Everything a daemon can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directory of journal and cache; `/var/lib/keywheel` by default.
    pub data_dir: PathBuf,
    /// The API's unix socket; `/run/keywheel/keywheel.sock` by default.
    pub socket: PathBuf,
    /// Runtime state: the injector's socket and private bundles; by default the socket's directory.
    pub run_dir: PathBuf,
    /// File with the unseal key; `/etc/keywheel/unseal.key` by default, never inside `data_dir`.
    pub unseal_key_file: PathBuf,
    /// Where credentials of stores outside lie as files; `/etc/keywheel/stores` by default, and neither
    /// the data nor the unseal key below it. No manifest makes store-sync read one elsewhere.
    pub store_credentials_dir: PathBuf,
    /// Where on this machine and its link a receiver of a rotator may be; nowhere by default.
    pub webhook_allow: Vec<SocketAddr>,
    /// This host's name as selectors see it; by default what the machine calls itself.
    pub host_name: String,
    /// Logging.
    pub log: Log,
    /// Whether it refuses to run where keys and values cannot be locked in memory; off by default.
    pub require_locked_memory: bool,
    /// The injector.
    pub injector: Injector,
    /// Where Prometheus reads this process's metrics; nowhere by default.
    pub metrics: Option<MetricsListen>,
    /// The collector that is told this process's spans; none by default.
    pub otlp: Option<Otlp>,
    /// Signals from outside, and notifications to there.
    pub signals: Signals,
    /// What only services that run apart need.
    pub apart: Apart,
    /// Where audit records go besides the journal.
    pub audit: Audit,
    /// What takes several people.
    pub dual_control: DualControl,
    /// The file with the provider at which people log in; none by default.
    pub login_provider_file: Option<PathBuf>,
}

/// What was said on the command line, and what the machine says by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigFlags {
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--socket`.
    pub socket: Option<PathBuf>,
    /// `--run-dir`.
    pub run_dir: Option<PathBuf>,
    /// `--unseal-key-file`.
    pub unseal_key_file: Option<PathBuf>,
    /// `--host-name`.
    pub host_name: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--metrics-listen`.
    pub metrics_listen: Option<String>,
    /// `--otlp-endpoint`.
    pub otlp_endpoint: Option<String>,
    /// No flag: what the machine calls itself, used when nobody names the host.
    pub machine_name: Option<String>,
}

/// One fault, and where the text came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// `FILE:line:column`, `environment variable NAME` or `--flag`.
    pub origin: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the configuration; `env` looks up an environment variable.
    ///
    /// # Errors
    /// With every fault of every source.
    pub fn load(
        file_text: Option<(&str, &str)>,
        env: &dyn Fn(&str) -> Option<String>,
        flags: ConfigFlags,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut sources = Sources::read(file_text, env, &flags);
        let config = Self::take(&mut sources, flags.machine_name);
        if let Some(config) = &config
            && !refuse_key_beside_data(config, &mut sources)
        {
            refuse_our_own_beside_theirs(config, &mut sources);
            refuse_key_in_reach_of_manifests(config, &mut sources);
        }
        match config {
            Some(config) if sources.faults.is_empty() => Ok(config),
            _ => Err(sources.faults),
        }
    }

    fn take(sources: &mut Sources, machine_name: Option<String>) -> Option<Self> {
        let data_dir = sources.path("data_dir", DEFAULT_DATA_DIR);
        let socket = sources.socket("socket", DEFAULT_SOCKET);
        let beside = socket.parent().unwrap_or_else(|| Path::new("."));
        let beside = if beside.as_os_str().is_empty() {
            Path::new(".")
        } else {
            beside
        };
        let run_dir = sources.path("run_dir", &beside.to_string_lossy());
        let unseal_key_file = sources.path("unseal_key_file", DEFAULT_UNSEAL_KEY_FILE);
        let store_credentials_dir =
            sources.path("stores.credentials_dir", DEFAULT_STORE_CREDENTIALS_DIR);
        let webhook_allow = take_webhook_allow(sources);
        let host_name = sources.host_name("host.name", machine_name);
        let log = Log {
            format: sources.log_format("log.format"),
            level: sources.text("log.level", DEFAULT_LOG_LEVEL),
        };
        let require_locked_memory = memory::take_require_locked(sources);
        let reconcile_interval = sources.span(
            "injector.reconcile_interval",
            DEFAULT_RECONCILE_INTERVAL,
            MIN_RECONCILE_INTERVAL..=MAX_RECONCILE_INTERVAL,
        );
        let helper = sources.optional_path("injector.helper");
        let host_cache = HostCacheSettings::take(sources);
        let first_use = take_first_use(sources);
        let injector = Injector {
            reconcile_interval,
            helper,
            sealing_key_age: sources.span(
                "injector.sealing_key_age",
                DEFAULT_SEALING_KEY_AGE,
                MIN_SEALING_KEY_AGE..=MAX_SEALING_KEY_AGE,
            ),
            first_use,
            host_cache,
        };
        let metrics = MetricsListen::take(sources);
        let otlp = otlp::take(sources);
        let signals = Signals::take(sources);
        let apart = Apart::take(sources);
        let audit = Audit::take(sources);
        let dual_control = DualControl::take(sources);
        let login_provider_file = sources.optional_path("login.provider_file");
        let host_name = host_name.as_ref().map(HostName::to_string)?;
        Some(Self {
            data_dir,
            socket,
            run_dir,
            unseal_key_file,
            store_credentials_dir,
            webhook_allow,
            host_name,
            log,
            require_locked_memory,
            injector,
            metrics,
            otlp,
            signals,
            apart,
            audit,
            dual_control,
            login_provider_file,
        })
    }
}

fn take_webhook_allow(sources: &mut Sources) -> Vec<SocketAddr> {
    let check = |word: &str| match word.parse::<SocketAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err("is not an address; write IP:PORT, for example 127.0.0.1:8099".to_owned()),
    };
    let words = sources.list("rotators.webhook_allow", MAX_WEBHOOK_ALLOW, check);
    words.iter().filter_map(|word| word.parse().ok()).collect()
}

fn take_first_use(sources: &mut Sources) -> bool {
    match sources.optional_text("injector.first_use").as_deref() {
        Some("on") => true,
        None | Some("off") => false,
        Some(other) => {
            let message = format!(
                "`{}` is neither `on` nor `off`",
                crate::leaf::shorten(other)
            );
            sources.fault("injector.first_use", message);
            false
        }
    }
}

/// Whether the unseal key lies inside the data directory; that is a fault.
fn refuse_key_beside_data(config: &Config, sources: &mut Sources) -> bool {
    let is_beside = config.unseal_key_file.starts_with(&config.data_dir);
    if is_beside {
        let message = format!(
            "the unseal key must not lie inside the data directory `{}`: a copy of it would open everything; name a file elsewhere",
            config.data_dir.display()
        );
        sources.fault("unseal_key_file", message);
    }
    is_beside
}

/// What lies below the directory of signals' keys may be named by a manifest, and shown to a receiver.
fn refuse_key_in_reach_of_manifests(config: &Config, sources: &mut Sources) {
    let directory = &config.signals.credentials_dir;
    if !sources.faults.is_empty() {
        return;
    }
    let is_shared = config.unseal_key_file.starts_with(directory)
        || directory.starts_with(&config.data_dir)
        || config.data_dir.starts_with(directory);
    if is_shared {
        let message = format!(
            "the directory of signals' keys `{}` must hold neither the unseal key nor the data, nor lie among the data: manifests name files below it; name a directory of its own",
            directory.display()
        );
        sources.fault("signals.credentials_dir", message);
    }
}

/// What lies below the directory of stores' credentials is sent to servers outside.
fn refuse_our_own_beside_theirs(config: &Config, sources: &mut Sources) {
    let directory = &config.store_credentials_dir;
    let why = if !directory.is_absolute() {
        "is not absolute, as the files are that stores name"
    } else if directory.starts_with(&config.data_dir) || config.data_dir.starts_with(directory) {
        "and the data directory must not lie in each other"
    } else if config.unseal_key_file.starts_with(directory) {
        "must not hold the unseal key"
    } else {
        return;
    };
    let message = format!(
        "the directory of stores' credentials `{}` {why}: what lies below it may be sent to a store; name a directory of its own",
        directory.display()
    );
    sources.fault("stores.credentials_dir", message);
}
