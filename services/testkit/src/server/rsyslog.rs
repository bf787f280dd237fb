//! A rsyslog server of a test's own, which takes RFC 5424 messages over TLS and writes what they say to a file, one a
//! line. Its programs lie in a cache directory, where `tests/run.sh` unpacks them; nothing is installed.
//!
//! Owns the directory and the server's process, and ends both when dropped. It is set up as `deploy/docs/audit.md` says:
//! without a queue in memory and with a sync after each message, so that what it has read is on the disk before it
//! ends a connection in order.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::port::held_port;
use super::{child, directory};

/// Names another cache directory than the user's own.
const CACHE_VARIABLE: &str = "KEYWHEEL_RSYSLOG_DIR";
const READY_POLLS: u32 = 4800;
const POLL: Duration = Duration::from_millis(25);

/// Which library speaks TLS for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// OpenSSL: ends a connection with `close_notify`.
    Ossl,
    /// GnuTLS: ends it without.
    Gtls,
}

/// A running server.
pub struct RsyslogServer {
    directory: PathBuf,
    port: u16,
    driver: Driver,
    child: Option<Child>,
}

impl RsyslogServer {
    /// One that shows this certificate with its key (PEM).
    ///
    /// # Panics
    /// When rsyslog is not unpacked or does not start; the message says what to do.
    #[must_use]
    pub fn start(driver: Driver, certificate: &str, key: &str) -> Self {
        let mut server = Self {
            directory: directory::fresh("kw-sl"),
            port: held_port(),
            driver,
            child: None,
        };
        directory::put_tls(&server.directory, certificate, key);
        std::fs::write(
            server.directory.join("rsyslog.conf"),
            server.configuration(),
        )
        .unwrap();
        server.restart();
        server
    }

    /// Starts it again on the same port and file, after [`Self::kill`] too.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        let root = unpacked();
        let libraries = libraries(&root);
        let log = directory::open_log(&self.directory);
        let child = Command::new(root.join("usr/sbin/rsyslogd"))
            .args(["-n", "-iNONE", "-f"])
            .arg(self.directory.join("rsyslog.conf"))
            .arg("-M")
            .arg(libraries.join("rsyslog"))
            .env_clear()
            .env("LD_LIBRARY_PATH", &libraries)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("rsyslog starts");
        self.child = Some(child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        for _ in 0..READY_POLLS {
            if TcpStream::connect_timeout(&address, POLL).is_ok() {
                return;
            }
            std::thread::sleep(POLL);
        }
        panic!("rsyslog does not start:\n{}", self.log());
    }

    /// Ends it as a power cut would: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        child::kill(&mut self.child);
    }

    /// Stops it in its tracks: connections stay open, new ones wait, and nothing answers.
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

    /// Where it listens, as `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What the messages said that it wrote down, in the order in which it has them.
    #[must_use]
    pub fn received(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.join("received")).unwrap_or_default();
        // A line that is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }

    /// What the server said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn configuration(&self) -> String {
        let directory = self.directory.display();
        let driver = match self.driver {
            Driver::Ossl => "ossl",
            Driver::Gtls => "gtls",
        };
        format!(
            "global(workDirectory=\"{directory}\" maxMessageSize=\"64k\"\n  \
             defaultNetstreamDriverCAFile=\"{directory}/{certificate}\"\n  \
             defaultNetstreamDriverCertFile=\"{directory}/{certificate}\"\n  \
             defaultNetstreamDriverKeyFile=\"{directory}/{key}\")\n\
             main_queue(queue.type=\"Direct\")\n\
             module(load=\"imtcp\" streamDriver.name=\"{driver}\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")\n\
             template(name=\"record\" type=\"string\" string=\"%msg%\\n\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"audit\")\n\
             ruleset(name=\"audit\") {{\n  \
             action(type=\"omfile\" file=\"{directory}/received\" template=\"record\" fileCreateMode=\"0600\" sync=\"on\")\n\
             }}\n",
            certificate = directory::CERTIFICATE,
            key = directory::KEY,
            port = self.port,
        )
    }
}

impl Drop for RsyslogServer {
    fn drop(&mut self) {
        self.kill();
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// Where `tests/run.sh` unpacks it.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own variable, and no service's"
)]
fn unpacked() -> PathBuf {
    let root = std::env::var_os(CACHE_VARIABLE).map_or_else(
        || {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_default())
                .join(".cache/keywheel/rsyslog")
        },
        PathBuf::from,
    );
    assert!(
        root.join("usr/sbin/rsyslogd").is_file(),
        "rsyslog is not unpacked at {}: run tests/run.sh",
        root.display()
    );
    root
}

/// The one directory of libraries, whatever the machine is.
fn libraries(root: &Path) -> PathBuf {
    let mut found = std::fs::read_dir(root.join("usr/lib"))
        .expect("libraries")
        .map(|entry| entry.expect("an entry").path());
    found
        .find(|path| path.join("rsyslog").is_dir())
        .expect("modules of rsyslog")
}
