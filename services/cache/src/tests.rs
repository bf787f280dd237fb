//! Tests of the cache: keys, damage, crashes, destruction and what lies in its files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::envelope::{MAX_WRAPS, UnsealKey};
use keywheel_seal::{OsEntropy, SecretBytes};
use tempfile::TempDir;

use super::*;
use crate::keys::RESERVED_WRAPS;

mod age;
mod copies;
mod damage;
pub(crate) mod killed;
mod laws;
pub(crate) mod rekey;
mod reseal;
mod stashed;
mod store_keys;

const DEPLOYMENT: [u8; 16] = [7; 16];
const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const OTHER: SecretId = SecretId::from_bytes([2; 16]);
const CANARY: &[u8] = b"canary-5f1d7c0a9be24f6e8d3311aa44cc77ee";

/// A directory for one cache, with the key file's content.
struct Place {
    directory: TempDir,
    key: SecretBytes,
    clock: Arc<StillClock>,
}

/// A clock that stands still until a test moves it.
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

/// The token number `number`.
fn token(number: u64) -> RotationId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    RotationId::from_bytes(bytes)
}

impl Place {
    fn new() -> Self {
        let key = UnsealKey::generate(&OsEntropy).to_file();
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            directory,
            key,
            clock: Arc::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("cache.db")
    }

    async fn try_open(&self, key: &SecretBytes) -> Result<Cache, Error> {
        let key = UnsealKey::from_file(key).unwrap();
        Cache::open(
            &self.path(),
            DEPLOYMENT,
            key,
            Arc::new(OsEntropy),
            self.clock.clone(),
        )
        .await
    }

    async fn open(&self) -> Cache {
        self.try_open(&self.key).await.unwrap()
    }

    /// Every byte of every file of the cache.
    fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            all.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        all
    }

    fn contains(&self, needle: &[u8]) -> bool {
        self.bytes()
            .windows(needle.len())
            .any(|window| window == needle)
    }
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::from(bytes.to_vec())
}

/// Puts a value in as this version, under the token of the same number.
async fn put(cache: &Cache, version: u64, value: &[u8]) -> Inserted {
    cache
        .insert_pending(SECRET, version, token(version), &secret(value))
        .await
        .unwrap()
}

/// Whether a version has this value.
async fn holds(cache: &Cache, version: u64, value: &[u8]) -> bool {
    let found = cache.open_version(SECRET, version).await.unwrap();
    found.ct_eq(&secret(value))
}

/// A blob column of one version's row, as the file holds it.
async fn column(cache: &Cache, name: &'static str, version: i64) -> Vec<u8> {
    let sql = match name {
        "wrapped_dek" => "SELECT wrapped_dek FROM version WHERE secret = $1 AND version = $2",
        "ciphertext" => "SELECT ciphertext FROM version WHERE secret = $1 AND version = $2",
        _ => panic!("unknown column {name}"),
    };
    let mut state = cache.state().await;
    sqlx::query_scalar(sql)
        .bind(SECRET.bytes().to_vec())
        .bind(version)
        .fetch_one(&mut state.table.connection)
        .await
        .unwrap()
}

async fn execute(cache: &Cache, sql: &'static str) {
    sqlx::raw_sql(sql)
        .execute(&mut cache.state().await.table.connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_the_port() {
    let places = std::sync::Mutex::new(Vec::new());
    let fresh = || async {
        let place = Place::new();
        let cache: Arc<dyn VersionVault> = Arc::new(place.open().await);
        places.lock().unwrap().push(place);
        [cache.clone(), cache]
    };
    keywheel_testkit::conformance::vault::check(fresh).await;
}

#[tokio::test]
async fn a_value_survives_a_reopen() {
    let place = Place::new();
    let cache = place.open().await;
    let inserted = put(&cache, 1, CANARY).await;
    assert_eq!(inserted, Inserted::New);
    cache.close().await.unwrap();
    let cache = place.open().await;
    assert!(holds(&cache, 1, CANARY).await);
    assert_eq!(cache.list(SECRET).await.unwrap(), [1]);
    assert!(cache.list(OTHER).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_value_survives_a_kill() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, CANARY).await;
    // What a killed program leaves behind: the file and its log, no orderly close.
    let killed = Place::new();
    for entry in std::fs::read_dir(place.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(
            &path,
            killed.directory.path().join(path.file_name().unwrap()),
        )
        .unwrap();
    }
    let again = killed.try_open(&place.key).await.unwrap();
    assert!(
        again
            .open_version(SECRET, 1)
            .await
            .unwrap()
            .ct_eq(&secret(CANARY))
    );
}

#[tokio::test]
async fn the_first_value_under_a_token_wins() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, b"first").await;
    let again = put(&cache, 1, b"second").await;
    assert_eq!(again, Inserted::Existing);
    assert!(holds(&cache, 1, b"first").await);
}

