//! Old audit records over a journal on a disk: when they leave, and what is said of them then.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::audit::Record;
use keywheel_core::id::CommandId;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::journal::{AuditLeaf, Journal};
use keywheel_engine::presence::{COPY_FACT, Fact};
use keywheel_journal::checkpoint::Checkpoint;
use keywheel_journal::merkle::{self, Frontier};
use keywheel_journal::offline::continuation::{ContinuationError, verify_proof};
use keywheel_journal::offline::{Export, verify_export};
use keywheel_journal::retention::{Word, word};
use keywheel_schemas::api::{AUDIT_BEGINS, AuditConsistency, AuditExport, AuditRetentionView};
use keywheel_schemas::wire::audit_record_from_json;
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::conformance::journal::decision;
use tempfile::TempDir;

use super::*;
use crate::presence::Presences;
use crate::retention::{LONGEST_PAUSE, RETRY, Retention};
use crate::testing::{Encoded, journal_in};

const ORIGIN: &str = "keywheel.test/audit";
const DAY: Duration = Duration::from_secs(24 * 3600);
const KEEP: Duration = Duration::from_secs(90 * 24 * 3600);
/// Records of the first day, and some of the fiftieth.
const OLD: usize = 512;
const ALL: usize = 600;

/// A gateway over a journal on disk.
struct Real {
    bench: Bench,
    retention: Retention,
    _dir: TempDir,
}

impl Real {
    async fn start(keep: Option<Duration>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (journal, key) = journal_in(dir.path(), ORIGIN).await;
        let mut first = decision(1);
        first.events.clear();
        let like = first.audit.remove(0);
        first.audit = (0..ALL)
            .map(|n| of_day(&like, if n < OLD { 1 } else { 50 }))
            .collect();
        journal.append(1, &[first]).await.unwrap();
        let mut bench = Bench::start().await;
        bench.turn_to(journal.clone(), ORIGIN, &key).await;
        let presences = Presences::new(bench.clock.clone()).with_keep_records(keep);
        bench.api.presences = presences.clone();
        let retention = Retention {
            journal,
            commands: bench.api.commands.clone(),
            clock: bench.clock.clone(),
            ids: bench.api.ids.clone(),
            presences,
        };
        bench.clock.advance(DAY * 100);
        Self {
            bench,
            retention,
            _dir: dir,
        }
    }

    async fn look(&self) -> AuditRetentionView {
        let (status, view) = self.bench.see("audit/retention").await;
        assert_eq!(status, 200, "{view}");
        serde_json::from_value(view).unwrap()
    }

    /// What an audit sink's copy says of itself.
    fn hear(&self, second: i64, kept: u64) {
        self.bench
            .hear_sink(second, kept, vec![Fact::ok(COPY_FACT, "well")]);
    }

    async fn newest(&self, count: u64) -> Vec<AuditLeaf> {
        let size = self.retention.journal.head().await.unwrap().audit_size;
        let leaves = self.retention.journal.read_audit(size - count, 1000).await;
        leaves.unwrap()
    }
}

fn hash_of(text: &str) -> merkle::Hash {
    let digit = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    std::array::from_fn(digit)
}

fn of_day(like: &Record, day: u32) -> Record {
    Record {
        time: Timestamp::default().plus(DAY * day),
        ..like.clone()
    }
}

