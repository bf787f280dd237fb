//! What takes several people (dual control): a request of one, the words of others, and what is done with it. Facts,
//! refusals, and the fold of one.
//!
//! How many of whom an operation takes is not known here: whoever asks says it, out of the configuration, and policies
//! say who may. A request binds one thing, by a digest: what differs by a byte is another request. Invariants: one
//! person is one word, whatever they come with; a request is good once, for whoever asked, until it expires; what broke
//! the glass stays open until somebody else has reviewed it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::Command;
use crate::id::ApprovalId;
use crate::time::Timestamp;

/// SHA-256 of what is asked for.
pub type Digest = [u8; 32];

/// How long a request lives, from when it was asked for to when it is used.
pub const APPROVAL_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Fewest people that an operation may be said to take, whoever asks being one.
pub const MIN_PEOPLE: u64 = 2;
/// Most people that an operation may be said to take.
pub const MAX_PEOPLE: u64 = 16;
/// Requests that are open at once.
pub const MAX_OPEN_APPROVALS: usize = 256;
/// Requests of one person that are open at once.
pub const MAX_OPEN_APPROVALS_PER_PERSON: usize = 16;
/// Requests for which one person broke the glass and that nobody has reviewed.
pub const MAX_UNREVIEWED_PER_PERSON: usize = 64;
/// Requests that are over and kept for people; older ones are in the log only.
pub const KEPT_APPROVALS: usize = 256;
/// Longest reason, in characters.
pub const MAX_APPROVAL_REASON_CHARS: usize = 500;
/// Longest plan that people are shown, in bytes.
pub const MAX_PLAN_BYTES: usize = 64 * 1024;
/// Longest name of what it is about, in bytes.
pub const MAX_APPROVAL_OBJECT_BYTES: usize = 300;

/// What may take several people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Giving shares of an unseal key: each from somebody else.
    Unseal,
    /// Taking audit records out, with their proof.
    AuditExport,
    /// Having the audit told to other sinks.
    SinkChange,
    /// Putting a set of policies in force.
    PolicyChange,
    /// Letting a machine take the name of a host that was evicted.
    HostReturn,
}

impl Operation {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Unseal,
        Self::AuditExport,
        Self::SinkChange,
        Self::PolicyChange,
        Self::HostReturn,
    ];

    /// Its word, as people, events and the configuration name it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unseal => "unseal",
            Self::AuditExport => "audit-export",
            Self::SinkChange => "sink-change",
            Self::PolicyChange => "policy-change",
            Self::HostReturn => "host-return",
        }
    }

    /// The one with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// What a command is, that may take several people; `None` for one that never does.
    #[must_use]
    pub const fn of(command: &Command) -> Option<Self> {
        match command {
            Command::ApplyPolicies(_) => Some(Self::PolicyChange),
            Command::IssueJoinToken(_) => Some(Self::HostReturn),
            _ => None,
        }
    }
}

/// What happened to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody asked; that is their word for it, too.
    Requested {
        /// What for, by its word.
        operation: String,
        /// What it is about, in the audit's words.
        object: String,
        /// SHA-256 of what is asked for.
        digest: Digest,
        /// What would happen, for those who approve; never a value.
        plan: String,
        /// Who asks.
        by: String,
        /// Why.
        reason: String,
        /// How many people it takes, whoever asks being one.
        needed: u64,
        /// When.
        asked_at: Timestamp,
        /// From then on it is good for nothing.
        expires_at: Timestamp,
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
    /// Somebody takes their word back. Of whoever asked this ends it, but where the words are shares.
    Withdrawn {
        /// Who.
        by: String,
    },
    /// What was asked for was done.
    Used,
    /// It goes without the others' words, in an emergency.
    GlassBroken {
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// Somebody else looked at what was done so.
    GlassReviewed {
        /// Who.
        by: String,
        /// What they found.
        reason: String,
    },
}

/// A wish for something that takes several people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The id, if nothing like it is open.
    pub id: ApprovalId,
    /// What for.
    pub operation: Operation,
    /// What it is about.
    pub object: String,
    /// SHA-256 of what is asked for.
    pub digest: Digest,
    /// What would happen.
    pub plan: String,
    /// Who asks.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How many people it takes.
    pub needed: u64,
}

