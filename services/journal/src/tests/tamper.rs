//! Edits behind the journal's back: the check names what was touched.

use std::path::{Path, PathBuf};

use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::journal::{Decision, Journal};
use keywheel_testkit::conformance::journal::{decision, effect};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::{open, options};
use crate::{SqliteJournal, verify, verify_file};

const EVENTS: u64 = 600;

/// A closed journal of 600 events and audit records: two full tiles and an open one.
async fn sample(directory: &Path) -> PathBuf {
    let path = directory.join("sample.db");
    let journal = open(&path).await;
    for first in (1..=EVENTS).step_by(150) {
        let mut batch: Vec<Decision> = (first..first + 150).map(decision).collect();
        batch[0].effects = vec![effect(first)];
        journal.append(first, &batch).await.unwrap();
    }
    journal.close().await.unwrap();
    path
}

/// Copies the sample, edits the copy, gives the faults.
async fn faults_after(sample: &Path, sql: &str) -> Vec<String> {
    let path = sample.with_file_name("edited.db");
    std::fs::copy(sample, &path).unwrap();
    edit(&path, sql).await;
    verify_file(&path).await.unwrap().0.faults
}

pub(super) async fn edit(path: &Path, sql: &str) {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

const SWAP_EVENTS: &str =
    "UPDATE event SET number = -1 WHERE number = 7; UPDATE event SET number = 7 WHERE number = 8;
    UPDATE event SET number = 8 WHERE number = -1";
const SWAP_LEAVES: &str =
    "UPDATE audit SET place = -1 WHERE place = 7; UPDATE audit SET place = 7 WHERE place = 8;
    UPDATE audit SET place = 8 WHERE place = -1";

/// Edits of events, the head and what goes with it, and the first fault each gives.
const EVENT_EDITS: &[(&str, &str)] = &[
    (
        "UPDATE event SET bytes = CAST(replace(CAST(bytes AS TEXT), 'version', 'Version') AS BLOB) WHERE number = 5",
        "event 5: its hash does not follow",
    ),
    (
        "UPDATE event SET bytes = x'00' WHERE number = 5",
        "event 5: its hash",
    ),
    (
        "UPDATE event SET hash = zeroblob(32) WHERE number = 5",
        "event 5: its hash",
    ),
    (
        "UPDATE event SET hash = x'00' WHERE number = 5",
        "event 5: its hash",
    ),
    (
        "UPDATE event SET signature = zeroblob(64) WHERE number = 5",
        "event 5: its signature",
    ),
    (
        "UPDATE event SET signature = (SELECT signature FROM event WHERE number = 6) WHERE number = 5",
        "event 5: its signature",
    ),
    (
        "UPDATE event SET signature = x'00' WHERE number = 5",
        "event 5: its signature",
    ),
    (
        "UPDATE event SET id = zeroblob(16) WHERE number = 5",
        "event 5: its column `id`",
    ),
    (
        "UPDATE event SET aggregate = 'secret/x' WHERE number = 5",
        "event 5: its column `aggregate`",
    ),
    (
        "UPDATE event SET aggregate_sequence = 900 WHERE number = 5",
        "event 5: its column `aggregate_sequence`",
    ),
    (
        "UPDATE event SET type = 'x' WHERE number = 5",
        "event 5: its column `type`",
    ),
    (
        "UPDATE event SET time = time + 1 WHERE number = 5",
        "event 5: its column `time`",
    ),
    (SWAP_EVENTS, "event 7: its hash"),
    ("DELETE FROM event WHERE number = 1", "event 1 is missing"),
    (
        "DELETE FROM event WHERE number = 300",
        "event 300 is missing",
    ),
    (
        "DELETE FROM event WHERE number BETWEEN 300 AND 310",
        "events 300 to 310 are missing",
    ),
    (
        "DELETE FROM event WHERE number = 600",
        "event 600 is missing",
    ),
    ("DELETE FROM event", "events 1 to 600 are missing"),
    (
        "UPDATE event SET number = 700 WHERE number = 600",
        "events 600 to 699 are missing",
    ),
    (
        "UPDATE event SET number = -5 WHERE number = 600",
        "event 600 is missing",
    ),
    (
        "UPDATE head SET number = 599",
        "event 600: the head ends before it",
    ),
    ("UPDATE head SET hash = zeroblob(32)", "head: its hash"),
    (
        "UPDATE process_checkpoint SET number = 3 WHERE name = 'rotation'",
        "process rotation: its checkpoint is 3",
    ),
    (
        "UPDATE command SET verdict = '{}' WHERE id = (SELECT MIN(id) FROM command)",
        "its answer cannot be read",
    ),
    (
        "UPDATE effect SET key = 'step/x' WHERE place = 1",
        "effect step/x",
    ),
    (
        "UPDATE effect SET bytes = x'7b7d' WHERE place = 1",
        "its bytes are not the effect",
    ),
];

#[tokio::test]
async fn every_edit_of_an_event_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let sample = sample(directory.path()).await;
    assert_eq!(
        faults_after(&sample, "SELECT 1").await,
        Vec::<String>::new()
    );
    for (sql, wanted) in EVENT_EDITS {
        let faults = faults_after(&sample, sql).await;
        assert!(
            faults.first().is_some_and(|fault| fault.contains(wanted)),
            "{sql}: {faults:?}"
        );
        assert!(faults.len() <= 3, "{sql}: {faults:?}");
    }
}

