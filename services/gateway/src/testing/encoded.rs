//! The journal in memory, whose events are given out as a real one keeps them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use keywheel_core::id::{CommandId, SubscriptionId};
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::{
    AuditLeaf, Decision, Head, Journal, Mark, OpenEffect, REMOVAL_UNIT, RecordedEvent, Verdict,
    Verification,
};
use keywheel_engine::port::subscriptions::{Subscription, Subscriptions};
use keywheel_schemas::event::{self, EventMeta};
use keywheel_testkit::fake::MemoryJournal;
use tokio::sync::watch;

/// One handle of it.
pub(crate) struct Encoded {
    pub(crate) journal: Arc<MemoryJournal>,
    /// Whether its bell never rings: who has it learns of others' appends only when it asks.
    pub(crate) is_deaf: bool,
    /// Whether the oldest audit records leave as soon as somebody was told where they begin.
    pub(crate) leaves: AtomicBool,
}

impl Encoded {
    fn encode(&self, recorded: &mut RecordedEvent) {
        let causation = self.journal.command_of(recorded.id);
        let meta = EventMeta {
            id: recorded.id,
            number: recorded.number,
            aggregate_sequence: 1,
            time: recorded.time,
            source: "keywheel/test/gateway".to_owned(),
            traceparent: None,
            causation: causation.unwrap_or_default(),
            previous_hash: [0; 32],
        };
        recorded.bytes = event::encode(&meta, &recorded.event).into();
    }
}

#[async_trait]
impl Journal for Encoded {
    async fn append(&self, first: u64, all: &[Decision]) -> Result<Vec<RecordedEvent>, PortError> {
        self.journal.append(first, all).await
    }
    async fn verdict(&self, command: CommandId) -> Result<Option<Verdict>, PortError> {
        self.journal.verdict(command).await
    }
    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, PortError> {
        let mut events = self.journal.read(after, limit).await?;
        events.iter_mut().for_each(|event| self.encode(event));
        Ok(events)
    }
    async fn open_effects(&self) -> Result<Vec<OpenEffect>, PortError> {
        self.journal.open_effects().await
    }
    async fn read_audit(&self, from: u64, limit: usize) -> Result<Vec<AuditLeaf>, PortError> {
        self.journal.read_audit(from, limit).await
    }
    async fn head(&self) -> Result<Head, PortError> {
        self.journal.head().await
    }
    async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<[u8; 32]>, PortError> {
        self.journal.inclusion_proof(index, size).await
    }
    async fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<[u8; 32]>, PortError> {
        self.journal.consistency_proof(old, new).await
    }
    async fn verify(&self) -> Result<Verification, PortError> {
        self.journal.verify().await
    }
    async fn audit_begins(&self) -> Result<u64, PortError> {
        let begins = self.journal.audit_begins().await?;
        if self.leaves.swap(false, Ordering::SeqCst) {
            self.journal.remove_audit(REMOVAL_UNIT).await?;
        }
        Ok(begins)
    }
    async fn removed_hashes(&self, from: u64, limit: usize) -> Result<Vec<[u8; 32]>, PortError> {
        self.journal.removed_hashes(from, limit).await
    }
    async fn remove_audit(&self, before: u64) -> Result<u64, PortError> {
        self.journal.remove_audit(before).await
    }
    fn bell(&self) -> Option<watch::Receiver<Mark>> {
        match self.is_deaf {
            true => Some(watch::channel(Mark::default()).1),
            false => self.journal.bell(),
        }
    }
}

#[async_trait]
impl Subscriptions for Encoded {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, PortError> {
        self.journal.subscriptions().await
    }
    async fn subscribe(
        &self,
        name: &SubscriptionName,
        id: SubscriptionId,
        after: u64,
    ) -> Result<Subscription, PortError> {
        self.journal.subscribe(name, id, after).await
    }
    async fn acknowledge(
        &self,
        name: &SubscriptionName,
        id: SubscriptionId,
        number: u64,
    ) -> Result<Subscription, PortError> {
        self.journal.acknowledge(name, id, number).await
    }
    async fn unsubscribe(&self, name: &SubscriptionName) -> Result<(), PortError> {
        self.journal.unsubscribe(name).await
    }
}
