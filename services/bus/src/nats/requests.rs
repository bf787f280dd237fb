//! Requests and answers over core NATS; the servers of one address share the work.
//!
//! Invariants: a request comes in under its sender's own subject, or it is refused; a request is
//! handed on once per id while it counts as fresh; an answer is taken only for the question it names.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{RequestErrorKind, Subscriber};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use keywheel_engine::authority;
use keywheel_engine::port::bus::{Address, Body, Message, Request, Requests, UNSENT};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::subject::{Client as Speaker, role_word};
use tokio::sync::watch;

use super::line::Line;
use super::{Shared, frame};
use crate::envelope::{Frame, Receiver};
use crate::refusal::Refusal;
use crate::window::{IdWindow, REQUEST_WINDOW};
use crate::word;

impl Shared {
    /// Sends a request and waits for its answer.
    pub(super) async fn ask(
        &self,
        to: Address,
        id: [u8; 16],
        frame: Frame,
        timeout: Duration,
    ) -> Result<Body, PortError> {
        let name = word::of_address(to);
        let subject = self
            .subjects
            .request(authority::server_of(to), &self.speaker);
        let request = async_nats::Request::new()
            .headers(frame::headers(&frame))
            .payload(frame.document.into())
            .timeout(Some(timeout));
        let line = self.line();
        let answered = tokio::select! {
            () = self.until_closed() => return Err(Self::unavailable("the bus is shut down")),
            answered = line.client.send_request(subject, request) => answered,
        };
        let answer = answered.map_err(|error| {
            let text = match error.kind() {
                RequestErrorKind::NoResponders => {
                    format!("no {name} is running; start it and try again")
                }
                _ if !self.is_connected() => {
                    format!("{name} was not asked: the bus server is not connected")
                }
                RequestErrorKind::TimedOut => format!("{name} did not answer within {timeout:?}"),
                _ => format!("{name} was not asked: {error}"),
            };
            Self::unavailable(text)
        })?;
        let receiver = Receiver::Answer(to, id);
        match frame::read(&self.trust, receiver, self.clock.now(), &answer) {
            Ok(message) => Ok(message.body),
            Err(refusal) => {
                self.refuse(&refusal, receiver);
                let text = format!("an answer of {name} was refused");
                Err(PortError::caused(ErrorKind::Unavailable, text, refusal))
            }
        }
    }
}

/// How long requests still come over a connection that another took over from: in a cluster it takes a
/// moment until every server knows of the new one.
const OVERLAP: Duration = Duration::from_secs(1);

/// Listens at an address.
pub(super) async fn open(shared: Arc<Shared>, at: Address) -> Result<Server, PortError> {
    let ear = Ear::open(&shared, at).await?;
    Ok(Server {
        lines: shared.line.subscribe(),
        shared,
        at,
        ear,
        before: None,
        asked: IdWindow::of(REQUEST_WINDOW),
    })
}

/// A subscription with its connection.
struct Ear {
    subscriber: Subscriber,
    line: Arc<Line>,
}

impl Ear {
    async fn open(shared: &Shared, at: Address) -> Result<Self, PortError> {
        let server = authority::server_of(at);
        let subject = shared.subjects.requests(server);
        let line = shared.line();
        let opened = line
            .client
            .queue_subscribe(subject, role_word(server).to_owned());
        let subscriber = opened.await.map_err(|error| {
            let text = format!("requests to {} not opened", word::of_address(at));
            PortError::caused(ErrorKind::Unavailable, text, error)
        })?;
        // Its answer shows that the subscription before it arrived; without a server it comes later.
        let _ = line.context.query_account().await;
        Ok(Self { subscriber, line })
    }
}

/// One server of an address.
pub(super) struct Server {
    shared: Arc<Shared>,
    at: Address,
    lines: watch::Receiver<Arc<Line>>,
    ear: Ear,
    /// On the connection before, until it has told all.
    before: Option<Before>,
    asked: IdWindow,
}

/// A subscription that ends.
struct Before {
    ear: Ear,
    /// On the monotonic clock.
    drain_at: Duration,
    is_drained: bool,
}

impl Before {
    /// Its next request; `None` when no more come.
    async fn next(&mut self, clock: &dyn Clock) -> Option<async_nats::Message> {
        loop {
            if self.is_drained {
                return self.ear.subscriber.next().await;
            }
            let left = self.drain_at.saturating_sub(clock.monotonic());
            tokio::select! {
                biased;
                received = self.ear.subscriber.next() => return received,
                () = tokio::time::sleep(left) => {
                    self.ear.subscriber.drain().await.ok()?;
                    self.is_drained = true;
                }
            }
        }
    }
}

