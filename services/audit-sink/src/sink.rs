//! The service: holds what came early, keeps what is next, reads from the gateway what is missing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keywheel_daemon::{Shutdown, chain, names};
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Address, Body, Bus, Incoming, Subscription, Topic};
use keywheel_engine::port::journal::{AuditLeaf, MAX_READ};
use keywheel_engine::trace::Context;
use keywheel_telemetry::traces::{Kind, Span, names as spans};
use tokio::time::Sleep;

use crate::error::AuditSinkError;
use crate::file::{File, Kept};
use crate::onward::{OnwardOptions, Pump, Standing, pumps};
use crate::presence::{Onward, sink_set};

/// Whose spans these are.
const SERVICE: &str = "audit-sink";
/// The name under which records are read.
pub const CONSUMER: &str = "audit-sink";
/// Records that may wait for an earlier one.
pub const MAX_HELD: usize = 1024;
/// How long a missing record may be on its way before it is read from the gateway.
const GAP_WAIT: Duration = Duration::from_millis(200);
/// How often the gateway is asked for records whose message was lost with nothing after it, and how
/// long to wait after a failure.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// How long to wait before a failed write or read is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// How long the gateway may take to answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Records written in one transaction.
const MAX_BATCH: usize = 256;

/// Where the copy is kept.
#[derive(Debug, Clone)]
pub struct AuditSinkOptions {
    /// The file; its directory exists.
    pub path: PathBuf,
}

/// The service.
pub struct AuditSink {
    file: File,
    bus: Arc<dyn Bus>,
    counts: Handle,
    held: BTreeMap<u64, Held>,
    pumps: Vec<Pump>,
}

/// A look at a running sink; clones are one.
#[derive(Debug, Clone, Default)]
pub struct Handle {
    size: Arc<AtomicU64>,
    begins: Arc<AtomicU64>,
    conflicts: Arc<AtomicU64>,
    backfilled: Arc<AtomicU64>,
    /// The sinks that are told from the copy.
    onward: Arc<OnceLock<Onward>>,
}

impl Handle {
    /// How each sink is now, beside the copy.
    #[must_use]
    pub fn sinks(&self) -> Vec<Standing> {
        self.onward
            .get()
            .map_or_else(Vec::new, |onward| onward.standings(self.size()))
    }

    pub(crate) fn onward(&self) -> Option<&Onward> {
        self.onward.get()
    }

    /// The first record that is kept, or would be.
    pub(crate) fn begins(&self) -> u64 {
        self.begins.load(Ordering::Relaxed)
    }

    /// The index of the next record: as many are kept, where the first is 0.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Records that differ from the kept one of the same index: somebody changed the log.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Records that were read from the gateway because their message did not come.
    #[must_use]
    pub fn backfilled(&self) -> u64 {
        self.backfilled.load(Ordering::Relaxed)
    }
}

/// A record that waits for an earlier one, or for the disk.
struct Held {
    leaf: AuditLeaf,
    /// The bus's numbers of its messages, acknowledged when it is kept.
    sequences: Vec<u64>,
    /// From when its first message came until it is kept.
    _span: Span,
}

/// What the loop wakes up for.
enum Wake {
    Message(Box<Incoming>),
    CatchUp,
    Stop,
}

impl AuditSink {
    /// Opens the copy, or begins one.
    ///
    /// # Errors
    /// When the file cannot be opened, is not ours, or lacks records.
    pub async fn open(
        options: &AuditSinkOptions,
        bus: Arc<dyn Bus>,
    ) -> Result<Self, AuditSinkError> {
        let file = File::open(&options.path).await?;
        let counts = Handle::default();
        counts.size.store(file.size(), Ordering::Relaxed);
        counts.begins.store(file.begins(), Ordering::Relaxed);
        Ok(Self {
            file,
            bus,
            counts,
            held: BTreeMap::new(),
            pumps: Vec::new(),
        })
    }

    /// Has these sinks told what the copy keeps, each by a task of its own, as long as it runs.
    #[must_use]
    pub fn with_sinks(mut self, options: &OnwardOptions) -> Self {
        self.pumps = pumps(options, &self.file);
        let onward = Onward {
            states: self.pumps.iter().map(Pump::state).collect(),
            max_lag: options.max_lag,
            clock: Arc::clone(&options.clock),
            set: sink_set(&options.sinks),
        };
        // Said once, before it runs.
        let _again = self.counts.onward.set(onward);
        self
    }

