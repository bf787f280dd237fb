//! Rows that were changed, moved or copied back, damaged files, and a full disk.

use super::*;

async fn corrupt(cache: &Cache, secret: SecretId, version: u64) {
    let error = cache.open_version(secret, version).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_changed_column_is_never_served() {
    let place = Place::new();
    let cache = place.open().await;
    let changes = [
        "UPDATE version SET ciphertext = zeroblob(length(ciphertext)) WHERE version = 1",
        "UPDATE version SET wrapped_dek = zeroblob(60) WHERE version = 2",
        "UPDATE version SET nonce = zeroblob(12) WHERE version = 3",
        "UPDATE version SET commitment = zeroblob(32) WHERE version = 4",
        "UPDATE version SET suite = 2 WHERE version = 5",
        "UPDATE version SET key_id = zeroblob(16) WHERE version = 6",
        "UPDATE version SET ciphertext = NULL WHERE version = 7",
        "UPDATE version SET nonce = zeroblob(3) WHERE version = 8",
    ];
    for (version, change) in (1..).zip(changes) {
        put(&cache, version, b"v").await;
        assert!(cache.open_version(SECRET, version).await.is_ok());
        execute(&cache, change).await;
        corrupt(&cache, SECRET, version).await;
    }
}

#[tokio::test]
async fn swapped_rows_are_never_served() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, b"one").await;
    put(&cache, 2, b"two").await;
    cache
        .insert_pending(OTHER, 1, token(1), &secret(b"other"))
        .await
        .unwrap();
    execute(
        &cache,
        "UPDATE version SET version = 100 - version, token = randomblob(16)",
    )
    .await;
    execute(&cache, "UPDATE version SET version = 2 WHERE version = 99").await;
    execute(&cache, "UPDATE version SET version = 1 WHERE version = 98").await;
    corrupt(&cache, SECRET, 1).await;
    corrupt(&cache, SECRET, 2).await;
    corrupt(&cache, OTHER, 2).await;
}

#[tokio::test]
async fn an_old_version_copied_over_a_new_one_is_never_served() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, b"old").await;
    put(&cache, 2, b"new").await;
    execute(
        &cache,
        "UPDATE version SET (wrapped_dek, nonce, ciphertext, commitment) = \
         (SELECT wrapped_dek, nonce, ciphertext, commitment FROM version WHERE version = 1) WHERE version = 2",
    )
    .await;
    corrupt(&cache, SECRET, 2).await;
    assert!(cache.open_version(SECRET, 1).await.is_ok());
}

#[tokio::test]
async fn a_row_of_another_cache_is_never_served() {
    let (place, foreign) = (Place::new(), Place::new());
    let cache = place.open().await;
    put(&cache, 1, b"v").await;
    let other = foreign.open().await;
    other
        .insert_pending(SECRET, 1, token(1), &secret(b"planted"))
        .await
        .unwrap();
    let planted = column(&other, "ciphertext", 1).await;
    sqlx::query("UPDATE version SET ciphertext = $1")
        .bind(planted)
        .execute(&mut cache.state().await.table.connection)
        .await
        .unwrap();
    corrupt(&cache, SECRET, 1).await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_at_open() {
    let place = Place::new();
    let cache = place.open().await;
    for version in 1..40 {
        put(&cache, version, b"v").await;
    }
    cache.close().await.unwrap();
    let good = std::fs::read(place.path()).unwrap();
    let mut page = good.clone();
    page[4096 * 5..4096 * 6].fill(0xaa);
    let mut header = good.clone();
    header[..16].fill(b'x');
    for bad in [page, header] {
        std::fs::write(place.path(), bad).unwrap();
        let error = place.try_open(&place.key).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    }
    std::fs::write(place.path(), good).unwrap();
    assert!(place.open().await.open_version(SECRET, 1).await.is_ok());
}

#[tokio::test]
async fn a_full_disk_is_named_and_changes_nothing() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, b"v").await;
    // The library answers a real "no space left" with the same code as this page limit.
    execute(&cache, "PRAGMA max_page_count = 1").await;
    let large = SecretBytes::from(vec![1; 500_000]);
    let error = cache
        .insert_pending(SECRET, 2, token(2), &large)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(
        error.to_string().contains("disk") && error.to_string().contains("full"),
        "{error}"
    );
    assert!(!cache.has(SECRET, 2).await.unwrap());
    assert!(cache.open_version(SECRET, 1).await.is_ok());
    execute(&cache, "PRAGMA max_page_count = 1000000").await;
    assert_eq!(
        cache
            .insert_pending(SECRET, 2, token(2), &large)
            .await
            .unwrap(),
        Inserted::New
    );
}

#[tokio::test]
async fn a_second_owner_is_kept_out() {
    let place = Place::new();
    let cache = place.open().await;
    let error = place.try_open(&place.key).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    cache.close().await.unwrap();
    assert!(place.try_open(&place.key).await.is_ok());
}
