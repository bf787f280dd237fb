//! Facts about a host. A token is named by its id and known by a hash, never by itself.

use super::order::{Had, OrderKind, OrderOutcome, Origin, Subject};
use super::{SealingKey, SigningKey, TokenHash};
use crate::binding::OnRevoke;
use crate::id::{ContainerId, JoinTokenId};
use crate::name::{BusKey, HostName};
use crate::time::Timestamp;

/// What happened to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A person lets a machine join under this name.
    JoinTokenIssued {
        /// The name it may take.
        name: HostName,
        /// The token.
        token: JoinTokenId,
        /// SHA-256 of the token's secret half.
        secret_hash: TokenHash,
        /// From then on it opens nothing.
        expires_at: Timestamp,
    },
    /// The token opens nothing any more: it was presented, it expired, or its host was evicted.
    JoinTokenSpent {
        /// The token.
        token: JoinTokenId,
    },
    /// It is known from now on.
    Enrolled {
        /// Its name.
        name: HostName,
        /// Values for it are sealed to this key.
        sealing_key: SealingKey,
        /// What it says is signed with this key, pinned when it joined.
        signing_key: Option<SigningKey>,
    },
    /// It has new keys; what was sealed to the old one opens no more.
    KeyReplaced {
        /// Values for it are sealed to this key.
        sealing_key: SealingKey,
        /// What it says is signed with this key; `None` for a host without a pinned one.
        signing_key: Option<SigningKey>,
        /// Counts the keys of a host that joined; 0 for any other.
        generation: u64,
    },
    /// It may speak on the bus with this key for a time; noted before the permit is made, so that an
    /// eviction refuses every one of them, whichever gateway made it.
    PermitIssued {
        /// Public key of its user on the bus server.
        key: BusKey,
        /// When it was noted.
        issued_at: Timestamp,
        /// Until then the permit lives, at most.
        expires_at: Timestamp,
    },
    /// It is trusted with nothing any more, for good.
    Evicted {
        /// Why, in a person's words.
        reason: String,
    },
    /// Its injector takes versions that are staged before a cut-over.
    StagingKnown,
    /// Its injector carries out orders about containers.
    OrdersKnown,
    /// It is to restart a container, once.
    RestartOrdered {
        /// The container.
        subject: Subject,
        /// The step that gave the order.
        origin: Origin,
        /// Not before this time; `None`: at once.
        not_before: Option<Timestamp>,
    },
    /// It is to keep a container in quarantine: cut off, paused or stopped, and given nothing.
    QuarantineOrdered {
        /// The container.
        subject: Subject,
        /// The step that gave the order.
        origin: Origin,
        /// What is done to it.
        action: OnRevoke,
        /// Why, in words.
        reason: String,
        /// What it has, or is to have, by now.
        had: Vec<Had>,
    },
    /// An order was carried out, or will not be. A quarantine stays until it is lifted.
    OrderEnded {
        /// The container.
        container: ContainerId,
        /// Which order.
        order: OrderKind,
        /// What came of it.
        outcome: OrderOutcome,
        /// When this was decided.
        at: Timestamp,
    },
    /// A person lifted a quarantine: the container is given again what its bindings say.
    QuarantineLifted {
        /// The container.
        container: ContainerId,
        /// Who.
        by: String,
        /// Why, in that one's words.
        reason: String,
    },
}
