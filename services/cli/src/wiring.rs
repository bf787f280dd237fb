//! What `keywheel up` and services that run apart are wired from. No behaviour of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keywheel_containers::DockerOptions;
use keywheel_core::approval::Operation;
use keywheel_core::decision::Enrolment;
use keywheel_daemon::{Shutdown, failpoint};
use keywheel_engine::command_bus::{CommandBus, Handle, HoldBack, HoldWork, LearnHosts, Parts};
use keywheel_engine::port::bus::Bus;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::Journal;
use keywheel_engine::publisher::Publisher;
use keywheel_engine::state::View;
use keywheel_gateway::admission::{Admission, entitlement};
use keywheel_gateway::bus_server::{BusServer, Renewals};
use keywheel_gateway::deeds::Deeds;
use keywheel_gateway::presence::{Listener, Presences};
use keywheel_gateway::retention::Retention;
use keywheel_gateway::root_key::RootKeys;
use keywheel_gateway::socket;
use keywheel_gateway::{dual, lifecycle};
use keywheel_schemas::config::Config;
use keywheel_seal::{OsEntropy, memory};
use keywheel_store_sync::seal::Seal;
use keywheel_store_sync::{ArmedFailpoints, Metrics, Ports, Watched};
use keywheel_stores::{Connector, LocalStore};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::metrics::Shown;
use crate::up::layout;
use crate::up::{Error, Kind};

