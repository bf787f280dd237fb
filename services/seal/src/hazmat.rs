//! Raw ciphers, for this crate only: AES-256-GCM, HMAC-SHA-256 and the derivation of subkeys.
//!
//! Misuse is possible here (a repeated nonce breaks GCM), so nothing is public. Invariants: keys and
//! plaintexts lie in locked memory and are overwritten, also when a tag does not match; what a
//! cipher leaves of a key on the stack is overwritten before the call returns.

use std::hint::black_box;
use std::ops::{Deref, DerefMut};

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac as _};
use keywheel_sys::locked::{Locked, LockedBytes};
use sha2::Sha256;
use zeroize::Zeroize as _;

use crate::entropy::Entropy;

/// Bytes of a symmetric key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of a GCM nonce.
pub(crate) const NONCE_BYTES: usize = 12;
/// Bytes of a GCM tag.
pub(crate) const TAG_BYTES: usize = 16;

/// More than any cipher here uses of the stack, also without optimisation.
const STACK_BYTES: usize = 16 << 10;

/// A symmetric key, in locked memory; overwritten on drop.
pub(crate) struct Key(Locked<[u8; KEY_BYTES]>);

impl Key {
    /// Zeros, to be filled where they lie.
    pub(crate) fn zeroed() -> Self {
        Self(Locked::new([0; KEY_BYTES]))
    }

    /// A fresh one.
    pub(crate) fn random(entropy: &dyn Entropy) -> Self {
        let mut key = Self::zeroed();
        entropy.fill(&mut *key);
        key
    }

    /// A copy of bytes that lie elsewhere, whose owner overwrites them.
    pub(crate) fn copied(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut key = Self::zeroed();
        key.copy_from_slice(bytes);
        key
    }
}

