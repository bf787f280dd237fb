//! Reading a topic: take a frame, verify it, hand it on or drop and count it.
//!
//! Invariant: `next` may be cancelled at any time without losing a message; what was taken and not
//! handed on is due again like anything unacknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Incoming, Message, Subscription, Topic};

use super::topic::Taken;
use super::{Shared, Slot, lock};
use crate::envelope::{Frame, Receiver};
use crate::refusal::Refusal;

/// One consumer's view of a topic.
pub(super) struct Reader {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    topic: Topic,
    group: String,
    owner: u64,
}

impl Reader {
    pub(super) fn new(
        shared: Arc<Shared>,
        slot: Arc<Slot>,
        topic: Topic,
        group: String,
        owner: u64,
    ) -> Self {
        Self {
            shared,
            slot,
            topic,
            group,
            owner,
        }
    }

    fn take(&self) -> Taken {
        let now = self.shared.clock.monotonic();
        lock(&self.slot.state).take(&self.group, self.owner, now, self.shared.ack_timeout)
    }

    fn verify(&self, sequence: u64, frame: &Frame) -> Result<Message, Refusal> {
        let message = self.shared.decode(Receiver::Topic(&self.topic), frame)?;
        if lock(&self.slot.state).admit(&self.group, sequence, message.id) {
            Ok(message)
        } else {
            Err(Refusal::Replayed)
        }
    }

    /// A message that may be handed on; a refused one is counted and done with.
    fn admit(&self, sequence: u64, redelivered: bool, frame: &Frame) -> Option<Incoming> {
        match self.verify(sequence, frame) {
            Ok(message) => Some(Incoming {
                sequence,
                redelivered,
                message,
            }),
            Err(refusal) => {
                self.shared.refuse(&refusal, Receiver::Topic(&self.topic));
                lock(&self.slot.state).ack(&self.group, sequence);
                None
            }
        }
    }
}

#[async_trait]
impl Subscription for Reader {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            tokio::task::coop::consume_budget().await;
            let mut changed = std::pin::pin!(self.slot.changed.notified());
            changed.as_mut().enable();
            if self.shared.closed.load(Ordering::SeqCst) {
                return None;
            }
            match self.take() {
                Taken::Frame {
                    sequence,
                    redelivered,
                    frame,
                } => {
                    if let Some(incoming) = self.admit(sequence, redelivered, &frame) {
                        return Some(incoming);
                    }
                }
                Taken::Wait(None) => changed.await,
                Taken::Wait(Some(span)) => {
                    // Either the bell rang or a redelivery is due; both mean to look again.
                    let _ = tokio::time::timeout(span, changed).await;
                }
            }
        }
    }

    async fn ack(&mut self, sequence: u64) -> Result<(), PortError> {
        lock(&self.slot.state).ack(&self.group, sequence);
        // A group that held as much as it may can take more now.
        self.slot.changed.notify_waiters();
        Ok(())
    }

    async fn nak(&mut self, sequence: u64, delay: Duration) -> Result<(), PortError> {
        let due = self.shared.clock.monotonic().saturating_add(delay);
        lock(&self.slot.state).nak(&self.group, sequence, due);
        self.slot.changed.notify_waiters();
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.slot.state).leave(&self.group, self.owner);
        self.slot.changed.notify_waiters();
    }
}
