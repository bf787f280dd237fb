//! The service: takes work from the bus, runs it within bounds, and acknowledges what is answered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::effect::Effect;
use keywheel_core::id::DeploymentId;
use keywheel_daemon::{Shutdown, chain, names};
use keywheel_engine::port::PortError;
use keywheel_engine::port::accounts::ConnectAccounts;
use keywheel_engine::port::bus::{Address, Body, Bus, Incoming, Subscription, Topic};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::rotator::Rotator;
use keywheel_engine::port::store::Connect;
use keywheel_engine::port::vault::VersionVault;
use keywheel_schemas::wire::effect_key_to_string;
use keywheel_seal::Entropy;
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinSet};

use crate::backlog::{Backlog, Job, is_first_attempt};
use crate::compare;
use crate::effect::{self, Unfinished};
use crate::metrics::Metrics;
use crate::outside::{self, Parts, Registry};
use crate::presence::{Counts, Handle};
use crate::seal::{self, Seal};
use crate::value;

/// The name under which work is read.
pub const CONSUMER: &str = "store-sync";
/// Effects performed at once, each of another secret.
pub const MAX_RUNNING: usize = 16;
/// Effects performed at once where what finds no place among [`MAX_RUNNING`] is an emergency's.
pub const MAX_RUNNING_IN_EMERGENCY: usize = 2 * MAX_RUNNING;
/// How long running effects may take to end after the service was told to stop.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// After what time an effect whose outcome was not taken is tried again.
pub const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What store-sync has to know.
#[derive(Debug, Clone)]
pub struct StoreSyncOptions {
    /// This installation; bound into everything sealed.
    pub deployment: DeploymentId,
    /// Where credentials of stores lie as files: no file elsewhere is read for a store.
    pub credentials_dir: PathBuf,
    /// How long one step, or one revocation, may take; default [`crate::STEP_DEADLINE`].
    pub step_deadline: Duration,
    /// How long a provided value may wait for its rotation; default [`keywheel_cache::MAX_STASH_AGE`].
    pub stash_age: Duration,
    /// Where on this machine and its link a receiver of a rotator may be; by default nowhere.
    pub webhook_allow: Vec<SocketAddr>,
}

impl StoreSyncOptions {
    /// The defaults for an installation.
    #[must_use]
    pub const fn new(deployment: DeploymentId, credentials_dir: PathBuf) -> Self {
        Self {
            deployment,
            credentials_dir,
            step_deadline: effect::STEP_DEADLINE,
            stash_age: keywheel_cache::MAX_STASH_AGE,
            webhook_allow: Vec::new(),
        }
    }
}

