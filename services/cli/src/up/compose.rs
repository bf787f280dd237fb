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
use keywheel_engine::presence::{COPY_FACT, Fact};
use keywheel_engine::state::View;
use keywheel_gateway::access::Access;
use keywheel_gateway::denials::Denials;
use keywheel_gateway::http;
use keywheel_gateway::login::Logins;
use keywheel_gateway::metrics::Metrics;
use keywheel_gateway::server::{Server, Spans};
use keywheel_gateway::views::status::Part;
use keywheel_injector::{HostSettings, Injector, InjectorOptions};
use keywheel_scheduler::Scheduler;
use keywheel_seal::OsEntropy;
use keywheel_signals::Desk;
use keywheel_store_sync::{StoreSync, StoreSyncOptions};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::error::{Error, Kind};
use super::restored::Restored;
use super::{Opened, fires, reapply};
use crate::backup::make::Maker;
use crate::logins;
use crate::metrics::{self, Shown};
use crate::outside::{self, OutsidePorts};
use crate::parts;
use crate::presence::Run;
use crate::sinks;
use crate::wiring::{
    Ends, Failed, GatewayPorts, Spawner, container_engine, listen, namespace_helper, start_gateway,
    store_sync_ports,
};

/// Directory of the injector's spool, under the data directory.
const SPOOL: &str = "spool";

/// What the audit's second copy says against the journal, if anything.
type CopyFault = Option<Fact>;

/// Asks bus and journal.
type Parts = Arc<dyn Fn() -> Vec<Part> + Send + Sync>;

/// What was started.
pub(super) struct Composed {
    pub(super) hub: InProcess,
    pub(super) stopped: JoinHandle<()>,
}

/// Starts everything; the socket last, so that who can connect is served.
pub(super) async fn all(
    opened: &Opened,
    restored: &Restored,
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
        shown: Shown::default(),
    };
    let gateway = end(opened, &hub, Role::Gateway)?;
    let listener = listen(&opened.config)?;
    let ends = start_gateway(&gateway_ports(opened, &gateway), &spawn).await?;
    // Before anybody makes or gives out what died in a time that the log lost.
    let restored = reapply::reapply(opened, restored, &ends).await?;
    let run = Run {
        machine: opened.host_name.to_string(),
        credentials: None,
        nats: None,
        clock: opened.clock.clone(),
        ids: opened.ids.clone(),
    };
    let desk = outside::start(
        &opened.config,
        &ends,
        outside_ports(opened, &gateway),
        &spawn,
    )
    .await?;
    let own = Arc::new(desk.clone());
    run.beat((Role::Gateway, None), gateway.clone(), own, &spawn);
    let copy_fault = start_workers(opened, &spawn, &hub, &run).await?;
    let engine = container_engine()?;
    let host = own_host(opened, &ends.view)?;
    opened.installation.trust_host(&trust, host);
    let bus = hub.endpoint(opened.installation.injector(host)?);
    let injector = Injector::new(
        HostSettings::from(injector_options(opened, host))
            .with_cache(&opened.config.injector.host_cache)
            .with_first_use(opened.config.injector.first_use),
        bus.clone(),
        engine,
        opened.clock.clone(),
        ids,
        Arc::new(OsEntropy),
    );
    run.beat(
        (Role::Injector, Some(host)),
        bus,
        Arc::new(injector.look()),
        &spawn,
    );
    spawn.shown.add(Arc::new(injector.metrics()));
    spawn.start("injector", injector.run(shutdown.token()));
    let restoring = parts::restore(opened.journal.clone(), shutdown.token());
    spawn.start("disk reserve", restoring);
    let parts = own_parts(opened, &hub, (copy_fault, restored));
    let parts = (parts, logins::of(&opened.config, &opened.clock)?);
    serve_socket(opened, &spawn, ends, (gateway, desk), parts, listener);
    metrics::serve(&opened.config, &spawn).await?;
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
        min_sinks: opened.config.audit.min_sinks,
        people: opened.config.dual_control.people.clone(),
        keep_records: opened.config.audit.keep_records,
    }
}

