//! What a provided value is bound to on its way from whoever provides it to store-sync.
//!
//! Pure; both ends call it. Invariant: an envelope opens only in its own deployment and under its
//! own rotation.

use keywheel_core::id::{DeploymentId, RotationId};

/// Separates these envelopes from every other use of the same keys.
const PURPOSE: &[u8] = b"keywheel/stash/v1";

/// HPKE `info`: purpose, deployment.
#[must_use]
pub fn info(deployment: DeploymentId) -> Vec<u8> {
    [PURPOSE, deployment.bytes().as_slice()].concat()
}

/// HPKE associated data: the rotation that takes the value.
#[must_use]
pub fn aad(token: RotationId) -> Vec<u8> {
    token.bytes().to_vec()
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
}
