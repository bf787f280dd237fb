//! What a rotation leaves to a revocation that waited for it.

use super::Rotation;

impl Rotation {
    /// A revocation ends these versions: they are not this rotation's to end any more, and who held nothing else is
    /// not waited for.
    pub fn give_over(&mut self, versions: &[u64]) {
        self.old.retain(|version| !versions.contains(version));
        if self.old.is_empty() {
            self.barrier.clear();
        }
    }
}
