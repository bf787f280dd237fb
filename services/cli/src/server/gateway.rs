//! The gateway by itself: the journal, the bus, the authorities, its socket and TCP ports.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;

use keywheel_core::audit::Role;
use keywheel_core::decision::Enrolment;
use keywheel_core::host::refused_keys;
use keywheel_core::world::World;
use keywheel_engine::command_bus::LearnHosts;
use keywheel_engine::port::bus::HostKeys;
use keywheel_engine::port::deliveries::Deliveries;
use keywheel_engine::port::journal::Journal;
use keywheel_engine::presence::Fact;
use keywheel_gateway::access::Access;
use keywheel_gateway::at_machine::{AtMachine, WithTrouble};
use keywheel_gateway::claims::{BusDesk, Claims, Told};
use keywheel_gateway::denials::Denials;
use keywheel_gateway::http::{Scans, TokenMaker, UnderWay};
use keywheel_gateway::join::JoinServer;
use keywheel_gateway::login::Logins;
use keywheel_gateway::metrics::Metrics;
use keywheel_gateway::registry::Registry;
use keywheel_gateway::remote::RemoteServer;
use keywheel_gateway::server::{Server, Spans};
use keywheel_gateway::views::status::Part;
use keywheel_gateway::{door, evictions, http};
use keywheel_identity::ledger::Ledger;
use keywheel_identity::tls::{TlsError, TlsIdentity};
use keywheel_journal::{JournalOptions, PostgresJournal, SqliteJournal};
use keywheel_signals::Desk;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::bus_part::Monitors;
use super::{Opened, claim, credentials, database};
use crate::logins;
use crate::outside::{self, OutsidePorts};
use crate::parts;
use crate::up::{Error, Kind, fires};
use crate::wiring::{Ends, GatewayPorts, Spawner, listen, start_gateway};

/// Asks bus and journal.
type Parts = Arc<dyn Fn() -> Vec<Part> + Send + Sync>;

/// Starts it; the lock of its directory is held as long as it runs.
pub(super) async fn start(opened: &Opened, spawn: &Spawner) -> Result<File, Error> {
    let lock = claim(&opened.config)?;
    let log = open_journal(opened).await?;
    let registry = opened.registry.clone().ok_or_else(|| {
        let what = "the gateway has no authorities";
        Error::new(Kind::Broken, what, "report this")
    })?;
    let tls = own_tls(opened)?;
    let listener = listen(&opened.config)?;
    let ports = GatewayPorts {
        journal: log.port(),
        bus: opened.nats.endpoint(),
        clock: opened.clock.clone(),
        ids: opened.ids.clone(),
        enrolment: Enrolment::ByToken,
        learn_hosts: Some(learn_hosts(opened, spawn, &registry)),
        renewals: Some(registry.clone()),
        min_sinks: opened.config.audit.min_sinks,
        people: opened.config.dual_control.people.clone(),
        keep_records: opened.config.audit.keep_records,
    };
    let ends = start_gateway(&ports, spawn).await?;
    let deeds = at_machine(opened, &ports, &ends);
    let trouble = deeds.trouble();
    spawn.tasks.spawn(deeds.run(spawn.shutdown.token()));
    let deliveries = log.deliveries();
    let outside_ports = OutsidePorts {
        journal: ports.journal.clone(),
        deliveries: deliveries.clone(),
        clock: ports.clock.clone(),
        ids: ports.ids.clone(),
        bus: ports.bus.clone(),
        deployment: opened.deployment(),
        letter_key: Arc::new(registry.letter_key()),
    };
    let desk = outside::start(&opened.config, &ends, outside_ports, spawn).await?;
    let own = (Role::Gateway, None);
    let look = Arc::new(WithTrouble::new(Arc::new(desk.clone()), trouble));
    opened.run().beat(own, ports.bus.clone(), look, spawn);
    let told = tell_claims(opened, spawn, &registry);
    let parts = own_parts(opened, log, told, spawn);
    let api = api(
        opened,
        &ends,
        ports,
        (registry.clone(), deliveries, desk),
        (parts, logins::of(&opened.config, &opened.clock)?),
    );
    serve_ports(opened, spawn, &api, registry.clone(), &tls).await?;
    credentials::keep_own(opened, registry, tls, spawn);
    spawn.shown.add(Arc::new(Metrics::new(api.clone())));
    let server = Server::new(api, Spans::default());
    let token = spawn.shutdown.token();
    spawn.tasks.spawn(async move {
        // Its last records need the command bus, which goes on until then.
        let _deciding = ends.deciding;
        server.run(listener, token).await;
    });
    Ok(lock)
}

