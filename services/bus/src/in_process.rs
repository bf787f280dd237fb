//! The bus inside one process. Every message is written, signed, verified and read as between hosts,
//! so that a fault in any of it shows here first; only the wire is missing.
//!
//! Invariants: a frame is written once per publish and read once per hand-out; no lock is held while
//! signing or verifying; every queue is bounded. Nothing outlives the process: the journal does.

mod requests;
mod subscription;
mod topic;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::port::bus::{
    Address, Body, Bus, Message, Requests, Source, Subscription, Topic,
};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::sync::Notify;

use crate::ends::{check_reader, check_server};
use crate::envelope::{self, EncodeError, Frame, Heading, Receiver};
use crate::refusal::{Counters, Refusal, RefusalCounts};
use crate::trust::{Identity, Trust};
use crate::word;
use requests::Servers;
use subscription::Reader;
use topic::TopicState;

pub use requests::MAX_WAITING_REQUESTS;

/// After what time an unacknowledged message comes again.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// Topics of one hub: three of the deployment, one per role and host.
const MAX_TOPICS: usize = 4096;

/// The hub all ends hang on; clones are one.
#[derive(Clone)]
pub struct InProcess {
    shared: Arc<Shared>,
}

struct Shared {
    trust: Trust,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    ack_timeout: Duration,
    topics: Mutex<HashMap<Topic, Arc<Slot>>>,
    servers: Mutex<HashMap<Address, Servers>>,
    owners: AtomicU64,
    closed: AtomicBool,
    refused: Counters,
}

/// A topic and the bell that rings when it changes.
struct Slot {
    state: Mutex<TopicState>,
    changed: Notify,
}

/// Takes a lock also when a test's panic poisoned it: every critical section here leaves the state
/// whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InProcess {
    /// A hub on which the holders of these keys are believed.
    #[must_use]
    pub fn new(trust: Trust, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self::with_ack_timeout(trust, clock, ids, ACK_TIMEOUT)
    }

    /// A hub with another time until an unacknowledged message comes again.
    #[must_use]
    pub fn with_ack_timeout(
        trust: Trust,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        ack_timeout: Duration,
    ) -> Self {
        let shared = Shared {
            trust,
            clock,
            ids,
            ack_timeout,
            topics: Mutex::default(),
            servers: Mutex::default(),
            owners: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            refused: Counters::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// One service's end.
    #[must_use]
    pub fn endpoint(&self, identity: Identity) -> Arc<dyn Bus> {
        Arc::new(Endpoint {
            shared: Arc::clone(&self.shared),
            identity: Arc::new(identity),
        })
    }

    /// How many messages receivers dropped, and why.
    #[must_use]
    pub fn refused(&self) -> RefusalCounts {
        self.shared.refused.snapshot()
    }

    /// Ends every subscription and every wait; what is sent afterwards is `Unavailable`.
    pub fn shutdown(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        lock(&self.shared.servers).clear();
        for slot in lock(&self.shared.topics).values() {
            slot.changed.notify_waiters();
        }
    }

    /// Puts raw bytes into a topic as a compromised transport could. For tests of receivers.
    ///
    /// # Errors
    /// When there are too many topics.
    pub fn inject(&self, topic: &Topic, frame: Arc<Frame>) -> Result<(), PortError> {
        self.shared.place(topic, None, frame)
    }

    /// Puts raw bytes before an address' server as a compromised transport could. For tests of
    /// receivers. The answer, if any, is lost.
    ///
    /// # Errors
    /// When nobody serves the address.
    pub fn inject_request(&self, to: Address, frame: Arc<Frame>) -> Result<(), PortError> {
        self.shared.ask(to, frame).map(drop)
    }
}

impl Shared {
    fn check_open(&self) -> Result<(), PortError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(PortError::new(
                ErrorKind::Unavailable,
                "the bus is shut down",
            ));
        }
        Ok(())
    }

    fn encode(
        &self,
        sender: &Identity,
        to: Receiver<'_>,
        id: [u8; 16],
        traceparent: Option<&str>,
        body: &Body,
    ) -> Result<Arc<Frame>, EncodeError> {
        let heading = Heading {
            id,
            time: self.clock.now(),
            traceparent,
        };
        envelope::encode(sender, to, heading, body).map(Arc::new)
    }

    fn decode(&self, receiver: Receiver<'_>, frame: &Frame) -> Result<Message, Refusal> {
        envelope::decode(&self.trust, receiver, self.clock.now(), frame)
    }

    fn refuse(&self, refusal: &Refusal, receiver: Receiver<'_>) {
        let now = self.clock.monotonic();
        self.refused.count(refusal, &receiver.word(), now);
    }

    fn slot(&self, topic: &Topic) -> Result<Arc<Slot>, PortError> {
        let mut topics = lock(&self.topics);
        if let Some(slot) = topics.get(topic) {
            return Ok(Arc::clone(slot));
        }
        if topics.len() >= MAX_TOPICS {
            let text = format!(
                "{} not opened: the bus has {MAX_TOPICS} topics already",
                word::of_topic(topic)
            );
            return Err(PortError::new(ErrorKind::Unavailable, text));
        }
        let slot = Arc::new(Slot {
            state: Mutex::new(TopicState::new(topic)),
            changed: Notify::new(),
        });
        topics.insert(topic.clone(), Arc::clone(&slot));
        Ok(slot)
    }

    fn place(
        &self,
        topic: &Topic,
        id: Option<[u8; 16]>,
        frame: Arc<Frame>,
    ) -> Result<(), PortError> {
        let slot = self.slot(topic)?;
        lock(&slot.state).publish(id, frame);
        slot.changed.notify_waiters();
        Ok(())
    }
}

