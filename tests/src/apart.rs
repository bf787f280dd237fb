//! Keywheel as several processes over NATS: as many of each as a test wants.
//!
//! Owns: bus servers, services, injectors, their files below the server's scratch directory, a second
//! engine per host, a network and a PostgreSQL server where the shape asks for them. Invariant: all of
//! it goes with the value. Which mode the suites of one host run in is said by one variable, so the
//! same tests judge both.

mod configuration;
mod shape;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::port::{held_pair, held_port};
use keywheel_testkit::server::postgres::{PASSWORD, PostgresServer};

use crate::engine::{Daemon, Engine, Manner};
use crate::keywheel::{Options, READY};
use crate::lan::{self, Lan};
use crate::output::Output;
use crate::process::Process;
use crate::scratch::binary;
use crate::spans;
use crate::tap::Tap;
use crate::wait;

pub use self::shape::{Role, Shape, numbered};

/// Says `apart` when the suites run over NATS.
const MODE: &str = "KEYWHEEL_TEST_MODE";
const LOOPBACK: &str = "127.0.0.1";
/// The bus server that is used.
const NATS_VERSION: &str = "2.15.1";
/// The first host; the second is `test-host-2`.
pub const HOST: &str = "test-host";
/// A bus server's port for the others lies this far above, as `keywheel init` says.
const CLUSTER_OFFSET: u16 = 2000;
/// The first port of the bus servers, and that at which hosts join, in a network of our own.
const LAN_PORTS: [u16; 2] = [4222, 8444];
/// Where the collector takes spans in such a network, over HTTP and gRPC.
const LAN_COLLECTOR: [u16; 2] = [4318, 4317];
/// How a process ends that was asked to.
const CLEAN: &str = "exit status: 0";
/// How the names begin of what processes write below the scratch directory.
const WRITTEN: [&str; 12] = [
    "audit-sink",
    "collector",
    "data",
    "deployment",
    "gateway",
    "host",
    "injector",
    "nats",
    "run",
    "scheduler",
    "store-sync",
    "tap",
];

/// Whether this run is over NATS.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the harness reads its own mode")]
pub fn is_wanted() -> bool {
    std::env::var(MODE).is_ok_and(|mode| mode == "apart")
}

/// The bus server's program, as `tests/run.sh` installs it.
#[expect(clippy::disallowed_methods, reason = "where the installer put it")]
pub fn nats_server() -> Result<PathBuf> {
    let home = || std::env::var("HOME").map(|home| format!("{home}/.cache/keywheel/nats"));
    let kept = std::env::var("KEYWHEEL_NATS_DIR").or_else(|_| home())?;
    let path = Path::new(&kept).join(NATS_VERSION).join("bin/nats-server");
    ensure!(
        path.exists(),
        "{} is missing: ./tests/run.sh installs it",
        path.display()
    );
    Ok(path)
}

/// All processes of a deployment. Injectors go before their engines, those before the network.
#[derive(Debug)]
pub struct Apart {
    processes: Vec<(Role, usize, Process)>,
    daemons: Vec<Daemon>,
    places: Places,
    lan: Option<Lan>,
    database: Option<Database>,
    tap: Option<Tap>,
}

/// What was decided before anything runs.
#[derive(Debug)]
struct Places {
    root: PathBuf,
    shape: Shape,
    /// Where everything listens.
    address: &'static str,
    bus_ports: Vec<u16>,
    join_ports: Vec<u16>,
    collector_ports: [u16; 2],
}

/// PostgreSQL for journal and cache.
struct Database(PostgresServer);

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

/// A port of loopback that is ours, and so is the one above for a cluster.
fn own_port(needs_another: bool) -> u16 {
    match needs_another {
        true => held_pair(CLUSTER_OFFSET),
        false => held_port(),
    }
}

