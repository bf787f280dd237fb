//! The injector with the OCI runtime wrapper, in a Docker engine of the test's own.
//!
//! Needs root, Docker, a static busybox, built `keywheel-nsjoin` and `keywheel-runtime`. Without
//! them it says so and stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::await_holding_lock,
    unreachable_pub,
    dead_code
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::binding::{Reload, Rollout};
use keywheel_core::id::{ContainerId, SecretId};
use keywheel_core::plan::{Leave, PlannedBinding};
use keywheel_core::report::{Fact, HostReport, RestartState};
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_sys::secretfs::unmount_private;

use crate::support::engine::Engine;
use crate::support::running::{Running, docker_host, wait_remembered};
use crate::support::settings::{options, reloaded, swapped};
use crate::support::through::{Otherwise, Through};
use crate::support::{FakeBus, binding, can_run, env, file};

/// Longer than a program that does not like its value takes to end, on a busy machine too.
const SETTLE: Duration = Duration::from_secs(2);
/// Says what it was started with, and runs on unless the value is `broken`.
const SCRIPT: &str = "echo \"$TOKEN|$(/bin/busybox cat /run/secrets/db)\"; [ \"$TOKEN\" = pre-broken ] && exit 3; exec /bin/busybox sleep 600";

fn start(folder: &Path, bus: &Arc<FakeBus>, engine: &Engine) -> Running {
    let containers = docker_host(Some(engine.host()));
    Running::start(options(folder), bus.clone(), containers)
}

fn plan(variable: Option<u64>, db: Option<u64>) -> Vec<PlannedBinding> {
    let reload = Reload::Restart {
        settle: SETTLE,
        health_timeout: Duration::from_secs(5),
        rollout: None,
    };
    vec![
        binding(1, "app", env("TOKEN"), reload, variable),
        binding(2, "app", file("db"), Reload::None, db),
    ]
}

fn created(output: &std::process::Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

const PLACEHOLDER: &[&str] = &["-e", "TOKEN=pre-{keywheel:test/secret-1}"];

/// An injector with its bus and an engine of its own.
struct Scene {
    folder: tempfile::TempDir,
    engine: Engine,
    bus: Arc<FakeBus>,
    running: Running,
}

impl Scene {
    async fn set() -> Option<Self> {
        if !can_run() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(&folder.path().join("injector.sock"))?;
        let bus = FakeBus::new();
        for (version, value) in [(1, "one"), (2, "two"), (3, "broken"), (4, "four")] {
            bus.put(1, version, value.as_bytes());
            bus.put(2, version, format!("db-{version}").as_bytes());
        }
        bus.publish(plan(Some(1), Some(1)));
        let running = start(folder.path(), &bus, &engine);
        let scene = Self {
            folder,
            engine,
            bus,
            running,
        };
        scene.wait_complete().await;
        Some(scene)
    }

    async fn wait_complete(&self) {
        self.bus
            .wait("a complete report", |reports| {
                reports.last().is_some_and(|last| last.complete)
            })
            .await;
    }

    /// Waits until the last report says that nothing holds these versions of a secret.
    async fn wait_gone(&self, secret: u8, is_old: impl Fn(u64) -> bool) {
        let secret = SecretId::from_bytes([secret; 16]);
        self.bus
            .wait("the barrier", |reports| {
                let held = |last: &HostReport| {
                    last.holds
                        .iter()
                        .any(|(held, version)| *held == secret && is_old(*version))
                };
                reports
                    .last()
                    .is_some_and(|last| last.complete && !held(last))
            })
            .await;
    }

    /// Waits until the program of a container said this last.
    async fn wait_said(&self, id: &str, words: &str) {
        let logs = || self.engine.docker(&["logs", id]);
        self.bus.wait(words, |_| logs().ends_with(words)).await;
    }

    async fn crash_and_start(&mut self) {
        self.running.abandon().await;
        self.bus.clear();
        self.running = start(self.folder.path(), &self.bus, &self.engine);
        self.wait_complete().await;
    }

    fn state(&self, field: &str, id: &str) -> String {
        self.engine
            .docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), id])
    }

    async fn end(self) -> (tempfile::TempDir, Engine) {
        self.running.end().await;
        (self.folder, self.engine)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_live_from_start_over_rotation_to_revocation() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let app = starts_with_everything_in_place(&scene).await;
    is_refused_without_a_binding(&scene);

    // A rotation restarts it in place.
    scene.bus.publish(plan(Some(2), Some(1)));
    scene
        .bus
        .wait_facts("restarted and healthy", 1, reloaded(2))
        .await;
    scene.wait_said(&app, "pre-two|db-1").await;
    scene.wait_gone(1, |version| version == 1).await;

    // A file beside it changes without a restart, and an injector that comes back restarts nothing.
    let started = scene.state(".State.StartedAt", &app);
    scene.bus.publish(plan(Some(2), Some(2)));
    scene.wait_gone(2, |version| version == 1).await;
    wait_remembered(scene.folder.path(), &app, &[2, 2]).await;
    scene.crash_and_start().await;
    assert_eq!(scene.state(".State.StartedAt", &app), started);

    // A revocation stops it, and it does not start again.
    scene.bus.publish(plan(None, Some(2)));
    scene
        .bus
        .wait_facts("withdrawn", 1, |fact| *fact == Fact::Withdrawn)
        .await;
    assert_eq!(scene.state(".State.Running", &app), "false");
    scene.wait_gone(1, |_| true).await;
    assert!(!scene.engine.run(&["start", &app]).status.success());

    // Without an injector nothing starts under the strict runtime.
    let (folder, engine) = scene.end().await;
    let away = engine.container("app", &[], SCRIPT);
    let said = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(
        !away.status.success() && said.contains("keywheel up"),
        "{said}"
    );
    unmount_private(&folder.path().join("run/bundles")).unwrap();
}

