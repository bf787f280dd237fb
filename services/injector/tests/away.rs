//! The control plane is away: what the host cache serves, what it does not, and coming back.
//!
//! Needs root and a built `keywheel-nsjoin`, one test Docker and `keywheel-runtime` too. Without them
//! it says so and stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::binding::{ContainerFacts, Reload};
use keywheel_core::id::ContainerId;
use keywheel_core::plan::PlannedBinding;
use keywheel_core::report::Fact;
use keywheel_engine::port::container_host::{
    ContainerHost, ContainerRecord, EngineEvents, ExecOutcome, Health,
};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_injector::{
    FRESH_WAIT, HEAD_AGE_LIMIT, HOST_LEASE, HostCache, HostSettings, LeasePolicy,
};

use crate::support::engine::Engine;
use crate::support::running::{Ahead, Running, docker_host};
use crate::support::settings::options;
use crate::support::{FakeBus, LIMIT, binding, can_run, env, file};

const CANARY: &str = "canary-4d1f-away";

/// An engine that creates whatever it is asked about.
struct Creating;

#[async_trait]
impl ContainerHost for Creating {
    async fn list(&self) -> Result<Vec<ContainerRecord>, PortError> {
        Ok(Vec::new())
    }
    async fn inspect(&self, _: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        Ok(None)
    }
    async fn inspect_during_create(
        &self,
        id: &ContainerId,
        _: Duration,
    ) -> Result<Option<ContainerRecord>, PortError> {
        let facts = ContainerFacts {
            id: id.clone(),
            name: "app".to_owned(),
            image_digest: "sha256:1".to_owned(),
            image_name: "keywheel-test-injector:busybox".to_owned(),
            labels: BTreeMap::from([("keywheel-test".to_owned(), "app".to_owned())]),
            user: None,
        };
        Ok(Some(ContainerRecord {
            facts,
            pid: 0,
            running: false,
            paused: false,
            started_at: String::new(),
            runtime: "keywheel".to_owned(),
            health: Health::None,
            placeholders: Vec::new(),
            refused: None,
            health_command: Vec::new(),
            user: String::new(),
        }))
    }
    async fn restart(&self, _: &ContainerId) -> Result<(), PortError> {
        Ok(())
    }
    async fn stop(&self, _: &ContainerId) -> Result<(), PortError> {
        Ok(())
    }
    async fn exec(
        &self,
        _: &ContainerId,
        _: &[String],
        _: Duration,
    ) -> Result<ExecOutcome, PortError> {
        Ok(ExecOutcome::Exited(0))
    }
    async fn start(&self, _: &ContainerId) -> Result<(), PortError> {
        Ok(())
    }
    async fn refused(&self) -> Result<Vec<ContainerRecord>, PortError> {
        Ok(Vec::new())
    }
    async fn events(&self) -> Result<Box<dyn EngineEvents>, PortError> {
        Err(PortError::new(ErrorKind::Unavailable, "no events here"))
    }
    async fn ping(&self) -> Result<(), PortError> {
        Ok(())
    }
}

struct Scene {
    folder: tempfile::TempDir,
    bus: Arc<FakeBus>,
    policy: LeasePolicy,
    ahead: Arc<AtomicU64>,
    containers: Arc<dyn ContainerHost>,
}

fn app(version: Option<u64>) -> Vec<PlannedBinding> {
    vec![binding(1, "app", env("TOKEN"), Reload::None, version)]
}

impl Scene {
    fn set() -> Option<Self> {
        let bus = FakeBus::new();
        bus.put(1, 1, CANARY.as_bytes());
        bus.put(1, 2, b"two");
        bus.publish(app(Some(1)));
        can_run().then(|| Self {
            folder: tempfile::tempdir().unwrap(),
            bus,
            policy: LeasePolicy::Keep,
            ahead: Arc::default(),
            containers: Arc::new(Creating),
        })
    }

