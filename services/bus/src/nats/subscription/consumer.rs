//! The durable consumer behind a reader: its name, where it begins, and finding it again.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::stream::ConsumerErrorKind;
use keywheel_core::id::EventId;
use keywheel_engine::port::bus::{TOPIC_CAPACITY, Topic};
use keywheel_engine::port::{ErrorKind, PortError};

use super::place::Place;
use crate::nats::backlog::Listed;
use crate::nats::streams::MAX_AGE;
use crate::nats::{Shared, chain};
use crate::word;

/// Between two looks for a stream that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// When a reader with a name of its own that left is forgotten.
const OWN_FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

/// What a reader needs.
pub(super) struct Wanted {
    topic: String,
    stream: String,
    subject: String,
    name: String,
    kind: Kind,
    ack_wait: Duration,
    forgotten_after: Duration,
}

/// Where a new consumer begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With what comes from now on.
    News,
    /// With what waits.
    Work,
    /// With the newest, each time.
    Newest,
}

impl Wanted {
    /// The consumer of a topic. Who may have one name only has that one; where one role reads a
    /// stream, the port's word and the instance are the name. Every reader of the list of hosts has
    /// a consumer of its own: each must hear of each eviction.
    pub(super) fn of(shared: &Shared, topic: &Topic, consumer: &str) -> Self {
        let (subject, stream) = shared.place(topic);
        let (kind, name) = match topic {
            // Presence is in no stream and never read here.
            Topic::Events | Topic::Audit | Topic::Presence => (Kind::News, named(shared, consumer)),
            Topic::Work(_) => (Kind::Work, shared.speaker.consumer()),
            Topic::Plan(_) => (Kind::Newest, shared.speaker.consumer()),
            Topic::Hosts => {
                let own = EventId::from_bytes(shared.ids.draw());
                (Kind::Newest, format!("{}-{own}", plain(consumer)))
            }
        };
        Self {
            topic: word::of_topic(topic),
            stream,
            subject,
            name,
            forgotten_after: match topic {
                // Its own reader reads it all the time; whoever leaves is not missed.
                Topic::Hosts => OWN_FORGOTTEN_AFTER,
                Topic::Events | Topic::Audit if shared.instance.is_some() => OWN_FORGOTTEN_AFTER,
                // Whoever is away for longer than messages are kept begins anew.
                Topic::Events | Topic::Audit | Topic::Plan(_) | Topic::Presence => MAX_AGE,
                Topic::Work(_) => Duration::ZERO,
            },
            kind,
            ack_wait: shared.ack_timeout,
        }
    }

    /// Tells that it is read from now on.
    pub(super) fn listed(&self, shared: &Arc<Shared>, topic: &Topic) -> Listed {
        Listed::add(shared, topic, &self.stream, &self.name)
    }

    /// Opens it for the first time, waiting for the stream.
    pub(super) async fn open_within(
        &self,
        shared: &Shared,
        place: &mut Place,
        patience: Duration,
    ) -> Result<PullConsumer, PortError> {
        let begun = shared.clock.monotonic();
        loop {
            let error = match self.open(shared, place).await {
                Ok(consumer) => return Ok(consumer),
                Err(error) => error,
            };
            let waited = shared.clock.monotonic().saturating_sub(begun);
            if error.kind != ErrorKind::Unavailable || waited >= patience {
                return Err(error);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn open(&self, shared: &Shared, place: &mut Place) -> Result<PullConsumer, PortError> {
        place.enter(self.life(shared).await?);
        let begin = match self.kind {
            Kind::News => DeliverPolicy::New,
            Kind::Work => DeliverPolicy::All,
            Kind::Newest => {
                // Whoever comes back sees the newest again; a consumer that is not there is as well.
                let line = shared.line();
                let deleted = line
                    .context
                    .delete_consumer_from_stream(&self.name, &self.stream);
                let _ = deleted.await;
                DeliverPolicy::LastPerSubject
            }
        };
        self.find_or_make(shared, begin).await
    }

    /// Finds it again, or makes it anew where the reader was.
    pub(super) async fn reopen(
        &self,
        shared: &Shared,
        place: &mut Place,
    ) -> Result<PullConsumer, PortError> {
        let is_new_life = place.enter(self.life(shared).await?);
        let begin = match self.kind {
            Kind::News if is_new_life => DeliverPolicy::All,
            Kind::News if place.last() == 0 => DeliverPolicy::New,
            Kind::News => DeliverPolicy::ByStartSequence {
                start_sequence: place.last() + 1,
            },
            Kind::Work => DeliverPolicy::All,
            Kind::Newest => DeliverPolicy::LastPerSubject,
        };
        self.find_or_make(shared, begin).await
    }

    /// When the stream was made: another time means that the bus server lost it.
    async fn life(&self, shared: &Shared) -> Result<i128, PortError> {
        let line = shared.line();
        let stream = line.context.get_stream(&self.stream).await;
        let stream =
            stream.map_err(|error| self.fault(shared, "its stream is not there", &error))?;
        Ok(stream.cached_info().created.unix_timestamp_nanos())
    }

    async fn find_or_make(
        &self,
        shared: &Shared,
        begin: DeliverPolicy,
    ) -> Result<PullConsumer, PortError> {
        let line = shared.line();
        let context = &line.context;
        let mut config = self.config(begin);
        let found = context.get_consumer_from_stream(&self.name, &self.stream);
        let found: Result<PullConsumer, _> = found.await;
        if let Ok(consumer) = found {
            let there = &consumer.cached_info().config;
            if there.filter_subject != self.subject || there.ack_policy != AckPolicy::Explicit {
                let text = format!(
                    "{}: consumer {} reads something else; delete it with the NATS tool",
                    self.topic, self.name
                );
                return Err(PortError::new(ErrorKind::Conflict, text));
            }
            if there.ack_wait == self.ack_wait {
                return Ok(consumer);
            }
            config.deliver_policy = there.deliver_policy;
        } else if let Err(error) = &found
            && !matches!(error.kind(), ConsumerErrorKind::JetStream(error) if error.code() == 404)
        {
            return Err(self.fault(shared, "its consumer cannot be looked at", error));
        }
        let made = context.create_consumer_on_stream(config, &self.stream);
        made.await
            .map_err(|error| self.fault(shared, "its consumer cannot be made", &error))
    }

    fn config(&self, deliver_policy: DeliverPolicy) -> Config {
        Config {
            durable_name: Some(self.name.clone()),
            name: Some(self.name.clone()),
            deliver_policy,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            filter_subject: self.subject.clone(),
            max_ack_pending: i64::try_from(TOPIC_CAPACITY).unwrap_or(i64::MAX),
            max_deliver: -1,
            inactive_threshold: self.forgotten_after,
            ..Config::default()
        }
    }

    fn fault(&self, shared: &Shared, what: &str, error: &dyn std::error::Error) -> PortError {
        let mut text = format!("{}: {what}: {}", self.topic, chain(error));
        if let Some(refusal) = shared.state.last_refusal() {
            text.push_str("; the bus server last refused: ");
            text.push_str(&refusal);
        } else {
            text.push_str("; the gateway makes streams, so start it first");
        }
        PortError::new(ErrorKind::Unavailable, text)
    }
}

/// A consumer's name, another one for each instance.
fn named(shared: &Shared, consumer: &str) -> String {
    match &shared.instance {
        Some(instance) => plain(&format!("{consumer}-{instance}")),
        None => plain(consumer),
    }
}

/// Characters of a consumer's name.
fn plain(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    name.chars().map(plain).collect()
}
