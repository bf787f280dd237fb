//! Events of a revocation.

use keywheel_core::id::{HostId, SecretId};
use keywheel_core::revocation;

use crate::mirror::{Text, mirror_enum};

mirror_enum! {
    /// What happened to a revocation.
    RevocationEvent = revocation::Event {
        /// The versions are dead from now on.
        Requested {
            /// The secret.
            secret: Text<SecretId>,
            /// The versions.
            versions: Vec<u64>,
            /// Hosts that may hold one of them.
            hosts: Vec<Text<HostId>>,
            /// Why, in a person's words.
            reason: String,
        },
        /// A host shows that it holds none of them.
        WithdrawnOnHost {
            /// The host.
            host: Text<HostId>,
        },
        /// A host was evicted: nothing waits for it any more, though it may hold one of them.
        HostReleased {
            /// The host.
            host: Text<HostId>,
        },
        /// The store made them unusable and destroyed their data keys.
        BackendConfirmed {},
        /// The store could not yet; it is tried again for ever.
        BackendFailed {
            /// Which attempt.
            attempt: u32,
            /// Why, without a value.
            reason: String,
        },
        /// The store is asked again.
        BackendRetried {
            /// Which attempt.
            attempt: u32,
        },
        /// Withdrawn everywhere and confirmed.
        Closed {},
    }
}