impl Places {
    fn choose(root: &Path, shape: &Shape) -> Self {
        let ports = |from: u16, count: usize, more: bool| -> Vec<u16> {
            match shape.lan {
                true => (from..).take(count).collect(),
                false => (0..count).map(|_| own_port(more)).collect(),
            }
        };
        let [bus, join] = LAN_PORTS;
        Self {
            root: root.to_owned(),
            shape: shape.clone(),
            address: if shape.lan { lan::ADDRESS } else { LOOPBACK },
            bus_ports: ports(bus, shape.bus, shape.bus > 1),
            join_ports: ports(join, shape.gateways, false),
            collector_ports: match shape.lan {
                true => LAN_COLLECTOR,
                false => [own_port(false), own_port(false)],
            },
        }
    }
}

impl Apart {
    /// Keys and configuration below a scratch directory; of the services nothing runs yet.
    pub fn make(root: &Path, shape: &Shape) -> Result<Self> {
        ensure!(
            !shape.lan || !(shape.tap || shape.database),
            "tap and database are reached on loopback, which the services leave for a network"
        );
        let lan = match shape.lan {
            true => Some(Lan::make(root, shape.hosts)?),
            false => None,
        };
        let places = Places::choose(root, shape);
        places.init()?;
        let tap = match places.bus_ports.first() {
            Some(port) if shape.tap => Some(Tap::begin(&root.join("tap"), *port)?),
            _ => None,
        };
        let mut apart = Self {
            processes: Vec::new(),
            daemons: Vec::new(),
            places,
            lan,
            database: shape.database.then(|| Database(PostgresServer::start())),
            tap,
        };
        apart.configure()?;
        if shape.own_engines {
            for host in 0..shape.hosts {
                let namespace = apart.namespace(host);
                let root = root.join(numbered("engine", host));
                let socket = apart.run_dir(host).join("injector.sock");
                let manner = Manner {
                    runtime: shape.default_runtime,
                    remap: shape.userns_remap,
                    ..Manner::default()
                };
                let daemon = Daemon::start(&root, &socket, namespace.as_deref(), manner)?;
                apart.daemons.push(daemon);
            }
        }
        Ok(apart)
    }

    fn configure(&mut self) -> Result<()> {
        let urls = match &self.database {
            None => None,
            Some(Database(server)) => {
                fs::write(self.places.password_file(), PASSWORD)?;
                let _over_socket = (server.database("journal"), server.database("cache"));
                Some([server.tcp_url("journal"), server.tcp_url("cache")])
            }
        };
        let tap = self.tap.as_ref().map(Tap::port);
        self.places.write_all(urls.as_ref(), tap)?;
        let shape = self.places.shape.clone();
        if shape.collector {
            let words = spans::arguments(self.places.address, self.places.collector_ports);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.add(Role::Collector, 0, &spans::collector()?, &words)?;
        }
        for number in 0..shape.bus {
            let config = self.places.bus_config(number).display().to_string();
            self.add(Role::Bus, number, &nats_server()?, &["-c", &config])?;
        }
        for (role, count) in shape.services() {
            for number in 0..count {
                let config = self.places.config(role, number).display().to_string();
                let words = ["server", role.word(), "--config", &config];
                self.add(role, number, &binary("keywheel")?, &words)?;
            }
        }
        for host in 0..shape.hosts {
            let config = self.places.config(Role::Injector, host);
            let config = config.display().to_string();
            let words = ["run", "--config", &config];
            self.add(Role::Injector, host, &binary("keywheel-injector")?, &words)?;
        }
        Ok(())
    }

    fn add(&mut self, role: Role, number: usize, program: &Path, words: &[&str]) -> Result<()> {
        let name = role.name(number);
        // The first gateway stands where `keywheel up` would.
        let log = match (role, number) {
            (Role::Gateway, 0) => "up.log".to_owned(),
            _ => format!("{name}.log"),
        };
        let namespace = match role {
            Role::Injector => self.namespace(number),
            _ => self.lan.as_ref().map(Lan::services),
        };
        let log = self.places.root.join(log);
        let process = Process::new(&name, log, program, words).inside(namespace.as_deref());
        self.processes.push((role, number, process));
        Ok(())
    }