    fn options(&self) -> HostSettings {
        let folder = self.folder.path();
        HostSettings {
            spool_dir: folder.join("data/spool"),
            reconcile_interval: Duration::from_millis(500),
            host_cache: HostCache::KeyFile(folder.join("cache.key")),
            host_cache_dir: folder.join("data/host-cache"),
            lease_policy: self.policy,
            first_use: false,
            ..options(folder)
        }
    }

    fn start(&self) -> Running {
        let (bus, containers) = (self.bus.clone(), self.containers.clone());
        Running::start_at(self.options(), bus, containers, Ahead::by(&self.ahead))
    }

    /// Starts one whose bus answers, and waits until it knows its plan.
    async fn start_known(&self) -> Running {
        let mut running = self.start();
        running.wait_plan().await;
        running
    }

    /// What a container's create is answered.
    async fn create(&self) -> serde_json::Value {
        let question = serde_json::json!({
            "v": 1, "op": "resolve", "id": "b".repeat(64),
            "env": ["TOKEN={keywheel:test/secret-1}"], "mounts": [], "strict": true,
        });
        let socket = self.folder.path().join("injector.sock");
        let asked = move || {
            let mut stream = (0..9000)
                .find_map(|_| {
                    std::thread::sleep(Duration::from_millis(20));
                    UnixStream::connect(&socket).ok()
                })
                .unwrap();
            stream
                .write_all(format!("{question}\n").as_bytes())
                .unwrap();
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap()
        };
        tokio::task::spawn_blocking(asked).await.unwrap()
    }

