//! What an injector shows of its host: plan, lease, contact, containers, and what it had at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_telemetry::{Page, Source, names};

use crate::service::Handle;
use crate::shared::Shared;

/// How often a value was held when it was needed.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    hits: AtomicU64,
    misses: AtomicU64,
    errors: AtomicU64,
}

impl Reads {
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// It was not there, and this came of asking.
    pub(crate) fn asked<T>(&self, answer: &Result<T, PortError>) {
        let counter = match answer {
            Ok(_) => &self.misses,
            Err(_) => &self.errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// An injector's numbers.
pub struct HostMetrics {
    handle: Handle,
    shared: Arc<Shared>,
}

impl HostMetrics {
    pub(crate) fn new(handle: Handle, shared: Arc<Shared>) -> Self {
        Self { handle, shared }
    }
}

#[async_trait]
impl Source for HostMetrics {
    async fn read(&self, page: &mut Page) {
        let status = self.handle.status();
        let shared = &self.shared;
        let host = [shared.options.host_name.as_str()];
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        if let Some(generation) = status.generation {
            page.count(&names::HOST_PLAN_GENERATION, &host, generation);
        }
        page.count(&names::HOST_CONTAINERS, &host, number(status.containers));
        page.count(&names::HOST_CONSUMERS, &host, number(status.consumers));
        let engine = status.engine_fault.is_none();
        page.flag(&names::HOST_ENGINE_UP, &host, engine);
        let now = shared.clock.now();
        let (since, left) = shared.since_and_left();
        if let Some(since) = since {
            let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
            let heard = Timestamp::from_micros(now.micros().saturating_sub(micros));
            page.at(&names::HOST_GATEWAY_CONTACT, &host, heard);
        }
        // One that is over ended before now; when, is not known to every run.
        let ends = left.map_or(now, |left| now.plus(left));
        page.at(&names::HOST_LEASE_EXPIRY, &host, ends);
        for (word, counter) in [
            ("hit", &shared.reads.hits),
            ("miss", &shared.reads.misses),
            ("error", &shared.reads.errors),
        ] {
            let reads = counter.load(Ordering::Relaxed);
            page.count(&names::HOST_CACHE_READS, &[word], reads);
        }
    }
}
