//! Ed25519 signatures (RFC 8032), separated by purpose.
//!
//! Invariants: [`SigningKey::sign`] binds a context, so a signature made for one purpose is never
//! valid for another; verification is strict (no weak keys, no malleable signatures). The raw pair
//! exists for signed notes whose format is fixed elsewhere. It does not know who owns a key.

use std::fmt;

use ed25519_dalek::Signer as _;
use keywheel_sys::locked::Locked;

use crate::entropy::Entropy;
use crate::hazmat::{self, Key};
use crate::secret::SecretBytes;

/// Stands before every contextual message, so that no raw message can be mistaken for one.
const PREFIX: &[u8] = b"keywheel-sign-v1";
/// Bytes of a seed and of a verifying key.
const KEY_BYTES: usize = 32;

/// The bytes are not an Ed25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not an Ed25519 key")]
pub struct BadKey;

/// The signature is not by this key over these bytes in this context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match")]
pub struct BadSignature;

/// A private signing key, in locked memory; the seed is overwritten on drop.
pub struct SigningKey(Locked<ed25519_dalek::SigningKey>);

/// A public key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerifyingKey([u8; KEY_BYTES]);

/// A detached signature.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl SigningKey {
    /// A fresh key.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::of(&Key::random(entropy))
    }

    /// A stored key.
    ///
    /// # Errors
    /// [`BadKey`] unless the seed has exactly 32 bytes.
    pub fn from_seed_bytes(seed: &SecretBytes) -> Result<Self, BadKey> {
        // EXPOSE: the seed is parsed into the key type.
        let seed: &[u8; KEY_BYTES] = seed.expose().try_into().map_err(|_| BadKey)?;
        Ok(Self::of(seed))
    }

    fn of(seed: &[u8; KEY_BYTES]) -> Self {
        let key = Self::made(seed);
        hazmat::overwrite_stack();
        key
    }

    /// In a frame of its own, which is overwritten when it is gone.
    #[inline(never)]
    fn made(seed: &[u8; KEY_BYTES]) -> Self {
        Self(Locked::new(ed25519_dalek::SigningKey::from_bytes(seed)))
    }

    /// The seed, to be stored sealed.
    #[must_use]
    pub fn seed(&self) -> SecretBytes {
        SecretBytes::copied(self.0.as_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `bytes` for one purpose named by `context`.
    #[must_use]
    pub fn sign(&self, context: &str, bytes: &[u8]) -> Signature {
        self.sign_raw(&framed(context, bytes))
    }

    /// Signs exactly `bytes`, for formats defined elsewhere (signed notes).
    #[must_use]
    pub fn sign_raw(&self, bytes: &[u8]) -> Signature {
        let signature = self.0.sign(bytes).to_bytes();
        hazmat::overwrite_stack();
        Signature(signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {:?})", self.verifying_key())
    }
}

impl VerifyingKey {
    /// A key from its bytes.
    ///
    /// # Errors
    /// [`BadKey`] when the bytes are not a point or the key is weak.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Self, BadKey> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| BadKey)?;
        if key.is_weak() {
            Err(BadKey)
        } else {
            Ok(Self(bytes))
        }
    }

    /// The bytes of the key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; KEY_BYTES] {
        self.0
    }

    /// Checks a signature made by [`SigningKey::sign`] in the same context.
    ///
    /// # Errors
    /// [`BadSignature`] when key, context, bytes or signature differ.
    pub fn verify(
        &self,
        context: &str,
        bytes: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        self.verify_raw(&framed(context, bytes), signature)
    }

    /// Checks a signature made by [`SigningKey::sign_raw`].
    ///
    /// # Errors
    /// [`BadSignature`] when key, bytes or signature differ.
    pub fn verify_raw(&self, bytes: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(bytes, &signature)
            .map_err(|_| BadSignature)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyingKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl Signature {
    /// A signature from its bytes; whether it is valid shows at verification.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes of the signature.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 64] {
        self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

/// Prefix, length of the context, context, bytes: no two (context, bytes) pairs give one message.
fn framed(context: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX.len() + 8 + context.len() + bytes.len());
    out.extend_from_slice(PREFIX);
    out.extend_from_slice(&(context.len() as u64).to_be_bytes());
    out.extend_from_slice(context.as_bytes());
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsEntropy;
    use crate::hazmat::test_hex;

    #[test]
    fn raw_signature_matches_rfc_8032_test_1() {
        let seed = test_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key = SigningKey::from_seed_bytes(&SecretBytes::from(seed)).unwrap();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(key.verifying_key().to_bytes().to_vec(), test_hex(public));
        let want = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        assert_eq!(key.sign_raw(b"").to_bytes().to_vec(), test_hex(want));
    }

    #[test]
    fn a_signature_holds_for_its_key_context_and_bytes_only() {
        let key = SigningKey::generate(&OsEntropy);
        let public = key.verifying_key();
        let signature = key.sign("event", b"bytes");
        assert_eq!(public.verify("event", b"bytes", &signature), Ok(()));
        assert_eq!(
            public.verify("audit", b"bytes", &signature),
            Err(BadSignature)
        );
        assert_eq!(
            public.verify("event", b"byte", &signature),
            Err(BadSignature)
        );
        assert_eq!(public.verify_raw(b"bytes", &signature), Err(BadSignature));
        let other = SigningKey::generate(&OsEntropy).verifying_key();
        assert_eq!(
            other.verify("event", b"bytes", &signature),
            Err(BadSignature)
        );
        let mut flipped = signature.to_bytes();
        flipped[5] ^= 1;
        let flipped = Signature::from_bytes(flipped);
        assert_eq!(
            public.verify("event", b"bytes", &flipped),
            Err(BadSignature)
        );
    }

    #[test]
    fn context_and_bytes_cannot_trade_places() {
        assert_ne!(framed("ab", b"c"), framed("a", b"bc"));
    }

    #[test]
    fn a_stored_seed_gives_the_same_key() {
        let key = SigningKey::generate(&OsEntropy);
        let again = SigningKey::from_seed_bytes(&key.seed()).unwrap();
        assert_eq!(key.verifying_key(), again.verifying_key());
        assert!(SigningKey::from_seed_bytes(&SecretBytes::from(vec![1; 31])).is_err());
    }

    #[test]
    fn weak_and_broken_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(VerifyingKey::from_bytes(identity), Err(BadKey));
        let key = SigningKey::generate(&OsEntropy).verifying_key();
        assert_eq!(VerifyingKey::from_bytes(key.to_bytes()), Ok(key));
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let key = SigningKey::generate(&OsEntropy);
        let text = format!("{key:?}");
        let seed = key.seed();
        // EXPOSE: searched for in the debug text.
        let hex: String = seed
            .expose()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(text.starts_with("SigningKey(public VerifyingKey("));
        assert!(!text.contains(&hex));
    }
}
