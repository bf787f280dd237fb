//! The injector by itself: settings, credentials, the bus over NATS, the container engine.
//!
//! It only wires. Exit codes are those of the README's table.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keywheel_bus::{ConnectError, Nats};
use keywheel_containers::DockerOptions;
use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_core::name::HostName;
use keywheel_daemon::settings::SettingsError;
use keywheel_daemon::{Shutdown, SystemClock, SystemIds, chain, env, failpoint, names, settings};
use keywheel_engine::port::PortError;
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::presence::{About, Beat, WithMemory};
use keywheel_identity::bundle::{Bundle, Identity};
use keywheel_identity::life::{issue_and_end_of, life_of};
use keywheel_identity::token::MAX_TOKEN_CHARS;
use keywheel_member::{Begin, Keeper, MemberError, OverBus, Sealing};
use keywheel_schemas::config::metrics::MetricsListen;
use keywheel_schemas::config::otlp::{HEADERS_VARIABLE, OtlpHeaders};
use keywheel_schemas::config::{Config, ConfigFlags};
use keywheel_schemas::subject::role_word;
use keywheel_seal::{OsEntropy, memory as locked};
use keywheel_sys::memory;
use keywheel_telemetry::traces::{self, Collector, Exporting, Headers, Resource, SpanCounts};
use keywheel_telemetry::{Endpoint, Instance, Listen, LogLines, Source};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::returning::Returning;
use crate::{Handle, HostSettings, Injector, InjectorError, InjectorOptions, join};

/// How long after a change memory is given back: by then its reports are on their way.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);

/// Exit codes, as the README's table has them.
mod exit {
    pub(super) const UNEXPECTED: u8 = 1;
    pub(super) const USAGE: u8 = 64;
    pub(super) const NO_INPUT: u8 = 66;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const CANNOT_CREATE: u8 = 73;
    pub(super) const CONFIG: u8 = 78;
}

/// Why the injector does not run, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The exit code.
    pub exit: u8,
    /// The thing and the reason.
    pub what: String,
    /// The next step.
    pub next: String,
}

impl Problem {
    fn new(exit: u8, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            next: next.into(),
        }
    }
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        let exit = match error {
            SettingsError::Unreadable { .. } => exit::NO_INPUT,
            SettingsError::Invalid(_) | SettingsError::Logging(_) => exit::USAGE,
        };
        Self::new(exit, chain(&error), error.next_step())
    }
}

impl From<MemberError> for Problem {
    fn from(error: MemberError) -> Self {
        let exit = match &error {
            MemberError::Connect(ConnectError::Unreachable { .. }) => exit::UNAVAILABLE,
            MemberError::Connect(ConnectError::Unfit(_)) => exit::CONFIG,
            _ => exit::USAGE,
        };
        let next = "check `bus.servers` and the bus server's log";
        Self::new(exit, chain(&error), next)
    }
}

/// Who this host is.
struct Host {
    directory: PathBuf,
    id: HostId,
    name: HostName,
    bundle: Bundle,
    identity: Identity,
}

