//! Tests of values at rest: round trips, every kind of moved row, every changed byte.

use proptest::prelude::*;

use super::*;
use crate::{MAX_VALUE_BYTES, OsEntropy};

/// One of a row's byte fields.
type Field = fn(&mut SealedVersion) -> &mut [u8];

const DEPLOYMENT: [u8; 16] = [1; 16];

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::from(bytes.to_vec())
}

fn aad(kek: &Kek) -> Aad {
    Aad {
        format: AAD_FORMAT,
        deployment: DEPLOYMENT,
        secret: [2; 16],
        version: 3,
        key_id: kek.id(),
        purpose: Purpose::Version,
    }
}

fn sealed(kek: &Kek, value: &[u8]) -> SealedVersion {
    seal_version(kek, &aad(kek), &secret(value), &OsEntropy).unwrap()
}

#[test]
fn a_row_moved_anywhere_does_not_open() {
    let kek = Kek::generate(&OsEntropy);
    let row = sealed(&kek, b"value");
    let here = aad(&kek);
    assert!(
        open_version(&kek, &here, &row)
            .unwrap()
            .ct_eq(&secret(b"value"))
    );
    let elsewhere = [
        Aad { format: 2, ..here },
        Aad {
            deployment: [9; 16],
            ..here
        },
        Aad {
            secret: [9; 16],
            ..here
        },
        Aad { version: 4, ..here },
        Aad { version: 2, ..here },
        Aad {
            key_id: KekId::from_bytes([9; 16]),
            ..here
        },
        Aad {
            purpose: Purpose::Stash,
            ..here
        },
        Aad {
            purpose: Purpose::ServiceKey,
            ..here
        },
    ];
    for place in elsewhere {
        assert_eq!(
            open_version(&kek, &place, &row).unwrap_err(),
            OpenError::Rejected,
            "{place:?}"
        );
    }
}

#[test]
fn another_kek_does_not_open_even_under_the_same_name() {
    let kek = Kek::generate(&OsEntropy);
    let row = sealed(&kek, b"value");
    let other = Kek::generate(&OsEntropy);
    assert!(open_version(&other, &aad(&other), &row).is_err());
    let renamed = SealedVersion {
        key_id: other.id(),
        ..row
    };
    assert!(open_version(&other, &aad(&other), &renamed).is_err());
}

