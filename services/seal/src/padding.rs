//! Length hiding (C3): a value is padded to a size class before it is sealed.
//!
//! Layout of the padded plaintext: length as 4 bytes big endian, the value, zeros up to the class.
//! Invariant: values of one class give plaintexts of one length. It does not encrypt.

use keywheel_sys::locked::LockedBytes;

use crate::secret::{MAX_VALUE_BYTES, SecretBytes, TooLarge};

/// The size classes of values, in bytes; each is four times the one before.
pub const PADDING_CLASSES: [usize; 8] = [
    64,
    256,
    1 << 10,
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    MAX_VALUE_BYTES,
];

/// Bytes of the length that stands before the value.
const LENGTH_BYTES: usize = 4;

/// The smallest class that holds `len` bytes, or none over the limit.
#[must_use]
pub fn padding_class(len: usize) -> Option<usize> {
    PADDING_CLASSES.into_iter().find(|class| len <= *class)
}

/// The largest padded plaintext.
pub(crate) const MAX_PADDED_BYTES: usize = LENGTH_BYTES + MAX_VALUE_BYTES;

/// Pads `value`, in locked memory as it is.
pub(crate) fn pad(value: &SecretBytes) -> Result<LockedBytes, TooLarge> {
    // EXPOSE: the value is copied into the buffer that is encrypted.
    let bytes = value.expose();
    let class = padding_class(bytes.len()).ok_or(TooLarge)?;
    let len = u32::try_from(bytes.len()).map_err(|_| TooLarge)?;
    let mut out = LockedBytes::zeroed(LENGTH_BYTES + class);
    let (prefix, rest) = out.bytes_mut().split_at_mut(LENGTH_BYTES);
    prefix.copy_from_slice(&len.to_be_bytes());
    rest[..bytes.len()].copy_from_slice(bytes);
    Ok(out)
}

/// Takes the value out of a padded plaintext; none when the layout is not exactly ours.
pub(crate) fn unpad(padded: &[u8]) -> Option<SecretBytes> {
    let (prefix, rest) = padded.split_first_chunk::<LENGTH_BYTES>()?;
    let len = usize::try_from(u32::from_be_bytes(*prefix)).ok()?;
    if padding_class(len) != Some(rest.len()) {
        return None;
    }
    let (value, zeros) = rest.split_at_checked(len)?;
    zeros
        .iter()
        .all(|byte| *byte == 0)
        .then(|| SecretBytes::copied(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(len: usize) -> Vec<u8> {
        pad(&SecretBytes::from(vec![9; len]))
            .unwrap()
            .bytes()
            .to_vec()
    }

    #[test]
    fn each_class_is_four_times_the_one_before() {
        assert!(
            PADDING_CLASSES
                .windows(2)
                .all(|pair| pair[1] == 4 * pair[0])
        );
        assert_eq!(PADDING_CLASSES[7], MAX_VALUE_BYTES);
    }

    #[test]
    fn values_of_one_class_look_alike() {
        for pair in PADDING_CLASSES.windows(2) {
            assert_eq!(padded(pair[0] + 1).len(), padded(pair[1]).len());
            assert_ne!(padded(pair[0]).len(), padded(pair[0] + 1).len());
        }
        assert_eq!(padded(0).len(), padded(64).len());
    }

    #[test]
    fn the_largest_value_fits_and_a_larger_does_not() {
        assert_eq!(padded(MAX_VALUE_BYTES).len(), MAX_PADDED_BYTES);
        assert!(pad(&SecretBytes::from(vec![9; MAX_VALUE_BYTES + 1])).is_err());
    }

    #[test]
    fn unpad_gives_the_value_back() {
        for len in [0, 1, 63, 64, 65, 256, 257, 5000] {
            let value = unpad(&padded(len)).unwrap();
            assert!(
                value.ct_eq(&SecretBytes::from(vec![9; len])),
                "length {len}"
            );
        }
    }

    #[test]
    fn a_foreign_layout_is_refused() {
        let good = padded(10);
        let mut dirty = good.clone();
        *dirty.last_mut().unwrap() = 1;
        let mut long = good.clone();
        long.push(0);
        let mut wrong_class = good.clone();
        wrong_class[3] = 65;
        for bad in [
            &dirty[..],
            &long[..],
            &wrong_class[..],
            &good[..20],
            &[],
            &[0, 0, 0],
        ] {
            assert!(unpad(bad).is_none());
        }
    }
}