/// Serves this host until a signal, or until it cannot go on.
///
/// # Errors
/// With what a person can do about it.
pub async fn run(config: Option<&Path>, flags: ConfigFlags) -> Result<(), Problem> {
    let config = settings::load(config, flags)?;
    harden(config.require_locked_memory)?;
    failpoint::arm_from_env().map_err(|e| {
        let next = "correct KEYWHEEL_FAILPOINTS, or unset it";
        Problem::new(exit::USAGE, e.to_string(), next)
    })?;
    let host = credentials(&config)?;
    let clock = Arc::new(SystemClock::new());
    let ids = Arc::new(SystemIds);
    let exporting = start_traces(&config, &host, (clock.clone(), ids.clone()))?;
    let trust = keywheel_member::trust(&host.identity);
    let nats = keywheel_member::connect(
        &config.apart.bus_servers,
        true,
        (&host.bundle, &host.identity),
        &trust,
        (clock.clone(), ids.clone()),
    )
    .await?;
    let injector = Injector::joined(
        HostSettings::from(injector_options(&config, &host))
            .with_cache(&config.injector.host_cache)
            .with_first_use(config.injector.first_use),
        &host.identity.sealing,
        nats.endpoint(),
        engine()?,
        clock.clone(),
        ids.clone(),
        Arc::new(OsEntropy),
    )
    .map_err(|e| Problem::new(exit::CONFIG, chain(&e), "join again"))?;
    let sealing = Sealing {
        keys: injector.sealing_keys(),
        age: config.injector.sealing_key_age,
    };
    let keeper = keeper(&host, &nats, clock.clone(), sealing);
    let shutdown = Shutdown::new();
    shutdown
        .on_signals()
        .map_err(|e| Problem::new(exit::UNEXPECTED, chain(&e), "report this"))?;
    serve_metrics((&config, &host), &nats, &injector, &clock, shutdown.token()).await?;
    let keeping = tokio::spawn(keeper.run(shutdown.token()));
    let beat = beat(
        (host.id, &host.name),
        &config,
        &nats,
        &injector,
        (clock, ids),
    );
    let last = beat.clone();
    let telling = tokio::spawn(beat.run(shutdown.token()));
    tokio::spawn(stay_small(injector.handle()));
    let serving = || {
        tracing::info!(host = %host.name, "serving");
        keywheel_daemon::readiness::ready();
    };
    let served = injector.serve(shutdown.token(), serving).await;
    // It says that it leaves, or why it ends, before the bus is shut down.
    leave(&served, (last, telling), &shutdown).await;
    keeping.abort();
    nats.shutdown().await;
    if let Some(exporting) = exporting {
        exporting.finish().await;
    }
    served.map_err(|e| cannot_go_on(&chain(&e)))
}

/// The last word of a beat that is under way.
async fn leave(
    served: &Result<(), InjectorError>,
    (last, telling): (Beat, JoinHandle<Result<(), PortError>>),
    shutdown: &Shutdown,
) {
    if let Err(error) = served {
        telling.abort();
        // Nothing that it began may come after the reason.
        let _aborted = telling.await;
        let problem = cannot_go_on(&chain(error));
        last.fail(problem.what, problem.next).await;
        shutdown.request();
    } else {
        shutdown.request();
        let _told = telling.await;
    }
}

fn cannot_go_on(why: &str) -> Problem {
    let next =
        "correct what is named above and start again; running containers keep what they have";
    Problem::new(exit::UNEXPECTED, why.to_owned(), next)
}

