//! The bus over NATS: topics are JetStream streams, requests are core request and reply.
//!
//! Invariants: what a receiver hands on passed the same check as inside one process; the bus server
//! is trusted with nothing but carrying. A stream is never the only copy: after the bus server lost
//! one, a gateway makes it anew, and the one that has the turn to tell says its newest message of each
//! topic again, so that consumers see what they miss and read the gateway's log. The connection is made again for ever.

mod backlog;
mod claims;
mod connect;
mod frame;
pub mod greeting;
mod line;
pub mod monitor;
mod newest;
mod options;
mod presence;
mod proof;
mod requests;
mod streams;
mod subscription;
mod supervisor;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::port::bus::{Address, Body, Bus, Requests, Source, Subscription, Topic};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::presence::BusEnd;
use keywheel_schemas::subject::{Client as Speaker, Subjects};
use tokio::sync::{Mutex, RwLock, watch};

use crate::ends::{check_reader, check_server as check_may_serve};
use crate::envelope::{self, EncodeError, Frame, Heading, Receiver};
use crate::refusal::{Counters, Refusal, RefusalCounts};
use crate::trust::{Identity, Trust};
use crate::word;
use connect::Opener;
use line::Line;

pub use claims::ClaimsDesk;
pub use options::{
    ConnectError, Credentials, MIN_MAX_PAYLOAD, MemberFiles, NatsOptions, SERVER_FLOOR,
    START_TIMEOUT, Tls, Unfit,
};
pub use streams::{DUPLICATE_WINDOW, MAX_AGE, MAX_PLANS, PLAN_STREAM_BYTES, STREAM_BYTES};
pub use supervisor::{CHECK_INTERVAL, NatsHealth};

/// Messages that may wait for the bus server's acknowledgement at once.
pub const MAX_UNSTORED: usize = 256;
/// One service's connection to the bus server; clones are one.
#[derive(Clone)]
pub struct Nats {
    shared: Arc<Shared>,
}

struct Shared {
    /// The connection in use.
    line: watch::Sender<Arc<Line>>,
    opener: Opener,
    /// Whether connections have TLS.
    has_tls: bool,
    /// Held by whoever renews.
    renewing: Mutex<()>,
    subjects: Subjects,
    speaker: Speaker,
    identity: Identity,
    trust: Trust,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    instance: Option<String>,
    replicas: usize,
    ack_timeout: Duration,
    server_timeout: Duration,
    subscribe_timeout: Duration,
    refused: Counters,
    state: Arc<supervisor::State>,
    newest: newest::Newest,
    readers: backlog::Readers,
    /// Held for reading while a message is sent, for writing while the newest are sent again.
    order: RwLock<()>,
    closed: watch::Sender<bool>,
}

