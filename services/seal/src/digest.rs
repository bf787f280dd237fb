//! Digests for the rest of the workspace.
//!
//! Invariant (C3): a value of a secret is compared only by [`keyed`] with a key that is random for
//! the one delivery and travels sealed. [`sha256`] is for public bytes only (events, records).

use sha2::{Digest as _, Sha256};

use crate::hazmat;

/// HMAC-SHA-256 of `bytes` under a key that is fresh for the delivery.
#[must_use]
pub fn keyed(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    hazmat::hmac(key, &[bytes])
}

/// SHA-256 of public bytes. Never of a value: values can be guessed and hashed.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hazmat::test_hex;

    #[test]
    fn sha256_matches_fips_180() {
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").to_vec(), test_hex(want));
    }

    #[test]
    fn keyed_matches_rfc_4231_case_1() {
        // HMAC fills a short key with zeros, so the vector's 20 bytes are these 32.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let want = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(keyed(&key, b"Hi There").to_vec(), test_hex(want));
    }

    #[test]
    fn another_key_gives_another_digest() {
        assert_ne!(keyed(&[1; 32], b"same"), keyed(&[2; 32], b"same"));
    }
}