/// Tells this host's spans, where the configuration names a collector.
fn start_traces(
    config: &Config,
    host: &Host,
    (clock, ids): (Arc<SystemClock>, Arc<SystemIds>),
) -> Result<Option<Exporting>, Problem> {
    let Some(otlp) = &config.otlp else {
        return Ok(None);
    };
    let headers = match &otlp.headers {
        OtlpHeaders::None => Ok(Headers::default()),
        OtlpHeaders::File(path) => Headers::read(path),
        OtlpHeaders::Environment => {
            Headers::parse(&env::lookup(HEADERS_VARIABLE).unwrap_or_default())
        }
    };
    let next = "correct `otlp.headers_file` or OTEL_EXPORTER_OTLP_HEADERS, or leave them out";
    let collector = Collector {
        endpoint: otlp.endpoint.clone(),
        headers: headers.map_err(|e| Problem::new(exit::USAGE, chain(&e), next))?,
        gzip: otlp.gzip,
    };
    let resource = Resource {
        machine: host.name.to_string(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let started = traces::start(collector, resource, clock, ids);
    let next = "correct `otlp.endpoint`, or leave it out";
    let started = started.map_err(|e| Problem::new(exit::USAGE, chain(&e), next))?;
    Ok(Some(started))
}

/// Serves this host's metrics, where the configuration says so.
async fn serve_metrics(
    (config, host): (&Config, &Host),
    nats: &Nats,
    injector: &Injector,
    clock: &SystemClock,
    stop: CancellationToken,
) -> Result<(), Problem> {
    let listen = match &config.metrics {
        None => return Ok(()),
        Some(MetricsListen::Loopback(address)) => Listen::Tcp(*address),
        Some(MetricsListen::Unix(path)) => Listen::Unix(path.clone()),
    };
    let (end, directory) = (nats.clone(), host.directory.clone());
    let instance = Instance {
        service: role_word(Role::Injector),
        version: env!("CARGO_PKG_VERSION"),
        started: clock.now(),
        end: Some(Arc::new(move || end.end())),
        backlog: Some(Arc::new(nats.clone())),
        credentials: Arc::new(move || issue_and_end_of(&directory)),
    };
    let sources: Vec<Arc<dyn Source>> = vec![
        Arc::new(instance),
        Arc::new(injector.metrics()),
        Arc::new(SpanCounts),
        Arc::new(LogLines(keywheel_daemon::lines_lost)),
    ];
    let endpoint = Endpoint::bind(&listen, sources).await.map_err(|e| {
        let next = "give a place that is free as `metrics.listen`, such as 127.0.0.1:9464";
        Problem::new(exit::CANNOT_CREATE, chain(&e), next)
    })?;
    tokio::spawn(endpoint.run(stop));
    Ok(())
}

/// Gives memory back that the last work took, a moment after it.
async fn stay_small(mut status: Handle) {
    while status.changed().await {
        tokio::time::sleep(GIVE_BACK_AFTER).await;
        let given = tokio::task::spawn_blocking(memory::give_back).await;
        if let Ok(Err(error)) = given {
            tracing::warn!({ names::ERROR } = chain(&error), "memory not given back");
        }
    }
}

/// Closes what a daemon leaves open by default, and takes the first memory for keys. Where it cannot be locked the beat
/// says so, unless that is refused.
fn harden(must_lock: bool) -> Result<(), Problem> {
    keywheel_sys::harden::daemon().map_err(|e| {
        let next = "report this with your kernel's version";
        Problem::new(exit::UNEXPECTED, e.to_string(), next)
    })?;
    let plain = locked::plain(&locked::prepare());
    match plain.filter(|_| must_lock) {
        Some(note) => {
            let what = format!("{note}, and `memory.require_locked` is `on`");
            Err(Problem::new(exit::CONFIG, what, locked::NEXT_STEP))
        }
        None => Ok(()),
    }
}

/// What this host tells about itself.
fn beat(
    (host, name): (HostId, &HostName),
    config: &Config,
    nats: &Nats,
    injector: &Injector,
    (clock, ids): (Arc<SystemClock>, Arc<SystemIds>),
) -> Beat {
    let directory = config.apart.identity_dir.clone();
    let end = nats.clone();
    Beat {
        bus: nats.endpoint(),
        about: About {
            role: Role::Injector,
            host: Some(host),
            instance: ids.draw(),
            machine: name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: clock.now(),
        },
        clock,
        ids,
        look: Arc::new(WithMemory::new(Arc::new(injector.look()))),
        end: Some(Arc::new(move || end.end())),
        certificate_end: Arc::new(move || Some(life_of(directory.as_deref()?)?.1)),
    }
}

/// Joins with the token in a file, and writes the credentials.
///
/// # Errors
/// With what a person can do about it.
pub async fn join(token_file: &Path, directory: &Path) -> Result<(), Problem> {
    let token = read_token(token_file)?;
    let clock = Arc::new(SystemClock::new());
    let joined = join::join(token.trim(), directory, clock, &OsEntropy).await;
    let joined = joined.map_err(|e| Problem::new(exit::UNAVAILABLE, chain(&e), e.next()))?;
    let text = format!(
        "{} has joined as host {}; credentials are in {}\nnext: keywheel-injector run --config FILE     # identity_dir = \"{}\"\n",
        joined.name,
        joined.host,
        directory.display(),
        directory.display()
    );
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| {
        Problem::new(
            exit::UNEXPECTED,
            e.to_string(),
            "the host has joined; go on",
        )
    })
}

/// The token's text; it is wiped when it is dropped.
fn read_token(path: &Path) -> Result<Zeroizing<String>, Problem> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_TOKEN_CHARS + 2));
    let limit = u64::try_from(MAX_TOKEN_CHARS + 1).unwrap_or(u64::MAX);
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.map_err(|e| {
        let what = format!("cannot read the token from {}: {e}", path.display());
        Problem::new(
            exit::NO_INPUT,
            what,
            "name a file that holds the token, or - for stdin",
        )
    })?;
    Ok(text)
}

