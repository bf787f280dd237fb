//! Whatever arrives as something sealed, or as a key file: opening comes back with a "no".

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::hpke::Envelope;
use keywheel_seal::kept::{HostCacheKey, Place, What};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::hostile;

#[test]
fn no_host_cache_file_opens_but_the_right_one() {
    let key = HostCacheKey::generate(&OsEntropy);
    let place = Place {
        deployment: [1; 16],
        host: [2; 16],
        what: What::Record("plan"),
    };
    let text = SecretBytes::from(b"{}".to_vec());
    let sealed = key.seal(&place, &text, &OsEntropy).unwrap();
    hostile(&sealed, |bytes| {
        assert_eq!(key.open(&place, bytes).is_ok(), bytes == sealed);
    });
    assert!(key.open(&place, &sealed).is_ok());
}

#[test]
fn no_key_file_makes_its_reader_panic() {
    let good = UnsealKey::generate(&OsEntropy).to_file();
    // EXPOSE: a key of this test, as its file holds it.
    hostile(good.expose(), |bytes| {
        drop(UnsealKey::from_file(&SecretBytes::from(bytes.to_vec())));
        drop(HostCacheKey::from_stored(&SecretBytes::from(
            bytes.to_vec(),
        )));
    });
    assert!(UnsealKey::from_file(&good).is_ok());
}

#[test]
fn no_envelope_makes_its_reader_panic() {
    hostile(&[7; 200], |bytes| drop(Envelope::from_bytes(bytes)));
}
