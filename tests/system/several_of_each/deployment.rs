//! Two gateways, two schedulers and several store-syncs over one PostgreSQL server and one bus server,
//! with an audit sink and one host.
//!
//! Invariant: everything it started ends with its value, also what was stopped by a signal. It knows
//! the product by its binaries only.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use keywheel_testkit::server::port::held_port;
use keywheel_testkit::server::postgres::{PASSWORD, PostgresServer};
use keywheel_tests::apart::nats_server;
use keywheel_tests::output::Output;
use keywheel_tests::scratch::{Scratch, binary, unique};
use keywheel_tests::stage::find;
use keywheel_tests::wait;
use serde_json::Value;

/// How long anything may take that is awaited.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The one host.
pub(crate) const HOST: &str = "test-host";
/// Lines of each log that a failed test shows.
const LOG_TAIL: usize = 25;
/// The key file that the store-syncs of one cache share.
const CACHE_KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// One process of the deployment.
pub(crate) struct Process {
    name: String,
    program: PathBuf,
    words: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    fn new(scratch: &Scratch, name: &str, program: PathBuf, words: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            program,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            log: scratch.join(&format!("{name}.log")),
            child: None,
        }
    }

    /// Starts it (again).
    pub(crate) fn start(&mut self, failpoints: Option<&str>) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(failpoints) = failpoints {
            command.env("KEYWHEEL_FAILPOINTS", failpoints);
        }
        let started = command.spawn();
        self.child = Some(started.with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// Sends it a signal, such as STOP or CONT.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        let pid = child.id().to_string();
        let said = Output::of(Command::new("kill").args([&format!("-{signal}"), &pid]))?;
        said.ok().map(drop)
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Whether it ended by itself, such as at a failpoint.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        let Some(child) = &mut self.child else {
            return Ok(true);
        };
        let ended = child.try_wait()?.is_some();
        if ended {
            self.child = None;
        }
        Ok(ended)
    }

    /// Everything it wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it wrote something.
    pub(crate) fn wait_for(&mut self, words: &str) -> Result<()> {
        let what = format!("{} to say `{words}`", self.name);
        wait::until(&what, PATIENCE, || {
            if self.log().contains(words) {
                return Ok(Some(Ok(())));
            }
            Ok(self
                .has_ended()?
                .then(|| bail!("{} ended:\n{}", self.name, self.log())))
        })?
    }

    /// Asked first, so that bundles are unmounted.
    fn end(&mut self) {
        if self.child.is_none() {
            return;
        }
        let _asked = self.signal("TERM");
        let _woken = self.signal("CONT");
        let ended = wait::until_true("it to end", Duration::from_secs(20), || self.has_ended());
        if ended.is_err() {
            let _killed = self.kill9();
        }
    }
}

/// All of it. Fields drop in order.
pub(crate) struct Deployment {
    injector: Process,
    pub(crate) store_syncs: Vec<Process>,
    pub(crate) schedulers: [Process; 2],
    audit_sink: Process,
    pub(crate) gateways: [Process; 2],
    bus: Process,
    pub(crate) postgres: PostgresServer,
    runtime: Option<String>,
    heard: Mutex<Vec<Output>>,
    pub(crate) scratch: Scratch,
}

impl Deployment {
    /// Makes keys and databases and starts everything but store-syncs and the host.
    pub(crate) fn start(store_syncs: usize) -> Result<Self> {
        let scratch = Scratch::make()?;
        for folder in ["run", "key"] {
            fs::create_dir(scratch.join(folder))?;
        }
        let (bus_port, ports) = (held_port(), [held_port(), held_port()]);
        init(&scratch, bus_port)?;
        let postgres = PostgresServer::start();
        let databases = ["journal", "cache"].map(|name| {
            let _by_socket = postgres.database(name);
            postgres.tcp_url(name)
        });
        private(&scratch, "key/password", PASSWORD)?;
        private(&scratch, "key/cache.key", CACHE_KEY)?;
        let maker = Maker {
            scratch: &scratch,
            databases,
        };
        let gateways = [maker.gateway(0, ports)?, maker.gateway(1, ports)?];
        let schedulers = [
            maker.server("scheduler", "scheduler-1", "")?,
            maker.server("scheduler", "scheduler-2", "")?,
        ];
        let store_syncs: Result<Vec<Process>> = (1..=store_syncs)
            .map(|number| maker.store_sync(&format!("store-sync-{number}")))
            .collect();
        let config = scratch.join("deployment/nats/bus-1/nats.conf");
        let words = ["-c", &config.display().to_string()];
        let mut deployment = Self {
            injector: maker.injector()?,
            store_syncs: store_syncs?,
            schedulers,
            audit_sink: maker.server("audit-sink", "audit-sink", "")?,
            gateways,
            bus: Process::new(&scratch, "bus", nats_server()?, &words),
            postgres,
            runtime: None,
            heard: Mutex::default(),
            scratch,
        };
        deployment.bus.start(None)?;
        wait::until_true("the bus server", PATIENCE, || {
            Ok(TcpStream::connect(("127.0.0.1", bus_port)).is_ok())
        })?;
        deployment.start_services()?;
        Ok(deployment)
    }

