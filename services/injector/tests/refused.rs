//! Starts that are refused though nothing is known of the container: each is a fact, and on the
//! disk before the runtime has its answer.
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

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::ContainerId;
use keywheel_core::report::DeniedStart;
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::port::container_host::{
    ContainerHost, ContainerRecord, EngineEvents, ExecOutcome,
};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_injector::Injector;
use keywheel_seal::OsEntropy;
use tokio_util::sync::CancellationToken;

use crate::support::running::Running;
use crate::support::settings::options;
use crate::support::{FakeBus, can_run};

/// An engine that has no containers, or does not answer at all.
struct Engine {
    answers: bool,
}

impl Engine {
    fn answer<T>(&self, answer: T) -> Result<T, PortError> {
        if self.answers {
            Ok(answer)
        } else {
            Err(PortError::new(
                ErrorKind::Unavailable,
                "the engine is silent",
            ))
        }
    }
}

#[async_trait]
impl ContainerHost for Engine {
    async fn list(&self) -> Result<Vec<ContainerRecord>, PortError> {
        self.answer(Vec::new())
    }
    async fn inspect(&self, _: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        self.answer(None)
    }
    async fn inspect_during_create(
        &self,
        _: &ContainerId,
        _: Duration,
    ) -> Result<Option<ContainerRecord>, PortError> {
        self.answer(None)
    }
    async fn restart(&self, _: &ContainerId) -> Result<(), PortError> {
        self.answer(())
    }
    async fn stop(&self, _: &ContainerId) -> Result<(), PortError> {
        self.answer(())
    }
    async fn exec(
        &self,
        _: &ContainerId,
        _: &[String],
        _: Duration,
    ) -> Result<ExecOutcome, PortError> {
        self.answer(ExecOutcome::Exited(0))
    }
    async fn start(&self, _: &ContainerId) -> Result<(), PortError> {
        self.answer(())
    }
    async fn refused(&self) -> Result<Vec<ContainerRecord>, PortError> {
        self.answer(Vec::new())
    }
    async fn events(&self) -> Result<Box<dyn EngineEvents>, PortError> {
        Err(PortError::new(ErrorKind::Unavailable, "no events here"))
    }
    async fn ping(&self) -> Result<(), PortError> {
        self.answer(())
    }
}

/// Asks as the runtime does; the answer's line.
async fn ask(socket: &Path, question: String) -> serde_json::Value {
    let socket = socket.to_owned();
    let asked = move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(question.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    tokio::task::spawn_blocking(asked).await.unwrap()
}

fn spooled(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).unwrap();
    // Another report may be on its way there, under a name that it does not keep.
    files
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        .collect()
}

/// Asks on behalf of an unknown container and gives the fact of the refusal.
async fn refused(answers: bool, op: &str) -> Option<DeniedStart> {
    if !can_run() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.publish(Vec::new());
    // What is not sent yet has to be on the disk.
    bus.refuse_reports(true);
    let engine = Arc::new(Engine { answers });
    let mut running = Running::start(options(folder.path()), bus.clone(), engine);
    running.wait_plan().await;
    let id = "b".repeat(64);
    let question = serde_json::json!({
        "v": 1, "op": op, "id": id, "pid": 1, "env": ["A=x{keywheel:prod/db}"],
    });
    let socket = folder.path().join("injector.sock");
    let said = ask(&socket, format!("{question}\n")).await;
    assert_eq!(said["ok"], false, "{said}");
    let on_disk = spooled(&folder.path().join("spool"));
    assert!(on_disk.contains(&id) && on_disk.contains("prod/db"));
    bus.refuse_reports(false);
    bus.wait("the refused start", |reports| {
        reports.iter().any(|report| !report.denied.is_empty())
    })
    .await;
    let reports = bus.reports();
    let all: Vec<_> = reports.iter().flat_map(|report| &report.denied).collect();
    assert_eq!(all.len(), 1, "said once: {all:?}");
    assert_eq!(all[0].container.as_str(), id);
    let start = all[0].clone();
    running.end().await;
    Some(start)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_tells_that_it_serves_only_when_containers_can_start() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for can_serve in [false, true] {
        let mut options = options(folder.path());
        if !can_serve {
            options.runtime_socket = folder.path().join("spool");
            std::fs::create_dir_all(options.runtime_socket.join("not a socket")).unwrap();
        }
        let socket = options.runtime_socket.clone();
        let injector = Injector::new(
            options,
            FakeBus::new() as _,
            Arc::new(Engine { answers: true }),
            Arc::new(SystemClock::new()),
            Arc::new(SystemIds),
            Arc::new(OsEntropy),
        );
        let stop = CancellationToken::new();
        let (tell, told) = tokio::sync::oneshot::channel();
        let serving = move || tell.send(()).unwrap();
        let task = tokio::spawn(injector.serve(stop.clone(), serving));
        assert_eq!(told.await.is_ok(), can_serve);
        assert_eq!(UnixStream::connect(&socket).is_ok(), can_serve);
        stop.cancel();
        assert_eq!(task.await.unwrap().is_ok(), can_serve);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_the_engine_has_no_record_of_is_refused_on_record() {
    let Some(start) = refused(true, "resolve").await else {
        return;
    };
    assert!(start.reason.contains("has no record"), "{}", start.reason);
    assert_eq!(start.secret, "prod/db");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_engine_does_not_answer_a_start_is_refused_on_record() {
    let Some(start) = refused(false, "resolve").await else {
        return;
    };
    assert!(start.reason.contains("the engine is silent; next: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_question_without_a_first_is_refused_on_record() {
    let Some(start) = refused(true, "attach").await else {
        return;
    };
    assert!(start.reason.contains("nothing was resolved"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_is_never_refused_and_gets_nothing_in_a_container_nobody_knows() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.publish(Vec::new());
    let engine = Arc::new(Engine { answers: false });
    let mut running = Running::start(options(folder.path()), bus.clone(), engine);
    running.wait_plan().await;
    let at = |name: &str| folder.path().join(name);
    let (creates, execs) = (at("injector.sock"), at("injector-exec.sock"));
    let known = "b".repeat(64);
    let known = known.as_str();
    for (socket, version, id, env) in [
        (&execs, 1, known, "A={keywheel:prod/db}"),
        (&execs, 1, known, "A={keywheel:prod"),
        (&execs, 1, "short", "A={keywheel:prod/db}"),
        // In words of another version, and at the socket for creates.
        (&execs, 2, known, "A={keywheel:prod/db}"),
        (&creates, 1, known, "A={keywheel:prod/db}"),
        (&creates, 2, known, "A={keywheel:prod/db}"),
    ] {
        let question = serde_json::json!({
            "v": version, "op": "exec", "id": id, "env": [env], "args": ["env"],
        });
        let said = ask(socket, format!("{question}\n")).await;
        assert_eq!(said["ok"], true, "{said}");
        let env = said["env"].as_object();
        assert!(env.is_none_or(serde_json::Map::is_empty), "{said}");
    }
    running.end().await;
    let reports = bus.reports();
    assert!(reports.iter().all(|report| report.denied.is_empty()));
}
