//! Key pairs for provided values: replaced daily, kept a little longer, never in the clear.

use keywheel_seal::hpke::HostKeyPair;

use super::*;

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap()
}

async fn publics(cache: &Cache) -> Vec<[u8; 32]> {
    let pairs = cache.store_keys().await.unwrap();
    pairs.iter().map(|pair| pair.public().to_bytes()).collect()
}

async fn generations(cache: &Cache) -> Vec<i64> {
    sqlx::query_scalar("SELECT generation FROM store_key ORDER BY generation")
        .fetch_all(&mut cache.state().await.table.connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_pair_is_told_for_a_day_and_opens_a_little_longer() {
    let place = Place::new();
    let set = |micros| place.clock.0.store(micros, Ordering::SeqCst);
    let (day, more) = (micros(MAX_STORE_KEY_AGE), micros(MAX_STASH_AGE));
    let cache = place.open().await;
    let first = publics(&cache).await;
    assert_eq!(first.len(), 1);
    set(day - 1);
    assert_eq!(publics(&cache).await, first);
    cache.close().await.unwrap();
    let cache = place.open().await;
    assert_eq!(publics(&cache).await, first, "it outlives its process");
    set(day);
    let both = publics(&cache).await;
    assert_eq!((both.len(), both[1]), (2, first[0]));
    set(day + more - 1);
    assert_eq!(publics(&cache).await, both);
    set(day + more);
    assert_eq!(publics(&cache).await, both[..1]);
    assert_eq!(generations(&cache).await, [2]);
    set(0);
    assert_eq!(publics(&cache).await, both[..1], "a clock that went back");
}

#[tokio::test]
async fn no_file_holds_a_pair_and_a_changed_row_opens_nothing() {
    let place = Place::new();
    let cache = place.open().await;
    let pairs: Vec<HostKeyPair> = cache.store_keys().await.unwrap();
    // EXPOSE: the test looks for it in the files.
    let private = pairs[0].private_bytes().expose().to_vec();
    assert!(!place.contains(&private));
    execute(&cache, "UPDATE store_key SET generation = 7").await;
    let moved = cache.store_keys().await.err().unwrap();
    assert!(matches!(moved, Error::CorruptStoreKey), "{moved}");
    assert_eq!(moved.kind(), Kind::Corrupt);
    execute(&cache, "DELETE FROM store_key").await;
    assert_eq!(publics(&cache).await.len(), 1);
}
