//! Reading a topic: a durable pull consumer, messages verified before they are handed on.
//!
//! Invariants: nothing is asked from the bus server before `next` is called, so a slow consumer's
//! place is in the stream and not in a buffer; `next` may be cancelled at any time without losing a
//! message; what is dropped unacknowledged is due again. Sequence numbers handed out only grow, also
//! when the bus server lost the stream and numbers anew: the first message after that shows a hole.

mod consumer;
mod place;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::{Batch, BatchError};
use async_nats::jetstream::message::{AckKind, Acker};
use async_nats::jetstream::{self};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use keywheel_engine::port::bus::{Incoming, Subscription, Topic};
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::sync::watch;

use super::backlog::Listed;
use super::line::Line;
use super::{Shared, frame};
use crate::envelope::Receiver;
use crate::refusal::Refusal;
use crate::window::{ID_WINDOW, IdWindow};
use consumer::Wanted;
use place::Place;

/// Messages asked for at once, when some wait already.
const BATCH: usize = 64;
/// How long the bus server holds a question for the next message; then it says that none came.
const WAIT: Duration = Duration::from_secs(10);
/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// One consumer's view of a topic.
pub(super) struct Reader {
    shared: Arc<Shared>,
    topic: Topic,
    wanted: Arc<Wanted>,
    consumer: PullConsumer,
    /// The connection of the consumer.
    line: Arc<Line>,
    pull: Pull,
    connects: watch::Receiver<u64>,
    place: Place,
    admitted: IdWindow,
    pending: BTreeMap<u64, (Acker, Arc<Line>)>,
    pause: Duration,
    _listed: Listed,
}

/// What was asked from the bus server.
enum Pull {
    /// Where the consumer is; nothing is asked from one that may be gone.
    Reopening(BoxFuture<'static, Reopened>),
    /// Nothing; the next question is for what waits already, or for one that may come.
    None { waiting: bool },
    /// A question on its way.
    Asking {
        asked: BoxFuture<'static, Result<Batch, BatchError>>,
        waiting: bool,
    },
    /// Messages that come.
    Coming {
        batch: Batch,
        since: Duration,
        waiting: bool,
        taken: usize,
    },
}

/// The consumer found again, where it stands, and over which connection.
struct Reopened {
    place: Place,
    line: Arc<Line>,
    consumer: Result<PullConsumer, PortError>,
}

/// What to do after a step of reading.
enum Step {
    Handed(Box<Incoming>),
    Again,
    Recover,
}

/// Opens a consumer, waiting for the stream as long as options allow.
pub(super) async fn open(
    shared: Arc<Shared>,
    topic: Topic,
    consumer: &str,
) -> Result<Reader, PortError> {
    let connects = shared.state.connects();
    let wanted = Wanted::of(&shared, &topic, consumer);
    let mut place = Place::default();
    let line = shared.line();
    let opened = wanted.open_within(&shared, &mut place, shared.subscribe_timeout);
    let consumer = tokio::select! {
        () = shared.until_closed() => return Err(Shared::unavailable("the bus is shut down")),
        opened = opened => opened?,
    };
    let listed = wanted.listed(&shared, &topic);
    Ok(Reader {
        topic,
        wanted: Arc::new(wanted),
        consumer,
        line,
        pull: Pull::None { waiting: false },
        connects,
        place,
        admitted: IdWindow::of(ID_WINDOW),
        pending: BTreeMap::new(),
        pause: PAUSE.0,
        _listed: listed,
        shared,
    })
}

impl Shared {
    /// When a question is lost that nobody answered, as one is that a starting bus server drops. It answers at
    /// once about what waits already, and about what may come when [`WAIT`] is over at the latest; whatever
    /// is later than that by its own timeout does not come.
    fn lost_after(&self, waiting: bool) -> Duration {
        match waiting {
            true => WAIT + self.server_timeout,
            false => self.server_timeout,
        }
    }
}

impl Reader {
    /// Asks for messages: several where some wait, one where none did. Work is taken one at a time,
    /// so that several workers share it.
    fn ask(&self, waiting: bool) -> Pull {
        let consumer = self.consumer.clone();
        let batch = if matches!(self.topic, Topic::Work(_)) {
            1
        } else {
            BATCH
        };
        let asked = async move {
            if waiting {
                consumer
                    .batch()
                    .max_messages(1)
                    .expires(WAIT)
                    .messages()
                    .await
            } else {
                consumer.fetch().max_messages(batch).messages().await
            }
        };
        Pull::Asking {
            asked: asked.boxed(),
            waiting,
        }
    }

    async fn step(&mut self) -> Step {
        match &mut self.pull {
            Pull::Reopening(reopening) => {
                let reopened = reopening.await;
                self.reopened(reopened)
            }
            // What was asked over the connection before has come; the next question takes the new one.
            Pull::None { .. } if self.line.number != self.shared.line().number => {
                self.reopen_after(Duration::ZERO);
                Step::Again
            }
            Pull::None { waiting } => {
                let waiting = *waiting;
                self.pull = self.ask(waiting);
                Step::Again
            }
            Pull::Asking { asked, waiting } => {
                let (asked, waiting) = (asked.await, *waiting);
                let Ok(batch) = asked else {
                    return Step::Recover;
                };
                self.pull = Pull::Coming {
                    batch,
                    since: self.shared.clock.monotonic(),
                    waiting,
                    taken: 0,
                };
                Step::Again
            }
            Pull::Coming {
                batch,
                since,
                waiting,
                taken,
            } => {
                let age = self.shared.clock.monotonic().saturating_sub(*since);
                if !*waiting && age > self.shared.ack_timeout {
                    // What is left in the batch is due again by now; it comes with the next one.
                    self.pull = Pull::None { waiting: false };
                    return Step::Again;
                }
                let patience = self.shared.lost_after(*waiting).saturating_sub(age);
                let Ok(next) = tokio::time::timeout(patience, batch.next()).await else {
                    return Step::Recover;
                };
                match next {
                    Some(Ok(message)) => {
                        *taken += 1;
                        self.take(message)
                    }
                    Some(Err(error)) => {
                        tracing::debug!(error = %error, "pull ended");
                        Step::Recover
                    }
                    None => {
                        let waiting = *taken == 0 && !*waiting;
                        self.pull = Pull::None { waiting };
                        Step::Again
                    }
                }
            }
        }
    }