#[test]
fn parts_of_two_rows_do_not_mix() {
    let kek = Kek::generate(&OsEntropy);
    let (a, b) = (sealed(&kek, b"first"), sealed(&kek, b"second"));
    let mixed = [
        SealedVersion {
            wrapped_dek: b.wrapped_dek.clone(),
            ..a.clone()
        },
        SealedVersion {
            nonce: b.nonce,
            ..a.clone()
        },
        SealedVersion {
            ciphertext: b.ciphertext.clone(),
            ..a.clone()
        },
        SealedVersion {
            commitment: b.commitment,
            ..a.clone()
        },
        SealedVersion {
            ciphertext: b.ciphertext,
            commitment: b.commitment,
            ..a.clone()
        },
    ];
    for row in mixed {
        assert_eq!(
            open_version(&kek, &aad(&kek), &row).unwrap_err(),
            OpenError::Rejected
        );
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let kek = Kek::generate(&OsEntropy);
    let row = sealed(&kek, b"value");
    let rejected = |row: &SealedVersion| {
        open_version(&kek, &aad(&kek), row).unwrap_err() == OpenError::Rejected
    };
    let flips: [(usize, Field); 4] = [
        (row.wrapped_dek.len(), |row| &mut row.wrapped_dek),
        (row.nonce.len(), |row| &mut row.nonce),
        (row.ciphertext.len(), |row| &mut row.ciphertext),
        (row.commitment.len(), |row| &mut row.commitment),
    ];
    for (len, field) in flips {
        for at in 0..len {
            let mut bad = row.clone();
            field(&mut bad)[at] ^= 0x80;
            assert!(rejected(&bad), "byte {at} of {len}");
        }
    }
    let mut short = row.clone();
    short.wrapped_dek.truncate(5);
    assert!(rejected(&short));
    let mut long = row;
    long.ciphertext = vec![0; MAX_CIPHERTEXT_BYTES + 1];
    assert!(rejected(&long));
}

#[test]
fn an_unknown_suite_is_refused() {
    let kek = Kek::generate(&OsEntropy);
    let row = SealedVersion {
        suite: 2,
        ..sealed(&kek, b"value")
    };
    assert_eq!(
        open_version(&kek, &aad(&kek), &row).unwrap_err(),
        OpenError::UnknownSuite(2)
    );
}

#[test]
fn sealing_for_another_key_or_format_is_refused() {
    let kek = Kek::generate(&OsEntropy);
    let bad = [
        Aad {
            key_id: KekId::from_bytes([9; 16]),
            ..aad(&kek)
        },
        Aad {
            format: 0,
            ..aad(&kek)
        },
    ];
    for place in bad {
        assert_eq!(
            seal_version(&kek, &place, &secret(b"v"), &OsEntropy).unwrap_err(),
            SealError::WrongAad
        );
    }
    let larger = SecretBytes::from(vec![1; MAX_VALUE_BYTES + 1]);
    let refused = seal_version(&kek, &aad(&kek), &larger, &OsEntropy).unwrap_err();
    assert_eq!(refused, SealError::TooLarge(TooLarge));
}

#[test]
fn two_seals_of_one_value_share_nothing() {
    let kek = Kek::generate(&OsEntropy);
    let (a, b) = (sealed(&kek, b"same"), sealed(&kek, b"same"));
    assert_ne!(a.wrapped_dek, b.wrapped_dek);
    assert_ne!(a.nonce, b.nonce);
    assert_ne!(a.ciphertext, b.ciphertext);
    assert_ne!(a.commitment, b.commitment);
    assert_eq!(a.wrapped_dek.len(), WRAPPED_DEK_BYTES);
}

#[test]
fn length_is_hidden_inside_a_class_and_the_largest_fits() {
    let kek = Kek::generate(&OsEntropy);
    assert_eq!(
        sealed(&kek, b"").ciphertext.len(),
        sealed(&kek, &[1; 64]).ciphertext.len()
    );
    assert_ne!(
        sealed(&kek, &[1; 64]).ciphertext.len(),
        sealed(&kek, &[1; 65]).ciphertext.len()
    );
    let largest = vec![1; MAX_VALUE_BYTES];
    let row = sealed(&kek, &largest);
    assert_eq!(row.ciphertext.len(), MAX_CIPHERTEXT_BYTES);
    assert!(
        open_version(&kek, &aad(&kek), &row)
            .unwrap()
            .ct_eq(&secret(&largest))
    );
}

#[test]
fn a_rewrapped_row_opens_under_the_new_kek_only() {
    let (old, new) = (Kek::generate(&OsEntropy), Kek::generate(&OsEntropy));
    let row = sealed(&old, b"value");
    let moved = rewrap_version(&old, &new, &aad(&old), &row, &OsEntropy).unwrap();
    assert_eq!(moved.ciphertext, row.ciphertext);
    assert!(
        open_version(&new, &aad(&new), &moved)
            .unwrap()
            .ct_eq(&secret(b"value"))
    );
    assert!(open_version(&old, &aad(&old), &moved).is_err());
    assert!(rewrap_version(&old, &new, &aad(&old), &moved, &OsEntropy).is_err());
}

#[test]
fn a_kek_opens_under_its_unseal_key_deployment_and_id_only() {
    let unseal = UnsealKey::generate(&OsEntropy);
    let kek = Kek::generate(&OsEntropy);
    let stored = unseal.seal_kek(&DEPLOYMENT, &kek, &OsEntropy).unwrap();
    let stored = SealedKey::from_bytes(&stored.to_bytes()).unwrap();
    let again = unseal.open_kek(&DEPLOYMENT, kek.id(), &stored).unwrap();
    assert!(open_version(&again, &aad(&kek), &sealed(&kek, b"value")).is_ok());
    assert!(unseal.open_kek(&[9; 16], kek.id(), &stored).is_err());
    assert!(
        unseal
            .open_kek(&DEPLOYMENT, KekId::from_bytes([9; 16]), &stored)
            .is_err()
    );
    assert!(
        UnsealKey::generate(&OsEntropy)
            .open_kek(&DEPLOYMENT, kek.id(), &stored)
            .is_err()
    );
    assert!(
        unseal
            .open_service_key(&DEPLOYMENT, "kek", &stored)
            .is_err()
    );
}

#[test]
fn every_changed_byte_of_a_stored_kek_is_noticed() {
    let unseal = UnsealKey::generate(&OsEntropy);
    let kek = Kek::generate(&OsEntropy);
    let bytes = unseal
        .seal_kek(&DEPLOYMENT, &kek, &OsEntropy)
        .unwrap()
        .to_bytes();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let bad = SealedKey::from_bytes(&bad).unwrap();
        assert!(
            unseal.open_kek(&DEPLOYMENT, kek.id(), &bad).is_err(),
            "byte {at}"
        );
    }
    assert!(SealedKey::from_bytes(&bytes[..40]).is_none());
    assert!(SealedKey::from_bytes(&vec![0; 1000]).is_none());
}

