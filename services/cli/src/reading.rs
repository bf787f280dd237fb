//! Reads a secret to where it stays: straight into locked memory, without a buffer between that would keep a copy.

use std::io::{self, Read};

use keywheel_seal::SecretBytes;

/// Everything of a source, or its first `most` bytes.
///
/// # Errors
/// Where the source cannot be read.
pub(crate) fn secret(mut source: impl Read, most: usize) -> io::Result<SecretBytes> {
    SecretBytes::filled(most, |room| {
        let mut length = 0;
        while let Some(rest) = room.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match source.read(rest) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time, and is interrupted before each.
    struct Slow<'b>(&'b [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = self.0.len().min(1);
            self.0.read(buffer.get_mut(..count).unwrap_or_default())
        }
    }

    #[test]
    fn all_of_it_is_read_and_no_more_than_was_asked_for() {
        let same = |bytes: &SecretBytes, text: &[u8]| bytes.ct_eq(&SecretBytes::copied(text));
        let read = |most| secret(Slow(b"a value", false), most).unwrap();
        assert!(same(&read(100), b"a value"));
        assert!(same(&read(7), b"a value"));
        assert!(same(&read(3), b"a v"));
        assert!(read(0).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let directory = std::fs::File::open(std::env::temp_dir()).unwrap();
        assert!(secret(directory, 10).is_err());
    }
}
