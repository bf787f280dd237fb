//! Gateways in processes of their own over one database: stopped, woken and killed at any moment.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use keywheel_core::audit::Principal;
use keywheel_core::command;
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, RotationId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::secret::{self, Spec};
use keywheel_engine::command_bus::{CommandBus, Handle, Parts, Submission};
use keywheel_engine::port::journal::{Journal, MAX_READ, Verdict};
use keywheel_testkit::conformance::journal::id;
use keywheel_testkit::fake::{FakeClock, FakeIds};
use keywheel_testkit::server::postgres::PostgresServer;

use super::{PATIENCE, open};

/// Set for the child: the database, and which ids are its own.
const CHILD: &str = "KEYWHEEL_TEST_GATEWAY_CHILD";
const CYCLES: u64 = 8;
/// Ids per process.
const OWN: u64 = 1_000_000;

/// The parent starts this same test as child programs, which decide until they are killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_are_stopped_woken_and_killed_lose_and_double_nothing() {
    if let Some(child) = std::env::var_os(CHILD) {
        let child = child.into_string().unwrap();
        let (own, url) = child.split_once(' ').unwrap();
        decide_until_killed(url, own.parse().unwrap()).await;
    }
    let server = PostgresServer::start();
    let url = server.database("gateways");
    let (handle, journal) = gateway(&url, 0).await;
    let mut acknowledged = Vec::new();
    let mut own = 0;
    for cycle in 1..=CYCLES {
        let mut child = Gateway::start(&url, cycle);
        acknowledged.push(child.first());
        std::thread::sleep(Duration::from_millis(
            RandomState::new().hash_one(cycle) % 120,
        ));
        child.signal("STOP");
        // The others go on, whatever it holds.
        for _ in 0..3 {
            own += 1;
            let verdict = handle.submit(apply(own)).await.unwrap();
            assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
            acknowledged.push(own);
        }
        child.signal("CONT");
        std::thread::sleep(Duration::from_millis(
            RandomState::new().hash_one(own) % 120,
        ));
        acknowledged.extend(child.kill());
    }
    let mut registered = Vec::new();
    loop {
        let after = registered.len() as u64;
        let events = journal.read(after, MAX_READ).await.unwrap();
        if events.is_empty() {
            break;
        }
        registered.extend(events.into_iter().map(|event| match event.event {
            Event::Secret(id, secret::Event::Registered { .. }) => id,
            other => panic!("nobody asked for {other:?}"),
        }));
    }
    for n in &acknowledged {
        let secret = SecretId::from_bytes(id(1, *n));
        let count = registered.iter().filter(|id| **id == secret).count();
        assert_eq!(count, 1, "command {n} was acknowledged");
    }
    let total = registered.len();
    registered.sort_unstable();
    registered.dedup();
    assert_eq!(registered.len(), total, "a command was decided twice");
    assert!(
        acknowledged.len() as u64 > 4 * CYCLES,
        "{}",
        acknowledged.len()
    );
    assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
}

fn apply(n: u64) -> Submission {
    Submission {
        id: CommandId::from_bytes(id(2, n)),
        principal: Principal::User {
            uid: 0,
            name: "root".to_owned(),
        },
        traceparent: None,
        command: command::Command::Apply(vec![command::Declaration::Secret {
            id: SecretId::from_bytes(id(1, n)),
            rotation: RotationId::from_bytes(id(4, n)),
            name: SecretName::parse(&format!("many/{n}")).unwrap(),
            spec: Spec::default(),
        }]),
    }
}

async fn gateway(url: &str, source: u64) -> (Handle, Arc<dyn Journal>) {
    let journal: Arc<dyn Journal> = Arc::new(open(url).await);
    let parts = Parts {
        journal: journal.clone(),
        clock: Arc::new(FakeClock::default()),
        ids: Arc::new(FakeIds::of_source(source)),
        failpoint: |_| (),
    };
    let started = CommandBus::start(parts).await.unwrap();
    tokio::spawn(started.bus.run());
    (started.handle, journal)
}

async fn decide_until_killed(url: &str, own: u64) {
    let (handle, _journal) = gateway(url, own).await;
    for n in own * OWN.. {
        let verdict = handle.submit(apply(n)).await;
        if matches!(verdict, Ok(Verdict::Accepted { .. })) {
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {n} .").unwrap();
            out.flush().unwrap();
        }
    }
}

/// A child program that decides.
struct Gateway {
    child: Child,
    lines: Receiver<u64>,
}

impl Gateway {
    fn start(url: &str, own: u64) -> Self {
        let test = "postgres::tests::gateways::gateways_that_are_stopped_woken_and_killed_lose_and_double_nothing";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, format!("{own} {url}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, receiver) = sync_channel(100_000);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // A torn line has no dot at its end.
                let number = line
                    .split_once("acknowledged ")
                    .and_then(|(_, rest)| rest.strip_suffix(" .").and_then(|n| n.parse().ok()));
                if let Some(number) = number {
                    let _gone = sender.send(number);
                }
            }
        });
        Self {
            child,
            lines: receiver,
        }
    }

    /// Waits for its first acknowledged command.
    fn first(&self) -> u64 {
        let first = self.lines.recv_timeout(PATIENCE);
        first.expect("the child decides nothing")
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Kills it and gives all that it acknowledged.
    fn kill(&mut self) -> Vec<u64> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }
}
