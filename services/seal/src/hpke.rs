//! Envelopes to one host: HPKE base mode (RFC 9180) with an explicit suite id (K7).
//!
//! Suite 1 is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Invariants: the value is padded
//! to a size class before sealing (C3); an unknown suite is refused; every refusal to open looks the
//! same from outside. Base mode does not say who sent an envelope: the sender signs it (see `sign`).

use std::convert::Infallible;
use std::fmt;

use hpke::aead::{AeadTag, AesGcm256};
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use keywheel_sys::locked::{Locked, LockedBytes};

use crate::entropy::Entropy;
use crate::hazmat::{self, TAG_BYTES};
use crate::padding::{self, MAX_PADDED_BYTES};
use crate::secret::SecretBytes;

/// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Higher ids are left for hybrid suites.
pub const SUITE_X25519_AES256GCM: u16 = 1;
/// The longest ciphertext of an envelope.
pub const MAX_CIPHERTEXT_BYTES: usize = MAX_PADDED_BYTES + TAG_BYTES;
/// Suite and encapsulated key before the ciphertext.
const HEADER_BYTES: usize = 2 + 32;

type Kem = X25519HkdfSha256;
type PrivateKey = <Kem as hpke::Kem>::PrivateKey;

/// The value could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The value is over the limit.
    #[error(transparent)]
    TooLarge(#[from] crate::TooLarge),
    /// The recipient's key is not usable.
    #[error("the host's public key is not usable; enrol the host again")]
    BadPublicKey,
}

/// The envelope could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A suite this build does not know.
    #[error("the envelope uses suite {0}, which this build does not know")]
    UnknownSuite(u16),
    /// Wrong key, info or associated data, or changed bytes; which of them is not told.
    #[error("the envelope does not open with this key for this purpose")]
    Rejected,
}

/// The bytes are not an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not an envelope")]
pub struct BadEnvelope;

/// The bytes are not a private host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not an X25519 private key")]
pub struct BadKey;

/// A host's public key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// A key from its bytes; a useless one shows at sealing.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A host's key pair; the private half lies in locked memory and is overwritten on drop.
pub struct HostKeyPair {
    private: Locked<PrivateKey>,
    public: PublicKey,
}

impl HostKeyPair {
    /// A fresh pair.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let pair = Self::made(entropy);
        hazmat::overwrite_stack();
        pair
    }

    /// A stored pair.
    ///
    /// # Errors
    /// [`BadKey`] unless the bytes are a private key as [`Self::private_bytes`] gave it.
    pub fn from_private_bytes(bytes: &SecretBytes) -> Result<Self, BadKey> {
        let read = Self::read(bytes);
        hazmat::overwrite_stack();
        read
    }

    /// In a frame of its own, which is overwritten when it is gone: a key is made before it is moved to where it stays.
    #[inline(never)]
    fn made(entropy: &dyn Entropy) -> Self {
        let (private, _) = Kem::gen_keypair_with_rng(&mut Rng(entropy));
        Self::with(private)
    }

    /// The same.
    #[inline(never)]
    fn read(bytes: &SecretBytes) -> Result<Self, BadKey> {
        // EXPOSE: the stored key is parsed into the key type.
        PrivateKey::from_bytes(bytes.expose())
            .map(Self::with)
            .map_err(|_| BadKey)
    }

    /// The private half, to be stored sealed.
    #[must_use]
    pub fn private_bytes(&self) -> SecretBytes {
        let mut bytes = LockedBytes::zeroed(PrivateKey::size());
        self.private.write_exact(bytes.bytes_mut());
        SecretBytes::made(bytes)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Opens an envelope sealed to this pair with the same `info` and `aad`.
    ///
    /// # Errors
    /// [`OpenError`]; which input was wrong is not told.
    pub fn open(
        &self,
        info: &[u8],
        aad: &[u8],
        envelope: &Envelope,
    ) -> Result<SecretBytes, OpenError> {
        if envelope.suite != SUITE_X25519_AES256GCM {
            return Err(OpenError::UnknownSuite(envelope.suite));
        }
        let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(&envelope.enc)
            .map_err(|_| OpenError::Rejected)?;
        let split = envelope.ciphertext.split_last_chunk::<TAG_BYTES>();
        let (body, tag) = split.ok_or(OpenError::Rejected)?;
        let tag = AeadTag::<AesGcm256>::from_bytes(tag).map_err(|_| OpenError::Rejected)?;
        let mut padded = LockedBytes::zeroed(body.len());
        let both = InOutBuf::new(body, padded.bytes_mut()).map_err(|_| OpenError::Rejected)?;
        let done = hpke::single_shot_open_inout_detached::<AesGcm256, HkdfSha256, Kem>(
            &OpModeR::Base,
            &self.private,
            &enc,
            info,
            both,
            &bound_aad(envelope.suite, aad),
            &tag,
        );
        hazmat::overwrite_stack();
        done.map_err(|_| OpenError::Rejected)?;
        padding::unpad(padded.bytes()).ok_or(OpenError::Rejected)
    }

    fn with(private: PrivateKey) -> Self {
        let public = PublicKey(Kem::sk_to_pk(&private).to_bytes().into());
        let private = Locked::new(private);
        Self { private, public }
    }
}

