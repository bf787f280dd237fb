//! Facts about a secret. They name versions, never values.

use super::Spec;
use crate::id::{DeliveryId, HostId, RotationId};
use crate::name::SecretName;

/// What happened to a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The name is known from now on.
    Registered {
        /// Its name, for ever.
        name: SecretName,
        /// What a person asked for.
        spec: Spec,
    },
    /// A later manifest says something else.
    SpecChanged {
        /// The new wish, whole.
        spec: Spec,
    },
    /// A version number is taken and carries the stage `pending`.
    VersionStaged {
        /// The new number, higher than any before.
        version: u64,
        /// The rotation that will fill it.
        rotation: RotationId,
    },
    /// A host may hold this version from now on.
    Delivered {
        /// The host.
        host: HostId,
        /// The version.
        version: u64,
        /// The grant store-sync checks before it seals.
        delivery: DeliveryId,
    },
    /// The version carries `current`; the former one carries `previous`.
    VersionPromoted {
        /// The version.
        version: u64,
    },
    /// The version is in the dead set: never delivered, sealed or promoted again.
    VersionRevoked {
        /// The version.
        version: u64,
    },
    /// The version's data key is gone.
    VersionDestroyed {
        /// The version.
        version: u64,
    },
}
