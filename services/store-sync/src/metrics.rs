//! What store-sync shows: how long its stores take, what fails there, and what its cache has.
//!
//! It wraps the ports, so that no store counts by itself and each is counted alike. Invariant: what is
//! kept is bounded by stores times operations; a call's outcome is never changed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::Sessions;
use keywheel_core::store::RemoteVersion;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::tally::Spread;
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;
use keywheel_seal::hpke::HostKeyPair;
use keywheel_telemetry::{Page, Source, names};

/// A store's operation.
type Operation = (String, &'static str);

#[derive(Default)]
struct Numbers {
    spans: BTreeMap<Operation, Spread>,
    errors: BTreeMap<(Operation, &'static str), u64>,
    successes: BTreeMap<String, Timestamp>,
}

#[derive(Default)]
struct Reads {
    hits: AtomicU64,
    misses: AtomicU64,
    errors: AtomicU64,
}

/// store-sync's numbers; clones are one.
#[derive(Clone)]
pub struct Metrics {
    clock: Arc<dyn Clock>,
    numbers: Arc<Mutex<Numbers>>,
    reads: Arc<Reads>,
}

impl Metrics {
    /// Nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            numbers: Arc::default(),
            reads: Arc::default(),
        }
    }

    /// A store whose operations are counted under its name.
    #[must_use]
    pub fn of_store(&self, name: &str, store: Arc<dyn Rotator>) -> Arc<dyn Rotator> {
        Arc::new(Timed {
            name: name.to_owned(),
            store,
            metrics: self.clone(),
        })
    }

    /// A cache whose reads are counted.
    #[must_use]
    pub fn of_cache(&self, cache: Arc<dyn VersionVault>) -> Arc<dyn VersionVault> {
        Arc::new(Counted {
            cache,
            reads: Arc::clone(&self.reads),
        })
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one call.
    pub(crate) async fn time<T>(
        &self,
        name: &str,
        operation: &'static str,
        call: impl Future<Output = Result<T, PortError>>,
    ) -> Result<T, PortError> {
        let begun = self.clock.monotonic();
        let result = call.await;
        let span = self.clock.monotonic().saturating_sub(begun);
        let key = (name.to_owned(), operation);
        let mut numbers = self.numbers();
        numbers.spans.entry(key.clone()).or_default().add(span);
        match &result {
            Ok(_) => {
                let now = self.clock.now();
                numbers.successes.insert(name.to_owned(), now);
            }
            Err(error) => {
                let error = (key, error.kind.word());
                *numbers.errors.entry(error).or_default() += 1;
            }
        }
        result
    }
}

#[async_trait]
impl Source for Metrics {
    async fn read(&self, page: &mut Page) {
        {
            let numbers = self.numbers();
            for ((store, operation), spread) in &numbers.spans {
                page.spread(&names::STORE_DURATION, &[store, operation], spread);
                page.begin(&names::STORE_ERRORS, &[store, operation]);
            }
            for (((store, operation), error), count) in &numbers.errors {
                page.count(&names::STORE_ERRORS, &[store, operation, error], *count);
            }
            for (store, at) in &numbers.successes {
                page.at(&names::STORE_LAST_SUCCESS, &[store], *at);
            }
        }
        for (word, counter) in [
            ("hit", &self.reads.hits),
            ("miss", &self.reads.misses),
            ("error", &self.reads.errors),
        ] {
            let reads = counter.load(Ordering::Relaxed);
            page.count(&names::CACHE_READS, &[word], reads);
        }
    }
}

struct Timed {
    name: String,
    store: Arc<dyn Rotator>,
    metrics: Metrics,
}

#[async_trait]
impl Rotator for Timed {
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let call = self.store.create(work, until);
        self.metrics.time(&self.name, "create", call).await
    }

    async fn lease(&self, work: &StepWork) -> Result<Option<RemoteVersion>, PortError> {
        self.store.lease(work).await
    }

    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let call = self.store.set(work, until);
        self.metrics.time(&self.name, "set", call).await
    }

    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let call = self.store.test(work, until);
        self.metrics.time(&self.name, "test", call).await
    }

    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let call = self.store.finish(work, until);
        self.metrics.time(&self.name, "finish", call).await
    }

    async fn roll_back(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let call = self.store.roll_back(work, until);
        self.metrics.time(&self.name, "roll_back", call).await
    }

    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let call = self.store.revoke(secret, versions, outside, until);
        self.metrics.time(&self.name, "revoke", call).await
    }

    async fn disable(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let call = self.store.disable(secret, versions, outside, until);
        self.metrics.time(&self.name, "revoke", call).await
    }

    async fn prove(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<Proof, PortError> {
        let call = self.store.prove(secret, versions, until);
        self.metrics.time(&self.name, "probe", call).await
    }

    async fn retire(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let call = self.store.retire(secret, versions, outside, until);
        self.metrics.time(&self.name, "revoke", call).await
    }

    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError> {
        let call = self.store.probe(work, until);
        self.metrics.time(&self.name, "probe", call).await
    }

    async fn sessions(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<Sessions>, PortError> {
        let call = self.store.sessions(work, until);
        self.metrics.time(&self.name, "sessions", call).await
    }
}

struct Counted {
    cache: Arc<dyn VersionVault>,
    reads: Arc<Reads>,
}

#[async_trait]
impl VersionVault for Counted {
    async fn insert(
        &self,
        secret: SecretId,
        version: u64,
        token: RotationId,
        value: &SecretBytes,
    ) -> Result<Inserted, PortError> {
        self.cache.insert(secret, version, token, value).await
    }

    async fn open(&self, secret: SecretId, version: u64) -> Result<SecretBytes, PortError> {
        let opened = self.cache.open(secret, version).await;
        let counter = match &opened {
            Ok(_) => &self.reads.hits,
            Err(error) if error.kind == ErrorKind::NotFound => &self.reads.misses,
            Err(_) => &self.reads.errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        opened
    }

    async fn has(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        self.cache.has(secret, version).await
    }

    async fn is_destroyed(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        self.cache.is_destroyed(secret, version).await
    }

    async fn destroy(&self, secret: SecretId, version: u64) -> Result<(), PortError> {
        self.cache.destroy(secret, version).await
    }

    async fn stash(&self, token: RotationId, value: &SecretBytes) -> Result<Inserted, PortError> {
        self.cache.stash(token, value).await
    }

    async fn stashed(&self, token: RotationId) -> Result<Option<SecretBytes>, PortError> {
        self.cache.stashed(token).await
    }

    async fn store_keys(&self) -> Result<Vec<HostKeyPair>, PortError> {
        self.cache.store_keys().await
    }

    async fn drop_stashed(&self, token: RotationId) -> Result<(), PortError> {
        self.cache.drop_stashed(token).await
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::rotation::Step;
    use keywheel_testkit::fake::FakeClock;

    use super::*;

    /// What no page may show.
    const CANARY: &str = "a-value-that-nobody-may-see";

    /// A store that takes a second for each answer; after `create` it denies, with words of its own.
    struct Slow(Arc<FakeClock>);

    impl Slow {
        fn pass(&self, answer: Result<(), ErrorKind>) -> Result<(), PortError> {
            self.0.advance(std::time::Duration::from_secs(1));
            answer.map_err(|kind| PortError::new(kind, CANARY))
        }
    }

    #[async_trait]
    impl Rotator for Slow {
        async fn create(&self, _: &StepWork, _: &Until) -> Result<(), PortError> {
            self.pass(Ok(()))
        }
        async fn set(&self, _: &StepWork, _: &Until) -> Result<(), PortError> {
            self.pass(Err(ErrorKind::Denied))
        }
        async fn test(&self, _: &StepWork, _: &Until) -> Result<(), PortError> {
            self.pass(Err(ErrorKind::Unavailable))
        }
        async fn finish(
            &self,
            _: &StepWork,
            _: &Until,
        ) -> Result<Option<RemoteVersion>, PortError> {
            self.pass(Err(ErrorKind::Conflict)).map(|()| None)
        }
        async fn revoke(
            &self,
            _: SecretId,
            _: &[u64],
            _: Option<&Outside>,
            _: &Until,
        ) -> Result<(), PortError> {
            self.pass(Err(ErrorKind::Corrupt))
        }
        async fn probe(&self, _: &StepWork, _: &Until) -> Result<Probed, PortError> {
            self.pass(Err(ErrorKind::NotFound))
                .map(|()| Probed::NotDone)
        }
    }

    fn work() -> StepWork {
        StepWork {
            rotation: RotationId::from_bytes([1; 16]),
            secret: SecretId::from_bytes([2; 16]),
            step: Step::Create,
            attempt: 1,
            versions: vec![1],
            generator: None,
            provided: false,
            outside: None,
            resource: None,
            mark: None,
        }
    }

    #[tokio::test]
    async fn every_operation_is_timed_and_each_failure_counted_by_its_kind_without_its_words() {
        let clock = Arc::new(FakeClock::default());
        let metrics = Metrics::new(clock.clone());
        let store = metrics.of_store("vault-1", Arc::new(Slow(clock.clone())));
        let until = Until::new(Timestamp::from_micros(i64::MAX), clock);
        let (work, secret) = (work(), SecretId::from_bytes([2; 16]));
        assert!(store.create(&work, &until).await.is_ok());
        assert!(store.set(&work, &until).await.is_err());
        assert!(store.test(&work, &until).await.is_err());
        assert!(store.finish(&work, &until).await.is_err());
        assert!(store.revoke(secret, &[1], None, &until).await.is_err());
        assert!(store.probe(&work, &until).await.is_err());
        let mut page = Page::default();
        metrics.read(&mut page).await;
        let text = page.text();
        for (operation, error) in [
            ("set", "denied"),
            ("test", "unavailable"),
            ("finish", "conflict"),
            ("revoke", "corrupt"),
            ("probe", "not_found"),
        ] {
            let labels = format!("store=\"vault-1\",operation=\"{operation}\"");
            let failed = format!("keywheel_store_errors_total{{{labels},error=\"{error}\"}} 1\n");
            assert!(text.contains(&failed), "{failed}: {text}");
            let took = format!("keywheel_store_operation_duration_seconds_sum{{{labels}}} 1\n");
            assert!(text.contains(&took), "{took}: {text}");
        }
        // What did not fail so is there too, so that its first failure is a rise.
        let create = "keywheel_store_errors_total{store=\"vault-1\",operation=\"create\",error=\"denied\"} 0\n";
        assert!(text.contains(create), "{text}");
        // Only `create` succeeded, after one second.
        let success = "keywheel_store_last_success_timestamp_seconds{store=\"vault-1\"} 1\n";
        assert!(text.contains(success), "{text}");
        assert!(!text.contains(CANARY), "{text}");
    }
}