impl Nats {
    /// Connects, checks the bus server, and, as the gateway, makes the streams. Bus servers that start
    /// at the same time are waited for, and so is their leader.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses us or is not fit to be used.
    pub async fn connect(
        options: NatsOptions,
        identity: Identity,
        trust: Trust,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, ConnectError> {
        options::check_addresses(&options)?;
        let speaker = Speaker {
            role: identity.role(),
            host: identity.host(),
        };
        let state = Arc::new(supervisor::State::default());
        let opener = Opener::new(&options, &speaker, &state, &ids)?;
        let end = clock.monotonic().saturating_add(options.start_timeout);
        let (tls, offline) = (options.tls.as_ref(), options.begin_offline);
        let line = opener.first(tls, offline, (&*clock, end)).await?;
        let shared = Arc::new(Shared {
            line: watch::Sender::new(Arc::new(line)),
            opener,
            has_tls: options.tls.is_some(),
            renewing: Mutex::new(()),
            subjects: options.subjects,
            speaker,
            identity,
            trust,
            clock,
            ids,
            instance: options.instance,
            replicas: options.replicas,
            ack_timeout: options.ack_timeout,
            server_timeout: options.server_timeout,
            subscribe_timeout: options.subscribe_timeout,
            refused: Counters::default(),
            state,
            newest: newest::Newest::default(),
            readers: backlog::Readers::default(),
            order: RwLock::new(()),
            closed: watch::Sender::new(false),
        });
        if !options.begin_offline {
            shared.check_until(end).await?;
        }
        tokio::spawn(supervisor::run(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// This service's end.
    #[must_use]
    pub fn endpoint(&self) -> Arc<dyn Bus> {
        Arc::new(self.clone())
    }

    /// How many messages this end dropped, and why.
    #[must_use]
    pub fn refused(&self) -> RefusalCounts {
        self.shared.refused.snapshot()
    }

    /// How the connection is.
    #[must_use]
    pub fn health(&self) -> NatsHealth {
        self.shared.health()
    }

    /// How the connection is, for its instance's presence.
    #[must_use]
    pub fn end(&self) -> BusEnd {
        let health = self.health();
        let refused = |text| format!("the bus server refused something: {text}");
        BusEnd {
            connected: health.connected,
            server_version: health.server_version,
            connects: health.connects,
            refused: health.refused.total(),
            problem: health.problem.or_else(|| health.last_refusal.map(refused)),
        }
    }

    /// Rings whenever the connection was lost and is there again.
    #[must_use]
    pub fn connects(&self) -> watch::Receiver<u64> {
        self.shared.state.connects()
    }

    /// Goes on with fresh credentials: every connect from now on proves them, and a new connection
    /// takes over from the one in use without a message lost. While no bus server is there, the next
    /// connect counts.
    ///
    /// # Errors
    /// When they are none; then the old ones stay in use.
    pub async fn renew(&self, files: &MemberFiles<'_>) -> Result<(), ConnectError> {
        let shared = &self.shared;
        let _alone = shared.renewing.lock().await;
        let tls = shared.has_tls.then(|| files.tls());
        if let Some(tls) = &tls {
            tls::check(tls)?;
        }
        shared.opener.proof().hold(&files.credentials())?;
        let before = shared.line();
        if let (Some(shown), Some(tls)) = (before.shown(), &tls) {
            shown.replace(&tls.certificate, &tls.key)?;
        }
        let next = match shared.opener.next(tls.as_ref()).await {
            Ok(next) => next,
            Err(error) => {
                let reason = chain(&error);
                tracing::warn!(reason, "renewed credentials count from the next connect on");
                return Ok(());
            }
        };
        let was_connected = before.is_connected();
        before.retire();
        next.begin();
        shared.line.send_replace(Arc::new(next));
        shared.state.moved(was_connected);
        Ok(())
    }

    /// Ends every subscription and every wait, and sends what is on its way; what is sent afterwards
    /// is `Unavailable`.
    pub async fn shutdown(&self) {
        self.shared.closed.send_replace(true);
        let line = self.shared.line();
        // Nothing is left to be said to a server that is gone.
        if self.shared.is_connected() {
            line.wait_heard().await;
        }
        let _ = line.client.drain().await;
    }
}

/// An error with all that lay beneath it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl Shared {
    fn unavailable(text: impl Into<String>) -> PortError {
        PortError::new(ErrorKind::Unavailable, text)
    }

    fn check_open(&self) -> Result<(), PortError> {
        if *self.closed.borrow() {
            return Err(Self::unavailable("the bus is shut down"));
        }
        match self.state.problem() {
            Some(unfit) => Err(Self::unavailable(unfit.to_string())),
            None => Ok(()),
        }
    }

    /// The connection in use; whoever is under way keeps it until done.
    fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line.borrow())
    }

    fn is_connected(&self) -> bool {
        self.line().is_connected()
    }

    /// Comes back when the bus is shut down.
    async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives in `self`; an error cannot come.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    fn encode(
        &self,
        to: Receiver<'_>,
        id: [u8; 16],
        traceparent: Option<&str>,
        body: &Body,
    ) -> Result<Frame, EncodeError> {
        let heading = Heading {
            id,
            time: self.clock.now(),
            traceparent,
        };
        envelope::encode(&self.identity, to, heading, body)
    }

    fn refuse(&self, refusal: &Refusal, receiver: Receiver<'_>) {
        let now = self.clock.monotonic();
        self.refused.count(refusal, &receiver.word(), now);
    }

    /// The subject of a topic and the stream it is kept in; presence is in none.
    fn place(&self, topic: &Topic) -> (String, String) {
        let subjects = &self.subjects;
        match topic {
            Topic::Presence => (subjects.presence(&self.speaker), String::new()),
            Topic::Events => (subjects.events(), subjects.event_stream()),
            Topic::Audit => (subjects.audit(), subjects.audit_stream()),
            Topic::Work(role) => (subjects.work(*role), subjects.work_stream()),
            Topic::Plan(host) => (subjects.plan(*host), subjects.plan_stream()),
            Topic::Hosts => (subjects.hosts(), subjects.host_stream()),
        }
    }

    /// Sends a message to its topic and waits until it is stored.
    async fn store(&self, topic: &Topic, id: [u8; 16], frame: Frame) -> Result<(), PortError> {
        let name = word::of_topic(topic);
        let (subject, stream) = self.place(topic);
        let message = frame::to_publish(frame, id, &stream);
        let line = self.line();
        let stored = async {
            let ack = line.context.send_publish(subject, message).await?;
            ack.await
        };
        let stored = tokio::select! {
            () = self.until_closed() => return Err(Self::unavailable("the bus is shut down")),
            stored = stored => stored,
        };
        stored.map(drop).map_err(|error| {
            self.state.stall();
            let text = format!("{name}: the bus server did not store the message: {error}");
            PortError::caused(ErrorKind::Unavailable, text, error)
        })
    }
}

#[async_trait]
impl Bus for Nats {
    async fn publish(
        &self,
        topic: Topic,
        id: [u8; 16],
        traceparent: Option<String>,
        body: Body,
    ) -> Result<(), PortError> {
        let shared = &self.shared;
        let to = Receiver::Topic(&topic);
        let frame = shared.encode(to, id, traceparent.as_deref(), &body)?;
        if topic == Topic::Presence {
            return shared.say(frame).await;
        }
        shared.newest.keep(&topic, id, &frame);
        shared.check_open()?;
        if !shared.is_connected() {
            let text = "the bus server is not connected; the message is said again when it is";
            return Err(Shared::unavailable(text));
        }
        if shared.state.is_stalled() {
            let text = "the bus server stores nothing now; the message is said again when it does";
            return Err(Shared::unavailable(text));
        }
        let _order = shared.order.read().await;
        shared.store(&topic, id, frame).await?;
        shared.newest.stored(&topic, id);
        Ok(())
    }

