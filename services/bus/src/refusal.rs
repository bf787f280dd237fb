//! Why a received message was dropped, and how often that happened.

use std::sync::atomic::{AtomicU64, Ordering};

use keywheel_schemas::wire::DecodeError;

/// Why a received message was dropped. No text repeats what the message said.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Over the size limit; not even its header was read.
    #[error("the message has {bytes} bytes; at most {limit} are allowed")]
    TooLarge {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Not a message of ours.
    #[error("the message is malformed: {0}")]
    Malformed(&'static str),
    /// Its sender's role has no key here.
    #[error("nobody is trusted as {0}")]
    UnknownSender(&'static str),
    /// The signature is not its sender's.
    #[error("the signature is not {0}'s")]
    Forged(&'static str),
    /// It was meant for somebody else.
    #[error("the message is for another receiver")]
    WrongReceiver,
    /// The body is not readable; a newer version may have sent it.
    #[error("the message's body cannot be read")]
    Body(#[source] DecodeError),
    /// The sender's role may not say this here.
    #[error("{0} may not send this here")]
    NotPermitted(&'static str),
    /// It was handed on before, from another place in the topic.
    #[error("the message is a copy of an earlier one")]
    Replayed,
}

/// How many messages were dropped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefusalCounts {
    /// Over the size limit.
    pub too_large: u64,
    /// Not a message, or a body that cannot be read.
    pub malformed: u64,
    /// No trusted signature of its sender.
    pub forged: u64,
    /// For another receiver.
    pub wrong_receiver: u64,
    /// Of a role that may not send it.
    pub not_permitted: u64,
    /// Copies of earlier ones.
    pub replayed: u64,
}

impl RefusalCounts {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.too_large
            + self.malformed
            + self.forged
            + self.wrong_receiver
            + self.not_permitted
            + self.replayed
    }
}

/// Counts as they grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    too_large: AtomicU64,
    malformed: AtomicU64,
    forged: AtomicU64,
    wrong_receiver: AtomicU64,
    not_permitted: AtomicU64,
    replayed: AtomicU64,
}

impl Counters {
    /// Counts one and says so in the log.
    pub(crate) fn count(&self, refusal: &Refusal, receiver: &str) {
        let counter = match refusal {
            Refusal::TooLarge { .. } => &self.too_large,
            Refusal::Malformed(_) | Refusal::Body(_) => &self.malformed,
            Refusal::UnknownSender(_) | Refusal::Forged(_) => &self.forged,
            Refusal::WrongReceiver => &self.wrong_receiver,
            Refusal::NotPermitted(_) => &self.not_permitted,
            Refusal::Replayed => &self.replayed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        tracing::error!(subject = receiver, reason = %refusal, "message refused");
    }

    pub(crate) fn snapshot(&self) -> RefusalCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RefusalCounts {
            too_large: read(&self.too_large),
            malformed: read(&self.malformed),
            forged: read(&self.forged),
            wrong_receiver: read(&self.wrong_receiver),
            not_permitted: read(&self.not_permitted),
            replayed: read(&self.replayed),
        }
    }
}
