//! What a provided value is bound to on its way from whoever provides it to store-sync.
//!
//! Pure; all ends call it. Invariant: an envelope opens only in its own deployment and under its own
//! rotation; and nobody who provides a value chooses that rotation's id, or they could claim the one of
//! a slot to come, whose rotation would then be refused.

use keywheel_core::id::{DeploymentId, PutToken, RotationId};
use keywheel_seal::digest;

/// Separates these envelopes from every other use of the same keys.
const PURPOSE: &[u8] = b"keywheel/stash/v1";

/// Separates these ids from every other digest of the same bytes.
const ROTATION: &[u8] = b"keywheel/put/v1";

/// The rotation that takes the value: the first sixteen bytes of a SHA-256 over purpose and token.
#[must_use]
pub fn rotation(token: PutToken) -> RotationId {
    let hash = digest::sha256(&[ROTATION, token.bytes().as_slice()].concat());
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    RotationId::from_bytes(id)
}

/// HPKE `info`: purpose, deployment.
#[must_use]
pub fn info(deployment: DeploymentId) -> Vec<u8> {
    [PURPOSE, deployment.bytes().as_slice()].concat()
}

/// HPKE associated data: the rotation that takes the value.
#[must_use]
pub fn aad(rotation: RotationId) -> Vec<u8> {
    rotation.bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_bytes() {
        let of = |byte| info(DeploymentId::from_bytes([byte; 16]));
        assert_ne!(of(1), of(2));
        assert_eq!(of(1), [b"keywheel/stash/v1".as_slice(), &[1; 16]].concat());
        let token = |byte| aad(RotationId::from_bytes([byte; 16]));
        assert_ne!(token(1), token(2));
    }

    #[test]
    fn a_rotation_s_id_is_derived_as_it_is_published() {
        let token = PutToken::from_bytes([3; 16]);
        let hash = digest::sha256(&[b"keywheel/put/v1".as_slice(), &[3; 16]].concat());
        assert_eq!(rotation(token).bytes(), &hash[..16]);
        assert_ne!(rotation(token), rotation(PutToken::from_bytes([4; 16])));
    }
}
