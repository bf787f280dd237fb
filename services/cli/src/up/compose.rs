//! Which service gets which port. No behaviour of its own.

use std::path::PathBuf;
use std::sync::Arc;

use keywheel_audit_sink::{AuditSink, AuditSinkOptions};
use keywheel_bus::InProcess;
use keywheel_containers::{DockerHost, DockerOptions};
use keywheel_core::audit::Role;
use keywheel_daemon::{Shutdown, failpoint};
use keywheel_engine::command_bus::{CommandBus, Handle, Parts};
use keywheel_engine::port::bus::Bus;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::Journal as _;
use keywheel_engine::publisher::Publisher;
use keywheel_engine::state::View;
use keywheel_gateway::access::Access;
use keywheel_gateway::bus_server::BusServer;
use keywheel_gateway::denials::Denials;
use keywheel_gateway::server::{Server, Spans};
use keywheel_gateway::{http, socket};
use keywheel_injector::{Injector, InjectorOptions};
use keywheel_scheduler::Scheduler;
use keywheel_schemas::config::Config;
use keywheel_seal::OsEntropy;
use keywheel_store_sync::{Ports, StoreSync, StoreSyncOptions, Watched};
use keywheel_stores::LocalStore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::error::{Error, Kind};
use super::{Opened, features, layout};