    fn namespace(&self, host: usize) -> Option<String> {
        self.lan.as_ref()?.host(host)
    }

    /// One process, counted from 0.
    pub fn process(&mut self, role: Role, number: usize) -> Result<&mut Process> {
        let mut all = self.processes.iter_mut();
        let found = all.find(|(its, at, _)| (*its, *at) == (role, number));
        let (_, _, process) =
            found.with_context(|| format!("there is no {}", role.name(number)))?;
        Ok(process)
    }

    /// The first gateway's process id.
    #[must_use]
    pub fn gateway_pid(&self) -> Option<u32> {
        let mut all = self.processes.iter();
        let found = all.find(|(role, number, _)| (*role, *number) == (Role::Gateway, 0));
        found.and_then(|(_, _, process)| process.pid())
    }

    /// Starts what does not run: bus servers, services, hosts that have joined.
    pub fn up(&mut self, options: &Options) -> Result<()> {
        let mut environment = options.environment.clone();
        if let Some(points) = &options.failpoints {
            environment.push(("KEYWHEEL_FAILPOINTS".to_owned(), points.clone()));
        }
        let shape = self.places.shape.clone();
        if shape.collector {
            self.process(Role::Collector, 0)?.start()?;
            let [port, _] = self.places.collector_ports;
            let at = format!("http://{}:{port}", self.places.address);
            for (name, value) in [("ENDPOINT", at.as_str()), ("COMPRESSION", "gzip")] {
                let name = format!("OTEL_EXPORTER_OTLP_{name}");
                environment.push((name, value.to_owned()));
            }
        }
        for number in 0..shape.bus {
            self.process(Role::Bus, number)?.start()?;
        }
        // Nobody waits for the bus: who starts with it does so by itself, also for a cluster's leader.
        for (role, count) in shape.services() {
            for number in 0..count {
                self.start((role, number), environment.clone(), &options.prefix)?;
            }
        }
        for host in 0..shape.hosts {
            if !self.places.has_joined(host) {
                continue;
            }
            let engine = self.engine(host).address();
            let engine = engine.map(|at| ("DOCKER_HOST".to_owned(), at));
            let more = environment.iter().cloned().chain(engine).collect();
            self.start((Role::Injector, host), more, &options.prefix)?;
        }
        Ok(())
    }

    fn start(
        &mut self,
        (role, number): (Role, usize),
        environment: Vec<(String, String)>,
        prefix: &[String],
    ) -> Result<()> {
        let process = self.process(role, number)?;
        process.set_environment(environment);
        if !prefix.is_empty() {
            process.set_prefix(prefix.to_vec());
        }
        process.start()
    }

    /// Waits until store-syncs serve after their last start.
    pub fn wait_store_sync(&mut self) -> Result<()> {
        for number in 0..self.places.shape.store_syncs {
            let process = self.process(Role::StoreSync, number)?;
            process.wait_said("store-sync serves")?;
        }
        Ok(())
    }

    /// Waits until every gateway answers, which it does after it listens at its ports.
    pub fn wait_gateways(&self) -> Result<()> {
        for number in 0..self.places.shape.gateways {
            let address = format!("unix://{}", self.gateway_socket(number).display());
            wait::until_true("a gateway to answer", READY, || {
                let mut ask = Command::new(binary("keywheel")?);
                ask.args(["status", "-o", "json"])
                    .env("KEYWHEEL_ADDRESS", &address);
                Ok(Output::of(&mut ask)?.code == 0)
            })?;
        }
        Ok(())
    }

    /// Names of hosts without credentials, each with its number.
    #[must_use]
    pub fn unjoined(&self) -> Vec<(usize, String)> {
        let all = 0..self.places.shape.hosts;
        all.filter(|host| !self.places.has_joined(*host))
            .map(|host| (host, numbered(HOST, host)))
            .collect()
    }