/// What store-sync works with.
pub struct Ports {
    /// Its end of the bus, as [`Role::StoreSync`].
    pub bus: Arc<dyn Bus>,
    /// Values at rest.
    pub vault: Arc<dyn VersionVault>,
    /// The store `local`.
    pub rotator: Arc<dyn Rotator>,
    /// Makes stores outside.
    pub connect: Arc<dyn Connect>,
    /// Makes accounts at resources.
    pub accounts: Arc<dyn ConnectAccounts>,
    /// Counts what stores outside do.
    pub metrics: Metrics,
    /// Time, against the deadlines of effects.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// Why store-sync could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreSyncError {
    /// Work cannot be read.
    #[error("work cannot be read from the bus")]
    Subscribe(#[source] PortError),
    /// Requests cannot be taken.
    #[error("requests cannot be taken from the bus")]
    Serve(#[source] PortError),
}

/// The service.
pub struct StoreSync {
    pub(crate) shared: Arc<Shared>,
}

/// What every task of the service sees.
pub(crate) struct Shared {
    pub(crate) options: StoreSyncOptions,
    pub(crate) ports: Ports,
    pub(crate) registry: Registry,
    pub(crate) seal: Seal,
    pub(crate) counts: Arc<Counts>,
    /// Places for requests that ask stores outside.
    pub(crate) asking_stores: Semaphore,
    /// Places for comparisons with reported tokens.
    pub(crate) comparing: Semaphore,
}

/// What the loop over work wakes up for.
enum Wake {
    Work(Box<Incoming>),
    Ended(Id, Result<(), Unfinished>),
    Seal,
    Stop,
}

impl StoreSync {
    /// A service that runs nothing yet, on a vault that is open for good.
    #[must_use]
    pub fn new(options: StoreSyncOptions, ports: Ports) -> Self {
        let seal = Seal::never(Arc::clone(&ports.vault));
        Self::under_seal(options, ports, seal)
    }

    /// The same under a seal; the vault of the ports leads through it.
    #[must_use]
    pub fn under_seal(options: StoreSyncOptions, ports: Ports, seal: Seal) -> Self {
        let registry = Registry::new(Parts {
            connect: Arc::clone(&ports.connect),
            accounts: Arc::clone(&ports.accounts),
            metrics: ports.metrics.clone(),
            vault: Arc::clone(&ports.vault),
            credentials_dir: options.credentials_dir.clone(),
            webhook_allow: options.webhook_allow.clone(),
            clock: Arc::clone(&ports.clock),
            entropy: Arc::clone(&ports.entropy),
        });
        Self {
            shared: Arc::new(Shared {
                options,
                ports,
                registry,
                seal,
                counts: Arc::default(),
                asking_stores: Semaphore::new(value::MAX_ASKING_STORES),
                comparing: Semaphore::new(compare::MAX_COMPARING),
            }),
        }
    }

    /// A look at it while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Works until told to stop, or until the bus is shut down.
    ///
    /// # Errors
    /// When the bus cannot be read.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), StoreSyncError> {
        let bus = &self.shared.ports.bus;
        let requests = bus
            .serve(Address::StoreSync)
            .await
            .map_err(StoreSyncError::Serve)?;
        let topic = Topic::Work(Role::StoreSync);
        let work = bus
            .subscribe(topic, CONSUMER)
            .await
            .map_err(StoreSyncError::Subscribe)?;
        tracing::info!("store-sync serves");
        let serving = value::serve(Arc::clone(&self.shared), requests, &shutdown);
        let working = Worker::new(Arc::clone(&self.shared), work).run(&shutdown);
        let watching = outside::watch(Arc::clone(&self.shared), &shutdown);
        let replacing = seal::replace_keys(&self.shared.seal, &shutdown);
        let unsealing = seal::unseal_by_service(&self.shared.seal, &shutdown);
        tokio::join!(serving, working, watching, replacing, unsealing);
        Ok(())
    }
}

/// The loop over work.
struct Worker {
    shared: Arc<Shared>,
    work: Box<dyn Subscription>,
    backlog: Backlog,
    sealed: watch::Receiver<bool>,
    running: JoinSet<Result<(), Unfinished>>,
    effects: HashMap<Id, Effect>,
}

impl Worker {
    fn new(shared: Arc<Shared>, work: Box<dyn Subscription>) -> Self {
        Self {
            sealed: shared.seal.bell(),
            shared,
            work,
            backlog: Backlog::default(),
            running: JoinSet::new(),
            effects: HashMap::new(),
        }
    }

    async fn run(mut self, shutdown: &Shutdown) {
        loop {
            self.start_ready();
            let counts = &self.shared.counts;
            counts.taken.store(self.backlog.len(), Ordering::Relaxed);
            match self.wait(shutdown).await {
                Wake::Work(incoming) => self.take(*incoming).await,
                Wake::Ended(id, result) => self.end(id, result).await,
                Wake::Seal => tracing::debug!("seal opened or closed"),
                Wake::Stop => break,
            }
        }
        // What does not end in time comes again from the bus, like what waits.
        let drained = tokio::time::timeout(STOP_GRACE, self.drain()).await;
        tracing::info!(complete = drained.is_ok(), "store-sync stopped");
    }

