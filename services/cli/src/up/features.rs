//! What this machine offers, for `keywheel status`: probed in the background, never on request.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use keywheel_core::schedule::Schedule;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_scheduler::schedule;
use keywheel_schemas::api::Feature;
use keywheel_sys::secretfs::{self, FsKind};
use tokio_util::sync::CancellationToken;

/// How often the engine is asked whether it answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// How many fires of a schedule are shown.
const SHOWN_FIRES: usize = 3;

/// The last answers.
#[derive(Clone)]
pub(super) struct Probe {
    engine: Arc<dyn ContainerHost>,
    found: Arc<RwLock<Vec<Feature>>>,
}

impl Probe {
    pub(super) fn new(engine: Arc<dyn ContainerHost>) -> Self {
        Self {
            engine,
            found: Arc::default(),
        }
    }

    /// What was found last.
    pub(super) fn features(&self) -> Vec<Feature> {
        self.found
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks now and then, until told to stop.
    pub(super) async fn run(self, shutdown: CancellationToken) -> Result<(), PortError> {
        loop {
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
pub(super) fn next_fires(wanted: &Schedule, now: Timestamp) -> Vec<String> {
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
