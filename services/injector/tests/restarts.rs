//! One container of a service restarts at a time, and what failed is held back, also when the injector is
//! killed in between. And what a revocation takes out of a file meanwhile, restart or not.
//!
//! Needs root, Docker, a static busybox and a built `keywheel-nsjoin`. Without them it says so and
//! stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keywheel_core::binding::{Reload, Rollout, Target};
use keywheel_core::id::{ContainerId, DeliveryId};
use keywheel_core::plan::{Grant, Leave, PlannedBinding, PlannedPrevious};
use keywheel_core::report::{Fact, HostReport, RestartState, RestartWish};
use keywheel_injector::HostSettings;

use crate::support::running::{Ahead, Running, docker_host};
use crate::support::settings::{options, reloaded, swapped};
use crate::support::{Container, FakeBus, binding, can_run, docker, file};

/// How long a restarted container is judged, by a clock that the test moves.
const SETTLE: Duration = Duration::from_secs(3600);
/// The secret, and that of the witness.
const SECRETS: [u8; 2] = [21, 22];
/// A secret whose version before the current one stays alive.
const KEPT: u8 = 23;
/// Ends, a moment after its start, with a value that it does not like.
const SCRIPT: &str = "until [ -e /run/secrets/db ]; do /bin/busybox sleep 0.05; done; \
    [ \"$(/bin/busybox cat /run/secrets/db)\" = bad ] && /bin/busybox sleep 1 && exit 1; \
    exec /bin/busybox sleep 600";

/// Two containers of one service that run well with version 1, and a label for a witness.
struct Scene {
    label: String,
    bus: Arc<FakeBus>,
    seconds: Arc<AtomicU64>,
    pair: [Container; 2],
    injector: Running,
    folder: tempfile::TempDir,
}

fn start(folder: &Path, bus: &Arc<FakeBus>, seconds: &Arc<AtomicU64>) -> Running {
    let settings = HostSettings {
        reconcile_interval: Duration::from_millis(500),
        ..options(folder)
    };
    Running::start_at(settings, bus.clone(), docker_host(None), Ahead::by(seconds))
}

/// When its first program was started.
fn started(container: &Container) -> String {
    docker(&["inspect", "-f", "{{.State.StartedAt}}", &container.0])
}

fn held_back(version: u64) -> impl Fn(&Fact) -> bool {
    move |fact| matches!(fact, Fact::Refused { version: found, reason } if *found == version && reason.starts_with("held back"))
}

/// How often a container got this version, as was told.
fn served(reports: &[HostReport], id: &str, version: u64) -> usize {
    let items = reports.iter().flat_map(|report| &report.items);
    let its = items.filter(|item| item.container.as_str() == id);
    its.filter(|item| swapped(version)(&item.fact)).count()
}

impl Scene {
    async fn set(label: &str) -> Option<Self> {
        if !can_run() {
            return None;
        }
        let (folder, bus) = (tempfile::tempdir().unwrap(), FakeBus::new());
        let seconds = Arc::new(AtomicU64::new(0));
        for secret in SECRETS {
            bus.put(secret, 1, b"good");
        }
        let injector = start(folder.path(), &bus, &seconds);
        let scene = Self {
            label: label.to_owned(),
            pair: [(); 2].map(|()| Container::start(label, &[], SCRIPT)),
            bus,
            seconds,
            injector,
            folder,
        };
        scene.publish(1);
        scene.bus.wait_facts("both have it", 2, swapped(1)).await;
        scene.pass(SETTLE);
        scene.bus.wait_facts("both run well", 2, reloaded(1)).await;
        // Each has read its value: the next one is for whoever restarts.
        for one in &scene.pair {
            let read = "until [ \"$(/bin/busybox tr '\\0' ' ' < /proc/1/cmdline)\" = '/bin/busybox sleep 600 ' ]; \
                do /bin/busybox sleep 0.05; done";
            assert!(one.exec(read).0);
        }
        Some(scene)
    }

    fn plan(&self, version: u64) -> Vec<PlannedBinding> {
        let [secret, witness] = SECRETS;
        let reload = Reload::Restart {
            settle: SETTLE,
            health_timeout: SETTLE,
            rollout: None,
        };
        vec![
            binding(secret, &self.label, file("db"), reload, Some(version)),
            binding(
                witness,
                &format!("{}-witness", self.label),
                file("db"),
                Reload::None,
                Some(1),
            ),
        ]
    }

    fn publish(&self, version: u64) {
        self.bus.publish(self.plan(version));
    }