impl fmt::Debug for HostKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKeyPair(public {:?})", self.public)
    }
}

/// Seals `value` to a host. `info` names the deployment and host, `aad` the delivery.
///
/// # Errors
/// [`SealError`] when the value is over the limit or the key is not usable.
pub fn seal(
    to: &PublicKey,
    info: &[u8],
    aad: &[u8],
    value: &SecretBytes,
    entropy: &dyn Entropy,
) -> Result<Envelope, SealError> {
    let suite = SUITE_X25519_AES256GCM;
    let padded = padding::pad(value)?;
    let to =
        <Kem as hpke::Kem>::PublicKey::from_bytes(&to.0).map_err(|_| SealError::BadPublicKey)?;
    let mut ciphertext = vec![0; padded.bytes().len() + TAG_BYTES];
    let (body, room) = ciphertext.split_at_mut(padded.bytes().len());
    let both = InOutBuf::new(padded.bytes(), body).map_err(|_| SealError::BadPublicKey)?;
    let done = hpke::single_shot_seal_inout_detached_with_rng::<AesGcm256, HkdfSha256, Kem>(
        &OpModeS::Base,
        &to,
        info,
        both,
        &bound_aad(suite, aad),
        &mut Rng(entropy),
    );
    hazmat::overwrite_stack();
    let (enc, tag) = done.map_err(|_| SealError::BadPublicKey)?;
    room.copy_from_slice(&tag.to_bytes());
    Ok(Envelope {
        suite,
        enc: enc.to_bytes().into(),
        ciphertext,
    })
}

/// A sealed value on its way to one host.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Which algorithms; see [`SUITE_X25519_AES256GCM`].
    pub suite: u16,
    /// The encapsulated key.
    pub enc: [u8; 32],
    /// Padded value and tag.
    pub ciphertext: Vec<u8>,
}

impl Envelope {
    /// Suite (2 bytes big endian), encapsulated key (32), ciphertext (the rest).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.ciphertext.len());
        out.extend_from_slice(&self.suite.to_be_bytes());
        out.extend_from_slice(&self.enc);
        out.extend_from_slice(&self.ciphertext);
        out
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`BadEnvelope`] when there is no header or the ciphertext is empty or over
    /// [`MAX_CIPHERTEXT_BYTES`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadEnvelope> {
        let (suite, rest) = bytes.split_first_chunk::<2>().ok_or(BadEnvelope)?;
        let (enc, ciphertext) = rest.split_first_chunk::<32>().ok_or(BadEnvelope)?;
        if ciphertext.is_empty() || ciphertext.len() > MAX_CIPHERTEXT_BYTES {
            return Err(BadEnvelope);
        }
        Ok(Self {
            suite: u16::from_be_bytes(*suite),
            enc: *enc,
            ciphertext: ciphertext.to_vec(),
        })
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope(suite {}, …)", self.suite)
    }
}

/// The caller's associated data with the suite before it, so a suite cannot be swapped.
fn bound_aad(suite: u16, aad: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + aad.len());
    out.extend_from_slice(&suite.to_be_bytes());
    out.extend_from_slice(aad);
    out
}

/// Our randomness port in the shape the libraries want.
pub(crate) struct Rng<'a>(pub(crate) &'a dyn Entropy);

impl TryRng for Rng<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(crate::entropy::array(self.0)))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(crate::entropy::array(self.0)))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(dst);
        Ok(())
    }
}

impl TryCryptoRng for Rng<'_> {}

#[cfg(test)]
mod tests;
