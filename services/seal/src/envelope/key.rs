//! The keys above a value: the unseal key and the KEK.
//!
//! Invariants: key bytes lie in locked memory, are overwritten on drop and never shown; a KEK is
//! stored only sealed by the unseal key; a wrong unseal key and changed bytes give the same answer.
//! Where the key file lies and who counts wraps is the caller's business.

use std::fmt;

use keywheel_sys::locked::LockedBytes;

use super::aad::Aad;
use super::{OpenError, SUITE_AES256GCM};
use crate::entropy::{self, Entropy};
use crate::hazmat::{self, KEY_BYTES, Key, NONCE_BYTES, Rejected, TAG_BYTES};
use crate::secret::SecretBytes;

/// The longest key another key may seal.
const MAX_SEALED_KEY_BYTES: usize = 256;

/// The bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an unseal key is 32 bytes, or 64 hex digits on one line")]
pub struct BadKey;

/// Name of a KEK.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KekId([u8; 16]);

impl KekId {
    /// A stored id.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KekId(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// The key that wraps DEKs.
pub struct Kek {
    id: KekId,
    key: Key,
}

impl Kek {
    /// A fresh KEK with a fresh id.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self {
            id: KekId(entropy::array(entropy)),
            key: Key::random(entropy),
        }
    }

    /// The id of this KEK.
    #[must_use]
    pub fn id(&self) -> KekId {
        self.id
    }

    pub(super) fn wrap(
        &self,
        dek: &Key,
        aad: &Aad,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, Rejected> {
        let nonce: [u8; NONCE_BYTES] = entropy::array(entropy);
        let sealed = hazmat::gcm_seal(&self.key, &nonce, &aad.wrap(), &**dek)?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub(super) fn unwrap(&self, wrapped: &[u8], aad: &Aad) -> Result<Key, Rejected> {
        let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_BYTES>().ok_or(Rejected)?;
        let dek = hazmat::gcm_open(&self.key, nonce, &aad.wrap(), sealed)?;
        let dek: &[u8; KEY_BYTES] = dek.bytes().try_into().map_err(|_| Rejected)?;
        Ok(Key::copied(dek))
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({:?}, …)", self.id)
    }
}

/// The root key of a deployment: from its key file, or sealed by one ([`crate::unseal`]).
pub struct UnsealKey(Key);

impl UnsealKey {
    /// A fresh key.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(Key::random(entropy))
    }

    /// The content of a key file: 32 raw bytes, or 64 hex digits with or without a line end.
    ///
    /// # Errors
    /// [`BadKey`] for anything else.
    pub fn from_file(content: &SecretBytes) -> Result<Self, BadKey> {
        // EXPOSE: the content of the key file is parsed into the key type.
        let bytes = content.expose();
        if let Ok(raw) = <&[u8; KEY_BYTES]>::try_from(bytes) {
            return Ok(Self(Key::copied(raw)));
        }
        let digits = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
        let digits: &[u8; 2 * KEY_BYTES] = digits.try_into().map_err(|_| BadKey)?;
        let mut key = Key::zeroed();
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = 16 * hex_digit(pair[0]).ok_or(BadKey)? + hex_digit(pair[1]).ok_or(BadKey)?;
        }
        Ok(Self(key))
    }

    /// The key as a key file holds it: 64 hex digits and a line end.
    #[must_use]
    pub fn to_file(&self) -> SecretBytes {
        let mut text = LockedBytes::zeroed(2 * KEY_BYTES + 1);
        let digit = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
        let mut digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for place in text.bytes_mut() {
            *place = digits.next().map_or(b'\n', digit);
        }
        SecretBytes::made(text)
    }

    /// A key that was derived, or put together of shares.
    #[cfg(feature = "unseal")]
    pub(crate) fn from_bytes(key: Key) -> Self {
        Self(key)
    }

    /// Its bytes, to be split into shares.
    #[cfg(feature = "unseal")]
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Seals another root key under what it is bound to.
    #[cfg(feature = "unseal")]
    pub(crate) fn seal_root(
        &self,
        deployment: &[u8; 16],
        kind: &[u8],
        name: &[u8],
        root: &Self,
        entropy: &dyn Entropy,
    ) -> Result<SealedKey, OpenError> {
        self.seal(deployment, kind, name, &*root.0, entropy)
    }

    /// Opens what [`Self::seal_root`] sealed under the same.
    #[cfg(feature = "unseal")]
    pub(crate) fn open_root(
        &self,
        deployment: &[u8; 16],
        kind: &[u8],
        name: &[u8],
        sealed: &SealedKey,
    ) -> Result<Self, OpenError> {
        let key = self.open(deployment, kind, name, sealed)?;
        let key: &[u8; KEY_BYTES] = key.bytes().try_into().map_err(|_| OpenError::Rejected)?;
        Ok(Self(Key::copied(key)))
    }

    /// Seals a KEK for storing.
    ///
    /// # Errors
    /// [`OpenError::Rejected`] when the cipher refuses, which a 32-byte key never causes.
    pub fn seal_kek(
        &self,
        deployment: &[u8; 16],
        kek: &Kek,
        entropy: &dyn Entropy,
    ) -> Result<SealedKey, OpenError> {
        self.seal(deployment, b"kek", &kek.id.0, &*kek.key, entropy)
    }

    /// Opens the stored KEK `id`.
    ///
    /// # Errors
    /// [`OpenError`]; a wrong unseal key and changed bytes look the same.
    pub fn open_kek(
        &self,
        deployment: &[u8; 16],
        id: KekId,
        sealed: &SealedKey,
    ) -> Result<Kek, OpenError> {
        let key = self.open(deployment, b"kek", &id.0, sealed)?;
        let key: &[u8; KEY_BYTES] = key.bytes().try_into().map_err(|_| OpenError::Rejected)?;
        Ok(Kek {
            id,
            key: Key::copied(key),
        })
    }

    /// Seals a private key of one of our services (at most 256 bytes) for storing under `name`.
    ///
    /// # Errors
    /// [`OpenError::Rejected`] when the key is longer than that.
    pub fn seal_service_key(
        &self,
        deployment: &[u8; 16],
        name: &str,
        key: &SecretBytes,
        entropy: &dyn Entropy,
    ) -> Result<SealedKey, OpenError> {
        // EXPOSE: the key is copied into the buffer that is encrypted in place.
        let key = key.expose();
        self.seal(deployment, b"service", name.as_bytes(), key, entropy)
    }

    /// Opens what [`Self::seal_service_key`] sealed under the same name.
    ///
    /// # Errors
    /// [`OpenError`]; a wrong unseal key and changed bytes look the same.
    pub fn open_service_key(
        &self,
        deployment: &[u8; 16],
        name: &str,
        sealed: &SealedKey,
    ) -> Result<SecretBytes, OpenError> {
        let key = self.open(deployment, b"service", name.as_bytes(), sealed)?;
        Ok(SecretBytes::made(key))
    }

    fn seal(
        &self,
        deployment: &[u8; 16],
        kind: &[u8],
        name: &[u8],
        key: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<SealedKey, OpenError> {
        if key.len() > MAX_SEALED_KEY_BYTES {
            return Err(OpenError::Rejected);
        }
        self.seal_bytes(deployment, kind, name, key, entropy)
    }

    /// Seals bytes of any length under a key of their own.
    pub(crate) fn seal_bytes(
        &self,
        deployment: &[u8; 16],
        kind: &[u8],
        name: &[u8],
        key: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<SealedKey, OpenError> {
        let place = place(deployment, kind, name);
        let salt: [u8; 32] = entropy::array(entropy);
        let nonce: [u8; NONCE_BYTES] = entropy::array(entropy);
        let cipher_key = self.subkey(b"cipher", &salt, &place);
        let ciphertext =
            hazmat::gcm_seal(&cipher_key, &nonce, &place, key).map_err(|_| OpenError::Rejected)?;
        let commitment = self.commitment(&salt, &place, &nonce, &ciphertext);
        Ok(SealedKey {
            suite: SUITE_AES256GCM,
            salt,
            nonce,
            commitment,
            ciphertext,
        })
    }

    pub(crate) fn open(
        &self,
        deployment: &[u8; 16],
        kind: &[u8],
        name: &[u8],
        sealed: &SealedKey,
    ) -> Result<LockedBytes, OpenError> {
        if sealed.suite != SUITE_AES256GCM {
            return Err(OpenError::UnknownSuite(sealed.suite));
        }
        let place = place(deployment, kind, name);
        let want = self.commitment(&sealed.salt, &place, &sealed.nonce, &sealed.ciphertext);
        let same: bool = subtle::ConstantTimeEq::ct_eq(&want[..], &sealed.commitment[..]).into();
        if !same {
            return Err(OpenError::Rejected);
        }
        let cipher_key = self.subkey(b"cipher", &sealed.salt, &place);
        hazmat::gcm_open(&cipher_key, &sealed.nonce, &place, &sealed.ciphertext)
            .map_err(|_| OpenError::Rejected)
    }

    /// Another root for one purpose: it opens nothing of this one's, and tells nothing about it.
    pub(crate) fn derived(&self, purpose: &[u8]) -> Self {
        Self(hazmat::derive(
            &self.0,
            &[b"keywheel/unseal/v1/for/", purpose],
        ))
    }

    /// What bytes are known by: nobody without this key tells from it which they were.
    pub(crate) fn mark(&self, purpose: &[u8], bytes: &[u8]) -> [u8; 32] {
        let key = hazmat::derive(&self.0, &[b"keywheel/unseal/v1/mark/", purpose]);
        hazmat::hmac(&key, &[bytes])
    }

    /// The same as a key.
    pub(crate) fn marked_key(&self, purpose: &[u8], bytes: &[u8]) -> Key {
        let key = hazmat::derive(&self.0, &[b"keywheel/unseal/v1/mark/", purpose]);
        let mut marked = Key::zeroed();
        hazmat::hmac_into(&key, &[bytes], &mut marked);
        marked
    }

    /// A key for one use, so the unseal key itself never meets a cipher.
    fn subkey(&self, label: &[u8], salt: &[u8; 32], place: &[u8]) -> Key {
        hazmat::derive(&self.0, &[b"keywheel/unseal/v1/", label, salt, place])
    }

    fn commitment(
        &self,
        salt: &[u8; 32],
        place: &[u8],
        nonce: &[u8],
        ciphertext: &[u8],
    ) -> [u8; 32] {
        hazmat::hmac(&self.subkey(b"commit", salt, place), &[nonce, ciphertext])
    }
}

impl fmt::Debug for UnsealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnsealKey(…)")
    }
}

