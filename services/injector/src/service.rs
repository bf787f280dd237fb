//! The service: makes its directories, enrols the host, and runs the loops until told to stop.
//!
//! Owns the start-up order and the events that reach the reconciler; what they mean is
//! `reconcile`'s. Everything that may pass by itself (gateway, store-sync or engine away) is
//! retried; only what needs a person ends it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_core::plan::HostPlan;
use keywheel_core::report::DeniedStart;
use keywheel_core::time::Timestamp;
use keywheel_daemon::{chain, names};
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Body, Bus, Subscription};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::container_host::{
    ContainerHost, ContainerRecord, EngineEvent, ExecOutcome,
};
use keywheel_engine::port::ids::Ids;
use keywheel_identity::bundle::SealingKey;
use keywheel_member::{RenewalFault, SealingKeys};
use keywheel_seal::Entropy;
use keywheel_sys::first_use::Seen;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attach::{Adopted, Attached};
use crate::contact::HEARTBEAT;
use crate::enrolment::enrol;
use crate::error::InjectorError;
use crate::host_cache::HostCache;
use crate::keyring::Keyring;
use crate::metrics::HostMetrics;
use crate::options::HostSettings;
use crate::places::{Found, leave_bundles, prepare};
use crate::presence::HostLook;
use crate::reconcile::{Command, Reconciler};
use crate::report::{self, Outbox};
use crate::runtime::exec::HeldVariables;
use crate::runtime::server::Server;
use crate::shared::{Intent, Pending, Shared, VersionKey};

/// Events waiting for the reconciler.
const EVENTS: usize = 1024;
/// Events taken together before one pass.
const BATCH: usize = 256;
/// First wait before a request is repeated.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(50);
/// Longest wait before a request is repeated.
pub(crate) const RETRY_MOST: Duration = Duration::from_secs(5);
/// How long background work may take to end after a stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What reaches the reconciler.
pub(crate) enum Event {
    Plan(Box<HostPlan>),
    Engine(EngineEvent),
    Listed {
        begun: Duration,
        result: Result<Vec<ContainerRecord>, PortError>,
    },
    Inspected {
        id: ContainerId,
        result: Result<Option<ContainerRecord>, PortError>,
    },
    Fetched {
        key: VersionKey,
        result: Result<(), PortError>,
    },
    Attached {
        id: ContainerId,
        pid: i32,
        result: Result<Box<Attached>, String>,
        intent: Intent,
    },
    Adopted {
        id: ContainerId,
        pid: i32,
        result: Result<Box<Adopted>, String>,
    },
    Placed {
        id: ContainerId,
        pid: i32,
        pending: Box<Pending>,
        attached: Box<Attached>,
        intent: Intent,
    },
    RefusedStart {
        denied: Box<DeniedStart>,
        /// Told when the disk has it.
        kept: oneshot::Sender<()>,
    },
    /// The disk has all facts that were reported.
    Written,
    /// What became of watches over files.
    Used(Vec<Seen>),
    Restarted {
        id: ContainerId,
        result: Result<(), String>,
    },
    Stopped {
        id: ContainerId,
        result: Result<(), String>,
    },
    /// A container that lost a revoked value is paused or cut off its networks, or could not be.
    CutOff {
        id: ContainerId,
        result: Result<(), String>,
    },
    /// A reload command ended, or its time was over.
    Commanded {
        id: ContainerId,
        pid: i32,
        command: Box<Command>,
        result: Result<ExecOutcome, String>,
    },
    /// What the container holds in variables, if these are the arguments of its health check.
    Exec {
        id: ContainerId,
        args: Vec<String>,
        held: oneshot::Sender<HeldVariables>,
    },
    /// What looked like a container's health check, and whether it was.
    ExecLooked {
        facts: Box<ContainerFacts>,
        exec: String,
        at: Timestamp,
        is_check: bool,
    },
    /// The engine's answer to which starts were refused.
    Refused {
        result: Result<Vec<ContainerRecord>, PortError>,
    },
    /// The start of one that was refused is over; `true` when it was made.
    Started {
        id: ContainerId,
        result: Result<bool, PortError>,
    },
}

/// What an injector looks like from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Generation of the plan it reconciles to; `None` before the first.
    pub generation: Option<u64>,
    /// Containers that run on this host.
    pub containers: usize,
    /// Those that hold something.
    pub consumers: usize,
    /// Whether everything on the host was looked at.
    pub is_complete: bool,
    /// Why the container engine cannot be used now, with the next step.
    pub engine_fault: Option<String>,
    /// The alarm that the gateway's last word is too old, with the next step.
    pub gateway_fault: Option<String>,
    /// Whether the lease on what the host holds is over: no start is served.
    pub is_lease_over: bool,
    /// Whether values are kept on the disk for the time without the control plane.
    pub is_cached: bool,
}