    /// Verifies a message; a refused one is done with and delays no other.
    fn take(&mut self, message: jetstream::Message) -> Step {
        self.pause = PAUSE.0;
        let Ok(info) = message.info() else {
            return Step::Again;
        };
        let redelivered = info.delivered > 1;
        let sequence = self.place.sequence(info.stream_sequence);
        let (message, acker) = message.split();
        match self.admit(sequence, &message) {
            Ok(message) => {
                self.pending
                    .insert(sequence, (acker, Arc::clone(&self.line)));
                Step::Handed(Box::new(Incoming {
                    sequence,
                    redelivered,
                    message,
                }))
            }
            Err(refusal) => {
                self.shared.refuse(&refusal, Receiver::Topic(&self.topic));
                // When it does not arrive, the message comes again and is refused again.
                tokio::spawn(async move { acker.ack_with(AckKind::Term).await });
                Step::Again
            }
        }
    }

    fn admit(
        &mut self,
        sequence: u64,
        message: &async_nats::Message,
    ) -> Result<keywheel_engine::port::bus::Message, Refusal> {
        let receiver = Receiver::Topic(&self.topic);
        let now = self.shared.clock.now();
        let message = frame::read(&self.shared.trust, receiver, now, message)?;
        match self.admitted.insert(message.id, sequence) {
            Some(first) if first != sequence => Err(Refusal::Replayed),
            _ => Ok(message),
        }
    }

    /// Looks for the consumer again, after a pause that grows from failure to failure.
    fn recover(&mut self) {
        let pause = self.pause;
        self.pause = (self.pause * 2).min(PAUSE.1);
        self.reopen_after(pause);
    }

    fn reopen_after(&mut self, pause: Duration) {
        let (shared, wanted) = (Arc::clone(&self.shared), Arc::clone(&self.wanted));
        let mut place = self.place.clone();
        let reopening = async move {
            tokio::time::sleep(pause).await;
            let line = shared.line();
            let consumer = wanted.reopen(&shared, &mut place).await;
            Reopened {
                place,
                line,
                consumer,
            }
        };
        self.pull = Pull::Reopening(reopening.boxed());
    }

    fn reopened(&mut self, reopened: Reopened) -> Step {
        self.place = reopened.place;
        if self.place.take_news() {
            // What the stream held is said again; it is no copy that somebody kept.
            self.admitted = IdWindow::of(ID_WINDOW);
            self.pending.clear();
        }
        match reopened.consumer {
            Ok(consumer) => {
                self.consumer = consumer;
                self.line = reopened.line;
                self.pull = Pull::None { waiting: false };
                Step::Again
            }
            Err(error) => {
                tracing::debug!(topic = ?self.topic, error = %error, "consumer not found yet");
                Step::Recover
            }
        }
    }

    async fn answer(&mut self, sequence: u64, kind: AckKind) -> Result<(), PortError> {
        let Some((acker, _)) = self.pending.get(&sequence) else {
            return Ok(());
        };
        // Work that is done twice costs most, so its acknowledgement is acknowledged.
        let is_work = matches!((&self.topic, kind), (Topic::Work(_), AckKind::Ack));
        let sent = if is_work {
            acker.double_ack_with(kind).await
        } else {
            acker.ack_with(kind).await
        };
        sent.map_err(|error| {
            let text = "not acknowledged; the message comes again";
            PortError::caused(ErrorKind::Unavailable, text, error)
        })?;
        self.pending.remove(&sequence);
        Ok(())
    }
}

#[async_trait]
impl Subscription for Reader {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            tokio::task::coop::consume_budget().await;
            if *self.shared.closed.borrow() {
                return None;
            }
            let shared = Arc::clone(&self.shared);
            let mut connects = self.connects.clone();
            let step = tokio::select! {
                biased;
                () = shared.until_closed() => return None,
                // A question may be lost with its connection; ask anew.
                _ = connects.changed() => {
                    self.connects.mark_unchanged();
                    self.reopen_after(Duration::ZERO);
                    Step::Again
                }
                step = self.step() => step,
            };
            match step {
                Step::Handed(incoming) => return Some(*incoming),
                Step::Again => {}
                Step::Recover => self.recover(),
            }
        }
    }

    async fn ack(&mut self, sequence: u64) -> Result<(), PortError> {
        self.answer(sequence, AckKind::Ack).await
    }

    async fn nak(&mut self, sequence: u64, delay: Duration) -> Result<(), PortError> {
        let delay = (!delay.is_zero()).then_some(delay);
        self.answer(sequence, AckKind::Nak(delay)).await
    }
}

impl Drop for Reader {
    /// What was taken and not acknowledged is due at once, not after the timeout.
    fn drop(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let mut held: Vec<(Acker, Arc<Line>)> = pending.into_values().collect();
        if let Pull::Coming { batch, .. } = &mut self.pull {
            while let Some(Some(Ok(message))) = batch.next().now_or_never() {
                held.push((message.split().1, Arc::clone(&self.line)));
            }
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for (acker, _line) in held {
                    if acker.ack_with(AckKind::Nak(None)).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}