/// A key as the unseal key sealed it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    suite: u16,
    salt: [u8; 32],
    nonce: [u8; NONCE_BYTES],
    commitment: [u8; 32],
    ciphertext: Vec<u8>,
}

impl SealedKey {
    /// Suite, salt, nonce, commitment, ciphertext, one after another.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let suite = self.suite.to_be_bytes();
        [
            &suite[..],
            &self.salt,
            &self.nonce,
            &self.commitment,
            &self.ciphertext,
        ]
        .concat()
    }

    /// Reads what [`Self::to_bytes`] wrote; none when it is too short or too long.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes, MAX_SEALED_KEY_BYTES)
    }

    /// The same, for at most so many bytes of plaintext.
    pub(crate) fn read(bytes: &[u8], most: usize) -> Option<Self> {
        let (suite, rest) = bytes.split_first_chunk::<2>()?;
        let (salt, rest) = rest.split_first_chunk::<32>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let (commitment, ciphertext) = rest.split_first_chunk::<32>()?;
        (ciphertext.len() <= most + TAG_BYTES).then(|| Self {
            suite: u16::from_be_bytes(*suite),
            salt: *salt,
            nonce: *nonce,
            commitment: *commitment,
            ciphertext: ciphertext.to_vec(),
        })
    }
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedKey(suite {}, …)", self.suite)
    }
}

/// What a sealed key is bound to.
fn place(deployment: &[u8; 16], kind: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(48 + name.len());
    for field in [deployment, kind, name] {
        out.extend_from_slice(&(field.len() as u64).to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