/// What a server hears.
enum Heard {
    Closed,
    /// Another connection is in use.
    Moved,
    /// Nothing more comes over the connection before.
    Quiet,
    Request(async_nats::Message, Arc<Line>),
}

impl Server {
    /// Listens on the connection in use, and still on the one before. May be cancelled.
    async fn move_over(&mut self) {
        match Ear::open(&self.shared, self.at).await {
            Ok(ear) => {
                self.before = Some(Before {
                    ear: std::mem::replace(&mut self.ear, ear),
                    drain_at: self.shared.clock.monotonic() + OVERLAP,
                    is_drained: false,
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "requests not moved to the new connection yet");
                tokio::time::sleep(OVERLAP).await;
            }
        }
    }

    async fn hear(&mut self) -> Heard {
        let Self {
            shared,
            lines,
            ear,
            before,
            ..
        } = self;
        let earlier = async {
            match before.as_mut() {
                None => std::future::pending().await,
                Some(before) => (
                    before.next(&*shared.clock).await,
                    Arc::clone(&before.ear.line),
                ),
            }
        };
        tokio::select! {
            biased;
            () = shared.until_closed() => Heard::Closed,
            _ = lines.changed() => Heard::Moved,
            (received, line) = earlier => {
                received.map_or(Heard::Quiet, |message| Heard::Request(message, line))
            }
            received = ear.subscriber.next() => match received {
                None => Heard::Closed,
                Some(message) => Heard::Request(message, Arc::clone(&ear.line)),
            },
        }
    }

    fn admit(&mut self, received: &async_nats::Message) -> Result<Message, Refusal> {
        let shared = &self.shared;
        let receiver = Receiver::Request(self.at);
        let message = frame::read(&shared.trust, receiver, shared.clock.now(), received)?;
        let sender = Speaker {
            role: message.sender,
            host: message.host,
        };
        let own = shared
            .subjects
            .request(authority::server_of(self.at), &sender);
        if *received.subject != *own {
            return Err(Refusal::WrongReceiver);
        }
        if self.asked.insert(message.id, 0).is_some() {
            return Err(Refusal::Replayed);
        }
        Ok(message)
    }
}

#[async_trait]
impl Requests for Server {
    async fn next(&mut self) -> Option<Box<dyn Request>> {
        loop {
            if self.ear.line.number != self.shared.line().number {
                self.move_over().await;
                continue;
            }
            let (received, line) = match self.hear().await {
                Heard::Closed => return None,
                Heard::Moved => continue,
                Heard::Quiet => {
                    self.before = None;
                    continue;
                }
                Heard::Request(received, line) => (received, line),
            };
            match self.admit(&received) {
                Ok(message) => {
                    return Some(Box::new(Question {
                        shared: Arc::clone(&self.shared),
                        line,
                        at: self.at,
                        message,
                        reply: received.reply,
                    }));
                }
                Err(refusal) => self.shared.refuse(&refusal, Receiver::Request(self.at)),
            }
        }
    }
}

/// A request that waits for its answer.
struct Question {
    shared: Arc<Shared>,
    /// The one it came over: the bus server lets its answer pass on no other.
    line: Arc<Line>,
    at: Address,
    message: Message,
    reply: Option<async_nats::Subject>,
}

impl Question {
    fn write(&self, body: &Body) -> Result<Frame, PortError> {
        let to = Receiver::Answer(self.at, self.message.id);
        let trace = self.message.traceparent.as_deref();
        Ok(self.shared.encode(to, self.message.id, trace, body)?)
    }
}

#[async_trait]
impl Request for Question {
    fn message(&self) -> &Message {
        &self.message
    }

    async fn answer(self: Box<Self>, body: Body) -> Result<(), PortError> {
        let (frame, result) = match self.write(&body) {
            Ok(frame) => (frame, Ok(())),
            Err(error) => {
                // The asker learns at once what it would otherwise wait for in vain.
                let failed = Body::Failed {
                    kind: ErrorKind::Denied,
                    text: format!("{UNSENT}: {error}"),
                };
                (self.write(&failed)?, Err(error))
            }
        };
        let reply = self.reply.clone();
        let reply = reply.ok_or_else(|| Shared::unavailable("nobody waits for an answer"))?;
        let headers = frame::headers(&frame);
        let client = &self.line.client;
        let sent = client.publish_with_headers(reply, headers, frame.document.into());
        sent.await.map_err(|error| {
            PortError::caused(ErrorKind::Unavailable, "the answer was not sent", error)
        })?;
        result
    }
}
