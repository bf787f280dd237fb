//! The cache on a real server, shared by two store-syncs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::vault::VersionVault;
use keywheel_postgres::Address;
use keywheel_seal::envelope::{MAX_WRAPS, UnsealKey};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance;
use keywheel_testkit::server::postgres::PostgresServer;

use super::PostgresCache;
use crate::keys::RESERVED_WRAPS;
use crate::{Error, Inserted, Kind, MAX_KEK_AGE};

mod rekey;

const DEPLOYMENT: [u8; 16] = [7; 16];
const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const CANARY: &[u8] = b"canary-pg-77ab41c95ee04f0d9a2c6b11d0e8f3aa";

#[derive(Default)]
struct StillClock(AtomicI64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A server with one database, the key file's content and a clock.
struct Place {
    server: PostgresServer,
    url: String,
    key: SecretBytes,
    clock: Arc<StillClock>,
}

impl Place {
    fn new() -> Self {
        let server = PostgresServer::start();
        Self {
            url: server.database("cache"),
            server,
            key: UnsealKey::generate(&OsEntropy).to_file(),
            clock: Arc::default(),
        }
    }

    async fn try_open(&self, key: &SecretBytes, deployment: u8) -> Result<PostgresCache, Error> {
        let address = Address::parse(&self.url, None).unwrap();
        let key = UnsealKey::from_file(key).unwrap();
        let entropy = Arc::new(OsEntropy);
        let clock = self.clock.clone();
        PostgresCache::open_shared(&address, [deployment; 16], key, entropy, clock).await
    }

    async fn open_at(&self, url: &str) -> PostgresCache {
        let address = Address::parse(url, None).unwrap();
        let key = UnsealKey::from_file(&self.key).unwrap();
        let entropy = Arc::new(OsEntropy);
        let clock = self.clock.clone();
        let opened = PostgresCache::open_shared(&address, DEPLOYMENT, key, entropy, clock);
        opened.await.unwrap()
    }

    async fn open(&self) -> PostgresCache {
        self.try_open(&self.key, DEPLOYMENT[0]).await.unwrap()
    }

    fn ask(&self, sql: &str) -> String {
        let sql = format!("SET search_path = keywheel_cache; {sql}");
        self.server.psql("cache", &sql)
    }
}

fn token(number: u64) -> RotationId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    RotationId::from_bytes(bytes)
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::from(bytes.to_vec())
}

async fn insert(
    cache: &PostgresCache,
    version: u64,
    by: u64,
    value: &[u8],
) -> Result<Inserted, Error> {
    cache
        .insert_pending(SECRET, version, token(by), &secret(value))
        .await
}

