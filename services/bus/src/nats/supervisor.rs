//! Watches the connection: what the bus server says, whether it is fit, whether its streams are as
//! they must be, and what has to be said again.
//!
//! Invariants: everything is looked at after every connect and every [`CHECK_INTERVAL`]; while
//! something is not as it must be, nothing is sent and health says what and why. One message waits in
//! vain for a bus server that hangs, and no second one: whoever publishes must not hang with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Event;
use keywheel_core::audit::Role;
use tokio::sync::{Notify, watch};

use super::connect::START_PAUSE;
use super::options::{self, Unfit};
use super::{Shared, streams};
use crate::refusal::RefusalCounts;

/// How often the streams are compared with what was asked.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Between two looks that failures ask for.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Between two looks at a bus server that does not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How the connection to the bus server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsHealth {
    /// Whether there is one.
    pub connected: bool,
    /// What the bus server says it is; empty before the first connect.
    pub server_version: String,
    /// What is not as it must be.
    pub problem: Option<String>,
    /// The last thing the bus server refused, in its words: mostly a missing permission.
    pub last_refusal: Option<String>,
    /// Connects since the start.
    pub connects: u64,
    /// Times that messages came faster than they were taken.
    pub slow: u64,
    /// What this end dropped.
    pub refused: RefusalCounts,
}

/// What is known about the connection.
#[derive(Default)]
pub(super) struct State {
    connects: watch::Sender<u64>,
    slow: AtomicU64,
    stalled: AtomicBool,
    problem: Mutex<Option<Unfit>>,
    last_refusal: Mutex<Option<String>>,
    /// When each stream was made that is there.
    made: Mutex<BTreeMap<String, i128>>,
    look: Notify,
}

impl State {
    /// Takes what the client says.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.connects.send_modify(|connects| *connects += 1);
                self.look.notify_one();
                tracing::info!("bus server connected");
            }
            Event::Disconnected | Event::Closed => {
                tracing::warn!("bus server gone; connecting again");
            }
            Event::SlowConsumer(_) => {
                self.slow.fetch_add(1, Ordering::Relaxed);
            }
            Event::ServerError(error) => {
                let text = error.to_string();
                tracing::warn!(reason = text, "the bus server refused something");
                *lock(&self.last_refusal) = Some(text);
            }
            Event::ClientError(error) => tracing::debug!(reason = %error, "bus client"),
            Event::LameDuckMode | Event::Draining => {}
        }
    }

    /// Another connection took over: it is looked at, and nobody has to begin anew unless there was no
    /// connection before.
    pub(super) fn moved(&self, was_connected: bool) {
        self.connects.send_if_modified(|connects| {
            *connects += 1;
            !was_connected
        });
        self.look.notify_one();
        tracing::info!("bus server connected with renewed credentials");
    }

    pub(super) fn problem(&self) -> Option<Unfit> {
        lock(&self.problem).clone()
    }

    /// The last thing the bus server refused.
    pub(super) fn last_refusal(&self) -> Option<String> {
        lock(&self.last_refusal).clone()
    }

    /// Whether a stream is another one than at the last look.
    fn is_remade(&self, stream: &str, made: i128) -> bool {
        let before = lock(&self.made).insert(stream.to_owned(), made);
        before.is_some_and(|before| before != made)
    }

    /// Rings at every connect.
    pub(super) fn connects(&self) -> watch::Receiver<u64> {
        self.connects.subscribe()
    }

    /// A message was not stored: nothing more is sent until a look found the streams.
    pub(super) fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
        self.look.notify_one();
    }

    /// Whether the last message was not stored.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at everything until the bus is shut down.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    tick.reset();
    loop {
        tokio::select! {
            () = shared.until_closed() => return,
            () = shared.state.look.notified() => {}
            _ = tick.tick() => {}
        }
        let looked = match shared.is_connected() {
            true => shared.check().await,
            false => Ok(()),
        };
        match looked {
            Ok(()) => tokio::time::sleep(LOOK_PAUSE).await,
            Err(Unfit::Stream { stream, reason } | Unfit::StreamRefused { stream, reason }) => {
                tracing::warn!(stream, reason, "the bus server does not answer");
                tokio::time::sleep(RETRY_PAUSE).await;
                shared.state.look.notify_one();
            }
            Err(unfit) => {
                tracing::error!(reason = %unfit, "the bus server cannot be used");
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        }
    }
}

impl Shared {
    /// The same at a start: while a cluster has no leader its streams are asked for again, until `end`
    /// by the monotonic clock. Whatever else is not as it must be ends the wait.
    pub(super) async fn check_until(&self, end: Duration) -> Result<(), Unfit> {
        loop {
            match self.check().await {
                Err(Unfit::Stream { stream, reason }) if self.clock.monotonic() < end => {
                    tracing::warn!(
                        stream,
                        reason,
                        "no leader of the bus servers yet; trying again"
                    );
                    tokio::time::sleep(START_PAUSE).await;
                }
                checked => return checked,
            }
        }
    }

    /// Looks at the bus server; as the gateway also at its streams, and says again what they lost.
    pub(super) async fn check(&self) -> Result<(), Unfit> {
        let looked = self.look().await;
        let problem = match &looked {
            // An answer that did not come is no fault of a setting; the next look tells.
            Err(Unfit::Stream { .. }) => self.state.problem(),
            Err(unfit) => Some(unfit.clone()),
            Ok(()) => None,
        };
        *lock(&self.state.problem) = problem;
        looked?;
        self.state.stalled.store(false, Ordering::SeqCst);
        if self.speaker.role == Role::Gateway {
            self.say_again().await;
        }
        Ok(())
    }

    /// A stream that was made since the last look, here or by another gateway, lost what was in it.
    async fn look(&self) -> Result<(), Unfit> {
        let line = self.line();
        options::check_server(&line.client.server_info())?;
        if self.speaker.role != Role::Gateway {
            return Ok(());
        }
        for config in streams::wanted(&self.subjects, self.replicas) {
            let made = streams::ensure(&line.context, &config).await?;
            if self.state.is_remade(&config.name, made) {
                self.newest.lost(|topic| self.place(topic).1 == config.name);
            }
        }
        Ok(())
    }

    async fn say_again(&self) {
        let _order = self.order.write().await;
        for (topic, id, frame) in self.newest.unsaid(self.clock.monotonic()) {
            match self.store(&topic, id, frame).await {
                Ok(()) => self.newest.stored(&topic, id),
                Err(error) => {
                    tracing::warn!(?topic, error = %error, "message not said again");
                    return;
                }
            }
        }
    }

    pub(super) fn health(&self) -> NatsHealth {
        let (state, line) = (&self.state, self.line());
        NatsHealth {
            connected: line.is_connected(),
            server_version: line.client.server_info().version,
            problem: state.problem().map(|unfit| unfit.to_string()),
            last_refusal: state.last_refusal(),
            connects: *state.connects.borrow(),
            slow: state.slow.load(Ordering::Relaxed),
            refused: self.refused.snapshot(),
        }
    }
}
