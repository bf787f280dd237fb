//! An injector of a test's own: its directories in one folder, and what is asked of its reports.

use std::path::Path;
use std::time::Duration;

use keywheel_core::report::Fact;
use keywheel_injector::{HOST_LEASE, HostCache, HostSettings, LeasePolicy};

use super::{deployment, helper, host, host_name};

/// Everything below a folder; nothing is kept for the time without the control plane.
pub fn options(folder: &Path) -> HostSettings {
    HostSettings {
        deployment: deployment(),
        host: host(),
        host_name: host_name(),
        run_dir: folder.join("run"),
        spool_dir: folder.join("spool"),
        helper: helper(),
        runtime_socket: folder.join("injector.sock"),
        runtime_names: Vec::new(),
        reconcile_interval: Duration::from_secs(5),
        fs_kind: None,
        host_cache: HostCache::Off,
        host_cache_dir: folder.join("host-cache"),
        lease: HOST_LEASE,
        lease_policy: LeasePolicy::Keep,
        first_use: false,
    }
}

pub fn swapped(version: u64) -> impl Fn(&Fact) -> bool {
    move |fact| matches!(fact, Fact::Swapped { version: found, .. } if *found == version)
}

pub fn reloaded(version: u64) -> impl Fn(&Fact) -> bool {
    move |fact| matches!(fact, Fact::Reloaded { version: found, .. } if *found == version)
}
