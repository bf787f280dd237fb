//! Events of a host.

use keywheel_core::host;
use keywheel_core::id::{ContainerId, JoinTokenId, RunId, SecretId};
use keywheel_core::name::{BusKey, HostName};
use keywheel_core::time::Timestamp;

use super::binding::OnRevoke;
use crate::mirror::{Text, mirror_enum, mirror_struct, mirror_words};

// As serde calls it.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

mirror_struct! {
    /// The container that an order is about.
    OrderSubject = host::Subject {
        /// Its full id.
        container: Text<ContainerId>,
        /// Its name, for people.
        name: String,
        /// Config digest of its image.
        image_digest: String,
        /// The service it belongs to; absent for one of its own.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        service: String,
    }
}

mirror_struct! {
    /// A version that a container had when its quarantine was ordered.
    OrderHad = host::Had {
        /// The secret.
        secret: Text<SecretId>,
        /// The version.
        version: u64,
        /// Whether it had it in a variable of its program, which only its end takes away; absent: no.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        in_variable: bool,
    }
}

mirror_struct! {
    /// The step of a playbook's run that gave an order.
    OrderOrigin = host::Origin {
        /// The run.
        run: Text<RunId>,
        /// Its step.
        step: String,
        /// Which of the step's targets; the first is 0.
        place: u32,
    }
}

mirror_words! {
    /// What is ordered.
    OrderKind = host::OrderKind {
        /// A restart.
        Restart,
        /// A quarantine.
        Quarantine,
    }
}

mirror_enum! {
    /// What came of an order.
    OrderOutcome = host::OrderOutcome {
        /// It restarted and runs well; or it is cut off, paused or stopped.
        Done {},
        /// The container is gone, or does not run any more.
        Gone {},
        /// It did not run well after its restart; or it could not be cut off, paused or stopped, which is tried again.
        Failed {
            /// Why, with the next step.
            reason: String,
        },
        /// Its step was over before its host carried it out.
        Withdrawn {},
    }
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
        /// Its injector carries out orders about containers.
        OrdersKnown {},
        /// It is to restart a container, once.
        RestartOrdered {
            /// The container.
            subject: OrderSubject,
            /// The step that gave the order.
            origin: OrderOrigin,
            /// Not before this time; absent: at once.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            not_before: Option<Text<Timestamp>>,
        },
        /// It is to keep a container in quarantine: cut off, paused or stopped, and given nothing.
        QuarantineOrdered {
            /// The container.
            subject: OrderSubject,
            /// The step that gave the order.
            origin: OrderOrigin,
            /// What is done to it.
            action: OnRevoke,
            /// Why, in words.
            reason: String,
            /// What it has, or is to have, by now.
            had: Vec<OrderHad>,
        },
        /// An order was carried out, or will not be; a quarantine stays until it is lifted.
        OrderEnded {
            /// The container.
            container: Text<ContainerId>,
            /// Which order.
            order: OrderKind,
            /// What came of it.
            outcome: OrderOutcome,
            /// When this was decided.
            at: Text<Timestamp>,
        },
        /// A person lifted a quarantine.
        QuarantineLifted {
            /// The container.
            container: Text<ContainerId>,
            /// Who.
            by: String,
            /// Why, in that one's words.
            reason: String,
        },
    }
}
