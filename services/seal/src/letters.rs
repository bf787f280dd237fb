//! What came from outside and could not be read, where a person chose to keep it until it can be.
//!
//! Invariants: every letter is sealed under a data key of its own, derived from the deployment's unseal key and a
//! salt that lies beside the bytes alone (AES-256-GCM, with a commitment), so it ends with them; it opens only for
//! its own deployment, letter and owner. What came may hold a token, so it is known by a mark under that key, and not
//! by a hash that whoever guesses a token could make (C3). Where the bytes lie, and for how long, is the caller's business.

use std::fmt;

use crate::entropy::Entropy;
use crate::envelope::{OpenError, SealedKey, UnsealKey};
use crate::secret::SecretBytes;

/// Separates these messages from every other use of such a key, and names their form.
const KIND: &[u8] = b"letter/v1";
/// The longest letter.
pub const MAX_SEALED_LETTER_BYTES: usize = 64 << 10;

/// The key of a deployment's letters: who has it has neither the unseal key nor a value.
pub struct LetterKey(UnsealKey);

/// Where a letter belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The deployment's id.
    pub deployment: [u8; 16],
    /// The letter's id.
    pub letter: [u8; 16],
    /// Whose it is.
    pub owner: &'a str,
}

/// The letter is over the limit, or the cipher refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the letter cannot be sealed: it is longer than {MAX_SEALED_LETTER_BYTES} bytes")]
pub struct NotSealed;

impl Place<'_> {
    fn name(&self) -> Vec<u8> {
        [&self.letter[..], self.owner.as_bytes()].concat()
    }
}

impl LetterKey {
    /// That of a deployment.
    #[must_use]
    pub fn of(unseal: &UnsealKey) -> Self {
        Self(unseal.derived(b"letters"))
    }

    /// By what is known that the same came again, at every gateway that has this key.
    #[must_use]
    pub fn mark(&self, came: &[u8]) -> [u8; 32] {
        self.0.mark(b"came", came)
    }

    /// Seals what came.
    ///
    /// # Errors
    /// [`NotSealed`] when it is over the limit.
    pub fn seal(
        &self,
        place: &Place<'_>,
        bytes: &SecretBytes,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, NotSealed> {
        // EXPOSE: the letter is encrypted from where it lies.
        let bytes = bytes.expose();
        if bytes.len() > MAX_SEALED_LETTER_BYTES {
            return Err(NotSealed);
        }
        let sealed = self
            .0
            .seal_bytes(&place.deployment, KIND, &place.name(), bytes, entropy);
        sealed
            .map(|sealed| sealed.to_bytes())
            .map_err(|_| NotSealed)
    }

    /// Opens what [`Self::seal`] gave for the same place.
    ///
    /// # Errors
    /// [`OpenError`]; a wrong key, another place and changed bytes look the same.
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
        let sealed = SealedKey::read(sealed, MAX_SEALED_LETTER_BYTES).ok_or(OpenError::Rejected)?;
        let opened = self
            .0
            .open(&place.deployment, KIND, &place.name(), &sealed)?;
        Ok(SecretBytes::made(opened))
    }
}

impl fmt::Debug for LetterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LetterKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsEntropy;

    const PLACE: Place<'static> = Place {
        deployment: [1; 16],
        letter: [2; 16],
        owner: "signal-source/scanner",
    };

    fn bytes(text: &[u8]) -> SecretBytes {
        SecretBytes::from(text.to_vec())
    }

    #[test]
    fn what_was_sealed_opens_with_the_key_of_that_deployment_and_shows_nothing() {
        let unseal = UnsealKey::generate(&OsEntropy);
        let sealed = LetterKey::of(&unseal)
            .seal(&PLACE, &bytes(b"canary-bytes"), &OsEntropy)
            .unwrap();
        assert!(!sealed.windows(12).any(|part| part == b"canary-bytes"));
        let again = LetterKey::of(&unseal);
        let opened = again.open(&PLACE, &sealed).unwrap();
        assert!(opened.ct_eq(&bytes(b"canary-bytes")));
        let other = LetterKey::of(&UnsealKey::generate(&OsEntropy));
        assert!(other.open(&PLACE, &sealed).is_err());
        assert_eq!(format!("{again:?}"), "LetterKey(…)");
    }

    #[test]
    fn another_place_or_byte_does_not_open_and_no_letter_is_sealed_twice_alike() {
        let key = LetterKey::of(&UnsealKey::generate(&OsEntropy));
        let seal = || key.seal(&PLACE, &bytes(b"letter"), &OsEntropy).unwrap();
        let sealed = seal();
        assert_ne!(sealed, seal());
        for other in [
            Place {
                deployment: [9; 16],
                ..PLACE
            },
            Place {
                letter: [9; 16],
                ..PLACE
            },
            Place {
                owner: "signal-source/other",
                ..PLACE
            },
        ] {
            assert!(key.open(&other, &sealed).is_err(), "{other:?}");
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(&PLACE, &changed).is_err(), "byte {at}");
            assert!(key.open(&PLACE, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_came_is_known_by_a_mark_that_nobody_makes_without_the_key() {
        let unseal = UnsealKey::generate(&OsEntropy);
        let mark = LetterKey::of(&unseal).mark(b"came");
        assert_eq!(LetterKey::of(&unseal).mark(b"came"), mark);
        assert_ne!(LetterKey::of(&unseal).mark(b"Came"), mark);
        let other = LetterKey::of(&UnsealKey::generate(&OsEntropy));
        assert_ne!(other.mark(b"came"), mark);
        assert_ne!(crate::digest::sha256(b"came"), mark);
    }

    #[test]
    fn it_opens_nothing_that_the_unseal_key_sealed_itself() {
        let unseal = UnsealKey::generate(&OsEntropy);
        let own = unseal
            .seal_bytes(&PLACE.deployment, KIND, &PLACE.name(), b"a key", &OsEntropy)
            .unwrap();
        let letters = LetterKey::of(&unseal);
        assert!(letters.open(&PLACE, &own.to_bytes()).is_err());
    }

    #[test]
    fn a_letter_over_the_limit_is_refused() {
        let key = LetterKey::of(&UnsealKey::generate(&OsEntropy));
        let longest = SecretBytes::from(vec![0; MAX_SEALED_LETTER_BYTES]);
        assert!(key.seal(&PLACE, &longest, &OsEntropy).is_ok());
        let longer = SecretBytes::from(vec![0; MAX_SEALED_LETTER_BYTES + 1]);
        assert_eq!(key.seal(&PLACE, &longer, &OsEntropy), Err(NotSealed));
    }
}
