//! Appends: what comes back, what a reopened file says, what a failure leaves behind.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use keywheel_core::id::DeploymentId;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::journal::{Decision, Journal, MAX_READ};
use keywheel_schemas::event::decode;
use keywheel_seal::sign::Signature;
use keywheel_testkit::conformance::journal::{EVENT_CONTEXT, decision, effect, waiting};

use super::{ORIGIN, open, options};
use crate::batch;
use crate::checkpoint::Checkpoint;
use crate::merkle;
use crate::offline::{Export, verify_export};
use crate::tables::TILE_LEAVES;
use crate::{JournalOptions, SqliteJournal};

fn decisions(numbers: std::ops::RangeInclusive<u64>) -> Vec<Decision> {
    numbers.map(decision).collect()
}

#[tokio::test]
async fn stored_bytes_are_the_signed_cloud_event() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal.db")).await;
    let recorded = journal.append(1, &decisions(1..=8)).await.unwrap();
    let mut previous = [0; 32];
    for (event, n) in recorded.iter().zip(1..) {
        let (meta, read) = decode(&event.bytes).unwrap();
        assert_eq!(
            (meta.number, meta.id, read),
            (n, event.id, event.event.clone())
        );
        assert_eq!(
            (meta.previous_hash, meta.causation),
            (previous, decision(n).command)
        );
        assert_eq!(meta.source, "keywheel/test/gateway");
        // Sample secrets come round after seven.
        assert_eq!(meta.aggregate_sequence, if n == 8 { 2 } else { 1 });
        let signature = Signature::from_bytes(event.signature);
        assert_eq!(
            journal
                .public_key()
                .verify(EVENT_CONTEXT, &event.hash, &signature),
            Ok(())
        );
        previous = event.hash;
    }
    assert_eq!(EVENT_CONTEXT, batch::EVENT_CONTEXT);
}