/// Where services report that they cannot go on.
pub(crate) type Failed = mpsc::Sender<(&'static str, String)>;

/// The ends of the command bus that outlive its start.
pub(crate) struct Ends {
    pub(crate) handle: Handle,
    pub(crate) view: View,
    /// What is heard of every instance.
    pub(crate) presences: Presences,
    /// Reads the policies in force.
    pub(crate) admission: Arc<Admission>,
    /// The command bus goes on until this is dropped.
    pub(crate) deciding: DropGuard,
}

/// Starts services, and reports the first that cannot go on.
pub(crate) struct Spawner {
    pub(crate) tasks: TaskTracker,
    pub(crate) failed: Failed,
    pub(crate) shutdown: Shutdown,
    /// What metrics show.
    pub(crate) shown: Shown,
}

impl Spawner {
    pub(crate) fn start<E: std::error::Error + Send>(
        &self,
        name: &'static str,
        service: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let failed = self.failed.clone();
        self.tasks.spawn(async move {
            let Err(error) = service.await else { return };
            let reason = keywheel_daemon::chain(&error);
            drop(error);
            tracing::error!(service = name, error = reason, "service cannot go on");
            let _gone = failed.send((name, reason)).await;
        });
    }
}

/// What a gateway is made of.
pub(crate) struct GatewayPorts {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    /// How hosts come to be known.
    pub(crate) enrolment: Enrolment,
    /// Takes what is known of hosts that joined; `None` where none can.
    pub(crate) learn_hosts: Option<LearnHosts>,
    /// Makes members' credentials fresh; `None` where they have none.
    pub(crate) renewals: Option<Arc<dyn Renewals>>,
    /// How many sinks of the audit have to take records.
    pub(crate) min_sinks: usize,
    /// How many people operations take, that take several.
    pub(crate) people: BTreeMap<Operation, u64>,
    /// At which age audit records leave the journal; `None` keeps them all.
    pub(crate) keep_records: Option<Duration>,
}

/// Whether new work may have to wait for the audit's sinks.
fn may_be_held(ports: &GatewayPorts) -> bool {
    ports.min_sinks > 0 || ports.people.contains_key(&Operation::SinkChange)
}

/// Says why no new work may begin: too few sinks, as it is counted here, or others than those that were confirmed.
fn hold_back(ends: &Ends, few: fn(&Presences) -> Option<String>) -> HoldBack {
    let (presences, view) = (ends.presences.clone(), ends.view.clone());
    let admission = ends.admission.clone();
    Arc::new(move || few(&presences).or_else(|| dual::unconfirmed(&admission, &view, &presences)))
}

/// What tells the world; work waits there while no new work may begin.
fn publisher(ports: &GatewayPorts, ends: &Ends) -> Publisher {
    Publisher {
        journal: ports.journal.clone(),
        bus: ports.bus.clone(),
        clock: ports.clock.clone(),
        ids: ports.ids.clone(),
        view: ends.view.clone(),
        failpoint: reach,
        hold: may_be_held(ports).then(|| HoldWork::new(hold_back(ends, Presences::short_of_sinks))),
    }
}

/// What holds bindings against the policies.
fn rights(ports: &GatewayPorts, ends: &Ends) -> entitlement::Rights {
    entitlement::Rights {
        commands: ends.handle.clone(),
        view: ends.view.clone(),
        admission: ends.admission.clone(),
        clock: ports.clock.clone(),
        ids: ports.ids.clone(),
    }
}

/// Starts what decides, tells and answers on the bus.
pub(crate) async fn start_gateway(ports: &GatewayPorts, spawn: &Spawner) -> Result<Ends, Error> {
    let parts = Parts {
        journal: ports.journal.clone(),
        clock: ports.clock.clone(),
        ids: ports.ids.clone(),
        failpoint: reach,
    };
    let admission = Admission::new()
        .map_err(|fault| Error::new(Kind::Broken, fault.to_string(), "report this"))?
        .with_people(ports.people.clone());
    let started = CommandBus::start(parts).await?;
    let last = CancellationToken::new();
    let ends = Ends {
        handle: started.handle.clone(),
        view: started.view.clone(),
        presences: Presences::new(ports.clock.clone())
            .with_min_sinks(ports.min_sinks)
            .with_keep_records(ports.keep_records),
        admission: Arc::new(admission),
        deciding: last.clone().drop_guard(),
    };
    let publisher = publisher(ports, &ends);
    let listener = Listener {
        bus: ports.bus.clone(),
        view: started.view.clone(),
        journal: ports.journal.clone(),
        ids: ports.ids.clone(),
        presences: ends.presences.clone(),
        roots: RootKeys::new(
            ports.journal.clone(),
            started.handle.clone(),
            ports.clock.clone(),
        ),
    };
    let retention = retention(ports, &ends);
    let server = bus_end(ports, &ends);
    let token = spawn.shutdown.token();
    let bus = started.bus.with_enrolment(ports.enrolment);
    let bus = bus.with_entitlement(entitlement::judge(&ends.admission));
    let mut bus = bus.with_witness(lifecycle::witness());
    if may_be_held(ports) {
        bus = bus.with_hold_back(hold_back(&ends, Presences::held_back));
    }
    if let Some(learn) = &ports.learn_hosts {
        bus = bus.with_hosts(learn.clone());
    }
    let deciding = until(last, bus.run());
    spawn.start("gateway", deciding);
    spawn.start(
        "publisher",
        until(token.clone(), publisher.run(started.commits)),
    );
    spawn.start("gateway's ears", listener.run(token.clone()));
    spawn.start(
        "gateway's look at rights",
        rights(ports, &ends).run(token.clone()),
    );
    spawn.tasks.spawn(retention.run(token.clone()));
    spawn.tasks.spawn(deeds(ports, &ends).run(token.clone()));
    spawn.start("gateway's bus end", server.run(token));
    Ok(ends)
}

/// Answers other services.
fn bus_end(ports: &GatewayPorts, ends: &Ends) -> BusServer {
    BusServer {
        bus: ports.bus.clone(),
        commands: ends.handle.clone(),
        view: ends.view.clone(),
        journal: ports.journal.clone(),
        clock: ports.clock.clone(),
        ids: ports.ids.clone(),
        renewals: ports.renewals.clone(),
        unenrolled: Arc::default(),
        refused: Arc::default(),
    }
}

/// Closes what an earlier run left open.
fn deeds(ports: &GatewayPorts, ends: &Ends) -> Deeds {
    Deeds {
        journal: ports.journal.clone(),
        commands: ends.handle.clone(),
        clock: ports.clock.clone(),
        ids: ports.ids.clone(),
    }
}

/// Has old audit records leave, where they may.
fn retention(ports: &GatewayPorts, ends: &Ends) -> Retention {
    Retention {
        journal: ports.journal.clone(),
        commands: ends.handle.clone(),
        clock: ports.clock.clone(),
        ids: ports.ids.clone(),
        presences: ends.presences.clone(),
    }
}

/// Runs a service that only ends with the process, until told to stop.
pub(crate) async fn until<E>(
    token: CancellationToken,
    service: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    tokio::select! {
        () = token.cancelled() => Ok(()),
        ended = service => ended,
    }
}

/// The engine named by `DOCKER_HOST`, else the machine's own.
pub(crate) fn container_engine() -> Result<Arc<dyn ContainerHost>, Error> {
    let next = "set DOCKER_HOST to unix:///path/of/docker.sock (or podman.sock), or unset it";
    let refused = |text: String| Error::new(Kind::BadConfiguration, text, next);
    let host = keywheel_daemon::env::read("DOCKER_HOST").map_err(|e| refused(e.to_string()))?;
    keywheel_containers::connect(&DockerOptions { host }).map_err(|e| refused(e.to_string()))
}

/// The namespace helper lies beside this program.
pub(crate) fn namespace_helper(config: &Config) -> PathBuf {
    if let Some(path) = &config.injector.helper {
        return path.clone();
    }
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|path| Some(path.parent()?.join("keywheel-nsjoin")));
    beside.unwrap_or_else(|| PathBuf::from("/usr/local/bin/keywheel-nsjoin"))
}

