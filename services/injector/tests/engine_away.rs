//! The container engine stops in the middle and comes back: what is told, what goes on meanwhile, and
//! what is caught up with.
//!
//! Needs root, Docker, a static busybox, and built `keywheel-nsjoin` and `keywheel-runtime`. Without
//! them it says so and stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code
)]

use std::time::Duration;

use keywheel_core::binding::Reload;
use keywheel_core::plan::PlannedBinding;
use keywheel_core::report::Fact;

use crate::support::engine::Engine;
use crate::support::running::{Running, docker_host};
use crate::support::settings::{options, reloaded, swapped};
use crate::support::{FakeBus, binding, can_run, file};

const IDLE: &str = "exec /bin/busybox sleep 600";

/// The first run of the command hangs, all others end well.
const COMMAND: &str =
    "[ -e /tmp/begun ] && exit 0; /bin/busybox touch /tmp/begun; exec /bin/busybox sleep 600";

fn plan(version: u64, told: u64) -> Vec<PlannedBinding> {
    let command = Reload::Command {
        argv: ["/bin/busybox", "sh", "-c", COMMAND]
            .map(str::to_owned)
            .into(),
        timeout: Duration::from_secs(120),
    };
    vec![
        binding(1, "app", file("db"), Reload::None, Some(version)),
        binding(2, "app", file("told"), command, Some(told)),
    ]
}

/// Runs a container under the wrapper; its id.
fn run(engine: &Engine) -> String {
    let output = engine.container("app", &[], IDLE);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits until the command runs in a container.
async fn wait_begun(engine: &Engine, id: &str) {
    let begun = ["exec", id, "/bin/busybox", "test", "-e", "/tmp/begun"];
    let waiting = async {
        while !engine.run(&begun).status.success() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(crate::support::LIMIT, waiting).await;
    assert!(waited.is_ok(), "the command was not begun");
}

fn cat(engine: &Engine, id: &str) -> String {
    engine.docker(&["exec", id, "/bin/busybox", "cat", "/run/secrets/db"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_stops_and_comes_back_is_told_of_and_caught_up_with() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(mut engine) = Engine::start(&folder.path().join("injector.sock")) else {
        return;
    };
    let bus = FakeBus::new();
    for (version, value) in [(1, "one"), (2, "two"), (3, "three")] {
        bus.put(1, version, value.as_bytes());
    }
    bus.put(2, 11, b"eleven");
    bus.put(2, 12, b"twelve");
    bus.publish(plan(1, 11));
    let containers = docker_host(Some(engine.host()));
    let mut running = Running::start(options(folder.path()), bus.clone(), containers);
    running.wait_plan().await;
    let first = run(&engine);
    bus.wait_facts("the first is served", 1, swapped(1)).await;

    bus.publish(plan(1, 12));
    bus.wait_facts("swapped to 12", 1, swapped(12)).await;
    wait_begun(&engine, &first).await;

    engine.stop();
    running
        .wait("the fault", |status| status.engine_fault.is_some())
        .await;
    let fault = running.handle.status().engine_fault.unwrap();
    assert!(fault.contains("docker.sock"), "{fault}");
    // A rotation needs no engine: the file system is ours.
    bus.publish(plan(2, 12));
    bus.wait_facts("swapped meanwhile", 1, swapped(2)).await;

    engine.start_again();
    running
        .wait("no fault", |status| status.engine_fault.is_none())
        .await;
    assert_eq!(cat(&engine, &first), "two");
    let second = run(&engine);
    assert_eq!(cat(&engine, &second), "two");
    bus.publish(plan(3, 12));
    bus.wait_facts("both are served", 2, swapped(3)).await;
    assert_eq!(
        [cat(&engine, &first), cat(&engine, &second)],
        ["three", "three"]
    );
    // The engine forgot the command that ran: that counts as one try, and the next one tells. The second
    // container began with the version.
    let is_lost = |fact: &Fact| matches!(fact, Fact::Refused { version: 12, reason } if reason.contains("is not known"));
    bus.wait_facts("its end is not known", 1, is_lost).await;
    bus.wait_facts("both are told", 2, reloaded(12)).await;
    // What was served before is not said again: each version came to the first container once.
    let facts = bus.facts();
    for version in 1..=3 {
        let times = facts
            .iter()
            .filter(|(id, fact)| *id == first && swapped(version)(fact));
        assert_eq!(times.count(), 1, "version {version}: {facts:?}");
    }
    running.end_in(folder.path()).await;
}
