//! Keywheel as several processes over NATS, for suites that run in both modes.
//!
//! Owns: bus server, the four services, one joined injector, their files below the server's scratch
//! directory. Invariant: killed with the value. Which mode a run uses is said by one variable, so the
//! same tests judge both.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::port::held_port;

use crate::keywheel::Options;
use crate::output::Output;
use crate::scratch::binary;
use crate::wait;

/// Says `apart` when the suites run over NATS.
const MODE: &str = "KEYWHEEL_TEST_MODE";
/// The bus server that is used.
const NATS_VERSION: &str = "2.15.1";
/// The one host.
pub const HOST: &str = "test-host";
/// How long a process may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// Services beside the gateway.
const WORKERS: [&str; 3] = ["store-sync", "scheduler", "audit-sink"];

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

/// Everything but the gateway.
#[derive(Debug)]
pub struct Apart {
    root: PathBuf,
    join_port: u16,
    bus_port: u16,
    running: Vec<Child>,
    /// How often everything was started.
    starts: usize,
}

/// Starts a program that logs into a file.
fn start(mut command: Command, log: &Path) -> Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))
}

fn wait_for_port(port: u16) -> Result<()> {
    wait::until_true("a port to be served", PATIENCE, || {
        Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
    })
}

impl Apart {
    /// Keys and configuration below a scratch directory; nothing runs yet.
    pub fn make(root: &Path) -> Result<Self> {
        let apart = Self {
            root: root.to_owned(),
            join_port: held_port(),
            bus_port: held_port(),
            running: Vec::new(),
            starts: 0,
        };
        let mut init = Command::new(binary("keywheel")?);
        init.arg("init")
            .args(["--bus", &format!("127.0.0.1:{}", apart.bus_port)])
            .args(["--gateway", "127.0.0.1"])
            .arg("--out")
            .arg(root.join("deployment"))
            .arg("--unseal-key-file")
            .arg(root.join("key/gateway.key"))
            .arg("--bus-store")
            .arg(root.join("nats"));
        Output::of(&mut init)?.ok()?;
        for role in WORKERS {
            apart.configure(role, &root.join(role), "unseal.key", "")?;
        }
        let listen = format!("[listen]\njoin = \"127.0.0.1:{}\"\n", apart.join_port);
        apart.configure("gateway", &root.join("data"), "gateway.key", &listen)?;
        let data = root.join("injector");
        apart.write("injector", &root.join("host"), &data, "unseal.key", "")?;
        Ok(apart)
    }

    fn configure(&self, role: &str, data: &Path, key: &str, more: &str) -> Result<()> {
        let identity = self.root.join("deployment").join(role);
        self.write(role, &identity, data, key, more)
    }

    fn write(&self, name: &str, identity: &Path, data: &Path, key: &str, more: &str) -> Result<()> {
        let mut text = String::new();
        writeln!(text, "identity_dir = \"{}\"", identity.display())?;
        writeln!(text, "data_dir = \"{}\"", data.display())?;
        writeln!(
            text,
            "socket = \"{}/run/keywheel.sock\"",
            self.root.display()
        )?;
        writeln!(
            text,
            "unseal_key_file = \"{}/key/{key}\"",
            self.root.display()
        )?;
        writeln!(text, "[host]\nname = \"{HOST}\"")?;
        text.push_str(more);
        Ok(fs::write(self.root.join(format!("{name}.toml")), text)?)
    }

    /// Starts bus server and services; the gateway is the caller's.
    pub fn up(&mut self, options: &Options) -> Result<Child> {
        self.starts += 1;
        let mut bus = Command::new(nats_server()?);
        let config = self.root.join("deployment/nats/bus-1/nats.conf");
        bus.arg("-c").arg(config);
        self.running.push(start(bus, &self.root.join("nats.log"))?);
        wait_for_port(self.bus_port)?;
        let gateway = self.server("gateway", options, "up.log")?;
        for role in WORKERS {
            let child = self.server(role, options, &format!("{role}.log"))?;
            self.running.push(child);
        }
        if self.has_joined() {
            self.serve_host(options)?;
        }
        Ok(gateway)
    }

    fn server(&self, role: &str, options: &Options, log: &str) -> Result<Child> {
        let mut command = Command::new(binary("keywheel")?);
        command.args(["server", role]).arg("--config");
        command.arg(self.root.join(format!("{role}.toml")));
        command.envs(
            options
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        start(command, &self.root.join(log))
    }

    /// Waits until store-sync serves after the last start.
    pub fn wait_store_sync(&self) -> Result<()> {
        wait::until_true("store-sync to serve", PATIENCE, || {
            let log = fs::read_to_string(self.root.join("store-sync.log"))?;
            Ok(log.matches("store-sync serves").count() >= self.starts)
        })
    }

    /// Whether the host has credentials.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.root.join("host/identity.json").exists()
    }

    /// The host joins with a token and serves.
    pub fn join(&mut self, token: &str, options: &Options) -> Result<()> {
        let path = self.root.join("token");
        fs::write(&path, token)?;
        let mut join = Command::new(binary("keywheel-injector")?);
        join.arg("join").arg("--token-file").arg(&path);
        join.arg("--identity-dir").arg(self.root.join("host"));
        Output::of(&mut join)?.ok()?;
        fs::remove_file(path)?;
        self.serve_host(options)
    }

    fn serve_host(&mut self, options: &Options) -> Result<()> {
        let mut command = Command::new(binary("keywheel-injector")?);
        command.arg("run").arg("--config");
        command.arg(self.root.join("injector.toml"));
        command.envs(
            options
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        self.running
            .push(start(command, &self.root.join("injector.log"))?);
        Ok(())
    }

    /// Ends everything: asked first, so that bundles are unmounted, or as a power cut would.
    pub fn down(&mut self, is_asked: bool) {
        for mut child in self.running.drain(..).rev() {
            if is_asked {
                let pid = child.id().to_string();
                let _ = Output::of(Command::new("kill").args(["-TERM", &pid]));
                let ended = wait::until_true("a service to end", PATIENCE, || {
                    Ok(child.try_wait()?.is_some())
                });
                if ended.is_ok() {
                    continue;
                }
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.down(true);
    }
}
