//! What playbooks order about containers, against real containers of the local Docker engine: a restart, once and
//! judged, also over a crash; and a quarantine, until it is lifted.
//!
//! Needs root, Docker, a static busybox, built `keywheel-nsjoin` and `keywheel-runtime`. Without them it says so and
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

use std::mem::ManuallyDrop;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::binding::{OnRevoke, Reload};
use keywheel_core::id::ContainerId;
use keywheel_core::plan::{Order, PlannedBinding, Task};
use keywheel_core::report::{Fact, HostReport, OrderState};
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_engine::port::{ErrorKind, PortError};

use crate::support::engine::Engine;
use crate::support::running::{Running, docker_host};
use crate::support::settings::{options, reloaded, swapped};
use crate::support::through::{Otherwise, Through};
use crate::support::{BUSYBOX, Container, FakeBus, IMAGE, binding, can_run, docker, env, file};

const IDLE: &str = "exec /bin/busybox sleep 600";

fn plan(secret: u8, label: &str) -> Vec<PlannedBinding> {
    let reload = Reload::Restart {
        settle: Duration::from_secs(1),
        health_timeout: Duration::from_secs(60),
        rollout: None,
    };
    vec![binding(secret, label, file("db"), reload, Some(1))]
}

fn order(container: &Container, number: u64, task: Task) -> Order {
    Order {
        container: ContainerId::parse(&container.0).unwrap(),
        number,
        task,
    }
}

fn restart(container: &Container, number: u64) -> Order {
    order(container, number, Task::Restart { not_before: None })
}

fn apart(container: &Container, number: u64, action: OnRevoke) -> Order {
    order(container, number, Task::Quarantine { action })
}

/// Whether the last report says this of an order.
fn says<'a>(
    container: &'a Container,
    number: u64,
    like: impl Fn(&OrderState) -> bool + 'a,
) -> impl Fn(&[HostReport]) -> bool + 'a {
    move |reports| {
        let last = reports.last().and_then(|report| report.orders.as_ref());
        last.is_some_and(|orders| {
            orders.iter().any(|told| {
                told.container.as_str() == container.0 && told.number == number && like(&told.state)
            })
        })
    }
}

fn is_done(state: &OrderState) -> bool {
    *state == OrderState::Done
}

fn started_at(container: &Container) -> String {
    docker(&["inspect", "-f", "{{.State.StartedAt}}", &container.0])
}

