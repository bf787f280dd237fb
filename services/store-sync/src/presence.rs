//! What store-sync tells about itself: what waits and runs, and whether its cache and every store
//! outside answer. That it was sealed or unsealed, or has more shares, is told at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use keywheel_core::id::RotationId;
use keywheel_engine::presence::{Fact, Look, Seen};
use keywheel_telemetry::{Page, Source};
use tokio::sync::{Mutex, watch};

use crate::service::Shared;

/// A token that no rotation has: asking for its value shows that the cache answers.
const NOBODY: RotationId = RotationId::from_bytes([0; 16]);

/// A look at a running store-sync; clones are one.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    /// Rings when the seal says another thing.
    seal: Arc<Mutex<watch::Receiver<()>>>,
}

/// Kept by the loop over work.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Effects that wait or run.
    pub(crate) taken: AtomicUsize,
    /// Effects in a row that were not finished.
    pub(crate) unfinished: AtomicU64,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            seal: Arc::new(Mutex::new(shared.seal.told())),
            shared,
        }
    }

    async fn cache(&self) -> Fact {
        if self.shared.seal.is_sealed() {
            return Fact::unknown("cache", "it is not open: store-sync is sealed", "unseal it");
        }
        match self.shared.ports.vault.stashed(NOBODY).await {
            Ok(_) => Fact::ok("cache", "it answers"),
            Err(error) => {
                let note = format!("it does not answer: {error}");
                let next = "look at its database or disk; hosts keep what they have, and nothing new is given out";
                Fact::problem("cache", note, next)
            }
        }
    }

    fn work(&self) -> Fact {
        let counts = &self.shared.counts;
        let taken = counts.taken.load(Ordering::Relaxed);
        let unfinished = counts.unfinished.load(Ordering::Relaxed);
        if unfinished == 0 {
            return Fact::ok("work", format!("{taken} effects wait or run"));
        }
        let note = format!("the last {unfinished} effects were not finished; {taken} wait or run");
        let next = "they are tried again; its log has the reason of each";
        Fact::warning("work", note, next)
    }
}

#[async_trait]
impl Source for Handle {
    async fn read(&self, page: &mut Page) {
        self.shared.registry.show(page);
    }
}

#[async_trait]
impl Look for Handle {
    async fn look(&self) -> Seen {
        let cache = self.cache().await;
        // The local store is the cache.
        let store = Fact {
            name: "store local".to_owned(),
            ..cache.clone()
        };
        let mut facts = vec![self.work(), cache, self.shared.seal.fact(), store];
        facts.extend(self.shared.seal.root_fact().await);
        facts.extend(self.shared.seal.keys_fact());
        facts.extend(self.shared.registry.facts());
        Seen {
            reached: None,
            facts,
        }
    }

    async fn changed(&self) {
        let changed = self.seal.lock().await.changed().await;
        if changed.is_err() {
            // The seal is gone, and its service with it.
            std::future::pending::<()>().await;
        }
    }
}
