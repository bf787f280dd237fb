//! Facts about a secret. They name versions, never values.

use super::Spec;
use crate::id::{DeliveryId, HostId, RotationId};
use crate::name::SecretName;
use crate::store::RemoteVersion;
use crate::time::Timestamp;

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
    /// Somebody changed the value at the store outside.
    ExternalChangeDetected {
        /// The version that is current there.
        remote: RemoteVersion,
        /// The rotation that takes it over.
        rotation: RotationId,
    },
    /// A version of the store outside holds one of ours, and is current there.
    RemoteVersionNoted {
        /// Our version.
        version: u64,
        /// What the store calls it.
        remote: RemoteVersion,
        /// Whether Keywheel wrote it.
        written: bool,
    },
    /// A version of the store outside was made unusable there.
    RemoteVersionRetired {
        /// What the store calls it.
        remote: RemoteVersion,
    },
    /// The version's data key is gone.
    VersionDestroyed {
        /// The version.
        version: u64,
    },
    /// The container of a lease does not run; the lease is kept for a while.
    LeaseLingering {
        /// It is revoked then.
        until: Timestamp,
    },
    /// The container of a lease is there again.
    LeaseResumed,
    /// Nothing is kept for the container of a lease any more.
    LeaseEnded,
}
