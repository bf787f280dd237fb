//! What types that hold a secret must not be able to do: the compiler is asked, type by type and trait by trait.
//!
//! A type that gains one of these traits makes this file ambiguous, so it does not compile. `serde` is no dependency
//! of this crate, so nobody else can give them `Serialize` either.

use std::fmt::{Display, LowerHex, UpperHex};
use std::ops::{Deref, Index};

use keywheel_seal::SecretBytes;
use keywheel_seal::backup::{BackupKey, Opening, Sealing};
use keywheel_seal::envelope::{Kek, UnsealKey};
use keywheel_seal::hpke::HostKeyPair;
use keywheel_seal::kept::HostCacheKey;
use keywheel_seal::letters::LetterKey;
use keywheel_seal::sign::SigningKey;
use keywheel_seal::unseal::{Gathering, Share};
use keywheel_sys::locked::LockedBytes;

/// Two ways to mean `it`: one for every type, one for those that have the trait. Where both are, neither is chosen.
macro_rules! forbidden {
    ($what:path) => {
        forbidden!(
            $what: SecretBytes, UnsealKey, Kek, HostKeyPair, HostCacheKey, LetterKey, SigningKey, BackupKey,
            Sealing, Opening, Share, Gathering, LockedBytes
        )
    };
    ($what:path: $($holds:ty),+) => {$({
        trait Ambiguous<A> {
            fn it() {}
        }
        impl<T: ?Sized> Ambiguous<()> for T {}
        impl<T: ?Sized + $what> Ambiguous<u8> for T {}
        <$holds as Ambiguous<_>>::it();
    })+};
}

#[test]
fn no_type_that_holds_a_secret_can_be_copied_printed_compared_or_taken_apart() {
    forbidden!(Clone);
    forbidden!(Copy);
    forbidden!(Default);
    forbidden!(Display);
    forbidden!(LowerHex);
    forbidden!(UpperHex);
    forbidden!(PartialEq);
    forbidden!(std::hash::Hash);
    forbidden!(PartialOrd);
    forbidden!(AsRef<[u8]>);
    forbidden!(Deref);
    forbidden!(Index<usize>);
    forbidden!(IntoIterator);
    forbidden!(Into<Vec<u8>>);
    forbidden!(Into<String>);
    forbidden!(std::borrow::Borrow<[u8]>);
}

#[test]
fn every_one_of_them_tells_in_debug_that_it_holds_something_and_not_what() {
    let entropy = keywheel_seal::OsEntropy;
    let unseal = UnsealKey::generate(&entropy);
    let hidden = unseal.to_file();
    // EXPOSE: searched for in the debug text.
    let hidden = String::from_utf8_lossy(hidden.expose()).into_owned();
    let digits = hidden.trim();
    assert!(digits.len() > 32, "no key to look for");
    assert!(!format!("{unseal:?} {unseal:#?}").contains(digits));
    let value = SecretBytes::from(b"canary-of-debug".to_vec());
    assert_eq!(format!("{value:?}"), "SecretBytes(…)");
    let bytes = LockedBytes::copied(b"canary-of-debug");
    assert_eq!(
        format!("{bytes:?} {bytes:#?}"),
        "LockedBytes(…) LockedBytes(…)"
    );
    assert_eq!(format!("{:?}", BackupKey::of(&unseal)), "BackupKey(…)");
}