    fn start_services(&mut self) -> Result<()> {
        for gateway in [0, 1] {
            self.gateways[gateway].start(None)?;
            self.wait_ready(gateway)?;
        }
        for scheduler in &mut self.schedulers {
            scheduler.start(None)?;
        }
        self.audit_sink.start(None)
    }

    /// Waits until a gateway answers.
    pub(crate) fn wait_ready(&self, gateway: usize) -> Result<()> {
        wait::until_true("a gateway to answer", PATIENCE, || {
            Ok(Output::of(&mut self.client(gateway, &["status"])?)?.code == 0)
        })
    }

    /// The host joins with a token that one gateway made and the other takes.
    pub(crate) fn join_host(&mut self) -> Result<()> {
        let said = self.json(0, &["host", "join-token", HOST])?;
        let token = find(&said, "token").and_then(Value::as_str);
        let path = self.scratch.write("token", token.context("no token")?)?;
        let mut join = Command::new(binary("keywheel-injector")?);
        join.arg("join").arg("--token-file").arg(&path);
        join.arg("--identity-dir").arg(self.scratch.join("host"));
        Output::of(&mut join)?.ok()?;
        fs::remove_file(path)?;
        self.injector.start(None)?;
        let socket = self.scratch.join("run/injector.sock");
        wait::until_true("the injector", PATIENCE, || Ok(socket.exists()))?;
        wait::until_true("the host at both gateways", PATIENCE, || {
            let known = |gateway| {
                let hosts = self.json(gateway, &["host", "list"])?;
                Ok::<_, anyhow::Error>(hosts.to_string().contains(HOST))
            };
            Ok(known(0)? && known(1)?)
        })
    }

    /// Registers a runtime of this deployment's own in Docker.
    pub(crate) fn register_runtime(&mut self) -> Result<String> {
        let name = unique("keywheel-test");
        let socket = self.scratch.join("run/injector.sock").display().to_string();
        let words = ["setup", "docker", "--yes", "--runtime-name", &name];
        let words = [&words[..], &["--injector-socket", &socket]].concat();
        self.cli(0, &words)?.ok()?;
        self.runtime = Some(name.clone());
        Ok(name)
    }

    /// A client of one gateway, ready to be run.
    pub(crate) fn client(&self, gateway: usize, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("keywheel")?);
        let socket = self.scratch.join(&format!("run/gateway-{gateway}.sock"));
        let address = format!("unix://{}", socket.display());
        command
            .args(words)
            .env("KEYWHEEL_ADDRESS", address)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a verb at one gateway; what it says is kept for the canary.
    pub(crate) fn cli(&self, gateway: usize, words: &[&str]) -> Result<Output> {
        self.hear(&mut self.client(gateway, words)?)
    }

    /// The same for a client that was changed.
    pub(crate) fn hear(&self, command: &mut Command) -> Result<Output> {
        let output = Output::of(command)?;
        if let Ok(mut heard) = self.heard.lock() {
            heard.push(output.clone());
        }
        Ok(output)
    }

    /// Runs a verb that must succeed and gives its answer.
    pub(crate) fn json(&self, gateway: usize, words: &[&str]) -> Result<Value> {
        let words = [words, &["-o", "json"]].concat();
        self.cli(gateway, &words)?.ok()?.json()
    }

    /// Applies a manifest at one gateway.
    pub(crate) fn apply(&self, gateway: usize, yaml: &str) -> Result<Output> {
        let path = self.scratch.write(&unique("manifest"), yaml)?;
        self.cli(gateway, &["apply", "-f", &path.display().to_string()])
    }

    /// Everything the clients said.
    pub(crate) fn heard(&self) -> Vec<Output> {
        let heard = self.heard.lock().map(|heard| heard.clone());
        heard.unwrap_or_default()
    }