#[tokio::test]
async fn version_and_token_belong_together() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, b"first").await;
    for (version, token) in [(1, token(2)), (2, token(1))] {
        let refused = cache
            .insert_pending(SECRET, version, token, &secret(b"x"))
            .await
            .unwrap_err();
        assert!(matches!(refused, Error::TokenConflict { .. }), "{refused}");
    }
    let other = cache
        .insert_pending(OTHER, 1, token(1), &secret(b"other"))
        .await
        .unwrap();
    assert_eq!(other, Inserted::New);
}

#[tokio::test]
async fn a_missing_version_is_not_found() {
    let place = Place::new();
    let cache = place.open().await;
    let error = cache.open_version(SECRET, 1).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(!cache.has(SECRET, 1).await.unwrap());
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_and_the_largest_is_not() {
    let place = Place::new();
    let cache = place.open().await;
    let limit = keywheel_seal::MAX_VALUE_BYTES;
    let refused = cache
        .insert_pending(SECRET, 1, token(1), &SecretBytes::from(vec![1; limit + 1]))
        .await;
    assert!(matches!(refused.unwrap_err(), Error::TooLarge(_)));
    let largest = SecretBytes::from(vec![1; limit]);
    cache
        .insert_pending(SECRET, 1, token(1), &largest)
        .await
        .unwrap();
    assert!(cache.open_version(SECRET, 1).await.unwrap().ct_eq(&largest));
}

#[tokio::test]
async fn a_wrong_unseal_key_opens_nothing_and_changes_nothing() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, CANARY).await;
    cache.close().await.unwrap();
    let before = place.bytes();
    let wrong = UnsealKey::generate(&OsEntropy).to_file();
    let error = place.try_open(&wrong).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::WrongUnsealKey { .. }), "{error}");
    assert_eq!(before, std::fs::read(place.path()).unwrap());
    assert!(place.open().await.open_version(SECRET, 1).await.is_ok());
}

#[tokio::test]
async fn a_cache_of_another_deployment_or_format_is_refused() {
    let place = Place::new();
    place.open().await.close().await.unwrap();
    let key = UnsealKey::from_file(&place.key).unwrap();
    let error = Cache::open(
        &place.path(),
        [8; 16],
        key,
        Arc::new(OsEntropy),
        place.clock.clone(),
    )
    .await
    .map(drop)
    .unwrap_err();
    assert!(matches!(error, Error::WrongDeployment { .. }), "{error}");
    let cache = place.open().await;
    execute(&cache, "PRAGMA user_version = 4").await;
    cache.close().await.unwrap();
    let error = place.try_open(&place.key).await.map(drop).unwrap_err();
    assert!(
        matches!(
            error,
            Error::UnknownFormat {
                found: 4,
                known: 3,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let place = Place::new();
    let inner = place.directory.path().join("made/here/cache.db");
    let key = UnsealKey::from_file(&place.key).unwrap();
    let cache = Cache::open(
        &inner,
        DEPLOYMENT,
        key,
        Arc::new(OsEntropy),
        place.clock.clone(),
    )
    .await
    .unwrap();
    put(&cache, 1, b"v").await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(inner.parent().unwrap()), 0o700);
    for entry in std::fs::read_dir(inner.parent().unwrap()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn a_place_open_to_others_is_refused() {
    let place = Place::new();
    let open_up = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open_up(place.directory.path(), 0o750);
    let error = place.try_open(&place.key).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
    open_up(place.directory.path(), 0o700);
    std::fs::write(place.path(), b"").unwrap();
    open_up(&place.path(), 0o644);
    let error = place.try_open(&place.key).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn a_destroyed_version_leaves_neither_key_nor_ciphertext() {
    let place = Place::new();
    let cache = place.open().await;
    // One row small enough for its page, one that spills over many.
    put(&cache, 1, CANARY).await;
    cache
        .insert_pending(SECRET, 2, token(2), &SecretBytes::from(vec![3; 20_000]))
        .await
        .unwrap();
    put(&cache, 3, b"stays").await;
    for version in [1, 2] {
        let dek = column(&cache, "wrapped_dek", version).await;
        let ciphertext = column(&cache, "ciphertext", version).await;
        let pieces: Vec<&[u8]> = ciphertext.chunks_exact(48).collect();
        assert!(
            place.contains(&dek) && place.contains(pieces[0]),
            "the search itself works"
        );
        cache
            .destroy(SECRET, u64::try_from(version).unwrap())
            .await
            .unwrap();
        let files = place.bytes();
        let found = |needle: &[u8]| files.windows(needle.len()).any(|window| window == needle);
        assert!(!found(&dek));
        for piece in [
            pieces[0],
            pieces[pieces.len() / 2],
            pieces[pieces.len() - 1],
        ] {
            assert!(!found(piece));
        }
    }
    let error = cache.open_version(SECRET, 1).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Destroyed);
    assert_eq!(cache.list(SECRET).await.unwrap(), [3]);
    assert!(holds(&cache, 3, b"stays").await);
}

#[tokio::test]
async fn a_destroyed_version_never_comes_back() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, b"v").await;
    for version in [1, 1, 9, 9] {
        cache.destroy(SECRET, version).await.unwrap();
    }
    for (version, token) in [(1, token(1)), (1, token(2)), (9, token(9))] {
        let error = cache
            .insert_pending(SECRET, version, token, &secret(b"v"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Destroyed);
    }
    assert!(!cache.has(SECRET, 1).await.unwrap());
}

#[tokio::test]
async fn no_plaintext_reaches_the_files() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, CANARY).await;
    cache.stash(token(2), &secret(CANARY)).await.unwrap();
    cache.open_version(SECRET, 1).await.unwrap();
    let hex: String = CANARY.iter().map(|byte| format!("{byte:02x}")).collect();
    for needle in [CANARY, &CANARY[8..24], hex.as_bytes()] {
        assert!(!place.contains(needle));
    }
    assert!(!place.contains(&place.key.expose()[..16])); // EXPOSE: searched for in the files.
    cache.close().await.unwrap();
    assert!(!place.contains(CANARY));
}

#[tokio::test]
async fn wraps_are_counted_on_disk_before_use() {
    let place = Place::new();
    let cache = place.open().await;
    let wraps = async |cache: &Cache| -> i64 {
        let mut state = cache.state().await;
        sqlx::query_scalar("SELECT wraps FROM kek WHERE state = 'current'")
            .fetch_one(&mut state.table.connection)
            .await
            .unwrap()
    };
    let block = i64::try_from(RESERVED_WRAPS).unwrap();
    assert_eq!(wraps(&cache).await, 0);
    for version in 1..=RESERVED_WRAPS {
        put(&cache, version, b"v").await;
        assert_eq!(wraps(&cache).await, block);
    }
    put(&cache, 900, b"v").await;
    assert_eq!(wraps(&cache).await, 2 * block);
    cache.close().await.unwrap();
    let cache = place.open().await;
    put(&cache, 901, b"v").await;
    assert_eq!(
        wraps(&cache).await,
        3 * block,
        "a reopened cache skips what it may have used"
    );
}

#[tokio::test]
async fn a_used_up_kek_gives_way_to_a_fresh_one_and_stays_readable() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, b"old key").await;
    sqlx::query("UPDATE kek SET wraps = $1")
        .bind(i64::try_from(MAX_WRAPS).unwrap())
        .execute(&mut cache.state().await.table.connection)
        .await
        .unwrap();
    for version in 2..=RESERVED_WRAPS + 2 {
        put(&cache, version, b"new key").await;
    }
    let keks: i64 = sqlx::query_scalar("SELECT COUNT(DISTINCT key_id) FROM version")
        .fetch_one(&mut cache.state().await.table.connection)
        .await
        .unwrap();
    assert_eq!(keks, 2);
    cache.close().await.unwrap();
    let cache = place.open().await;
    assert!(holds(&cache, 1, b"old key").await);
    assert!(holds(&cache, 60, b"new key").await);
}

