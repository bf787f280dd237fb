//! What a container that lost a revoked value is owed: it is paused, also over a crash of the injector and when it is
//! down meanwhile, and once.
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
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use keywheel_core::binding::{OnRevoke, Reload};
use keywheel_core::id::ContainerId;
use keywheel_core::plan::PlannedBinding;
use keywheel_core::report::{Fact, HostReport};
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::sync::watch;

use crate::support::running::{Running, docker_host};
use crate::support::settings::{options, swapped};
use crate::support::through::{Otherwise, Through};
use crate::support::{Container, FakeBus, binding, can_run, docker, file};

const IDLE: &str = "exec /bin/busybox sleep 600";

/// An engine that pauses nothing until it is willing to.
struct Unwilling {
    is_willing: AtomicBool,
    pauses: watch::Sender<u64>,
}

impl Unwilling {
    fn engine() -> Arc<Through<Self>> {
        let unwilling = Self {
            is_willing: AtomicBool::new(false),
            pauses: watch::channel(0).0,
        };
        Through::new(docker_host(None), unwilling)
    }

    /// Waits until it was asked so often.
    async fn asked(&self, count: u64) {
        let mut pauses = self.pauses.subscribe();
        let asked = pauses.wait_for(|asked| *asked >= count);
        let waited = tokio::time::timeout(crate::support::LIMIT, asked).await;
        assert!(waited.is_ok(), "asked {} times", *self.pauses.borrow());
    }
}

#[async_trait]
impl Otherwise for Unwilling {
    async fn pause(&self, engine: &dyn ContainerHost, id: &ContainerId) -> Result<(), PortError> {
        let done = match self.is_willing.load(Ordering::SeqCst) {
            true => engine.pause(id).await,
            false => Err(PortError::new(ErrorKind::Unavailable, "not now")),
        };
        self.pauses.send_modify(|count| *count += 1);
        done
    }
}

/// A binding whose containers are paused when they lose a revoked value.
fn frozen(secret: u8, label: &str, (version, floor): (Option<u64>, u64)) -> Vec<PlannedBinding> {
    vec![PlannedBinding {
        floor,
        on_revoke: OnRevoke::Pause,
        ..binding(secret, label, file("db"), Reload::None, version)
    }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_down_is_paused_once_it_begins_anew_and_nothing_is_kept_of_who_is_removed() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (bus, engine) = (FakeBus::new(), Unwilling::engine());
    bus.put(24, 1, b"one");
    bus.publish(frozen(24, "down", (Some(1), 0)));
    let begin = || Running::start(options(folder.path()), bus.clone(), engine.clone());
    let mut injector = begin();
    let [back, removed] = [(); 2].map(|()| Container::start("down", &[], IDLE));
    let state = |container: &Container| {
        let file = format!("run/state/{}.json", container.0);
        std::fs::read_to_string(folder.path().join(file)).unwrap_or_default()
    };
    let owed = |container: &Container| state(container).contains(r#""owed":"pause""#);
    bus.wait_facts("swapped to 1", 2, swapped(1)).await;
    bus.publish(frozen(24, "down", (None, 1)));
    bus.wait_facts("their files are gone", 2, |fact| *fact == Fact::Withdrawn)
        .await;
    engine.asked(1).await;
    bus.wait("both are written down", |_| owed(&back) && owed(&removed))
        .await;
    injector.abandon().await;
    for container in [&back, &removed] {
        docker(&["stop", "-t", "0", &container.0]);
    }
    engine.is_willing.store(true, Ordering::SeqCst);

    // Each run sees them down when it looks first, and the next one knows all the same.
    let mut looks = 0;
    let injector = loop {
        bus.clear();
        let mut injector = begin();
        let is_whole = |report: &HostReport| report.complete;
        bus.wait("it has looked", |reports| reports.iter().any(is_whole))
            .await;
        assert!(owed(&back) && owed(&removed));
        looks += 1;
        if looks == 3 {
            break injector;
        }
        injector.abandon().await;
    };
    let before = *engine.pauses.borrow();
    docker(&["rm", &removed.0]);
    docker(&["start", &back.0]);
    engine.asked(before + 1).await;
    let paused = docker(&["inspect", "-f", "{{.State.Paused}}", &back.0]);
    assert_eq!(paused, "true");
    bus.wait("nothing is kept of it", |_| state(&removed).is_empty())
        .await;
    bus.wait("what is done is owed no more", |_| !owed(&back))
        .await;
    assert_eq!(*engine.pauses.borrow(), before + 1);
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_a_revoked_value_is_paused_after_a_crash_too_and_once() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (bus, engine) = (FakeBus::new(), Unwilling::engine());
    let plan = |version, floor| frozen(23, "lost-frozen", (version, floor));
    bus.put(23, 1, b"one");
    bus.put(23, 2, b"two");
    bus.publish(plan(Some(1), 0));
    let begin = || Running::start(options(folder.path()), bus.clone(), engine.clone());
    let mut injector = begin();
    let container = Container::start("lost-frozen", &[], IDLE);
    let is_paused = || docker(&["inspect", "-f", "{{.State.Paused}}", &container.0]) == "true";
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    bus.publish(plan(None, 1));
    bus.wait_facts("its file is gone", 1, |fact| *fact == Fact::Withdrawn)
        .await;
    engine.asked(1).await;
    assert!(!is_paused());

    // The engine did not do it, and the next run of the injector remembers it.
    injector.abandon().await;
    engine.is_willing.store(true, Ordering::SeqCst);
    let before = *engine.pauses.borrow();
    let mut injector = begin();
    engine.asked(before + 1).await;
    assert!(is_paused());

    // What a person undoes stays undone, and a fresh value comes as ever.
    docker(&["unpause", &container.0]);
    bus.clear();
    bus.publish(plan(Some(2), 1));
    bus.wait_facts("swapped to 2", 1, swapped(2)).await;
    assert_eq!(*engine.pauses.borrow(), before + 1);
    assert!(!is_paused());

    // Nor is it forgotten where the container begins anew while no injector runs.
    engine.is_willing.store(false, Ordering::SeqCst);
    bus.clear();
    bus.publish(plan(None, 2));
    bus.wait_facts("its file is gone again", 1, |fact| *fact == Fact::Withdrawn)
        .await;
    engine.asked(before + 2).await;
    let file = format!("run/state/{}.json", container.0);
    let state = || std::fs::read_to_string(folder.path().join(&file)).unwrap_or_default();
    bus.wait("it is written down", |_| {
        state().contains(r#""owed":"pause""#)
    })
    .await;
    injector.abandon().await;
    docker(&["restart", "-t", "0", &container.0]);
    engine.is_willing.store(true, Ordering::SeqCst);
    let asked = *engine.pauses.borrow();
    let injector = begin();
    engine.asked(asked + 1).await;
    assert!(is_paused());
    injector.end_in(folder.path()).await;
}
