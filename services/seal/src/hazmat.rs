//! Raw ciphers, for this crate only: AES-256-GCM, HMAC-SHA-256 and the derivation of subkeys.
//!
//! Misuse is possible here (a repeated nonce breaks GCM), so nothing is public. Invariant: buffers
//! that held plaintext are overwritten, also when a tag does not match.

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a symmetric key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of a GCM nonce.
pub(crate) const NONCE_BYTES: usize = 12;
/// Bytes of a GCM tag.
pub(crate) const TAG_BYTES: usize = 16;

/// A symmetric key that is overwritten on drop.
pub(crate) type Key = Zeroizing<[u8; KEY_BYTES]>;

/// The cipher did not accept the message: wrong key, wrong associated data, or changed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejected;

/// Encrypts `buffer` in place and appends the tag.
pub(crate) fn gcm_seal(
    key: &Key,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<(), Rejected> {
    let cipher = Aes256Gcm::new((&**key).into());
    cipher
        .encrypt_in_place(&Nonce::from(*nonce), aad, buffer)
        .map_err(|_| Rejected)
}

/// Decrypts ciphertext and tag into a fresh buffer.
pub(crate) fn gcm_open(
    key: &Key,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Rejected> {
    let cipher = Aes256Gcm::new((&**key).into());
    let mut buffer = Zeroizing::new(sealed.to_vec());
    cipher
        .decrypt_in_place(&Nonce::from(*nonce), aad, &mut *buffer)
        .map_err(|_| Rejected)?;
    Ok(buffer)
}

/// HMAC-SHA-256 over the parts one after another.
pub(crate) fn hmac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..KEY_BYTES].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    block.zeroize();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The first 32 bytes of HKDF-Expand (RFC 5869) from a uniform key, for `info` in parts.
pub(crate) fn derive(key: &[u8; KEY_BYTES], info: &[&[u8]]) -> Key {
    let mut parts = info.to_vec();
    parts.push(&[1]);
    Zeroizing::new(hmac(key, &parts))
}

/// Bytes of a hex string in a test vector.
#[cfg(test)]
pub(crate) fn test_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derive_matches_rfc_5869_case_1() {
        let prk = test_hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let info = test_hex("f0f1f2f3f4f5f6f7f8f9");
        let want = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        let okm = derive(&prk.try_into().unwrap(), &[&info[..4], &info[4..]]);
        assert_eq!(okm.to_vec(), test_hex(want));
    }

    #[test]
    fn gcm_matches_the_published_zero_key_vector() {
        // McGrew and Viega, test case 14: 256-bit zero key, zero nonce, one zero block.
        let mut buffer = vec![0; 16];
        gcm_seal(&Zeroizing::new([0; 32]), &[0; 12], &[], &mut buffer).unwrap();
        let want = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919";
        assert_eq!(buffer, test_hex(want));
    }

    #[test]
    fn a_wrong_nonce_or_aad_is_rejected() {
        let key = Zeroizing::new([3; 32]);
        let mut buffer = b"text".to_vec();
        gcm_seal(&key, &[1; 12], b"aad", &mut buffer).unwrap();
        assert!(gcm_open(&key, &[1; 12], b"aad", &buffer).is_ok());
        assert!(gcm_open(&key, &[2; 12], b"aad", &buffer).is_err());
        assert!(gcm_open(&key, &[1; 12], b"aae", &buffer).is_err());
        assert!(gcm_open(&key, &[1; 12], b"aad", &[]).is_err());
    }
}