/// Edits of the audit tree, and the first fault each gives.
const AUDIT_EDITS: &[(&str, &str)] = &[
    (
        "UPDATE audit SET bytes = x'00' WHERE place = 5",
        "audit record 5: its bytes",
    ),
    (
        "UPDATE audit SET bytes = x'00' WHERE place = 599",
        "audit record 599: its bytes",
    ),
    (
        "UPDATE audit SET leaf_hash = zeroblob(32) WHERE place = 5",
        "audit record 5: its bytes",
    ),
    (
        "UPDATE audit SET leaf_hash = x'00' WHERE place = 5",
        "audit record 5: its bytes",
    ),
    (
        "DELETE FROM audit WHERE place = 0",
        "audit record 0 is missing",
    ),
    (
        "DELETE FROM audit WHERE place = 300",
        "audit record 300 is missing",
    ),
    (
        "DELETE FROM audit WHERE place = 599",
        "audit record 599 is missing",
    ),
    (
        "DELETE FROM audit WHERE place >= 100",
        "audit records 100 to 599 are missing",
    ),
    (
        "DELETE FROM audit WHERE place < 550",
        "audit records 0 to 549 are missing",
    ),
    ("DELETE FROM audit", "audit records 0 to 599 are missing"),
    (
        SWAP_LEAVES,
        "audit records 0 to 255: they do not give their tile's root",
    ),
    (
        "UPDATE audit SET place = 9223372036854775807 WHERE place = 599",
        "audit record 599 is missing",
    ),
    (
        "UPDATE audit SET place = -3 WHERE place = 599",
        "audit record 599 is missing",
    ),
    (
        "INSERT INTO audit SELECT 600, bytes, leaf_hash FROM audit WHERE place = 3",
        "audit record 600: the head ends before it",
    ),
    (
        "UPDATE tile SET root = zeroblob(32) WHERE place = 0",
        "audit records 0 to 255",
    ),
    (
        "UPDATE tile SET checkpoint = replace(checkpoint, '256', '257') WHERE place = 0",
        "checkpoint of size 256",
    ),
    (
        "UPDATE tile SET checkpoint = (SELECT checkpoint FROM tile WHERE place = 1) WHERE place = 0",
        "checkpoint of size 256: it signs another tree",
    ),
    (
        "DELETE FROM tile WHERE place = 1",
        "checkpoint of size 512 is missing",
    ),
    (
        "UPDATE head SET checkpoint = replace(checkpoint, '600', '601')",
        "checkpoint of size 600",
    ),
];

