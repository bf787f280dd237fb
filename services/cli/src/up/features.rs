//! What this machine offers, for `keywheel status`: probed in the background, never on request.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use keywheel_core::schedule::Schedule;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_journal::{RESERVE_BYTES, RESTORE_HEADROOM, SqliteJournal};
use keywheel_scheduler::schedule;
use keywheel_schemas::api::Feature;
use keywheel_sys::secretfs::{self, FsKind};
use tokio_util::sync::CancellationToken;

/// How often the engine is asked whether it answers, and a full disk whether there is room again.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// How many fires of a schedule are shown.
const SHOWN_FIRES: usize = 3;

/// The last answers.
#[derive(Clone)]
pub(crate) struct Probe {
    engine: Arc<dyn ContainerHost>,
    journal: Arc<SqliteJournal>,
    found: Arc<RwLock<Vec<Feature>>>,
}

impl Probe {
    pub(crate) fn new(engine: Arc<dyn ContainerHost>, journal: Arc<SqliteJournal>) -> Self {
        Self {
            engine,
            journal,
            found: Arc::default(),
        }
    }

    /// What was found last, and whether the journal's reserve is whole now.
    pub(crate) fn features(&self) -> Vec<Feature> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        let mut features = found.clone();
        features.push(disk_reserve(self.journal.is_reserve_in_use()));
        features
    }

    /// Asks now and then, until told to stop.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), PortError> {
        loop {
            self.journal.restore_reserve().await;
            let mut found = kernel();
            found.push(self.engine_feature().await);
            *self.found.write().unwrap_or_else(PoisonError::into_inner) = found;
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
            }
        }
    }

    async fn engine_feature(&self) -> Feature {
        match self.engine.ping().await {
            Ok(()) => feature("container engine", true, "Docker answers"),
            Err(error) => feature("container engine", false, &error.to_string()),
        }
    }
}

fn feature(name: &str, ok: bool, note: &str) -> Feature {
    let state = if ok { "ok" } else { "missing" };
    Feature {
        name: name.to_owned(),
        state: state.to_owned(),
        note: note.to_owned(),
    }
}

/// Room that is kept for revocations and audit records on a full disk (rule E9).
fn disk_reserve(in_use: bool) -> Feature {
    let mib = |bytes: u64| bytes >> 20;
    let note = if in_use {
        let wanted = mib(RESERVE_BYTES + RESTORE_HEADROOM);
        format!(
            "the disk of the data directory is full and its reserve in use: new work is refused, revocations and audit records are kept; free {wanted} MiB"
        )
    } else {
        let kept = mib(RESERVE_BYTES);
        format!("{kept} MiB are kept for revocations and audit records on a full disk")
    };
    feature("disk reserve", !in_use, &note)
}

fn kernel() -> Vec<Feature> {
    let probed = secretfs::probe();
    let memory = match probed.best_kind() {
        FsKind::TmpfsNoswap => feature("memory file system", true, "tmpfs that is never swapped"),
        FsKind::Ramfs => feature(
            "memory file system",
            true,
            "ramfs, since this kernel's tmpfs can be swapped",
        ),
    };
    let mounts = probed.mount_setattr && probed.openat2;
    let note = if mounts {
        "the kernel can place mounts in running containers"
    } else {
        "files cannot be placed in running containers; Linux 5.12 or later is needed"
    };
    vec![memory, feature("mount interface", mounts, note)]
}

/// The next fires of a schedule as RFC 3339 text.
pub(crate) fn next_fires(wanted: &Schedule, now: Timestamp) -> Vec<String> {
    let mut fires = Vec::new();
    let mut after = now;
    while fires.len() < SHOWN_FIRES {
        let Some(next) = schedule::next_after(wanted, after, now) else {
            break;
        };
        after = next;
        fires.push(
            jiff::Timestamp::from_microsecond(next.micros())
                .map(|t| t.to_string())
                .unwrap_or_default(),
        );
    }
    fires
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_in_use_is_told_with_the_next_step() {
        let whole = disk_reserve(false);
        assert_eq!(whole.state, "ok");
        assert!(whole.note.starts_with("32 MiB are kept"), "{}", whole.note);
        let used = disk_reserve(true);
        assert_ne!(used.state, "ok", "it would be no warning");
        assert!(used.note.ends_with("free 40 MiB"), "{}", used.note);
    }
}