async fn reads(cache: &PostgresCache, version: u64) -> Result<SecretBytes, Kind> {
    cache
        .open_version(SECRET, version)
        .await
        .map_err(|e| e.kind())
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_the_port() {
    let place = Place::new();
    let made = AtomicI64::new(0);
    let fresh = || async {
        let url = place
            .server
            .database(&format!("vault_{}", made.fetch_add(1, Ordering::SeqCst)));
        let (one, other) = tokio::join!(place.open_at(&url), place.open_at(&url));
        [one, other].map(|cache| Arc::new(cache) as Arc<dyn VersionVault>)
    };
    conformance::vault::check(fresh).await;
}

#[tokio::test]
async fn two_open_an_empty_database_at_once_and_share_one_key() {
    let place = Place::new();
    let (one, other) = tokio::join!(place.open(), place.open());
    assert_eq!(place.ask("SELECT COUNT(*) FROM kek"), "1");
    assert_eq!(insert(&one, 1, 1, CANARY).await.unwrap(), Inserted::New);
    assert!(reads(&other, 1).await.unwrap().ct_eq(&secret(CANARY)));
    assert_eq!(other.list(SECRET).await.unwrap(), [1]);
    let _checkpointed = place.ask("CHECKPOINT");
    assert!(!place.server.files_contain(CANARY));
    let wrong = UnsealKey::generate(&OsEntropy).to_file();
    let refused = place
        .try_open(&wrong, DEPLOYMENT[0])
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(refused, Error::WrongUnsealKey { .. }), "{refused}");
    let refused = place.try_open(&place.key, 8).await.map(drop).unwrap_err();
    assert!(
        matches!(refused, Error::WrongDeployment { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn of_two_that_make_a_version_the_first_wins_and_both_read_its_value() {
    let place = Place::new();
    let (one, other) = (place.open().await, place.open().await);
    for version in 1..=12 {
        let (a, b) = tokio::join!(
            insert(&one, version, version, b"made by one"),
            insert(&other, version, version, b"made by the other")
        );
        let news = [a.unwrap(), b.unwrap()];
        assert_eq!(news.iter().filter(|n| **n == Inserted::New).count(), 1);
        let (a, b) = (reads(&one, version).await, reads(&other, version).await);
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(a.ct_eq(&b));
        let first = match news[0] {
            Inserted::New => secret(b"made by one"),
            Inserted::Existing => secret(b"made by the other"),
        };
        assert!(a.ct_eq(&first));
    }
    let taken = insert(&other, 1, 99, b"x").await.unwrap_err();
    assert_eq!(taken.kind(), Kind::Conflict);
    let (a, b) = (secret(b"a"), secret(b"b"));
    let (a, b) = tokio::join!(one.stash(token(1), &a), other.stash(token(1), &b));
    assert_ne!(a.unwrap(), b.unwrap());
    assert!(one.stashed(token(1)).await.unwrap().is_some());
    other.drop_stashed(token(1)).await.unwrap();
    assert!(one.stashed(token(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn what_one_destroyed_never_comes_back_by_the_other() {
    let place = Place::new();
    let (one, other) = (place.open().await, place.open().await);
    insert(&one, 1, 1, CANARY).await.unwrap();
    one.stash(token(1), &secret(CANARY)).await.unwrap();
    other.destroy(SECRET, 1).await.unwrap();
    other.destroy(SECRET, 2).await.unwrap();
    assert_eq!(reads(&one, 1).await.map(drop), Err(Kind::Destroyed));
    assert!(one.stashed(token(1)).await.unwrap().is_none());
    for version in [1, 2] {
        let late = insert(&one, version, version, b"late").await.unwrap_err();
        assert_eq!(late.kind(), Kind::Destroyed);
        assert!(!one.has(SECRET, version).await.unwrap());
    }
    let left =
        "SELECT COUNT(*) FROM version WHERE wrapped_dek IS NOT NULL OR ciphertext IS NOT NULL";
    assert_eq!(place.ask(left), "0");
}

#[tokio::test]
async fn wraps_are_one_counter_and_a_fresh_key_is_made_once() {
    let place = Place::new();
    let (one, other) = (place.open().await, place.open().await);
    insert(&one, 1, 1, b"v").await.unwrap();
    insert(&other, 2, 2, b"v").await.unwrap();
    let wraps = "SELECT wraps FROM kek WHERE state = 'current'";
    assert_eq!(place.ask(wraps), (2 * RESERVED_WRAPS).to_string());
    // Used up: whoever comes first makes the next one, and the other takes it.
    let _set = place.ask(&format!("UPDATE kek SET wraps = {MAX_WRAPS}"));
    for version in 3..=3 + 2 * RESERVED_WRAPS {
        insert(&one, version, version, b"v").await.unwrap();
        insert(&other, 1000 + version, 1000 + version, b"v")
            .await
            .unwrap();
    }
    assert_eq!(place.ask("SELECT COUNT(*) FROM kek"), "2");
    assert_eq!(place.ask("SELECT COUNT(DISTINCT key_id) FROM version"), "2");
    // Too old: the same.
    let age = i64::try_from(MAX_KEK_AGE.as_micros()).unwrap();
    place.clock.0.store(age, Ordering::SeqCst);
    let (a, b) = tokio::join!(
        insert(&one, 5000, 5000, b"v"),
        insert(&other, 5001, 5001, b"w")
    );
    assert_eq!((a.unwrap(), b.unwrap()), (Inserted::New, Inserted::New));
    assert_eq!(place.ask("SELECT COUNT(*) FROM kek"), "3");
    for cache in [&one, &other] {
        for version in [1, 2, 3, 1003, 5000, 5001] {
            reads(cache, version).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_killed_server_is_found_again_and_kept_what_it_acknowledged() {
    let mut place = Place::new();
    let cache = place.open().await;
    insert(&cache, 1, 1, b"v").await.unwrap();
    cache.destroy(SECRET, 2).await.unwrap();
    place.server.kill();
    let away = insert(&cache, 3, 3, b"v").await.unwrap_err();
    assert_eq!(away.kind(), Kind::Unavailable);
    place.server.restart();
    assert!(reads(&cache, 1).await.is_ok());
    assert_eq!(insert(&cache, 3, 3, b"v").await.unwrap(), Inserted::New);
    let barred = insert(&cache, 2, 2, b"v").await.unwrap_err();
    assert_eq!(barred.kind(), Kind::Destroyed);
}