    /// Time passes.
    fn pass(&self, span: Duration) {
        let seconds = span.as_secs() + 1;
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The one that restarted for a version, as soon as it has it again, and the one that waits.
    async fn restarted(&self, version: u64) -> (&Container, &Container) {
        let is_first =
            |reports: &[HostReport], one: &Container| served(reports, &one.0, version) >= 2;
        self.bus
            .wait("one restarted", |reports| {
                self.pair.iter().any(|one| is_first(reports, one))
            })
            .await;
        let [one, other] = &self.pair;
        match is_first(&self.bus.reports(), one) {
            true => (one, other),
            false => (other, one),
        }
    }

    async fn kill(&mut self) {
        self.injector.abandon().await;
        self.bus.clear();
    }

    /// Starts the injector again and waits until it knows everything.
    async fn start_again(&mut self) {
        self.injector = start(self.folder.path(), &self.bus, &self.seconds);
        let is_complete = |reports: &[HostReport]| reports.iter().any(|report| report.complete);
        self.bus.wait("a complete report", is_complete).await;
    }

    async fn end(self) {
        self.injector.end_in(self.folder.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_injector_lets_nobody_restart_out_of_turn() {
    let Some(mut scene) = Scene::set("turn").await else {
        return;
    };
    scene.bus.put(SECRETS[0], 2, b"good, too");
    scene.publish(2);
    scene.restarted(2).await;
    let before = scene.pair.each_ref().map(started);
    scene.kill().await;
    scene.start_again().await;
    // Whoever comes is served meanwhile, after everybody was looked at.
    let witness = Container::start("turn-witness", &[], SCRIPT);
    scene
        .bus
        .wait("the witness", |reports| served(reports, &witness.0, 1) > 0)
        .await;
    assert_eq!(
        scene.pair.each_ref().map(started),
        before,
        "one is judged still, the other waits"
    );

    scene.pass(SETTLE);
    scene
        .bus
        .wait_facts("the first runs well", 1, reloaded(2))
        .await;
    // The other one had it twice: its file was compared, and came again after its restart.
    let all = |reports: &[HostReport]| {
        let twice = |one: &&Container| served(reports, &one.0, 2) >= 2;
        scene.pair.iter().filter(twice).count()
    };
    scene
        .bus
        .wait("its turn", |reports| all(reports) >= 1)
        .await;
    scene.pass(SETTLE);
    scene.bus.wait_facts("both run well", 2, reloaded(2)).await;
    let after = scene.pair.each_ref().map(started);
    let anew = before.iter().zip(&after).filter(|(one, two)| one != two);
    assert_eq!(anew.count(), 1, "each restarted once");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_failed_is_held_back_over_a_kill() {
    let Some(mut scene) = Scene::set("failed").await else {
        return;
    };
    scene.bus.put(SECRETS[0], 2, b"bad");
    scene.publish(2);
    scene.bus.wait_facts("held back", 1, held_back(2)).await;
    let before = scene.pair.each_ref().map(started);
    scene.kill().await;
    scene.start_again().await;
    scene
        .bus
        .wait_facts("held back still", 1, held_back(2))
        .await;
    assert_eq!(scene.pair.each_ref().map(started), before);
    // Another version has its turn.
    scene.bus.put(SECRETS[0], 3, b"good");
    scene.publish(3);
    scene
        .bus
        .wait("the restart of the other", |reports| {
            let mut pair = scene.pair.iter();
            pair.any(|one| served(reports, &one.0, 3) >= 2)
        })
        .await;
    scene.pass(SETTLE);
    scene.bus.wait_facts("it runs well", 1, reloaded(3)).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_whose_container_ended_meanwhile_holds_back_its_service() {
    let Some(mut scene) = Scene::set("ended").await else {
        return;
    };
    scene.bus.put(SECRETS[0], 2, b"good, too");
    scene.publish(2);
    let (first, second) = scene.restarted(2).await;
    let (first, before) = (first.0.clone(), started(second));
    scene.kill().await;
    docker(&["kill", &first]);
    scene.start_again().await;
    // The engine is asked about it a while after the first list, which may come after the first complete report.
    let is_held_back = |reports: &[HostReport]| {
        scene.pass(Duration::ZERO);
        let mut items = reports.iter().flat_map(|report| &report.items);
        items.any(|item| held_back(2)(&item.fact))
    };
    scene.bus.wait("held back", is_held_back).await;
    let mut pair = scene.pair.iter();
    let second = pair.find(|one| one.0 != first).unwrap();
    assert_eq!(started(second), before);
    scene.end().await;
}

/// A file under a rollout with this version in it, and this one before it.
fn rolled(label: &str, version: u64, previous: Option<u64>) -> PlannedBinding {
    let mut target = file("db");
    if let Target::File { template, .. } = &mut target {
        let name = format!("test/secret-{KEPT}");
        let text = "{{ secret(\"NAME\") }},{{ secret(\"NAME\", version=\"previous\") }}";
        *template = Some(text.replace("NAME", &name));
    }
    let reload = Reload::Restart {
        settle: SETTLE,
        health_timeout: SETTLE,
        rollout: Some(Rollout::default()),
    };
    let mut planned = binding(KEPT, label, target, reload, Some(version));
    let before = previous.map(|version| PlannedPrevious {
        secret: planned.secret,
        grant: Grant {
            version,
            delivery: DeliveryId::from_bytes([0x77; 16]),
        },
    });
    planned.previous = before.into_iter().collect();
    planned
}

fn wishes(reports: &[HostReport]) -> impl Iterator<Item = &RestartWish> {
    reports.iter().flat_map(|report| &report.restarts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_before_that_is_revoked_while_a_restart_is_judged_is_no_failure_of_it() {
    if !can_run() {
        return;
    }
    let (folder, bus) = (tempfile::tempdir().unwrap(), FakeBus::new());
    let seconds = Arc::new(AtomicU64::new(0));
    let settled = || seconds.fetch_add(SETTLE.as_secs() + 1, Ordering::SeqCst);
    bus.put(KEPT, 1, b"old");
    bus.put(KEPT, 2, b"new");
    let injector = start(folder.path(), &bus, &seconds);
    bus.publish(vec![rolled("beside", 1, None)]);
    let container = Container::start("beside", &[], SCRIPT);
    bus.wait_facts("it has it", 1, swapped(1)).await;
    settled();
    bus.wait_facts("it runs well", 1, reloaded(1)).await;
    let leave = |number| Leave {
        container: ContainerId::parse(&container.0).unwrap(),
        number,
        not_before: None,
    };
    let waits = |reports: &[HostReport]| {
        let mut waiting = wishes(reports).filter(|wish| wish.state == RestartState::Due);
        waiting.any(|wish| wish.due.iter().any(|due| due.version == 2))
    };
    bus.publish(vec![rolled("beside", 2, Some(1))]);
    bus.wait("it waits for leave", waits).await;
    bus.publish_with(vec![rolled("beside", 2, Some(1))], vec![leave(1)]);
    bus.wait("it restarted", |reports| {
        served(reports, &container.0, 2) >= 2
    })
    .await;
    assert_eq!(container.cat("db"), (true, "new,old".to_owned()));
    let first = started(&container);

    bus.clear();
    let revoked = PlannedBinding {
        floor: 1,
        ..rolled("beside", 2, None)
    };
    bus.publish_with(vec![revoked.clone()], vec![leave(1)]);
    bus.wait("it waits for leave once more", waits).await;
    assert_eq!(container.cat("db"), (true, "new,".to_owned()));
    bus.publish_with(vec![revoked], vec![leave(2)]);
    bus.wait("it restarted again", |reports| {
        served(reports, &container.0, 2) >= 2
    })
    .await;
    assert_ne!(started(&container), first);
    settled();
    bus.wait_facts("it runs well", 1, reloaded(2)).await;
    let reports = bus.reports();
    let mut all = wishes(&reports);
    let is_failed = |wish: &RestartWish| matches!(wish.state, RestartState::Failed { .. });
    assert!(!all.any(is_failed), "{reports:?}");
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_before_that_is_revoked_goes_also_when_its_file_cannot_be_replaced() {
    if !can_run() {
        return;
    }
    let (folder, bus) = (tempfile::tempdir().unwrap(), FakeBus::new());
    let seconds = Arc::new(AtomicU64::new(0));
    bus.put(KEPT, 1, b"old");
    bus.put(KEPT, 2, b"new");
    bus.publish(vec![rolled("covered", 2, Some(1))]);
    let injector = start(folder.path(), &bus, &seconds);
    let rights = [
        "--cap-add",
        "SYS_ADMIN",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "apparmor=unconfined",
    ];
    let container = Container::start("covered", &rights, SCRIPT);
    bus.wait_facts("it has both", 1, swapped(2)).await;
    assert_eq!(container.cat("db"), (true, "new,old".to_owned()));
    let cover = "/bin/busybox mount -t tmpfs cover /run/secrets";
    let (is_covered, said) = container.exec(cover);
    assert!(is_covered, "{said}");
    bus.clear();
    let revoked = PlannedBinding {
        floor: 1,
        ..rolled("covered", 2, None)
    };
    let generation = bus.publish(vec![revoked]);
    let is_refused = |fact: &Fact| matches!(fact, Fact::Refused { reason, .. } if reason.contains("is covered by another mount"));
    bus.wait_facts("it is not replaced", 1, is_refused).await;
    bus.wait_facts("it is gone", 1, |fact| *fact == Fact::Withdrawn)
        .await;
    bus.wait("nobody holds it", |reports| {
        let holds = |report: &HostReport| report.holds.iter().any(|(_, version)| *version == 1);
        let mut told = reports.iter().filter(|one| one.generation == generation);
        told.any(|report| report.complete && !holds(report))
    })
    .await;
    injector.end_in(folder.path()).await;
}
