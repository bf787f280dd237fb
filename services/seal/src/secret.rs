//! Bytes that must not leave memory by accident.
//!
//! Owns [`SecretBytes`] and the size limit of a value. Invariants: the bytes lie in locked memory
//! ([`crate::memory`]) and are overwritten on drop; there is no `Clone`, `Display`, `Serialize` or
//! telling `Debug`; equality takes the same time wherever two equally long values differ. It does
//! not encrypt.

use std::fmt;

use keywheel_sys::locked::LockedBytes;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The longest value of a secret, in bytes (1 MiB).
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// A value longer than [`MAX_VALUE_BYTES`]. The actual length is part of the secret and not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value is longer than {MAX_VALUE_BYTES} bytes; store a shorter value")]
pub struct TooLarge;

/// Secret bytes: in locked memory, overwritten on drop, not printable, not clonable.
///
/// ```compile_fail
/// let s = keywheel_seal::SecretBytes::from(vec![1]);
/// let _ = s.clone();
/// ```
/// ```compile_fail
/// let s = keywheel_seal::SecretBytes::from(vec![1]);
/// println!("{s}");
/// ```
/// ```compile_fail
/// let s = keywheel_seal::SecretBytes::from(vec![1]);
/// let _ = s == keywheel_seal::SecretBytes::from(vec![1]);
/// ```
/// ```compile_fail
/// let s = keywheel_seal::SecretBytes::from(vec![1]);
/// let _: Vec<u8> = s.into();
/// ```
/// ```compile_fail
/// fn raw(s: &keywheel_seal::SecretBytes) -> &[u8] { s.as_ref() }
/// ```
pub struct SecretBytes(LockedBytes);

impl SecretBytes {
    /// Takes a value of a secret, refusing one over [`MAX_VALUE_BYTES`] (which is overwritten too).
    ///
    /// # Errors
    /// [`TooLarge`] when the value is over the limit.
    pub fn value(bytes: Vec<u8>) -> Result<Self, TooLarge> {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() > MAX_VALUE_BYTES {
            Err(TooLarge)
        } else {
            Ok(Self::copied(&bytes))
        }
    }

    /// A copy of bytes that lie elsewhere, whose owner overwrites them.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Self {
        Self(LockedBytes::copied(bytes))
    }

    /// Bytes that come to where they stay: `fill` gets so much room, and says how much of it it used.
    ///
    /// # Errors
    /// Those of `fill`; what it had written is overwritten.
    pub fn filled<E>(
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let mut bytes = LockedBytes::zeroed(room);
        let used = fill(bytes.bytes_mut())?;
        bytes.truncate(used);
        Ok(Self(bytes))
    }

    /// The same, if it is no longer than a value of a secret may be.
    ///
    /// # Errors
    /// [`TooLarge`] when it is over the limit.
    pub fn within_limit(self) -> Result<Self, TooLarge> {
        match self.0.bytes().len() > MAX_VALUE_BYTES {
            true => Err(TooLarge),
            false => Ok(self),
        }
    }

    /// What was made where it stays.
    pub(crate) fn made(bytes: LockedBytes) -> Self {
        Self(bytes)
    }

    /// The bytes themselves. Each call site says why in a comment that begins with `EXPOSE:`.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.bytes()
    }

    /// True when there is not a single byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.bytes().is_empty()
    }

    /// Compares in time that does not depend on where two values differ.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.bytes().ct_eq(other.0.bytes()).into()
    }
}

impl From<Vec<u8>> for SecretBytes {
    /// Takes the bytes over, and overwrites where they lay.
    fn from(bytes: Vec<u8>) -> Self {
        Self::copied(&Zeroizing::new(bytes))
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_bytes_nor_length() {
        let short = format!("{:?}", SecretBytes::from(b"canary".to_vec()));
        let long = format!("{:#?}", SecretBytes::from(vec![7; 900]));
        assert_eq!(short, "SecretBytes(…)");
        assert_eq!(short, long);
    }

    #[test]
    fn the_limit_is_accepted_and_one_more_is_not() {
        assert!(SecretBytes::value(vec![1; MAX_VALUE_BYTES]).is_ok());
        assert_eq!(
            SecretBytes::value(vec![1; MAX_VALUE_BYTES + 1]).unwrap_err(),
            TooLarge
        );
    }

    #[test]
    fn what_is_filled_has_the_length_that_was_used_and_the_same_limit() {
        let fill = |used| {
            SecretBytes::filled(MAX_VALUE_BYTES + 1, |room| {
                room.fill(2);
                Ok::<usize, TooLarge>(used)
            })
        };
        assert!(fill(3).unwrap().ct_eq(&SecretBytes::copied(&[2; 3])));
        assert!(fill(0).unwrap().is_empty());
        assert!(fill(MAX_VALUE_BYTES).unwrap().within_limit().is_ok());
        let over = fill(MAX_VALUE_BYTES + 1).unwrap();
        assert_eq!(over.within_limit().unwrap_err(), TooLarge);
        assert!(SecretBytes::filled(4, |_| Err::<usize, _>(TooLarge)).is_err());
    }

    #[test]
    fn the_error_does_not_tell_the_length() {
        assert!(!TooLarge.to_string().contains("1048577"));
        assert!(TooLarge.to_string().contains("1048576"));
    }

    #[test]
    fn a_value_lies_in_locked_memory_where_the_largest_fits_too() {
        // What is longer than a piece of it would lie on the heap.
        const { assert!(MAX_VALUE_BYTES <= keywheel_sys::locked::MAX_LOCKED_BYTES) };
        const { assert!(crate::padding::MAX_PADDED_BYTES <= keywheel_sys::locked::MAX_LOCKED_BYTES) };
        let value = SecretBytes::from(vec![3; MAX_VALUE_BYTES]);
        let state = crate::memory::state();
        let kept = state.secret_bytes + state.locked_bytes + state.plain_bytes;
        assert!(kept >= MAX_VALUE_BYTES, "{state:?}");
        assert!(value.expose().iter().all(|byte| *byte == 3));
    }

    #[test]
    fn equality_needs_every_byte() {
        let a = SecretBytes::from(b"abcd".to_vec());
        assert!(a.ct_eq(&SecretBytes::from(b"abcd".to_vec())));
        assert!(!a.ct_eq(&SecretBytes::from(b"abce".to_vec())));
        assert!(!a.ct_eq(&SecretBytes::from(b"abc".to_vec())));
    }
}