    /// A look at it while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.counts.clone()
    }

    /// Keeps records until told to stop, or until the bus is shut down.
    ///
    /// # Errors
    /// When the bus cannot be read.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), AuditSinkError> {
        let subscribed = self.bus.subscribe(Topic::Audit, CONSUMER).await;
        let mut records = subscribed.map_err(AuditSinkError::Subscribe)?;
        tracing::info!({ names::COUNT } = self.file.size(), "audit sink serves");
        for pump in std::mem::take(&mut self.pumps) {
            shutdown.spawn(pump.run(shutdown.token()));
        }
        let mut timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        let mut gap_seen = false;
        loop {
            match self.wait(&mut *records, timer.as_mut(), &shutdown).await {
                Wake::Message(incoming) => self.take_ready(&mut *records, *incoming).await,
                Wake::CatchUp => {
                    let pause = self.catch_up(&mut *records).await;
                    gap_seen = !self.held.is_empty();
                    timer.set(tokio::time::sleep(if gap_seen {
                        RETRY_DELAY
                    } else {
                        pause
                    }));
                }
                Wake::Stop => return Ok(()),
            }
            if self.held.is_empty() {
                gap_seen = false;
            } else if !gap_seen {
                gap_seen = true;
                timer.set(tokio::time::sleep(self.patience()));
            }
        }
    }

    async fn wait(
        &self,
        records: &mut dyn Subscription,
        timer: Pin<&mut Sleep>,
        shutdown: &Shutdown,
    ) -> Wake {
        tokio::select! {
            () = shutdown.requested() => Wake::Stop,
            () = timer => Wake::CatchUp,
            incoming = records.next(), if self.held.len() < MAX_HELD => {
                incoming.map_or(Wake::Stop, |incoming| Wake::Message(Box::new(incoming)))
            }
        }
    }

    /// How long what is held may wait: for the disk, or for an earlier record.
    fn patience(&self) -> Duration {
        if self.held.contains_key(&self.file.size()) {
            RETRY_DELAY
        } else {
            GAP_WAIT
        }
    }

    /// Takes a message and whatever else is ready, and keeps it all in few transactions.
    async fn take_ready(&mut self, records: &mut dyn Subscription, first: Incoming) {
        self.take(records, first).await;
        for _ in 1..MAX_BATCH {
            if self.held.len() >= MAX_HELD {
                break;
            }
            match tokio::time::timeout(Duration::ZERO, records.next()).await {
                Ok(Some(incoming)) => self.take(records, incoming).await,
                _ => break,
            }
        }
        self.flush(records).await;
    }

    async fn take(&mut self, records: &mut dyn Subscription, incoming: Incoming) {
        let sequence = incoming.sequence;
        let above = incoming.message.traceparent.as_deref();
        let above = above.and_then(Context::parse);
        let Body::Audit(leaf) = incoming.message.body else {
            return acknowledge(records, &[sequence]).await;
        };
        let span = Span::below(SERVICE, spans::KEEP, Kind::Consumer, above)
            .with(spans::MESSAGING_SYSTEM, spans::SYSTEM)
            .with(spans::MESSAGING_OPERATION, "keep")
            .with(spans::MESSAGING_OPERATION_TYPE, "process")
            .with(spans::MESSAGING_DESTINATION, "audit");
        if self.hold(leaf, Some(sequence), span).await {
            acknowledge(records, &[sequence]).await;
        }
    }

    /// Holds a record until it is next; `true` when there is nothing left to do for its message.
    async fn hold(&mut self, leaf: AuditLeaf, sequence: Option<u64>, span: Span) -> bool {
        if leaf.index < self.file.begins() {
            // The copy begins behind it, and nobody can say here whether it is another one.
            span.cancel();
            return true;
        }
        if leaf.index < self.file.size() {
            span.cancel();
            let kept = self.file.compare(&leaf).await;
            match kept {
                Ok(Kept::Same) => {}
                Ok(Kept::Different) => self.alarm(leaf.index),
                Err(error) => {
                    tracing::error!(
                        { names::ERROR } = chain(&error),
                        "audit record not compared"
                    );
                    return false;
                }
            }
            return true;
        }
        if let Some(held) = self.held.get_mut(&leaf.index) {
            span.cancel();
            let same = held.leaf == leaf;
            held.sequences.extend(sequence);
            if !same {
                self.alarm(leaf.index);
            }
            return false;
        }
        let sequences = sequence.into_iter().collect();
        let held = Held {
            leaf,
            sequences,
            _span: span,
        };
        self.held.insert(held.leaf.index, held);
        false
    }

    fn alarm(&self, index: u64) {
        self.counts.conflicts.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            { names::NUMBER } = index,
            "audit record differs from its copy; run `keywheel audit verify` and keep both files"
        );
    }

    /// Keeps everything that is next; `false` when the disk refused.
    async fn flush(&mut self, records: &mut dyn Subscription) -> bool {
        loop {
            let first = self.file.size();
            let batch: Vec<AuditLeaf> = (first..)
                .map_while(|index| self.held.get(&index).map(|held| held.leaf.clone()))
                .take(MAX_BATCH)
                .collect();
            if batch.is_empty() {
                return true;
            }
            if let Err(error) = self.file.append(&batch).await {
                tracing::error!(
                    { names::ERROR } = chain(&error),
                    "audit records not kept; trying again"
                );
                return false;
            }
            self.counts.size.store(self.file.size(), Ordering::Relaxed);
            for leaf in batch {
                if let Some(held) = self.held.remove(&leaf.index) {
                    acknowledge(records, &held.sequences).await;
                }
            }
        }
    }

    /// Reads from the gateway what is missing; gives the time until the next look.
    async fn catch_up(&mut self, records: &mut dyn Subscription) -> Duration {
        loop {
            if !self.flush(records).await {
                return RETRY_DELAY;
            }
            let size = self.file.size();
            // The last kept record is read again, to see that the log still agrees with the copy.
            match self.read(size.saturating_sub(1)).await {
                Ok(leaves) if first_of(&leaves).is_some_and(|first| first > size) => {
                    let first = first_of(&leaves).unwrap_or(size);
                    match self.begin_later(records, first).await {
                        true => continue,
                        false => return CHECK_INTERVAL,
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        { names::ERROR } = chain(&error),
                        "audit log not read; trying again"
                    );
                    return RETRY_DELAY;
                }
                Ok(leaves) if leaves.is_empty() && size > 0 => {
                    self.alarm(size - 1);
                    return CHECK_INTERVAL;
                }
                Ok(leaves) => self.take_missing(leaves).await,
            }
            if !self.held.contains_key(&size) {
                return CHECK_INTERVAL;
            }
        }
    }

    /// Of what is before this record the log has only hashes. A copy that has nothing yet begins with it; one that has
    /// something lacks what nobody can give it.
    async fn begin_later(&mut self, records: &mut dyn Subscription, first: u64) -> bool {
        let size = self.file.size();
        if size > self.file.begins() {
            // Looked at again and again, and one fault.
            self.counts.conflicts.fetch_max(1, Ordering::Relaxed);
            tracing::error!(
                first = size,
                last = first - 1,
                "the log has no longer these audit records, and the copy never had them; keep it as it is, \
                 move it away, and a new one begins with what the log has"
            );
            return false;
        }
        if let Err(error) = self.file.begin_at(first).await {
            tracing::error!(
                { names::ERROR } = chain(&error),
                "audit records not kept; trying again"
            );
            return false;
        }
        self.counts.size.store(first, Ordering::Relaxed);
        self.counts.begins.store(first, Ordering::Relaxed);
        // What waited for records that are nowhere waits no longer.
        let later = self.held.split_off(&first);
        for early in std::mem::replace(&mut self.held, later).into_values() {
            acknowledge(records, &early.sequences).await;
        }
        tracing::warn!(
            { names::NUMBER } = first,
            "the log has no records before this one any more; the copy begins with it"
        );
        true
    }

    async fn take_missing(&mut self, leaves: Vec<AuditLeaf>) {
        let mut missing = 0;
        for leaf in leaves {
            let is_new = leaf.index >= self.file.size() && !self.held.contains_key(&leaf.index);
            missing += u64::from(is_new);
            self.hold(leaf, None, Span::default()).await;
        }
        if missing > 0 {
            self.counts.backfilled.fetch_add(missing, Ordering::Relaxed);
            tracing::info!(
                { names::COUNT } = missing,
                "audit records read from the log"
            );
        }
    }

    async fn read(&self, from: u64) -> Result<Vec<AuditLeaf>, PortError> {
        let asked = Body::ReadAudit {
            from,
            limit: MAX_READ,
        };
        match self
            .bus
            .request(Address::Gateway, None, asked, READ_TIMEOUT)
            .await?
        {
            Body::AuditLeaves(leaves) => Ok(leaves),
            Body::Failed { kind, text } => Err(PortError::new(kind, text)),
            _ => Err(PortError::new(
                keywheel_engine::port::ErrorKind::Unavailable,
                "the answer about audit records has none",
            )),
        }
    }
}

fn first_of(leaves: &[AuditLeaf]) -> Option<u64> {
    leaves.first().map(|leaf| leaf.index)
}

async fn acknowledge(records: &mut dyn Subscription, sequences: &[u64]) {
    for sequence in sequences {
        if let Err(error) = records.ack(*sequence).await {
            // It comes again and is found kept.
            tracing::debug!({ names::ERROR } = chain(&error), "record not acknowledged");
        }
    }
}

#[cfg(test)]
mod tests;
