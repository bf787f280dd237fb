//! `keywheel server ROLE`: one service by itself, over NATS, with credentials of its own.
//!
//! It only wires, like `up`: the same services, another bus. Invariants: credentials are those of the
//! role that was asked for; only the gateway opens the journal, only store-sync the cache.

mod bus;
mod bus_part;
mod credentials;
mod database;
mod gateway;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keywheel_bus::{Nats, START_TIMEOUT, Trust};
use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use keywheel_core::name::HostName;
use keywheel_daemon::{Shutdown, SystemClock, SystemIds, settings};
use keywheel_engine::port::clock::Clock as _;
use keywheel_gateway::registry::Registry;
use keywheel_identity::bundle::{Bundle, Identity};
use keywheel_schemas::config::{Config, ConfigFlags};
use keywheel_schemas::subject::role_word;
use keywheel_seal::sign::SigningKey;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::args::ServerArgs;
use crate::metrics::{self, Shown};
use crate::presence::Run;
use crate::spans;
use crate::up::{Error, Kind, layout};
use crate::wiring::{Spawner, harden};

/// How long services may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures that wait to be told; the first one ends the process.
const MAX_FAILURES: usize = 16;

/// Everything that is open before the service runs.
struct Opened {
    config: Config,
    host_name: HostName,
    /// Directory of the credentials.
    directory: PathBuf,
    /// The gateway's authorities.
    registry: Option<Arc<Registry>>,
    bundle: Bundle,
    identity: Identity,
    trust: Trust,
    nats: Nats,
    clock: Arc<SystemClock>,
    ids: Arc<SystemIds>,
}

impl Opened {
    const fn deployment(&self) -> DeploymentId {
        self.identity.deployment
    }

    /// This run, for its presence.
    fn run(&self) -> Run {
        Run {
            machine: self.host_name.to_string(),
            credentials: Some(self.directory.clone()),
            nats: Some(self.nats.clone()),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        }
    }

    /// A second copy of this service's signing key.
    fn signing_key(&self) -> Result<SigningKey, Error> {
        keywheel_member::signing_key(&self.identity)
            .map_err(|e| Error::new(Kind::Broken, keywheel_daemon::chain(&e), "report this"))
    }
}

/// Runs until a signal, or until the service cannot go on.
pub(crate) async fn run(args: ServerArgs) -> Result<(), Error> {
    let role = args.role.role();
    let flags = ConfigFlags {
        data_dir: args.data_dir,
        socket: args.socket,
        metrics_listen: args.metrics_listen,
        otlp_endpoint: args.otlp_endpoint,
        log_format: args.log_format,
        ..ConfigFlags::default()
    };
    let config = settings::load(args.config.as_deref(), flags)?;
    match role {
        Role::AuditSink => drop(crate::sinks::read(&config)?),
        Role::Gateway => drop(crate::logins::read(&config)?),
        _ => {}
    }
    harden(config.require_locked_memory)?;
    let opened = open(config, role).await?;
    let exporting = spans::start(&opened.config, opened.clock.clone(), opened.ids.clone())?;
    let shutdown = Shutdown::new();
    shutdown
        .on_signals()
        .map_err(|e| Error::new(Kind::Broken, keywheel_daemon::chain(&e), "report this"))?;
    let (failed, mut failures) = mpsc::channel(MAX_FAILURES);
    let tasks = TaskTracker::new();
    let spawn = Spawner {
        tasks: tasks.clone(),
        failed,
        shutdown: shutdown.clone(),
        shown: Shown::default(),
    };
    let _held = start(&opened, role, &spawn).await?;
    metrics::serve(&opened.config, &spawn).await?;
    tracing::info!(role = role_word(role), "serving");
    keywheel_daemon::readiness::ready();
    let token = shutdown.token();
    let failure = tokio::select! {
        () = token.cancelled() => None,
        failure = failures.recv() => failure,
    };
    tracing::info!("stopping");
    shutdown.request();
    tasks.close();
    let _late = tokio::time::timeout(STOP_TIMEOUT, tasks.wait()).await;
    opened.nats.shutdown().await;
    spans::finish(exporting).await;
    if role == Role::Gateway {
        let _gone = std::fs::remove_file(&opened.config.socket);
    }
    failure.map_or(Ok(()), |(service, reason)| {
        Err(Error::new(
            Kind::Broken,
            format!("{service} cannot go on: {reason}"),
            "start again: it resumes; the log above has the cause",
        ))
    })
}

/// What a role holds open while it serves.
type Held = Option<std::fs::File>;

async fn start(opened: &Opened, role: Role, spawn: &Spawner) -> Result<Held, Error> {
    if role != Role::Gateway {
        credentials::keep(opened, spawn);
    }
    match role {
        Role::Gateway => gateway::start(opened, spawn).await.map(Some),
        Role::StoreSync => workers::store_sync(opened, spawn).await.map(Some),
        Role::Scheduler => {
            workers::scheduler(opened, spawn);
            Ok(None)
        }
        Role::AuditSink => workers::audit_sink(opened, spawn).await.map(Some),
        Role::Injector => Err(Error::new(
            Kind::BadConfiguration,
            "an injector is no server",
            "run `keywheel-injector run`",
        )),
    }
}

async fn open(config: Config, role: Role) -> Result<Opened, Error> {
    let directory = config.apart.identity_dir.clone().ok_or_else(|| {
        Error::new(
            Kind::BadConfiguration,
            format!("the {} has no credentials", role_word(role)),
            "name its directory, made by `keywheel init`, as `identity_dir` in the configuration",
        )
    })?;
    let clock = Arc::new(SystemClock::new());
    let registry = match role {
        Role::Gateway => Some(credentials::open_registry(&config, &directory, &clock)?),
        _ => None,
    };
    let host_name = HostName::parse(&config.host_name).map_err(|e| {
        let next = "give a name with `host.name` in the configuration";
        Error::new(Kind::BadConfiguration, e.to_string(), next)
    })?;
    let ids = Arc::new(SystemIds);
    let end = clock.monotonic().saturating_add(START_TIMEOUT);
    let (bundle, identity, trust, nats) = loop {
        let (bundle, identity) = credentials::read(&directory, role, clock.now())?;
        let trust = keywheel_member::trust(&identity);
        let times = (clock.clone(), ids.clone());
        match bus::connect(&config, (&bundle, &identity), &trust, times).await {
            Ok(nats) => break (bundle, identity, trust, nats),
            // The gateway waits on with fresh credentials: a leader may take longer than these live.
            Err(error) if error.may_pass() && clock.monotonic() < end => {
                credentials::refresh_own(registry.as_ref(), &directory, &clock)?;
            }
            Err(error) => return Err(bus::refused(&error)),
        }
    };
    Ok(Opened {
        config,
        host_name,
        directory,
        registry,
        bundle,
        identity,
        trust,
        nats,
        clock,
        ids,
    })
}

/// Makes the data directory and holds it for this process.
fn claim(config: &Config) -> Result<std::fs::File, Error> {
    layout::private_directory(&config.data_dir)?;
    layout::lock(&config.data_dir)
}
