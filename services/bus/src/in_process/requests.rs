//! Requests and answers. Several servers of one address take turns.
//!
//! Invariants: a request and its answer are both signed, and an answer names the request it belongs
//! to, so it fits no other; at most [`MAX_WAITING_REQUESTS`] wait per server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::port::bus::{Address, Body, Message, Request, Requests, UNSENT};
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::sync::{mpsc, oneshot};

use super::{Shared, lock};
use crate::envelope::{EncodeError, Frame, Receiver};
use crate::refusal::Refusal;
use crate::trust::Identity;
use crate::window::{IdWindow, REQUEST_WINDOW};
use crate::word;

/// Requests that may wait for one server.
pub const MAX_WAITING_REQUESTS: usize = 1024;

/// A request on its way, and where its answer goes.
pub(super) struct Asked {
    frame: Arc<Frame>,
    reply: oneshot::Sender<Arc<Frame>>,
}

/// Everyone who serves one address.
#[derive(Default)]
pub(super) struct Servers {
    queues: Vec<mpsc::Sender<Asked>>,
    turn: usize,
}

impl Servers {
    /// The server whose turn it is, without those that are gone.
    fn choose(&mut self) -> Option<mpsc::Sender<Asked>> {
        self.queues.retain(|queue| !queue.is_closed());
        self.turn = self.turn.wrapping_add(1);
        let index = self.turn.checked_rem(self.queues.len())?;
        self.queues.get(index).cloned()
    }
}

impl Shared {
    /// Puts a request before a server.
    pub(super) fn ask(
        &self,
        to: Address,
        frame: Arc<Frame>,
    ) -> Result<oneshot::Receiver<Arc<Frame>>, PortError> {
        let server = lock(&self.servers).get_mut(&to).and_then(Servers::choose);
        let name = word::of_address(to);
        let unavailable = |text| PortError::new(ErrorKind::Unavailable, text);
        let server = server
            .ok_or_else(|| unavailable(format!("no {name} is running; start it and try again")))?;
        let (reply, answer) = oneshot::channel();
        server.try_send(Asked { frame, reply }).map_err(|_| {
            unavailable(format!(
                "{name} is busy: {MAX_WAITING_REQUESTS} requests wait for it; try again later"
            ))
        })?;
        Ok(answer)
    }

    /// Waits for an answer and verifies it.
    pub(super) async fn await_answer(
        &self,
        from: Address,
        id: [u8; 16],
        answer: oneshot::Receiver<Arc<Frame>>,
        timeout: Duration,
    ) -> Result<Body, PortError> {
        let name = word::of_address(from);
        let unavailable = |text| PortError::new(ErrorKind::Unavailable, text);
        let Ok(answered) = tokio::time::timeout(timeout, answer).await else {
            return Err(unavailable(format!(
                "{name} did not answer within {timeout:?}"
            )));
        };
        let frame = answered.map_err(|_| unavailable(format!("{name} gave no answer")))?;
        let receiver = Receiver::Answer(from, id);
        match self.decode(receiver, &frame) {
            Ok(message) => Ok(message.body),
            Err(refusal) => {
                self.refuse(&refusal, receiver);
                let text = format!("an answer of {name} was refused");
                Err(PortError::caused(ErrorKind::Unavailable, text, refusal))
            }
        }
    }

    /// Opens a server's queue.
    pub(super) fn serve(
        self: &Arc<Self>,
        at: Address,
        identity: &Arc<Identity>,
    ) -> Box<dyn Requests> {
        let (queue, waiting) = mpsc::channel(MAX_WAITING_REQUESTS);
        lock(&self.servers)
            .entry(at)
            .or_default()
            .queues
            .push(queue);
        Box::new(Server {
            shared: Arc::clone(self),
            identity: Arc::clone(identity),
            at,
            waiting,
            asked: IdWindow::of(REQUEST_WINDOW),
        })
    }
}

/// One server of an address.
struct Server {
    shared: Arc<Shared>,
    identity: Arc<Identity>,
    at: Address,
    waiting: mpsc::Receiver<Asked>,
    asked: IdWindow,
}

impl Server {
    fn admit(&mut self, frame: &Frame) -> Result<Message, Refusal> {
        let message = self.shared.decode(Receiver::Request(self.at), frame)?;
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
            let asked = self.waiting.recv().await?;
            match self.admit(&asked.frame) {
                Ok(message) => {
                    return Some(Box::new(Question {
                        shared: Arc::clone(&self.shared),
                        identity: Arc::clone(&self.identity),
                        at: self.at,
                        message,
                        reply: asked.reply,
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
    identity: Arc<Identity>,
    at: Address,
    message: Message,
    reply: oneshot::Sender<Arc<Frame>>,
}

impl Question {
    fn write(&self, body: &Body) -> Result<Arc<Frame>, EncodeError> {
        let to = Receiver::Answer(self.at, self.message.id);
        let trace = self.message.traceparent.as_deref();
        self.shared
            .encode(&self.identity, to, self.message.id, trace, body)
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
                (self.write(&failed)?, Err(PortError::from(error)))
            }
        };
        self.reply.send(frame).map_err(|_| {
            PortError::new(
                ErrorKind::Unavailable,
                "whoever asked does not wait any more",
            )
        })?;
        result
    }
}
