//! What an injector is told when it is made. No defaults hide here but the named ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_core::id::{DeploymentId, HostId};
use keywheel_core::name::HostName;
use keywheel_schemas::config::host_cache::{AfterLease, CacheKey, HostCacheSettings};
use keywheel_sys::secretfs::FsKind;

/// A runtime of the engine whose name begins so is our wrapper.
pub const RUNTIME_PREFIX: &str = "keywheel";

/// How long a host may use what it has without a word of the gateway (rule X5).
pub const HOST_LEASE: Duration = Duration::from_secs(24 * 3600);

/// Whether values are kept on this host's disk for the time without the control plane, and where
/// the key is that seals them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostCache {
    /// Nothing is kept: after a restart of the injector nothing starts until the gateway answers.
    #[default]
    Off,
    /// In the kernel's keyring: outlives a crash, not a reboot. Off, with a warning, on a kernel
    /// without one.
    Keyring,
    /// In this file, made when missing: 0600, and not below the directory that holds the cache's.
    KeyFile(PathBuf),
    /// The credential of this name that systemd gave this service.
    SystemdCredential(String),
}

/// What becomes of values in running containers when the lease is over. No start is served then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LeasePolicy {
    /// They stay.
    #[default]
    Keep,
    /// Files are removed, and containers that hold one in a variable are stopped.
    Withdraw,
}

/// How an injector runs, with [`HostSettings::from`] for the time without the control plane.
#[derive(Debug, Clone)]
pub struct InjectorOptions {
    /// This installation; envelopes are bound to it.
    pub deployment: DeploymentId,
    /// This host.
    pub host: HostId,
    /// Its name, as selectors see it.
    pub host_name: HostName,
    /// Where `bundles/` and `state/` lie; on a memory file system that a reboot empties.
    pub run_dir: PathBuf,
    /// Where unanswered reports wait; on a disk.
    pub spool_dir: PathBuf,
    /// The static namespace helper, `keywheel-nsjoin`.
    pub helper: PathBuf,
    /// The socket on which `keywheel-runtime` asks.
    pub runtime_socket: PathBuf,
    /// Names of runtimes that are our wrapper, beside those that begin with [`RUNTIME_PREFIX`].
    pub runtime_names: Vec<String>,
    /// How often everything is looked at again.
    pub reconcile_interval: Duration,
    /// The memory file system; `None` takes the best the kernel has.
    pub fs_kind: Option<FsKind>,
}

/// How an injector runs, with everything said.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// This installation; envelopes are bound to it.
    pub deployment: DeploymentId,
    /// This host.
    pub host: HostId,
    /// Its name, as selectors see it.
    pub host_name: HostName,
    /// Where `bundles/` and `state/` lie; on a memory file system that a reboot empties.
    pub run_dir: PathBuf,
    /// Where unanswered reports wait; on a disk.
    pub spool_dir: PathBuf,
    /// The static namespace helper, `keywheel-nsjoin`.
    pub helper: PathBuf,
    /// The socket on which `keywheel-runtime` asks.
    pub runtime_socket: PathBuf,
    /// Names of runtimes that are our wrapper, beside those that begin with [`RUNTIME_PREFIX`].
    pub runtime_names: Vec<String>,
    /// How often everything is looked at again.
    pub reconcile_interval: Duration,
    /// The memory file system; `None` takes the best the kernel has.
    pub fs_kind: Option<FsKind>,
    /// What is kept for the time without the control plane.
    pub host_cache: HostCache,
    /// Where it is kept; on a disk.
    pub host_cache_dir: PathBuf,
    /// How long what the host has may be used without a word of the gateway; [`HOST_LEASE`].
    pub lease: Duration,
    /// What becomes of running containers' values after that.
    pub lease_policy: LeasePolicy,
    /// Whether the first use of a file is noted.
    pub first_use: bool,
}

impl From<InjectorOptions> for HostSettings {
    /// Values are kept beside the spool under a key in the kernel's keyring, for [`HOST_LEASE`].
    fn from(options: InjectorOptions) -> Self {
        let data_dir = options.spool_dir.parent().map(Path::to_owned);
        Self {
            deployment: options.deployment,
            host: options.host,
            host_name: options.host_name,
            run_dir: options.run_dir,
            host_cache_dir: data_dir.unwrap_or_default().join("host-cache"),
            spool_dir: options.spool_dir,
            helper: options.helper,
            runtime_socket: options.runtime_socket,
            runtime_names: options.runtime_names,
            reconcile_interval: options.reconcile_interval,
            fs_kind: options.fs_kind,
            host_cache: HostCache::Keyring,
            lease: HOST_LEASE,
            lease_policy: LeasePolicy::Keep,
            first_use: false,
        }
    }
}

impl HostSettings {
    /// The same with what the configuration says of the time without the control plane.
    #[must_use]
    pub fn with_cache(self, settings: &HostCacheSettings) -> Self {
        Self {
            host_cache: match &settings.key {
                CacheKey::Off => HostCache::Off,
                CacheKey::Keyring => HostCache::Keyring,
                CacheKey::File(path) => HostCache::KeyFile(path.clone()),
                CacheKey::Credential(name) => HostCache::SystemdCredential(name.clone()),
            },
            lease: settings.lease,
            lease_policy: match settings.after {
                AfterLease::Keep => LeasePolicy::Keep,
                AfterLease::Withdraw => LeasePolicy::Withdraw,
            },
            ..self
        }
    }

    /// The same, with whether the first use of a file is noted.
    #[must_use]
    pub fn with_first_use(self, first_use: bool) -> Self {
        Self { first_use, ..self }
    }

    /// Whether a container under this runtime is under our wrapper.
    #[must_use]
    pub fn is_wrapper(&self, runtime: &str) -> bool {
        runtime.starts_with(RUNTIME_PREFIX) || self.runtime_names.iter().any(|name| name == runtime)
    }

    /// Where the wrapper asks for execs: `injector-exec.sock` beside `injector.sock`, as it makes it up.
    pub(crate) fn exec_socket(&self) -> PathBuf {
        let socket = &self.runtime_socket;
        let mut name = socket.file_stem().unwrap_or_default().to_owned();
        name.push("-exec");
        if let Some(extension) = socket.extension() {
            name.push(".");
            name.push(extension);
        }
        socket.with_file_name(name)
    }

    pub(crate) fn bundles(&self) -> PathBuf {
        self.run_dir.join("bundles")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.run_dir.join("state")
    }
}
