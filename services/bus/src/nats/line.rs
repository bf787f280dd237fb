//! One connection to the bus server, and how the next one takes over from it.
//!
//! Renewed credentials count from the next connect on. So that nothing is lost meanwhile, the next
//! connection stands before the one in use is left: what is under way ends where it began, what begins
//! takes the new one, and the old one closes when nobody uses it any more. Invariant: what is still to
//! be sent on a connection is sent before it closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;

use super::{MAX_UNSTORED, supervisor, tls};

/// How long the last words on a connection may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One connection.
pub(super) struct Line {
    pub(super) client: Client,
    pub(super) context: Context,
    /// Counts the connections of this process.
    pub(super) number: u64,
    shown: Option<Arc<tls::Shown>>,
    standing: Arc<Standing>,
}

impl Line {
    pub(super) fn new(
        client: Client,
        shown: Option<Arc<tls::Shown>>,
        standing: Arc<Standing>,
        number: u64,
        server_timeout: Duration,
    ) -> Self {
        let context = ContextBuilder::new()
            .timeout(server_timeout)
            .ack_timeout(server_timeout)
            .max_ack_inflight(MAX_UNSTORED)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Self {
            client,
            context,
            number,
            shown,
            standing,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// The certificate it shows at its next connect.
    pub(super) fn shown(&self) -> Option<&tls::Shown> {
        self.shown.as_deref()
    }

    /// It is the one in use from now on.
    pub(super) fn begin(&self) {
        self.standing.in_use.store(true, Ordering::SeqCst);
    }

    /// Waits until the bus server has all that was said.
    pub(super) async fn wait_heard(&self) {
        wait_heard(&self.context).await;
    }

    /// Another one is in use from now on.
    pub(super) fn retire(&self) {
        self.standing.in_use.store(false, Ordering::SeqCst);
    }
}

/// Its answer comes after what was said before the question. A connection that is closed earlier may take with it what
/// is on its way, and a drain does not wait for that.
async fn wait_heard(context: &Context) {
    let _ = tokio::time::timeout(LAST_WORDS, context.query_account()).await;
}

impl Drop for Line {
    fn drop(&mut self) {
        self.retire();
        let (client, context) = (self.client.clone(), self.context.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            // A server that is gone hears nothing more.
            wait_heard(&context).await;
            let _ = client.drain().await;
        });
    }
}

/// Whether what a connection says about itself matters.
pub(super) struct Standing {
    in_use: AtomicBool,
    /// Its first connect is no news: whoever opened it waited for that.
    is_awaited: AtomicBool,
}

impl Standing {
    /// Of the first connection.
    pub(super) fn first() -> Arc<Self> {
        Arc::new(Self {
            in_use: AtomicBool::new(true),
            is_awaited: AtomicBool::new(false),
        })
    }

    /// Of one that takes over later.
    pub(super) fn next() -> Arc<Self> {
        Arc::new(Self {
            in_use: AtomicBool::new(false),
            is_awaited: AtomicBool::new(true),
        })
    }

    /// Takes what the client says.
    pub(super) fn note(&self, state: &supervisor::State, event: &async_nats::Event) {
        let is_connect = matches!(event, async_nats::Event::Connected);
        if is_connect && self.is_awaited.swap(false, Ordering::SeqCst) {
            return;
        }
        if self.in_use.load(Ordering::SeqCst) {
            state.note(event);
        }
    }
}
