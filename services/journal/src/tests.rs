//! The journal on a real file: durability, damage, full disks, kills. The laws of the port are the
//! conformance suite's.

mod append;
mod attacks;
mod crash;
mod power;
mod retention;
mod tamper;

use std::path::Path;
use std::sync::Arc;

use keywheel_core::id::{DeploymentId, LetterId, SubscriptionId};
use keywheel_core::name::SubscriptionName;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::deliveries::{Deliveries, Letter, MAX_LETTER_BYTES};
use keywheel_engine::port::journal::Journal;
use keywheel_engine::port::subscriptions::{Subscription, Subscriptions as _};
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::conformance;

use crate::{JournalOptions, SqliteJournal};

pub(crate) const ORIGIN: &str = "keywheel.test/audit";

pub(crate) fn options(key: u8) -> JournalOptions {
    JournalOptions {
        deployment: DeploymentId::from_bytes([9; 16]),
        source: "keywheel/test/gateway".to_owned(),
        signing_key: SigningKey::from_seed_bytes(&SecretBytes::from(vec![key; 32])).unwrap(),
        origin: ORIGIN.to_owned(),
    }
}

pub(crate) async fn open(path: &Path) -> SqliteJournal {
    SqliteJournal::open(path, options(1)).await.unwrap()
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_subscriptions_and_they_outlive_it() {
    let directory = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    conformance::subscriptions::check(|| async {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = directory.path().join(format!("{n}/journal.db"));
        let one: Arc<dyn Journal> = Arc::new(open(&path).await);
        [Arc::clone(&one), one]
    })
    .await;
    let path = directory.path().join("kept/journal.db");
    let name = SubscriptionName::parse("siem").unwrap();
    let journal = open(&path).await;
    let id = SubscriptionId::from_bytes([4; 16]);
    journal.subscribe(&name, id, 3).await.unwrap();
    journal.acknowledge(&name, id, 5).await.unwrap();
    journal.close().await.unwrap();
    let kept = open(&path).await.subscriptions().await.unwrap();
    let expected = Subscription {
        id,
        name,
        acknowledged: 5,
    };
    assert_eq!(kept, [expected]);
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_deliveries() {
    let directory = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    conformance::deliveries::check(|| async {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = directory.path().join(format!("{n}/journal.db"));
        let one: Arc<dyn Deliveries> = Arc::new(open(&path).await);
        [Arc::clone(&one), one]
    })
    .await;
}

/// Whether some bytes are in the journal's file or its log.
fn is_on_disk(directory: &Path, bytes: &[u8]) -> bool {
    ["journal.db", "journal.db-wal"].iter().any(|name| {
        let content = std::fs::read(directory.join(name)).unwrap();
        content.windows(bytes.len()).any(|part| part == bytes)
    })
}

#[tokio::test]
async fn of_a_letter_that_is_gone_no_byte_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory.path().join("journal.db")).await;
    // Small enough for a page of the table, and so long that it has pages of its own.
    for (n, length) in [(1, 40), (2, MAX_LETTER_BYTES)] {
        let mark = [b'a' + n; 32];
        let body = [vec![b'x'; length], mark.to_vec()].concat();
        let letter = |time, body| Letter {
            id: LetterId::from_bytes([n; 16]),
            owner: "signal-source/scanner".to_owned(),
            heading: "a request".to_owned(),
            time: Timestamp::from_micros(time),
            reason: "it is no JSON".to_owned(),
            body,
        };
        let kept = letter(i64::from(n), body);
        journal.keep(&kept).await.unwrap();
        assert!(is_on_disk(directory.path(), &mark), "{length}");
        assert!(journal.discard(kept.id).await.unwrap());
        assert!(!is_on_disk(directory.path(), &mark), "{length}, discarded");
        journal.keep(&kept).await.unwrap();
        let after = Timestamp::from_micros(i64::from(n) + 1);
        assert_eq!(journal.expire("signal-source/", after).await.unwrap(), 1);
        assert!(!is_on_disk(directory.path(), &mark), "{length}, too old");
        journal.keep(&kept).await.unwrap();
        journal.keep(&letter(8, Vec::new())).await.unwrap();
        assert_eq!(journal.discard_all(&kept.owner).await.unwrap(), 1);
        assert!(!is_on_disk(directory.path(), &mark), "{length}, replaced");
    }
}

#[tokio::test]
async fn subscriptions_that_were_made_without_ids_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let journal = open(&path).await;
    let before = "DROP TABLE subscription; \
        CREATE TABLE subscription (name TEXT PRIMARY KEY, number INTEGER NOT NULL) \
        STRICT, WITHOUT ROWID; INSERT INTO subscription VALUES ('siem', 4)";
    journal.on_writer(before).await;
    journal.close().await.unwrap();
    let journal = open(&path).await;
    let kept = journal.subscriptions().await.unwrap();
    let zeros = SubscriptionId::default();
    assert_eq!((kept[0].id, kept[0].acknowledged), (zeros, 4));
    let name = &kept[0].name;
    let moved = journal.acknowledge(name, zeros, 5).await.unwrap();
    assert_eq!(moved.acknowledged, 5);
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_the_port() {
    let directory = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    let fresh = || async {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(open(&directory.path().join(format!("{n}/journal.db"))).await) as Arc<dyn Journal>
    };
    conformance::journal::check(fresh).await;
    assert!(count.load(std::sync::atomic::Ordering::Relaxed) > 10);
}
