//! A backup over the API: on record before it is made and when it was, and refused where nobody has all of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::Journal;
use keywheel_schemas::api::BackupView;
use tokio::sync::Notify;

use super::seal::command_of;
use super::*;

/// Notes how much was on record when it was asked; fails every time but the first.
pub(super) struct FakeMaker {
    journal: Arc<dyn Journal>,
    seen: Arc<AtomicUsize>,
    asked: AtomicUsize,
}

impl FakeMaker {
    pub(super) fn new(journal: Arc<dyn Journal>, seen: Arc<AtomicUsize>) -> Self {
        Self {
            journal,
            seen,
            asked: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl BackupMaker for FakeMaker {
    async fn make(&self) -> Result<BackupView, PortError> {
        if self.asked.fetch_add(1, Ordering::SeqCst) > 0 {
            let text = "another backup is being made; wait for it";
            return Err(PortError::new(ErrorKind::Conflict, text));
        }
        let size = self.journal.head().await?.audit_size;
        self.seen
            .store(usize::try_from(size).unwrap(), Ordering::SeqCst);
        Ok(BackupView {
            path: "/data/backup/sealed".to_owned(),
            bytes: 9,
            sha256: "ab".repeat(32),
            deployment: "d".to_owned(),
            made_at: "2026-11-29T20:00:00Z".to_owned(),
            head: 7,
            records: 1,
            checkpoint: "c".to_owned(),
        })
    }
}

#[tokio::test]
async fn a_backup_is_on_record_before_it_is_made_and_when_it_was() {
    let mut bench = Bench::start().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let maker = FakeMaker::new(bench.api.journal.clone(), seen.clone());
    bench.api.backups = Some(Arc::new(maker));
    let (status, made) = bench.post("backup", json!({})).await;
    assert_eq!((status, &made["head"]), (200, &json!(7)), "{made}");
    assert_eq!(
        seen.load(Ordering::SeqCst),
        1,
        "asked before it was on record"
    );
    let audit = bench.audit().await;
    assert_eq!(audit.len(), 2, "{audit:?}");
    assert!(audit.iter().all(|record| record.contains("\"backup\"")));
    assert!(audit[0].contains("asked for"), "{audit:?}");
    assert!(audit[1].contains(&"ab".repeat(32)), "{audit:?}");
    assert_eq!(command_of(&audit[0]), command_of(&audit[1]), "{audit:?}");
    let refused = bench.post("backup", json!({})).await;
    assert_problem(&refused, 409, "conflict", "wait for it");
    let audit = bench.audit().await.split_off(2);
    assert!(audit[0].contains("asked for"), "{audit:?}");
    assert!(audit[1].contains("Rejected"), "{audit:?}");
    assert!(
        audit[1].contains("wait for it"),
        "with its cause: {audit:?}"
    );
    assert_eq!(audit.len(), 2, "{audit:?}");
}

/// Makes one when it is let.
struct SlowMaker {
    inner: FakeMaker,
    begun: Notify,
    goes_on: Notify,
}

#[async_trait]
impl BackupMaker for SlowMaker {
    async fn make(&self) -> Result<BackupView, PortError> {
        self.begun.notify_one();
        self.goes_on.notified().await;
        self.inner.make().await
    }
}

#[tokio::test]
async fn who_asked_may_go_and_it_is_made_to_its_end_and_on_record() {
    let mut bench = Bench::start().await;
    let slow = Arc::new(SlowMaker {
        inner: FakeMaker::new(bench.api.journal.clone(), Arc::default()),
        begun: Notify::new(),
        goes_on: Notify::new(),
    });
    bench.api.backups = Some(slow.clone());
    {
        let mut asking = std::pin::pin!(bench.post("backup", json!({})));
        tokio::select! {
            answered = &mut asking => panic!("{answered:?}"),
            () = slow.begun.notified() => {}
        }
    }
    slow.goes_on.notify_one();
    while bench.audit().await.len() < 2 {
        tokio::task::yield_now().await;
    }
    let audit = bench.audit().await;
    assert!(audit[1].contains("done: made up to event 7"), "{audit:?}");
}

#[tokio::test]
async fn where_the_parts_run_apart_a_backup_is_refused_with_the_way_to_one() {
    let bench = Bench::start().await;
    let refused = bench.post("backup", json!({})).await;
    assert_problem(&refused, 409, "conflict", "deploy/docs/backup.md");
    let (status, _) = bench
        .ask_as(STRANGER, "POST", "/v1/backup", Body::empty())
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let audit = bench.audit().await;
    assert!(audit[0].contains("Rejected"), "{audit:?}");
    assert!(audit[1].contains("Denied"), "{audit:?}");
}
