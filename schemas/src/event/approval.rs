//! Events of what takes several people.

use keywheel_core::approval;
use keywheel_core::time::Timestamp;

use crate::mirror::{Text, mirror_enum};

mirror_enum! {
    /// What happened to a request that takes several people.
    ApprovalEvent = approval::Event {
        /// Somebody asked; that is their word for it, too.
        Requested {
            /// What for: `unseal`, `audit-export`, `sink-change`, `policy-change` or `host-return`.
            operation: String,
            /// What it is about, in the audit's words.
            object: String,
            /// SHA-256 of what is asked for.
            digest: Text<[u8; 32]>,
            /// What would happen, for those who approve; never a value.
            plan: String,
            /// Who asks.
            by: String,
            /// Why.
            reason: String,
            /// How many people it takes, whoever asks being one.
            needed: u64,
            /// When.
            asked_at: Text<Timestamp>,
            /// From then on it is good for nothing.
            expires_at: Text<Timestamp>,
        },
        /// Somebody else is for it.
        Approved {
            /// Who.
            by: String,
            /// Why.
            reason: String,
        },
        /// Somebody else is against it, which ends it.
        Denied {
            /// Who.
            by: String,
            /// Why.
            reason: String,
        },
        /// Somebody takes their word back. Of whoever asked this ends it, but where the words are shares or sinks.
        Withdrawn {
            /// Who.
            by: String,
        },
        /// What was asked for was done.
        Used {},
        /// It goes without the others' words, in an emergency.
        GlassBroken {
            /// Who.
            by: String,
            /// Why.
            reason: String,
            /// When.
            at: Text<Timestamp>,
        },
        /// Somebody else looked at what was done so.
        GlassReviewed {
            /// Who.
            by: String,
            /// What they found.
            reason: String,
        },
    }
}