/// A view of a running injector; clones are one.
#[derive(Debug, Clone)]
pub struct Handle {
    status: watch::Receiver<Status>,
}

impl Handle {
    #[cfg(test)]
    pub(crate) const fn of(status: watch::Receiver<Status>) -> Self {
        Self { status }
    }

    /// How it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until the status changes; `false` when the injector is gone.
    pub async fn changed(&mut self) -> bool {
        self.status.changed().await.is_ok()
    }
}

/// One host's injector.
pub struct Injector {
    shared: Arc<Shared>,
    status: watch::Sender<Status>,
}

impl Injector {
    /// Makes an injector with a fresh sealing key, which lives in memory only.
    #[must_use]
    pub fn new(
        options: impl Into<HostSettings>,
        bus: Arc<dyn Bus>,
        containers: Arc<dyn ContainerHost>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self::of(Shared::new(
            options.into(),
            bus,
            containers,
            clock,
            ids,
            entropy,
            None,
        ))
    }

    /// Makes the injector of a host that joined; it opens what is sealed to these keys.
    ///
    /// # Errors
    /// When one is none.
    pub fn joined(
        options: impl Into<HostSettings>,
        keys: &[SealingKey],
        bus: Arc<dyn Bus>,
        containers: Arc<dyn ContainerHost>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, RenewalFault> {
        let shared = Shared::new(
            options.into(),
            bus,
            containers,
            clock,
            ids,
            entropy,
            Some(Keyring::default()),
        );
        shared.hold(keys)?;
        Ok(Self::of(shared))
    }

    /// Its keys for what is sealed to it.
    #[must_use]
    pub fn sealing_keys(&self) -> Arc<dyn SealingKeys> {
        self.shared.clone()
    }

    fn of(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            status: watch::channel(Status::default()).0,
        }
    }

    /// A view of it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            status: self.status.subscribe(),
        }
    }

    /// A look at it and its host, for its presence.
    #[must_use]
    pub fn look(&self) -> HostLook {
        HostLook::new(self.handle(), &self.shared)
    }

    /// Its numbers.
    #[must_use]
    pub fn metrics(&self) -> HostMetrics {
        HostMetrics::new(self.handle(), Arc::clone(&self.shared))
    }

    /// Runs until `shutdown`; what it gave to containers stays there.
    ///
    /// # Errors
    /// When a directory, the socket or the kernel does not serve, or the gateway refuses the host.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), InjectorError> {
        self.serve(shutdown, || ()).await
    }

    /// The same, and tells `serving` when everything that was needed is there and containers can start.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn serve(
        self,
        shutdown: CancellationToken,
        serving: impl FnOnce() + Send,
    ) -> Result<(), InjectorError> {
        let shared = self.shared;
        let Found {
            tools,
            spool,
            waiting,
            remembered,
            refused,
            turns,
            lock: _lock,
        } = prepare(&shared.options)?;
        if let Some((cache, restored)) = HostCache::open(&shared.options, shared.entropy.clone())? {
            shared.restore(cache, restored);
        }
        let (events, incoming) = mpsc::channel(EVENTS);
        let (server, execs) = bind(&shared.options)?;
        serving();
        let stop = shutdown.child_token();
        // Reports end after the reconciler, whose last facts go to the disk.
        let last = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (asked, told) = (Arc::clone(&shared), events.clone());
        tasks.spawn(server.run(asked, tools.clone(), told, stop.clone()));
        tasks.spawn(execs.run_execs(Arc::clone(&shared), events.clone(), stop.clone()));

        let outbox = Arc::new(Outbox::default());
        tasks.spawn(report::run(
            Arc::clone(&shared),
            spool,
            waiting,
            Arc::clone(&outbox),
            events.clone(),
            last.clone(),
        ));
        let (tell, refusal) = oneshot::channel();
        let joined = join(Arc::clone(&shared), events.clone(), stop.clone(), tell);
        tasks.spawn(joined);
        tasks.spawn(watch_engine(
            Arc::clone(&shared),
            events.clone(),
            self.status.clone(),
            stop.clone(),
        ));
        let reconciler = Reconciler::new(
            Arc::clone(&shared),
            tools,
            events,
            tasks.clone(),
            outbox,
            (remembered, refused, turns),
        );
        let result = tokio::select! {
            Ok(error) = refusal => Err(error),
            () = reconcile_until(reconciler, incoming, &shared, &self.status, &shutdown) => Ok(()),
        };
        stop.cancel();
        last.cancel();
        tasks.close();
        let _ = tokio::time::timeout(STOP_GRACE, tasks.wait()).await;
        leave_bundles(shared.options.bundles()).await;
        result
    }
}

