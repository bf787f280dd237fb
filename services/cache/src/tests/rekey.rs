//! Replacing the KEK of everything: killed at every row it goes on, every row opens at every moment, and after it
//! nothing of the old key is left.

use super::*;
use crate::table::Table;

pub(crate) const VERSIONS: u64 = 6;

/// Versions of two secrets, a provided value and a key pair.
pub(crate) async fn fill(cache: &Cache<impl Table>) -> Vec<u8> {
    for version in 1..=VERSIONS {
        for (secret_id, at) in [(SECRET, version), (OTHER, 100 + version)] {
            let value = secret(format!("value {at}").as_bytes());
            cache
                .insert_pending(secret_id, version, token(at), &value)
                .await
                .unwrap();
        }
    }
    cache.stash(token(500), &secret(CANARY)).await.unwrap();
    cache
        .store_keys()
        .await
        .unwrap()
        .remove(0)
        .public()
        .to_bytes()
        .to_vec()
}

/// Every value is what it was.
pub(crate) async fn assert_all_open(cache: &Cache<impl Table>, key_pair: &[u8]) {
    for version in 1..=VERSIONS {
        for (secret_id, at) in [(SECRET, version), (OTHER, 100 + version)] {
            let opened = cache.open_version(secret_id, version).await.unwrap();
            assert!(
                opened.ct_eq(&secret(format!("value {at}").as_bytes())),
                "{at}"
            );
        }
    }
    let waits = cache.stashed(token(500)).await.unwrap().unwrap();
    assert!(waits.ct_eq(&secret(CANARY)));
    let told = cache.store_keys().await.unwrap().remove(0);
    assert_eq!(told.public().to_bytes().to_vec(), key_pair);
}

/// The current KEK as it is stored.
pub(super) async fn sealed_kek(cache: &Cache) -> Vec<u8> {
    let mut state = cache.state().await;
    sqlx::query_scalar("SELECT sealed FROM kek WHERE state = 'current'")
        .fetch_one(&mut state.table.connection)
        .await
        .unwrap()
}

pub(super) async fn count(cache: &Cache, sql: &'static str) -> i64 {
    let mut state = cache.state().await;
    sqlx::query_scalar(sql)
        .fetch_one(&mut state.table.connection)
        .await
        .unwrap()
}

pub(super) const KEKS: &str = "SELECT COUNT(*) FROM kek";

#[tokio::test]
async fn killed_at_every_row_it_goes_on_and_nothing_of_the_old_key_is_left() {
    let place = Place::new();
    let cache = place.open().await;
    let key_pair = fill(&cache).await;
    let old = sealed_kek(&cache).await;
    assert!(place.contains(&old));
    let begun = cache.begin_rekey().await.unwrap();
    let rows = 2 * VERSIONS + 2;
    assert_eq!((begun.old_keks, begun.left), (1, rows));
    drop(cache);
    let (mut kills, mut left) = (0u64, rows);
    loop {
        // Nothing but the file is left of the step before.
        let cache = place.open().await;
        assert_all_open(&cache, &key_pair).await;
        let now = cache.rekeying().await.unwrap().left;
        assert!(now <= left, "{now} of {left}");
        left = now;
        let stepped = cache.rekey_step(1).await.unwrap();
        if stepped == Stepped::Done {
            break;
        }
        assert_eq!(stepped, Stepped::More);
        // What begins anew after the versions were done looks at the rest and at the end in one run.
        while left <= 2 && cache.rekey_step(1).await.unwrap() == Stepped::More {}
        drop(cache);
        kills += 1;
        assert!(kills < 50, "it does not end");
    }
    assert!(kills >= 2 * VERSIONS, "{kills} kills");
    let cache = place.open().await;
    assert_all_open(&cache, &key_pair).await;
    assert_eq!(count(&cache, KEKS).await, 1);
    assert_eq!(cache.rekeying().await.unwrap(), Rekeying::default());
    assert!(!place.contains(&old), "the old key is in the file");
}

#[tokio::test]
async fn values_are_given_out_put_and_destroyed_meanwhile() {
    let place = Place::new();
    let cache = place.open().await;
    let key_pair = fill(&cache).await;
    cache.begin_rekey().await.unwrap();
    assert_eq!(cache.rekey_step(3).await.unwrap(), Stepped::More);
    cache.destroy(OTHER, 50).await.unwrap();
    put(&cache, 60, CANARY).await;
    assert_all_open(&cache, &key_pair).await;
    cache.destroy(SECRET, 60).await.unwrap();
    while cache.rekey_step(3).await.unwrap() == Stepped::More {}
    assert_all_open(&cache, &key_pair).await;
    for (owner, version) in [(OTHER, 50), (SECRET, 60)] {
        let opened = cache.open_version(owner, version).await;
        assert!(matches!(opened, Err(Error::Destroyed { .. })));
    }
    assert_eq!(count(&cache, KEKS).await, 1);
}

#[tokio::test]
async fn a_damaged_row_keeps_its_key_and_is_told_until_it_is_destroyed() {
    let place = Place::new();
    let cache = place.open().await;
    fill(&cache).await;
    let harm = "UPDATE version SET wrapped_dek = x'00' WHERE version = 2 AND secret = x'01010101010101010101010101010101'";
    execute(&cache, harm).await;
    cache.begin_rekey().await.unwrap();
    let mut stepped = Stepped::More;
    while stepped == Stepped::More {
        stepped = cache.rekey_step(5).await.unwrap();
    }
    assert_eq!(stepped, Stepped::Damaged(1));
    assert_eq!(count(&cache, KEKS).await, 2);
    assert_eq!(cache.rekeying().await.unwrap().left, 1);
    assert!(cache.open_version(SECRET, 3).await.is_ok());
    cache.destroy(SECRET, 2).await.unwrap();
    while cache.rekey_step(5).await.unwrap() == Stepped::More {}
    assert_eq!(count(&cache, KEKS).await, 1);
}

#[tokio::test]
async fn keys_that_were_replaced_by_age_go_the_same_way() {
    let place = Place::new();
    let cache = place.open().await;
    let key_pair = fill(&cache).await;
    let age = i64::try_from(MAX_KEK_AGE.as_micros()).unwrap();
    place.clock.0.store(age, Ordering::SeqCst);
    cache.stash(token(501), &secret(CANARY)).await.unwrap();
    assert_eq!(count(&cache, KEKS).await, 2);
    while cache.rekey_step(REKEY_STEP).await.unwrap() == Stepped::More {}
    assert_eq!(count(&cache, KEKS).await, 1);
    assert!(cache.open_version(SECRET, 1).await.is_ok());
    drop(key_pair);
}

#[tokio::test]
async fn every_row_that_is_wrapped_anew_is_counted() {
    let place = Place::new();
    let cache = place.open().await;
    fill(&cache).await;
    cache.begin_rekey().await.unwrap();
    while cache.rekey_step(REKEY_STEP).await.unwrap() == Stepped::More {}
    let wraps = count(&cache, "SELECT wraps FROM kek").await;
    let rows = i64::try_from(2 * VERSIONS + 2).unwrap();
    assert!(wraps >= rows, "{wraps} wraps of {rows} rows");
}
