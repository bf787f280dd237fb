//! A MySQL server of a test's own, in a temporary directory; its program lies in a cache directory, where
//! `tests/run.sh` unpacks it.
//!
//! Owns the directory and the server's process, and ends both when dropped. Its only user beside the
//! server's own is [`USER`], who may do everything. Where the machine has no such program, which comes from a suite
//! that moves, there is no server, and the runner of all suites hears that its test did not run.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::mariadb::greets;
use super::port::held_port;
use super::{child, directory};

/// Names another cache directory than the user's own.
const CACHE_VARIABLE: &str = "KEYWHEEL_MYSQL_DIR";
/// How a line begins that says why a test did not run; `cargo xtask ci` counts such lines.
const NOT_RUN: &str = "NOT RUN: ";
const START_TRIES: u32 = 5;
const READY_POLLS: u32 = 800;
const POLL: Duration = Duration::from_millis(50);
/// The user who may do everything.
pub const USER: &str = "keywheel";
/// Its password.
pub const PASSWORD: &str = "pw-of-a-test-server";

/// Which certificate it shows.
#[derive(Clone, Copy)]
enum Tls {
    /// None: it speaks no TLS.
    Off,
    /// One that it makes itself.
    Own,
    /// One that was given.
    Given,
}

/// A running server.
pub struct MySqlServer {
    program: PathBuf,
    directory: PathBuf,
    port: u16,
    tls: Tls,
    child: Option<Child>,
}

impl MySqlServer {
    /// Copies the tables and starts it; nothing where MySQL is not there, which is said.
    ///
    /// # Panics
    /// When MySQL is there and does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::begin(Tls::Own)
    }

    /// One that shows this certificate with its key (PEM) instead of one that it makes itself.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn with_tls(certificate: &str, key: &str) -> Option<Self> {
        let mut server = Self::placed(Tls::Given)?;
        directory::put_tls(&server.directory, certificate, key);
        server.restart();
        Some(server)
    }

    /// One that speaks no TLS.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn without_tls() -> Option<Self> {
        Self::begin(Tls::Off)
    }

    fn begin(tls: Tls) -> Option<Self> {
        let mut server = Self::placed(tls)?;
        server.restart();
        Some(server)
    }

    /// With its tables, not started.
    fn placed(tls: Tls) -> Option<Self> {
        let cache = cache();
        let program = cache.join("mysqld");
        if !program.is_file() {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or_default();
            say_not_run(&format!("{test}: no MySQL at {}", cache.display()));
            return None;
        }
        let server = Self {
            program,
            directory: directory::fresh("kw-ms"),
            port: held_port(),
            tls,
            child: None,
        };
        server.take_tables(&cache.join("data"));
        Some(server)
    }

    /// Starts the server again on the same port, after [`Self::kill`] too.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        for _ in 0..START_TRIES {
            self.child = Some(self.spawn());
            if self.becomes_ready() {
                return;
            }
            self.kill();
        }
        panic!("MySQL does not start:\n{}", self.log());
    }

    /// Ends the server at once: nobody is told.
    pub fn kill(&mut self) {
        child::kill(&mut self.child);
    }

    /// `mysql://USER@127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}", self.port)
    }

    /// The same over the unix socket.
    #[must_use]
    pub fn socket_url(&self, user: &str) -> String {
        let socket = self.socket().display().to_string().replace('/', "%2F");
        format!("mysql://{user}@{socket}")
    }

    /// Its port on 127.0.0.1, which is `localhost`, too.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("s")
    }

    /// What the server wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// A copy of a fresh server's own tables, and the statements that it runs whenever it starts.
    fn take_tables(&self, made: &Path) {
        let copied = Command::new("cp")
            .args(["-R", "--reflink=auto"])
            .arg(made)
            .arg(self.directory.join("data"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&copied.stderr);
        assert!(copied.status.success(), "cp {}: {text}", made.display());
        let statements = format!(
            "DROP USER IF EXISTS root@localhost;\n\
             CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        );
        std::fs::write(self.directory.join("users.sql"), statements).unwrap();
    }

    fn spawn(&self) -> Child {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let log = directory::open_log(&self.directory);
        let mut server = Command::new(&self.program);
        server.current_dir(&self.directory).env_clear();
        server.args([
            format!("--datadir={}", at("data")),
            format!("--init-file={}", at("users.sql")),
            format!("--tmpdir={}", at("")),
            format!("--pid-file={}", at("pid")),
            format!("--socket={}", self.socket().display()),
            format!("--port={}", self.port),
        ]);
        server.args([
            "--bind-address=127.0.0.1",
            "--mysqlx=OFF",
            "--secure-file-priv=NULL",
            "--skip-log-bin",
            // What a killed server wrote is with the kernel, and nobody pulls the plug.
            "--innodb-flush-method=nosync",
            "--innodb-buffer-pool-size=16M",
        ]);
        match self.tls {
            Tls::Off => {
                server.arg("--tls-version=");
            }
            Tls::Own => {}
            Tls::Given => {
                server.arg(format!("--ssl-cert={}", at(directory::CERTIFICATE)));
                server.arg(format!("--ssl-key={}", at(directory::KEY)));
            }
        }
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            server.arg("--user=root");
        }
        let server = server.stdin(Stdio::null()).stdout(Stdio::null());
        server.stderr(log).spawn().unwrap()
    }

    /// It greets who connects.
    fn becomes_ready(&mut self) -> bool {
        let socket = self.socket();
        child::becomes_ready(&mut self.child, (READY_POLLS, POLL), || greets(&socket))
    }
}

impl Drop for MySqlServer {
    fn drop(&mut self) {
        self.kill();
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// Where the program lies, and the tables of a fresh server.
#[expect(
    clippy::disallowed_methods,
    reason = "where tools of tests are kept; no program of ours"
)]
fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    std::env::var_os(CACHE_VARIABLE)
        .map_or_else(|| home().join(".cache/keywheel/mysql"), PathBuf::from)
}

/// A line of its own, past what the test's own output is kept in: a test that passes is not heard otherwise.
fn say_not_run(why: &str) {
    let line = format!("\n{NOT_RUN}{why}; run tests/run.sh, which says why it has none\n");
    let _heard = std::io::stdout().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_greets_again_after_a_kill_and_leaves_nothing_behind() {
        let Some(mut server) = MySqlServer::start() else {
            return;
        };
        server.kill();
        assert!(UnixStream::connect(server.socket()).is_err());
        server.restart();
        assert!(server.log().contains("ready for connections"));
        assert!(server.url("me").starts_with("mysql://me@127.0.0.1:"));
        assert!(server.socket_url("me").ends_with("%2Fs"));
        let directory = server.directory.clone();
        drop(server);
        assert!(!directory.exists());
    }
}
