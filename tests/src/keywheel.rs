//! One `keywheel up` of a test: its directories, its process, its client.
//!
//! Invariants: own socket, data directory, run directory and unseal key; own
//! runtime name in Docker. Dropping it kills the process, takes the runtime
//! back and prints the end of the log, which libtest shows for failed tests.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use keywheel_testkit::executable;
use serde_json::Value;

use crate::apart::{self, Apart, Role, Shape};
use crate::engine_tap::EngineTap;
use crate::output::Output;
use crate::scratch::{Scratch, binary, is_release, unique};
use crate::wait;

/// Where credentials of stores outside lie, below the scratch directory.
pub(crate) const CREDENTIALS_DIR: &str = "stores";
/// How long `up` may take to answer.
pub const READY: Duration = wait::PATIENCE;
/// How long `up` may take to stop when asked.
pub const STOP: Duration = wait::PATIENCE;
/// A limit that no test reaches.
const ALL: &str = "1000000";
/// The user that may nothing, as Debian numbers it.
pub const NOBODY: &str = "65534";
/// The variable with the engine's address.
const ENGINE: &str = "DOCKER_HOST";
/// Lines of the log that a failed test shows.
const LOG_TAIL: usize = 60;

/// How to start it; the default is a plain one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The value of `KEYWHEEL_FAILPOINTS`.
    pub failpoints: Option<String>,
    /// More flags for `up`.
    pub flags: Vec<String>,
    /// More environment.
    pub environment: Vec<(String, String)>,
    /// Where the data directory is, when not in the scratch directory.
    pub data_dir: Option<PathBuf>,
    /// As many processes as this says, whatever the mode of the run.
    pub shape: Option<Shape>,
    /// Begins the command line of each process of ours: a program that becomes it.
    pub prefix: Vec<String>,
}

/// A server and its client.
#[derive(Debug)]
pub struct Keywheel {
    child: Option<Child>,
    /// All processes, when services run apart.
    apart: Option<Apart>,
    options: Options,
    /// Records what is said to the machine's engine; benchmarks go without.
    tap: Option<EngineTap>,
    runtime: Option<String>,
    data_dir: PathBuf,
    heard: Mutex<Vec<Output>>,
    scratch: Scratch,
}

impl Keywheel {
    /// Directories only; nothing runs yet.
    pub fn prepare() -> Result<Self> {
        Self::prepare_shape(None)
    }

    fn prepare_shape(shape: Option<&Shape>) -> Result<Self> {
        let scratch = Scratch::make()?;
        for folder in ["run", "key"] {
            fs::create_dir(scratch.join(folder))?;
        }
        let data_dir = scratch.join("data");
        let usual = apart::is_wanted().then(Shape::default);
        let apart = match shape.cloned().or(usual) {
            Some(shape) => Some(Apart::make(scratch.path(), &shape)?),
            None => None,
        };
        let tap = match is_release() {
            true => None,
            false => Some(EngineTap::start(scratch.path())?),
        };
        Ok(Self {
            child: None,
            apart,
            options: Options::default(),
            tap,
            runtime: None,
            data_dir,
            heard: Mutex::default(),
            scratch,
        })
    }

    /// Starts `up` and waits until it answers.
    pub fn start() -> Result<Self> {
        Self::start_with(&Options::default())
    }

    /// The same with options.
    pub fn start_with(options: &Options) -> Result<Self> {
        let mut keywheel = Self::prepare_shape(options.shape.as_ref())?;
        keywheel.up(options)?;
        Ok(keywheel)
    }

    /// Starts `up` (again) and waits until it answers.
    pub fn up(&mut self, options: &Options) -> Result<()> {
        self.spawn(options)?;
        self.wait_ready()
    }