fn is(container: &Container, what: &str) -> bool {
    let format = format!("{{{{.State.{what}}}}}");
    docker(&["inspect", "-f", &format, &container.0]) == "true"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_restart_is_done_once_and_told_when_it_runs_well_also_over_a_crash() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(31, 1, b"one");
    bus.publish(plan(31, "ordered"));
    let begin = || Running::start(options(folder.path()), bus.clone(), docker_host(None));
    let mut injector = begin();
    let container = Container::start("ordered", &[], IDLE);
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    let before = started_at(&container);
    bus.publish_orders(plan(31, "ordered"), vec![restart(&container, 7)]);
    bus.wait("it ran well", says(&container, 7, is_done)).await;
    let after = started_at(&container);
    assert_ne!(before, after);
    assert!(is(&container, "Running"));

    // The next run of the injector knows that it did it, and says so again.
    injector.abandon().await;
    bus.clear();
    let injector = begin();
    bus.wait("it says so again", says(&container, 7, is_done))
        .await;
    assert_eq!(started_at(&container), after);

    // Another order is another restart.
    bus.publish_orders(plan(31, "ordered"), vec![restart(&container, 8)]);
    bus.wait("it ran well again", says(&container, 8, is_done))
        .await;
    assert_ne!(started_at(&container), after);
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_injector_had_begun_is_not_asked_of_one_in_quarantine() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(36, 1, b"one");
    bus.publish(plan(36, "begun"));
    let begin = || Running::start(options(folder.path()), bus.clone(), docker_host(None));
    let mut injector = begin();
    let container = Container::start("begun", &[], IDLE);
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    injector.abandon().await;
    // The disk has it, and the engine was not asked.
    let before = started_at(&container);
    let begun = format!(
        r#"[{{"container":"{}","number":7,"started_at":"{before}"}}]"#,
        container.0
    );
    std::fs::write(folder.path().join("run/state/orders.json"), begun).unwrap();
    bus.clear();
    let orders = vec![
        apart(&container, 8, OnRevoke::Pause),
        restart(&container, 7),
    ];
    bus.publish_orders(plan(36, "begun"), orders);
    let injector = begin();
    bus.wait("it is frozen", says(&container, 8, is_done)).await;
    let has_failed = |state: &OrderState| matches!(state, OrderState::Failed { .. });
    bus.wait("it is not restarted", says(&container, 7, has_failed))
        .await;
    assert_eq!(started_at(&container), before);
    assert!(is(&container, "Paused"));
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_after_its_ordered_restart_failed_and_one_that_is_gone_is_gone() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(32, 1, b"one");
    bus.publish(plan(32, "short"));
    let injector = Running::start(options(folder.path()), bus.clone(), docker_host(None));
    // It runs the first time only.
    let script = "[ -e /again ] && exit 1; : > /again; exec /bin/busybox sleep 600";
    let short = Container::start("short", &[], script);
    let gone = Container::start("short", &[], IDLE);
    bus.wait_facts("swapped to 1", 2, swapped(1)).await;
    docker(&["rm", "-f", &gone.0]);
    let orders = vec![restart(&short, 7), restart(&gone, 8)];
    bus.publish_orders(plan(32, "short"), orders);
    let has_failed = |state: &OrderState| matches!(state, OrderState::Failed { .. });
    bus.wait("it failed", says(&short, 7, has_failed)).await;
    let is_gone = |state: &OrderState| *state == OrderState::Gone;
    bus.wait("it is gone", says(&gone, 8, is_gone)).await;
    assert!(!is(&short, "Running"));
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_quarantine_has_nothing_whenever_it_begins_until_that_is_lifted() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(33, 1, b"one");
    bus.publish(plan(33, "apart"));
    let begin = || Running::start(options(folder.path()), bus.clone(), docker_host(None));
    let mut injector = begin();
    let frozen = Container::start("apart", &[], IDLE);
    let stopped = Container::start("apart", &[], IDLE);
    let free = Container::start("apart", &[], IDLE);
    bus.wait_facts("swapped to 1", 3, swapped(1)).await;
    let orders = || {
        vec![
            apart(&frozen, 7, OnRevoke::Pause),
            apart(&stopped, 8, OnRevoke::Stop),
        ]
    };
    bus.publish_orders(plan(33, "apart"), orders());
    bus.wait("it is frozen", says(&frozen, 7, is_done)).await;
    bus.wait("it is stopped", says(&stopped, 8, is_done)).await;
    assert!(is(&frozen, "Paused") && !is(&stopped, "Running"));
    assert_eq!(free.cat("db"), (true, "one".into()));

    // A new incarnation is in quarantine, too, also after a crash of the injector.
    injector.abandon().await;
    docker(&["unpause", &frozen.0]);
    docker(&["restart", "-t", "0", &frozen.0]);
    bus.clear();
    let injector = begin();
    bus.wait("it is frozen again", says(&frozen, 7, is_done))
        .await;
    assert!(is(&frozen, "Paused"));
    docker(&["unpause", &frozen.0]);
    assert!(!frozen.cat("db").0, "it has nothing");

    // Lifted, it is given again what its binding says.
    bus.clear();
    bus.publish_orders(plan(33, "apart"), vec![apart(&stopped, 8, OnRevoke::Stop)]);
    let is_given = swapped(1);
    bus.wait("it is given its file again", |reports| {
        let mut items = reports.iter().flat_map(|report| &report.items);
        items.any(|item| item.container.as_str() == frozen.0 && is_given(&item.fact))
    })
    .await;
    assert_eq!(frozen.cat("db"), (true, "one".into()));

    // One that is removed is gone.
    docker(&["rm", "-f", &stopped.0]);
    let is_gone = |state: &OrderState| *state == OrderState::Gone;
    bus.wait("it is gone", says(&stopped, 8, is_gone)).await;
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_has_no_network_any_more_and_its_file_is_gone() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(34, 1, b"one");
    bus.publish(plan(34, "cut"));
    let injector = Running::start(options(folder.path()), bus.clone(), docker_host(None));
    let label = "keywheel-test=cut";
    let run = [
        "run",
        "-d",
        "--network",
        "bridge",
        "--stop-timeout",
        "1",
        "--label",
        label,
    ];
    let what = [IMAGE, BUSYBOX, "sh", "-c", IDLE];
    let container = Container(docker(&[run.as_slice(), what.as_slice()].concat()));
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    let networks = || {
        let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        docker(&["inspect", "-f", format, &container.0])
    };
    assert_eq!(networks(), "bridge");
    let orders = vec![apart(&container, 7, OnRevoke::Disconnect)];
    bus.publish_orders(plan(34, "cut"), orders);
    bus.wait("it is cut off", says(&container, 7, is_done))
        .await;
    assert_eq!(networks(), "");
    assert!(!container.cat("db").0);
    bus.wait_facts("its file is gone", 1, |fact| *fact == Fact::Withdrawn)
        .await;
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_frozen_is_stopped_once_its_order_says_so() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(35, 1, b"one");
    bus.publish(plan(35, "frozen"));
    let injector = Running::start(options(folder.path()), bus.clone(), docker_host(None));
    let container = Container::start("frozen", &[], IDLE);
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    let orders = |action| vec![apart(&container, 7, action)];
    bus.publish_orders(plan(35, "frozen"), orders(OnRevoke::Pause));
    bus.wait("it is frozen", says(&container, 7, is_done)).await;
    assert!(is(&container, "Paused"));
    // The same order, of which something died in the meantime.
    bus.publish_orders(plan(35, "frozen"), orders(OnRevoke::Stop));
    let is_told = says(&container, 7, is_done);
    bus.wait("it is stopped", |reports| {
        is_told(reports) && !is(&container, "Running")
    })
    .await;
    injector.end_in(folder.path()).await;
}

