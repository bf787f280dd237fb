//! Which revocations wait for a replacement, and what a rotation leaves to one that begins.

use super::World;
use crate::id::{RevocationId, SecretId};
use crate::revocation::Revocation;

impl World {
    /// Revocations of a secret that wait for a replacement.
    pub fn awaiting(&self, secret: SecretId) -> impl Iterator<Item = &Revocation> {
        let ids = self.awaiting.get(&secret).into_iter().flatten();
        ids.filter_map(|id| self.revocations.get(id))
    }

    /// A revocation ends these versions; the rotation that brought their replacement does not, and waits for nobody
    /// because of them.
    pub(super) fn give_over(&mut self, secret: SecretId, versions: &[u64]) {
        let open = self.open_rotations.get(&secret);
        if let Some(open) = open.and_then(|id| self.rotations.get_mut(id)) {
            open.give_over(versions);
        }
    }

    pub(super) fn index_awaiting(&mut self, secret: SecretId, id: RevocationId, is_awaiting: bool) {
        let ids = self.awaiting.entry(secret).or_default();
        match is_awaiting {
            true => ids.insert(id),
            false => ids.remove(&id),
        };
        if ids.is_empty() {
            self.awaiting.remove(&secret);
        }
    }
}
