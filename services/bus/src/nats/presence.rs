//! Presence over core NATS: in no stream, to every gateway that listens now.
//!
//! Invariants: an instance speaks only under its own client's subject; a word is handed on once, and
//! only while it is of now. What nobody hears is lost without harm.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use keywheel_engine::port::bus::{Incoming, Message, Subscription, Topic};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::subject::Client as Speaker;
use tokio::sync::watch;

use super::line::Line;
use super::{Shared, frame};
use crate::envelope::{Frame, Receiver};
use crate::refusal::Refusal;
use crate::window::{IdWindow, REQUEST_WINDOW};

const TOPIC: Receiver<'static> = Receiver::Topic(&Topic::Presence);

impl Shared {
    /// Says it to whoever listens now. A bus server that is not as it must be still carries this.
    pub(super) async fn say(&self, frame: Frame) -> Result<(), PortError> {
        if *self.closed.borrow() || !self.is_connected() {
            let text = "presence not told: the bus server is not connected";
            return Err(Self::unavailable(text));
        }
        let headers = frame::headers(&frame);
        let subject = self.subjects.presence(&self.speaker);
        let payload = frame.document.into();
        let line = self.line();
        let said = line.client.publish_with_headers(subject, headers, payload);
        said.await
            .map_err(|error| PortError::caused(ErrorKind::Unavailable, "presence not told", error))
    }
}

/// Pause before it listens anew, when another connection is in use and does not serve.
const RETRY: Duration = Duration::from_secs(1);

/// Listens from now on.
pub(super) async fn open(shared: Arc<Shared>) -> Result<Listener, PortError> {
    let ear = Ear::open(&shared).await?;
    Ok(Listener {
        lines: shared.line.subscribe(),
        shared,
        ear,
        heard: IdWindow::of(REQUEST_WINDOW),
        sequence: 0,
    })
}

/// A subscription with its connection.
struct Ear {
    subscriber: Subscriber,
    line: Arc<Line>,
}

impl Ear {
    async fn open(shared: &Shared) -> Result<Self, PortError> {
        let line = shared.line();
        let opened = line.client.subscribe(shared.subjects.all_presence()).await;
        let subscriber = opened.map_err(|error| {
            PortError::caused(ErrorKind::Unavailable, "presence not listened to", error)
        })?;
        // Its answer shows that the subscription before it arrived; without a server it comes later.
        let _ = line.context.query_account().await;
        Ok(Self { subscriber, line })
    }
}

/// Hears everyone.
pub(super) struct Listener {
    shared: Arc<Shared>,
    lines: watch::Receiver<Arc<Line>>,
    ear: Ear,
    heard: IdWindow,
    sequence: u64,
}

impl Listener {
    fn admit(&mut self, received: &async_nats::Message) -> Result<Message, Refusal> {
        let shared = &self.shared;
        let message = frame::read(&shared.trust, TOPIC, shared.clock.now(), received)?;
        let sender = Speaker {
            role: message.sender,
            host: message.host,
        };
        if *received.subject != *shared.subjects.presence(&sender) {
            return Err(Refusal::WrongReceiver);
        }
        if self.heard.insert(message.id, 0).is_some() {
            return Err(Refusal::Replayed);
        }
        Ok(message)
    }
}

#[async_trait]
impl Subscription for Listener {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            if self.ear.line.number != self.shared.line().number {
                // What is said meanwhile is said again with the next beat.
                match Ear::open(&self.shared).await {
                    Ok(ear) => self.ear = ear,
                    Err(error) => {
                        tracing::warn!(error = %error, "presence not heard over the new connection yet");
                        tokio::time::sleep(RETRY).await;
                    }
                }
                continue;
            }
            let received = tokio::select! {
                biased;
                () = self.shared.until_closed() => return None,
                _ = self.lines.changed() => continue,
                received = self.ear.subscriber.next() => received?,
            };
            match self.admit(&received) {
                Ok(message) => {
                    self.sequence += 1;
                    return Some(Incoming {
                        sequence: self.sequence,
                        redelivered: false,
                        message,
                    });
                }
                Err(refusal) => self.shared.refuse(&refusal, TOPIC),
            }
        }
    }

    /// Nothing is kept, so nothing has to be done with.
    async fn ack(&mut self, _: u64) -> Result<(), PortError> {
        Ok(())
    }

    /// Nothing comes again.
    async fn nak(&mut self, _: u64, _: Duration) -> Result<(), PortError> {
        Ok(())
    }
}
