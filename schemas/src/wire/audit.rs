//! The audit record on the wire: canonical, because its bytes are a leaf of the audit tree.

use keywheel_core::audit;
use keywheel_core::id::CommandId;
use keywheel_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mirror::{Mirror, Text, mirror_struct, mirror_words};

mirror_words! {
    /// What kind of deed.
    Category = audit::Category {
        /// A person or tool administers.
        Administration,
        /// A container got, changed or lost a secret.
        Usage,
        /// A service of ours did its part.
        System,
    }
}

mirror_words! {
    /// How it ended.
    AuditOutcome = audit::Outcome {
        /// Done.
        Allowed,
        /// The principal may not.
        Denied,
        /// The request was understood and refused.
        Rejected,
        /// The request was not understood.
        Malformed,
    }
}

mirror_words! {
    /// A service's role.
    Role = audit::Role {
        /// Decides and keeps the journal.
        Gateway,
        /// Keeps the timers.
        Scheduler,
        /// Speaks to stores and keeps the cache.
        StoreSync,
        /// Serves one host's containers.
        Injector,
        /// Keeps the audit's second copy.
        AuditSink,
    }
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Principal {
    /// A unix user on this machine, by the kernel's word.
    User {
        /// User id.
        uid: u32,
        /// Login name, if known.
        name: String,
    },
    /// A person, by a client certificate of this deployment.
    Operator {
        /// The name in the certificate.
        name: String,
    },
    /// Someone at a TCP port who showed nothing we trust.
    Stranger {
        /// Network address.
        address: String,
    },
    /// One of our services.
    Service {
        /// Its role.
        role: Role,
    },
    /// A program, by a token that stands for a person.
    Token {
        /// The token's name.
        name: String,
        /// The person, as policies name them.
        owner: String,
    },
    /// A person, by the word of the provider of identities that they logged in at.
    Login {
        /// The name that the provider gave.
        name: String,
    },
}

impl Mirror for Principal {
    type Core = audit::Principal;
    fn of(core: &Self::Core) -> Self {
        match core {
            audit::Principal::User { uid, name } => Self::User {
                uid: *uid,
                name: name.clone(),
            },
            audit::Principal::Operator { name } => Self::Operator { name: name.clone() },
            audit::Principal::Stranger { address } => Self::Stranger {
                address: address.clone(),
            },
            audit::Principal::Service(role) => Self::Service {
                role: Role::of(role),
            },
            audit::Principal::Token { name, owner } => Self::Token {
                name: name.clone(),
                owner: owner.clone(),
            },
            audit::Principal::Login { name } => Self::Login { name: name.clone() },
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::User { uid, name } => audit::Principal::User { uid, name },
            Self::Operator { name } => audit::Principal::Operator { name },
            Self::Stranger { address } => audit::Principal::Stranger { address },
            Self::Service { role } => audit::Principal::Service(role.into_core()),
            Self::Token { name, owner } => audit::Principal::Token { name, owner },
            Self::Login { name } => audit::Principal::Login { name },
        }
    }
}

mirror_struct! {
    /// The container a usage record speaks of.
    ContainerRef = audit::ContainerRef {
        /// Full id.
        id: String,
        /// Name.
        name: String,
        /// Config digest of its image.
        image_digest: String,
        /// Host it runs on.
        host: String,
    }
}

mirror_struct! {
    /// One record.
    AuditRecord = audit::Record {
        /// When, by the recorder's clock.
        time: Text<Timestamp>,
        /// What kind of deed.
        category: Category,
        /// Who.
        principal: Principal,
        /// What: `rotate`, `apply`, `inject`, `replace`, …
        verb: String,
        /// On what: `secret/prod/db`; empty when nothing is named.
        object: String,
        /// The version, if one is meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
        /// How it ended.
        outcome: AuditOutcome,
        /// Which rule decided, or why it was refused.
        reason: String,
        /// The container, for usage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<ContainerRef>,
        /// The command that led to it.
        command: Text<CommandId>,
        /// W3C trace id as 32 hexadecimal digits; empty when none.
        trace: String,
    }
}
