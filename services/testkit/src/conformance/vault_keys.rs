//! What replacing the key that wraps data keys has to keep, whether one process has a vault open or several.
//!
//! Damage, kills by a signal, and what lies on disk each adapter's tests show.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_seal::SecretBytes;

use super::journal::id;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const OTHER: SecretId = SecretId::from_bytes([2; 16]);
/// Versions of each of the two.
const VERSIONS: u64 = 5;
/// Those, a provided value and a key pair.
const ROWS: u64 = 2 * VERSIONS + 2;
/// The provided value's token.
const WAITS: u64 = 1000;
/// No replacing takes more starts.
const MOST_STARTS: u64 = 100;

/// A vault whose key can be replaced.
#[async_trait]
pub trait Keys: VersionVault {
    /// Makes a fresh key current.
    async fn begin(&self);
    /// Wraps so many rows anew; `false` once one key is all there is.
    async fn step(&self, rows: u32) -> bool;
    /// Keys beside the current one, and rows under these.
    async fn left(&self) -> (u64, u64);
}

/// Two processes that have it open where an adapter can be shared, else one twice.
pub type Ends = [Arc<dyn Keys>; 2];

/// An empty vault, which outlives whoever has it open.
#[async_trait(?Send)]
pub trait Home {
    /// Opens it; whoever had it open dropped it.
    async fn open(&self) -> Ends;
}

/// Runs every case, each on an empty vault.
///
/// # Panics
/// When a law is broken.
pub async fn check<F, R, H>(fresh: F)
where
    F: Fn() -> R,
    R: Future<Output = H>,
    H: Home,
{
    it_goes_on_at_any_row_and_everything_opens_meanwhile(&fresh().await).await;
    what_is_made_and_destroyed_meanwhile_stays_so(&fresh().await).await;
    who_knows_only_the_key_that_went_writes_under_the_fresh_one(&fresh().await).await;
    two_that_replace_it_at_once_lose_nothing(&fresh().await).await;
}

fn token(n: u64) -> RotationId {
    RotationId::from_bytes(id(4, n))
}

fn value(n: u64) -> SecretBytes {
    SecretBytes::from(format!("value {n}").into_bytes())
}

/// Versions of two secrets, a provided value and a key pair, whose public half it gives.
async fn fill(end: &Arc<dyn Keys>) -> Vec<u8> {
    for version in 1..=VERSIONS {
        insert(end, SECRET, version).await;
        insert(end, OTHER, version).await;
    }
    end.stash(token(WAITS), &value(WAITS)).await.unwrap();
    told(end).await
}

async fn insert(end: &Arc<dyn Keys>, secret: SecretId, version: u64) {
    let value = value(version);
    let made = end.insert(secret, version, token(version), &value).await;
    assert_eq!(made.unwrap(), Inserted::New, "version {version}");
}

async fn told(end: &Arc<dyn Keys>) -> Vec<u8> {
    let pairs = end.store_keys().await.unwrap();
    pairs[0].public().to_bytes().to_vec()
}

async fn holds(end: &Arc<dyn Keys>, secret: SecretId, version: u64) {
    let opened = end.open(secret, version).await.unwrap();
    assert!(opened.ct_eq(&value(version)), "version {version}");
}

async fn waits(end: &Arc<dyn Keys>, by: u64) {
    let stashed = end.stashed(token(by)).await.unwrap().unwrap();
    assert!(stashed.ct_eq(&value(by)), "{by} waits");
}

/// Everything that was filled in is what it was.
async fn all_open(end: &Arc<dyn Keys>, pair: &[u8]) {
    for version in 1..=VERSIONS {
        holds(end, SECRET, version).await;
        holds(end, OTHER, version).await;
    }
    waits(end, WAITS).await;
    assert_eq!(told(end).await, pair);
}

async fn replace(end: &Arc<dyn Keys>, rows: u32) {
    while end.step(rows).await {}
}

