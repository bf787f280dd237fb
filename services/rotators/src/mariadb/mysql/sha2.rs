//! What a MySQL server keeps of a password by `caching_sha2_password`: SHA-256 crypt with a salt of 20 bytes.
//!
//! Invariant: only the hash leaves; what is made of the password on the way is overwritten. Pure.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Bytes of a salt.
pub(super) const SALT_BYTES: usize = 20;
/// Characters of a digest.
pub(super) const DIGEST_CHARS: usize = 43;
/// Rounds are counted in so many.
pub(super) const ROUNDS: u32 = 1000;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// In which order the bytes of a digest are written.
const ORDER: [[usize; 3]; 10] = [
    [0, 10, 20],
    [21, 1, 11],
    [12, 22, 2],
    [3, 13, 23],
    [24, 4, 14],
    [15, 25, 5],
    [6, 16, 26],
    [27, 7, 17],
    [18, 28, 8],
    [9, 19, 29],
];

type Digest = [u8; 32];

/// The digest of a password with this salt, after so many rounds.
pub(super) fn crypt(password: &[u8], salt: &[u8], rounds: u32) -> String {
    let mut round = Zeroizing::new(first(password, salt));
    let mut words = Sha256::new();
    for _ in 0..password.len() {
        words.update(password);
    }
    let words = Zeroizing::new(stretched(&words.finalize().into(), password.len()));
    let mut salts = Sha256::new();
    for _ in 0..16 + usize::from(round.first().copied().unwrap_or_default()) {
        salts.update(salt);
    }
    let salts = stretched(&salts.finalize().into(), salt.len());
    for n in 0..rounds {
        let (before, after) = match n % 2 {
            0 => (&round[..], &words[..]),
            _ => (&words[..], &round[..]),
        };
        let mut next = Sha256::new();
        next.update(before);
        if n % 3 != 0 {
            next.update(&salts);
        }
        if n % 7 != 0 {
            next.update(&words[..]);
        }
        next.update(after);
        *round = next.finalize().into();
    }
    written(&round)
}

/// Characters of a salt, of drawn bytes: such as a statement and a client take.
pub(super) fn salt_of(drawn: &[u8; SALT_BYTES]) -> String {
    drawn.iter().map(|byte| letter(u32::from(*byte))).collect()
}

fn first(password: &[u8], salt: &[u8]) -> Digest {
    let beside = Sha256::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize();
    let beside: Zeroizing<Digest> = Zeroizing::new(beside.into());
    let mut first = Sha256::new();
    first.update(password);
    first.update(salt);
    first.update(&*Zeroizing::new(stretched(&beside, password.len())));
    let mut bits = password.len();
    while bits > 0 {
        match bits % 2 {
            1 => first.update(&beside[..]),
            _ => first.update(password),
        }
        bits /= 2;
    }
    first.finalize().into()
}

/// A digest over and over, up to this length.
fn stretched(digest: &Digest, length: usize) -> Vec<u8> {
    digest.iter().copied().cycle().take(length).collect()
}

fn written(digest: &Digest) -> String {
    let byte = |at: usize| u32::from(digest.get(at).copied().unwrap_or_default());
    let mut text = String::with_capacity(DIGEST_CHARS);
    for [high, middle, low] in ORDER {
        push(
            &mut text,
            (byte(high) << 16) | (byte(middle) << 8) | byte(low),
            4,
        );
    }
    push(&mut text, (byte(31) << 8) | byte(30), 3);
    text
}

fn push(text: &mut String, mut bits: u32, letters: usize) {
    for _ in 0..letters {
        text.push(letter(bits));
        bits >>= 6;
    }
}

/// The letter of the lowest six bits.
fn letter(bits: u32) -> char {
    let at = usize::try_from(bits & 63).unwrap_or_default();
    char::from(ALPHABET.get(at).copied().unwrap_or(b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_a_server_made_of_it() {
        // What a MySQL server kept of `hashcat`, as the password tester of that name publishes it.
        let salt = [
            0xf9, 0xcc, 0x98, 0xce, 0x08, 0x89, 0x29, 0x24, 0xf5, 0x0a, 0x21, 0x3b, 0x6b, 0xc5,
            0x71, 0xa2, 0xc1, 0x17, 0x78, 0xc5,
        ];
        let digest = crypt(b"hashcat", &salt, 5 * ROUNDS);
        assert_eq!(digest, "bTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/");
        assert_eq!(digest.len(), DIGEST_CHARS);
    }

    #[test]
    fn whatever_the_length_of_a_password_no_other_has_its_digest() {
        let digests = [0, 1, 31, 32, 33, 64, 1024].map(|length| {
            let password = vec![b'a'; length];
            crypt(&password, b"01234567890123456789", ROUNDS)
        });
        for (at, digest) in digests.iter().enumerate() {
            assert_eq!(digest.len(), DIGEST_CHARS);
            assert!(!digests[..at].contains(digest), "{at}");
        }
    }

    #[test]
    fn a_salt_is_letters_and_has_what_was_drawn() {
        let salt = salt_of(&[255; SALT_BYTES]);
        assert_eq!(salt, "z".repeat(SALT_BYTES));
        assert_ne!(salt_of(&[1; SALT_BYTES]), salt_of(&[2; SALT_BYTES]));
    }
}
