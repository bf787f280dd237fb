//! What the key of a comparison with reported tokens is bound to on its way to store-sync.
//!
//! Pure; both ends call it. Whoever carries messages sees digests of tokens, which may be weak: without the key nobody
//! makes such a digest of a guess. Invariant: a key opens only in its own deployment and for the digests that were made
//! under it.

use keywheel_core::id::DeploymentId;

/// Separates these envelopes from every other use of the same keys.
const PURPOSE: &[u8] = b"keywheel/comparison/v1";

/// HPKE `info`: purpose, deployment.
#[must_use]
pub fn info(deployment: DeploymentId) -> Vec<u8> {
    [PURPOSE, deployment.bytes().as_slice()].concat()
}

/// HPKE associated data: the digests, one after another.
#[must_use]
pub fn aad(digests: &[[u8; 32]]) -> Vec<u8> {
    digests.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_bytes() {
        let of = |byte| info(DeploymentId::from_bytes([byte; 16]));
        assert_ne!(of(1), of(2));
        let wanted = [b"keywheel/comparison/v1".as_slice(), &[1; 16]].concat();
        assert_eq!(of(1), wanted);
        assert_ne!(aad(&[[1; 32], [2; 32]]), aad(&[[2; 32], [1; 32]]));
    }
}
