//! Starts that were refused come back once they can be served, and nothing else is started.
//!
//! Needs root and a built `keywheel-nsjoin`. Without them it says so and stops, except in CI, where
//! it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::{ContainerFacts, Reload};
use keywheel_core::id::ContainerId;
use keywheel_core::plan::PlannedBinding;
use keywheel_engine::port::container_host::StartRefusal;
use keywheel_testkit::fake::FakeContainerHost;

use crate::support::running::Running;
use crate::support::settings::options;
use crate::support::{FakeBus, LIMIT, binding, can_run, env, file};

const PLACEHOLDER: &str = "TOKEN={keywheel:test/secret-1}";

fn id(number: u8) -> ContainerId {
    ContainerId::parse(&format!("{number:064x}")).unwrap()
}

/// A container of the engine under the wrapper, with the label that bindings ask for.
fn create(engine: &FakeContainerHost, number: u8, label: &str, placeholders: &[&str]) {
    let facts = ContainerFacts {
        id: id(number),
        name: format!("app-{number}"),
        image_digest: "sha256:1".to_owned(),
        image_name: "keywheel-test-injector:busybox".to_owned(),
        labels: BTreeMap::from([("keywheel-test".to_owned(), label.to_owned())]),
        user: None,
    };
    engine.create(facts, "keywheel", placeholders);
}

/// The variable of `app` and the file of `other`.
fn plan(variable: Option<u64>, db: Option<u64>) -> Vec<PlannedBinding> {
    vec![
        binding(1, "app", env("TOKEN"), Reload::None, variable),
        binding(2, "other", file("db"), Reload::None, db),
    ]
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "{what}");
}