/// What store-sync works with, over the cache under this seal; what it counts is shown.
pub(crate) fn store_sync_ports(
    bus: Arc<dyn Bus>,
    seal: &Seal,
    clock: Arc<dyn Clock>,
    spawn: &Spawner,
) -> Ports {
    let metrics = Metrics::new(clock.clone());
    spawn.shown.add(Arc::new(metrics.clone()));
    let watched = Arc::new(Watched::new(seal.as_vault()));
    let local = Arc::new(LocalStore::new(watched, Arc::new(OsEntropy)));
    let stores = Connector::new(clock.clone(), Arc::new(OsEntropy));
    let accounts = keywheel_rotators::Connector::new(Arc::new(OsEntropy));
    Ports {
        bus,
        vault: metrics.of_cache(seal.as_vault()),
        rotator: metrics.of_store("local", local),
        metrics,
        connect: Arc::new(stores.passing(Arc::new(ArmedFailpoints))),
        accounts: Arc::new(accounts.passing(Arc::new(ArmedFailpoints))),
        clock,
        entropy: Arc::new(OsEntropy),
    }
}

/// Binds the API's socket.
pub(crate) fn listen(config: &Config) -> Result<tokio::net::UnixListener, Error> {
    if let Some(parent) = config.socket.parent().filter(|p| !p.as_os_str().is_empty()) {
        layout::open_directory(parent)?;
    }
    socket::bind(&config.socket).map_err(|error| {
        let kind = match error {
            socket::Error::Taken { .. } => Kind::AlreadyRunning,
            _ => Kind::CannotCreate,
        };
        Error::new(
            kind,
            error.to_string(),
            "give a socket path that is free with --socket",
        )
    })
}

/// A failpoint inside the gateway; an injected error has no meaning there and is left out.
fn reach(name: &'static str) {
    let _injected = failpoint::hit(name);
}

/// Closes what a daemon leaves open by default, takes the first memory for keys, and arms named failpoints of tests.
/// Where memory cannot be locked the beat says so, unless that is refused.
pub(crate) fn harden(must_lock: bool) -> Result<(), Error> {
    keywheel_sys::harden::daemon().map_err(|e| {
        Error::new(
            Kind::Broken,
            e.to_string(),
            "report this with your kernel's version",
        )
    })?;
    let plain = memory::plain(&memory::prepare());
    if let Some(note) = plain.filter(|_| must_lock) {
        let what = format!("{note}, and `memory.require_locked` is `on`");
        return Err(Error::new(Kind::Refused, what, memory::NEXT_STEP));
    }
    failpoint::arm_from_env().map_err(|e| {
        Error::new(
            Kind::BadConfiguration,
            e.to_string(),
            "correct KEYWHEEL_FAILPOINTS, or unset it",
        )
    })
}
