//! A container engine in memory: containers are rows, starts are counted, nothing runs; of the programs
//! in a container it knows what busybox's `true`, `false` and `sleep` come to.
//!
//! Keeps the port's laws: pids are never reused, a restart changes pid and start time, events are
//! hints that a test may swallow.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::{
    ContainerHost, ContainerRecord, EngineEvent, EngineEvents, ExecOutcome, Health, StartRefusal,
};
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::sync::broadcast;

use crate::conformance::container_host::BUSYBOX;

/// Hints kept for a slow reader; one that missed some gets a resync.
const HINTS: usize = 256;

#[derive(Default)]
struct Inner {
    containers: BTreeMap<ContainerId, ContainerRecord>,
    starts: u64,
    next_pid: i32,
    down: bool,
    restarts: Vec<ContainerId>,
    stops: Vec<ContainerId>,
    cut_off: Vec<(ContainerId, &'static str)>,
    asked_starts: Vec<ContainerId>,
    refuse_starts: bool,
}

/// The engine. Clones are one.
#[derive(Clone)]
pub struct FakeContainerHost {
    inner: Arc<Mutex<Inner>>,
    hints: broadcast::Sender<EngineEvent>,
}

impl Default for FakeContainerHost {
    fn default() -> Self {
        let inner = Inner {
            next_pid: 1_000_000,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            hints: broadcast::channel(HINTS).0,
        }
    }
}

impl FakeContainerHost {
    /// An engine without containers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a container that does not run yet.
    pub fn create(&self, facts: ContainerFacts, runtime: &str, placeholders: &[&str]) {
        let record = ContainerRecord {
            facts,
            pid: 0,
            running: false,
            paused: false,
            started_at: String::new(),
            runtime: runtime.to_owned(),
            health: Health::None,
            placeholders: placeholders
                .iter()
                .map(|entry| (*entry).to_owned())
                .collect(),
            refused: None,
            health_command: Vec::new(),
            user: String::new(),
        };
        self.with(|inner| inner.containers.insert(record.facts.id.clone(), record));
    }

    /// Starts a container under a pid of the caller's choice, or a fresh one.
    pub fn start(&self, id: &ContainerId, pid: Option<i32>) {
        self.with(|inner| inner.start(id, pid));
        self.hint(EngineEvent::Started(id.clone()));
    }

    /// Ends its first program.
    pub fn die(&self, id: &ContainerId) {
        self.with(|inner| inner.end(id));
        self.hint(EngineEvent::Stopped(id.clone()));
    }

    /// Removes a container.
    pub fn remove(&self, id: &ContainerId) {
        self.with(|inner| inner.containers.remove(id));
        self.hint(EngineEvent::Removed(id.clone()));
    }

    /// Sets a container's health.
    pub fn set_health(&self, id: &ContainerId, health: Health) {
        self.with(|inner| {
            if let Some(record) = inner.containers.get_mut(id) {
                record.health = health;
            }
        });
        self.hint(EngineEvent::HealthChanged(id.clone()));
    }

    /// Makes every call fail, or work again (with a resync).
    pub fn set_down(&self, down: bool) {
        self.with(|inner| inner.down = down);
        if !down {
            self.hint(EngineEvent::Resync);
        }
    }

    /// Makes starts and restarts leave the container stopped with an error, as a refusing runtime
    /// does.
    pub fn refuse_starts(&self, refuse: bool) {
        self.with(|inner| inner.refuse_starts = refuse);
    }

    /// A start that our runtime refused, as the engine keeps it; `nobody_at` is the socket at which no
    /// injector answered, when that was why. Its container has a restart policy.
    pub fn refuse(&self, id: &ContainerId, nobody_at: Option<PathBuf>) {
        self.with(|inner| inner.refuse(id, nobody_at));
    }

    /// The same, with everything that the engine keeps of it.
    pub fn refuse_as(&self, id: &ContainerId, refused: StartRefusal) {
        self.with(|inner| inner.refuse_as(id, refused));
    }

    /// Containers that were asked to start, through the port, in order.
    #[must_use]
    pub fn asked_starts(&self) -> Vec<ContainerId> {
        self.with(|inner| inner.asked_starts.clone())
    }

    /// Containers restarted so far, in order.
    #[must_use]
    pub fn restarts(&self) -> Vec<ContainerId> {
        self.with(|inner| inner.restarts.clone())
    }

