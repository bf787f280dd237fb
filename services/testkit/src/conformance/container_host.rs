//! The laws of [`ContainerHost`], as one run against an engine.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::container_host::{
    ContainerHost, EngineEvent, EngineEvents, ExecOutcome,
};

/// How long a hint may take before the run fails.
const HINT_LIMIT: Duration = Duration::from_secs(120);
/// How long the list endpoint may take during a create.
const BUDGET: Duration = Duration::from_secs(120);
/// How long a program in a container may take that ends by itself.
const EXEC_LIMIT: Duration = Duration::from_secs(120);
/// How long one is waited for that does not.
const EXEC_CUT: Duration = Duration::from_secs(1);
/// The one program that every container of the suite has.
pub const BUSYBOX: &str = "/bin/busybox";

/// A container the suite wants.
pub struct Given {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its env.
    pub env: Vec<String>,
}

/// What the suite needs beside the port: somebody who makes containers that run until stopped, and
/// have [`BUSYBOX`].
#[async_trait]
pub trait Fixture: Send {
    /// Makes and starts a container.
    async fn start(&mut self, given: &Given) -> ContainerId;
    /// Removes it, running or not.
    async fn remove(&mut self, id: &ContainerId);
}

/// Runs the whole suite.
///
/// # Panics
/// When a law is broken.
pub async fn run(host: &dyn ContainerHost, fixture: &mut dyn Fixture) {
    host.ping().await.unwrap();
    let given = Given {
        name: format!("keywheel-conformance-{}", std::process::id()),
        labels: BTreeMap::from([("app".to_owned(), "conformance".to_owned())]),
        env: vec![
            "PLAIN=do-not-keep".to_owned(),
            "TOKEN=x{keywheel:prod/token}".to_owned(),
        ],
    };
    let mut events = host.events().await.unwrap();
    let id = fixture.start(&given).await;
    hinted(&mut *events, &EngineEvent::Started(id.clone())).await;
    records_are_complete(host, &id, &given).await;
    a_program_ends_with_its_exit_code(host, &id).await;
    // Among the hints up to here is none of those programs.
    a_restart_keeps_the_id(host, &mut *events, &id).await;
    a_stop_keeps_the_record(host, &mut *events, &id).await;
    a_start_runs_it_again_and_once(host, &mut *events, &id).await;
    fixture.remove(&id).await;
    hinted(&mut *events, &EngineEvent::Removed(id.clone())).await;
    what_is_gone_is_none(host, &id).await;
}

async fn records_are_complete(host: &dyn ContainerHost, id: &ContainerId, given: &Given) {
    let listed = host.list().await.unwrap();
    let listed = listed
        .iter()
        .find(|record| record.facts.id == *id)
        .expect("a running container is listed");
    let inspected = host
        .inspect(id)
        .await
        .unwrap()
        .expect("a running container is known");
    assert_eq!(*listed, inspected);
    assert!(inspected.running && !inspected.paused && inspected.pid > 0);
    assert_eq!(inspected.facts.name, given.name);
    assert!(
        inspected.facts.image_digest.starts_with("sha256:"),
        "{}",
        inspected.facts.image_digest
    );
    assert!(!inspected.facts.image_name.is_empty() && !inspected.started_at.is_empty());
    assert!(!inspected.runtime.is_empty());
    for (key, value) in &given.labels {
        assert_eq!(inspected.facts.labels.get(key), Some(value));
    }
    assert_eq!(inspected.placeholders, ["TOKEN=x{keywheel:prod/token}"]);
    let early = host
        .inspect_during_create(id, BUDGET)
        .await
        .unwrap()
        .expect("known during create too");
    assert_eq!(early.facts, inspected.facts);
    // Without time for the list endpoint, the engine's own files answer.
    let early = host
        .inspect_during_create(id, Duration::ZERO)
        .await
        .unwrap()
        .expect("known without the engine");
    assert_eq!(early.facts.image_digest, inspected.facts.image_digest);
    assert_eq!(early.facts.labels, inspected.facts.labels);
}