    /// A host joins with a token.
    pub fn join(&mut self, host: usize, token: &str) -> Result<()> {
        let path = self.places.root.join("token");
        fs::write(&path, token)?;
        let program = binary("keywheel-injector")?;
        let mut join = match self.namespace(host) {
            None => Command::new(program),
            Some(namespace) => {
                let mut enter = Command::new("nsenter");
                enter.arg(format!("--net={namespace}")).arg(program);
                enter
            }
        };
        join.arg("join").arg("--token-file").arg(&path);
        join.arg("--identity-dir").arg(self.host_identity(host));
        Output::of(&mut join)?.ok()?;
        Ok(fs::remove_file(path)?)
    }

    /// Where a host's injector has its socket and bundles.
    #[must_use]
    pub fn run_dir(&self, host: usize) -> PathBuf {
        self.places.root.join(numbered("run", host))
    }

    /// A host's credentials.
    #[must_use]
    pub fn host_identity(&self, host: usize) -> PathBuf {
        self.places.host_identity(host)
    }

    /// A gateway's socket.
    #[must_use]
    pub fn gateway_socket(&self, number: usize) -> PathBuf {
        let run = self.places.service_run(Role::Gateway, number);
        run.join("keywheel.sock")
    }

    /// A host's engine.
    #[must_use]
    pub fn engine(&self, host: usize) -> Engine {
        let own = self.daemons.get(host).map(Daemon::engine);
        own.unwrap_or_default()
    }

    /// A host's own engine, to be ended and started.
    pub fn daemon(&mut self, host: usize) -> Result<&mut Daemon> {
        let own = self.daemons.get_mut(host);
        own.context("this host has no engine of its own")
    }

    /// The network, where the shape has one.
    pub fn lan(&self) -> Result<&Lan> {
        self.lan.as_ref().context("this shape has no network")
    }

    /// The PostgreSQL server, where the shape has one.
    pub fn database(&mut self) -> Result<&mut PostgresServer> {
        let own = self.database.as_mut();
        let Database(server) = own.context("this shape has no database")?;
        Ok(server)
    }

    /// What the tap heard, where the shape has one.
    pub fn tap(&self) -> Result<&Tap> {
        self.tap.as_ref().context("this shape has no tap")
    }

    /// What the collector was told.
    #[must_use]
    pub fn collector_log(&self) -> PathBuf {
        self.places.root.join("collector.log")
    }

    /// What this is.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.places.shape
    }

    /// Where a bus server is reached, past the tap.
    #[must_use]
    pub fn bus_port(&self, number: usize) -> Option<u16> {
        self.places.bus_ports.get(number).copied()
    }

    /// Everything the processes write, for the canary: data, runtime state, streams, logs,
    /// credentials. Engines are searched by container.
    #[must_use]
    pub fn trees(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.places.root).into_iter().flatten();
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            WRITTEN.iter().any(|prefix| name.starts_with(prefix))
        };
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter(is_ours).collect()
    }

    /// Ends everything but engines and database as a power cut would.
    pub fn kill9(&mut self) -> Result<()> {
        let mut all = self.processes.iter_mut().rev();
        all.try_for_each(|(_, _, process)| process.kill9())
    }

    /// The same by asking, so that bundles are unmounted; tells how the gateway ended, or whoever of
    /// ours ended in another way.
    pub fn stop(&mut self) -> Result<String> {
        let mut said = "not started".to_owned();
        for (role, _, process) in self.processes.iter_mut().rev() {
            let Some(ended) = process.stop()? else {
                continue;
            };
            if *role == Role::Gateway {
                said = ended;
            } else if !matches!(role, Role::Bus | Role::Collector) && ended != CLEAN {
                return Ok(format!("{}: {ended}", process.name()));
            }
        }
        Ok(said)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for (_, _, process) in self.processes.iter_mut().rev() {
            if std::thread::panicking() {
                let (name, tail) = (process.name(), process.tail());
                eprintln!("--- the end of the log of {name}\n{tail}");
            }
            // A paused one would not hear that it is to stop.
            let _ = process.resume();
            let _ = process.stop();
        }
    }
}
