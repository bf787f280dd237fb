//! What is done outside the log, and what of it a gateway began that ended before an outcome was on record: closed at a
//! later start.
//!
//! Invariants: what is closed was on record before this start, and nobody can be at it any more: the longest that an
//! asker waits is over; it is closed by a record of the same command; of several gateways that start together each may
//! close it once. Only the newest `LOOKED_BACK` records are looked through, so a start costs the same on any log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::{Category, Outcome, Principal, Record, Role};
use keywheel_core::id::CommandId;
use keywheel_daemon::{chain, names};
use keywheel_engine::command_bus::Handle;
use keywheel_engine::port::PortError;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::{AuditLeaf, Journal, MAX_READ};
use keywheel_schemas::wire::audit_record_from_json;
use tokio_util::sync::CancellationToken;

use crate::http::UNSEAL_TIMEOUT;

/// How the reason of an intent begins; no outcome's does.
pub(crate) const ASKED: &str = "asked for";
/// So many of the newest records before the start are looked through.
const LOOKED_BACK: u64 = 4096;
/// Longer than any gateway is at one, and waits for its record: a share is two questions.
const SETTLED: Duration = Duration::from_secs(3 * UNSEAL_TIMEOUT.as_secs());
/// What is said of one.
const UNKNOWN: &str =
    "not known whether it was done: the gateway that asked ended before an outcome was on record";

/// What a request does outside the log: at store-sync, at a receiver, beside the log in its database, on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Unseal,
    Seal,
    RotateKek,
    Refresh,
    TryStore,
    TestNotification,
    ReplayNotification,
    RetryLetter,
    DiscardLetter,
    Subscribe,
    Acknowledge,
    Unsubscribe,
    /// Only where the gateway's process is the only one, so it is at none once another one starts.
    Backup,
}

impl Deed {
    /// Every one.
    pub(crate) const ALL: [Self; 13] = [
        Self::Unseal,
        Self::Seal,
        Self::RotateKek,
        Self::Refresh,
        Self::TryStore,
        Self::TestNotification,
        Self::ReplayNotification,
        Self::RetryLetter,
        Self::DiscardLetter,
        Self::Subscribe,
        Self::Acknowledge,
        Self::Unsubscribe,
        Self::Backup,
    ];

    /// As records call it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Unseal => "unseal",
            Self::Seal => "seal",
            Self::RotateKek => "rotate-kek",
            Self::Refresh => "refresh",
            Self::TryStore => "try-store",
            Self::TestNotification => "test-notification",
            Self::ReplayNotification => "replay-notification",
            Self::RetryLetter => "retry-letter",
            Self::DiscardLetter => "discard-letter",
            Self::Subscribe => "subscribe",
            Self::Acknowledge => "acknowledge",
            Self::Unsubscribe => "unsubscribe",
            Self::Backup => "backup",
        }
    }

    /// Whether it is done while the audit has too few sinks, as revocations are: what opens the cache, since they may
    /// need it, and shuts it; a letter, which may be a signal of a leak; and what saves what there is.
    pub(crate) const fn goes_on_without_sinks(self) -> bool {
        match self {
            Self::Unseal | Self::Seal | Self::RetryLetter | Self::Backup => true,
            Self::RotateKek
            | Self::Refresh
            | Self::TryStore
            | Self::TestNotification
            | Self::ReplayNotification
            | Self::DiscardLetter
            | Self::Subscribe
            | Self::Acknowledge
            | Self::Unsubscribe => false,
        }
    }
}

/// Closes what was left open.
pub struct Deeds {
    /// The log of record.
    pub journal: Arc<dyn Journal>,
    /// Puts on record what is not known.
    pub commands: Handle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
}

impl Deeds {
    /// Closes what was open at the start, once nobody can be at it any more, or until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut start = None;
        loop {
            let looked = match start {
                None => self.size().await.map(Some),
                Some(begun) => match self.close(begun).await {
                    Ok(()) => return,
                    Err(error) => Err(error),
                },
            };
            match looked {
                Ok(size) => start = size,
                Err(error) => tracing::warn!(
                    { names::ERROR } = chain(&error),
                    "what was begun before this start is not looked through now; trying again"
                ),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SETTLED) => {}
            }
        }
    }

    /// How many records there are.
    pub(crate) async fn size(&self) -> Result<u64, PortError> {
        Ok(self.journal.head().await?.audit_size)
    }

    /// Closes what was begun before this many records, and has no outcome by now.
    pub(crate) async fn close(&self, start: u64) -> Result<(), PortError> {
        let mut open = Open::new(start);
        let mut from = start.saturating_sub(LOOKED_BACK);
        loop {
            let leaves = self.journal.read_audit(from, MAX_READ).await?;
            let Some(last) = leaves.last() else {
                break;
            };
            from = last.index + 1;
            leaves.iter().for_each(|leaf| open.read(leaf));
        }
        for begun in open.begun.into_values() {
            let own = CommandId::from_bytes(self.ids.draw());
            let closing = Record {
                time: self.clock.now(),
                category: Category::System,
                principal: Principal::Service(Role::Gateway),
                outcome: Outcome::Rejected,
                reason: UNKNOWN.to_owned(),
                ..begun
            };
            self.commands.record_as(own, closing).await?;
        }
        Ok(())
    }
}

/// Deeds without an outcome, as far as records were read.
struct Open {
    /// What is on record from here on is somebody's who runs.
    start: u64,
    begun: BTreeMap<CommandId, Record>,
}

impl Open {
    const fn new(start: u64) -> Self {
        Self {
            start,
            begun: BTreeMap::new(),
        }
    }

    fn read(&mut self, leaf: &AuditLeaf) {
        // What this build cannot read is no deed of its kind.
        let Ok(record) = audit_record_from_json(&leaf.bytes) else {
            return;
        };
        if !Deed::ALL.iter().any(|deed| deed.word() == record.verb) {
            return;
        }
        if !is_intent(&record) {
            self.begun.remove(&record.command);
        } else if leaf.index < self.start {
            self.begun.insert(record.command, record);
        }
    }
}

fn is_intent(record: &Record) -> bool {
    record.outcome == Outcome::Allowed && record.reason.starts_with(ASKED)
}

#[cfg(test)]
mod tests;