async fn a_program_ends_with_its_exit_code(host: &dyn ContainerHost, id: &ContainerId) {
    for (words, limit, expected) in [
        (&[BUSYBOX, "true"][..], EXEC_LIMIT, ExecOutcome::Exited(0)),
        (&[BUSYBOX, "false"][..], EXEC_LIMIT, ExecOutcome::Exited(1)),
        (
            &[BUSYBOX, "sleep", "600"][..],
            EXEC_CUT,
            ExecOutcome::TimedOut,
        ),
    ] {
        let ended = host.exec(id, &owned(words), limit).await.unwrap();
        assert_eq!(ended, expected, "{words:?}");
    }
    let absent = owned(&["/bin/nowhere"]);
    let ended = host.exec(id, &absent, EXEC_LIMIT).await.unwrap();
    assert!(
        matches!(ended, ExecOutcome::Exited(126 | 127)),
        "a program that is not there: {ended:?}"
    );
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn a_restart_keeps_the_id(
    host: &dyn ContainerHost,
    events: &mut dyn EngineEvents,
    id: &ContainerId,
) {
    let before = host.inspect(id).await.unwrap().unwrap();
    host.restart(id).await.unwrap();
    let after = host.inspect(id).await.unwrap().unwrap();
    assert!(
        after.running && after.pid > 0,
        "it runs once restart returned"
    );
    assert_ne!(before.started_at, after.started_at);
    assert_eq!(before.facts, after.facts);
    hinted(events, &EngineEvent::Stopped(id.clone())).await;
    hinted(events, &EngineEvent::Started(id.clone())).await;
}

async fn a_stop_keeps_the_record(
    host: &dyn ContainerHost,
    events: &mut dyn EngineEvents,
    id: &ContainerId,
) {
    host.stop(id).await.unwrap();
    host.stop(id).await.unwrap();
    hinted(events, &EngineEvent::Stopped(id.clone())).await;
    let stopped = host
        .inspect(id)
        .await
        .unwrap()
        .expect("a stopped container is known");
    assert!(!stopped.running && stopped.refused.is_none());
    assert_eq!(stopped.pid, 0);
    let argv = owned(&[BUSYBOX, "true"]);
    assert_eq!(
        host.exec(id, &argv, EXEC_LIMIT).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    assert!(
        host.list()
            .await
            .unwrap()
            .iter()
            .all(|record| record.facts.id != *id)
    );
}

async fn a_start_runs_it_again_and_once(
    host: &dyn ContainerHost,
    events: &mut dyn EngineEvents,
    id: &ContainerId,
) {
    let before = host.inspect(id).await.unwrap().unwrap();
    host.start(id).await.unwrap();
    let after = host.inspect(id).await.unwrap().unwrap();
    assert!(
        after.running && after.pid > 0,
        "it runs once start returned"
    );
    assert_ne!(before.started_at, after.started_at);
    assert_eq!(before.facts, after.facts);
    hinted(events, &EngineEvent::Started(id.clone())).await;
    // It runs, and goes on running.
    host.start(id).await.unwrap();
    let again = host.inspect(id).await.unwrap().unwrap();
    assert_eq!(
        (again.pid, &again.started_at),
        (after.pid, &after.started_at)
    );
    let refused = host.refused().await.unwrap();
    assert!(
        refused.iter().all(|record| record.facts.id != *id),
        "nobody refused it"
    );
}

async fn what_is_gone_is_none(host: &dyn ContainerHost, id: &ContainerId) {
    assert!(host.inspect(id).await.unwrap().is_none());
    assert!(
        host.inspect_during_create(id, BUDGET)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        host.restart(id).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    let argv = owned(&[BUSYBOX, "true"]);
    assert_eq!(
        host.exec(id, &argv, EXEC_LIMIT).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(host.start(id).await.unwrap_err().kind, ErrorKind::NotFound);
}

/// Waits for a hint. Nobody but the suite runs a program in its container, and its own are no hints.
async fn hinted(events: &mut dyn EngineEvents, wanted: &EngineEvent) {
    let (EngineEvent::Started(id) | EngineEvent::Stopped(id) | EngineEvent::Removed(id)) = wanted
    else {
        panic!("the suite waits for no {wanted:?}");
    };
    let wait = async {
        loop {
            let hint = events.next().await;
            if hint == *wanted {
                return;
            }
            let is_ours = matches!(&hint, EngineEvent::Executed { id: of, .. } if of == id);
            assert!(!is_ours, "a program of ours is a hint");
        }
    };
    assert!(
        tokio::time::timeout(HINT_LIMIT, wait).await.is_ok(),
        "no hint {wanted:?}"
    );
}