    /// Containers paused or cut off their networks so far, in order, and which of the two.
    #[must_use]
    pub fn cut_off(&self) -> Vec<(ContainerId, &'static str)> {
        self.with(|inner| inner.cut_off.clone())
    }

    /// Containers stopped so far, in order.
    #[must_use]
    pub fn stops(&self) -> Vec<ContainerId> {
        self.with(|inner| inner.stops.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn asked<T>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        self.with(|inner| {
            if inner.down {
                return Err(PortError::new(
                    ErrorKind::Unavailable,
                    "the fake engine is down: is it running?",
                ));
            }
            work(inner)
        })
    }

    fn hint(&self, event: EngineEvent) {
        // Nobody listening is fine: hints may be missed.
        let _ = self.hints.send(event);
    }
}

impl Inner {
    fn start(&mut self, id: &ContainerId, pid: Option<i32>) {
        self.starts += 1;
        self.next_pid += 1;
        let (starts, fresh) = (self.starts, self.next_pid);
        if let Some(record) = self.containers.get_mut(id) {
            record.pid = pid.unwrap_or(fresh);
            record.running = true;
            record.refused = None;
            record.started_at = format!("start-{starts}");
        }
    }

    /// Under a restart policy.
    fn refuse(&mut self, id: &ContainerId, nobody_at: Option<PathBuf>) {
        let refused = StartRefusal {
            nobody_at,
            has_policy: true,
            after: None,
        };
        self.refuse_as(id, refused);
    }

    fn refuse_as(&mut self, id: &ContainerId, refused: StartRefusal) {
        if let Some(record) = self.containers.get_mut(id) {
            record.pid = 0;
            record.running = false;
            record.refused = Some(refused);
        }
    }

    fn try_start(&mut self, id: &ContainerId) -> Result<(), PortError> {
        if self.refuse_starts {
            self.refuse(id, None);
            return Err(PortError::new(
                ErrorKind::Unavailable,
                "the runtime refused the create",
            ));
        }
        self.start(id, None);
        Ok(())
    }

    fn end(&mut self, id: &ContainerId) {
        if let Some(record) = self.containers.get_mut(id) {
            record.pid = 0;
            record.running = false;
        }
    }

