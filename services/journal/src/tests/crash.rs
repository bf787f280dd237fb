//! kill -9 of a program that appends: what was acknowledged is there, the rest is whole or absent.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use keywheel_engine::port::journal::Journal;
use keywheel_testkit::conformance::journal::decision;

use super::open;

/// Set for the child: where it appends.
const CHILD: &str = "KEYWHEEL_TEST_JOURNAL_CHILD";
const KILLS: u64 = 30;

/// The parent starts this same test as a child program, which appends until it is killed.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    if let Some(path) = std::env::var_os(CHILD) {
        append_until_killed(Path::new(&path)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let mut acknowledged = 0;
    for cycle in 0..KILLS {
        let last = run_and_kill(&path, RandomState::new().hash_one(cycle) % 40);
        acknowledged = acknowledged.max(last);
        let journal = open(&path).await;
        let head = journal.head().await.unwrap();
        assert!(
            head.number >= acknowledged,
            "cycle {cycle}: {acknowledged} acknowledged, {} there",
            head.number
        );
        if acknowledged > 0 {
            let event = journal.read(acknowledged - 1, 1).await.unwrap().remove(0);
            assert_eq!(event.id, decision(acknowledged).events[0].0);
            assert!(
                journal
                    .verdict(decision(acknowledged).command)
                    .await
                    .unwrap()
                    .is_some()
            );
        }
        assert_eq!(head.audit_size, head.number);
        assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
    }
    assert!(
        acknowledged > KILLS,
        "the child hardly appended: {acknowledged}"
    );
}

/// Gives the last number the child acknowledged before it died.
fn run_and_kill(path: &Path, millis: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::crash::what_was_acknowledged_survives_a_kill",
            "--nocapture",
        ])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let number = |line: String| {
        line.split_once("acknowledged ")
            .and_then(|(_, n)| n.parse::<u64>().ok())
    };
    let mut last = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(number)
        .unwrap_or(0);
    std::thread::sleep(Duration::from_millis(millis));
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        // The last line may be torn; a torn number is only ever smaller or unreadable.
        last = number(line).unwrap_or(last).max(last);
    }
    last
}

async fn append_until_killed(path: &Path) {
    let journal = open(path).await;
    let mut next = journal.head().await.unwrap().number + 1;
    loop {
        let batch: Vec<_> = (next..=next + next % 7).map(decision).collect();
        let recorded = journal.append(next, &batch).await.unwrap();
        next = recorded.last().unwrap().number + 1;
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {}", next - 1).unwrap();
        out.flush().unwrap();
    }
}
