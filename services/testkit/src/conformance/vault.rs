//! What every vault has to keep: the laws of `port::vault`, one function each.
//!
//! What a port cannot show (what lies on disk, damage, keys) each adapter's tests do.

use std::future::Future;
use std::sync::Arc;

use keywheel_core::id::{RotationId, SecretId};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_seal::hpke;
use keywheel_seal::{OsEntropy, SecretBytes};

use super::journal::id;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const OTHER: SecretId = SecretId::from_bytes([2; 16]);

/// Runs every case, each on an empty vault. `fresh` gives two ends of it: those of two processes where
/// an adapter can be shared, else the same one twice.
///
/// # Panics
/// When a law is broken.
pub async fn check<F, R>(fresh: F)
where
    F: Fn() -> R,
    R: Future<Output = [Arc<dyn VersionVault>; 2]>,
{
    a_value_is_read_back_at_its_own_place(&fresh().await).await;
    a_tokens_first_value_wins(&fresh().await).await;
    a_destroyed_version_never_comes_back(&fresh().await).await;
    a_stashed_value_waits_until_it_is_dropped(&fresh().await).await;
    one_end_opens_what_was_sealed_to_the_others_key(&fresh().await).await;
}

type Ends = [Arc<dyn VersionVault>; 2];

fn token(n: u64) -> RotationId {
    RotationId::from_bytes(id(4, n))
}

fn value(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes().to_vec())
}

async fn holds(vault: &Arc<dyn VersionVault>, secret: SecretId, version: u64, text: &str) {
    let opened = vault.open(secret, version).await.unwrap();
    assert!(
        opened.ct_eq(&value(text)),
        "version {version} is another value"
    );
    assert!(vault.has(secret, version).await.unwrap());
    assert!(!vault.is_destroyed(secret, version).await.unwrap());
}

async fn is_absent(vault: &Arc<dyn VersionVault>, secret: SecretId, version: u64) {
    let opened = vault.open(secret, version).await.map(drop);
    assert_eq!(opened.map_err(|e| e.kind), Err(ErrorKind::NotFound));
    assert!(!vault.has(secret, version).await.unwrap());
}

async fn a_value_is_read_back_at_its_own_place([one, other]: &Ends) {
    is_absent(one, SECRET, 1).await;
    let inserted = one.insert(SECRET, 1, token(1), &value("a")).await.unwrap();
    assert_eq!(inserted, Inserted::New);
    other
        .insert(SECRET, 2, token(2), &value("b"))
        .await
        .unwrap();
    // Another secret may use the same numbers and tokens.
    one.insert(OTHER, 1, token(1), &value("c")).await.unwrap();
    for end in [one, other] {
        holds(end, SECRET, 1, "a").await;
        holds(end, SECRET, 2, "b").await;
        holds(end, OTHER, 1, "c").await;
        is_absent(end, OTHER, 2).await;
        assert!(!end.is_destroyed(OTHER, 2).await.unwrap(), "it never was");
    }
}

async fn a_tokens_first_value_wins([one, other]: &Ends) {
    one.insert(SECRET, 1, token(1), &value("first"))
        .await
        .unwrap();
    let second = other.insert(SECRET, 1, token(1), &value("second")).await;
    assert_eq!(second.unwrap(), Inserted::Existing);
    holds(other, SECRET, 1, "first").await;
    // Neither another token for the version nor another version for the token.
    for (version, by) in [(1, 2), (2, 1)] {
        let taken = other.insert(SECRET, version, token(by), &value("x")).await;
        assert_eq!(taken.map_err(|e| e.kind), Err(ErrorKind::Conflict));
    }
    let (a, b) = (value("a"), value("b"));
    let (a, b) = tokio::join!(
        one.insert(SECRET, 3, token(3), &a),
        other.insert(SECRET, 3, token(3), &b)
    );
    assert_ne!(a.unwrap(), b.unwrap(), "one is first");
    let (read, too) = (one.open(SECRET, 3).await, other.open(SECRET, 3).await);
    assert!(read.unwrap().ct_eq(&too.unwrap()));
}

async fn a_destroyed_version_never_comes_back([one, other]: &Ends) {
    one.insert(SECRET, 1, token(1), &value("a")).await.unwrap();
    // Version 2 never existed.
    for version in [1, 2, 1, 2] {
        other.destroy(SECRET, version).await.unwrap();
    }
    for end in [one, other] {
        for version in [1, 2] {
            is_absent(end, SECRET, version).await;
            assert!(end.is_destroyed(SECRET, version).await.unwrap());
            let late = value("late");
            let late = end.insert(SECRET, version, token(version), &late).await;
            assert_eq!(late.map_err(|e| e.kind), Err(ErrorKind::Denied));
        }
    }
}

async fn a_stashed_value_waits_until_it_is_dropped([one, other]: &Ends) {
    assert!(one.stashed(token(1)).await.unwrap().is_none());
    let first = one.stash(token(1), &value("first")).await.unwrap();
    let second = other.stash(token(1), &value("second")).await.unwrap();
    assert_eq!((first, second), (Inserted::New, Inserted::Existing));
    let waits = other.stashed(token(1)).await.unwrap().unwrap();
    assert!(waits.ct_eq(&value("first")));
    for end in [other, one] {
        end.drop_stashed(token(1)).await.unwrap();
        assert!(end.stashed(token(1)).await.unwrap().is_none());
    }
}

async fn one_end_opens_what_was_sealed_to_the_others_key([one, other]: &Ends) {
    let (told, known) = tokio::join!(one.store_keys(), other.store_keys());
    let (told, known) = (told.unwrap(), known.unwrap());
    assert_eq!(told[0].public(), known[0].public(), "both are first");
    let sealed = hpke::seal(told[0].public(), b"info", b"aad", &value("a"), &OsEntropy);
    let opened = known[0].open(b"info", b"aad", &sealed.unwrap());
    assert!(opened.unwrap().ct_eq(&value("a")));
    let again = one.store_keys().await.unwrap();
    assert_eq!(again[0].public(), told[0].public(), "it stays");
}
