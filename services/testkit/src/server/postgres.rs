//! A PostgreSQL server of a test's own: a fresh cluster in a temporary directory.
//!
//! Owns the directory and the server's main process, and ends both when dropped. It syncs as a
//! real one does, so that a kill loses nothing that was acknowledged. As root it runs the server
//! under another user, since PostgreSQL refuses root. It speaks no SQL.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::port::held_port;
use super::{child, directory};

/// Where Debian keeps the programs, one directory per major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";
/// How often a start is tried, and how long each try may take: a killed server's children may hold
/// its memory for a moment.
const START_TRIES: u32 = 20;
const READY_POLLS: u32 = 2400;
const POLL: Duration = Duration::from_millis(50);
/// Users a root test runs the server under, best first.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// Nothing that a session says comes into the server's log.
const UNLOGGED: &str = "-c log_statement=none -c log_min_error_statement=panic";
/// Name of the superuser of every test server.
pub const USER: &str = "keywheel";
/// Sessions that a server takes where a test does not say another number.
const CONNECTIONS: u32 = 100;
/// Application name of a session that is held.
pub const HELD: &str = "held";
/// Its password over TCP; the unix socket asks for none.
pub const PASSWORD: &str = "pw-of-a-test-server";

/// A running server.
pub struct PostgresServer {
    programs: PathBuf,
    directory: PathBuf,
    account: Option<(u32, u32)>,
    port: u16,
    logs_statements: bool,
    connections: u32,
    child: Option<Child>,
}

/// A session that is open until it is dropped.
pub struct HeldSession(Child);

impl Drop for HeldSession {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

impl PostgresServer {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start; the message says what to do.
    #[must_use]
    pub fn start() -> Self {
        Self::begin(false, CONNECTIONS)
    }

    /// One that takes so many sessions.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn with_connections(connections: u32) -> Self {
        Self::begin(false, connections)
    }

