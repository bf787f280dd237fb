//! A systemd journal of the test's own, in its mount namespace.
//!
//! Owns journald, its sockets and its files. Invariant: the machine's own are covered, never written: outside a mount
//! namespace of its own nothing is started.

use std::fs;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::output::Output;
use keywheel_tests::process::{PATIENCE, Process};
use keywheel_tests::scratch::Scratch;
use keywheel_tests::wait;

use crate::machine::digits;

/// Where it looks for its configuration and has its sockets, and where it writes.
const COVERED: [&str; 2] = ["/run/systemd", "/run/log"];
const RUN: &str = "/run/systemd/journal";
/// Its sockets, for programs that speak its protocol and for the output of services.
const SOCKETS: [&str; 2] = ["/run/systemd/journal/socket", "/run/systemd/journal/stdout"];
const FILES: &str = "/run/log/journal";
const CONFIGURATIONS: &str = "/run/systemd/journald.conf.d";
/// Nothing of the machine: not its disk, its kernel's words, its kernel's audit or its terminals; and every message.
const CONFIGURATION: &str =
    "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\nForwardToWall=no\nRateLimitIntervalSec=0\n";
/// Names the directory below [`FILES`].
const MACHINE_ID: &str = "/etc/machine-id";

/// A journal that takes what engines and services of the namespace write.
pub(crate) struct Journal {
    _daemon: Process,
    reader: PathBuf,
    libraries: String,
    _root: Scratch,
}

impl Journal {
    /// Starts it, and waits until it listens.
    pub(crate) fn start() -> Result<Self> {
        // The machine's first process may hide its own from everybody; the one that called this test is in the same.
        let namespace = |of: u32| fs::read_link(format!("/proc/{of}/ns/mnt"));
        ensure!(
            namespace(std::process::id())? != namespace(parent_id())?,
            "this would cover the machine's own journal"
        );
        let top = top()?;
        let root = Scratch::make()?;
        let id = root.write("machine-id", digits()? + "\n")?;
        for place in COVERED {
            fs::create_dir_all(place)?;
            mount(&["-t", "tmpfs", "-o", "mode=0755", "tmpfs", place])?;
        }
        mount(&["--bind", &id.display().to_string(), MACHINE_ID])?;
        for place in [FILES, CONFIGURATIONS, RUN] {
            fs::create_dir_all(place)?;
        }
        fs::write(format!("{CONFIGURATIONS}/test.conf"), CONFIGURATION)?;
        let libraries = libraries(&top);
        let program = find(&top, ["usr/lib/systemd", "lib/systemd"], "systemd-journald")?;
        let log = root.join("journald.log");
        let mut daemon = Process::new("systemd-journald", log, &program, &[]);
        daemon.set_environment(vec![("LD_LIBRARY_PATH".to_owned(), libraries.clone())]);
        daemon.start()?;
        wait::until_true("a journal", PATIENCE, || {
            Ok(SOCKETS.iter().all(|socket| Path::new(socket).exists()))
        })
        .with_context(|| daemon.tail())?;
        Ok(Self {
            _daemon: daemon,
            reader: find(&top, ["usr/bin", "bin"], "journalctl")?,
            libraries,
            _root: root,
        })
    }

    /// Everything that it was told until now, with all fields.
    pub(crate) fn told(&self) -> Result<Output> {
        // It answers when nothing that was sent to it waits any more.
        self.read(&["--sync"])?.ok()?;
        let words = ["--no-pager", "-o", "export", "-D", FILES];
        self.read(&words)?.ok()
    }

    /// Its files.
    pub(crate) fn files() -> PathBuf {
        PathBuf::from(FILES)
    }

    fn read(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.reader);
        command.env("LD_LIBRARY_PATH", &self.libraries);
        Output::of(command.args(words))
    }
}

fn mount(words: &[&str]) -> Result<()> {
    Output::of(Command::new("mount").args(words))?
        .ok()
        .map(drop)
}

/// Below what systemd's programs lie: the system, or where `tests/run.sh` unpacked them.
#[expect(clippy::disallowed_methods, reason = "where the installer put it")]
fn top() -> Result<PathBuf> {
    let system = PathBuf::from("/");
    if find(
        &system,
        ["usr/lib/systemd", "lib/systemd"],
        "systemd-journald",
    )
    .is_ok()
    {
        return Ok(system);
    }
    let home = std::env::var("HOME").context("HOME is not set")?;
    Ok(Path::new(&home).join(".cache/keywheel/systemd"))
}

fn find(top: &Path, places: [&str; 2], name: &str) -> Result<PathBuf> {
    let mut paths = places.iter().map(|place| top.join(place).join(name));
    let found = paths.find(|path| path.exists());
    found.with_context(|| {
        format!(
            "{name} is missing below {}: ./tests/run.sh unpacks it",
            top.display()
        )
    })
}

/// Where the programs find what they are linked with.
fn libraries(top: &Path) -> String {
    let machine = std::env::consts::ARCH;
    let of = |place: &str| {
        let own = top.join(place).join(format!("{machine}-linux-gnu"));
        format!("{}:{}", own.display(), own.join("systemd").display())
    };
    ["usr/lib", "lib"].map(of).join(":")
}
