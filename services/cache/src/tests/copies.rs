//! Copies of a cache in use: of one moment, without what was destroyed, and sealed as it is.

use super::*;
use crate::{Found, check_file};

#[tokio::test]
async fn a_copy_is_the_cache_of_the_moment_and_opens_with_its_key_alone() {
    let place = Place::new();
    let cache = place.open().await;
    for version in 1..=2 {
        let value = secret(CANARY);
        let made = cache.insert_pending(SECRET, version, token(version), &value);
        made.await.unwrap();
    }
    cache.destroy(SECRET, 1).await.unwrap();
    let copies = Place {
        key: UnsealKey::from_file(&place.key).unwrap().to_file(),
        ..Place::new()
    };
    let still = cache.stand_still().await;
    still.copy_to(&copies.path()).await.unwrap();
    // What comes later is not in it.
    let value = secret(CANARY);
    let later = cache.insert_pending(SECRET, 3, token(3), &value);
    later.await.unwrap();

    assert!(!copies.contains(CANARY));
    let found = check_file(&copies.path(), DEPLOYMENT).await.unwrap();
    assert_eq!(
        found,
        Found {
            live: 1,
            destroyed: 1
        }
    );
    let other = check_file(&copies.path(), [8; 16]).await.unwrap_err();
    assert!(matches!(other, Error::WrongDeployment { .. }), "{other}");
    let stranger = UnsealKey::generate(&OsEntropy).to_file();
    let refused = copies.try_open(&stranger).await.err().unwrap();
    assert!(matches!(refused, Error::WrongUnsealKey { .. }), "{refused}");
    let copy = copies.open().await;
    let value = copy.open_version(SECRET, 2).await.unwrap();
    assert!(value.ct_eq(&secret(CANARY)));
    assert!(matches!(
        copy.open_version(SECRET, 1).await,
        Err(Error::Destroyed { .. })
    ));
    assert!(matches!(
        copy.open_version(SECRET, 3).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_copy_replaces_no_file_and_an_empty_one_is_no_cache() {
    let place = Place::new();
    let cache = place.open().await;
    let taken = place.directory.path().join("taken.db");
    std::fs::write(&taken, "mine").unwrap();
    std::fs::set_permissions(&taken, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = cache.stand_still().await.copy_to(&taken).await.unwrap_err();
    assert!(matches!(refused, Error::Location { .. }), "{refused}");
    assert_eq!(std::fs::read(&taken).unwrap(), b"mine");
    let nothing = place.directory.path().join("nothing.db");
    let none = check_file(&nothing, DEPLOYMENT).await.unwrap_err();
    assert!(matches!(none, Error::CorruptFile { .. }), "{none}");
}