async fn start_workers(
    opened: &Opened,
    spawn: &Spawner,
    hub: &InProcess,
    run: &Run,
) -> Result<CopyFault, Error> {
    let bus = end(opened, hub, Role::StoreSync)?;
    let ports = store_sync_ports(bus.clone(), &opened.seal, opened.clock.clone(), spawn);
    let directory = opened.config.store_credentials_dir.clone();
    let options = StoreSyncOptions {
        webhook_allow: opened.config.webhook_allow.clone(),
        ..StoreSyncOptions::new(opened.installation.deployment, directory)
    };
    let store_sync = StoreSync::under_seal(options, ports, opened.seal.clone());
    let look = Arc::new(store_sync.handle());
    spawn.shown.add(look.clone());
    run.beat((Role::StoreSync, None), bus, look, spawn);
    spawn.start("store-sync", store_sync.run(spawn.shutdown.clone()));

    let bus = end(opened, hub, Role::Scheduler)?;
    let options = keywheel_scheduler::Options::default();
    let (clock, ids) = (opened.clock.clone(), opened.ids.clone());
    let scheduler = Scheduler::new(bus.clone(), clock, ids, options);
    let look = Arc::new(scheduler.handle());
    spawn.shown.add(look.clone());
    run.beat((Role::Scheduler, None), bus, look, spawn);
    spawn.start("scheduler", scheduler.run(spawn.shutdown.clone()));

    let options = AuditSinkOptions {
        path: opened.config.data_dir.join("audit-sink.db"),
    };
    let bus = end(opened, hub, Role::AuditSink)?;
    let sink = AuditSink::open(&options, bus.clone()).await.map_err(|error| {
        let next = "free what is named above, or move audit-sink.db away and keep it: a new one begins with what the journal still has";
        Error::new(Kind::Unavailable, keywheel_daemon::chain(&error), next)
    })?;
    let copy_fault = compare_copy(&sink.handle(), opened.journal.head().await?.audit_size);
    let machine = opened.host_name.to_string();
    let onward = sinks::options(&opened.config, machine, opened.clock.clone())?;
    let sink = sink.with_sinks(&onward);
    let look = Arc::new(sink.handle());
    spawn.shown.add(look.clone());
    run.beat((Role::AuditSink, None), bus, look, spawn);
    spawn.start("audit-sink", sink.run(spawn.shutdown.clone()));
    Ok(copy_fault)
}

/// Whether the audit's second copy held more at the start than the journal: then that was cut.
fn compare_copy(copy: &keywheel_audit_sink::Handle, kept_here: u64) -> CopyFault {
    let kept_there = copy.size();
    (kept_there > kept_here).then(|| {
        let note = format!(
            "the audit sink kept {kept_there} records when the journal had {kept_here}: the journal was cut or put back"
        );
        let next = "keep both files, and compare them with your backup";
        Fact::problem(COPY_FACT, note, next)
    })
}

/// Bus and journal of this one process.
fn own_parts(
    opened: &Opened,
    hub: &InProcess,
    (copy_fault, restored): (CopyFault, Option<Fact>),
) -> Parts {
    let known: Vec<Fact> = copy_fault.into_iter().chain(restored).collect();
    let (hub, journal) = (hub.clone(), opened.journal.clone());
    Arc::new(move || {
        let mut log = parts::sqlite(&journal);
        log.facts.extend(known.clone());
        vec![parts::in_process(&hub.refused()), log]
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

fn outside_ports(opened: &Opened, bus: &Arc<dyn Bus>) -> OutsidePorts {
    OutsidePorts {
        journal: opened.journal.clone(),
        deliveries: opened.journal.clone(),
        clock: opened.clock.clone(),
        ids: opened.ids.clone(),
        bus: bus.clone(),
        deployment: opened.installation.deployment,
        letter_key: opened.letter_key.clone(),
    }
}

fn maker(opened: &Opened) -> Maker {
    let seal = opened.seal.clone();
    Maker {
        data_dir: opened.config.data_dir.clone(),
        deployment: opened.installation.deployment,
        journal: opened.journal.clone(),
        cache: Arc::new(move || seal.own_cache()),
        key: opened.backup_key.clone(),
        clock: opened.clock.clone(),
        turn: tokio::sync::Mutex::default(),
    }
}

fn serve_socket(
    opened: &Opened,
    spawn: &Spawner,
    ends: Ends,
    (gateway, desk): (Arc<dyn Bus>, Desk),
    (parts, logins): (Parts, Option<Arc<Logins>>),
    listener: tokio::net::UnixListener,
) {
    let api = http::Api {
        commands: ends.handle.clone(),
        view: ends.view.clone(),
        journal: opened.journal.clone(),
        deliveries: opened.journal.clone(),
        outside: Arc::new(desk),
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
        next_fires: fires::next_fires,
        outlook: fires::outlook,
        join_tokens: None,
        denials: Arc::new(Denials::default()),
        waits: Arc::default(),
        scans: http::Scans::default(),
        presences: ends.presences.clone(),
        parts,
        admission: ends.admission.clone(),
        tokens: Arc::default(),
        backups: Some(Arc::new(maker(opened))),
        logins,
        under_way: http::UnderWay::default(),
        health_looks: Arc::default(),
    };
    spawn.shown.add(Arc::new(Metrics::new(api.clone())));
    let server = Server::new(api, Spans::default());
    let token = spawn.shutdown.token();
    spawn.tasks.spawn(async move {
        // Its last records need the command bus, which goes on until then.
        let _deciding = ends.deciding;
        server.run(listener, token).await;
    });
}
