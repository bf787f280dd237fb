//! Removes audit records from the journal once they are old enough and are kept elsewhere, a bounded number at a time.
//!
//! Invariants: that records leave is durable in the audit, with their numbers and a digest, before the first of them
//! goes; what is not at every audit sink that is heard stays, and so does everything while fewer sinks than are asked
//! for take records, one at least; a record whose time cannot be read stays, and all behind it. Only audit records
//! leave: events are what the log is folded from. Ages are told by [`Presences::steady_now`], so that a clock which is
//! set forward meanwhile makes nothing old. A crash leaves some of what was let go; the next pass goes on there.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::{Category, Outcome, Principal, Record, Role};
use keywheel_core::id::CommandId;
use keywheel_core::time::Timestamp;
use keywheel_daemon::{chain, names};
use keywheel_engine::command_bus::Handle;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::{AuditLeaf, Journal, REMOVAL_UNIT};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_journal::merkle::{self, Frontier};
use keywheel_journal::retention::{VERB, object};
use keywheel_schemas::config::audit::keep_words;
use keywheel_schemas::mirror::TextForm as _;
use keywheel_schemas::wire::audit_record_from_json;
use tokio_util::sync::CancellationToken;

use crate::presence::Presences;

/// Units of records that leave on one word: so many records are read for it.
pub const UNITS_AT_ONCE: u64 = 64;
/// Pause where something keeps old records from leaving.
pub const RETRY: Duration = Duration::from_secs(60);
/// Longest pause while nothing is old enough: a unit fills up meanwhile, and is not old when it does.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// Shortest one.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Removes old records, as long as the gateway runs.
pub struct Retention {
    /// The log of record.
    pub journal: Arc<dyn Journal>,
    /// Puts on record what leaves.
    pub commands: Handle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// How old records have to be, and who has them.
    pub presences: Presences,
}

/// What is old enough.
struct Old {
    /// The number behind the last.
    end: u64,
    /// The tree over these records alone.
    tree: Frontier,
    /// When the newest record of the next unit was made, where that is full.
    next: Option<Timestamp>,
}

