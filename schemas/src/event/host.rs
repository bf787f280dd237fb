//! Events of a host.

use keywheel_core::host;
use keywheel_core::name::HostName;

use crate::mirror::{Text, mirror_enum};

mirror_enum! {
    /// What happened to a host.
    HostEvent = host::Event {
        /// It is known from now on.
        Enrolled {
            /// Its name.
            name: Text<HostName>,
            /// Values for it are sealed to this public key (X25519).
            sealing_key: Text<[u8; 32]>,
        },
        /// Its injector made a new key.
        KeyReplaced {
            /// The new public key.
            sealing_key: Text<[u8; 32]>,
        },
    }
}