#[tokio::test]
async fn every_edit_of_the_audit_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let sample = sample(directory.path()).await;
    for (sql, wanted) in AUDIT_EDITS {
        let faults = faults_after(&sample, sql).await;
        assert!(
            faults.first().is_some_and(|fault| fault.contains(wanted)),
            "{sql}: {faults:?}"
        );
    }
    let removed = "DELETE FROM audit WHERE place >= 599; UPDATE head SET audit_size = 599, frontier = \
        CAST(substr(frontier, 1, 64) || zeroblob(4 * 32) AS BLOB)";
    assert!(!faults_after(&sample, removed).await.is_empty());
}

#[tokio::test]
async fn any_flipped_byte_of_a_proven_column_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let sample = sample(directory.path()).await;
    let columns = [
        ("event", "number", "bytes"),
        ("event", "number", "hash"),
        ("event", "number", "signature"),
        ("audit", "place", "bytes"),
        ("audit", "place", "leaf_hash"),
    ];
    for n in 0..25_u64 {
        let (table, key, column) = columns[usize::try_from(n).unwrap() % columns.len()];
        let row = 1 + n * 7919 % 590;
        let at = 1 + n * 31 % 32;
        let sql = format!(
            "UPDATE {table} SET {column} = CAST(substr({column}, 1, {at} - 1) || \
             CASE substr({column}, {at}, 1) WHEN x'41' THEN x'42' ELSE x'41' END || substr({column}, {at} + 1) AS BLOB) \
             WHERE {key} = {row}"
        );
        let faults = faults_after(&sample, &sql).await;
        let named = format!(
            "{} {row}: ",
            if table == "event" {
                "event"
            } else {
                "audit record"
            }
        );
        assert!(
            faults
                .first()
                .is_some_and(|fault| fault.starts_with(&named)),
            "{sql}: {faults:?}"
        );
    }
}

#[tokio::test]
async fn a_damaged_tail_is_not_opened_and_a_damaged_event_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let sample = sample(directory.path()).await;
    let path = directory.path().join("edited.db");
    for sql in [
        "DELETE FROM event WHERE number = 600",
        "UPDATE event SET signature = zeroblob(64) WHERE number = 600",
        "UPDATE head SET hash = zeroblob(32)",
        "UPDATE head SET frontier = x''",
        "UPDATE head SET checkpoint = ''",
        "DELETE FROM audit WHERE place = 599",
        "DELETE FROM head",
        "DELETE FROM log",
    ] {
        std::fs::copy(&sample, &path).unwrap();
        edit(&path, sql).await;
        let error = SqliteJournal::open(&path, options(1)).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Corrupt, "{sql}");
    }
    for sql in [
        "UPDATE event SET bytes = x'00' WHERE number = 5",
        "DELETE FROM event WHERE number = 5",
    ] {
        std::fs::copy(&sample, &path).unwrap();
        edit(&path, sql).await;
        let journal = SqliteJournal::open(&path, options(1)).await.unwrap();
        let error = journal.read(0, 10).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert!(error.text.contains("event 5"), "{}", error.text);
        assert_eq!(journal.read(0, 4).await.unwrap().len(), 4);
    }
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let error = SqliteJournal::open(&path, options(1)).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(
        verify_file(&directory.path().join("none.db"))
            .await
            .is_err_and(|e| e.kind == ErrorKind::NotFound)
    );
    let newer = directory.path().join("newer.db");
    open(&newer).await.close().await.unwrap();
    edit(&newer, "PRAGMA user_version = 2").await;
    let error = SqliteJournal::open(&newer, options(1)).await.err().unwrap();
    assert!(error.text.contains("format 2"), "{}", error.text);
}

#[tokio::test]
async fn many_faults_are_listed_up_to_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    let sample = sample(directory.path()).await;
    let faults = faults_after(&sample, "UPDATE audit SET bytes = x'00'").await;
    assert_eq!(faults.len(), verify::MAX_FAULTS + 1);
    assert!(faults[verify::MAX_FAULTS].contains("more than"));
}
