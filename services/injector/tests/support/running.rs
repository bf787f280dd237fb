//! An injector that runs, and a clock that a test moves ahead.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keywheel_containers::{DockerHost, DockerOptions};
use keywheel_core::time::Timestamp;
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::port::bus::Bus;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_injector::{Handle, HostSettings, Injector, InjectorError, Status};
use keywheel_seal::OsEntropy;
use keywheel_sys::secretfs::unmount_private;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::LIMIT;

/// The Docker engine of the machine, or the one at an address.
pub fn docker_host(host: Option<String>) -> Arc<dyn ContainerHost> {
    Arc::new(DockerHost::new(&DockerOptions { host }).unwrap())
}

/// One injector until it is ended.
pub struct Running {
    pub handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), InjectorError>>,
}

impl Running {
    pub fn start(
        settings: HostSettings,
        bus: Arc<dyn Bus>,
        containers: Arc<dyn ContainerHost>,
    ) -> Self {
        Self::start_at(settings, bus, containers, Arc::new(SystemClock::new()))
    }

    /// With a clock of the test's.
    pub fn start_at(
        settings: HostSettings,
        bus: Arc<dyn Bus>,
        containers: Arc<dyn ContainerHost>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (ids, entropy) = (Arc::new(SystemIds), Arc::new(OsEntropy));
        let injector = Injector::new(settings, bus, containers, clock, ids, entropy);
        let (stop, handle) = (CancellationToken::new(), injector.handle());
        let task = tokio::spawn(injector.run(stop.clone()));
        Self { handle, stop, task }
    }

    /// Waits until it says of itself what is wanted.
    pub async fn wait(&mut self, what: &str, like: impl Fn(&Status) -> bool) {
        let waiting = async {
            while !like(&self.handle.status()) {
                assert!(self.handle.changed().await, "the injector is gone");
            }
        };
        let waited = tokio::time::timeout(LIMIT, waiting).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.handle.status());
    }

    pub async fn wait_plan(&mut self) {
        self.wait("a plan", |status| status.generation.is_some())
            .await;
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it, and takes away what it mounted below a folder.
    pub async fn end_in(self, folder: &Path) {
        self.end().await;
        unmount_private(&folder.join("run/bundles")).unwrap();
    }

    /// As a crash would: nothing is told, nothing is tidied.
    pub async fn abandon(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.stop.cancel();
    }
}

/// Waits until the disk has that a container acknowledged these versions, of each of its bindings one: that is written
/// a moment after it was told, and a run that begins before that tells it once more.
pub async fn wait_remembered(folder: &Path, container: &str, versions: &[u64]) {
    let file = folder.join(format!("run/state/{container}.json"));
    let read = || -> Option<Vec<u64>> {
        // Another run may be replacing it.
        let text = std::fs::read_to_string(&file).ok()?;
        let state: serde_json::Value = serde_json::from_str(&text).ok()?;
        let all = state["holdings"].as_array()?.iter();
        let acknowledged = all.filter(|held| held["acked"] == true);
        let mut found: Vec<u64> = acknowledged
            .filter_map(|held| held["version"].as_u64())
            .collect();
        found.sort_unstable();
        Some(found)
    };
    let waiting = async {
        while read().is_none_or(|found| found != versions) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, waiting).await;
    assert!(
        waited.is_ok(),
        "{versions:?} of {container} are not on the disk: {:?}",
        read()
    );
}

/// The machine's clocks, moved ahead by as many seconds.
pub struct Ahead {
    real: SystemClock,
    seconds: Arc<AtomicU64>,
}

impl Ahead {
    pub fn by(seconds: &Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            real: SystemClock::new(),
            seconds: Arc::clone(seconds),
        })
    }

    fn span(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.real.now().plus(self.span())
    }
    fn monotonic(&self) -> Duration {
        self.real.monotonic() + self.span()
    }
}