    /// One that writes every statement into its log, but for those of [`Self::psql`], which may hold
    /// what a test looks for there.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn logging_statements() -> Self {
        Self::begin(true, CONNECTIONS)
    }

    fn begin(logs_statements: bool, connections: u32) -> Self {
        let programs = programs().expect(
            "PostgreSQL is not installed: `apt-get install postgresql`, or run tests/run.sh",
        );
        let (directory, account) = (directory::fresh("kw-pg"), account());
        own(&directory, account);
        let mut server = Self {
            programs,
            directory,
            account,
            port: held_port(),
            logs_statements,
            connections,
            child: None,
        };
        server.init();
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
            std::thread::sleep(POLL);
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    /// Ends the server as a power cut would: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let main = child.id();
            let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children"));
            let _ended = child.kill();
            // By themselves they answer for a moment more.
            let children = children.unwrap_or_default();
            let mut kill = Command::new("kill");
            let kill = kill.arg("-KILL").args(children.split_whitespace());
            let _sent = kill.stderr(Stdio::null()).status();
            let _reaped = child.wait();
        }
    }

    /// Makes an empty database and gives its URL over the unix socket.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        let made = self
            .client("createdb")
            .args(["-T", "template0", name])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "createdb: {text}");
        self.url(name)
    }

    /// URL of a database over the unix socket.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let socket = self.socket_dir().display().to_string().replace('/', "%2F");
        format!("postgres://{USER}@{socket}:{}/{database}", self.port)
    }

    /// URL of a database over TCP, where [`PASSWORD`] is asked for.
    #[must_use]
    pub fn tcp_url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// `postgres://HOST:PORT` over TCP, for what adds user and database itself.
    #[must_use]
    pub fn place(&self) -> String {
        format!("postgres://127.0.0.1:{}", self.port)
    }

    /// The directory of its unix socket, which nobody else may enter unless a test says so.
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// Runs statements by `psql` and gives what it prints, unaligned and without headers.
    ///
    /// # Panics
    /// When a statement fails.
    #[must_use]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut client = self.client("psql");
        let client = client.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        let client = client.env("PGOPTIONS", UNLOGGED);
        let ran = client.args(["-d", database, "-c", sql]).output().unwrap();
        let text = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "psql: {text}");
        String::from_utf8_lossy(&ran.stdout).trim_end().to_owned()
    }

    /// Whether a user is let in over TCP with this password.
    ///
    /// # Panics
    /// When `psql` cannot be run.
    #[must_use]
    pub fn signs_in(&self, database: &str, user: &str, password: &str) -> bool {
        let mut client = self.program("psql");
        let client = client.args(["-X", "-q", "-w", "-h", "127.0.0.1"]);
        let client = client.args(["-p", &self.port.to_string(), "-U", user, "-d", database]);
        let ran = client.args(["-c", "SELECT 1"]).env("PGPASSWORD", password);
        ran.output().unwrap().status.success()
    }

    /// A client that signs in over TCP and stays until its input ends, under the application name [`HELD`].
    ///
    /// # Panics
    /// When `psql` cannot be run.
    #[must_use]
    pub fn hold(&self, database: &str, user: &str, password: &str) -> HeldSession {
        let mut client = self.program("psql");
        let client = client.args(["-X", "-q", "-w", "-h", "127.0.0.1"]);
        let client = client.args(["-p", &self.port.to_string(), "-U", user, "-d", database]);
        let client = client.env("PGPASSWORD", password).env("PGAPPNAME", HELD);
        let client = client.stdin(Stdio::piped()).stdout(Stdio::null());
        HeldSession(client.stderr(Stdio::null()).spawn().unwrap())
    }

    /// What the server wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Every byte in the cluster's files: tables, indexes, write-ahead log.
    #[must_use]
    pub fn files_contain(&self, needle: &[u8]) -> bool {
        contains(&self.directory.join("data"), needle)
    }

    fn init(&self) {
        let secret = self.directory.join("password");
        std::fs::write(&secret, PASSWORD).unwrap();
        own(&secret, self.account);
        let made = self
            .program("initdb")
            .arg("-D")
            .arg(self.directory.join("data"))
            .arg("--pwfile")
            .arg(&secret)
            .args(["-U", USER, "-E", "UTF8", "--locale=C", "--no-sync"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb: {text}");
    }

    fn spawn(&self) -> Child {
        let log = directory::open_log(&self.directory);
        let sockets = self.socket_dir().display().to_string();
        let mut program = self.program("postgres");
        program.arg("-D").arg(self.directory.join("data"));
        for setting in [
            format!("port={}", self.port),
            format!("unix_socket_directories={sockets}"),
            "listen_addresses=127.0.0.1".to_owned(),
            "fsync=on".to_owned(),
            "synchronous_commit=on".to_owned(),
            "shared_buffers=16MB".to_owned(),
            format!("max_connections={}", self.connections),
        ] {
            program.args(["-c", &setting]);
        }
        if self.logs_statements {
            program.args(["-c", "log_statement=all"]);
        }
        let program = program.stdin(Stdio::null()).stdout(Stdio::null());
        program.stderr(log).spawn().unwrap()
    }

    fn becomes_ready(&mut self) -> bool {
        let mut asks = self.client("pg_isready");
        asks.arg("-q");
        child::becomes_ready(&mut self.child, (READY_POLLS, POLL), || {
            asks.status().is_ok_and(|status| status.success())
        })
    }

    /// A program of the server, under the server's user.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.directory).env_clear();
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// A client program that talks to this server.
    fn client(&self, name: &str) -> Command {
        let mut command = self.program(name);
        command.arg("-h").arg(self.socket_dir());
        command.args(["-p", &self.port.to_string(), "-U", USER]);
        command
    }

    fn socket_dir(&self) -> &Path {
        &self.directory
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
        // Its children write until they notice; what is left then goes with the temporary directory.
        for _ in 0..START_TRIES {
            if std::fs::remove_dir_all(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The newest version's programs, or those on the path.
fn programs() -> Option<PathBuf> {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let debian = std::fs::read_dir(DEBIAN_ROOT).into_iter().flatten();
    let newest = debian
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter_map(|path| version(&path).map(|version| (version, path.join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .max();
    let found = newest.map(|(_, bin)| bin);
    found.or_else(|| {
        let which = Command::new("which").arg("initdb").output().ok()?;
        let path = PathBuf::from(String::from_utf8(which.stdout).ok()?.trim_end());
        path.parent().filter(|_| path.is_file()).map(Path::to_owned)
    })
}

/// The user a root test runs the server under; none when the test is no root.
fn account() -> Option<(u32, u32)> {
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    if own != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &&str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
        Some((ids.next()??, ids.next()??))
    };
    Some(
        USERS
            .iter()
            .find_map(find)
            .expect("no user to run PostgreSQL under"),
    )
}

fn own(path: &Path, account: Option<(u32, u32)>) {
    if let Some((uid, gid)) = account {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn contains(path: &Path, needle: &[u8]) -> bool {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        return entries
            .into_iter()
            .any(|entry| contains(&entry.path(), needle));
    }
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_was_committed_over_a_kill() {
        let mut server = PostgresServer::start();
        let url = server.database("one");
        assert!(url.ends_with("/one"), "{url}");
        let sql = "CREATE TABLE t (n int); INSERT INTO t VALUES (41)";
        assert_eq!(server.psql("one", sql), "");
        server.kill();
        server.restart();
        assert_eq!(server.psql("one", "SELECT n + 1 FROM t"), "42");
        let directory = server.directory.clone();
        drop(server);
        assert!(!directory.exists());
    }

    #[test]
    fn it_takes_as_many_sessions_as_it_is_told() {
        let server = PostgresServer::with_connections(30);
        assert_eq!(server.psql("postgres", "SHOW max_connections"), "30");
    }

    #[test]
    fn it_logs_every_statement_but_those_of_its_own_client() {
        let server = PostgresServer::logging_statements();
        let _url = server.database("one");
        assert!(server.log().contains("CREATE DATABASE one"));
        let _none = server.psql("one", "SELECT 'canary-of-psql'");
        assert!(!server.log().contains("canary-of-psql"));
    }
}
