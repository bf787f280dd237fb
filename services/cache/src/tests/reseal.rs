//! Another root key: the one before opens nothing any more, and the file says to which it belongs.

use super::*;

#[tokio::test]
async fn after_a_reseal_the_new_root_opens_everything_and_the_old_one_nothing() {
    let place = Place::new();
    let cache = place.open().await;
    let value = secret(CANARY);
    assert_eq!(cache.own_mark().await.unwrap(), 0);
    cache
        .insert_pending(SECRET, 1, token(1), &value)
        .await
        .unwrap();
    cache.begin_rekey().await.unwrap();
    let root = UnsealKey::generate(&OsEntropy);
    let file = root.to_file();
    cache.reseal(root, 0xfedc_ba98).await.unwrap();
    // Two keys are there now, and one more comes.
    cache.begin_rekey().await.unwrap();
    assert!(cache.open_version(SECRET, 1).await.unwrap().ct_eq(&value));
    drop(cache);
    let wrong = place.try_open(&place.key).await;
    assert!(matches!(wrong, Err(Error::WrongUnsealKey { .. })));
    let again = place.try_open(&file).await.unwrap();
    assert!(again.open_version(SECRET, 1).await.unwrap().ct_eq(&value));
    assert_eq!(again.own_mark().await.unwrap(), 0xfedc_ba98);
    drop(again);
    let mark = Cache::root_mark(&place.path()).await.unwrap();
    assert_eq!(mark, Some(0xfedc_ba98));
}

#[tokio::test]
async fn a_cache_that_was_never_resealed_has_no_mark_and_none_that_is_not_there() {
    let place = Place::new();
    assert_eq!(Cache::root_mark(&place.path()).await.unwrap(), None);
    drop(place.open().await);
    assert_eq!(Cache::root_mark(&place.path()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_reseal_that_is_cut_off_changed_nothing() {
    let place = Place::new();
    let cache = place.open().await;
    put(&cache, 1, CANARY).await;
    let refuse = "CREATE TRIGGER no_reseal BEFORE UPDATE OF sealed ON kek BEGIN SELECT RAISE(ABORT, 'a test'); END";
    execute(&cache, refuse).await;
    let cut = cache.reseal(UnsealKey::generate(&OsEntropy), 7).await;
    assert!(cut.is_err());
    assert!(cache.open_version(SECRET, 1).await.is_ok());
    drop(cache);
    assert_eq!(Cache::root_mark(&place.path()).await.unwrap(), Some(0));
    assert!(place.open().await.open_version(SECRET, 1).await.is_ok());
}
