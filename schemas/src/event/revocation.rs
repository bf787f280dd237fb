//! Events of a revocation.

use keywheel_core::id::{HostId, RotationId, SecretId};
use keywheel_core::revocation;
use keywheel_core::time::Timestamp;

use crate::mirror::{Text, mirror_enum, mirror_struct, mirror_words};
use crate::wire::audit::Principal;

mirror_words! {
    /// How a server answered a login with a revoked credential, or a store what became of its lease.
    Answer = revocation::Answer {
        /// It says that the password is wrong; so it does of an account that is not there.
        WrongPassword,
        /// The account may not sign in at all, or is not there.
        NoLogin,
        /// It turned the login away and does not tell why.
        Refused,
        /// It let it in.
        Accepted,
        /// No login: the store that made it says that its lease is gone.
        LeaseGone,
        /// No login: the store that made it has its lease still.
        LeaseAlive,
    }
}

mirror_struct! {
    /// One login with a revoked credential.
    Evidence = revocation::Evidence {
        /// Which version.
        version: u64,
        /// When it was answered, by the clock of whoever asked.
        at: Text<Timestamp>,
        /// Which account of which server.
        place: String,
        /// The answer.
        answer: Answer,
    }
}

mirror_struct! {
    /// What came of logins with every version.
    Proof = revocation::Proof {
        /// The logins.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<Evidence>,
        /// Why there is none of some version; absent when there is one of each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacking: Option<String>,
    }
}

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
            /// Whether a login with each of them has to be refused before its data key goes.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            is_to_prove: bool,
            /// Whether a person said that it is an emergency: it goes before other revocations, too.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            is_emergency: bool,
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
        /// The store made them unusable: they are dead at the backend. Their data keys went with that, unless
        /// the proof needs them.
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
        /// The last host that was waited for holds none of them.
        WithdrawnEverywhere {},
        /// A login with each of them was refused.
        ProvenDead {
            /// The logins.
            evidence: Vec<Evidence>,
        },
        /// No login can show that all of them are dead.
        NotProvable {
            /// The logins that could be made.
            evidence: Vec<Evidence>,
            /// Why not with the others.
            reason: String,
        },
        /// A login with one of them was let in: it is not dead, and the store is asked once more.
        StillAccepted {
            /// Which attempt found it.
            attempt: u32,
            /// The logins.
            evidence: Vec<Evidence>,
        },
        /// Their data keys are gone.
        Destroyed {},
        /// The first of two principals would have the store asked no more.
        ForgetAsked {
            /// Who.
            by: Principal,
            /// Why, in a person's words.
            reason: String,
            /// When; absent from builds before, whose first words do not expire.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            at: Option<Text<Timestamp>>,
        },
        /// The second one agrees: the store is asked no more, though it never confirmed.
        Forgotten {
            /// Who.
            by: Principal,
            /// Why, in a person's words.
            reason: String,
        },
        /// The versions die once another one is in use instead of them.
        ReplacementAwaited {
            /// The secret.
            secret: Text<SecretId>,
            /// The versions.
            versions: Vec<u64>,
            /// Why, in a person's words.
            reason: String,
            /// The rotation that is to bring the other one.
            rotation: Text<RotationId>,
            /// Whether they die as soon as that is promoted, and without one where it is not.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            is_emergency: bool,
        },
        /// Nothing takes their place, or nothing of them was left to revoke.
        ReplacementGivenUp {
            /// Why.
            reason: String,
        },
    }
}
