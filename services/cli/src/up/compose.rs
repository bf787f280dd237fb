//! Which service gets which port. No behaviour of its own.

use std::sync::Arc;

use keywheel_audit_sink::{AuditSink, AuditSinkOptions};
use keywheel_bus::InProcess;
use keywheel_core::audit::Role;
use keywheel_core::decision::Enrolment;
use keywheel_core::host::Host;
use keywheel_core::id::HostId;
use keywheel_daemon::Shutdown;
use keywheel_engine::port::bus::Bus;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::Journal as _;
use keywheel_engine::state::View;
use keywheel_gateway::access::Access;
use keywheel_gateway::denials::Denials;
use keywheel_gateway::http;
use keywheel_gateway::server::{Server, Spans};
use keywheel_injector::{Injector, InjectorOptions};
use keywheel_scheduler::Scheduler;
use keywheel_seal::OsEntropy;
use keywheel_store_sync::{Ports, StoreSync, StoreSyncOptions, Watched};
use keywheel_stores::LocalStore;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::error::{Error, Kind};
use super::{Opened, features};
use crate::wiring::{
    Ends, Failed, GatewayPorts, Spawner, container_engine, listen, namespace_helper, start_gateway,
};

/// Directory of the injector's spool, under the data directory.
const SPOOL: &str = "spool";

/// Asks the audit's second copy.
type CopyFault = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What was started.
pub(super) struct Composed {
    pub(super) hub: InProcess,
    pub(super) stopped: JoinHandle<()>,
}

/// Starts everything; the socket last, so that who can connect is served.
pub(super) async fn all(
    opened: &Opened,
    shutdown: &Shutdown,
    failed: &Failed,
) -> Result<Composed, Error> {
    let ids: Arc<dyn Ids> = opened.ids.clone();
    let trust = opened.installation.trust();
    let hub = InProcess::new(trust.clone(), opened.clock.clone(), ids.clone());
    let tasks = TaskTracker::new();
    let spawn = Spawner {
        tasks: tasks.clone(),
        failed: failed.clone(),
        shutdown: shutdown.clone(),
    };
    let gateway = end(opened, &hub, Role::Gateway)?;
    let listener = listen(&opened.config)?;
    let ends = start_gateway(&gateway_ports(opened, &gateway), &spawn).await?;
    let copy_fault = start_workers(opened, &spawn, &hub).await?;
    let engine = Arc::new(container_engine()?);
    let host = own_host(opened, &ends.view)?;
    opened.installation.trust_host(&trust, host);
    let injector = Injector::new(
        injector_options(opened, host),
        hub.endpoint(opened.installation.injector(host)?),
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

fn gateway_ports(opened: &Opened, bus: &Arc<dyn Bus>) -> GatewayPorts {
    GatewayPorts {
        journal: opened.journal.clone(),
        bus: bus.clone(),
        clock: opened.clock.clone(),
        ids: opened.ids.clone(),
        enrolment: Enrolment::default(),
        learn_hosts: None,
        renewals: None,
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
        clock: opened.clock.clone(),
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

/// Which host this machine is. One that was evicted comes back as a new host: whoever starts this
/// has the unseal key, which is more than a join token. Reports of the old one would be refused, so
/// what is left of them is put aside.
fn own_host(opened: &Opened, view: &View) -> Result<HostId, Error> {
    let known = opened.installation.host;
    let is_evicted = view
        .read()
        .world
        .hosts
        .get(&known)
        .is_some_and(Host::is_evicted);
    if !is_evicted {
        return Ok(known);
    }
    let data_dir = &opened.config.data_dir;
    let spool = data_dir.join(SPOOL);
    match std::fs::rename(&spool, data_dir.join(format!("{SPOOL}-of-evicted-{known}"))) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::path(&spool, &error));
        }
        _ => {}
    }
    let host = opened.installation.renew_host(data_dir, &*opened.ids)?;
    tracing::warn!(%known, %host, "this machine was evicted as a host; it goes on as a new one");
    Ok(host)
}

fn injector_options(opened: &Opened, host: HostId) -> InjectorOptions {
    let config = &opened.config;
    InjectorOptions {
        deployment: opened.installation.deployment,
        host,
        host_name: opened.host_name.clone(),
        run_dir: config.run_dir.clone(),
        spool_dir: config.data_dir.join(SPOOL),
        helper: namespace_helper(config),
        runtime_socket: config.run_dir.join("injector.sock"),
        runtime_names: Vec::new(),
        reconcile_interval: config.injector.reconcile_interval,
        fs_kind: None,
    }
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
        waits: Arc::default(),
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
