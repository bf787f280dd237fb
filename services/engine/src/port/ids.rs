//! Fresh ids, as a port. Law: no two draws are equal, in any two processes.

/// Draws ids.
pub trait Ids: Send + Sync {
    /// Sixteen bytes of a uuid v7: they sort by time.
    fn draw(&self) -> [u8; 16];
}
