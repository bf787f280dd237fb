//! Old audit records leave: what is left verifies, what was exported before is the beginning of it, and what somebody
//! else took is named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keywheel_core::audit::{Outcome, Principal, Role};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::journal::{Decision, Journal as _, MAX_READ, REMOVAL_UNIT};
use keywheel_testkit::conformance::journal::decision;

use super::tamper::edit;
use super::{ORIGIN, open};
use crate::merkle::verify_consistency;
use crate::offline::{Export, ExportError, verify_export};
use crate::retention::{TILES_AT_ONCE, VERB, object};
use crate::{SqliteJournal, removed_hashes_of_file, verify_file};

/// Records before it is said that some leave.
const RECORDS: u64 = 600;
/// How many leave.
const GONE: u64 = 2 * REMOVAL_UNIT;
/// What is in every record, and nowhere when it is gone.
const MARK: &str = "a word that only this record has, number ";

fn marked(n: u64) -> Decision {
    let mut decision = decision(n);
    decision.audit[0].reason = format!("{MARK}{n}!");
    decision
}

/// A decision whose one record says that records leave.
fn letting_go(n: u64, end: u64) -> Decision {
    let mut decision = decision(n);
    decision.events.clear();
    let record = &mut decision.audit[0];
    record.principal = Principal::Service(Role::Gateway);
    record.verb = VERB.to_owned();
    record.object = object(&(0..end)).unwrap();
    record.outcome = Outcome::Allowed;
    decision
}

/// A decision whose one record says that records stay, from this one on.
fn staying(n: u64, first: u64) -> Decision {
    let mut decision = letting_go(n, GONE);
    let record = &mut decision.audit[0];
    record.object = object(&(first..GONE)).unwrap();
    record.outcome = Outcome::Rejected;
    decision
}

/// The stored hashes of the records before an index.
async fn leaf_hashes(path: &Path, end: u64) -> Vec<Vec<u8>> {
    let mut connection = crate::file::open_reader(path).await.unwrap();
    let hashes = sqlx::query_scalar("SELECT leaf_hash FROM audit WHERE place < $1 ORDER BY place")
        .bind(i64::try_from(end).unwrap())
        .fetch_all(&mut connection)
        .await
        .unwrap();
    crate::file::close(path, connection).await.unwrap();
    hashes
}

async fn filled(path: &Path, records: u64) -> SqliteJournal {
    let journal = open(path).await;
    for first in (1..=records).step_by(200) {
        let batch: Vec<Decision> = (first..first + 200).map(marked).collect();
        journal.append(first, &batch).await.unwrap();
    }
    journal
}

async fn exported(journal: &SqliteJournal) -> Export {
    let begins = journal.audit_begins().await.unwrap();
    let leaves = journal.read_audit(begins, MAX_READ).await.unwrap();
    let leaves = leaves.iter().map(|leaf| leaf.bytes.to_vec()).collect();
    let head = journal.head().await.unwrap();
    let key = journal.public_key().to_bytes();
    let mut export = Export::new(ORIGIN.to_owned(), key, head.checkpoint, leaves);
    export.removed = journal.removed_hashes(0, MAX_READ).await.unwrap();
    export
}

