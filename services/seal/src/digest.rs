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

/// SHA-256 of public bytes that come piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Running(Sha256);

impl Running {
    /// The next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them, as lower-case hexadecimal.
    #[must_use]
    pub fn hex(self) -> String {
        let digest: [u8; 32] = self.0.finalize().into();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hazmat::test_hex;

    #[test]
    fn a_running_digest_is_that_of_all_pieces_together() {
        let mut running = Running::default();
        running.add(b"a");
        running.add(b"");
        running.add(b"bc");
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(running.hex(), want);
    }

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