async fn it_goes_on_at_any_row_and_everything_opens_meanwhile(home: &impl Home) {
    let [one, other] = home.open().await;
    let pair = fill(&one).await;
    assert_eq!(one.left().await, (0, 0));
    one.begin().await;
    assert_eq!(other.left().await, (1, ROWS), "both ends tell it");
    drop((one, other));
    let (mut starts, mut before) = (0, ROWS);
    loop {
        let [one, other] = home.open().await;
        all_open(&one, &pair).await;
        all_open(&other, &pair).await;
        let (keys, rows) = other.left().await;
        assert!(rows <= before, "{rows} of {before}");
        before = rows;
        if keys == 0 {
            break;
        }
        let mut goes_on = one.step(1).await;
        // What begins anew after the versions were done looks at the rest, and at the end, in one run.
        while goes_on && rows <= ROWS - 2 * VERSIONS {
            goes_on = one.step(1).await;
        }
        starts += 1;
        assert!(starts < MOST_STARTS, "it does not end");
    }
    assert!(starts >= 2 * VERSIONS, "{starts} starts");
    assert_eq!(before, 0);
}

async fn what_is_made_and_destroyed_meanwhile_stays_so(home: &impl Home) {
    let [one, other] = home.open().await;
    let pair = fill(&one).await;
    // Both have wraps left of the key that goes.
    insert(&other, OTHER, 50).await;
    one.begin().await;
    assert!(one.step(3).await);
    insert(&other, OTHER, 51).await;
    other.destroy(OTHER, 50).await.unwrap();
    other.destroy(SECRET, 52).await.unwrap();
    // Another row under the token of one that the first end may have read already.
    other.drop_stashed(token(WAITS)).await.unwrap();
    other.stash(token(WAITS), &value(WAITS)).await.unwrap();
    replace(&one, 3).await;
    for end in [&one, &other] {
        all_open(end, &pair).await;
        holds(end, OTHER, 51).await;
        assert!(end.is_destroyed(OTHER, 50).await.unwrap());
        assert!(end.is_destroyed(SECRET, 52).await.unwrap());
        assert_eq!(end.left().await, (0, 0));
    }
}

async fn who_knows_only_the_key_that_went_writes_under_the_fresh_one(home: &impl Home) {
    let [one, other] = home.open().await;
    let pair = fill(&other).await;
    one.begin().await;
    replace(&one, 100).await;
    insert(&other, SECRET, 60).await;
    one.begin().await;
    replace(&one, 100).await;
    other.stash(token(61), &value(61)).await.unwrap();
    for end in [&one, &other] {
        all_open(end, &pair).await;
        holds(end, SECRET, 60).await;
        waits(end, 61).await;
        assert_eq!(end.left().await, (0, 0));
    }
    // The other way round.
    other.begin().await;
    assert_eq!(one.left().await.0, 1);
    replace(&other, 100).await;
    insert(&one, SECRET, 62).await;
    for end in [&one, &other] {
        all_open(end, &pair).await;
        holds(end, SECRET, 62).await;
        assert_eq!(end.left().await, (0, 0));
    }
}

async fn two_that_replace_it_at_once_lose_nothing(home: &impl Home) {
    let [one, other] = home.open().await;
    let pair = fill(&one).await;
    tokio::join!(one.begin(), other.begin());
    let using = async {
        for version in 200..230 {
            insert(&other, OTHER, version).await;
            one.stash(token(version), &value(version)).await.unwrap();
            waits(&other, version).await;
            holds(&one, OTHER, version).await;
            other.drop_stashed(token(version)).await.unwrap();
            one.destroy(OTHER, version).await.unwrap();
        }
    };
    tokio::join!(replace(&one, 1), replace(&other, 1), using);
    // What was written under a key that went while both were at their ends.
    replace(&one, 100).await;
    for end in [&one, &other] {
        all_open(end, &pair).await;
        assert_eq!(end.left().await, (0, 0));
        for version in 200..230 {
            assert!(end.is_destroyed(OTHER, version).await.unwrap());
        }
    }
}
