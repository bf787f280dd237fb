//! The log of record, as a port.
//!
//! Laws: `append` is all or nothing and returns only when everything is durable; numbers have no
//! gap; a batch whose `first` is not the next number is refused as `Conflict` and changes nothing;
//! events, effects, checkpoints, answers and audit records of one decision are one transaction; a
//! of several processes that append at once one wins and the others are `Conflict`; a full disk is
//! `Unavailable` and changes nothing, also for a batch whose lowest [`Class`] may not use
//! what an adapter keeps in reserve; any other write failure ends the process, since
//! what the disk holds is then unknown (rule E9).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::audit;
use keywheel_core::decision::RejectionKind;
use keywheel_core::effect::{self, Effect};
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, EventId};
use keywheel_core::time::Timestamp;
use tokio::sync::watch;

use super::subscriptions::Subscriptions;
use super::{ErrorKind, PortError};

/// Most events one read returns.
pub const MAX_READ: usize = 1000;
/// Audit records are removed in whole units of so many, from the first on.
pub const REMOVAL_UNIT: u64 = 256;

/// How much of the room that is kept in reserve a decision may use when the disk is full (rule E9),
/// least first. A batch may use what its lowest class may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// New work: none of it.
    Work,
    /// An audit record of a request without a command: a part, so that whoever is denied often cannot
    /// use up what a revocation needs.
    Record,
    /// What a host says that is so: all of it.
    Fact,
    /// A revocation and what carries it out: all of it, and in time.
    Revocation,
}

/// One decision, to be appended.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The command it answers; a command is answered once.
    pub command: CommandId,
    /// What it may use of the reserve.
    pub class: Class,
    /// When it was decided.
    pub time: Timestamp,
    /// W3C trace context of the command.
    pub traceparent: Option<String>,
    /// Its events, with the ids drawn for them.
    pub events: Vec<(EventId, Event)>,
    /// What it asks of workers; open until closed.
    pub effects: Vec<Effect>,
    /// Effects it answers.
    pub closes: Vec<effect::Key>,
    /// Its audit records.
    pub audit: Vec<audit::Record>,
    /// What its sender is told, also when it asks again.
    pub verdict: Verdict,
}

/// An effect that nobody answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenEffect {
    /// What is asked of workers.
    pub effect: Effect,
    /// W3C trace context of the command that asked for it.
    pub traceparent: Option<String>,
}

/// What a command's sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Done; the number of the last event at that time.
    Accepted {
        /// Last journal number of the decision, or of the log when it had no events.
        number: u64,
    },
    /// Refused.
    Rejected {
        /// What sort of "no".
        kind: RejectionKind,
        /// The reason and the next step.
        text: String,
    },
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its place in the log; the first is 1.
    pub number: u64,
    /// Its id.
    pub id: EventId,
    /// When it was decided.
    pub time: Timestamp,
    /// W3C trace context of the command that led to it.
    pub traceparent: Option<String>,
    /// The fact.
    pub event: Event,
    /// The stored bytes: CloudEvents JSON. Hash and signature are over these.
    pub bytes: Arc<[u8]>,
    /// SHA-256 over the previous hash and the bytes.
    pub hash: [u8; 32],
    /// The gateway's Ed25519 signature over the hash.
    pub signature: [u8; 64],
}

/// An audit record as it stands in the Merkle tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLeaf {
    /// Its index; the first is 0.
    pub index: u64,
    /// The stored bytes: canonical JSON. The leaf hash is over these.
    pub bytes: Arc<[u8]>,
}

/// Where the log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of the last event; 0 for an empty log.
    pub number: u64,
    /// Chain hash.
    pub hash: [u8; 32],
    /// Number of audit leaves.
    pub audit_size: u64,
    /// Merkle root over them (RFC 9162).
    pub audit_root: [u8; 32],
    /// The C2SP signed checkpoint over them: text of a signed note.
    pub checkpoint: String,
}

