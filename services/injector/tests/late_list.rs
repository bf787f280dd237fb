//! An answer of the engine that comes later than what happened meanwhile.
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

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::binding::{Reload, Target};
use keywheel_core::id::ContainerId;
use keywheel_core::report::{Fact, HostReport};
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::{ContainerHost, ContainerRecord};
use tokio::sync::{Notify, watch};

use crate::support::engine::Engine;
use crate::support::running::{Ahead, Running, docker_host};
use crate::support::settings::{options, reloaded, swapped};
use crate::support::through::{Otherwise, Through};
use crate::support::{Container, FakeBus, binding, can_run, docker, file};

const IDLE: &str = "exec /bin/busybox sleep 600";
/// How long a restarted container is judged, by a clock that the test moves.
const SETTLE: Duration = Duration::from_secs(3600);

/// An engine one of whose lists arrives when it is let through, and which tells of containers only while it may.
struct Late {
    is_shut: watch::Sender<bool>,
    is_next: AtomicBool,
    held: Notify,
    released: Notify,
    lists: watch::Sender<u64>,
}

impl Late {
    /// Around an engine of the test's own, or the machine's.
    fn around(host: Option<String>) -> Arc<Through<Self>> {
        let late = Self {
            is_shut: watch::channel(false).0,
            is_next: AtomicBool::new(false),
            held: Notify::new(),
            released: Notify::new(),
            lists: watch::channel(0).0,
        };
        Through::new(docker_host(host), late)
    }

    /// Waits until it may tell.
    async fn opened(&self) {
        let mut shut = self.is_shut.subscribe();
        shut.wait_for(|is_shut| !is_shut).await.unwrap();
    }

    /// Waits until a list was made that is not answered yet.
    async fn hold(&self) {
        self.is_next.store(true, Ordering::SeqCst);
        self.held.notified().await;
    }

    /// Answers it, and waits until it and one more have been taken: the third is asked for after that.
    async fn release(&self) {
        let (mut lists, answered) = (self.lists.subscribe(), *self.lists.borrow());
        self.released.notify_one();
        lists
            .wait_for(|count| *count >= answered + 3)
            .await
            .unwrap();
    }
}

