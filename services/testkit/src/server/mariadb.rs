//! A MariaDB server of a test's own: fresh tables in a temporary directory.
//!
//! Owns the directory and the server's process, and ends both when dropped. Its only user beside the
//! server's own is [`USER`], who may do everything. It speaks no SQL but what makes the tables.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::port::held_port;
use super::{child, directory};

/// Where Debian keeps the program, and the statements that make the server's own tables.
const PROGRAMS: [&str; 2] = ["/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd"];
const TABLES: [&str; 2] = ["mysql_system_tables.sql", "mysql_performance_tables.sql"];
const SHARES: [&str; 2] = ["/usr/share/mysql", "/usr/share/mariadb"];
const START_TRIES: u32 = 5;
const READY_POLLS: u32 = 400;
const POLL: Duration = Duration::from_millis(50);
/// The user who may do everything.
pub const USER: &str = "keywheel";
/// Its password.
pub const PASSWORD: &str = "pw-of-a-test-server";

/// A running server.
pub struct MariaDbServer {
    program: PathBuf,
    directory: PathBuf,
    port: u16,
    speaks_tls: bool,
    child: Option<Child>,
}

impl MariaDbServer {
    /// Makes the tables and starts it.
    ///
    /// # Panics
    /// When MariaDB is not installed or does not start; the message says what to do.
    #[must_use]
    pub fn start() -> Self {
        Self::begin(None)
    }

    /// One that also speaks TLS, with this certificate and its key (PEM).
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn with_tls(certificate: &str, key: &str) -> Self {
        Self::begin(Some((certificate, key)))
    }

    fn begin(tls: Option<(&str, &str)>) -> Self {
        let missing =
            "MariaDB is not installed: `apt-get install mariadb-server-core`, or run tests/run.sh";
        let mut server = Self {
            program: first(&PROGRAMS).expect(missing),
            directory: directory::fresh("kw-my"),
            port: held_port(),
            speaks_tls: tls.is_some(),
            child: None,
        };
        if let Some((certificate, key)) = tls {
            directory::put_tls(&server.directory, certificate, key);
        }
        server.init(&first(&SHARES).expect(missing));
        server.restart();
        server
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
        panic!("MariaDB does not start:\n{}", self.log());
    }

    /// Ends the server as a power cut would: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        child::kill(&mut self.child);
    }

    /// `mariadb://USER@127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        format!("mariadb://{user}@127.0.0.1:{}", self.port)
    }

    /// The same over the unix socket.
    #[must_use]
    pub fn socket_url(&self, user: &str) -> String {
        let socket = self.socket().display().to_string().replace('/', "%2F");
        format!("mariadb://{user}@{socket}")
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

    fn init(&self, share: &Path) {
        let mut statements = "CREATE DATABASE mysql;\nUSE mysql;\n".to_owned();
        for tables in TABLES {
            statements.push_str(&std::fs::read_to_string(share.join(tables)).unwrap());
        }
        statements.push_str(&format!(
            "DELETE FROM global_priv WHERE User = 'root';\nFLUSH PRIVILEGES;\n\
             CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        ));
        let file = self.directory.join("tables.sql");
        std::fs::write(&file, statements).unwrap();
        std::fs::create_dir(self.directory.join("data")).unwrap();
        let made = self
            .server()
            .arg("--bootstrap")
            .stdin(File::open(&file).unwrap())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "mariadbd --bootstrap: {text}");
    }

    fn spawn(&self) -> Child {
        let log = directory::open_log(&self.directory);
        let socket = self.socket().display().to_string();
        let mut server = self.server();
        server.args([
            "--bind-address=127.0.0.1".to_owned(),
            format!("--port={}", self.port),
            format!("--socket={socket}"),
        ]);
        if self.speaks_tls {
            let at = |name: &str| self.directory.join(name).display().to_string();
            server.arg(format!("--ssl-cert={}", at(directory::CERTIFICATE)));
            server.arg(format!("--ssl-key={}", at(directory::KEY)));
        }
        let server = server.stdin(Stdio::null()).stdout(Stdio::null());
        server.stderr(log).spawn().unwrap()
    }

    /// The program with what both of its runs need.
    fn server(&self) -> Command {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let mut server = Command::new(&self.program);
        server.current_dir(&self.directory).env_clear();
        server.args([
            "--no-defaults".to_owned(),
            format!("--datadir={}", at("data")),
            format!("--tmpdir={}", at("")),
            format!("--pid-file={}", at("pid")),
            "--innodb-buffer-pool-size=16M".to_owned(),
            "--innodb-log-file-size=8M".to_owned(),
        ]);
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            server.arg("--user=root");
        }
        server
    }

    /// It greets who connects.
    fn becomes_ready(&mut self) -> bool {
        let socket = self.socket();
        child::becomes_ready(&mut self.child, (READY_POLLS, POLL), || greets(&socket))
    }
}

impl Drop for MariaDbServer {
    fn drop(&mut self) {
        self.kill();
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// Whether a server says who it is to whoever connects.
pub(super) fn greets(socket: &Path) -> bool {
    let greeted = UnixStream::connect(socket).and_then(|mut stream| stream.read_exact(&mut [0; 5]));
    greeted.is_ok()
}

fn first(places: &[&str]) -> Option<PathBuf> {
    let mut places = places.iter().map(PathBuf::from);
    places.find(|place| place.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_greets_again_after_a_kill_and_leaves_nothing_behind() {
        let mut server = MariaDbServer::start();
        server.kill();
        assert!(UnixStream::connect(server.socket()).is_err());
        server.restart();
        assert!(server.log().contains("ready for connections"));
        assert!(server.url("me").starts_with("mariadb://me@127.0.0.1:"));
        assert!(server.socket_url("me").ends_with("%2Fs"));
        let directory = server.directory.clone();
        drop(server);
        assert!(!directory.exists());
    }
}