/// An engine that freezes nothing.
struct Warm;

#[async_trait]
impl Otherwise for Warm {
    async fn pause(&self, _: &dyn ContainerHost, _: &ContainerId) -> Result<(), PortError> {
        Err(PortError::new(ErrorKind::Unavailable, "not now"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_could_not_be_frozen_is_told_as_apart_once_somebody_ends_it_by_hand() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(37, 1, b"one");
    bus.publish(plan(37, "warm"));
    let engine = Through::new(docker_host(None), Warm);
    let injector = Running::start(options(folder.path()), bus.clone(), engine);
    let container = Container::start("warm", &[], IDLE);
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    let orders = vec![apart(&container, 7, OnRevoke::Pause)];
    bus.publish_orders(plan(37, "warm"), orders);
    let by_hand = |state: &OrderState| matches!(state, OrderState::Failed { reason } if reason.contains("by hand"));
    bus.wait("it could not be", says(&container, 7, by_hand))
        .await;
    assert!(is(&container, "Running"));
    docker(&["kill", &container.0]);
    bus.wait("it is over", says(&container, 7, is_done)).await;
    injector.end_in(folder.path()).await;
}

/// What it has in its variable: version 1 or 2 of secret 36.
fn lifted(version: u64) -> Vec<PlannedBinding> {
    let reload = Reload::Restart {
        settle: Duration::from_millis(300),
        health_timeout: Duration::from_secs(60),
        rollout: None,
    };
    let target = env("TOKEN");
    vec![binding(36, "lifted", target, reload, Some(version))]
}

/// Under the runtime, of an engine of the test's own, so that it has a variable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_lifted_goes_on_with_its_variable_and_restarts_where_another_version_is_current()
 {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(engine) = Engine::start(&folder.path().join("injector.sock")) else {
        return;
    };
    let bus = FakeBus::new();
    bus.put(36, 1, b"one");
    bus.put(36, 2, b"two");
    bus.publish(lifted(1));
    let host = docker_host(Some(engine.host()));
    let injector = Running::start(options(folder.path()), bus.clone(), host);
    let is_complete = |report: &HostReport| report.complete;
    bus.wait("a complete report", |reports| {
        reports.last().is_some_and(is_complete)
    })
    .await;
    let placeholder = ["-e", "TOKEN={keywheel:test/secret-36}"];
    let script = "echo \"$TOKEN\"; exec /bin/busybox sleep 600";
    let said = engine.container("lifted", &placeholder, script);
    assert!(said.status.success(), "{said:?}");
    let id = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    // Its engine takes it away.
    let one = ManuallyDrop::new(Container(id));
    let about = |field: &str| {
        let format = format!("{{{{.State.{field}}}}}");
        engine.docker(&["inspect", "-f", &format, &one.0])
    };
    let orders = |number| vec![apart(&one, number, OnRevoke::Pause)];
    bus.wait_facts("it runs well", 1, reloaded(1)).await;
    let began = about("StartedAt");

    // Its variable counts as lost in quarantine, and again afterwards: nothing restarts it for that.
    bus.publish_orders(lifted(1), orders(7));
    bus.wait("it is frozen", says(&one, 7, is_done)).await;
    bus.wait_facts("its variable is lost", 1, |fact| *fact == Fact::Vanished)
        .await;
    assert_eq!(about("Paused"), "true");
    engine.docker(&["unpause", &one.0]);
    bus.clear();
    bus.publish(lifted(1));
    bus.wait_facts("its variable counts again", 1, reloaded(1))
        .await;
    assert_eq!(about("StartedAt"), began);

    // What became current meanwhile comes to it by a restart once that is lifted.
    bus.publish_orders(lifted(1), orders(8));
    bus.wait("it is frozen again", says(&one, 8, is_done)).await;
    bus.publish_orders(lifted(2), orders(8));
    engine.docker(&["unpause", &one.0]);
    assert_eq!(about("StartedAt"), began);
    bus.clear();
    bus.publish(lifted(2));
    bus.wait_facts("it runs well with the other", 1, reloaded(2))
        .await;
    assert_ne!(about("StartedAt"), began);
    let said = || engine.docker(&["logs", &one.0]);
    bus.wait("what it began with", |_| said() == "one\ntwo")
        .await;
    injector.end_in(folder.path()).await;
}
