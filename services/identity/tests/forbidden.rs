//! What types of this crate that hold a key or a token must not be able to do: the compiler is asked, type by type.
//!
//! A type that gains one of these traits makes this file ambiguous, so it does not compile.

use std::fmt::Display;

use keywheel_identity::authority::{Authority, Issued};
use keywheel_identity::nats::{BusAuthority, UserKey};
use keywheel_identity::token::JoinToken;

/// Two ways to mean `it`: one for every type, one for those that have the trait. Where both are, neither is chosen.
macro_rules! forbidden {
    ($what:path) => {
        forbidden!($what: JoinToken, Authority, Issued, BusAuthority, UserKey)
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
fn no_type_that_holds_a_key_or_a_token_can_be_copied_printed_written_or_compared() {
    forbidden!(Clone);
    forbidden!(Copy);
    forbidden!(Default);
    forbidden!(Display);
    forbidden!(PartialEq);
    forbidden!(std::hash::Hash);
    forbidden!(serde::Serialize);
    forbidden!(serde::de::DeserializeOwned);
    forbidden!(AsRef<[u8]>);
    forbidden!(std::ops::Deref);
    forbidden!(Into<String>);
    forbidden!(Into<Vec<u8>>);
}
