//! A machine of its own with systemd as its first process, made by `machine/machine.sh` of namespaces.
//!
//! Owns the machine and the control group it lives in; both go with the value. It can write nothing
//! outside: the script refuses to start one that could.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::output::Output;
use keywheel_tests::scratch::{self, Scratch};
use keywheel_tests::wait;

const PATIENCE: Duration = wait::PATIENCE;
const SCRIPT: &str = "tests/system/deploy_files/machine/machine.sh";
const INSTALLED: &str = "/usr/lib/systemd/systemd";
/// Lines of the journal that a failed test shows.
const JOURNAL_TAIL: &str = "120";
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A running machine.
pub(crate) struct Machine {
    child: Child,
    name: String,
    first: u32,
    scratch: Scratch,
}

/// Where systemd was unpacked, or nothing where it is installed.
#[expect(clippy::disallowed_methods, reason = "where the installer put it")]
fn unpacked() -> Result<String> {
    if Path::new(INSTALLED).exists() {
        return Ok(String::new());
    }
    let home = std::env::var("HOME").context("HOME is not set")?;
    let kept = Path::new(&home).join(".cache/keywheel/systemd");
    let places = ["lib/systemd/systemd", "usr/lib/systemd/systemd"];
    ensure!(
        places.iter().any(|place| kept.join(place).exists()),
        "systemd is missing: ./tests/run.sh unpacks it"
    );
    Ok(kept.display().to_string())
}

impl Machine {
    /// Boots one that sees this directory as `/run/postgresql`, and waits until systemd has done so.
    pub(crate) fn boot(sockets: &Path) -> Result<Self> {
        let scratch = Scratch::make()?;
        let name = scratch::unique("keywheel-machine");
        let log = fs::File::create(scratch.join("log"))?;
        let script = scratch::root().join(SCRIPT).display().to_string();
        let directory = scratch.path().display().to_string();
        let sockets = sockets.display().to_string();
        // It goes with the thread of this test, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "sh", &script])
            .args(["start", &name, &directory, &unpacked()?, &sockets])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start a machine")?;
        let mut machine = Self {
            child,
            name,
            first: 0,
            scratch,
        };
        let booted = machine.wait_booted();
        booted
            .with_context(|| fs::read_to_string(machine.scratch.join("log")).unwrap_or_default())?;
        Ok(machine)
    }

    fn wait_booted(&mut self) -> Result<()> {
        let outer = self.child.id();
        let children = format!("/proc/{outer}/task/{outer}/children");
        self.first = wait::until("systemd", PATIENCE, || {
            let all = fs::read_to_string(&children)?;
            let Some(first) = all.split_whitespace().next() else {
                return Ok(None);
            };
            let name = fs::read_to_string(format!("/proc/{first}/comm"))?;
            Ok((name.trim() == "systemd")
                .then(|| first.parse::<u32>())
                .transpose()?)
        })?;
        wait::until_true("the machine to be up", PATIENCE, || {
            let said = self.run(&["systemctl", "is-system-running"])?;
            ensure!(said.stdout.trim() == "running", "{}", said.said());
            Ok(true)
        })
    }

    /// How a command line begins that runs a command there as root; it hands on nothing of the
    /// environment.
    pub(crate) fn prefix(&self) -> String {
        format!(
            "nsenter --target {} --mount --uts --ipc --net --pid --cgroup env -i HOME=/root PATH={SYSTEM_PATH}",
            self.first
        )
    }

    /// Its network, as a path.
    pub(crate) fn network(&self) -> String {
        format!("/proc/{}/ns/net", self.first)
    }

    /// A command there.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Command> {
        let prefix = self.prefix();
        let mut all = prefix.split(' ').chain(words.iter().copied());
        let mut command = Command::new(all.next().context("no command")?);
        command.args(all).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command there.
    pub(crate) fn run(&self, words: &[&str]) -> Result<Output> {
        Output::of(&mut self.command(words)?)
    }

    /// One property of a unit, as systemd says it.
    pub(crate) fn property(&self, unit: &str, name: &str) -> Result<String> {
        let words = ["systemctl", "show", "--value", "--property", name, unit];
        Ok(self.run(&words)?.ok()?.stdout.trim().to_owned())
    }

    /// What the journal has of a unit.
    pub(crate) fn journal(&self, unit: &str) -> Result<String> {
        let words = [
            "journalctl",
            "--no-pager",
            "--output",
            "cat",
            "--unit",
            unit,
        ];
        Ok(self.run(&words)?.ok()?.stdout)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let script = scratch::root().join(SCRIPT);
        let gone = wait::until_true("the machine to be gone", PATIENCE, || {
            let mut forget = Command::new("unshare");
            forget.args(["--mount", "sh"]).arg(&script);
            forget
                .arg("forget")
                .arg(&self.name)
                .arg(self.scratch.path());
            Output::of(&mut forget)?.ok()?;
            Ok(true)
        });
        if let Err(error) = gone {
            eprintln!("harness: a control group stays: {error:#}");
        }
    }
}

impl Machine {
    /// What its systemd says of the last minutes.
    pub(crate) fn show(&self) {
        for words in [
            &[
                "systemctl",
                "--no-pager",
                "--all",
                "list-units",
                "keywheel-*",
            ][..],
            &["journalctl", "--no-pager", "--lines", JOURNAL_TAIL],
        ] {
            match self.run(words) {
                Ok(said) => eprintln!("{}", said.said()),
                Err(error) => eprintln!("harness: {error:#}"),
            }
        }
    }
}