fn starting(folder: &Path, bus: &Arc<FakeBus>, engine: &FakeContainerHost) -> Running {
    Running::start(options(folder), bus.clone(), Arc::new(engine.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_before_the_injector_came_starts_once_it_can_be_served() {
    if !can_run() {
        return;
    }
    let (folder, engine) = (tempfile::tempdir().unwrap(), FakeContainerHost::new());
    let bus = FakeBus::new();
    bus.put(1, 1, b"one");
    bus.put(2, 1, b"two");
    create(&engine, 1, "app", &[PLACEHOLDER]);
    create(&engine, 2, "other", &[]);
    // Made only: nobody's start was refused.
    create(&engine, 3, "app", &[PLACEHOLDER]);
    // Without any binding: ours, since it is our socket at which nobody answered; and somebody else's.
    create(&engine, 4, "none", &[]);
    create(&engine, 5, "none", &[]);
    let (ours, other) = (
        folder.path().join("injector.sock"),
        "/run/other.sock".into(),
    );
    // The same, but nobody wants it: it has no restart policy, and nobody knows when it was refused.
    create(&engine, 6, "none", &[]);
    let unwanted = StartRefusal {
        nobody_at: Some(ours.clone()),
        ..StartRefusal::default()
    };
    engine.refuse_as(&id(6), unwanted);
    engine.refuse(&id(4), Some(ours));
    engine.refuse(&id(5), Some(other));
    engine.refuse(&id(1), None);
    engine.refuse(&id(2), None);
    bus.publish(plan(None, Some(1)));
    let mut running = starting(folder.path(), &bus, &engine);
    running.wait_plan().await;
    // The one that can be served starts, the one without a version does not.
    let asked = || engine.asked_starts().into_iter().collect::<BTreeSet<_>>();
    until("the file's, and the one without", || {
        asked() == BTreeSet::from([id(2), id(4)])
    })
    .await;
    bus.publish(plan(Some(1), Some(1)));
    until("the variable's", || {
        asked() == BTreeSet::from([id(1), id(2), id(4)])
    })
    .await;
    running.end_in(folder.path()).await;
    // Nothing is under way any more: neither one that was made only, nor another's, nor an unwanted one.
    assert_eq!(asked(), BTreeSet::from([id(1), id(2), id(4)]));
    assert_eq!(engine.asked_starts().len(), 3, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_in_vain_is_repeated_with_the_next_version_and_after_a_resync() {
    if !can_run() {
        return;
    }
    let (folder, engine) = (tempfile::tempdir().unwrap(), FakeContainerHost::new());
    let bus = FakeBus::new();
    for version in 1..=2 {
        bus.put(1, version, b"one");
    }
    bus.put(2, 1, b"two");
    create(&engine, 1, "app", &[PLACEHOLDER]);
    create(&engine, 2, "other", &[]);
    engine.refuse(&id(1), None);
    engine.refuse(&id(2), None);
    engine.refuse_starts(true);
    bus.publish(plan(Some(1), None));
    let mut running = starting(folder.path(), &bus, &engine);
    running.wait_plan().await;
    let count = |number: u8| {
        let asked = engine.asked_starts().into_iter();
        asked.filter(|one| *one == id(number)).count()
    };
    until("the first", || count(1) == 1).await;
    // A change of another binding: what it lets start tells that the first was looked at again.
    bus.publish(plan(Some(1), Some(1)));
    until("the other's", || count(2) == 1).await;
    assert_eq!(count(1), 1, "repeated with the same");
    bus.publish(plan(Some(2), Some(1)));
    until("with the next version", || count(1) == 2).await;
    assert_eq!(count(2), 1, "repeated with the same");
    engine.refuse_starts(false);
    engine.set_down(false);
    until("after a resync", || (count(1), count(2)) == (3, 2)).await;
    running.end_in(folder.path()).await;
    assert_eq!((count(1), count(2)), (3, 2));
}

/// Asks as the runtime does at a container's create; the answer's line.
async fn ask(folder: &Path, number: u8) -> String {
    let question = serde_json::json!({
        "v": 1, "op": "resolve", "id": id(number).as_str(), "env": [PLACEHOLDER],
    });
    let socket = folder.join("injector.sock");
    let asked = move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream
            .write_all(format!("{question}\n").as_bytes())
            .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    tokio::task::spawn_blocking(asked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_injector_refused_is_remembered_over_its_crash() {
    if !can_run() {
        return;
    }
    let (folder, engine) = (tempfile::tempdir().unwrap(), FakeContainerHost::new());
    let bus = FakeBus::new();
    bus.put(1, 1, b"one");
    create(&engine, 1, "app", &[PLACEHOLDER]);
    engine.refuse(&id(1), None);
    bus.publish(plan(None, None));
    let mut running = starting(folder.path(), &bus, &engine);
    running.wait_plan().await;
    let said = ask(folder.path(), 1).await;
    assert!(said.contains("\"ok\":false"), "{said}");
    let file = folder.path().join("run/state/refused.json");
    until("the file", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains(id(1).as_str()))
    })
    .await;
    running.abandon().await;
    let mut running = starting(folder.path(), &bus, &engine);
    running.wait_plan().await;
    bus.publish(plan(Some(1), None));
    until("its start", || engine.asked_starts() == [id(1)]).await;
    // Once it runs it is forgotten.
    until("an empty file", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text == "[]")
    })
    .await;
    running.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_injector_refused_itself_is_its_own_after_its_crash() {
    if !can_run() {
        return;
    }
    let (folder, engine) = (tempfile::tempdir().unwrap(), FakeContainerHost::new());
    let bus = FakeBus::new();
    // Without a binding, and in the engine's words of nobody's: only who refused it starts it.
    create(&engine, 7, "none", &[]);
    engine.refuse(&id(7), None);
    engine.refuse_starts(true);
    bus.publish(plan(None, None));
    let mut running = starting(folder.path(), &bus, &engine);
    running.wait_plan().await;
    let said = ask(folder.path(), 7).await;
    assert!(said.contains("\"ok\":false"), "{said}");
    until("a start in vain", || engine.asked_starts().contains(&id(7))).await;
    let file = folder.path().join("run/state/refused.json");
    until("the file", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains(id(7).as_str()))
    })
    .await;
    running.abandon().await;
    let in_vain = engine.asked_starts().len();
    engine.refuse_starts(false);
    let mut running = starting(folder.path(), &bus, &engine);
    running.wait_plan().await;
    until("its start", || engine.asked_starts().len() > in_vain).await;
    assert!(engine.asked_starts().iter().all(|asked| *asked == id(7)));
    running.end_in(folder.path()).await;
}