    fn kept(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("data/host-cache")).unwrap();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut all: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        all.retain(|name| name.ends_with(".sealed") && name.contains('-'));
        all
    }

    async fn wait_kept(&self, count: usize) {
        let wait = async {
            while self.kept().len() != count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        assert!(waited.is_ok(), "kept: {:?}", self.kept());
    }

    /// Everything that waits on the disk to be told.
    fn spooled(&self) -> String {
        let entries = std::fs::read_dir(self.folder.path().join("data/spool")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let waiting = paths.filter(|path| path.extension().is_some_and(|end| end == "json"));
        // One that was told meanwhile is gone.
        waiting
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .collect()
    }

    async fn wait_spooled(&self, what: &str, like: impl Fn(&str) -> bool) {
        let wait = async {
            while !like(&self.spooled()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        assert!(
            waited.is_ok(),
            "not seen: {what}; spool: {}",
            self.spooled()
        );
    }

    /// Nothing was told or asked for before the plan was read; enrolling gives the host's new key.
    fn assert_plan_first(&self) {
        let asked = self.bus.asked();
        let first = asked.iter().find(|what| **what != "enrol");
        assert_eq!(first, Some(&"plan"), "{asked:?}");
    }

    /// A host that served version 1 and was stopped.
    async fn served_once(&self) {
        let running = self.start_known().await;
        let said = self.create().await;
        assert_eq!(said["ok"], true, "{said}");
        self.wait_kept(1).await;
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_served_after_a_restart_without_the_control_plane() {
    let Some(scene) = Scene::set() else { return };
    scene.served_once().await;
    assert_no_canary(&scene.folder.path().join("data"));
    scene.bus.silence(true);
    let running = scene.start();
    let begun = std::time::Instant::now();
    let said = scene.create().await;
    assert!(begun.elapsed() < FRESH_WAIT + LIMIT, "it waits for nobody");
    let expected = base64(CANARY);
    assert_eq!(said["env"]["TOKEN"], expected.as_str(), "{said}");
    assert!(!said.to_string().contains(CANARY));
    running.end().await;
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn assert_no_canary(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_no_canary(&path);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let mut parts = bytes.windows(CANARY.len());
        assert!(!parts.any(|part| part == CANARY.as_bytes()), "{path:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_was_dead_before_contact_was_lost_is_never_served() {
    let Some(scene) = Scene::set() else { return };
    let running = scene.start_known().await;
    let said = scene.create().await;
    assert_eq!(said["ok"], true, "{said}");
    scene.wait_kept(1).await;
    let mut dead = app(Some(1));
    dead[0].dead.insert(1);
    let generation = scene.bus.publish(dead);
    scene
        .bus
        .wait("the barrier", |reports| {
            reports
                .last()
                .is_some_and(|last| last.generation == generation)
        })
        .await;
    assert!(scene.kept().is_empty(), "the report came after the disk");
    running.end().await;
    scene.bus.silence(true);
    let running = scene.start();
    let said = scene.create().await;
    assert_eq!(said["ok"], false, "{said}");
    assert!(
        said["error"]
            .as_str()
            .unwrap()
            .contains("no version that may be used"),
        "{said}"
    );
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_lease_nothing_starts_until_the_gateway_speaks() {
    let Some(scene) = Scene::set() else { return };
    scene.served_once().await;
    scene.bus.silence(true);
    scene.ahead.store(HOST_LEASE.as_secs(), Ordering::SeqCst);
    let mut running = scene.start();
    let said = scene.create().await;
    assert_eq!(said["ok"], false, "{said}");
    assert!(
        said["error"].as_str().unwrap().contains("24 hours"),
        "{said}"
    );
    assert!(said["next"].as_str().unwrap().contains("gateway"), "{said}");
    running
        .wait("the lease is over", |status| status.is_lease_over)
        .await;
    assert_eq!(scene.kept().len(), 1, "the policy is to keep");
    scene.bus.silence(false);
    running
        .wait("a lease", |status| !status.is_lease_over)
        .await;
    let said = scene.create().await;
    assert_eq!(said["ok"], true, "{said}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_comes_back_hears_its_plan_before_anything_else() {
    let Some(scene) = Scene::set() else { return };
    scene.served_once().await;
    scene.bus.silence(true);
    let running = scene.start();
    let said = scene.create().await;
    assert_eq!(said["ok"], true, "{said}");
    // Meanwhile the version dies; the host cannot know.
    let mut dead = app(Some(2));
    dead[0].dead.insert(1);
    let generation = scene.bus.publish(dead);
    scene.bus.clear();
    scene.bus.silence(false);
    scene
        .bus
        .wait("the newest generation", |reports| {
            reports.iter().any(|report| report.generation == generation)
        })
        .await;
    scene.assert_plan_first();
    scene.wait_kept(0).await;
    let said = scene.create().await;
    assert_eq!(said["env"]["TOKEN"], base64("two").as_str(), "{said}");

    // The same after a silence without a restart.
    scene.bus.silence(true);
    let heard = scene.bus.publish(app(None));
    scene.bus.wait_noticed().await;
    scene.bus.clear();
    scene.bus.silence(false);
    scene
        .bus
        .wait("the next generation", |reports| {
            reports.iter().any(|report| report.generation == heard)
        })
        .await;
    scene.assert_plan_first();
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_withholds_is_an_alarm_and_its_end_is_told() {
    let Some(scene) = Scene::set() else { return };
    let mut running = scene.start_known().await;
    assert_eq!(running.handle.status().gateway_fault, None);
    scene.bus.silence(true);
    scene.bus.wait_noticed().await;
    assert_eq!(
        running.handle.status().gateway_fault,
        None,
        "within the bound"
    );
    scene
        .ahead
        .store(HEAD_AGE_LIMIT.as_secs(), Ordering::SeqCst);
    running
        .wait("the fault", |status| status.gateway_fault.is_some())
        .await;
    let fault = running.handle.status().gateway_fault.unwrap();
    assert!(
        fault.contains("withholds") && fault.contains("120 s"),
        "{fault}"
    );
    scene.bus.silence(false);
    running
        .wait("no fault", |status| status.gateway_fault.is_none())
        .await;
    running.end().await;
}

fn assert_each_swap_once(facts: &[(String, Fact)]) {
    let mut times: Vec<i64> = facts
        .iter()
        .filter_map(|(_, fact)| match fact {
            Fact::Swapped { at, .. } => Some(at.micros()),
            _ => None,
        })
        .collect();
    let all = times.len();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), all, "nothing arrives twice: {facts:?}");
}

const SCRIPT: &str =
    "echo \"$TOKEN|$(/bin/busybox cat /run/secrets/db)\"; exec /bin/busybox sleep 600";

/// Waits until the program of a container has said just this.
async fn wait_said(scene: &Scene, engine: &Engine, id: &str, words: &str) {
    let said = || engine.docker(&["logs", id]);
    scene.bus.wait(words, |_| said() == words).await;
}

/// When the lease is over nothing is left, until the gateway is heard again.
async fn lease_takes_it_back(scene: &Scene, engine: &Engine, running: &mut Running, id: &str) {
    scene.bus.silence(true);
    scene.bus.wait_noticed().await;
    scene.ahead.store(HOST_LEASE.as_secs(), Ordering::SeqCst);
    running
        .wait("no consumer", |status| status.consumers == 0)
        .await;
    let is_running = engine.docker(&["inspect", "-f", "{{.State.Running}}", id]);
    assert_eq!(is_running, "false", "it holds a variable");
    scene.wait_kept(0).await;
    assert!(!engine.run(&["start", id]).status.success());
    scene.bus.silence(false);
    running
        .wait("a lease", |status| !status.is_lease_over)
        .await;
    assert!(engine.run(&["start", id]).status.success());
}

/// With a real engine: files stay, a restart is served, its report arrives once, and the policy
/// `withdraw` takes everything back when the lease is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_live_on_and_restart_while_the_control_plane_is_away() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let Some(engine) = Engine::start(&scene.folder.path().join("injector.sock")) else {
        return;
    };
    scene.containers = docker_host(Some(engine.host()));
    scene.policy = LeasePolicy::Withdraw;
    let both = || {
        vec![
            binding(1, "app", env("TOKEN"), Reload::None, Some(1)),
            binding(2, "app", file("db"), Reload::None, Some(1)),
        ]
    };
    scene.bus.put(2, 1, b"db-1");
    scene.bus.publish(both());
    let running = scene.start_known().await;
    let output = engine.container("app", &["-e", "TOKEN={keywheel:test/secret-1}"], SCRIPT);
    assert!(output.status.success(), "{output:?}");
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let swapped = |fact: &Fact| matches!(fact, Fact::Swapped { version: 1, .. });
    scene.bus.wait_facts("served", 1, swapped).await;
    scene.wait_kept(2).await;
    running.end().await;

    scene.bus.silence(true);
    scene.bus.clear();
    let mut running = scene.start();
    running.wait_plan().await;
    let cat = ["exec", &id, "/bin/busybox", "cat", "/run/secrets/db"];
    assert_eq!(engine.docker(&cat), "db-1");
    let served = format!("{CANARY}|db-1");
    wait_said(&scene, &engine, &id, &served).await;
    engine.docker(&["restart", &id]);
    wait_said(&scene, &engine, &id, &format!("{served}\n{served}")).await;
    // What it says waits on the disk, also across another restart.
    scene
        .wait_spooled("a farewell for each binding and a delivery", |spooled| {
            // It started with what the host had, and that is told as such.
            let is_noted = spooled.contains("ServedFromCache");
            let is_served = spooled.contains("swapped") && is_noted;
            spooled.matches("vanished").count() == 2 && is_served
        })
        .await;
    running.end().await;
    let mut running = scene.start();
    assert!(scene.bus.facts().is_empty());
    scene.bus.silence(false);
    scene.bus.wait_facts("served again", 1, swapped).await;
    running
        .wait("all is told", |status| status.is_complete)
        .await;
    // Nothing is left to say once the disk is empty.
    scene.wait_spooled("an empty spool", str::is_empty).await;
    let facts = scene.bus.facts();
    let gone = facts.iter().filter(|(_, fact)| *fact == Fact::Vanished);
    assert_eq!(gone.count(), 2, "the incarnation before, once a binding");
    assert_each_swap_once(&facts);

    lease_takes_it_back(&scene, &engine, &mut running, &id).await;
    running.end_in(scene.folder.path()).await;
}