    fn known(&self, id: &ContainerId) -> Result<(), PortError> {
        if self.containers.contains_key(id) {
            return Ok(());
        }
        Err(PortError::new(
            ErrorKind::NotFound,
            format!("no such container: {}", id.short()),
        ))
    }
}

struct Hints(broadcast::Receiver<EngineEvent>);

#[async_trait]
impl EngineEvents for Hints {
    async fn next(&mut self) -> EngineEvent {
        match self.0.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(_)) => EngineEvent::Resync,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ContainerHost for FakeContainerHost {
    async fn list(&self) -> Result<Vec<ContainerRecord>, PortError> {
        self.asked(|inner| {
            Ok(inner
                .containers
                .values()
                .filter(|record| record.running)
                .cloned()
                .collect())
        })
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        self.asked(|inner| Ok(inner.containers.get(id).cloned()))
    }

    async fn inspect_during_create(
        &self,
        id: &ContainerId,
        _budget: Duration,
    ) -> Result<Option<ContainerRecord>, PortError> {
        Ok(self.with(|inner| inner.containers.get(id).cloned()))
    }

    async fn restart(&self, id: &ContainerId) -> Result<(), PortError> {
        self.asked(|inner| {
            inner.known(id)?;
            inner.restarts.push(id.clone());
            inner.end(id);
            inner.try_start(id)
        })?;
        self.hint(EngineEvent::Stopped(id.clone()));
        self.hint(EngineEvent::Started(id.clone()));
        Ok(())
    }

    async fn pause(&self, id: &ContainerId) -> Result<(), PortError> {
        self.asked(|inner| {
            inner.known(id)?;
            if let Some(record) = inner.containers.get_mut(id) {
                record.paused = true;
            }
            inner.cut_off.push((id.clone(), "paused"));
            Ok(())
        })
    }

    async fn disconnect(&self, id: &ContainerId) -> Result<(), PortError> {
        self.asked(|inner| {
            inner.known(id)?;
            inner.cut_off.push((id.clone(), "disconnected"));
            Ok(())
        })
    }

    async fn stop(&self, id: &ContainerId) -> Result<(), PortError> {
        self.asked(|inner| {
            inner.known(id)?;
            inner.stops.push(id.clone());
            inner.end(id);
            Ok(())
        })?;
        self.hint(EngineEvent::Stopped(id.clone()));
        Ok(())
    }

    async fn exec(
        &self,
        id: &ContainerId,
        argv: &[String],
        _timeout: Duration,
    ) -> Result<ExecOutcome, PortError> {
        self.asked(|inner| {
            inner.known(id)?;
            if !inner.containers.get(id).is_some_and(|one| one.running) {
                let text = format!("container {} is not running", id.short());
                return Err(PortError::new(ErrorKind::Conflict, text));
            }
            let words: Vec<&str> = argv.iter().map(String::as_str).collect();
            Ok(match words.as_slice() {
                [BUSYBOX, "true", ..] => ExecOutcome::Exited(0),
                [BUSYBOX, "sleep", ..] => ExecOutcome::TimedOut,
                [BUSYBOX, ..] => ExecOutcome::Exited(1),
                _ => ExecOutcome::Exited(127),
            })
        })
    }

    async fn start(&self, id: &ContainerId) -> Result<(), PortError> {
        let was_down = self.asked(|inner| {
            inner.known(id)?;
            inner.asked_starts.push(id.clone());
            if inner.containers.get(id).is_some_and(|one| one.running) {
                return Ok(false);
            }
            inner.try_start(id).map(|()| true)
        })?;
        if was_down {
            self.hint(EngineEvent::Started(id.clone()));
        }
        Ok(())
    }

    async fn refused(&self) -> Result<Vec<ContainerRecord>, PortError> {
        self.asked(|inner| {
            let all = inner.containers.values();
            Ok(all
                .filter(|record| record.refused.is_some())
                .cloned()
                .collect())
        })
    }

    async fn events(&self) -> Result<Box<dyn EngineEvents>, PortError> {
        self.asked(|_| Ok(()))?;
        Ok(Box::new(Hints(self.hints.subscribe())))
    }

    async fn ping(&self) -> Result<(), PortError> {
        self.asked(|_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::container_host::{Fixture, Given, run};

    struct Fake(FakeContainerHost, u8);

    #[async_trait]
    impl Fixture for Fake {
        async fn start(&mut self, given: &Given) -> ContainerId {
            self.1 += 1;
            let id = ContainerId::parse(&format!("{:064x}", self.1)).unwrap();
            let facts = ContainerFacts {
                id: id.clone(),
                name: given.name.clone(),
                image_digest: format!("sha256:{}", "a".repeat(64)),
                image_name: "fake:1".to_owned(),
                labels: given.labels.clone(),
                user: None,
            };
            let entry = given
                .env
                .iter()
                .map(String::as_str)
                .find(|entry| entry.contains("{keywheel:"));
            self.0
                .create(facts, "runc", &entry.into_iter().collect::<Vec<_>>());
            self.0.start(&id, None);
            id
        }

        async fn remove(&mut self, id: &ContainerId) {
            if self.0.with(|inner| {
                inner
                    .containers
                    .get(id)
                    .is_some_and(|record| record.running)
            }) {
                self.0.die(id);
            }
            self.0.remove(id);
        }
    }

    #[tokio::test]
    async fn a_refused_start_is_known_until_it_runs() {
        let engine = FakeContainerHost::new();
        let mut fixture = Fake(engine.clone(), 0);
        let given = Given {
            name: "web".to_owned(),
            labels: std::collections::BTreeMap::new(),
            env: Vec::new(),
        };
        let id = fixture.start(&given).await;
        let host: &dyn ContainerHost = &engine;
        assert!(host.refused().await.unwrap().is_empty());
        engine.refuse_starts(true);
        host.stop(&id).await.unwrap();
        assert!(host.refused().await.unwrap().is_empty(), "stopped only");
        assert!(host.start(&id).await.is_err());
        let refused = host.refused().await.unwrap();
        assert_eq!((refused.len(), &refused[0].facts.id), (1, &id));
        engine.refuse_starts(false);
        host.start(&id).await.unwrap();
        assert!(host.refused().await.unwrap().is_empty());
        assert_eq!(engine.asked_starts(), [id.clone(), id]);
    }

    #[tokio::test]
    async fn the_fake_engine_keeps_the_ports_laws() {
        let engine = FakeContainerHost::new();
        run(&engine, &mut Fake(engine.clone(), 0)).await;
    }
}