    /// Starts `up` without waiting.
    pub fn spawn(&mut self, options: &Options) -> Result<()> {
        ensure!(self.pid().is_none(), "up runs already");
        if let Some(data_dir) = &options.data_dir {
            self.data_dir.clone_from(data_dir);
        }
        let tapped = self.tapped(options);
        if let Some(apart) = &mut self.apart {
            self.options.clone_from(options);
            return apart.up(&tapped);
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = self.up_command(options)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.child = Some(command.spawn().context("cannot start keywheel up")?);
        Ok(())
    }

    /// The same options, with the recording socket in the engine's place.
    fn tapped(&self, options: &Options) -> Options {
        let mut options = options.clone();
        let has_own = options.environment.iter().any(|(name, _)| name == ENGINE);
        if let Some(tap) = self.tap.as_ref().filter(|_| !has_own) {
            options.environment.push((ENGINE.to_owned(), tap.address()));
        }
        options
    }

    /// The command line of `up`, for tests that expect it to fail.
    pub fn up_command(&self, options: &Options) -> Result<Command> {
        let program = binary("keywheel")?;
        let mut words = options.prefix.iter().map(OsStr::new);
        let mut command = Command::new(words.next().unwrap_or(program.as_os_str()));
        if !options.prefix.is_empty() {
            command.args(words).arg(&program);
        }
        command
            .arg("up")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--socket")
            .arg(self.socket());
        if !options.flags.iter().any(|flag| flag == "--unseal-key-file") {
            command.arg("--unseal-key-file").arg(self.unseal_key());
        }
        if !options.flags.iter().any(|flag| flag == "--metrics-listen") {
            let at = self.run_dir().join("metrics.sock");
            let place = format!("unix:{}", at.display());
            command.args(["--metrics-listen", &place]);
        }
        command
            .args(&options.flags)
            .env("KEYWHEEL_STORES_CREDENTIALS_DIR", self.credentials_dir())
            .envs(self.tapped(options).environment)
            .env_remove("KEYWHEEL_FAILPOINTS")
            .env_remove("KEYWHEEL_ADDRESS");
        if let Some(failpoints) = &options.failpoints {
            command.env("KEYWHEEL_FAILPOINTS", failpoints);
        }
        Ok(command)
    }

    /// Waits until `status` succeeds; fails at once when the process is gone.
    pub fn wait_ready(&mut self) -> Result<()> {
        let begun = wait::now();
        loop {
            if self.try_cli(&["status", "-o", "json"])?.code == 0 {
                return self.wait_host();
            }
            if let Some(code) = self.exited()? {
                bail!(
                    "keywheel up exited ({code}) before it was ready; log:\n{}",
                    self.log_tail()
                );
            }
            ensure!(
                begun.elapsed() < READY,
                "keywheel up is not ready after {READY:?}; log:\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where services run apart, the host joins and follows its plan.
    fn wait_host(&mut self) -> Result<()> {
        let tapped = self.tapped(&self.options);
        let Some(apart) = &mut self.apart else {
            return Ok(());
        };
        apart.wait_store_sync()?;
        let unjoined = apart.unjoined();
        if !unjoined.is_empty() {
            // A token of the first names the port of the next.
            apart.wait_gateways()?;
        }
        for (host, name) in unjoined {
            let words = ["host", "join-token", &name, "-o", "json"];
            let mut ask = Command::new(binary("keywheel")?);
            let socket = apart.gateway_socket(0);
            let address = format!("unix://{}", socket.display());
            ask.args(words).env("KEYWHEEL_ADDRESS", address);
            let said = Output::of(&mut ask)?.ok()?.json()?;
            let token = said.get("token").and_then(Value::as_str);
            apart.join(host, token.context("no token")?)?;
        }
        apart.up(&tapped)?;
        let hosts = apart.shape().hosts;
        for host in 0..hosts {
            let socket = apart.run_dir(host).join("injector.sock");
            wait::until_true("the injector to serve", READY, || Ok(socket.exists()))?;
        }
        // Without an engine it has nothing to report.
        let no_engine = |(name, _): &(String, String)| name == ENGINE;
        if self.options.environment.iter().any(no_engine) {
            return Ok(());
        }
        self.wait_plans()
    }

    /// What the collector was told, where the shape has one.
    pub fn collector_log(&self) -> Result<PathBuf> {
        let apart = self.apart.as_ref().filter(|apart| apart.shape().collector);
        Ok(apart
            .context("this shape has no collector")?
            .collector_log())
    }

    /// Waits until every host that runs apart follows the newest plan; a start before that is refused
    /// with good reason.
    pub fn wait_plans(&self) -> Result<()> {
        let Some(apart) = &self.apart else {
            return Ok(());
        };
        let (hosts, gateways) = (apart.shape().hosts, apart.shape().gateways);
        wait::until_true("the hosts to follow their plans", READY, || {
            // A host asks one of several gateways; that one knows when.
            let mut current = BTreeSet::new();
            for gateway in 0..gateways {
                let mut ask = self.client(&["host", "list", "-o", "json"])?;
                let socket = apart.gateway_socket(gateway);
                ask.env("KEYWHEEL_ADDRESS", format!("unix://{}", socket.display()));
                let said = Output::of(&mut ask)?;
                let listed = (said.code == 0).then(|| said.json()).transpose()?;
                let rows = listed.as_ref().and_then(Value::as_array);
                let rows = rows.into_iter().flatten().filter(|host| is_current(host));
                current.extend(rows.filter_map(|row| Some(row.get("name")?.as_str()?.to_owned())));
            }
            Ok(current.len() >= hosts)
        })
    }

    /// How the process ended, when it has.
    pub fn exited(&mut self) -> Result<Option<String>> {
        if let Some(apart) = &mut self.apart {
            return apart.process(Role::Gateway, 0)?.exited();
        }
        let Some(child) = &mut self.child else {
            return Ok(Some("not started".to_owned()));
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status.map(|status| status.to_string()))
    }

    /// Waits until the process ends by itself.
    pub fn wait_exit(&mut self, patience: Duration) -> Result<String> {
        wait::until("keywheel up to end", patience, || self.exited())
    }

    /// Kills it as a power cut would.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(apart) = &mut self.apart {
            return apart.kill9();
        }
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to stop and waits.
    pub fn stop(&mut self) -> Result<String> {
        let pid = self.pid().context("up does not run")?;
        if let Some(apart) = &mut self.apart {
            return apart.stop();
        }
        Output::of(Command::new("kill").args(["-TERM", &pid.to_string()]))?.ok()?;
        self.wait_exit(STOP)
    }

    /// Kill, then start again.
    pub fn restart(&mut self, options: &Options) -> Result<()> {
        self.kill9()?;
        self.up(options)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.apart {
            Some(apart) => apart.gateway_pid(),
            None => self.child.as_ref().map(Child::id),
        }
    }

    /// Its processes, where services run apart.
    pub fn apart(&mut self) -> Result<&mut Apart> {
        let apart = self.apart.as_mut();
        apart.context("everything runs in one process")
    }

    /// A gateway's socket, where services run apart.
    #[must_use]
    pub fn gateway_socket(&self, number: usize) -> Option<PathBuf> {
        Some(self.apart.as_ref()?.gateway_socket(number))
    }

    /// What records the talk with the machine's engine; none in benchmarks.
    #[must_use]
    pub fn engine_tap(&self) -> Option<&EngineTap> {
        self.tap.as_ref()
    }

    /// Everything that its processes write.
    #[must_use]
    pub fn trees(&self) -> Vec<PathBuf> {
        let mut trees = vec![self.log_path(), self.data_dir.clone(), self.run_dir()];
        trees.extend(self.tap.as_ref().map(|tap| tap.record().to_owned()));
        trees.extend(self.apart.iter().flat_map(Apart::trees));
        trees
    }

    /// Where its journal and cache are.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where its sockets and bundles are.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.scratch.join("run")
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("run/keywheel.sock")
    }

    /// Its unseal key.
    #[must_use]
    pub fn unseal_key(&self) -> PathBuf {
        self.scratch.join("key/unseal.key")
    }

    /// A place for a test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Below it lie the credentials of stores that a manifest may name as files.
    #[must_use]
    pub fn credentials_dir(&self) -> PathBuf {
        self.scratch.join(CREDENTIALS_DIR)
    }

    /// What the client needs to find it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Everything `up` wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.join("up.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .get(lines.len().saturating_sub(LOG_TAIL)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// A client command, ready to be changed and run.
    pub fn client(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("keywheel")?);
        command
            .args(args)
            .env("KEYWHEEL_ADDRESS", self.address())
            .stdin(Stdio::null());
        Ok(command)
    }

    fn try_cli(&self, args: &[&str]) -> Result<Output> {
        Output::of(&mut self.client(args)?)
    }

    /// Runs a client verb; whatever it answers is kept for the canary.
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        self.hear(&mut self.client(args)?)
    }

