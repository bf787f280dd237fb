//! What a sealed value is bound to on its way: from store-sync to one host (rule K7), and from the
//! person who provides it to store-sync.
//!
//! Pure; both ends call it. Invariant: an envelope opens only for its own deployment, host, grant,
//! secret and version.

use keywheel_core::id::{DeliveryId, DeploymentId, HostId, RotationId, SecretId};

/// Separates these envelopes from every other use of the same keys.
const PURPOSE: &[u8] = b"keywheel/delivery/v1";
/// The same for values that people provide.
const STASH_PURPOSE: &[u8] = b"keywheel/stash/v1";

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

/// HPKE `info` of a provided value: purpose, deployment.
#[must_use]
pub fn stash_info(deployment: DeploymentId) -> Vec<u8> {
    [STASH_PURPOSE, deployment.bytes().as_slice()].concat()
}

/// HPKE associated data of a provided value: the rotation that will use it.
#[must_use]
pub fn stash_aad(token: RotationId) -> Vec<u8> {
    token.bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provided_value_is_bound_to_deployment_and_rotation_and_is_no_delivery() {
        let deployment = DeploymentId::from_bytes([1; 16]);
        assert_ne!(
            stash_info(deployment),
            stash_info(DeploymentId::from_bytes([2; 16]))
        );
        assert_ne!(
            stash_aad(RotationId::from_bytes([1; 16])),
            stash_aad(RotationId::from_bytes([2; 16]))
        );
        let delivery = info(deployment, HostId::from_bytes([0; 16]));
        assert!(!delivery.starts_with(STASH_PURPOSE));
    }

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