fn credentials(config: &Config) -> Result<Host, Problem> {
    let join = "join first: `keywheel host join-token NAME` on the gateway, `keywheel-injector join` here; then name the directory as `identity_dir`";
    let directory = config
        .apart
        .identity_dir
        .as_deref()
        .ok_or_else(|| Problem::new(exit::USAGE, "this host has no credentials", join))?;
    let (bundle, identity) =
        Bundle::read_speaker(directory).map_err(|e| Problem::new(exit::CONFIG, chain(&e), join))?;
    let not_a_host = || {
        let text = format!("the credentials in {} are no host's", directory.display());
        Problem::new(exit::CONFIG, text, join)
    };
    let id = identity.host().ok_or_else(not_a_host)?;
    let name = identity.host_name.clone().ok_or_else(not_a_host)?;
    if identity.sealing.is_empty() {
        return Err(not_a_host());
    }
    Ok(Host {
        directory: directory.to_owned(),
        id,
        name,
        bundle,
        identity,
    })
}

/// Keeps the credentials fresh. Once they have ended, containers keep what they have, and what is
/// kept on the disk still serves.
fn keeper(host: &Host, nats: &Nats, clock: Arc<SystemClock>, sealing: Sealing) -> Keeper {
    let begin = match keywheel_member::check_permit(&host.bundle, &host.identity) {
        Ok(()) => Begin::WhenDue,
        Err(error) => {
            // Of another build; starts are served meanwhile from what is kept.
            tracing::warn!(reason = %error, "credentials are renewed at once");
            Begin::AtOnce
        }
    };
    let source = OverBus {
        bus: nats.endpoint(),
        clock: clock.clone(),
        entropy: Arc::new(OsEntropy),
        sealing: Some(sealing),
        port: Some(Arc::new(Returning {
            clock: clock.clone(),
        })),
    };
    Keeper {
        directory: host.directory.clone(),
        source: Arc::new(source),
        nats: nats.clone(),
        clock,
        begin,
        when_ended: format!(
            "fresh ones are asked for at the gateway's join port until they come; if the gateway refuses, join again: `keywheel host join-token {}` on the gateway; here stop keywheel-injector, remove {}, run `keywheel-injector join` and start it",
            host.name,
            host.directory.display()
        ),
        taken: Box::new(|_, _| Ok(())),
    }
}

fn engine() -> Result<Arc<dyn ContainerHost>, Problem> {
    let next = "set DOCKER_HOST to unix:///path/of/docker.sock (or podman.sock), or unset it";
    let host =
        env::read("DOCKER_HOST").map_err(|e| Problem::new(exit::USAGE, e.to_string(), next))?;
    keywheel_containers::connect(&DockerOptions { host })
        .map_err(|e| Problem::new(exit::USAGE, e.to_string(), next))
}

fn injector_options(config: &Config, host: &Host) -> InjectorOptions {
    InjectorOptions {
        deployment: host.identity.deployment,
        host: host.id,
        host_name: host.name.clone(),
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
