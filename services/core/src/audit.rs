//! One record of who did what, and how it ended. Names and versions, never values.

use crate::id::CommandId;
use crate::time::Timestamp;

/// What kind of deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// A person or tool administers.
    Administration,
    /// A container got, changed or lost a secret.
    Usage,
    /// A service of ours did its part.
    System,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Allowed,
    /// The principal may not.
    Denied,
    /// The request was understood and refused.
    Rejected,
    /// The request was not understood.
    Malformed,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    Service(Role),
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

impl Principal {
    /// Whether it is a person who came themselves: who brings a token may be a program, or somebody else.
    #[must_use]
    pub const fn is_person(&self) -> bool {
        matches!(
            self,
            Self::User { .. } | Self::Operator { .. } | Self::Login { .. }
        )
    }
}

/// A service's role; what each may submit is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
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

/// The container a usage record speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRef {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Config digest of its image.
    pub image_digest: String,
    /// Host it runs on.
    pub host: String,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When, by the recorder's clock.
    pub time: Timestamp,
    /// What kind of deed.
    pub category: Category,
    /// Who.
    pub principal: Principal,
    /// What: `rotate`, `apply`, `inject`, `replace`, …
    pub verb: String,
    /// On what: `secret/prod/db`, `binding/x`; empty when nothing is named.
    pub object: String,
    /// The version, if one is meant.
    pub version: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Which rule decided, or why it was refused.
    pub reason: String,
    /// The container, for usage.
    pub container: Option<ContainerRef>,
    /// The command that led to it.
    pub command: CommandId,
    /// W3C trace id as 32 hexadecimal digits; empty when none.
    pub trace: String,
}