/// A point in the log: how far somebody came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Number of the last event.
    pub number: u64,
    /// Number of audit leaves.
    pub audit_size: u64,
}

/// Whose turn it is to tell the world what was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Ours; everything up to the mark was told by whoever had it.
    Ours(Mark),
    /// Another process's.
    Theirs,
}

/// What a full verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Events checked.
    pub events: u64,
    /// Audit records checked.
    pub audit_records: u64,
    /// What is wrong, first first; empty when all is well.
    pub faults: Vec<String>,
    /// Audit records that were removed by their age; of these the hashes were checked.
    pub removed_records: u64,
}

/// The log of record; places in it are kept for clients.
#[async_trait]
pub trait Journal: Subscriptions + Send + Sync {
    /// Appends decisions in order, in one durable transaction. `first` is the number the first
    /// event must get.
    async fn append(
        &self,
        first: u64,
        decisions: &[Decision],
    ) -> Result<Vec<RecordedEvent>, PortError>;
    /// The answer a command got, if it was ever answered.
    async fn verdict(&self, command: CommandId) -> Result<Option<Verdict>, PortError>;
    /// Events after a number, oldest first, at most `limit` and [`MAX_READ`].
    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, PortError>;
    /// Effects nobody answered yet, oldest first.
    async fn open_effects(&self) -> Result<Vec<OpenEffect>, PortError>;
    /// Audit leaves from an index on, at most `limit` and [`MAX_READ`]. Those that were removed are left out:
    /// then the first has a higher index than was asked for.
    async fn read_audit(&self, from: u64, limit: usize) -> Result<Vec<AuditLeaf>, PortError>;
    /// Where the log ends.
    async fn head(&self) -> Result<Head, PortError>;
    /// Proof that a leaf is in the tree of a size (RFC 9162 §2.1.3).
    async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<[u8; 32]>, PortError>;
    /// Proof that the tree of `old` leaves is the beginning of the one of `new` (RFC 9162 §2.1.4); `NotFound` when the
    /// tree never had these sizes.
    async fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<[u8; 32]>, PortError>;
    /// Checks every hash, signature, sequence and leaf.
    async fn verify(&self) -> Result<Verification, PortError>;

    /// Index of the first audit record that is still there: those before it were removed by their age.
    async fn audit_begins(&self) -> Result<u64, PortError> {
        Ok(0)
    }

    /// Leaf hashes of audit records that were removed, from an index on, at most `limit` and [`MAX_READ`].
    async fn removed_hashes(&self, _from: u64, _limit: usize) -> Result<Vec<[u8; 32]>, PortError> {
        Ok(Vec::new())
    }

    /// Removes some of the audit records before an index, oldest first, and gives the index of the first that is
    /// left. What is removed in one call is bounded and one transaction; whoever gets the same index twice is at the
    /// end. Leaf hashes stay, so no proof changes; a record that is not as it was logged is `Corrupt`, and stays.
    async fn remove_audit(&self, _before: u64) -> Result<u64, PortError> {
        let text = "this journal keeps every audit record";
        Err(PortError::new(ErrorKind::Denied, text))
    }

    /// Rings after an append, also after those of other processes. A hint: it may be late, lost or
    /// spurious. `None` when nobody else can append.
    fn bell(&self) -> Option<watch::Receiver<Mark>> {
        None
    }

    /// Takes the turn to tell the world for a span, or keeps it, noting what was `told` in it. A turn
    /// that is not kept in time ends by itself. With nobody else to take it, it is always ours.
    async fn turn(&self, told: Option<Mark>, _span: Duration) -> Result<Turn, PortError> {
        let mark = match told {
            Some(told) => told,
            None => self.head().await?.mark(),
        };
        Ok(Turn::Ours(mark))
    }
}

impl Head {
    /// The point it stands at.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            number: self.number,
            audit_size: self.audit_size,
        }
    }
}
