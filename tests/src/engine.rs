//! Which container engine is meant: the machine's, or a daemon of a host's own.
//!
//! Invariants: an own daemon has its own data root, sockets and network namespace, so that it takes
//! nothing of the machine's (its bridge least of all); it ends with its value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::output::Output;
use crate::process::{PATIENCE, Process};
use crate::scratch::{binary, unmount_below};
use crate::wait;

/// Where engine and runtimes keep a container's state.
const STATE_ROOTS: [&str; 5] = [
    "/var/lib/docker/containers",
    "/run/docker",
    "/run/containerd",
    "/run/runc",
    "/run/crun",
];
/// The file of the runtime's failpoints, below a daemon's root.
const FAILPOINTS: &str = "failpoints";
/// A daemon's configuration, below its root.
const CONFIG_FILE: &str = "daemon.json";
/// Name of our runtime in an own daemon.
pub const RUNTIME: &str = "keywheel";
/// Name of the lenient one.
pub const LENIENT: &str = "keywheel-default";

/// An engine, by its socket; the machine's by default.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    root: Option<Arc<PathBuf>>,
}

impl Engine {
    /// `unix://…` of an own daemon; none for the machine's.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        let root = self.root.as_ref()?;
        Some(format!("unix://{}/docker.sock", root.display()))
    }

    /// A client command.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(args);
        if let Some(address) = self.address() {
            command.env("DOCKER_HOST", address);
        }
        command
    }

    /// Runs the client and keeps what it said.
    pub fn docker(&self, args: &[&str]) -> Result<Output> {
        Output::of(&mut self.command(args))
    }

    /// Everywhere a container's state may lie.
    #[must_use]
    pub fn state_roots(&self) -> Vec<PathBuf> {
        let shared = STATE_ROOTS.iter().map(PathBuf::from);
        let below = ["data/containers", "exec"];
        let own = self
            .root
            .iter()
            .flat_map(|root| below.map(|name| root.join(name)));
        let remapped = self
            .root
            .iter()
            .flat_map(|root| remapped(&root.join("data")));
        shared.chain(own).chain(remapped).collect()
    }
}

/// What is special about a daemon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// The runtime of containers that name none; runc when it is none of ours.
    pub runtime: Option<&'static str>,
    /// Whose subordinate ids the users of its containers are.
    pub remap: Option<&'static str>,
    /// The runtime that ours call; runc when none is named.
    pub real: Option<&'static str>,
}

/// A daemon of a host's own.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    engine: Engine,
    root: PathBuf,
}

impl Daemon {
    /// Starts one below `root`, with our runtimes on the injector's socket, in a network namespace
    /// that is there already, or in one of its own.
    pub fn start(
        root: &Path,
        injector_socket: &Path,
        namespace: Option<&str>,
        manner: Manner,
    ) -> Result<Self> {
        fs::create_dir_all(root)?;
        let text = configuration(injector_socket, &root.join(FAILPOINTS), manner.real)?;
        fs::write(root.join(CONFIG_FILE), text)?;
        let path = |name: &str| root.join(name).display().to_string();
        let flags = [
            "--data-root",
            &path("data"),
            "--exec-root",
            &path("exec"),
            "--pidfile",
            &path("docker.pid"),
            "--host",
            &format!("unix://{}", path("docker.sock")),
            "--config-file",
            &path(CONFIG_FILE),
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
        ];
        let default = manner.runtime.map(|name| ["--default-runtime", name]);
        let remap = manner.remap.map(|user| ["--userns-remap", user]);
        let more = default.into_iter().chain(remap).flatten();
        let flags: Vec<&str> = flags.into_iter().chain(more).collect();
        let log = root.join("docker.log");
        let mut process = match namespace {
            Some(_) => Process::new("dockerd", log, Path::new("dockerd"), &flags).inside(namespace),
            None => {
                let words = [&["--net", "dockerd"][..], &flags[..]].concat();
                Process::new("dockerd", log, Path::new("unshare"), &words)
            }
        };
        process.start()?;
        let engine = Engine {
            root: Some(Arc::new(root.to_owned())),
        };
        let daemon = Self {
            process,
            engine,
            root: root.to_owned(),
        };
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// The engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine.clone()
    }

    /// Where it and its runtimes keep what a reboot empties.
    #[must_use]
    pub fn exec_root(&self) -> PathBuf {
        self.root.join("exec")
    }

    /// Its configuration.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.root.join(CONFIG_FILE)
    }

    /// Where a test says at which step the runtime ends or stands still, once: `NAME=kill`, `NAME=stop`.
    #[must_use]
    pub fn failpoints(&self) -> PathBuf {
        self.root.join(FAILPOINTS)
    }

    /// Waits until it answers, after a start.
    pub fn wait_ready(&self) -> Result<()> {
        wait::until_true("a second dockerd", PATIENCE, || {
            Ok(self.engine.docker(&["info"])?.code == 0)
        })
        .with_context(|| self.process.tail())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Containers of a failed test would outlive their daemon.
        if let Ok(said) = self.engine.docker(&["ps", "-aq"]) {
            for id in said.stdout.split_whitespace() {
                let _ = self.engine.docker(&["rm", "-f", id]);
            }
        }
        if let Err(error) = self.process.stop() {
            eprintln!("harness: a second dockerd: {error:#}");
        }
        unmount_below(&self.root);
    }
}

/// Where a daemon that remaps users keeps containers: its data lies below `UID.GID`.
fn remapped(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path().join("containers"));
    folders.filter(|path| path.is_dir()).collect()
}

/// Both runtimes, as `keywheel setup docker` writes them, and where their failpoints are told.
fn configuration(injector_socket: &Path, failpoints: &Path, real: Option<&str>) -> Result<String> {
    let wrapper = binary("keywheel-runtime")?.canonicalize()?;
    let mut arguments = vec![
        "--keywheel-socket".to_owned(),
        injector_socket.display().to_string(),
        "--keywheel-failpoints".to_owned(),
        failpoints.display().to_string(),
    ];
    let real = real.map(|real| ["--keywheel-real-runtime", real]);
    arguments.extend(real.into_iter().flatten().map(str::to_owned));
    let lenient = [&arguments[..], &["--keywheel-permissive".to_owned()]].concat();
    let runtimes = serde_json::json!({
        RUNTIME: { "path": wrapper, "runtimeArgs": arguments },
        LENIENT: { "path": wrapper, "runtimeArgs": lenient },
    });
    Ok(serde_json::json!({ "runtimes": runtimes }).to_string())
}
