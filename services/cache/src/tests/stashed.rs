//! Provided values that wait.

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

#[tokio::test]
async fn a_provided_value_waits_through_a_restart_and_is_removed_once_used() {
    let place = Place::new();
    let cache = place.open().await;
    cache.stash("t1", &secret(CANARY), NOW).await.unwrap();
    cache.close().await.unwrap();
    let cache = place.open().await;
    for _ in 0..2 {
        assert!(
            cache
                .stashed("t1")
                .await
                .unwrap()
                .unwrap()
                .ct_eq(&secret(CANARY))
        );
    }
    cache.unstash("t1").await.unwrap();
    cache.unstash("t1").await.unwrap();
    assert!(cache.stashed("t1").await.unwrap().is_none());
    cache.stash("t2", &secret(b"v"), NOW).await.unwrap();
    assert!(cache.take_stash("t2").await.unwrap().is_some());
    assert!(cache.take_stash("t2").await.unwrap().is_none());
}

#[tokio::test]
async fn the_same_put_twice_is_one_and_another_value_is_refused() {
    let place = Place::new();
    let cache = place.open().await;
    cache.stash("t1", &secret(b"first"), NOW).await.unwrap();
    cache.stash("t1", &secret(b"first"), NOW).await.unwrap();
    let error = cache
        .stash("t1", &secret(b"second"), NOW)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::StashTaken), "{error}");
    assert!(
        cache
            .stashed("t1")
            .await
            .unwrap()
            .unwrap()
            .ct_eq(&secret(b"first"))
    );
}

#[tokio::test]
async fn a_value_under_another_token_or_in_the_other_table_does_not_open() {
    let place = Place::new();
    let cache = place.open().await;
    cache.stash("t1", &secret(b"v"), NOW).await.unwrap();
    cache
        .insert_pending(SECRET, 1, "t1", &secret(b"x"))
        .await
        .unwrap();
    execute(
        &cache,
        "UPDATE version SET (key_id, wrapped_dek, nonce, ciphertext, commitment) = \
         (SELECT key_id, wrapped_dek, nonce, ciphertext, commitment FROM stash)",
    )
    .await;
    assert_eq!(
        cache.open_version(SECRET, 1).await.unwrap_err().kind(),
        Kind::Corrupt
    );
    execute(&cache, "UPDATE stash SET token = 't2'").await;
    assert_eq!(cache.stashed("t2").await.unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn only_so_many_wait_and_only_so_long() {
    let place = Place::new();
    let cache = place.open().await;
    for number in 0..MAX_STASHED {
        cache
            .stash(&format!("t{number}"), &secret(b"v"), NOW)
            .await
            .unwrap();
    }
    let error = cache
        .stash("more", &secret(b"v"), NOW.plus(MAX_STASH_AGE))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::StashFull { limit: MAX_STASHED }),
        "{error}"
    );
    let later = NOW.plus(MAX_STASH_AGE + std::time::Duration::from_secs(1));
    cache.stash("more", &secret(b"v"), later).await.unwrap();
    assert!(cache.stashed("t0").await.unwrap().is_none());
    assert!(cache.stashed("more").await.unwrap().is_some());
}

#[tokio::test]
async fn a_used_value_leaves_no_bytes_behind() {
    let place = Place::new();
    let cache = place.open().await;
    cache.stash("t1", &secret(b"v"), NOW).await.unwrap();
    let mut state = cache.state().await;
    let row: (Vec<u8>, Vec<u8>) = sqlx::query_as("SELECT wrapped_dek, ciphertext FROM stash")
        .fetch_one(&mut state.connection)
        .await
        .unwrap();
    drop(state);
    assert!(place.contains(&row.0) && place.contains(&row.1));
    cache.unstash("t1").await.unwrap();
    assert!(!place.contains(&row.0) && !place.contains(&row.1));
}