/// Which of the marked records are in these bytes.
fn marks(bytes: &[u8]) -> BTreeSet<u64> {
    let places = bytes.windows(MARK.len()).enumerate();
    let places = places.filter(|(_, window)| *window == MARK.as_bytes());
    let number = |(at, _): (usize, &[u8])| {
        let digits = bytes[at + MARK.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        let digits: String = digits.map(|byte| char::from(*byte)).collect();
        digits.parse().unwrap()
    };
    places.map(number).collect()
}

/// A closed journal some of whose records have left.
async fn sample(directory: &Path) -> PathBuf {
    let path = directory.join("sample.db");
    let journal = filled(&path, RECORDS).await;
    let said = letting_go(RECORDS + 1, GONE);
    journal.append(RECORDS + 1, &[said]).await.unwrap();
    assert_eq!(journal.remove_audit(GONE).await.unwrap(), GONE);
    journal.close().await.unwrap();
    path
}

async fn faults_after(sample: &Path, sql: &str) -> Vec<String> {
    let path = sample.with_file_name("edited.db");
    std::fs::copy(sample, &path).unwrap();
    edit(&path, sql).await;
    verify_file(&path).await.unwrap().0.faults
}

#[tokio::test]
async fn what_was_exported_before_is_the_beginning_of_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let journal = filled(&path, RECORDS).await;
    let (before, head) = (exported(&journal).await, journal.head().await.unwrap());
    verify_export(&before).unwrap();
    let said = letting_go(RECORDS + 1, GONE);
    journal.append(RECORDS + 1, &[said]).await.unwrap();
    assert_eq!(journal.remove_audit(GONE).await.unwrap(), GONE);
    journal.append(RECORDS + 1, &[marked(900)]).await.unwrap();

    let mut after = exported(&journal).await;
    after.history = vec![before.checkpoint.clone()];
    let report = verify_export(&after).unwrap();
    assert_eq!((report.records, report.removed), (RECORDS + 2, GONE));
    assert_eq!(Export::from_json(&after.to_json().unwrap()), Ok(after));
    verify_export(&before).unwrap();
    // Of every size there was, whole tiles or not.
    let now = journal.head().await.unwrap();
    let old = (head.audit_size, &head.audit_root);
    let new = (now.audit_size, &now.audit_root);
    let proof = journal.consistency_proof(old.0, new.0).await.unwrap();
    assert!(verify_consistency(old, new, &proof));
    for size in [1, 255, 256, 300, 511, 513] {
        let mut tree = crate::merkle::Frontier::new();
        let leaves = before
            .leaf_hashes
            .iter()
            .take(usize::try_from(size).unwrap());
        leaves.for_each(|leaf| tree.push(*leaf));
        let proof = journal.consistency_proof(size, new.0).await.unwrap();
        assert!(
            verify_consistency((size, &tree.root()), new, &proof),
            "{size}"
        );
    }
    let found = journal.verify().await.unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!(
        (found.audit_records, found.removed_records),
        (RECORDS + 2 - GONE, GONE)
    );
    assert_eq!(found.events, RECORDS + 1, "no event leaves");
}

#[tokio::test]
async fn of_what_is_gone_no_byte_is_left_and_what_stays_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = sample(directory.path()).await;
    let bytes = std::fs::read(&path).unwrap();
    let there = marks(&bytes);
    let stay: BTreeSet<u64> = (GONE + 1..=RECORDS).collect();
    assert_eq!(
        there, stay,
        "what is gone is on the disk, or what stays is not"
    );
    let journal = open(&path).await;
    assert_eq!(journal.audit_begins().await.unwrap(), GONE);
    let first = journal.read_audit(0, 1).await.unwrap().remove(0);
    assert_eq!(first.index, GONE);
    journal.append(RECORDS + 1, &[marked(901)]).await.unwrap();
    let kept = removed_hashes_of_file(&path, 500, 100).await.unwrap();
    assert_eq!(kept.len(), 12);
}

#[tokio::test]
async fn a_removal_is_bounded_and_one_that_was_cut_short_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let end = (TILES_AT_ONCE + 2) * REMOVAL_UNIT;
    let journal = filled(&path, 1800).await;
    let next = journal.head().await.unwrap().number + 1;
    journal
        .append(next, &[letting_go(5000, end)])
        .await
        .unwrap();
    let first = journal.remove_audit(end).await.unwrap();
    assert_eq!(first, TILES_AT_ONCE * REMOVAL_UNIT, "so many at once");
    // The process dies here.
    drop(journal);
    let journal = open(&path).await;
    let found = journal.verify().await.unwrap();
    assert_eq!((found.faults, found.removed_records), (Vec::new(), first));
    assert_eq!(journal.remove_audit(end).await.unwrap(), end);
    assert_eq!(
        journal.remove_audit(end).await.unwrap(),
        end,
        "there is no more"
    );
    assert_eq!(journal.verify().await.unwrap().removed_records, end);
    // Nothing leaves that is not there, and the newest stay with their tile.
    let all = journal.remove_audit(u64::MAX).await.unwrap();
    assert_eq!(all, 1801 / REMOVAL_UNIT * REMOVAL_UNIT);
}

/// What somebody does to a journal some of whose records have left, and the first fault it gives.
const EDITS: &[(&str, &str)] = &[
    (
        "DELETE FROM removed_tile WHERE place = 1",
        "audit records 256 to 511 are missing",
    ),
    (
        "DELETE FROM removed_tile",
        "audit records 0 to 511 are missing",
    ),
    (
        "UPDATE removed_tile SET hashes = zeroblob(8192) WHERE place = 0",
        "audit records 0 to 255: they do not give their tile's root",
    ),
    (
        "UPDATE removed_tile SET hashes = x'00' WHERE place = 0",
        "audit records 0 to 511 are missing",
    ),
    (
        "UPDATE audit SET bytes = CAST(replace(CAST(bytes AS TEXT), 'audit/0-511', 'audit/0-411') AS BLOB)",
        "audit record 600: its bytes",
    ),
    (
        "DELETE FROM audit WHERE place = 600",
        "audit record 600 is missing",
    ),
    (
        "INSERT INTO audit SELECT 5, bytes, leaf_hash FROM audit WHERE place = 550",
        "audit records 0 to 4 are missing",
    ),
];