/// A command whose request was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Perform {
    /// The request.
    pub approval: ApprovalId,
    /// SHA-256 of the command, by its sender.
    pub digest: Digest,
    /// Who submits it.
    pub by: String,
    /// The command.
    pub command: Box<Command>,
}

/// A wish about requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Have one.
    Ask(Ask),
    /// Be for one.
    Approve {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Be against one.
    Deny {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Take a word back.
    Withdraw {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: String,
    },
    /// Have it go without the others.
    BreakGlass {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Say what was found of one that went without the others.
    Review {
        /// Which.
        approval: ApprovalId,
        /// Who.
        by: String,
        /// What was found.
        reason: String,
    },
    /// Do what was approved.
    Perform(Perform),
}

/// A normal "no" about requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// None has that id.
    #[error("no request {0} is at hand; `keywheel approval list` lists them")]
    Unknown(ApprovalId),
    /// It takes fewer or more people than may be asked for.
    #[error("`{}` is said to take {needed} people; {MIN_PEOPLE} to {MAX_PEOPLE} are possible", operation.word())]
    People {
        /// What for.
        operation: Operation,
        /// How many.
        needed: u64,
    },
    /// Too many are open.
    #[error(
        "{MAX_OPEN_APPROVALS} requests are open, and no more may be; deny or withdraw some: `keywheel approval list` lists them"
    )]
    TooMany,
    /// One person has too many open.
    #[error(
        "`{0}` has {MAX_OPEN_APPROVALS_PER_PERSON} requests open, and may have no more; withdraw one: `keywheel approval list` lists them"
    )]
    TooManyOf(String),
    /// Its words are longer than an event may be.
    #[error(
        "what the request says of itself is too long: a name has {MAX_APPROVAL_OBJECT_BYTES} bytes at most, a plan {MAX_PLAN_BYTES}"
    )]
    TooLarge,
    /// It says why.
    #[error("say why, for the record")]
    ReasonMissing,
    /// The reason is too long.
    #[error("the reason has more than {MAX_APPROVAL_REASON_CHARS} characters; say it shorter")]
    ReasonTooLong,
    /// Its time is over.
    #[error("request {0} expired; ask anew")]
    Expired(ApprovalId),
    /// It ended otherwise.
    #[error("request {id} {how}; ask anew if it is needed still")]
    Over {
        /// Which.
        id: ApprovalId,
        /// How it ended.
        how: &'static str,
    },
    /// One person is one word.
    #[error(
        "`{by}` said yes to request {id} already, and one person is one word: somebody else has to"
    )]
    SamePerson {
        /// Which.
        id: ApprovalId,
        /// Who.
        by: String,
    },
    /// They asked for it themselves.
    #[error("`{by}` asked for request {id}, so somebody else has to say that; withdraw it instead")]
    OwnRequest {
        /// Which.
        id: ApprovalId,
        /// Who.
        by: String,
    },
    /// They said no word that they could take back.
    #[error("`{by}` said nothing for request {id} that could be taken back")]
    NoWord {
        /// Which.
        id: ApprovalId,
        /// Who.
        by: String,
    },
    /// Not enough people said yes.
    #[error("request {id} waits for {more} more")]
    Waits {
        /// Which.
        id: ApprovalId,
        /// How many.
        more: u64,
    },
    /// It goes already.
    #[error("request {0} waits for nobody; there is no glass to break")]
    Granted(ApprovalId),
    /// It was asked for by another, or for something else.
    #[error(
        "request {0} is for something else, or of somebody else: it is good for exactly what was asked for"
    )]
    Another(ApprovalId),
    /// One person broke too much glass that nobody looked at.
    #[error(
        "`{0}` broke the glass {MAX_UNREVIEWED_PER_PERSON} times that nobody has reviewed, and may not again before somebody did: `keywheel approval list --unreviewed` lists them"
    )]
    TooManyUnreviewed(String),
    /// Nothing waits for a review.
    #[error(
        "request {0} waits for no review: `keywheel approval list --unreviewed` lists those that do"
    )]
    NoReview(ApprovalId),
    /// Whoever broke the glass, or asked, reviews nothing of it.
    #[error(
        "`{by}` asked for request {id} or broke the glass for it, so somebody else has to review it"
    )]
    OwnReview {
        /// Which.
        id: ApprovalId,
        /// Who.
        by: String,
    },
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody was against it.
    Denied,
    /// Whoever asked took it back.
    Withdrawn,
    /// What was asked for was done.
    Used,
}