impl Drop for Key {
    /// Locked memory is overwritten anyhow; where there is none the key is on the heap.
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Deref for Key {
    type Target = [u8; KEY_BYTES];

    fn deref(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl DerefMut for Key {
    fn deref_mut(&mut self) -> &mut [u8; KEY_BYTES] {
        &mut self.0
    }
}

/// The cipher did not accept the message: wrong key, wrong associated data, or changed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejected;

/// Encrypts from where the plaintext lies; ciphertext and tag.
pub(crate) fn gcm_seal(
    key: &Key,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Rejected> {
    let mut sealed = vec![0; plaintext.len() + TAG_BYTES];
    let (body, tag) = sealed.split_at_mut(plaintext.len());
    let both = InOutBuf::new(plaintext, body).map_err(|_| Rejected)?;
    let done = encrypt(key, nonce, aad, (both, tag));
    overwrite_stack();
    done.map(|()| sealed)
}

/// Encrypts in place and appends the tag: for what is no secret by itself.
pub(crate) fn gcm_seal_in_place(
    key: &Key,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<(), Rejected> {
    let mut tag = [0; TAG_BYTES];
    let done = encrypt(
        key,
        nonce,
        aad,
        (buffer.as_mut_slice().into(), &mut tag[..]),
    );
    overwrite_stack();
    done?;
    buffer.extend_from_slice(&tag);
    Ok(())
}

/// Decrypts ciphertext and tag into locked memory.
pub(crate) fn gcm_open(
    key: &Key,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    sealed: &[u8],
) -> Result<LockedBytes, Rejected> {
    let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Rejected)?;
    let mut opened = LockedBytes::zeroed(body.len());
    let both = InOutBuf::new(body, opened.bytes_mut()).map_err(|_| Rejected)?;
    let done = decrypt(key, nonce, aad, (both, tag));
    overwrite_stack();
    done.map(|()| opened)
}

/// In a frame of its own, which is overwritten when it is gone.
#[inline(never)]
fn encrypt(
    key: &Key,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    (both, room): (InOutBuf<'_, '_, u8>, &mut [u8]),
) -> Result<(), Rejected> {
    let cipher = Aes256Gcm::new((&**key).into());
    let tag = cipher.encrypt_inout_detached(&Nonce::from(*nonce), aad, both);
    room.copy_from_slice(&tag.map_err(|_| Rejected)?);
    Ok(())
}

/// The same.
#[inline(never)]
fn decrypt(
    key: &Key,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    (both, tag): (InOutBuf<'_, '_, u8>, &[u8; TAG_BYTES]),
) -> Result<(), Rejected> {
    let cipher = Aes256Gcm::new((&**key).into());
    let done = cipher.decrypt_inout_detached(&Nonce::from(*nonce), aad, both, tag.into());
    done.map_err(|_| Rejected)
}

/// HMAC-SHA-256 over the parts one after another.
pub(crate) fn hmac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    hmac_into(key, parts, &mut out);
    out
}

/// The same into memory that is there, for what is a key again.
pub(crate) fn hmac_into(key: &[u8; KEY_BYTES], parts: &[&[u8]], out: &mut [u8; 32]) {
    authenticate(key, parts, out);
    overwrite_stack();
}

/// In a frame of its own, too.
#[inline(never)]
fn authenticate(key: &[u8; KEY_BYTES], parts: &[&[u8]], out: &mut [u8; 32]) {
    let mut block = [0; 64];
    block[..KEY_BYTES].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    block.zeroize();
    for part in parts {
        mac.update(part);
    }
    out.copy_from_slice(&mac.finalize().into_bytes());
}

/// The first 32 bytes of HKDF-Expand (RFC 5869) from a uniform key, for `info` in parts.
pub(crate) fn derive(key: &[u8; KEY_BYTES], info: &[&[u8]]) -> Key {
    let mut parts = info.to_vec();
    parts.push(&[1]);
    let mut derived = Key::zeroed();
    hmac_into(key, &parts, &mut derived);
    derived
}

/// Overwrites what calls before this one left below the caller's frame: moved keys, key schedules, blocks of a hash.
#[inline(never)]
pub(crate) fn overwrite_stack() {
    let zeros = [0_u8; STACK_BYTES];
    // The compiler has to take it that somebody reads them.
    black_box(&zeros);
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
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::hpke::HostKeyPair;

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
        let sealed = gcm_seal(&Key::zeroed(), &[0; 12], &[], &[0; 16]).unwrap();
        let want = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919";
        assert_eq!(sealed, test_hex(want));
        let mut buffer = vec![0; 16];
        gcm_seal_in_place(&Key::zeroed(), &[0; 12], &[], &mut buffer).unwrap();
        assert_eq!(buffer, sealed);
        let opened = gcm_open(&Key::zeroed(), &[0; 12], &[], &sealed).unwrap();
        assert_eq!(opened.bytes(), [0; 16]);
    }

    /// Keys of these tests are known by their bytes under this mask, so that looking for one makes no copy.
    const MASK: u8 = 0xa5;

    /// Whether a key lies in the stack of this thread.
    #[inline(never)]
    fn is_on_the_stack(masked: &[u8; KEY_BYTES]) -> bool {
        let here = std::ptr::from_ref(&masked).addr();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut ranges = maps.lines().filter_map(|line| {
            let (from, to) = line.split_once(' ')?.0.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            Some(number(from)?..number(to)?)
        });
        let own = ranges.find(|range| range.contains(&here)).unwrap();
        let mut stack = vec![0; own.len()];
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut stack, own.start as u64).unwrap();
        let same = |window: &[u8]| {
            window
                .iter()
                .zip(masked)
                .all(|(one, two)| one ^ two == MASK)
        };
        let found = stack.windows(KEY_BYTES).any(same);
        stack.zeroize();
        found
    }

    /// Works further down the stack, where looking at it overwrites nothing.
    #[inline(never)]
    fn deep_down(work: impl FnOnce()) {
        let room = [1_u8; STACK_BYTES];
        black_box(&room);
        work();
        black_box(&room);
    }

    #[test]
    fn neither_cipher_nor_hash_leaves_a_key_on_the_stack() {
        let mut masked: [u8; KEY_BYTES] = crate::entropy::array(&crate::OsEntropy);
        // One that is an X25519 key, too, as it is (RFC 7748, 5).
        masked[0] = ((masked[0] ^ MASK) & 248) ^ MASK;
        masked[31] = (((masked[31] ^ MASK) & 127) | 64) ^ MASK;
        let mut key = Key::zeroed();
        for (byte, masked) in key.iter_mut().zip(masked) {
            *byte = masked ^ MASK;
        }
        assert!(!is_on_the_stack(&masked), "it is there from the start");
        deep_down(|| {
            black_box(&black_box(*key));
        });
        assert!(is_on_the_stack(&masked), "what is left is not found");
        deep_down(overwrite_stack);
        assert!(!is_on_the_stack(&masked), "it is not overwritten");
        let mut sealed = Vec::new();
        deep_down(|| sealed = gcm_seal(&key, &[1; 12], b"aad", &[7; 300]).unwrap());
        assert!(!is_on_the_stack(&masked), "by encrypting");
        deep_down(|| drop(gcm_open(&key, &[1; 12], b"aad", &sealed).unwrap()));
        assert!(!is_on_the_stack(&masked), "by decrypting");
        deep_down(|| assert!(gcm_open(&key, &[2; 12], b"aad", &sealed).is_err()));
        assert!(!is_on_the_stack(&masked), "by refusing");
        deep_down(|| drop(derive(&key, &[b"label"])));
        assert!(!is_on_the_stack(&masked), "by deriving");
        let bytes = crate::SecretBytes::copied(&*key);
        deep_down(|| drop(HostKeyPair::from_private_bytes(&bytes).unwrap()));
        assert!(!is_on_the_stack(&masked), "by reading a host's key");
    }

    #[test]
    fn a_wrong_nonce_or_aad_is_rejected() {
        let key = Key::copied(&[3; 32]);
        let buffer = gcm_seal(&key, &[1; 12], b"aad", b"text").unwrap();
        assert!(gcm_open(&key, &[1; 12], b"aad", &buffer).is_ok());
        assert!(gcm_open(&key, &[2; 12], b"aad", &buffer).is_err());
        assert!(gcm_open(&key, &[1; 12], b"aae", &buffer).is_err());
        assert!(gcm_open(&key, &[1; 12], b"aad", &[]).is_err());
    }
}
