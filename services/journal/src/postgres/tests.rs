//! The journal on a real server: the laws of the port, several openers, lost connections, damage.

mod gateways;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::deliveries::Deliveries;
use keywheel_engine::port::journal::{Decision, Journal};
use keywheel_postgres::Address;
use keywheel_testkit::conformance::journal::{decision, effect};
use keywheel_testkit::conformance::{self, journal_shared};
use keywheel_testkit::server::postgres::PostgresServer;

use super::PostgresJournal;
use crate::tests::options;
use crate::verify_database;

/// How long anything may take that is awaited.
const PATIENCE: Duration = Duration::from_secs(180);

fn address(url: &str) -> Address {
    Address::parse(url, None).unwrap()
}

async fn open(url: &str) -> PostgresJournal {
    PostgresJournal::open(&address(url), options(1))
        .await
        .unwrap()
}

/// Names of databases, one after the other.
#[derive(Default)]
struct Names(AtomicU32);

impl Names {
    fn next(&self, server: &PostgresServer) -> String {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        server.database(&format!("log_{n}"))
    }
}

/// Two handles on a new database.
async fn pair(url: String) -> journal_shared::Pair {
    let (one, other) = tokio::join!(open(&url), open(&url));
    journal_shared::Pair {
        one: Arc::new(one),
        other: Arc::new(other),
        end_turns: Box::new(|span| std::thread::sleep(span + Duration::from_millis(100))),
    }
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_the_port() {
    let (server, names) = (PostgresServer::start(), Names::default());
    let fresh = || async { Arc::new(open(&names.next(&server)).await) as Arc<dyn Journal> };
    conformance::journal::check(fresh).await;
    assert!(names.0.load(Ordering::Relaxed) > 10);
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_subscriptions() {
    let (server, names) = (PostgresServer::start(), Names::default());
    conformance::subscriptions::check(|| async {
        let pair = pair(names.next(&server)).await;
        [pair.one, pair.other]
    })
    .await;
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_deliveries() {
    let (server, names) = (PostgresServer::start(), Names::default());
    let ends = || async {
        let url = names.next(&server);
        let (one, other) = tokio::join!(open(&url), open(&url));
        let ends: [Arc<dyn Deliveries>; 2] = [Arc::new(one), Arc::new(other)];
        ends
    };
    conformance::deliveries::check(ends).await;
    let end = |span: Duration| std::thread::sleep(span + Duration::from_millis(100));
    conformance::deliveries::check_turns(&ends().await, end).await;
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_a_shared_log() {
    let (server, names) = (PostgresServer::start(), Names::default());
    journal_shared::check(|| pair(names.next(&server))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_decide_over_one_database() {
    let (server, names) = (PostgresServer::start(), Names::default());
    conformance::gateways::check(|| pair(names.next(&server))).await;
}

#[tokio::test]
async fn a_journal_belongs_to_one_deployment_one_key_and_one_name() {
    let server = PostgresServer::start();
    let url = server.database("owner");
    let none = verify_database(&address(&url)).await.unwrap_err();
    assert_eq!(none.kind, ErrorKind::NotFound);
    open(&url).await.close().await;
    let other = |change: fn(&mut crate::JournalOptions)| {
        let mut options = options(1);
        change(&mut options);
        options
    };
    let others = [
        (options(2), "another key"),
        (
            other(|o| o.deployment = keywheel_core::id::DeploymentId::from_bytes([8; 16])),
            "another deployment",
        ),
        (
            other(|o| "else/audit".clone_into(&mut o.origin)),
            "is the log",
        ),
    ];
    for (options, reason) in others {
        let refused = PostgresJournal::open(&address(&url), options).await;
        let refused = refused.map(drop).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        assert!(refused.text.contains(reason), "{}", refused.text);
    }
}

/// A process that is stopped inside of its append keeps the head's lock; the server takes it away.
#[tokio::test]
async fn a_process_paused_inside_an_append_stops_nobody_and_changes_nothing() {
    let server = PostgresServer::start();
    let url = server.database("paused");
    let (one, other) = (open(&url).await, open(&url).await);
    let mut stopped = one.pool.begin().await.unwrap();
    let tail = super::locked_tail(&mut stopped, &one.place).await.unwrap();
    let batch = one
        .signer
        .prepare(&tail, Default::default(), &[decision(1)]);
    super::write::batch(&mut stopped, batch.unwrap())
        .await
        .unwrap();
    let wanted = [decision(2)];
    let append = tokio::time::timeout(PATIENCE, other.append(1, &wanted));
    assert_eq!(append.await.unwrap().unwrap()[0].number, 1);
    // It wakes, and wants to commit what it has.
    assert!(stopped.commit().await.is_err());
    assert_eq!(one.head().await.unwrap(), other.head().await.unwrap());
    assert_eq!(one.verdict(decision(1).command).await.unwrap(), None);
    assert_eq!(one.verify().await.unwrap().faults, Vec::<String>::new());
}

/// The server is killed while appends run. What was acknowledged is there, what was refused is not, and
/// nobody has to open the journal again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_that_was_acknowledged_and_hides_nothing() {
    let mut server = PostgresServer::start();
    let url = server.database("killed");
    let journal = Arc::new(open(&url).await);
    let stop = Arc::new(AtomicBool::new(false));
    let kept = Arc::new(AtomicU32::new(0));
    let running = tokio::spawn(append_until(journal.clone(), stop.clone(), kept.clone()));
    for cycle in 1..=3_u32 {
        while kept.load(Ordering::Relaxed) < 4 * cycle {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        tokio::task::block_in_place(|| {
            server.kill();
            server.restart();
        });
    }
    while kept.load(Ordering::Relaxed) < 4 * 4 {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let outcomes = tokio::time::timeout(PATIENCE, running).await;
    let outcomes = outcomes.expect("appending hangs").unwrap();
    let kept = outcomes.iter().filter(|(_, outcome)| outcome.is_none());
    assert!(
        kept.count() > 8,
        "hardly anything was appended: {outcomes:?}"
    );
    for (n, outcome) in outcomes {
        let verdict = journal.verdict(decision(n).command).await.unwrap();
        match outcome {
            None => assert!(
                verdict.is_some(),
                "command {n} was acknowledged and is gone"
            ),
            Some(ErrorKind::Conflict) => assert_eq!(verdict, None, "command {n} was refused"),
            // May be either; the caller asks again under the same id.
            Some(kind) => assert_eq!(kind, ErrorKind::Unavailable),
        }
    }
    assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
}

/// Appends one command after the other; gives how each ended.
async fn append_until(
    journal: Arc<PostgresJournal>,
    stop: Arc<AtomicBool>,
    kept: Arc<AtomicU32>,
) -> Vec<(u64, Option<ErrorKind>)> {
    let mut outcomes = Vec::new();
    for n in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let next = journal.head().await.map(|head| head.number + 1);
        let appended = match next {
            Ok(next) => journal.append(next, &[decision(n)]).await.map(drop),
            Err(error) => Err(error),
        };
        if appended.is_ok() {
            kept.fetch_add(1, Ordering::Relaxed);
        }
        outcomes.push((n, appended.err().map(|error| error.kind)));
    }
    outcomes
}

/// Edits behind the journal's back, and the first fault each gives. The code that judges is the one
/// that SQLite's tests try with many more.
const EDITS: &[(&str, &str)] = &[
    (
        "UPDATE event SET bytes = '\\x00' WHERE number = 5",
        "event 5: its hash",
    ),
    (
        "UPDATE event SET signature = (SELECT signature FROM event WHERE number = 6) WHERE number = 5",
        "event 5: its signature",
    ),
    (
        "DELETE FROM event WHERE number = 300",
        "event 300 is missing",
    ),
    (
        "DELETE FROM event WHERE number = 600",
        "event 600 is missing",
    ),
    (
        "UPDATE event SET aggregate = 'secret/x' WHERE number = 5",
        "event 5: its column `aggregate`",
    ),
    (
        "UPDATE audit SET bytes = '\\x00' WHERE place = 5",
        "audit record 5: its bytes",
    ),
    (
        "DELETE FROM audit WHERE place >= 100",
        "audit records 100 to 599 are missing",
    ),
    (
        "UPDATE tile SET root = '\\x00' WHERE place = 0",
        "audit records 0 to 255",
    ),
    (
        "UPDATE head SET checkpoint = replace(checkpoint, '600', '601')",
        "checkpoint of size 600",
    ),
    (
        "UPDATE effect SET bytes = '\\x7b7d'",
        "its bytes are not the effect",
    ),
];

#[tokio::test]
async fn every_edit_is_named_while_gateways_run() {
    let server = PostgresServer::start();
    let url = server.database("sample");
    let journal = open(&url).await;
    for first in (1..=600).step_by(150) {
        let mut batch: Vec<Decision> = (first..first + 150).map(decision).collect();
        batch[0].effects = vec![effect(first)];
        journal.append(first, &batch).await.unwrap();
    }
    let (whole, key) = verify_database(&address(&url)).await.unwrap();
    assert_eq!((whole.events, whole.faults), (600, Vec::new()));
    assert!(key.starts_with(crate::tests::ORIGIN), "{key}");
    journal.close().await;
    for (n, (sql, wanted)) in EDITS.iter().enumerate() {
        let copy = format!("edited_{n}");
        let _made = server.psql(
            "postgres",
            &format!("CREATE DATABASE {copy} TEMPLATE sample"),
        );
        let sql = format!("SET search_path = keywheel_journal; {sql}");
        let _done = server.psql(&copy, &sql);
        let faults = verify_database(&address(&server.url(&copy))).await.unwrap();
        let faults = faults.0.faults;
        let first = faults.first().map(String::as_str).unwrap_or_default();
        assert!(first.contains(wanted), "{sql}: {faults:?}");
    }
}