    async fn subscribe(
        &self,
        topic: Topic,
        consumer: &str,
    ) -> Result<Box<dyn Subscription>, PortError> {
        if *self.shared.closed.borrow() {
            return Err(Shared::unavailable("the bus is shut down"));
        }
        check_reader(&self.shared.identity, &topic)?;
        if topic == Topic::Presence {
            let listener = presence::open(Arc::clone(&self.shared)).await?;
            return Ok(Box::new(listener));
        }
        let reader = subscription::open(Arc::clone(&self.shared), topic, consumer).await?;
        Ok(Box::new(reader))
    }

    async fn request(
        &self,
        to: Address,
        traceparent: Option<String>,
        body: Body,
        timeout: Duration,
    ) -> Result<Body, PortError> {
        let id = self.shared.ids.draw();
        let trace = traceparent.as_deref();
        let frame = self
            .shared
            .encode(Receiver::Request(to), id, trace, &body)?;
        self.shared.check_open()?;
        self.shared.ask(to, id, frame, timeout).await
    }

    fn set_turn(&self, ends: Duration) {
        let now = self.shared.clock.monotonic();
        self.shared.newest.set_turn(now, ends);
    }

    fn refuse_stale(&self, from: Source) {
        let now = self.shared.clock.monotonic();
        self.shared.refused.count_stale(&from, now);
    }

    async fn serve(&self, at: Address) -> Result<Box<dyn Requests>, PortError> {
        self.shared.check_open()?;
        check_may_serve(&self.shared.identity, at)?;
        Ok(Box::new(
            requests::open(Arc::clone(&self.shared), at).await?,
        ))
    }
}
