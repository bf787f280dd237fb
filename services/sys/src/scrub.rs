//! A byte buffer that is overwritten when dropped, for programs that may not carry the sealing crate.
//!
//! Does not lock memory and does not follow copies that a caller makes.

use crate::raw;

/// Bytes that are zeroed on drop. No `Debug`, no `Clone`.
pub struct Scrubbed(Vec<u8>);

impl Scrubbed {
    /// Takes ownership of `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// An empty buffer that does not move until `capacity` bytes are in it.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The content.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The buffer, for filling. A push beyond the capacity moves it and leaves a copy behind: reserve first.
    pub fn expose_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Scrubbed {
    fn drop(&mut self) {
        raw::wipe(&mut self.0);
    }
}

/// Overwrites the bytes of a text and drops it.
pub fn text(text: String) {
    drop(Scrubbed(text.into_bytes()));
}