/// Puts on record what a person does with the authorities in this gateway's directory.
fn at_machine(opened: &Opened, ports: &GatewayPorts, ends: &Ends) -> AtMachine {
    AtMachine::new(
        Ledger::new(&opened.directory),
        ports.journal.clone(),
        ends.handle.clone(),
        ports.clock.clone(),
        own_access(),
    )
}

/// Who may use the socket on this machine.
fn own_access() -> Access {
    Access::of_machine(rustix::process::geteuid().as_raw())
}

/// What hosts are known by counts for this gateway's end of the bus as soon as it is folded, and
/// what an eviction refuses is kept, to be told to the bus servers.
fn learn_hosts(opened: &Opened, spawn: &Spawner, registry: &Arc<Registry>) -> LearnHosts {
    let (evicted, refused) = watch::channel(Vec::new());
    let (registry, clock) = (registry.clone(), opened.clock.clone());
    let stop = spawn.shutdown.token();
    spawn
        .tasks
        .spawn(evictions::keep(registry, refused, clock, stop));
    let trust = opened.trust.clone();
    Arc::new(move |world: &World| {
        trust.learn_hosts(&HostKeys::of_all(world));
        evicted.send_replace(refused_keys(world));
    })
}

/// Tells the bus servers who is refused, as long as the gateway runs.
fn tell_claims(opened: &Opened, spawn: &Spawner, registry: &Arc<Registry>) -> Told {
    let named = &opened.config.apart.bus_servers;
    let servers = if named.is_empty() {
        opened.identity.servers.clone()
    } else {
        named.clone()
    };
    let told = Told::default();
    let claims = Claims {
        registry: registry.clone(),
        desk: Arc::new(BusDesk {
            directory: opened.directory.clone(),
            servers,
        }),
        clock: opened.clock.clone(),
        connects: opened.nats.connects(),
        told: told.clone(),
    };
    spawn.tasks.spawn(claims.run(spawn.shutdown.token()));
    told
}

/// Serves operators and joining machines over TCP, where that is configured.
async fn serve_ports(
    opened: &Opened,
    spawn: &Spawner,
    api: &http::Api,
    registry: Arc<Registry>,
    tls: &Arc<TlsIdentity>,
) -> Result<(), Error> {
    let apart = &opened.config.apart;
    if let Some(address) = apart.listen_api {
        let listener = bind(address, "listen.api").await?;
        let make = match apart.api_tokens {
            true => RemoteServer::with_tokens,
            false => RemoteServer::new,
        };
        let server = make(api.clone(), tls, door::Spans::default());
        let server = server.map_err(|e| tls_error(&e))?;
        spawn
            .tasks
            .spawn(server.run(listener, spawn.shutdown.token()));
    }
    if let Some(address) = apart.listen_join {
        let listener = bind(address, "listen.join").await?;
        let server = JoinServer::new(api.clone(), registry, tls, door::Spans::default());
        let server = server.map_err(|e| tls_error(&e))?;
        spawn
            .tasks
            .spawn(server.run(listener, spawn.shutdown.token()));
    }
    Ok(())
}

/// What the gateway shows at its ports.
fn own_tls(opened: &Opened) -> Result<Arc<TlsIdentity>, Error> {
    let deployment = opened.deployment();
    let credentials = opened.bundle.tls.credentials(deployment);
    let credentials = credentials.map_err(|e| tls_error(&e))?;
    let clock = opened.clock.clone();
    Ok(TlsIdentity::new(deployment, credentials, clock))
}

fn tls_error(error: &TlsError) -> Error {
    let next = "issue the gateway's credentials again";
    Error::new(Kind::Refused, keywheel_daemon::chain(error), next)
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::new(
            Kind::CannotCreate,
            format!("cannot listen at {address}: {error}"),
            format!("give an address of this machine that is free as `{setting}`"),
        )
    })
}