/// Where services report that they cannot go on.
pub(super) type Failed = mpsc::Sender<(&'static str, String)>;

/// Asks the audit's second copy.
type CopyFault = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What was started.
pub(super) struct Composed {
    pub(super) hub: InProcess,
    pub(super) stopped: JoinHandle<()>,
}

/// The ends of the command bus that outlive its start.
struct Ends {
    handle: Handle,
    view: View,
    /// The command bus goes on until this is dropped.
    deciding: DropGuard,
}

/// Starts services, and reports the first that cannot go on.
struct Spawner {
    tasks: TaskTracker,
    failed: Failed,
    shutdown: Shutdown,
}

impl Spawner {
    fn start<E: std::error::Error + Send>(
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

/// Starts everything; the socket last, so that who can connect is served.
pub(super) async fn all(
    opened: &Opened,
    shutdown: &Shutdown,
    failed: &Failed,
) -> Result<Composed, Error> {
    let ids: Arc<dyn Ids> = opened.ids.clone();
    let hub = InProcess::new(
        opened.installation.trust(),
        opened.clock.clone(),
        ids.clone(),
    );
    let tasks = TaskTracker::new();
    let spawn = Spawner {
        tasks: tasks.clone(),
        failed: failed.clone(),
        shutdown: shutdown.clone(),
    };
    let gateway = end(opened, &hub, Role::Gateway)?;
    let listener = listen(&opened.config)?;
    let ends = start_gateway(opened, &spawn, &gateway).await?;
    let copy_fault = start_workers(opened, &spawn, &hub).await?;
    let engine = Arc::new(container_engine()?);
    let injector = Injector::new(
        injector_options(opened),
        end(opened, &hub, Role::Injector)?,
        engine.clone(),
        opened.clock.clone(),
        ids,
        Arc::new(OsEntropy),
    );
    spawn.start("injector", injector.run(shutdown.token()));
    let features = features::Probe::new(engine, opened.journal.clone());
    spawn.start("engine probe", features.clone().run(shutdown.token()));
    serve_socket(
        opened,
        &spawn,
        ends,
        gateway,
        (features, copy_fault),
        listener,
    );
    tasks.close();
    let stopped = spawn_wait(tasks);
    Ok(Composed { hub, stopped })
}

fn spawn_wait(tasks: TaskTracker) -> JoinHandle<()> {
    let tracked = TaskTracker::new();
    tracked.spawn(async move { tasks.wait().await })
}

fn end(opened: &Opened, hub: &InProcess, role: Role) -> Result<Arc<dyn Bus>, Error> {
    opened
        .installation
        .identity(role)
        .map(|identity| hub.endpoint(identity))
}

async fn start_gateway(
    opened: &Opened,
    spawn: &Spawner,
    bus: &Arc<dyn Bus>,
) -> Result<Ends, Error> {
    let clock: Arc<dyn Clock> = opened.clock.clone();
    let parts = Parts {
        journal: opened.journal.clone(),
        clock: clock.clone(),
        ids: opened.ids.clone(),
        failpoint: reach,
    };
    let started = CommandBus::start(parts).await?;
    let last = CancellationToken::new();
    let ends = Ends {
        handle: started.handle.clone(),
        view: started.view.clone(),
        deciding: last.clone().drop_guard(),
    };
    let publisher = Publisher {
        journal: opened.journal.clone(),
        bus: bus.clone(),
        ids: opened.ids.clone(),
        view: started.view.clone(),
        failpoint: reach,
    };
    let server = BusServer {
        bus: bus.clone(),
        commands: started.handle.clone(),
        view: started.view,
        journal: opened.journal.clone(),
        clock,
        ids: opened.ids.clone(),
    };
    let token = spawn.shutdown.token();
    let deciding = until(last, started.bus.run());
    spawn.start("gateway", deciding);
    spawn.start(
        "publisher",
        until(token.clone(), publisher.run(started.commits)),
    );
    spawn.start("gateway's bus end", server.run(token));
    Ok(ends)
}

/// Runs a service that only ends with the process, until told to stop.
async fn until<E>(
    token: CancellationToken,
    service: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    tokio::select! {
        () = token.cancelled() => Ok(()),
        ended = service => ended,
    }
}

async fn start_workers(
    opened: &Opened,
    spawn: &Spawner,
    hub: &InProcess,
) -> Result<CopyFault, Error> {
    let watched = Arc::new(Watched::new(opened.cache.clone()));
    let local = Arc::new(LocalStore::new(watched, Arc::new(OsEntropy)));
    let ports = Ports {
        bus: end(opened, hub, Role::StoreSync)?,
        vault: opened.cache.clone(),
        rotator: local,
        entropy: Arc::new(OsEntropy),
    };
    let options = StoreSyncOptions::new(opened.installation.deployment);
    spawn.start(
        "store-sync",
        StoreSync::new(options, ports).run(spawn.shutdown.clone()),
    );

    let bus = end(opened, hub, Role::Scheduler)?;
    let options = keywheel_scheduler::Options::default();
    let scheduler = Scheduler::new(bus, opened.clock.clone(), opened.ids.clone(), options);
    spawn.start("scheduler", scheduler.run(spawn.shutdown.clone()));

    let options = AuditSinkOptions {
        path: opened.config.data_dir.join("audit-sink.db"),
    };
    let sink = AuditSink::open(&options, end(opened, hub, Role::AuditSink)?).await.map_err(|error| {
        let next = "free what is named above, or move audit-sink.db away: it is read again from the journal";
        Error::new(Kind::Unavailable, keywheel_daemon::chain(&error), next)
    })?;
    let copy_fault = watch_copy(sink.handle(), opened.journal.head().await?.audit_size);
    spawn.start("audit-sink", sink.run(spawn.shutdown.clone()));
    Ok(copy_fault)
}

/// What the audit's second copy says against the journal.
fn watch_copy(copy: keywheel_audit_sink::Handle, kept_here: u64) -> CopyFault {
    let kept_there = copy.size();
    Arc::new(move || {
        let next = "keep both files, and compare them with your backup";
        if kept_there > kept_here {
            return Some(format!(
                "the audit sink kept {kept_there} records when the journal had {kept_here}: the journal was cut or put back; {next}"
            ));
        }
        let changed = copy.conflicts();
        (changed > 0).then(|| {
            format!("{changed} audit records differ between the journal and the audit sink: one of them was changed; {next}")
        })
    })
}

/// The engine named by `DOCKER_HOST`, else the machine's own.
fn container_engine() -> Result<DockerHost, Error> {
    let next = "set DOCKER_HOST to unix:///path/of/docker.sock, or unset it";
    let refused = |text: String| Error::new(Kind::BadConfiguration, text, next);
    let host = keywheel_daemon::env::read("DOCKER_HOST").map_err(|e| refused(e.to_string()))?;
    DockerHost::new(&DockerOptions { host }).map_err(|e| refused(e.to_string()))
}

fn injector_options(opened: &Opened) -> InjectorOptions {
    let config = &opened.config;
    InjectorOptions {
        deployment: opened.installation.deployment,
        host: opened.installation.host,
        host_name: opened.host_name.clone(),
        run_dir: config.run_dir.clone(),
        spool_dir: config.data_dir.join("spool"),
        helper: namespace_helper(config),
        runtime_socket: config.run_dir.join("injector.sock"),
        runtime_names: Vec::new(),
        reconcile_interval: config.injector.reconcile_interval,
        fs_kind: None,
    }
}

/// The namespace helper lies beside this program.
fn namespace_helper(config: &Config) -> PathBuf {
    if let Some(path) = &config.injector.helper {
        return path.clone();
    }
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|path| Some(path.parent()?.join("keywheel-nsjoin")));
    beside.unwrap_or_else(|| PathBuf::from("/usr/local/bin/keywheel-nsjoin"))
}

fn listen(config: &Config) -> Result<tokio::net::UnixListener, Error> {
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

fn serve_socket(
    opened: &Opened,
    spawn: &Spawner,
    ends: Ends,
    gateway: Arc<dyn Bus>,
    (features, copy_fault): (features::Probe, CopyFault),
    listener: tokio::net::UnixListener,
) {
    let api = http::Api {
        commands: ends.handle.clone(),
        view: ends.view.clone(),
        journal: opened.journal.clone(),
        bus: gateway,
        clock: opened.clock.clone(),
        ids: opened.ids.clone(),
        access: Access::of_machine(rustix::process::geteuid().as_raw()),
        deployment: opened.installation.deployment,
        host: opened.host_name.clone(),
        data_dir: opened.config.data_dir.display().to_string(),
        origin: opened.installation.origin(),
        public_key: opened.installation.gateway_public_key().unwrap_or_default(),
        check_schedule: keywheel_scheduler::schedule::check,
        next_fires: features::next_fires,
        copy_fault,
        join_tokens: None,
        denials: Arc::new(Denials::default()),
        features: Arc::new(move || features.features()),
    };
    let server = Server::new(api, Spans::default());
    let token = spawn.shutdown.token();
    spawn.tasks.spawn(async move {
        // Its last records need the command bus, which goes on until then.
        let _deciding = ends.deciding;
        server.run(listener, token).await;
    });
}

/// A failpoint inside the gateway; an injected error has no meaning there and is left out.
fn reach(name: &'static str) {
    let _injected = failpoint::hit(name);
}