#[tokio::test]
async fn what_is_done_to_the_hashes_of_gone_records_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let sample = sample(directory.path()).await;
    assert_eq!(
        faults_after(&sample, "SELECT 1").await,
        Vec::<String>::new()
    );
    for (sql, wanted) in EDITS {
        let faults = faults_after(&sample, sql).await;
        let first = faults.first().map(String::as_str).unwrap_or_default();
        assert!(first.contains(wanted), "{sql}: {faults:?}");
    }
}

#[tokio::test]
async fn records_that_somebody_takes_and_leaves_their_hashes_are_missed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let journal = filled(&path, RECORDS).await;
    // The adapter does as it is told; that nobody said so is what the audit shows.
    assert_eq!(journal.remove_audit(GONE).await.unwrap(), GONE);
    let found = journal.verify().await.unwrap();
    assert_eq!(found.faults.len(), 1, "{:?}", found.faults);
    let wanted = "audit records 0 to 511: they are gone, and no record";
    assert!(found.faults[0].contains(wanted), "{:?}", found.faults);
    let unsaid = verify_export(&exported(&journal).await);
    let wanted = ExportError::Unrecorded {
        first: 0,
        last: GONE - 1,
    };
    assert_eq!(unsaid, Err(wanted));
    // Less was said than is gone.
    let said = letting_go(RECORDS + 1, REMOVAL_UNIT);
    journal.append(RECORDS + 1, &[said]).await.unwrap();
    let found = journal.verify().await.unwrap();
    assert!(found.faults[0].contains("audit records 256 to 511"));
}

#[tokio::test]
async fn a_record_that_was_edited_stays_for_it_is_evidence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    filled(&path, RECORDS).await.close().await.unwrap();
    edit(&path, "UPDATE audit SET bytes = x'7b7d' WHERE place = 300").await;
    let journal = open(&path).await;
    let refused = journal.remove_audit(GONE).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Corrupt);
    assert!(
        refused.text.contains("audit record 300"),
        "{}",
        refused.text
    );
    assert_eq!(journal.audit_begins().await.unwrap(), 0, "all or nothing");
    // Whoever appends goes on.
    let said = [letting_go(RECORDS + 1, GONE), staying(RECORDS + 2, 0)];
    journal.append(RECORDS + 1, &said).await.unwrap();
    journal.close().await.unwrap();
    // Somebody takes it all the same, with hashes that are right: what was let go stays by a later word.
    let taken = "INSERT INTO removed_tile SELECT place / 256, CAST('' AS BLOB) FROM audit WHERE place IN (0, 256);
        DELETE FROM audit WHERE place < 512";
    let hashes: Vec<Vec<u8>> = leaf_hashes(&path, GONE).await;
    edit(&path, taken).await;
    for (tile, hashes) in hashes.chunks(256).enumerate() {
        let hashes: String = hashes.concat().iter().map(|b| format!("{b:02x}")).collect();
        let put = format!("UPDATE removed_tile SET hashes = x'{hashes}' WHERE place = {tile}");
        edit(&path, &put).await;
    }
    let faults = verify_file(&path).await.unwrap().0.faults;
    let wanted = "audit records 0 to 511: they are gone, and no record";
    assert!(faults[0].contains(wanted), "{faults:?}");
}

#[tokio::test]
async fn a_journal_of_a_build_that_knew_no_removal_is_read_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    filled(&path, RECORDS).await.close().await.unwrap();
    edit(&path, "DROP TABLE removed_tile").await;
    let (found, _) = verify_file(&path).await.unwrap();
    assert_eq!((found.faults, found.removed_records), (Vec::new(), 0));
    edit(&path, "DELETE FROM audit WHERE place < 256").await;
    let faults = verify_file(&path).await.unwrap().0.faults;
    assert!(faults[0].contains("audit records 0 to 255 are missing"));
    assert!(
        removed_hashes_of_file(&path, 0, 10)
            .await
            .unwrap()
            .is_empty()
    );
    open(&path)
        .await
        .append(RECORDS + 1, &[marked(900)])
        .await
        .unwrap();
}
