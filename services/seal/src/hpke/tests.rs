//! Tests of envelopes to hosts: vectors, round trips, and each wrong input alone.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::hazmat::test_hex;
use crate::{MAX_VALUE_BYTES, OsEntropy};

/// Gives the bytes of a vector once, then nothing more.
struct Scripted(Mutex<Vec<u8>>);

impl Entropy for Scripted {
    fn fill(&self, buf: &mut [u8]) {
        let mut left = self.0.lock().unwrap();
        let rest = left.split_off(buf.len());
        buf.copy_from_slice(&left);
        *left = rest;
    }
}

fn scripted(hex: &str) -> Scripted {
    Scripted(Mutex::new(test_hex(hex)))
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::from(bytes.to_vec())
}

#[test]
fn key_pairs_match_rfc_9180_a_1() {
    // A.1 shares the KEM with our suite: the ephemeral and the recipient pair.
    let pair = HostKeyPair::generate(&scripted(
        "7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234",
    ));
    let public = "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431";
    assert_eq!(pair.public().to_bytes().to_vec(), test_hex(public));
    let recipient = test_hex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8");
    let recipient = HostKeyPair::from_private_bytes(&SecretBytes::from(recipient)).unwrap();
    let public = "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d";
    assert_eq!(recipient.public().to_bytes().to_vec(), test_hex(public));
}

#[test]
fn the_encapsulated_key_comes_from_the_randomness_passed_in() {
    let host = HostKeyPair::generate(&OsEntropy);
    let ephemeral = scripted("7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234");
    let envelope = seal(host.public(), b"info", b"aad", &secret(b"v"), &ephemeral).unwrap();
    let want = "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431";
    assert_eq!(envelope.enc.to_vec(), test_hex(want));
    assert!(
        host.open(b"info", b"aad", &envelope)
            .unwrap()
            .ct_eq(&secret(b"v"))
    );
}

#[test]
fn each_wrong_input_alone_fails() {
    let host = HostKeyPair::generate(&OsEntropy);
    let good = seal(
        host.public(),
        b"host-1",
        b"delivery-1",
        &secret(b"value"),
        &OsEntropy,
    )
    .unwrap();
    assert!(host.open(b"host-1", b"delivery-1", &good).is_ok());
    let refused = |result: Result<SecretBytes, OpenError>| {
        assert_eq!(result.unwrap_err(), OpenError::Rejected)
    };
    refused(host.open(b"host-2", b"delivery-1", &good));
    refused(host.open(b"host-1", b"delivery-2", &good));
    refused(HostKeyPair::generate(&OsEntropy).open(b"host-1", b"delivery-1", &good));
    for at in 0..good.ciphertext.len() {
        let mut bad = good.clone();
        bad.ciphertext[at] ^= 1;
        refused(host.open(b"host-1", b"delivery-1", &bad));
    }
    for at in 0..31 {
        let mut bad = good.clone();
        bad.enc[at] ^= 1;
        refused(host.open(b"host-1", b"delivery-1", &bad));
    }
    let mut short = good.clone();
    short.ciphertext.clear();
    refused(host.open(b"host-1", b"delivery-1", &short));
}

#[test]
fn an_unknown_suite_is_refused() {
    let host = HostKeyPair::generate(&OsEntropy);
    let good = seal(host.public(), b"", b"", &secret(b"value"), &OsEntropy).unwrap();
    for suite in [0, 2, u16::MAX] {
        let bad = Envelope {
            suite,
            ..good.clone()
        };
        assert_eq!(
            host.open(b"", b"", &bad).unwrap_err(),
            OpenError::UnknownSuite(suite)
        );
    }
}

#[test]
fn a_useless_public_key_is_refused() {
    let result = seal(
        &PublicKey::from_bytes([0; 32]),
        b"",
        b"",
        &secret(b"v"),
        &OsEntropy,
    );
    assert_eq!(result.unwrap_err(), SealError::BadPublicKey);
}

#[test]
fn values_of_one_class_give_ciphertexts_of_one_length() {
    let host = HostKeyPair::generate(&OsEntropy);
    let length = |len: usize| {
        seal(
            host.public(),
            b"",
            b"",
            &SecretBytes::from(vec![1; len]),
            &OsEntropy,
        )
        .unwrap()
        .ciphertext
        .len()
    };
    assert_eq!(length(0), length(64));
    assert_eq!(length(65), length(256));
    assert_ne!(length(64), length(65));
}

#[test]
fn the_largest_value_travels_and_a_larger_does_not() {
    let host = HostKeyPair::generate(&OsEntropy);
    let largest = SecretBytes::from(vec![7; MAX_VALUE_BYTES]);
    let envelope = seal(host.public(), b"", b"", &largest, &OsEntropy).unwrap();
    assert_eq!(envelope.ciphertext.len(), MAX_CIPHERTEXT_BYTES);
    let envelope = Envelope::from_bytes(&envelope.to_bytes()).unwrap();
    assert!(host.open(b"", b"", &envelope).unwrap().ct_eq(&largest));
    let larger = SecretBytes::from(vec![7; MAX_VALUE_BYTES + 1]);
    let refused = seal(host.public(), b"", b"", &larger, &OsEntropy).unwrap_err();
    assert_eq!(refused, SealError::TooLarge(crate::TooLarge));
}

#[test]
fn bytes_that_are_no_envelope_are_refused() {
    let largest = 34 + MAX_CIPHERTEXT_BYTES;
    for len in [0, 1, 33, 34, largest + 1] {
        assert_eq!(
            Envelope::from_bytes(&vec![0; len]),
            Err(BadEnvelope),
            "length {len}"
        );
    }
    assert!(Envelope::from_bytes(&vec![0; largest]).is_ok());
}

#[test]
fn a_stored_pair_opens_what_the_first_one_would() {
    let host = HostKeyPair::generate(&OsEntropy);
    let envelope = seal(host.public(), b"", b"", &secret(b"v"), &OsEntropy).unwrap();
    let again = HostKeyPair::from_private_bytes(&host.private_bytes()).unwrap();
    assert!(
        again
            .open(b"", b"", &envelope)
            .unwrap()
            .ct_eq(&secret(b"v"))
    );
    assert!(HostKeyPair::from_private_bytes(&secret(&[1; 31])).is_err());
    let text = format!("{host:?}");
    let private = host.private_bytes();
    // EXPOSE: searched for in the debug text.
    let hex: String = private
        .expose()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(!text.contains(&hex));
}

proptest! {
    #[test]
    fn any_value_round_trips(
        value in proptest::collection::vec(any::<u8>(), 0..2000),
        info in proptest::collection::vec(any::<u8>(), 0..50),
        aad in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let host = HostKeyPair::generate(&OsEntropy);
        let envelope = seal(host.public(), &info, &aad, &secret(&value), &OsEntropy).unwrap();
        let envelope = Envelope::from_bytes(&envelope.to_bytes()).unwrap();
        prop_assert!(host.open(&info, &aad, &envelope).unwrap().ct_eq(&secret(&value)));
    }

    #[test]
    fn any_bytes_are_read_without_a_crash(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let host = HostKeyPair::generate(&OsEntropy);
        if let Ok(envelope) = Envelope::from_bytes(&bytes) {
            prop_assert!(host.open(b"", b"", &envelope).is_err());
            prop_assert_eq!(envelope.to_bytes(), bytes);
        }
    }
}