    /// A client command run as [`NOBODY`], who may not enter the build's directory.
    pub fn stranger(&self, args: &[&str]) -> Result<Command> {
        let copy = self.scratch.join("client");
        if !copy.exists() {
            executable::copy(&binary("keywheel")?, &copy);
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
            .arg(&copy)
            .args(args)
            .env("KEYWHEEL_ADDRESS", self.address())
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a changed client command; whatever it answers is kept for the canary.
    pub fn hear(&self, command: &mut Command) -> Result<Output> {
        let output = Output::of(command)?;
        self.keep(output.clone());
        Ok(output)
    }

    /// Keeps for the canary what somebody was answered who is no client of ours.
    pub fn hear_answer(&self, to: &str, answer: &str) {
        self.keep(Output {
            line: to.to_owned(),
            code: 0,
            stdout: answer.to_owned(),
            stderr: String::new(),
        });
    }

    fn keep(&self, output: Output) {
        if let Ok(mut heard) = self.heard.lock() {
            heard.push(output);
        }
    }

    /// Runs a client verb with `-o json`; it must succeed.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let words = [args, &["-o", "json"]].concat();
        self.cli(&words)?.ok()?.json()
    }

    /// Runs `events list` or `audit list` from the very beginning.
    pub fn stream(&self, verb: &str) -> Result<Vec<Value>> {
        match self.json(&[verb, "list", "--after", "0", "--limit", ALL])? {
            Value::Array(rows) => Ok(rows),
            other => bail!("`{verb} list` is no array: {other}"),
        }
    }

    /// Everything that the client ever said in this test, and what others were answered.
    #[must_use]
    pub fn heard(&self) -> Vec<Output> {
        self.heard
            .lock()
            .map(|heard| heard.clone())
            .unwrap_or_default()
    }

    /// Applies a manifest, whatever comes.
    pub fn try_apply(&self, yaml: &str) -> Result<Output> {
        let path = self.scratch.write(&unique("manifest"), yaml)?;
        self.cli(&["apply", "-f", &path.display().to_string()])
    }

    /// Applies a manifest that must be good.
    pub fn apply(&self, yaml: &str) -> Result<Output> {
        self.try_apply(yaml)?.ok()
    }

    /// The host's name as bindings need it.
    pub fn host(&self) -> Result<String> {
        let status = self.json(&["status"])?;
        Ok(status
            .get("host")
            .and_then(Value::as_str)
            .context("status names no host")?
            .to_owned())
    }

    /// Registers a runtime of this server's own in Docker and returns its name.
    pub fn register_runtime(&mut self) -> Result<String> {
        if let Some(name) = &self.runtime {
            return Ok(name.clone());
        }
        let name = unique("keywheel-test");
        let address = self.address();
        self.cli(&[
            "setup",
            "docker",
            "--yes",
            "--runtime-name",
            &name,
            "--address",
            &address,
        ])?
        .ok()?;
        self.runtime = Some(name.clone());
        Ok(name)
    }

    fn take_runtime_back(&mut self) {
        let Some(name) = self.runtime.take() else {
            return;
        };
        let done = self.try_cli(&[
            "setup",
            "docker",
            "--undo",
            "--yes",
            "--runtime-name",
            &name,
        ]);
        match done.and_then(Output::ok) {
            Ok(_) => {}
            Err(error) => eprintln!("harness: the runtime {name} stays registered: {error:#}"),
        }
    }
}

/// Whether a host has reported, and what its plan says.
fn is_current(host: &Value) -> bool {
    let seen = host.get("last_seen").is_some_and(|at| !at.is_null());
    seen && host.get("lag").and_then(Value::as_u64) == Some(0)
}

impl Drop for Keywheel {
    fn drop(&mut self) {
        self.take_runtime_back();
        if let Err(error) = self.kill9() {
            eprintln!("harness: cannot kill keywheel up: {error:#}");
        }
        if is_release() {
            return;
        }
        eprintln!(
            "--- the end of {}\n{}",
            self.log_path().display(),
            self.log_tail()
        );
    }
}
