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
        let length = shared.options.lease.as_secs_f64();
        page.set(&names::HOST_LEASE, &host, length);
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

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use keywheel_bus::{Identity, InProcess, Trust};
    use keywheel_core::audit::Role;
    use keywheel_core::id::{DeploymentId, HostId};
    use keywheel_core::name::HostName;
    use keywheel_engine::port::ErrorKind;
    use keywheel_engine::port::clock::Clock as _;
    use keywheel_seal::OsEntropy;
    use keywheel_seal::sign::SigningKey;
    use keywheel_testkit::fake::{FakeClock, FakeContainerHost, FakeIds};
    use tokio::sync::watch;

    use super::*;
    use crate::service::Status;
    use crate::{HostCache, HostSettings, LeasePolicy};

    const LEASE: Duration = Duration::from_secs(300);

    pub(crate) fn shared(clock: &Arc<FakeClock>) -> Arc<Shared> {
        let nowhere = std::path::PathBuf::from("/nonexistent");
        let deployment = DeploymentId::from_bytes([1; 16]);
        let host = HostId::from_bytes([2; 16]);
        let options = HostSettings {
            deployment,
            host,
            host_name: HostName::parse("web-1").unwrap(),
            run_dir: nowhere.clone(),
            spool_dir: nowhere.clone(),
            helper: nowhere.clone(),
            runtime_socket: nowhere.clone(),
            runtime_names: Vec::new(),
            reconcile_interval: Duration::from_secs(5),
            fs_kind: None,
            host_cache: HostCache::Off,
            host_cache_dir: nowhere,
            lease: LEASE,
            lease_policy: LeasePolicy::Keep,
            first_use: false,
        };
        let ids = Arc::new(FakeIds::of_source(1));
        let trust = Trust::new(deployment, []);
        let bus = InProcess::new(trust, clock.clone(), ids.clone());
        let key = SigningKey::generate(&OsEntropy);
        let bus = bus.endpoint(Identity::service(deployment, Role::Scheduler, key));
        let containers = Arc::new(FakeContainerHost::default());
        let entropy = Arc::new(OsEntropy);
        let clock = clock.clone();
        Arc::new(Shared::new(
            options, bus, containers, clock, ids, entropy, None,
        ))
    }

    async fn page(status: &Status, shared: &Arc<Shared>) -> String {
        let (_keep, status) = watch::channel(status.clone());
        let metrics = HostMetrics::new(Handle::of(status), Arc::clone(shared));
        let mut page = Page::default();
        metrics.read(&mut page).await;
        page.text()
    }

    fn assert_has(page: &str, metric: &str, number: impl std::fmt::Display) {
        let line = format!("keywheel_host_{metric}{{host=\"web-1\"}} {number}");
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }

    #[tokio::test]
    async fn the_lease_ends_its_length_after_the_gateways_last_word() {
        let clock = Arc::new(FakeClock::default());
        let shared = shared(&clock);
        let now = |clock: &FakeClock| clock.now().micros() / 1_000_000;
        let status = Status::default();
        let before = page(&status, &shared).await;
        assert_has(&before, "lease_seconds", 300);
        assert_has(&before, "lease_expiry_timestamp_seconds", now(&clock));
        assert!(
            !before.contains("keywheel_host_gateway_contact"),
            "{before}"
        );
        clock.advance(Duration::from_secs(10));
        shared.heard();
        let heard = now(&clock);
        clock.advance(Duration::from_secs(100));
        let later = page(&status, &shared).await;
        assert_has(&later, "gateway_contact_timestamp_seconds", heard);
        assert_has(&later, "lease_expiry_timestamp_seconds", heard + 300);
        clock.advance(Duration::from_secs(1_000));
        let over = page(&status, &shared).await;
        assert_has(&over, "lease_expiry_timestamp_seconds", now(&clock));
    }

    #[tokio::test]
    async fn a_host_shows_its_plan_its_containers_its_engine_and_what_it_had_at_hand() {
        let clock = Arc::new(FakeClock::default());
        let shared = shared(&clock);
        let mut status = Status {
            generation: Some(42),
            containers: 5,
            consumers: 3,
            ..Status::default()
        };
        shared.reads.hit();
        shared.reads.hit();
        shared.reads.asked(&Ok(()));
        let failed: Result<(), _> = Err(PortError::new(ErrorKind::Unavailable, "away"));
        for _ in 0..3 {
            shared.reads.asked(&failed);
        }
        let shown = page(&status, &shared).await;
        assert_has(&shown, "plan_generation", 42);
        assert_has(&shown, "containers", 5);
        assert_has(&shown, "consumers", 3);
        assert_has(&shown, "engine_up", 1);
        for (result, reads) in [("hit", 2), ("miss", 1), ("error", 3)] {
            let line = format!("keywheel_host_cache_reads_total{{result=\"{result}\"}} {reads}\n");
            assert!(shown.contains(&line), "{line}: {shown}");
        }
        status.engine_fault = Some("gone".to_owned());
        assert_has(&page(&status, &shared).await, "engine_up", 0);
    }
}
