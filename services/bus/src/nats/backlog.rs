//! What waits on the bus server for this end's readers, as the bus server counts it.
//!
//! Invariant: it only asks, and only about consumers that this end reads; who does not answer in
//! time is left out, so a number is never an old one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_trait::async_trait;
use futures_util::future::join_all;
use keywheel_engine::port::bus::Topic;
use keywheel_engine::presence::Backlog;

use super::{Nats, Shared};

/// How long the bus server may take to say how much waits.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// A reader: its topic in a word, its stream, its consumer.
type Place = (&'static str, String, String);

/// Readers that are open.
#[derive(Default)]
pub(super) struct Readers(Mutex<(u64, BTreeMap<u64, Place>)>);

impl Readers {
    fn places(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Place>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them; gone when it is dropped.
pub(super) struct Listed {
    shared: Arc<Shared>,
    number: u64,
}

impl Listed {
    pub(super) fn add(shared: &Arc<Shared>, topic: &Topic, stream: &str, consumer: &str) -> Self {
        let mut places = shared.readers.places();
        places.0 += 1;
        let number = places.0;
        let place = (word(topic), stream.to_owned(), consumer.to_owned());
        places.1.insert(number, place);
        Self {
            shared: Arc::clone(shared),
            number,
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.readers.places().1.remove(&self.number);
    }
}

/// A topic without whom it is for.
const fn word(topic: &Topic) -> &'static str {
    match topic {
        Topic::Events => "events",
        Topic::Audit => "audit",
        Topic::Work(_) => "work",
        Topic::Plan(_) => "plan",
        Topic::Hosts => "hosts",
        Topic::Presence => "presence",
    }
}

#[async_trait]
impl Backlog for Nats {
    /// The readers of one role share its work, and its number.
    async fn backlog(&self) -> Vec<(&'static str, u64)> {
        let line = self.shared.line();
        if !line.is_connected() || *self.shared.closed.borrow() {
            return Vec::new();
        }
        let places: Vec<Place> = self.shared.readers.places().1.values().cloned().collect();
        let asked = places.into_iter().map(|(topic, stream, consumer)| {
            let context = line.context.clone();
            async move {
                let found = context.get_consumer_from_stream(consumer, stream);
                let found = tokio::time::timeout(ASK_TIMEOUT, found).await.ok()?;
                let found: PullConsumer = found.ok()?;
                let info = found.cached_info();
                let unacknowledged = u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX);
                Some((topic, info.num_pending.saturating_add(unacknowledged)))
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}