/// One service's end.
struct Endpoint {
    shared: Arc<Shared>,
    identity: Arc<Identity>,
}

#[async_trait]
impl Bus for Endpoint {
    async fn publish(
        &self,
        topic: Topic,
        id: [u8; 16],
        traceparent: Option<String>,
        body: Body,
    ) -> Result<(), PortError> {
        self.shared.check_open()?;
        let to = Receiver::Topic(&topic);
        let trace = traceparent.as_deref();
        let frame = self.shared.encode(&self.identity, to, id, trace, &body)?;
        self.shared.place(&topic, Some(id), frame)
    }

    async fn subscribe(
        &self,
        topic: Topic,
        consumer: &str,
    ) -> Result<Box<dyn Subscription>, PortError> {
        self.shared.check_open()?;
        check_reader(&self.identity, &topic)?;
        let slot = self.shared.slot(&topic)?;
        let joined = lock(&slot.state).join(consumer);
        let group = joined.map_err(|_| {
            let text = format!(
                "{} has {} consumer names already",
                word::of_topic(&topic),
                topic::MAX_GROUPS
            );
            PortError::new(ErrorKind::Unavailable, text)
        })?;
        let owner = self.shared.owners.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Reader::new(
            Arc::clone(&self.shared),
            slot,
            topic,
            group,
            owner,
        )))
    }

    async fn request(
        &self,
        to: Address,
        traceparent: Option<String>,
        body: Body,
        timeout: Duration,
    ) -> Result<Body, PortError> {
        self.shared.check_open()?;
        let id = self.shared.ids.draw();
        let receiver = Receiver::Request(to);
        let trace = traceparent.as_deref();
        let frame = self
            .shared
            .encode(&self.identity, receiver, id, trace, &body)?;
        let answer = self.shared.ask(to, frame)?;
        self.shared.await_answer(to, id, answer, timeout).await
    }

    fn refuse_stale(&self, from: Source) {
        let now = self.shared.clock.monotonic();
        self.shared.refused.count_stale(&from, now);
    }

    async fn serve(&self, at: Address) -> Result<Box<dyn Requests>, PortError> {
        self.shared.check_open()?;
        check_server(&self.identity, at)?;
        Ok(self.shared.serve(at, &self.identity))
    }
}

#[cfg(test)]
mod tests;
