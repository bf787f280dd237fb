//! A KEK wraps for ninety days and no longer; older files learn when theirs was made.

use super::*;

/// Id and time of making of the current KEK.
async fn current(cache: &Cache) -> (Vec<u8>, i64) {
    sqlx::query_as("SELECT id, created FROM kek WHERE state = 'current'")
        .fetch_one(&mut cache.state().await.table.connection)
        .await
        .unwrap()
}

async fn insert(cache: &Cache, version: u64) {
    let value = secret(format!("value {version}").as_bytes());
    cache
        .insert_pending(SECRET, version, token(version), &value)
        .await
        .unwrap();
}

impl Place {
    fn set_clock(&self, micros: i64) {
        self.clock.0.store(micros, Ordering::SeqCst);
    }
}

fn max_age() -> i64 {
    i64::try_from(MAX_KEK_AGE.as_micros()).unwrap()
}

#[test]
fn ninety_days_are_the_limit() {
    assert_eq!(MAX_KEK_AGE, Duration::from_secs(90 * 86_400));
}

#[tokio::test]
async fn a_kek_of_ninety_days_gives_way_also_with_wraps_to_spare() {
    let place = Place::new();
    place.set_clock(1_000);
    let cache = place.open().await;
    insert(&cache, 1).await;
    let first = current(&cache).await;
    assert_eq!(first.1, 1_000);
    place.set_clock(1_000 + max_age() - 1);
    insert(&cache, 2).await;
    assert_eq!(current(&cache).await, first, "one microsecond too early");
    place.set_clock(1_000 + max_age());
    insert(&cache, 3).await;
    let second = current(&cache).await;
    assert_ne!(second.0, first.0);
    assert_eq!(second.1, 1_000 + max_age());
    place.set_clock(0);
    insert(&cache, 4).await;
    assert_eq!(current(&cache).await, second, "a clock that went back");
    cache.close().await.unwrap();

    place.set_clock(1_000 + 2 * max_age());
    let cache = place.open().await;
    assert_eq!(current(&cache).await, second, "opening replaces nothing");
    insert(&cache, 5).await;
    assert_ne!(current(&cache).await.0, second.0);
    for version in 1..=5 {
        let value = cache.open_version(SECRET, version).await.unwrap();
        assert!(value.ct_eq(&secret(format!("value {version}").as_bytes())));
    }
}

/// Puts a cache back to the format before KEKs had a time.
async fn make_old(place: &Place) {
    let cache = place.open().await;
    insert(&cache, 1).await;
    execute(
        &cache,
        "ALTER TABLE kek DROP COLUMN created; DROP TABLE store_key; PRAGMA user_version = 1",
    )
    .await;
    cache.close().await.unwrap();
}

#[tokio::test]
async fn a_kek_of_an_older_build_counts_from_the_first_open_on() {
    let place = Place::new();
    make_old(&place).await;
    place.set_clock(7 * max_age());
    let cache = place.open().await;
    let first = current(&cache).await;
    assert_eq!(first.1, 7 * max_age());
    insert(&cache, 2).await;
    assert_eq!(current(&cache).await, first);
    cache.close().await.unwrap();

    place.set_clock(8 * max_age() - 1);
    let cache = place.open().await;
    assert_eq!(current(&cache).await, first, "the time is set once");
    place.set_clock(8 * max_age());
    insert(&cache, 3).await;
    assert_ne!(current(&cache).await.0, first.0);
    assert!(cache.open_version(SECRET, 1).await.is_ok());
}

#[tokio::test]
async fn a_wrong_key_upgrades_nothing() {
    let place = Place::new();
    make_old(&place).await;
    let wrong = UnsealKey::generate(&OsEntropy).to_file();
    let before = std::fs::read(place.path()).unwrap();
    let refused = place.try_open(&wrong).await;
    assert!(matches!(refused, Err(Error::WrongUnsealKey { .. })));
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
    assert_eq!(current(&place.open().await).await.1, 0);
}
