//! A wrapping key from a passphrase: Argon2id (RFC 9106) with named, bounded parameters.
//!
//! Invariant: costs that were read are within the bounds, so that a changed file makes nobody use more memory
//! or time than that, nor a guess cheaper than that. A passphrase is taken byte by byte: nothing is normalised.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::envelope::UnsealKey;
use crate::hazmat::{self, KEY_BYTES, Key};
use crate::secret::SecretBytes;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// The least memory of one guess, in KiB: what OWASP asks of Argon2id.
pub const MIN_MEMORY_KIB: u32 = 19 * 1024;
/// The most memory of one guess, in KiB.
pub const MAX_MEMORY_KIB: u32 = 1 << 20;
/// The most passes over that memory.
pub const MAX_PASSES: u32 = 16;
/// The most lanes.
const MAX_LANES: u32 = 16;
/// The shortest passphrase that seals, in characters. It stands before a file that can be copied, so nobody
/// counts guesses.
pub const MIN_PASSPHRASE_CHARS: usize = 12;
/// The longest passphrase, in bytes.
pub const MAX_PASSPHRASE_BYTES: usize = 1024;

/// A passphrase that seals nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a passphrase is UTF-8 text of at least {MIN_PASSPHRASE_CHARS} characters and at most {MAX_PASSPHRASE_BYTES} bytes"
)]
pub struct BadPassphrase;

/// Costs outside the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the costs of Argon2id are out of bounds: {MIN_MEMORY_KIB} to {MAX_MEMORY_KIB} KiB, 1 to {MAX_PASSES} passes, 1 to {MAX_LANES} lanes"
)]
pub struct BadCost;

/// What one guess costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// The second recommendation of RFC 9106: 64 MiB, three passes, four lanes.
    pub const DEFAULT: Self = Self {
        memory_kib: 64 * 1024,
        passes: 3,
        lanes: 4,
    };

    /// Stored costs.
    ///
    /// # Errors
    /// [`BadCost`] when they are out of bounds.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, BadCost> {
        let fits = (MIN_MEMORY_KIB..=MAX_MEMORY_KIB).contains(&memory_kib)
            && (1..=MAX_PASSES).contains(&passes)
            && (1..=MAX_LANES).contains(&lanes);
        let cost = Self {
            memory_kib,
            passes,
            lanes,
        };
        fits.then_some(cost).ok_or(BadCost)
    }

    /// Memory, in KiB.
    #[must_use]
    pub const fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Passes over it.
    #[must_use]
    pub const fn passes(&self) -> u32 {
        self.passes
    }

    /// Lanes.
    #[must_use]
    pub const fn lanes(&self) -> u32 {
        self.lanes
    }
}

/// Whether a passphrase may seal.
///
/// # Errors
/// [`BadPassphrase`] when it is too short, too long or no text.
pub fn check_passphrase(passphrase: &SecretBytes) -> Result<(), BadPassphrase> {
    // EXPOSE: its characters are counted.
    let bytes = passphrase.expose();
    let text = std::str::from_utf8(bytes).map_err(|_| BadPassphrase)?;
    let long_enough = text.chars().count() >= MIN_PASSPHRASE_CHARS;
    (long_enough && bytes.len() <= MAX_PASSPHRASE_BYTES)
        .then_some(())
        .ok_or(BadPassphrase)
}

/// The wrapping key; `None` when there is no memory for it.
pub(super) fn derive(
    passphrase: &SecretBytes,
    salt: &[u8; SALT_BYTES],
    cost: Cost,
) -> Option<UnsealKey> {
    let Cost {
        memory_kib,
        passes,
        lanes,
    } = cost;
    let params = Params::new(memory_kib, passes, lanes, Some(KEY_BYTES)).ok()?;
    // The library's own blocks are not overwritten when they go, and the last ones give the key.
    let mut blocks = Zeroizing::new(Vec::new());
    blocks.try_reserve_exact(params.block_count()).ok()?;
    blocks.resize(params.block_count(), Block::new());
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut key = Key::zeroed();
    // EXPOSE: the passphrase is hashed from where it lies.
    let passphrase = passphrase.expose();
    let done =
        hash.hash_password_into_with_memory(passphrase, salt, &mut key[..], blocks.as_mut_slice());
    hazmat::overwrite_stack();
    done.ok()?;
    Some(UnsealKey::from_bytes(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hazmat::test_hex;

    #[test]
    fn argon2id_matches_the_reference_implementation() {
        // phc-winner-argon2, test.c: version 0x13, t=2, m=2^16, p=1, "password", "somesalt".
        let cost = Params::new(1 << 16, 2, 1, Some(32)).unwrap();
        let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost);
        let mut out = [0; 32];
        hash.hash_password_into(b"password", b"somesalt", &mut out)
            .unwrap();
        let want = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7";
        assert_eq!(out.to_vec(), test_hex(want));
    }

    #[test]
    fn costs_are_taken_within_their_bounds_only() {
        let ends = [
            (MIN_MEMORY_KIB, 1, 1),
            (MAX_MEMORY_KIB, MAX_PASSES, MAX_LANES),
        ];
        for (memory, passes, lanes) in ends {
            assert!(Cost::new(memory, passes, lanes).is_ok());
        }
        let beyond = [
            (MIN_MEMORY_KIB - 1, 1, 1),
            (MAX_MEMORY_KIB + 1, 1, 1),
            (MIN_MEMORY_KIB, 0, 1),
            (MIN_MEMORY_KIB, MAX_PASSES + 1, 1),
            (MIN_MEMORY_KIB, 1, 0),
            (MIN_MEMORY_KIB, 1, MAX_LANES + 1),
        ];
        for (memory, passes, lanes) in beyond {
            assert_eq!(Cost::new(memory, passes, lanes), Err(BadCost));
        }
        let Cost {
            memory_kib,
            passes,
            lanes,
        } = Cost::DEFAULT;
        assert_eq!(Cost::new(memory_kib, passes, lanes), Ok(Cost::DEFAULT));
    }

    #[test]
    fn a_short_a_long_and_a_binary_passphrase_are_refused() {
        let check = |bytes: &[u8]| check_passphrase(&SecretBytes::from(bytes.to_vec()));
        assert_eq!(check("ä".repeat(12).as_bytes()), Ok(()));
        assert_eq!(check(&[b'a'; MAX_PASSPHRASE_BYTES]), Ok(()));
        assert_eq!(check("ä".repeat(11).as_bytes()), Err(BadPassphrase));
        assert_eq!(check(&[b'a'; MAX_PASSPHRASE_BYTES + 1]), Err(BadPassphrase));
        assert_eq!(check(&[0xff; 20]), Err(BadPassphrase));
    }
}