impl Retention {
    /// Runs until told to stop. Where every record is kept it has nothing to do.
    pub async fn run(self, stop: CancellationToken) {
        let Some(keep) = self.presences.keep_records() else {
            return;
        };
        let mut let_go = 0;
        while !stop.is_cancelled() {
            let pause = match self.pass(keep, &mut let_go).await {
                Ok(pause) => pause,
                Err(error) if error.kind == ErrorKind::Corrupt => {
                    tracing::error!(
                        { names::ERROR } = chain(&error),
                        "old audit records stay: the journal is damaged; run `keywheel journal verify`"
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!(
                        { names::ERROR } = chain(&error),
                        "old audit records are not removed now; trying again"
                    );
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Removes what one word lets go; gives the time until the next look. `let_go` is up to where this run has said
    /// that records leave: what is tried again is not said again.
    pub(crate) async fn pass(
        &self,
        keep: Duration,
        let_go: &mut u64,
    ) -> Result<Duration, PortError> {
        let now = self.presences.steady_now();
        let begins = self.journal.audit_begins().await?;
        let old = self.old(begins, before(now, keep)).await?;
        let range = begins..old.end;
        if range.is_empty() {
            let due = old.next.map(|newest| newest.plus(keep).since(now));
            let pause = due.unwrap_or(LONGEST_PAUSE);
            return Ok(pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        }
        if let Some(why) = self.presences.keeps_records(range.end) {
            tracing::debug!({ names::REASON } = why, "old audit records stay for now");
            return Ok(RETRY);
        }
        if range.end > *let_go {
            let reason = format!(
                "they are older than {}, from before {}, and leave the journal; the tree over these records alone has root sha256 {}",
                keep_words(keep),
                before(now, keep).text(),
                hexadecimal(&old.tree.root())
            );
            self.record(&range, (Outcome::Allowed, reason)).await?;
            *let_go = range.end;
        }
        match self.remove(&range).await {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Corrupt => {
                let reason = format!("they stay: {}", error.text);
                // Some of them may have left before; what is taken of the others now is missed.
                let stays = self.journal.audit_begins().await?..range.end;
                self.record(&stays, (Outcome::Rejected, reason)).await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        let reason = "they are gone from the journal, and their leaf hashes are not".to_owned();
        self.record(&range, (Outcome::Allowed, reason)).await?;
        tracing::info!(
            first = range.start,
            last = range.end - 1,
            "old audit records are gone from the journal; their leaf hashes stay"
        );
        Ok(Duration::ZERO)
    }

    /// Removes records, a bounded number in each of the journal's transactions.
    async fn remove(&self, range: &Range<u64>) -> Result<(), PortError> {
        let mut left = range.start;
        while left < range.end {
            let first = self.journal.remove_audit(range.end).await?;
            if first <= left {
                let text = format!("audit record {left} is old enough, and did not leave");
                return Err(PortError::new(ErrorKind::Unavailable, text));
            }
            left = first;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Units all of whose records are from before a time, as many as leave on one word.
    async fn old(&self, begins: u64, before: Timestamp) -> Result<Old, PortError> {
        let mut old = Old {
            end: begins,
            tree: Frontier::new(),
            next: None,
        };
        for _ in 0..UNITS_AT_ONCE {
            let unit = unit(&*self.journal, old.end).await?;
            let Some(newest) = newest(&unit) else {
                if unit.len() as u64 == REMOVAL_UNIT {
                    tracing::warn!(
                        first = old.end,
                        "old audit records stay: among the next ones is one that this build cannot read"
                    );
                }
                break;
            };
            if newest >= before {
                old.next = Some(newest);
                break;
            }
            for leaf in &unit {
                old.tree.push(merkle::leaf_hash(&leaf.bytes));
            }
            old.end = old.end.saturating_add(REMOVAL_UNIT);
            tokio::task::yield_now().await;
        }
        Ok(old)
    }

    async fn record(
        &self,
        range: &Range<u64>,
        (outcome, reason): (Outcome, String),
    ) -> Result<(), PortError> {
        let Some(object) = object(range) else {
            return Ok(());
        };
        let record = Record {
            time: self.clock.now(),
            category: Category::System,
            principal: Principal::Service(Role::Gateway),
            verb: VERB.to_owned(),
            object,
            version: None,
            outcome,
            reason,
            container: None,
            command: CommandId::from_bytes(self.ids.draw()),
            trace: String::new(),
        };
        self.commands.record(record).await
    }
}

/// What is from before this is old.
pub(crate) fn before(now: Timestamp, keep: Duration) -> Timestamp {
    let age = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(age))
}

/// The records of a unit; fewer where it is not full.
async fn unit(journal: &dyn Journal, first: u64) -> Result<Vec<AuditLeaf>, PortError> {
    let limit = usize::try_from(REMOVAL_UNIT).unwrap_or(usize::MAX);
    let mut leaves = journal.read_audit(first, limit).await?;
    // Another gateway may have removed some meanwhile.
    leaves.retain(|leaf| leaf.index < first.saturating_add(REMOVAL_UNIT));
    Ok(leaves)
}

/// When the newest record of a full unit was made; nothing where it is not full, or one cannot be read.
fn newest(unit: &[AuditLeaf]) -> Option<Timestamp> {
    if unit.len() as u64 != REMOVAL_UNIT {
        return None;
    }
    let times: Option<Vec<Timestamp>> = unit.iter().map(time).collect();
    times?.into_iter().max()
}

fn time(leaf: &AuditLeaf) -> Option<Timestamp> {
    audit_record_from_json(&leaf.bytes)
        .ok()
        .map(|record| record.time)
}

/// When the last record of a unit was made; nothing where it is not there, or cannot be read.
pub(crate) async fn last_of_unit(
    journal: &dyn Journal,
    first: u64,
) -> Result<Option<Timestamp>, PortError> {
    let last = first.saturating_add(REMOVAL_UNIT - 1);
    let leaves = journal.read_audit(last, 1).await?;
    let leaf = leaves.first().filter(|leaf| leaf.index == last);
    Ok(leaf.and_then(time))
}

/// How many records of a range are from before a time, in whole units: by the last of each, since times go up but where
/// a clock was set back, and without reading them all.
pub(crate) async fn count_old(
    journal: &dyn Journal,
    range: &Range<u64>,
    before: Timestamp,
) -> Result<u64, PortError> {
    let (mut least, mut most) = (0, range.end.saturating_sub(range.start) / REMOVAL_UNIT);
    while least < most {
        let middle = least + (most - least) / 2;
        let last = last_of_unit(journal, range.start + middle * REMOVAL_UNIT).await?;
        match last.is_some_and(|last| last < before) {
            true => least = middle + 1,
            false => most = middle,
        }
    }
    Ok(least * REMOVAL_UNIT)
}

fn hexadecimal(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