#[tokio::test]
async fn the_port_answers_by_kind_and_with_the_text_for_people() {
    let place = Place::new();
    let cache = place.open().await;
    let vault: &dyn VersionVault = &cache;
    let kind = |error: PortError| error.kind;
    assert_eq!(
        vault.open(SECRET, 1).await.map_err(kind).map(drop),
        Err(ErrorKind::NotFound)
    );
    assert_eq!(
        vault
            .insert(SECRET, 1, token(1), &secret(b"v"))
            .await
            .unwrap(),
        Inserted::New
    );
    assert_eq!(
        vault
            .insert(SECRET, 1, token(1), &secret(b"w"))
            .await
            .unwrap(),
        Inserted::Existing
    );
    assert!(vault.open(SECRET, 1).await.unwrap().ct_eq(&secret(b"v")));
    let taken = vault.insert(SECRET, 1, token(2), &secret(b"v")).await;
    assert_eq!(taken.map_err(kind), Err(ErrorKind::Conflict));
    vault.destroy(SECRET, 1).await.unwrap();
    vault.destroy(SECRET, 2).await.unwrap();
    assert_eq!(
        vault.open(SECRET, 1).await.map_err(kind).map(drop),
        Err(ErrorKind::NotFound)
    );
    let barred = vault
        .insert(SECRET, 2, token(2), &secret(b"v"))
        .await
        .unwrap_err();
    assert_eq!(barred.kind, ErrorKind::Denied);
    assert!(barred.to_string().contains("rotate the secret"), "{barred}");
    vault
        .insert(SECRET, 3, token(3), &secret(b"v"))
        .await
        .unwrap();
    execute(
        &cache,
        "UPDATE version SET nonce = zeroblob(12) WHERE version = 3",
    )
    .await;
    let corrupt = vault.open(SECRET, 3).await.unwrap_err();
    assert_eq!(corrupt.kind, ErrorKind::Corrupt);
    assert!(corrupt.source.is_some());
}