/// Before the first instruction; and the engine knows placeholders only.
async fn starts_with_everything_in_place(scene: &Scene) -> String {
    let app = created(&scene.engine.container("app", PLACEHOLDER, SCRIPT));
    scene.bus.wait_facts("healthy", 1, reloaded(1)).await;
    scene.wait_said(&app, "pre-one|db-1").await;
    assert_eq!(scene.engine.docker(&["logs", &app]), "pre-one|db-1");
    assert!(
        scene
            .state(".Config.Env", &app)
            .contains("pre-{keywheel:test/secret-1}")
    );
    let mut bundles = std::fs::read_dir(scene.folder.path().join("run/bundles")).unwrap();
    assert!(bundles.next().is_none());
    app
}

/// And `docker run` says why.
fn is_refused_without_a_binding(scene: &Scene) {
    let refused = scene
        .engine
        .container("app", &["-e", "OTHER={keywheel:test/secret-1}"], SCRIPT);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("no binding grants secret") && said.contains("env: { name: OTHER }"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_a_container_does_not_survive_holds_back_its_service() {
    let Some(scene) = Scene::set().await else {
        return;
    };
    let (bus, engine) = (&scene.bus, &scene.engine);
    let pair = [(); 2].map(|()| created(&engine.container("app", PLACEHOLDER, SCRIPT)));
    bus.wait_facts("both healthy", 2, reloaded(1)).await;

    // One after the other.
    bus.publish(plan(Some(2), Some(1)));
    bus.wait_facts("both restarted", 2, reloaded(2)).await;
    let times = |like: &dyn Fn(&Fact) -> bool| -> Vec<i64> {
        let mut all: Vec<i64> = bus
            .facts()
            .into_iter()
            .filter(|(_, fact)| like(fact))
            .filter_map(|(_, fact)| match fact {
                Fact::Swapped { at, .. } | Fact::Reloaded { at, .. } => Some(at.micros()),
                _ => None,
            })
            .collect();
        all.sort_unstable();
        all
    };
    assert!(
        times(&reloaded(2))[0] <= times(&swapped(2))[1],
        "the second waits for the first's health"
    );

    bus.publish(plan(Some(3), Some(1)));
    bus.wait_facts("one failed, one held back", 2, |fact| {
        matches!(fact, Fact::Refused { version: 3, .. })
    })
    .await;
    let runs = |id: &String| engine.docker(&["inspect", "-f", "{{.State.Running}}", id]) == "true";
    assert_eq!(pair.iter().filter(|id| runs(id)).count(), 1);
    let held = |fact: &Fact| matches!(fact, Fact::Refused { reason, .. } if reason.starts_with("held back"));
    assert_eq!(bus.facts().iter().filter(|(_, fact)| held(fact)).count(), 1);
    // Its file is gone with it; its variable's rotation has to wait for a person.
    let of_variable = |item: &keywheel_core::report::Item| item.binding.bytes() == &[1; 16];
    let reports = bus.reports();
    let mut items = reports
        .iter()
        .flat_map(|report| &report.items)
        .filter(|item| of_variable(item));
    assert!(items.all(|item| item.fact != Fact::Vanished));

    // The next version frees the service.
    bus.publish(plan(Some(4), Some(1)));
    bus.wait_facts("the survivor moves on", 1, reloaded(4))
        .await;
    let (folder, _engine) = scene.end().await;
    unmount_private(&folder.path().join("run/bundles")).unwrap();
}

fn rolled(version: u64) -> Vec<PlannedBinding> {
    let reload = Reload::Restart {
        settle: SETTLE,
        health_timeout: Duration::from_secs(5),
        rollout: Some(Rollout {
            monitor: Duration::from_millis(200),
            ..Rollout::default()
        }),
    };
    vec![
        binding(1, "app", env("TOKEN"), reload.clone(), Some(version)),
        binding(2, "app", file("db"), reload, Some(version)),
    ]
}

fn leave(id: &str, number: u64) -> Vec<Leave> {
    vec![Leave {
        container: ContainerId::parse(id).unwrap(),
        number,
        not_before: None,
    }]
}

/// How far a container is by the last report, and with what version.
fn standing(reports: &[HostReport], id: &str) -> Option<(RestartState, Vec<u64>)> {
    let last = reports.last().filter(|last| last.complete)?;
    let mut wishes = last.restarts.iter();
    let wish = wishes.find(|wish| wish.container.to_string() == id)?;
    let versions = wish.due.iter().map(|due| due.version);
    Some((wish.state.clone(), versions.collect()))
}

fn file_in(scene: &Scene, id: &str) -> String {
    let cat = ["exec", id, "/bin/busybox", "cat", "/run/secrets/db"];
    scene.engine.docker(&cat)
}

fn started(scene: &Scene, id: &str) -> String {
    scene.state(".State.StartedAt", id)
}

async fn wait_due(scene: &Scene, id: &str, version: u64) {
    let due = Some((RestartState::Due, vec![version; 2]));
    scene
        .bus
        .wait("it asks", |reports| standing(reports, id) == due)
        .await;
}

async fn wait_through(scene: &Scene, id: &str, generation: u64) {
    scene
        .bus
        .wait("it is through", |reports| {
            let last = reports.last();
            let is_told = last.is_some_and(|last| last.generation >= generation && last.complete);
            is_told && standing(reports, id).is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_rollout_a_container_restarts_with_leave_only_and_comes_back_when_it_fails() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    scene.bus.publish(rolled(1));
    let [one, other] =
        [(); 2].map(|()| created(&scene.engine.container("app", PLACEHOLDER, SCRIPT)));
    scene.bus.wait_facts("both healthy", 2, reloaded(1)).await;
    let before = started(&scene, &other);

    // Both ask, and neither is touched.
    scene.bus.publish(rolled(2));
    wait_due(&scene, &one, 2).await;
    wait_due(&scene, &other, 2).await;
    assert_eq!(
        [file_in(&scene, &one), file_in(&scene, &other)],
        ["db-1", "db-1"]
    );

    // One has leave.
    let generation = scene.bus.publish_with(rolled(2), leave(&one, 7));
    scene
        .bus
        .wait_facts("restarted and healthy", 1, reloaded(2))
        .await;
    wait_through(&scene, &one, generation).await;
    wait_due(&scene, &other, 2).await;
    assert_eq!(
        [file_in(&scene, &one), file_in(&scene, &other)],
        ["db-2", "db-1"]
    );
    assert_eq!(started(&scene, &other), before);

    // An injector that comes back finds its leave used, and restarts nothing.
    let after = started(&scene, &one);
    scene.crash_and_start().await;
    wait_due(&scene, &other, 2).await;
    assert_eq!(
        [started(&scene, &one), started(&scene, &other)],
        [after, before.clone()]
    );

    // The next version it does not survive; that is told, and the used leave starts nothing.
    scene.bus.publish_with(rolled(3), leave(&one, 8));
    scene
        .bus
        .wait("it failed", |reports| {
            let standing = standing(reports, &one);
            matches!(standing, Some((RestartState::Failed { reason }, versions)) if reason.contains("it ended") && versions == [3, 3])
        })
        .await;
    assert_eq!(scene.state(".State.Running", &one), "false");

    // Back to the version before it asks again, and its injector starts it.
    scene.bus.publish_with(rolled(2), leave(&one, 8));
    wait_due(&scene, &one, 2).await;
    assert_eq!(scene.state(".State.Running", &one), "false");
    let generation = scene.bus.publish_with(rolled(2), leave(&one, 9));
    wait_through(&scene, &one, generation).await;
    assert_eq!(scene.state(".State.Running", &one), "true");
    assert_eq!(file_in(&scene, &one), "db-2");
    assert_eq!(started(&scene, &other), before);
    let (folder, _engine) = scene.end().await;
    unmount_private(&folder.path().join("run/bundles")).unwrap();
}

/// The engine, whose first restart fails and changes nothing.
struct Faulty {
    has_failed: AtomicBool,
}

#[async_trait]
impl Otherwise for Faulty {
    async fn restart(&self, engine: &dyn ContainerHost, id: &ContainerId) -> Result<(), PortError> {
        if self.has_failed.swap(true, Ordering::SeqCst) {
            return engine.restart(id).await;
        }
        Err(PortError::new(ErrorKind::Unavailable, "not this time"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_rollout_a_container_keeps_its_place_whatever_is_in_its_way() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    scene.running.abandon().await;
    scene.bus.clear();
    let faulty = Faulty {
        has_failed: AtomicBool::new(false),
    };
    let faulty = Through::new(docker_host(Some(scene.engine.host())), faulty);
    let settings = options(scene.folder.path());
    scene.running = Running::start(settings, scene.bus.clone(), faulty);
    scene.wait_complete().await;
    let generation = scene.bus.publish(rolled(1));
    let app = created(&scene.engine.container("app", PLACEHOLDER, SCRIPT));
    scene.bus.wait_facts("healthy", 1, reloaded(1)).await;
    wait_through(&scene, &app, generation).await;
    let before = started(&scene, &app);

    // A restart that fails is told as that, and a leave is good for one try.
    scene.bus.publish(rolled(2));
    wait_due(&scene, &app, 2).await;
    scene.bus.clear();
    scene.bus.publish_with(rolled(2), leave(&app, 7));
    scene
        .bus
        .wait("it failed", |reports| {
            let standing = standing(reports, &app);
            matches!(standing, Some((RestartState::Failed { reason }, _)) if reason.contains("its restart failed"))
        })
        .await;
    let reports = scene.bus.reports();
    let mut complete = reports.iter().filter(|report| report.complete);
    assert!(complete.all(|report| !report.restarts.is_empty()));
    assert_eq!(started(&scene, &app), before);
    let generation = scene.bus.publish_with(rolled(2), leave(&app, 8));
    wait_through(&scene, &app, generation).await;
    assert_eq!(file_in(&scene, &app), "db-2");

    // Another change, whose value is not to be had yet, does not end its wait.
    let mut one = rolled(5);
    one.truncate(1);
    one.extend(rolled(2).split_off(1));
    scene.bus.put(1, 5, b"five");
    scene.bus.publish(one);
    let due = Some((RestartState::Due, vec![5]));
    let asks = |reports: &[HostReport]| standing(reports, &app) == due;
    scene.bus.wait("it asks for one", asks).await;
    scene.bus.publish(rolled(5));
    wait_due(&scene, &app, 5).await;
    scene.bus.put(2, 5, b"db-5");
    let generation = scene.bus.publish_with(rolled(5), leave(&app, 9));
    wait_through(&scene, &app, generation).await;
    assert_eq!(file_in(&scene, &app), "db-5");
    let (folder, _engine) = scene.end().await;
    unmount_private(&folder.path().join("run/bundles")).unwrap();
}