#[async_trait]
impl Otherwise for Late {
    async fn list(&self, engine: &dyn ContainerHost) -> Result<Vec<ContainerRecord>, PortError> {
        let answer = loop {
            self.opened().await;
            let answer = engine.list().await;
            // Shut meanwhile, it may tell of what is to be unseen.
            if !*self.is_shut.borrow() {
                break answer;
            }
        };
        if self.is_next.swap(false, Ordering::SeqCst) {
            self.held.notify_one();
            self.released.notified().await;
        }
        self.lists.send_modify(|count| *count += 1);
        answer
    }
    async fn inspect(
        &self,
        engine: &dyn ContainerHost,
        id: &ContainerId,
    ) -> Result<Option<ContainerRecord>, PortError> {
        self.opened().await;
        engine.inspect(id).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_made_before_a_restart_does_not_undo_it() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (bus, late) = (FakeBus::new(), Late::around(None));
    let plan = |version| vec![binding(1, "late", file("db"), Reload::None, Some(version))];
    bus.put(1, 1, b"one");
    bus.put(1, 2, b"two");
    bus.publish(plan(1));
    let mut settings = options(folder.path());
    settings.reconcile_interval = Duration::from_millis(50);
    let running = Running::start(settings, bus.clone(), late.clone());
    let container = Container::start("late", &[], IDLE);
    bus.wait_facts("served", 1, swapped(1)).await;

    late.hold().await;
    bus.clear();
    docker(&["restart", "--time", "0", &container.0]);
    bus.wait_facts("served again", 1, swapped(1)).await;
    late.release().await;

    bus.publish(plan(2));
    bus.wait_facts("swapped", 1, swapped(2)).await;
    assert_eq!(container.cat("db"), (true, "two".into()));
    let facts = bus.facts();
    let is_refused = |(_, fact): &(String, Fact)| matches!(fact, Fact::Refused { .. });
    assert!(!facts.iter().any(is_refused), "{facts:?}");
    running.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_made_before_a_container_went_does_not_bring_it_back() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (bus, late) = (FakeBus::new(), Late::around(None));
    bus.put(1, 1, b"one");
    bus.publish(vec![binding(1, "gone", file("db"), Reload::None, Some(1))]);
    let mut settings = options(folder.path());
    settings.reconcile_interval = Duration::from_millis(50);
    let running = Running::start(settings, Arc::clone(&bus) as _, Arc::clone(&late) as _);
    let container = Container::start("gone", &[], IDLE);
    bus.wait_facts("served", 1, swapped(1)).await;

    late.hold().await;
    bus.clear();
    docker(&["rm", "--force", &container.0]);
    let is_gone = |fact: &Fact| matches!(fact, Fact::Vanished);
    bus.wait_facts("gone", 1, is_gone).await;
    late.release().await;
    // The lists after it were taken, too: neither tried again nor gone a second time.
    let facts = bus.facts();
    assert!(matches!(&facts[..], [(_, Fact::Vanished)]), "{facts:?}");
    running.end_in(folder.path()).await;
}

/// What is told of a container that ends and begins anew while the engine answers no question about it, until
/// something like this is.
async fn restarted_unseen(
    bus: &FakeBus,
    late: &Late,
    restart: impl Fn(),
    like: impl Fn(&Fact) -> bool,
) -> Vec<Fact> {
    bus.clear();
    late.is_shut.send_replace(true);
    restart();
    late.is_shut.send_replace(false);
    bus.wait_facts("what it has now", 1, like).await;
    bus.facts().into_iter().map(|(_, fact)| fact).collect()
}

fn is_farewell_first(facts: &[Fact]) -> bool {
    matches!(facts, [Fact::Vanished, Fact::Swapped { version: 1, .. }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_of_which_only_the_new_beginning_tells_is_told() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (bus, late) = (FakeBus::new(), Late::around(None));
    bus.put(1, 1, b"one");
    bus.publish(vec![binding(
        1,
        "unseen",
        file("db"),
        Reload::None,
        Some(1),
    )]);
    let running = Running::start(options(folder.path()), bus.clone(), late.clone());
    let container = Container::start("unseen", &[], IDLE);
    bus.wait_facts("served", 1, swapped(1)).await;
    let restart = || drop(docker(&["restart", "--time", "0", &container.0]));
    let facts = restarted_unseen(&bus, &late, restart, swapped(1)).await;
    assert!(is_farewell_first(&facts), "{facts:?}");
    running.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_of_which_only_the_wrapper_tells_is_told() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(engine) = Engine::start(&folder.path().join("injector.sock")) else {
        return;
    };
    let (bus, late) = (FakeBus::new(), Late::around(Some(engine.host())));
    bus.put(1, 1, b"one");
    bus.publish(vec![binding(
        1,
        "unseen",
        file("db"),
        Reload::None,
        Some(1),
    )]);
    let running = Running::start(options(folder.path()), bus.clone(), late.clone());
    let complete = |reports: &[HostReport]| reports.last().is_some_and(|last| last.complete);
    bus.wait("a complete report", complete).await;
    let said = engine.container("unseen", &[], IDLE);
    let id = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    bus.wait_facts("served", 1, swapped(1)).await;
    let restart = || drop(engine.docker(&["restart", "--time", "0", &id]));
    let facts = restarted_unseen(&bus, &late, restart, swapped(1)).await;
    assert!(is_farewell_first(&facts), "{facts:?}");
    running.end_in(folder.path()).await;
}

/// What it does not get any more is told anew, since its end took back that it was told before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_to_the_new_program_is_told_after_the_end_of_the_old_one() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (bus, late) = (FakeBus::new(), Late::around(None));
    let plan = |version| {
        let mut target = file("db");
        if let Target::File { template, .. } = &mut target {
            *template = Some("{{ secret(\"test/secret-1\").user }}".to_owned());
        }
        let version = Some(version);
        vec![binding(1, "kept", target, Reload::None, version)]
    };
    let is_refused = |fact: &Fact| matches!(fact, Fact::Refused { version: 2, .. });
    bus.put(1, 1, br#"{"user":"one"}"#);
    bus.put(1, 2, b"no fields");
    bus.publish(plan(1));
    let running = Running::start(options(folder.path()), bus.clone(), late.clone());
    let container = Container::start("kept", &[], IDLE);
    bus.wait_facts("served", 1, swapped(1)).await;
    bus.publish(plan(2));
    bus.wait_facts("refused", 1, is_refused).await;
    let restart = || drop(docker(&["restart", "--time", "0", &container.0]));
    let facts = restarted_unseen(&bus, &late, restart, is_refused).await;
    let is_told = matches!(&facts[..], [Fact::Vanished, Fact::Refused { .. }]);
    assert!(is_told, "{facts:?}");
    running.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_begins_anew_unseen_while_its_restart_is_judged_is_judged_on() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (bus, late) = (FakeBus::new(), Late::around(None));
    let reload = Reload::Restart {
        settle: SETTLE,
        health_timeout: SETTLE,
        rollout: None,
    };
    let plan = |version| {
        let version = Some(version);
        vec![binding(1, "judged", file("db"), reload.clone(), version)]
    };
    bus.put(1, 1, b"one");
    bus.put(1, 2, b"two");
    bus.publish(plan(1));
    let seconds = Arc::new(AtomicU64::new(0));
    let settle = || seconds.fetch_add(SETTLE.as_secs() + 1, Ordering::SeqCst);
    let mut settings = options(folder.path());
    settings.reconcile_interval = Duration::from_millis(500);
    let clock = Ahead::by(&seconds);
    let running = Running::start_at(settings, bus.clone(), late.clone(), clock);
    let container = Container::start("judged", &[], IDLE);
    bus.wait_facts("served", 1, swapped(1)).await;
    settle();
    bus.wait_facts("it runs well", 1, reloaded(1)).await;
    bus.publish(plan(2));
    // Once in place, and once after its restart.
    let is_restarted = |reports: &[HostReport]| {
        let items = reports.iter().flat_map(|report| &report.items);
        items.filter(|item| swapped(2)(&item.fact)).count() >= 2
    };
    bus.wait("its restart", is_restarted).await;
    let restart = || drop(docker(&["restart", "--time", "0", &container.0]));
    let facts = restarted_unseen(&bus, &late, restart, swapped(2)).await;
    let is_judged_on = matches!(&facts[..], [Fact::Swapped { version: 2, .. }]);
    assert!(is_judged_on, "neither a failure nor a farewell: {facts:?}");
    settle();
    bus.wait_facts("it runs well, too", 1, reloaded(2)).await;
    running.end_in(folder.path()).await;
}
