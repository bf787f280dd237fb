//! What a host keeps on its own disk for the time without the control plane.
//!
//! Invariants: every message is sealed under a key of its own, derived from the host's key and a
//! fresh salt (AES-256-GCM, with a commitment); it opens only for its own deployment, host and
//! purpose, a value only under its own secret and version; a value is padded like everywhere else.
//! Where the key and the bytes lie is the caller's business.

use std::fmt;

use crate::entropy::Entropy;
use crate::envelope::{BadKey, OpenError, SealedKey, UnsealKey};
use crate::padding::{self, MAX_PADDED_BYTES};
use crate::secret::{SecretBytes, TooLarge};

/// Separates these messages from every other use of such a key, and names their form.
const KIND: &[u8] = b"host-cache/v1";
/// The longest record that is not a value: a plan.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// The key of one host's cache; the file form is an unseal key's.
pub struct HostCacheKey(UnsealKey);

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// A value of a secret.
    Value {
        /// The secret's id.
        secret: [u8; 16],
        /// The version.
        version: u64,
    },
    /// Something else, by its name; not padded.
    Record(&'a str),
}

/// Where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The deployment's id.
    pub deployment: [u8; 16],
    /// The host's id.
    pub host: [u8; 16],
    /// What.
    pub what: What<'a>,
}

/// It could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// The value is over the limit.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The record is over the limit.
    #[error("the record is longer than {MAX_RECORD_BYTES} bytes")]
    LongRecord,
    /// The cipher refused.
    #[error("the bytes cannot be sealed")]
    Cipher,
}

impl Place<'_> {
    fn name(&self) -> Vec<u8> {
        let mut name = self.host.to_vec();
        match self.what {
            What::Value { secret, version } => {
                name.push(1);
                name.extend_from_slice(&secret);
                name.extend_from_slice(&version.to_be_bytes());
            }
            What::Record(record) => {
                name.push(2);
                name.extend_from_slice(record.as_bytes());
            }
        }
        name
    }
}

impl HostCacheKey {
    /// A fresh key.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(UnsealKey::generate(entropy))
    }

    /// A stored key: 32 raw bytes, or 64 hex digits with or without a line end.
    ///
    /// # Errors
    /// [`BadKey`] for anything else.
    pub fn from_stored(content: &SecretBytes) -> Result<Self, BadKey> {
        UnsealKey::from_file(content).map(Self)
    }

    /// The key to be stored: 64 hex digits and a line end.
    #[must_use]
    pub fn to_stored(&self) -> SecretBytes {
        self.0.to_file()
    }

    /// Seals bytes for a place.
    ///
    /// # Errors
    /// [`KeepError`] when they are over the limit.
    pub fn seal(
        &self,
        place: &Place<'_>,
        bytes: &SecretBytes,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, KeepError> {
        let seal = |bytes: &[u8]| {
            self.0
                .seal_bytes(&place.deployment, KIND, &place.name(), bytes, entropy)
                .map(|sealed| sealed.to_bytes())
                .map_err(|_| KeepError::Cipher)
        };
        match place.what {
            What::Value { .. } => seal(padding::pad(bytes)?.bytes()),
            What::Record(_) => {
                // EXPOSE: a record is encrypted from where it lies.
                let bytes = bytes.expose();
                if bytes.len() > MAX_RECORD_BYTES {
                    return Err(KeepError::LongRecord);
                }
                seal(bytes)
            }
        }
    }

    /// Opens what [`Self::seal`] gave for the same place.
    ///
    /// # Errors
    /// [`OpenError`]; a wrong key, another place and changed bytes look the same.
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
        let most = match place.what {
            What::Value { .. } => MAX_PADDED_BYTES,
            What::Record(_) => MAX_RECORD_BYTES,
        };
        let sealed = SealedKey::read(sealed, most).ok_or(OpenError::Rejected)?;
        let opened = self
            .0
            .open(&place.deployment, KIND, &place.name(), &sealed)?;
        match place.what {
            What::Value { .. } => padding::unpad(opened.bytes()).ok_or(OpenError::Rejected),
            What::Record(_) => Ok(SecretBytes::made(opened)),
        }
    }
}

impl fmt::Debug for HostCacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostCacheKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsEntropy;

    const VALUE: Place<'static> = Place {
        deployment: [1; 16],
        host: [2; 16],
        what: What::Value {
            secret: [3; 16],
            version: 4,
        },
    };
    const RECORD: Place<'static> = Place {
        what: What::Record("plan"),
        ..VALUE
    };

    fn bytes(text: &[u8]) -> SecretBytes {
        SecretBytes::from(text.to_vec())
    }

    #[test]
    fn what_was_sealed_opens_also_with_the_stored_key_and_shows_nothing() {
        let key = HostCacheKey::generate(&OsEntropy);
        let stored = HostCacheKey::from_stored(&key.to_stored()).unwrap();
        for place in [VALUE, RECORD] {
            let sealed = key
                .seal(&place, &bytes(b"canary-bytes"), &OsEntropy)
                .unwrap();
            assert!(!sealed.windows(12).any(|part| part == b"canary-bytes"));
            let opened = stored.open(&place, &sealed).unwrap();
            assert!(opened.ct_eq(&bytes(b"canary-bytes")));
        }
        assert_eq!(format!("{key:?}"), "HostCacheKey(…)");
    }

    #[test]
    fn another_place_key_or_byte_does_not_open() {
        let key = HostCacheKey::generate(&OsEntropy);
        let sealed = key.seal(&VALUE, &bytes(b"value"), &OsEntropy).unwrap();
        let value = |secret, version| What::Value {
            secret: [secret; 16],
            version,
        };
        let others = [
            Place {
                deployment: [9; 16],
                ..VALUE
            },
            Place {
                host: [9; 16],
                ..VALUE
            },
            Place {
                what: value(9, 4),
                ..VALUE
            },
            Place {
                what: value(3, 5),
                ..VALUE
            },
            RECORD,
        ];
        for other in others {
            assert!(key.open(&other, &sealed).is_err(), "{other:?}");
        }
        assert!(
            HostCacheKey::generate(&OsEntropy)
                .open(&VALUE, &sealed)
                .is_err()
        );
        for at in (0..sealed.len()).step_by(5) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(&VALUE, &changed).is_err(), "byte {at}");
            assert!(key.open(&VALUE, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn values_of_one_class_are_equally_long_and_none_is_sealed_twice_alike() {
        let key = HostCacheKey::generate(&OsEntropy);
        let seal = |text: &[u8]| key.seal(&VALUE, &bytes(text), &OsEntropy).unwrap();
        assert_eq!(seal(b"").len(), seal(&[7; 64]).len());
        assert_ne!(seal(b"same"), seal(b"same"));
    }

    #[test]
    fn a_record_over_the_limit_is_refused() {
        let key = HostCacheKey::generate(&OsEntropy);
        let long = SecretBytes::from(vec![0; MAX_RECORD_BYTES + 1]);
        assert_eq!(
            key.seal(&RECORD, &long, &OsEntropy),
            Err(KeepError::LongRecord)
        );
    }
}
