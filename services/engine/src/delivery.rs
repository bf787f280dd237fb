//! What a sealed value is bound to on its way from store-sync to one host (rule K7). A provided
//! value's way to store-sync is `stash`.
//!
//! Pure; both ends call it. Invariant: an envelope opens only for its own deployment, host, grant,
//! secret and version.

use keywheel_core::id::{DeliveryId, DeploymentId, HostId, SecretId};

/// Separates these envelopes from every other use of the same keys.
const PURPOSE: &[u8] = b"keywheel/delivery/v1";

/// HPKE `info`: purpose, deployment, host.
#[must_use]
pub fn info(deployment: DeploymentId, host: HostId) -> Vec<u8> {
    [
        PURPOSE,
        deployment.bytes().as_slice(),
        host.bytes().as_slice(),
    ]
    .concat()
}

/// HPKE associated data: grant, secret, version.
#[must_use]
pub fn aad(delivery: DeliveryId, secret: SecretId, version: u64) -> Vec<u8> {
    [
        delivery.bytes().as_slice(),
        secret.bytes().as_slice(),
        version.to_be_bytes().as_slice(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_bytes() {
        let host = |byte| {
            info(
                DeploymentId::from_bytes([1; 16]),
                HostId::from_bytes([byte; 16]),
            )
        };
        assert_ne!(host(1), host(2));
        assert_ne!(
            host(1),
            info(
                DeploymentId::from_bytes([2; 16]),
                HostId::from_bytes([1; 16])
            )
        );
        let base = aad(
            DeliveryId::from_bytes([1; 16]),
            SecretId::from_bytes([1; 16]),
            1,
        );
        assert_ne!(
            base,
            aad(
                DeliveryId::from_bytes([2; 16]),
                SecretId::from_bytes([1; 16]),
                1
            )
        );
        assert_ne!(
            base,
            aad(
                DeliveryId::from_bytes([1; 16]),
                SecretId::from_bytes([2; 16]),
                1
            )
        );
        assert_ne!(
            base,
            aad(
                DeliveryId::from_bytes([1; 16]),
                SecretId::from_bytes([1; 16]),
                2
            )
        );
        assert_eq!(base.len(), 40);
    }
}