#[tokio::test]
async fn old_records_leave_on_record_once_a_copy_has_them_and_not_before() {
    let real = Real::start(Some(KEEP)).await;
    let mut let_go = 0;
    let old = OLD as u64;
    // Nobody is heard, then a copy that lacks some.
    for (kept, part) in [
        (None, "only 0 of the 1"),
        (Some(100), "ends before record 100"),
    ] {
        if let Some(kept) = kept {
            real.hear(1, kept);
        }
        assert_eq!(real.retention.pass(KEEP, &mut let_go).await.unwrap(), RETRY);
        let view = real.look().await;
        assert_eq!((view.begins, view.removable), (0, old));
        let waits = view.waits.unwrap();
        assert!(waits.contains(part), "{waits}");
    }
    real.hear(2, ALL as u64);
    let before = real.retention.journal.read_audit(0, OLD).await.unwrap();
    let pause = real.retention.pass(KEEP, &mut let_go).await.unwrap();
    assert_eq!((pause, let_go), (Duration::ZERO, old));

    let said = real.newest(2).await;
    let said: Vec<Record> = said
        .iter()
        .inspect(|leaf| assert_eq!(word(&leaf.bytes), Some(Word::Leave(old))))
        .map(|leaf| audit_record_from_json(&leaf.bytes).unwrap())
        .collect();
    let mut tree = Frontier::new();
    before
        .iter()
        .for_each(|leaf| tree.push(merkle::leaf_hash(&leaf.bytes)));
    let root: String = tree
        .root()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(said[0].reason.contains("older than 90d") && said[0].reason.ends_with(&root));
    assert!(said[1].reason.contains("they are gone"), "{said:?}");
    let found = real.retention.journal.verify().await.unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!(found.removed_records, old);
    let view = real.look().await;
    assert_eq!((view.begins, view.removable, view.waits), (old, 0, None));
    // The next unit is not full, and nothing in it is old.
    let pause = real.retention.pass(KEEP, &mut let_go).await.unwrap();
    assert_eq!(pause, LONGEST_PAUSE);
    assert_eq!(real.retention.journal.audit_begins().await.unwrap(), old);
}

#[tokio::test]
async fn every_answer_says_what_is_no_longer_there() {
    let real = Real::start(Some(KEEP)).await;
    real.hear(1, ALL as u64);
    real.retention.pass(KEEP, &mut 0).await.unwrap();
    let bench = &real.bench;
    let listed = bench.send(("GET", "/v1/audit"), &[], Body::empty()).await;
    assert_eq!(listed.headers()[AUDIT_BEGINS], "512");
    let lines = text_of(listed).await;
    assert!(lines.lines().count() >= ALL - OLD && lines.lines().all(|line| !line.is_empty()));
    let numbered = ("GET", "/v1/audit?after=5&limit=1&numbered=true");
    let first = text_of(bench.send(numbered, &[], Body::empty()).await).await;
    assert!(first.starts_with("{\"index\":512,"), "{first}");
    let proof = bench.see("audit/proofs/5").await;
    assert_problem(&proof, 404, "not_found", "by its age");
    let part = bench.see("audit/export?from=0&to=100").await;
    assert_problem(&part, 400, "invalid", "all before 512 were");
    for path in ["audit/proofs/550", "audit/export?from=520&to=530"] {
        let (status, answer) = bench.see(path).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (_, answer) = bench.see("audit/export").await;
    let export: AuditExport = serde_json::from_value(answer).unwrap();
    assert_eq!(export.removed_hashes.len(), OLD);
    let records = export.records.into_iter().map(String::into_bytes).collect();
    let key = STANDARD.decode(export.public_key).unwrap();
    let key = <[u8; 32]>::try_from(key).unwrap();
    let mut known = Export::new(export.origin, key, export.checkpoint, records);
    known.removed = real
        .retention
        .journal
        .removed_hashes(0, 1000)
        .await
        .unwrap();
    assert_eq!(verify_export(&known).unwrap().removed, OLD as u64);
    let (_, report) = bench.see("journal/verify").await;
    assert_eq!(report["removed_records"], 512, "{report}");
}

#[tokio::test]
async fn whoever_kept_a_checkpoint_is_shown_that_the_log_goes_on_from_it_or_finds_that_it_does_not()
{
    let real = Real::start(Some(KEEP)).await;
    let signing_key = SigningKey::from_seed_bytes(&SecretBytes::from(vec![7; 32])).unwrap();
    let key = signing_key.verifying_key();
    let kept = real.retention.journal.head().await.unwrap();
    let path = format!("audit/consistency/{}", kept.audit_size);
    let ask = async || {
        let (status, answer) = real.bench.see(&path).await;
        assert_eq!(status, 200, "{answer}");
        let answer: AuditConsistency = serde_json::from_value(answer).unwrap();
        assert_eq!(answer.size, kept.audit_size);
        assert_eq!(answer.public_key, STANDARD.encode(key.to_bytes()));
        let path: Vec<merkle::Hash> = answer.path.iter().map(|hash| hash_of(hash)).collect();
        (answer.checkpoint, path)
    };
    // The first look is on record for the second one.
    ask().await;
    let (now, path) = ask().await;
    let log = (ORIGIN, &key);
    let found = verify_proof(log, (&kept.checkpoint, &now), &path).unwrap();
    assert!(found.1.size > found.0.size, "{found:?}");
    // Records that leave change no proof.
    real.hear(1, ALL as u64);
    real.retention.pass(KEEP, &mut 0).await.unwrap();
    assert!(real.retention.journal.audit_begins().await.unwrap() > 0);
    let (now, path) = ask().await;
    verify_proof(log, (&kept.checkpoint, &now), &path).unwrap();
    // The same key once signed for other records: the log was written anew behind that.
    let other = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: kept.audit_size,
        root: merkle::leaf_hash(b"other"),
    };
    let other = other.sign(&signing_key);
    let found = verify_proof(log, (&other, &now), &path);
    let kept = kept.audit_size;
    assert_eq!(found, Err(ContinuationError::Rewritten { kept }));
}