/// The log of record, in a file or on a server.
enum Log {
    Sqlite(Arc<SqliteJournal>),
    Postgres(Arc<PostgresJournal>, String),
}

impl Log {
    fn port(&self) -> Arc<dyn Journal> {
        match self {
            Self::Sqlite(journal) => journal.clone(),
            Self::Postgres(journal, _) => journal.clone(),
        }
    }

    fn deliveries(&self) -> Arc<dyn Deliveries> {
        match self {
            Self::Sqlite(journal) => journal.clone(),
            Self::Postgres(journal, _) => journal.clone(),
        }
    }

    fn part(&self) -> Part {
        match self {
            Self::Sqlite(journal) => parts::sqlite(journal),
            Self::Postgres(_, url) => parts::postgres(url),
        }
    }
}

/// Bus and journal as this gateway sees them.
fn own_parts(opened: &Opened, log: Log, told: Told, spawn: &Spawner) -> Parts {
    if let Log::Sqlite(journal) = &log {
        let restoring = parts::restore(journal.clone(), spawn.shutdown.token());
        spawn.start("disk reserve", restoring);
    }
    let monitors = Monitors::default();
    let named = opened.config.apart.bus_monitors.clone();
    if !named.is_empty() {
        let looking = monitors.clone().run(named, spawn.shutdown.token());
        spawn.start("bus monitors", looking);
    }
    let nats = opened.nats.clone();
    Arc::new(move || {
        let mut bus = monitors.part(&nats.health());
        bus.facts.extend(told.open().map(untold));
        vec![bus, log.part()]
    })
}

/// Evictions that the bus servers do not know of.
fn untold(reason: String) -> Fact {
    let note = format!("the bus servers do not know yet who was evicted: {reason}");
    let next = "it is told until they do; look at the bus servers' logs";
    Fact::problem("evictions", note, next)
}

async fn open_journal(opened: &Opened) -> Result<Log, Error> {
    let deployment = opened.deployment();
    let options = JournalOptions {
        deployment,
        source: format!("keywheel/{deployment}/gateway"),
        signing_key: opened.signing_key()?,
        origin: origin(opened),
    };
    if let Some(database) = &opened.config.apart.journal {
        let address = database::address(database, "journal.url")?;
        let journal = PostgresJournal::open(&address, options).await?;
        return Ok(Log::Postgres(Arc::new(journal), database.url.clone()));
    }
    let path = opened.config.data_dir.join("journal.db");
    let journal = SqliteJournal::open(&path, options).await?;
    Ok(Log::Sqlite(Arc::new(journal)))
}

/// Origin line of the audit's checkpoints.
fn origin(opened: &Opened) -> String {
    format!("keywheel.dev/audit/{}", opened.deployment())
}

fn api(
    opened: &Opened,
    ends: &Ends,
    ports: GatewayPorts,
    (registry, deliveries, desk): (Arc<Registry>, Arc<dyn Deliveries>, Desk),
    (parts, logins): (Parts, Option<Arc<Logins>>),
) -> http::Api {
    let public_key = opened.identity.trust.get(&Role::Gateway);
    let can_join = opened.config.apart.listen_join.is_some();
    http::Api {
        commands: ends.handle.clone(),
        view: ends.view.clone(),
        journal: ports.journal,
        deliveries,
        outside: Arc::new(desk),
        bus: ports.bus,
        clock: ports.clock,
        ids: ports.ids,
        access: own_access(),
        deployment: opened.deployment(),
        host: opened.host_name.clone(),
        data_dir: opened.config.data_dir.display().to_string(),
        origin: origin(opened),
        public_key: public_key.map(|key| key.to_bytes()).unwrap_or_default(),
        check_schedule: keywheel_scheduler::schedule::check,
        next_fires: fires::next_fires,
        outlook: fires::outlook,
        join_tokens: can_join.then_some(registry as Arc<dyn TokenMaker>),
        denials: Arc::new(Denials::default()),
        waits: Arc::default(),
        scans: Scans::default(),
        presences: ends.presences.clone(),
        parts,
        admission: ends.admission.clone(),
        tokens: Arc::default(),
        backups: None,
        logins,
        under_way: UnderWay::default(),
        health_looks: Arc::default(),
    }
}