    async fn drain(&mut self) {
        while let Some(ended) = self.running.join_next_with_id().await {
            let (id, result) = flatten(ended);
            self.end(id, result).await;
        }
    }

    /// What waits stays on the bus while it is sealed, and in the gateway's log in any case.
    async fn wait(&mut self, shutdown: &Shutdown) -> Wake {
        let takes_more = self.backlog.has_room() && !self.shared.seal.is_sealed();
        tokio::select! {
            () = shutdown.requested() => Wake::Stop,
            Ok(()) = self.sealed.changed() => Wake::Seal,
            Some(ended) = self.running.join_next_with_id() => {
                let (id, result) = flatten(ended);
                Wake::Ended(id, result)
            }
            incoming = self.work.next(), if takes_more => {
                incoming.map_or(Wake::Stop, |incoming| Wake::Work(Box::new(incoming)))
            }
        }
    }

    fn start_ready(&mut self) {
        while !self.shared.seal.is_sealed()
            && let Some(job) = self.next_ready()
        {
            let effect = job.effect.clone();
            let shared = Arc::clone(&self.shared);
            let task = self
                .running
                .spawn(async move { effect::run(&shared, &job).await });
            self.effects.insert(task.id(), effect);
        }
    }

    fn next_ready(&mut self) -> Option<Job> {
        match self.running.len() {
            ..MAX_RUNNING => self.backlog.start(),
            MAX_RUNNING..MAX_RUNNING_IN_EMERGENCY => self.backlog.start_emergency(),
            _ => None,
        }
    }

    async fn take(&mut self, incoming: Incoming) {
        let Body::Work {
            effect,
            deadline,
            first,
        } = incoming.message.body
        else {
            return self.acknowledge(&[incoming.sequence]).await;
        };
        let job = Job {
            is_first: first && !incoming.redelivered && is_first_attempt(&effect),
            effect,
            deadline,
            traceparent: incoming.message.traceparent,
        };
        let key = effect_key_to_string(&job.effect.key());
        if !self.backlog.admit(job, incoming.sequence) {
            // Kept on the bus it would take a place there: the gateway sends what stays open.
            tracing::debug!({ names::KIND } = key, "line before its store is full");
            self.acknowledge(&[incoming.sequence]).await;
        }
    }

    async fn end(&mut self, id: Id, result: Result<(), Unfinished>) {
        let Some(effect) = self.effects.remove(&id) else {
            return;
        };
        let copies = self.backlog.finish(&effect);
        let counts = Arc::clone(&self.shared.counts);
        let Err(error) = result else {
            counts.unfinished.store(0, Ordering::Relaxed);
            return self.acknowledge(&copies).await;
        };
        counts.unfinished.fetch_add(1, Ordering::Relaxed);
        let key = effect_key_to_string(&effect.key());
        tracing::warn!(
            { names::KIND } = key,
            { names::ERROR } = chain(&error),
            "effect unfinished"
        );
        // One copy is enough to try again.
        let (again, rest) = copies
            .split_first()
            .map_or((None, [].as_slice()), |(a, r)| (Some(a), r));
        self.acknowledge(rest).await;
        if let Some(sequence) = again
            && let Err(error) = self.work.nak(*sequence, RETRY_DELAY).await
        {
            tracing::debug!({ names::ERROR } = chain(&error), "work not given back");
        }
    }

    async fn acknowledge(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            if let Err(error) = self.work.ack(*sequence).await {
                // It comes again and finds everything done.
                tracing::debug!({ names::ERROR } = chain(&error), "work not acknowledged");
            }
        }
    }
}

type Ended = Result<(Id, Result<(), Unfinished>), tokio::task::JoinError>;

/// A task that panicked left its effect unfinished like one that was not answered.
fn flatten(ended: Ended) -> (Id, Result<(), Unfinished>) {
    ended.unwrap_or_else(|error| (error.id(), Err(Unfinished::Panicked(error))))
}
