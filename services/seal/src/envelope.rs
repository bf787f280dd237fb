//! Values at rest: KEK wraps DEK, DEK seals one value (K1–K3).
//!
//! Hierarchy: the *unseal key* (from the key file) seals the *KEK*; the KEK wraps one random *DEK*
//! per secret version; the DEK seals exactly one GCM message, the padded value. Invariants: a DEK is
//! never used twice; a commitment binds ciphertext and associated data to the one DEK (GCM alone does
//! not commit to its key); unknown format or suite is refused; a moved, renamed, re-numbered or
//! re-keyed row does not open. The wrap counter is the caller's to persist *before* it wraps; the
//! limit is [`MAX_WRAPS`]. It stores nothing.

mod aad;
mod key;

use std::fmt;

pub use self::aad::{AAD_FORMAT, Aad, Purpose};
pub use self::key::{BadKey, Kek, KekId, SealedKey, UnsealKey};
use crate::entropy::{self, Entropy};
use crate::hazmat::{self, KEY_BYTES, Key, NONCE_BYTES, TAG_BYTES};
use crate::padding::{self, MAX_PADDED_BYTES};
use crate::secret::{SecretBytes, TooLarge};

/// AES-256-GCM for wrap and value, HMAC-SHA-256 commitment, padding classes of four.
pub const SUITE_AES256GCM: u16 = 1;
/// How often one KEK may wrap before it must be replaced (K1: far under the bound of SP 800-38D).
pub const MAX_WRAPS: u64 = 1 << 20;
/// Bytes of a wrapped DEK: nonce, key, tag.
pub const WRAPPED_DEK_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;
/// The longest ciphertext of a version.
pub const MAX_CIPHERTEXT_BYTES: usize = MAX_PADDED_BYTES + TAG_BYTES;

/// The value could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The value is over the limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// Associated data of another format or for another KEK than the one given.
    #[error("the associated data is not for this key")]
    WrongAad,
}

/// The version could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A suite this build does not know.
    #[error("the version is sealed with suite {0}, which this build does not know")]
    UnknownSuite(u16),
    /// Wrong key or place, or changed bytes; which of them is not told.
    #[error("the sealed bytes do not open here: wrong key, wrong place or changed")]
    Rejected,
}

/// One sealed value as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedVersion {
    /// Which algorithms; see [`SUITE_AES256GCM`].
    pub suite: u16,
    /// The KEK that wraps the DEK.
    pub key_id: KekId,
    /// Nonce, encrypted DEK, tag.
    pub wrapped_dek: Vec<u8>,
    /// Nonce of the value.
    pub nonce: [u8; NONCE_BYTES],
    /// Padded value and tag.
    pub ciphertext: Vec<u8>,
    /// Binds DEK, place, nonce and ciphertext together.
    pub commitment: [u8; 32],
}

impl fmt::Debug for SealedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SealedVersion(suite {}, {:?}, …)",
            self.suite, self.key_id
        )
    }
}

/// Seals `value` under a fresh DEK wrapped by `kek`, for the place named by `aad`.
///
/// # Errors
/// [`SealError`] when the value is over the limit or `aad` names another KEK.
pub fn seal_version(
    kek: &Kek,
    aad: &Aad,
    value: &SecretBytes,
    entropy: &dyn Entropy,
) -> Result<SealedVersion, SealError> {
    check_aad(kek, aad).ok_or(SealError::WrongAad)?;
    let padded = padding::pad(value)?;
    let dek = Key::random(entropy);
    let nonce = entropy::array(entropy);
    let place = aad.place();
    let ciphertext = hazmat::gcm_seal(&value_key(&dek), &nonce, &place, padded.bytes())
        .map_err(|_| SealError::WrongAad)?;
    Ok(SealedVersion {
        suite: SUITE_AES256GCM,
        key_id: kek.id(),
        wrapped_dek: kek
            .wrap(&dek, aad, entropy)
            .map_err(|_| SealError::WrongAad)?,
        commitment: commit(&dek, &place, &nonce, &ciphertext),
        nonce,
        ciphertext,
    })
}

