//! The machines of the test, all of them this one: a directory each, and for hosts an engine each.
//!
//! Invariant: what `keywheel-node` started is stopped when the value goes, and then the engines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use keywheel_tests::output::Output;
use keywheel_tests::scratch::unmount_below;
use keywheel_tests::wait;

const PATIENCE: Duration = wait::PATIENCE;
/// Where programs of the system are.
pub(crate) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One machine.
#[derive(Debug)]
pub(crate) struct Machine {
    root: PathBuf,
    engine: Option<Engine>,
}

impl Machine {
    /// A machine without an engine.
    pub(crate) fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root, engine: None })
    }

    /// A machine with an engine of its own.
    pub(crate) fn with_engine(root: PathBuf) -> Result<Self> {
        let mut machine = Self::new(root)?;
        machine.engine = Some(Engine::start(&machine.root.join("engine"))?);
        Ok(machine)
    }

    /// Below what it keeps everything.
    pub(crate) fn root(&self) -> String {
        self.root.display().to_string()
    }

    /// How a command line begins that runs a command there. Like a login over the network it hands
    /// on nothing of the environment.
    pub(crate) fn prefix(&self) -> String {
        let root = self.root();
        let engine = self.engine.as_ref().map(Engine::address);
        let engine = engine.map_or(String::new(), |at| format!(" DOCKER_HOST={at}"));
        format!("env -i PATH={root}/usr/local/bin:{SYSTEM_PATH} KEYWHEEL_ROOT={root}{engine}")
    }

    /// Runs a command there.
    pub(crate) fn run(&self, words: &[&str]) -> Result<Output> {
        let prefix = self.prefix();
        let mut all = prefix.split(' ').chain(words.iter().copied());
        let mut command = Command::new(all.next().context("no command")?);
        Output::of(command.args(all).stdin(Stdio::null()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(engine) = &self.engine {
            engine.forget_containers();
        }
        let roles = [
            "injector",
            "audit-sink",
            "scheduler",
            "store-sync",
            "gateway",
            "bus-3",
            "bus-2",
            "bus-1",
        ];
        let stopped = self.run(&[&["keywheel-node", "stop"][..], &roles].concat());
        if let Err(error) = stopped.and_then(Output::ok) {
            eprintln!("harness: {}: {error:#}", self.root.display());
        }
        if std::thread::panicking() {
            self.show_logs();
        }
        self.engine = None;
        unmount_below(&self.root);
    }
}

impl Machine {
    fn show_logs(&self) {
        let logs = fs::read_dir(self.root.join("var/log/keywheel"));
        for entry in logs.into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(15);
            let end = lines.get(from..).unwrap_or_default().join("\n");
            eprintln!("--- the end of {}\n{end}", entry.path().display());
        }
    }
}

/// A Docker daemon with its own data, sockets and network namespace.
#[derive(Debug)]
struct Engine {
    root: PathBuf,
    child: Child,
}

impl Engine {
    fn start(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)?;
        fs::write(root.join("daemon.json"), "{}\n")?;
        let path = |name: &str| root.join(name).display().to_string();
        let log = fs::File::create(root.join("log"))?;
        let child = Command::new("unshare")
            .args(["--net", "dockerd", "--data-root", &path("data")])
            .args(["--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--config-file", &path("daemon.json")])
            .args(["--host", &format!("unix://{}", path("docker.sock"))])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dockerd")?;
        let engine = Self {
            root: root.to_owned(),
            child,
        };
        wait::until_true("a dockerd of our own", PATIENCE, || {
            Ok(engine.docker(&["info"])?.code == 0)
        })?;
        Ok(engine)
    }

    fn address(&self) -> String {
        format!("unix://{}/docker.sock", self.root.display())
    }

    fn docker(&self, words: &[&str]) -> Result<Output> {
        let mut client = Command::new("docker");
        Output::of(client.args(words).env("DOCKER_HOST", self.address()))
    }

    /// Containers would outlive their daemon.
    fn forget_containers(&self) {
        if let Ok(said) = self.docker(&["ps", "-aq"]) {
            for id in said.stdout.split_whitespace() {
                let _ = self.docker(&["rm", "-f", id]);
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let ended = wait::until_true("a dockerd to end", PATIENCE, || {
            Ok(self.child.try_wait()?.is_some())
        });
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