impl End {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Denied => "was denied",
            Self::Withdrawn => "was withdrawn",
            Self::Used => "was used",
        }
    }
}

/// Somebody went without the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glass {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Who reviewed it, and what they found.
    pub review: Option<(String, String)>,
}

/// A request, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// What for; `None` for what this build does not know.
    pub operation: Option<Operation>,
    /// The same, by its word.
    pub word: String,
    /// What it is about.
    pub object: String,
    /// SHA-256 of what is asked for.
    pub digest: Digest,
    /// What would happen.
    pub plan: String,
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How many people it takes.
    pub needed: u64,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// From then on it is good for nothing.
    pub expires_at: Timestamp,
    /// Whether the log went on beyond its time.
    pub is_over: bool,
    /// Who is for it, whoever asked being one.
    pub words: BTreeSet<String>,
    /// How it ended, if it did.
    pub end: Option<End>,
    /// Who went without the others.
    pub glass: Option<Glass>,
    /// Number in the log of the event with which it was asked for.
    pub number: u64,
}

impl Approval {
    /// How many more people have to be for it.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let said = u64::try_from(self.words.len()).unwrap_or(u64::MAX);
        match self.glass {
            Some(_) => 0,
            None => self.needed.saturating_sub(said),
        }
    }

    /// Whether it has not ended and its time is not over.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.end.is_none() && !self.is_over && now < self.expires_at
    }

    /// Whether what was asked for may be done.
    #[must_use]
    pub fn is_granted(&self, now: Timestamp) -> bool {
        self.is_open(now) && self.missing() == 0
    }

    /// Whether somebody went without the others, and nobody else has reviewed it.
    #[must_use]
    pub fn is_unreviewed(&self) -> bool {
        self.glass
            .as_ref()
            .is_some_and(|glass| glass.review.is_none())
    }

    /// Whether it is a request of these words of the same person.
    #[must_use]
    pub fn is_of(&self, operation: Operation, digest: &Digest, by: &str) -> bool {
        let is_theirs = self.by == by || operation.is_shared();
        self.operation == Some(operation) && self.digest == *digest && is_theirs
    }

    /// Folds one event; total.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Requested { .. } => {}
            Event::Approved { by, .. } => {
                self.words.insert(by.clone());
            }
            Event::Denied { .. } => self.end = Some(End::Denied),
            Event::Withdrawn { by } => {
                self.words.remove(by);
                let is_shared = self.operation.is_some_and(Operation::is_shared);
                if *by == self.by && !is_shared {
                    self.end = Some(End::Withdrawn);
                }
            }
            Event::Used => self.end = Some(End::Used),
            Event::GlassBroken { by, reason, at } => {
                self.glass = Some(Glass {
                    by: by.clone(),
                    reason: reason.clone(),
                    at: *at,
                    review: None,
                });
            }
            Event::GlassReviewed { by, reason } => {
                if let Some(glass) = &mut self.glass {
                    glass.review = Some((by.clone(), reason.clone()));
                }
            }
        }
    }
}

impl Operation {
    /// Whether it is one request of all who take part, whoever comes first: an unsealing, a set of sinks.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Unseal | Self::SinkChange)
    }
}