#[tokio::test]
async fn where_no_age_is_set_every_record_is_kept() {
    let real = Real::start(None).await;
    real.hear(1, ALL as u64);
    let view = real.look().await;
    assert_eq!((view.keep, view.removable, view.next), (None, 0, None));
    let journal = real.retention.journal.clone();
    // It ends by itself.
    real.retention
        .run(tokio_util::sync::CancellationToken::new())
        .await;
    assert_eq!(journal.audit_begins().await.unwrap(), 0);
}

#[tokio::test]
async fn a_record_leaves_when_its_age_is_reached_and_not_before() {
    let real = Real::start(Some(KEEP)).await;
    real.hear(1, ALL as u64);
    real.bench
        .clock
        .set_wall(Timestamp::default().plus(DAY + KEEP));
    let pause = real.retention.pass(KEEP, &mut 0).await.unwrap();
    assert_eq!(
        pause,
        Duration::from_secs(1),
        "due at this moment, and not before"
    );
    assert_eq!(real.retention.journal.audit_begins().await.unwrap(), 0);
    let now = Timestamp::default().plus(KEEP);
    real.bench.clock.set_wall(now);
    let pause = real.retention.pass(KEEP, &mut 0).await.unwrap();
    assert_eq!(pause, LONGEST_PAUSE, "a day before it is due");
    assert!(real.look().await.next.is_some());
}

#[tokio::test]
async fn a_clock_that_is_set_forward_makes_nothing_old() {
    let long = KEEP * 3;
    let real = Real::start(Some(long)).await;
    let begins = || real.retention.journal.audit_begins();
    real.hear(1, ALL as u64);
    let far = Timestamp::default().plus(long * 10);
    real.bench.clock.set_wall(far);
    real.retention.pass(long, &mut 0).await.unwrap();
    assert_eq!(begins().await.unwrap(), 0);
    assert_eq!(real.look().await.removable, 0);
    // What passes by itself does.
    real.bench.clock.advance(long);
    real.hear(2, ALL as u64);
    real.retention.pass(long, &mut 0).await.unwrap();
    assert_eq!(begins().await.unwrap(), OLD as u64);
}

#[tokio::test]
async fn records_that_leave_while_an_export_is_read_make_no_hole_in_it() {
    let mut bench = Bench::start().await;
    let like = decision(1).audit.remove(0);
    for n in 0_u128..300 {
        let record = Record {
            command: CommandId::from_bytes(n.to_be_bytes()),
            ..like.clone()
        };
        bench.api.commands.record(record).await.unwrap();
    }
    bench.api.journal = Arc::new(Encoded {
        journal: bench.journal.clone(),
        is_deaf: false,
        leaves: AtomicBool::new(true),
    });
    let (status, answer) = bench.see("audit/export").await;
    assert_eq!(status, 200, "{answer}");
    let export: AuditExport = serde_json::from_value(answer).unwrap();
    assert_eq!(export.removed_hashes.len(), 256);
    assert!(export.records.len() >= 300 - 256);
    let first = bench.journal.read_audit(256, 1).await.unwrap().remove(0);
    assert_eq!(export.records[0].as_bytes(), &*first.bytes);
}
