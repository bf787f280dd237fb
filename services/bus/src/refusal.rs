//! Why a received message was dropped, and how often that happened.
//!
//! Invariants: every refusal is counted under its reason; the log says the first of each reason at
//! once and then at most one in [`LOG_INTERVAL`], so that a flood fills no disk. No text repeats what
//! the message said.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keywheel_engine::late::REPEAT_LIMIT;
use keywheel_engine::port::bus::Source;
use keywheel_schemas::wire::DecodeError;

use crate::word;

/// How long a reason is quiet in the log after it was named there.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Why a received message was dropped. No text repeats what the message said.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Over the size limit; not even its envelope was read.
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
    /// Its sender has no key here.
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
    /// The sender may not say this here.
    #[error("{0} may not send this here")]
    NotPermitted(&'static str),
    /// It was handed on before, from another place in the topic, or asked before.
    #[error("the message is a copy of an earlier one")]
    Replayed,
    /// A request of another time: sent again by somebody, or the clocks differ.
    #[error("the request is of another time; at most {0:?} are allowed between the clocks")]
    Stale(Duration),
    /// Of a state that its reader left behind long ago, as the reader says.
    #[error("the message is stale: its reader has had a newer state for more than {0:?}")]
    Superseded(Duration),
}

impl Refusal {
    const fn reason(&self) -> usize {
        match self {
            Self::TooLarge { .. } => 0,
            Self::Malformed(_) | Self::Body(_) => 1,
            Self::UnknownSender(_) | Self::Forged(_) => 2,
            Self::WrongReceiver => 3,
            Self::NotPermitted(_) => 4,
            Self::Replayed => 5,
            Self::Stale(_) | Self::Superseded(_) => 6,
        }
    }
}

/// How many reasons are counted apart.
const REASONS: usize = 7;

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
    /// Of a sender that may not send it.
    pub not_permitted: u64,
    /// Copies of earlier ones.
    pub replayed: u64,
    /// Requests of another time, and what a reader left behind long ago.
    pub stale: u64,
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
            + self.stale
    }
}

/// Counts as they grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    counts: [AtomicU64; REASONS],
    /// When each reason was last in the log, and how often it came since.
    logged: Mutex<[Option<(Duration, u64)>; REASONS]>,
}

impl Counters {
    /// Counts one, and says so in the log unless the reason was there just now.
    pub(crate) fn count(&self, refusal: &Refusal, receiver: &str, now: Duration) {
        let reason = refusal.reason();
        if let Some(counter) = self.counts.get(reason) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(unsaid) = self.may_log(reason, now) {
            tracing::error!(subject = receiver, reason = %refusal, unsaid, "message refused");
        }
    }

    /// Counts one that its reader found stale.
    pub(crate) fn count_stale(&self, from: &Source, now: Duration) {
        let receiver = match from {
            Source::Topic(topic) => word::of_topic(topic),
            Source::Answer(address) => format!("answer/{}", word::of_address(*address)),
        };
        self.count(&Refusal::Superseded(REPEAT_LIMIT), &receiver, now);
    }

    /// How many of the reason were not logged before this one, if this one is.
    fn may_log(&self, reason: usize, now: Duration) -> Option<u64> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let last = logged.get_mut(reason)?;
        match last {
            Some((at, unsaid)) if now.saturating_sub(*at) < LOG_INTERVAL => {
                *unsaid += 1;
                None
            }
            _ => last
                .replace((now, 0))
                .map_or(Some(0), |(_, unsaid)| Some(unsaid)),
        }
    }

    pub(crate) fn snapshot(&self) -> RefusalCounts {
        let [
            too_large,
            malformed,
            forged,
            wrong_receiver,
            not_permitted,
            replayed,
            stale,
        ] = std::array::from_fn(|reason| {
            self.counts
                .get(reason)
                .map_or(0, |count| count.load(Ordering::Relaxed))
        });
        RefusalCounts {
            too_large,
            malformed,
            forged,
            wrong_receiver,
            not_permitted,
            replayed,
            stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_logged_once_per_interval() {
        let counters = Counters::default();
        for second in 0..25 {
            counters.count(&Refusal::Replayed, "x", Duration::from_secs(second));
        }
        assert_eq!(counters.snapshot().replayed, 25);
        // Logged at 0, 10 and 20 seconds; the last one told of nine that were not.
        assert_eq!(counters.may_log(5, Duration::from_secs(29)), None);
        assert_eq!(counters.may_log(5, Duration::from_secs(30)), Some(5));
        assert_eq!(counters.may_log(6, Duration::from_secs(30)), Some(0));
    }

    #[test]
    fn every_refusal_has_a_count_of_its_own() {
        let counters = Counters::default();
        let refusals = [
            Refusal::TooLarge { bytes: 2, limit: 1 },
            Refusal::Malformed("x"),
            Refusal::Forged("x"),
            Refusal::WrongReceiver,
            Refusal::NotPermitted("x"),
            Refusal::Replayed,
            Refusal::Superseded(LOG_INTERVAL),
        ];
        for (index, refusal) in refusals.iter().enumerate() {
            for _ in 0..=index {
                counters.count(refusal, "x", Duration::ZERO);
            }
        }
        let counts = counters.snapshot();
        assert_eq!(
            (counts.too_large, counts.malformed, counts.forged),
            (1, 2, 3)
        );
        assert_eq!((counts.wrong_receiver, counts.not_permitted), (4, 5));
        assert_eq!((counts.replayed, counts.stale), (6, 7));
        assert_eq!(counts.total(), 28);
    }
}