/// The sockets that runtimes ask at, for creates and for execs.
fn bind(options: &HostSettings) -> Result<(Server, Server), InjectorError> {
    let at = |path: PathBuf| {
        Server::bind(&path).map_err(|source| InjectorError::Socket { path, source })
    };
    let execs = at(options.exec_socket())?;
    Ok((at(options.runtime_socket.clone())?, execs))
}

/// Enrols and then listens to plans; what the host kept serves meanwhile. A refusal ends the injector.
async fn join(
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    refused: oneshot::Sender<InjectorError>,
) {
    let enrolled = tokio::select! {
        () = stop.cancelled() => return,
        enrolled = enrol(&shared) => enrolled,
    };
    match enrolled {
        Ok(plans) => forward_plans(plans, events, stop).await,
        // Nobody listens only when everything ends anyway.
        Err(error) => drop(refused.send(error)),
    }
}

async fn forward_plans(
    mut plans: Box<dyn Subscription>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => return,
            incoming = plans.next() => incoming,
        };
        let Some(incoming) = incoming else { return };
        if let Body::Plan(plan) = incoming.message.body
            && events.send(Event::Plan(Box::new(plan))).await.is_err()
        {
            return;
        }
        // A plan that comes again is passed over by its generation.
        let _ = plans.ack(incoming.sequence).await;
    }
}

/// Says in the status whether the engine answers.
fn note_engine(status: &watch::Sender<Status>, hint: &EngineEvent) {
    match hint {
        EngineEvent::Resync => status.send_modify(|status| status.engine_fault = None),
        EngineEvent::Away(fault) => {
            tracing::warn!({ names::ERROR } = fault, "container engine not reached");
            let fault = fault.clone();
            status.send_modify(|status| status.engine_fault = Some(fault));
        }
        _ => {}
    }
}

/// Listens to the engine; every connection begins with a resync.
async fn watch_engine(
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    status: watch::Sender<Status>,
    stop: CancellationToken,
) {
    let work = async {
        let mut wait = RETRY_FIRST;
        loop {
            match shared.containers.events().await {
                Ok(mut hints) => {
                    let mut hint = EngineEvent::Resync;
                    loop {
                        note_engine(&status, &hint);
                        if events.send(Event::Engine(hint)).await.is_err() {
                            return;
                        }
                        hint = hints.next().await;
                    }
                }
                Err(error) => note_engine(&status, &EngineEvent::Away(chain(&error))),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MOST);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// When everything is looked at again, whether the engine told something or not.
fn looks(options: &HostSettings) -> tokio::time::Interval {
    let mut tick = tokio::time::interval(options.reconcile_interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick
}

async fn reconcile_until(
    mut reconciler: Reconciler,
    mut incoming: mpsc::Receiver<Event>,
    shared: &Arc<Shared>,
    status: &watch::Sender<Status>,
    shutdown: &CancellationToken,
) {
    let mut tick = looks(&shared.options);
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let wake = reconciler.sleep_for();
        let is_due = tokio::select! {
            () = shutdown.cancelled() => {
                while let Ok(event) = incoming.try_recv() {
                    reconciler.take(event);
                }
                return reconciler.leave().await;
            }
            event = incoming.recv() => {
                let Some(event) = event else { return };
                let mut is_due = reconciler.take(event);
                for _ in 0..BATCH {
                    let Ok(event) = incoming.try_recv() else { break };
                    is_due |= reconciler.take(event);
                }
                is_due
            }
            _ = tick.tick() => {
                reconciler.look_again();
                true
            }
            _ = beat.tick() => {
                if shared.is_beat_due() {
                    reconciler.ask_gateway();
                }
                true
            }
            () = shared.changed.notified() => true,
            () = tokio::time::sleep(wake) => true,
        };
        if !is_due {
            continue;
        }
        reconciler.pass().await;
        status.send_if_modified(|status| reconciler.describe(status));
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::{DeploymentId, HostId};
    use keywheel_core::name::HostName;
    use keywheel_schemas::config::DEFAULT_RECONCILE_INTERVAL;

    use super::*;
    use crate::InjectorOptions;

    #[tokio::test]
    async fn everything_is_looked_at_again_each_half_minute_by_default() {
        let nowhere = PathBuf::from("/nonexistent");
        let options = InjectorOptions {
            deployment: DeploymentId::from_bytes([1; 16]),
            host: HostId::from_bytes([2; 16]),
            host_name: HostName::parse("web-1").unwrap(),
            run_dir: nowhere.clone(),
            spool_dir: nowhere.clone(),
            helper: nowhere.clone(),
            runtime_socket: nowhere,
            runtime_names: Vec::new(),
            reconcile_interval: DEFAULT_RECONCILE_INTERVAL,
            fs_kind: None,
        };
        let period = looks(&options.into()).period();
        assert!(period <= Duration::from_secs(30), "{period:?}");
    }
}
