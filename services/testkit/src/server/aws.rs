//! An API server of AWS Secrets Manager and KMS of a test's own: moto or ministack, which share no code.
//!
//! Owns the process and its directory, and ends both when dropped. It speaks no AWS. Each lies with a
//! Python of its own in a cache directory, where `tests/run.sh` puts it. Neither checks who asks, unless
//! it was started to ([`AwsServer::with_rights`]).

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::port::held_port;

/// The version of moto that tests run against.
pub const MOTO: &str = "5.2.5";
/// The version of ministack that tests run against.
pub const MINISTACK: &str = "1.5.33";
/// Names another cache directory than the user's own.
const CACHE_VARIABLE: &str = "KEYWHEEL_AWS_DIR";
const READY_POLLS: u32 = 3600;
const POLL: Duration = Duration::from_millis(50);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// moto.
    Moto,
    /// ministack.
    Ministack,
}

impl Maker {
    const fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Moto => ("moto", MOTO),
            Self::Ministack => ("ministack", MINISTACK),
        }
    }

    /// Neither listens anywhere but on loopback, nor finds a container engine.
    fn command(self, python: &Path, directory: &Path, port: u16) -> Command {
        let mut command = Command::new(python);
        match self {
            Self::Moto => command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p"]),
            Self::Ministack => command.args(["-m", "ministack"]),
        };
        if self == Self::Moto {
            command.arg(port.to_string());
        }
        command
            .env_clear()
            .envs([
                ("PATH", "/usr/local/bin:/usr/bin:/bin"),
                ("DOCKER_HOST", "unix:///nonexistent"),
                ("BIND_HOST", "127.0.0.1"),
                ("SERVICES", "secretsmanager,sts,iam,kms"),
                ("SFTP_ENABLED", "0"),
                ("IOT_MTLS_ENABLED", "0"),
            ])
            .env("GATEWAY_PORT", port.to_string())
            .env("HOME", directory)
            .env("TMPDIR", directory);
        command
    }
}

/// A running server.
pub struct AwsServer {
    directory: PathBuf,
    port: u16,
    child: Child,
}

impl AwsServer {
    /// Starts one, with nothing in it.
    ///
    /// # Panics
    /// When it is not there or does not start; the message says what to do.
    #[must_use]
    pub fn start(maker: Maker) -> Self {
        Self::run(maker, &[])
    }

    /// One that judges requests by signature and policies: ministack from its start, moto when it is
    /// told to (`/moto-api/reset-auth`).
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn with_rights(maker: Maker) -> Self {
        Self::run(maker, &[("AUTH", "true")])
    }

    fn run(maker: Maker, more: &[(&str, &str)]) -> Self {
        let python = python(maker);
        let directory = fresh_directory();
        let port = held_port();
        let log = File::create(directory.join("log")).expect("a log");
        let child = maker
            .command(&python, &directory, port)
            .envs(more.iter().copied())
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("its Python starts");
        let mut server = Self {
            directory,
            port,
            child,
        };
        server.wait();
        server
    }

    fn wait(&mut self) {
        for _ in 0..READY_POLLS {
            if TcpStream::connect_timeout(&self.address(), POLL).is_ok() {
                return;
            }
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none(), "it ended ({ended:?}):\n{}", self.log());
            std::thread::sleep(POLL);
        }
        panic!("it does not start:\n{}", self.log());
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The same, as an endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for AwsServer {
    #[expect(
        clippy::print_stdout,
        reason = "libtest shows it for failed tests only"
    )]
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            for line in tail.into_iter().rev() {
                println!("aws: {line}");
            }
        }
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own variable, and no service's"
)]
fn python(maker: Maker) -> PathBuf {
    let cache = std::env::var_os(CACHE_VARIABLE)
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/keywheel")));
    let (name, version) = maker.place();
    let python = cache.map(|cache| cache.join(name).join(version).join("bin/python3"));
    python.filter(|python| python.is_file()).unwrap_or_else(|| {
        panic!("{name} {version} is not installed: run `tests/run.sh --only fmt`, which gets it")
    })
}

fn fresh_directory() -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("keywheel-aws-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let _old = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    directory
}