#[tokio::test]
async fn a_reopened_journal_says_the_same_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let journal = open(&path).await;
    let mut asking = decision(1);
    asking.effects = vec![effect(1), effect(2)];
    journal.append(1, &[asking]).await.unwrap();
    journal.append(2, &decisions(2..=40)).await.unwrap();
    let before = (
        journal.head().await.unwrap(),
        journal.read(0, MAX_READ).await.unwrap(),
    );
    journal.close().await.unwrap();
    let journal = open(&path).await;
    assert_eq!(
        (
            journal.head().await.unwrap(),
            journal.read(0, MAX_READ).await.unwrap()
        ),
        before
    );
    assert_eq!(waiting(&journal).await, [effect(1), effect(2)]);
    let more = journal.append(41, &decisions(41..=43)).await.unwrap();
    let (meta, _) = decode(&more[0].bytes).unwrap();
    assert_eq!(
        (meta.previous_hash, meta.aggregate_sequence),
        (before.0.hash, 6)
    );
    assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn a_journal_that_was_dropped_without_close_can_be_opened_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    for n in 1..=10 {
        let journal = open(&path).await;
        assert_eq!(
            journal.append(n, &decisions(n..=n)).await.unwrap()[0].number,
            n
        );
    }
    assert_eq!(open(&path).await.head().await.unwrap().number, 10);
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/journal.db");
    let journal = open(&path).await;
    journal.append(1, &decisions(1..=1)).await.unwrap();
    for file in [
        "journal.db",
        "journal.db-wal",
        "journal.db-shm",
        "journal.db.lock",
    ] {
        let mode = std::fs::metadata(path.with_file_name(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let made = std::fs::metadata(path.parent().unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(made & 0o777, 0o700);
}

#[tokio::test]
async fn a_second_opener_is_told_who_holds_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let first = open(&path).await;
    let error = SqliteJournal::open(&path, options(1)).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(
        error.text.contains(&std::process::id().to_string()),
        "{}",
        error.text
    );
    drop(first);
    open(&path).await;
}

#[tokio::test]
async fn another_deployment_key_or_name_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    open(&path).await.close().await.unwrap();
    let other = JournalOptions {
        deployment: DeploymentId::from_bytes([8; 16]),
        ..options(1)
    };
    let name = JournalOptions {
        origin: "other".to_owned(),
        ..options(1)
    };
    let unusable = JournalOptions {
        origin: "has space".to_owned(),
        ..options(1)
    };
    let cases = [
        (other, "another deployment"),
        (options(2), "another key"),
        (name, "`keywheel.test/audit`"),
        (unusable, "name"),
    ];
    for (options, text) in cases {
        let error = SqliteJournal::open(&path, options).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.text.contains(text), "{}", error.text);
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal.db")).await;
    journal.append(1, &decisions(1..=2)).await.unwrap();
    let before = journal.head().await.unwrap();
    journal.on_writer("PRAGMA max_page_count = 1").await;
    let error = journal.append(3, &decisions(3..=300)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.text.contains("is full; free space"), "{}", error.text);
    assert_eq!(journal.head().await.unwrap(), before);
    assert_eq!(journal.verdict(decision(3).command).await.unwrap(), None);
    journal
        .on_writer("PRAGMA max_page_count = 1073741823")
        .await;
    assert_eq!(
        journal.append(3, &decisions(3..=300)).await.unwrap().len(),
        298
    );
    assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn after_a_failed_write_nothing_more_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal.db")).await;
    journal.append(1, &decisions(1..=1)).await.unwrap();
    journal
        .on_writer("ALTER TABLE process_checkpoint RENAME TO away")
        .await;
    let error = journal.append(2, &decisions(2..=2)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    journal
        .on_writer("ROLLBACK; ALTER TABLE away RENAME TO process_checkpoint")
        .await;
    let error = journal.append(2, &decisions(2..=2)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.text.contains("restart"), "{}", error.text);
    assert_eq!(journal.read(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_append_that_was_dropped_half_way_is_whole_or_absent() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal.db")).await;
    for n in 0..60_u64 {
        let next = journal.head().await.unwrap().number + 1;
        let batch = decisions(1000 * n + 1..=1000 * n + 20);
        let budget = Duration::from_micros(n * 40);
        let _ = tokio::time::timeout(budget, journal.append(next, &batch)).await;
        // A stranger's append settles what the dropped one left behind.
        let settle = [decision(1_000_000 + n)];
        let mut settled = journal.append(next, &settle).await;
        if settled.is_err() {
            settled = journal.append(next + 20, &settle).await;
        }
        assert_eq!(settled.unwrap().len(), 1);
    }
    assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn proofs_hold_across_tiles_and_checkpoints_are_kept_for_every_full_one() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal.db")).await;
    let count = 2 * TILE_LEAVES + 70;
    for first in (1..=count).step_by(100) {
        journal
            .append(first, &decisions(first..=count.min(first + 99)))
            .await
            .unwrap();
    }
    let head = journal.head().await.unwrap();
    let signed = Checkpoint::verify(&head.checkpoint, ORIGIN, &journal.public_key()).unwrap();
    assert_eq!((signed.size, signed.root), (count, head.audit_root));
    for size in [1, 255, 256, 257, 511, 512, 513, count] {
        let root = root_at(&journal, size).await;
        for index in [0, 1, 254, 255, 256, 300, 511, 512, count - 1]
            .into_iter()
            .filter(|i| *i < size)
        {
            let leaf = journal.read_audit(index, 1).await.unwrap().remove(0);
            let path = journal.inclusion_proof(index, size).await.unwrap();
            let hash = merkle::leaf_hash(&leaf.bytes);
            assert!(
                merkle::verify_inclusion(&hash, index, size, &path, &root),
                "{index} of {size}"
            );
        }
        let path = journal.consistency_proof(size, count).await.unwrap();
        assert!(
            merkle::verify_consistency((size, &root), (count, &head.audit_root), &path),
            "{size}"
        );
    }
    let error = journal.consistency_proof(1, count + 1).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

async fn root_at(journal: &SqliteJournal, size: u64) -> merkle::Hash {
    let mut frontier = merkle::Frontier::new();
    let leaves = journal.read_audit(0, MAX_READ).await.unwrap();
    leaves
        .iter()
        .take(usize::try_from(size).unwrap())
        .for_each(|leaf| frontier.push(merkle::leaf_hash(&leaf.bytes)));
    frontier.root()
}

#[tokio::test]
async fn an_export_of_the_journal_verifies_offline() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal.db")).await;
    journal.append(1, &decisions(1..=300)).await.unwrap();
    let leaves = journal.read_audit(0, MAX_READ).await.unwrap();
    let leaves = leaves.iter().map(|leaf| leaf.bytes.to_vec()).collect();
    let head = journal.head().await.unwrap();
    let export = Export::new(
        ORIGIN.to_owned(),
        journal.public_key().to_bytes(),
        head.checkpoint,
        leaves,
    );
    let report = verify_export(&export).unwrap();
    assert_eq!((report.records, report.root), (300, head.audit_root));
    assert_eq!(Export::from_json(&export.to_json().unwrap()), Ok(export));
}