#[test]
fn a_service_key_opens_under_its_name_only() {
    let unseal = UnsealKey::generate(&OsEntropy);
    let stored = unseal
        .seal_service_key(&DEPLOYMENT, "store-sync", &secret(&[5; 32]), &OsEntropy)
        .unwrap();
    assert!(
        unseal
            .open_service_key(&DEPLOYMENT, "store-sync", &stored)
            .unwrap()
            .ct_eq(&secret(&[5; 32]))
    );
    assert!(
        unseal
            .open_service_key(&DEPLOYMENT, "gateway", &stored)
            .is_err()
    );
    let long = secret(&[5; 257]);
    assert!(
        unseal
            .seal_service_key(&DEPLOYMENT, "x", &long, &OsEntropy)
            .is_err()
    );
}

#[test]
fn a_key_file_is_read_as_raw_bytes_or_hex() {
    let key = UnsealKey::generate(&OsEntropy);
    let kek = Kek::generate(&OsEntropy);
    let stored = key.seal_kek(&DEPLOYMENT, &kek, &OsEntropy).unwrap();
    let file = key.to_file();
    // EXPOSE: the test writes the file in other shapes.
    let text = file.expose().to_vec();
    let upper = text.to_ascii_uppercase();
    let raw: Vec<u8> = crate::hazmat::test_hex(std::str::from_utf8(&text[..64]).unwrap());
    for content in [text.clone(), text[..64].to_vec(), upper, raw] {
        let again = UnsealKey::from_file(&SecretBytes::from(content)).unwrap();
        assert!(again.open_kek(&DEPLOYMENT, kek.id(), &stored).is_ok());
    }
    for content in [vec![], vec![b'z'; 64], text[..63].to_vec(), vec![b'a'; 67]] {
        assert_eq!(
            UnsealKey::from_file(&SecretBytes::from(content)).unwrap_err(),
            BadKey
        );
    }
}

#[test]
fn debug_of_keys_shows_no_key() {
    let unseal = UnsealKey::generate(&OsEntropy);
    assert_eq!(format!("{unseal:?}"), "UnsealKey(…)");
    let kek = Kek::generate(&OsEntropy);
    assert_eq!(format!("{kek:?}"), format!("Kek({:?}, …)", kek.id()));
    assert!(!format!("{:?}", sealed(&kek, b"value")).contains('['));
}

proptest! {
    #[test]
    fn any_value_round_trips_at_any_place(
        value in proptest::collection::vec(any::<u8>(), 0..3000),
        name: [u8; 16],
        version: u64,
    ) {
        let kek = Kek::generate(&OsEntropy);
        let place = Aad { secret: name, version, ..aad(&kek) };
        let row = seal_version(&kek, &place, &secret(&value), &OsEntropy).unwrap();
        prop_assert!(open_version(&kek, &place, &row).unwrap().ct_eq(&secret(&value)));
        let next = Aad { version: version.wrapping_add(1), ..place };
        prop_assert!(open_version(&kek, &next, &row).is_err());
    }
}
