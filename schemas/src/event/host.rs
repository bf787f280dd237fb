//! Events of a host.

use keywheel_core::host;
use keywheel_core::id::JoinTokenId;
use keywheel_core::name::{BusKey, HostName};
use keywheel_core::time::Timestamp;

use crate::mirror::{Text, mirror_enum};

// As serde calls it.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

mirror_enum! {
    /// What happened to a host.
    HostEvent = host::Event {
        /// A person lets a machine join under this name.
        JoinTokenIssued {
            /// The name it may take.
            name: Text<HostName>,
            /// The token.
            token: Text<JoinTokenId>,
            /// SHA-256 of the token's secret half.
            secret_hash: Text<[u8; 32]>,
            /// From then on it opens nothing.
            expires_at: Text<Timestamp>,
        },
        /// The token opens nothing any more: it was presented, it expired, or its host was evicted.
        JoinTokenSpent {
            /// The token.
            token: Text<JoinTokenId>,
        },
        /// It is known from now on.
        Enrolled {
            /// Its name.
            name: Text<HostName>,
            /// Values for it are sealed to this public key (X25519).
            sealing_key: Text<[u8; 32]>,
            /// What it says is signed with this public key (Ed25519), pinned when it joined; absent
            /// for the gateway's own machine.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            signing_key: Option<Text<[u8; 32]>>,
        },
        /// It has new keys.
        KeyReplaced {
            /// Values for it are sealed to this public key (X25519).
            sealing_key: Text<[u8; 32]>,
            /// What it says is signed with this public key (Ed25519); absent for the gateway's own
            /// machine.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            signing_key: Option<Text<[u8; 32]>>,
            /// Counts the keys of a host that joined; absent for any other.
            #[serde(default, skip_serializing_if = "is_zero")]
            generation: u64,
        },
        /// It may speak on the bus with this key for a time; noted before the permit is made.
        PermitIssued {
            /// Public key of its user on the bus server.
            key: Text<BusKey>,
            /// When it was noted.
            issued_at: Text<Timestamp>,
            /// Until then the permit lives, at most.
            expires_at: Text<Timestamp>,
        },
        /// It is trusted with nothing any more, for good.
        Evicted {
            /// Why, in a person's words.
            reason: String,
        },
        /// Its injector takes versions that are staged before a cut-over.
        StagingKnown {},
    }
}