/// Opens a version at the place named by `aad`.
///
/// # Errors
/// [`OpenError`]; which input was wrong is not told.
pub fn open_version(
    kek: &Kek,
    aad: &Aad,
    sealed: &SealedVersion,
) -> Result<SecretBytes, OpenError> {
    let dek = unwrap_dek(kek, aad, sealed)?;
    let place = aad.place();
    check_commitment(&dek, &place, sealed)?;
    let padded = hazmat::gcm_open(&value_key(&dek), &sealed.nonce, &place, &sealed.ciphertext)
        .map_err(|_| OpenError::Rejected)?;
    padding::unpad(padded.bytes()).ok_or(OpenError::Rejected)
}

/// Shows that a version's data key opens and belongs to what is sealed, without opening the value.
///
/// # Errors
/// [`OpenError`]; which input was wrong is not told.
pub fn check_version(kek: &Kek, aad: &Aad, sealed: &SealedVersion) -> Result<(), OpenError> {
    let dek = unwrap_dek(kek, aad, sealed)?;
    check_commitment(&dek, &aad.place(), sealed)
}

/// Moves a version from one KEK to the next without touching the value (K5). `aad` names `from`.
///
/// # Errors
/// [`OpenError`] when the version does not open under `from`.
pub fn rewrap_version(
    from: &Kek,
    to: &Kek,
    aad: &Aad,
    sealed: &SealedVersion,
    entropy: &dyn Entropy,
) -> Result<SealedVersion, OpenError> {
    let dek = unwrap_dek(from, aad, sealed)?;
    check_commitment(&dek, &aad.place(), sealed)?;
    let next = Aad {
        key_id: to.id(),
        ..*aad
    };
    let wrapped_dek = to
        .wrap(&dek, &next, entropy)
        .map_err(|_| OpenError::Rejected)?;
    Ok(SealedVersion {
        key_id: to.id(),
        wrapped_dek,
        ..sealed.clone()
    })
}

/// Format and KEK named by `aad` are the ones in use.
fn check_aad(kek: &Kek, aad: &Aad) -> Option<()> {
    (aad.format == AAD_FORMAT && aad.key_id == kek.id()).then_some(())
}

fn unwrap_dek(kek: &Kek, aad: &Aad, sealed: &SealedVersion) -> Result<Key, OpenError> {
    if sealed.suite != SUITE_AES256GCM {
        return Err(OpenError::UnknownSuite(sealed.suite));
    }
    if sealed.key_id != kek.id() || sealed.ciphertext.len() > MAX_CIPHERTEXT_BYTES {
        return Err(OpenError::Rejected);
    }
    check_aad(kek, aad).ok_or(OpenError::Rejected)?;
    kek.unwrap(&sealed.wrapped_dek, aad)
        .map_err(|_| OpenError::Rejected)
}

fn check_commitment(dek: &Key, place: &[u8], sealed: &SealedVersion) -> Result<(), OpenError> {
    let want = commit(dek, place, &sealed.nonce, &sealed.ciphertext);
    let same: bool = subtle::ConstantTimeEq::ct_eq(&want[..], &sealed.commitment[..]).into();
    if same {
        Ok(())
    } else {
        Err(OpenError::Rejected)
    }
}

/// The GCM key of a DEK; apart from the commitment key, so neither tells about the other.
fn value_key(dek: &Key) -> Key {
    hazmat::derive(dek, &[b"keywheel/dek/value/v1"])
}

/// HMAC over place, nonce and ciphertext under a key only this DEK gives.
fn commit(dek: &Key, place: &[u8], nonce: &[u8; NONCE_BYTES], ciphertext: &[u8]) -> [u8; 32] {
    let key = hazmat::derive(dek, &[b"keywheel/dek/commit/v1"]);
    hazmat::hmac(
        &key,
        &[
            &(place.len() as u64).to_be_bytes(),
            place,
            nonce,
            ciphertext,
        ],
    )
}

#[cfg(test)]
mod tests;
