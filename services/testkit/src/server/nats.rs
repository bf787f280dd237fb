//! A NATS server of a test's own: a version, a configuration and a store in a temporary directory.
//!
//! Owns the directory and the process, and ends both when dropped. It speaks no NATS. The programs
//! lie in a cache directory, one per version, where `tests/run.sh` puts them.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::child;
use super::port::held_port;

/// Versions that the bus must work with.
pub const VERSIONS: [&str; 3] = ["2.12.8", "2.14.6", "2.15.1"];
/// A version that the bus must refuse.
pub const TOO_OLD: &str = "2.10.25";
/// What servers let through unless a test says otherwise.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// Names another cache directory than the user's own.
const CACHE_VARIABLE: &str = "KEYWHEEL_NATS_DIR";
/// What it says when it has read its configuration anew.
const RELOADED: &str = "Reloaded server configuration";
const READY_POLLS: u32 = 4800;
const POLL: Duration = Duration::from_millis(25);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Files that a server shows and asks certificates with.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The authority whose clients are let in.
    pub ca: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A user, known by its public key.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// The public key, `U…`.
    pub public_key: String,
    /// May publish to these.
    pub publish: Vec<String>,
    /// May subscribe to these.
    pub subscribe: Vec<String>,
    /// May answer requests.
    pub responses: bool,
}

/// What a server is like.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its version.
    pub version: String,
    /// Its largest message.
    pub max_payload: usize,
    /// Whether it stores.
    pub jetstream: bool,
    /// Its users; without any, everyone may do everything.
    pub users: Vec<User>,
    /// TLS, with client certificates.
    pub tls: Option<TlsFiles>,
}

impl Settings {
    /// A version with large messages, JetStream, no users and no TLS.
    #[must_use]
    pub fn of(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            max_payload: MAX_PAYLOAD,
            jetstream: true,
            users: Vec::new(),
            tls: None,
        }
    }
}

/// A running server.
pub struct NatsServer {
    settings: Settings,
    directory: PathBuf,
    port: u16,
    /// A configuration that somebody else made; else it is written from the settings.
    configured: Option<PathBuf>,
    child: Option<Child>,
}

impl NatsServer {
    /// Starts a server.
    ///
    /// # Panics
    /// When this version is not there or does not start; the message says what to do.
    #[must_use]
    pub fn start(settings: Settings) -> Self {
        let mut server = Self {
            settings,
            directory: fresh_directory(),
            port: held_port(),
            configured: None,
            child: None,
        };
        server.restart();
        server
    }

    /// Starts the newest version on a configuration that listens at this port of loopback.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn configured(configuration: PathBuf, port: u16, tls: Option<TlsFiles>) -> Self {
        let mut server = Self {
            settings: Settings {
                tls,
                ..Settings::of(VERSIONS[VERSIONS.len() - 1])
            },
            directory: fresh_directory(),
            port,
            configured: Some(configuration),
            child: None,
        };
        server.restart();
        server
    }

    /// Starts it again on the same port, after [`Self::kill`] too.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        let program = program(&self.settings.version);
        let configuration = self.configured.clone().unwrap_or_else(|| {
            let written = self.directory.join("server.conf");
            std::fs::write(&written, self.configuration()).expect("a configuration");
            written
        });
        let log = File::create(self.directory.join("server.log")).expect("a log");
        let child = Command::new(program)
            .arg("--config")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the NATS server starts");
        self.child = Some(child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        for _ in 0..READY_POLLS {
            if TcpStream::connect_timeout(&address, POLL).is_ok() && self.is_ready() {
                return;
            }
            std::thread::sleep(POLL);
        }
        panic!("the NATS server does not start:\n{}", self.log());
    }

    /// Ends it as a power cut would: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        child::kill(&mut self.child);
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Stops it in its tracks: connections stay open and nothing answers.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        child::pause(self.child.as_ref(), (READY_POLLS, POLL));
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        child::signal(self.child.as_ref(), "-CONT");
    }

    /// Has it read its configuration and certificates anew.
    ///
    /// # Panics
    /// When it does not, or does not run.
    pub fn reload(&self) {
        let before = self.log().matches(RELOADED).count();
        child::signal(self.child.as_ref(), "-HUP");
        for _ in 0..READY_POLLS {
            if self.log().matches(RELOADED).count() > before {
                return;
            }
            std::thread::sleep(POLL);
        }
        panic!("the NATS server does not reload:\n{}", self.log());
    }

    /// Starts another version, or the same one with other settings, on the same store and port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn become_another(&mut self, settings: Settings) {
        self.kill();
        self.settings = settings;
        self.restart();
    }

    /// Removes everything it stored. Only while it is killed.
    ///
    /// # Panics
    /// When it runs.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "a running server is not wiped");
        let _gone = std::fs::remove_dir_all(self.store());
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.settings.tls.is_some() {
            "tls"
        } else {
            "nats"
        };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Where it stores.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// What it said since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("server.log")).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        self.log().contains("Server is ready")
    }

    fn configuration(&self) -> String {
        let settings = &self.settings;
        let mut text = format!(
            "listen: \"127.0.0.1:{}\"\nmax_payload: {}\nserver_name: test\n",
            self.port, settings.max_payload
        );
        if settings.jetstream {
            let store = self.store();
            let _ = writeln!(text, "jetstream {{ store_dir: \"{}\" }}", store.display());
        }
        if let Some(tls) = &settings.tls {
            let _ = writeln!(
                text,
                "tls {{ ca_file: \"{}\", cert_file: \"{}\", key_file: \"{}\", verify: true }}",
                tls.ca.display(),
                tls.certificate.display(),
                tls.key.display()
            );
        }
        if !settings.users.is_empty() {
            let users: Vec<String> = settings.users.iter().map(user).collect();
            let _ = writeln!(
                text,
                "authorization {{ users: [\n{}\n] }}",
                users.join("\n")
            );
        }
        text
    }
}

impl Drop for NatsServer {
    #[expect(
        clippy::print_stdout,
        reason = "libtest shows it for failed tests only"
    )]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            for line in tail.into_iter().rev() {
                println!("nats: {line}");
            }
        }
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

fn user(user: &User) -> String {
    let list = |subjects: &[String]| {
        let quoted: Vec<String> = subjects.iter().map(|s| format!("\"{s}\"")).collect();
        quoted.join(", ")
    };
    format!(
        "{{ nkey: {}, permissions: {{ publish: {{ allow: [{}] }}, subscribe: {{ allow: [{}] }}{} }} }}",
        user.public_key,
        list(&user.publish),
        list(&user.subscribe),
        if user.responses {
            ", allow_responses: true"
        } else {
            ""
        }
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own variable, and no service's"
)]
fn program(version: &str) -> PathBuf {
    let cache = std::env::var_os(CACHE_VARIABLE)
        .map(PathBuf::from)
        .or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(Path::new(&home).join(".cache/keywheel/nats"))
        });
    let program = cache.map(|cache| cache.join(version).join("bin/nats-server"));
    program.filter(|program| program.is_file()).unwrap_or_else(|| {
        panic!("NATS server {version} is not installed: run `tests/run.sh --only fmt`, which gets it")
    })
}

fn fresh_directory() -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("keywheel-nats-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let _old = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    directory
}
