//! Provided values that wait.

use super::*;

#[tokio::test]
async fn a_provided_value_waits_through_a_restart_and_is_removed_once_used() {
    let place = Place::new();
    let cache = place.open().await;
    cache.stash(token(1), &secret(CANARY)).await.unwrap();
    cache.close().await.unwrap();
    let cache = place.open().await;
    for _ in 0..2 {
        assert!(
            cache
                .stashed(token(1))
                .await
                .unwrap()
                .unwrap()
                .ct_eq(&secret(CANARY))
        );
    }
    cache.drop_stashed(token(1)).await.unwrap();
    cache.drop_stashed(token(1)).await.unwrap();
    assert!(cache.stashed(token(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn the_first_provided_value_under_a_token_wins() {
    let place = Place::new();
    let cache = place.open().await;
    assert_eq!(
        cache.stash(token(1), &secret(b"first")).await.unwrap(),
        Inserted::New
    );
    assert_eq!(
        cache.stash(token(1), &secret(b"second")).await.unwrap(),
        Inserted::Existing
    );
    assert!(
        cache
            .stashed(token(1))
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
    cache.stash(token(1), &secret(b"v")).await.unwrap();
    put(&cache, 1, b"x").await;
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
    execute(
        &cache,
        "UPDATE stash SET token = x'00000000000000000000000000000002'",
    )
    .await;
    assert_eq!(
        cache.stashed(token(2)).await.unwrap_err().kind(),
        Kind::Corrupt
    );
}

#[tokio::test]
async fn only_so_many_wait_and_only_so_long() {
    let place = Place::new();
    let cache = place.open().await;
    for number in 0..MAX_STASHED {
        cache
            .stash(token(number.into()), &secret(b"v"))
            .await
            .unwrap();
    }
    let age = i64::try_from(MAX_STASH_AGE.as_micros()).unwrap();
    place.clock.0.store(age, Ordering::SeqCst);
    let error = cache.stash(token(9999), &secret(b"v")).await.unwrap_err();
    assert!(
        matches!(error, Error::StashFull { limit: MAX_STASHED }),
        "{error}"
    );
    place.clock.0.store(age + 1, Ordering::SeqCst);
    cache.stash(token(9999), &secret(b"v")).await.unwrap();
    assert!(cache.stashed(token(0)).await.unwrap().is_none());
    assert!(cache.stashed(token(9999)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_used_value_leaves_no_bytes_behind() {
    let place = Place::new();
    let cache = place.open().await;
    cache.stash(token(1), &secret(b"v")).await.unwrap();
    let mut state = cache.state().await;
    let row: (Vec<u8>, Vec<u8>) = sqlx::query_as("SELECT wrapped_dek, ciphertext FROM stash")
        .fetch_one(&mut state.table.connection)
        .await
        .unwrap();
    drop(state);
    assert!(place.contains(&row.0) && place.contains(&row.1));
    cache.drop_stashed(token(1)).await.unwrap();
    assert!(!place.contains(&row.0) && !place.contains(&row.1));
}

#[tokio::test]
async fn what_waited_too_long_is_gone_when_the_cache_opens() {
    let place = Place::new();
    let cache = place.open().await;
    cache.stash(token(1), &secret(CANARY)).await.unwrap();
    let sql = "SELECT ciphertext FROM stash";
    let sealed: Vec<u8> = sqlx::query_scalar(sql)
        .fetch_one(&mut cache.state().await.table.connection)
        .await
        .unwrap();
    cache.close().await.unwrap();
    let age = i64::try_from(MAX_STASH_AGE.as_micros()).unwrap();
    place.clock.0.store(age, Ordering::SeqCst);
    let cache = place.open().await;
    assert!(cache.stashed(token(1)).await.unwrap().is_some());
    assert!(place.contains(&sealed));
    cache.close().await.unwrap();
    place.clock.0.store(age + 1, Ordering::SeqCst);
    let cache = place.open().await;
    assert!(cache.stashed(token(1)).await.unwrap().is_none());
    assert!(!place.contains(&sealed));
}

#[tokio::test]
async fn destroying_a_version_takes_what_its_rotation_left() {
    let place = Place::new();
    let cache = place.open().await;
    for number in [1, 2] {
        cache.stash(token(number), &secret(CANARY)).await.unwrap();
        put(&cache, number, CANARY).await;
    }
    cache.destroy(SECRET, 1).await.unwrap();
    assert!(cache.stashed(token(1)).await.unwrap().is_none());
    assert!(cache.stashed(token(2)).await.unwrap().is_some());
}