    fn every(&self) -> Vec<&Process> {
        let mut all = vec![&self.bus, &self.audit_sink, &self.injector];
        all.extend(&self.gateways);
        all.extend(&self.schedulers);
        all.extend(&self.store_syncs);
        all
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if let Some(name) = self.runtime.take() {
            let words = ["setup", "docker", "--undo", "--yes", "--runtime-name"];
            let undone = self.cli(1, &[&words[..], &[&name]].concat());
            if let Err(error) = undone.and_then(Output::ok) {
                eprintln!("harness: the runtime {name} stays registered: {error:#}");
            }
        }
        self.injector.end();
        self.store_syncs.iter_mut().for_each(Process::end);
        self.schedulers.iter_mut().for_each(Process::end);
        self.audit_sink.end();
        self.gateways.iter_mut().for_each(Process::end);
        self.bus.end();
        for process in self.every() {
            let log = process.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(LOG_TAIL)..);
            eprintln!(
                "--- {}\n{}",
                process.name,
                tail.unwrap_or_default().join("\n")
            );
        }
    }
}

/// Authorities, credentials and the bus server's configuration; the second gateway has a copy of the
/// first one's.
fn init(scratch: &Scratch, bus_port: u16) -> Result<()> {
    let mut init = Command::new(binary("keywheel")?);
    init.arg("init")
        .args(["--bus", &format!("127.0.0.1:{bus_port}")])
        .args(["--gateway", "127.0.0.1", "--out"])
        .arg(scratch.join("deployment"))
        .arg("--unseal-key-file")
        .arg(scratch.join("key/gateway.key"))
        .arg("--bus-store")
        .arg(scratch.join("nats"));
    Output::of(&mut init)?.ok()?;
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(scratch.join("deployment/gateway"));
    copy.arg(scratch.join("deployment/gateway-1"));
    Output::of(&mut copy)?.ok().map(drop)
}

fn private(scratch: &Scratch, name: &str, text: &str) -> Result<()> {
    let path = scratch.write(name, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

/// Writes configurations.
struct Maker<'a> {
    scratch: &'a Scratch,
    /// The journal's and the cache's.
    databases: [String; 2],
}

impl Maker<'_> {
    /// Each gateway tells joining machines the other one's port.
    fn gateway(&self, number: usize, ports: [u16; 2]) -> Result<Process> {
        let credentials = ["gateway", "gateway-1"][number];
        let mut more = String::new();
        write!(
            more,
            "[listen]\njoin = \"127.0.0.1:{}\"\nadvertise_join = \"127.0.0.1:{}\"\n{}",
            ports[number],
            ports[1 - number],
            self.database("journal", &self.databases[0])
        )?;
        let name = format!("gateway-{number}");
        self.write(&name, credentials, "gateway.key", &more)?;
        self.process(&name, "gateway")
    }

    fn store_sync(&self, name: &str) -> Result<Process> {
        let more = self.database("cache", &self.databases[1]);
        self.write(name, "store-sync", "cache.key", &more)?;
        self.process(name, "store-sync")
    }

    fn server(&self, role: &str, name: &str, more: &str) -> Result<Process> {
        self.write(name, role, "unused.key", more)?;
        self.process(name, role)
    }

    fn injector(&self) -> Result<Process> {
        self.write("injector", "../host", "host.key", "")?;
        let config = self.scratch.join("injector.toml").display().to_string();
        let words = ["run", "--config", &config];
        let program = binary("keywheel-injector")?;
        Ok(Process::new(self.scratch, "injector", program, &words))
    }

    fn process(&self, name: &str, role: &str) -> Result<Process> {
        let config = self.scratch.join(&format!("{name}.toml"));
        let words = ["server", role, "--config", &config.display().to_string()];
        Ok(Process::new(
            self.scratch,
            name,
            binary("keywheel")?,
            &words,
        ))
    }

    fn database(&self, section: &str, url: &str) -> String {
        let password = self.scratch.join("key/password");
        format!(
            "[{section}]\nurl = \"{url}\"\npassword_file = \"{}\"\n",
            password.display()
        )
    }

    fn write(&self, name: &str, credentials: &str, key: &str, more: &str) -> Result<()> {
        let at = |path: &str| self.scratch.join(path).display().to_string();
        let mut text = String::new();
        let identity = at(&format!("deployment/{credentials}"));
        writeln!(text, "identity_dir = \"{identity}\"")?;
        writeln!(text, "data_dir = \"{}\"", at(name))?;
        writeln!(text, "socket = \"{}\"", at(&format!("run/{name}.sock")))?;
        writeln!(text, "run_dir = \"{}\"", at("run"))?;
        writeln!(text, "unseal_key_file = \"{}\"", at(&format!("key/{key}")))?;
        writeln!(text, "[host]\nname = \"{HOST}\"")?;
        text.push_str(more);
        self.scratch.write(&format!("{name}.toml"), text)?;
        Ok(())
    }
}
