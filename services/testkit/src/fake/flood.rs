//! Requests that come all at once and whose answers wait: shows how many a service takes on at a time.
//!
//! Law of the port: a request is answered once. Nothing here ends by time; a test says when an answer
//! is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Body, Message, Request, Requests};
use tokio::sync::Semaphore;

/// Turns that everybody else gets before a count is believed.
const TURNS: usize = 2000;

/// What a test holds of a flood. Clones are one.
#[derive(Clone)]
pub struct Flood {
    begun: Arc<AtomicUsize>,
    may_end: Arc<Semaphore>,
}

struct Waiting {
    message: Message,
    flood: Flood,
}

struct Coming {
    message: Message,
    left: usize,
    flood: Flood,
}

impl Flood {
    /// So many copies of a message; the test's end and the service's.
    #[must_use]
    pub fn of(message: Message, count: usize) -> (Self, Box<dyn Requests>) {
        let flood = Self {
            begun: Arc::default(),
            may_end: Arc::new(Semaphore::new(0)),
        };
        let coming = Coming {
            message,
            left: count,
            flood: flood.clone(),
        };
        (flood, Box::new(coming))
    }

    /// How many answers the service has begun once nothing moves any more; needs a runtime of one
    /// thread.
    pub async fn settled(&self) -> usize {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        self.begun.load(Ordering::Relaxed)
    }

    /// So many answers end.
    pub fn end(&self, count: usize) {
        self.may_end.add_permits(count);
    }
}

#[async_trait]
impl Request for Waiting {
    fn message(&self) -> &Message {
        &self.message
    }

    async fn answer(self: Box<Self>, _: Body) -> Result<(), PortError> {
        self.flood.begun.fetch_add(1, Ordering::Relaxed);
        if let Ok(permit) = self.flood.may_end.acquire().await {
            permit.forget();
        }
        Ok(())
    }
}

#[async_trait]
impl Requests for Coming {
    async fn next(&mut self) -> Option<Box<dyn Request>> {
        self.left = self.left.checked_sub(1)?;
        Some(Box::new(Waiting {
            message: self.message.clone(),
            flood: self.flood.clone(),
        }))
    }
}
