//! Machines that lack something: the quickstart says what, installs it or names the next step.
//!
//! Programs are taken out of a copy-on-write layer over their folders, in a mount namespace of the
//! script's own, and played by stubs; nothing of this machine changes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use keywheel_tests::output::Output;
use keywheel_tests::scratch::{Scratch, root};

/// Something is missing that the script cannot make up for.
const UNAVAILABLE: i32 = 69;
/// Where administrators' programs are, as the script itself looks for them.
const DIRECTORIES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the script looks for Rust besides, in two parts.
const RUST: [(&str, &str); 2] = [("/root", ".cargo/bin"), ("/usr/local", "cargo/bin")];
/// A cargo that is new enough and builds nothing.
const CARGO: &str = "case $1 in --version) echo 'cargo 1.95.0 (stub)';; *) exit 7;; esac";

/// A machine with some programs hidden and others played.
struct Machine {
    scratch: Scratch,
    hidden: BTreeSet<(PathBuf, &'static str)>,
}

impl Machine {
    fn make() -> Result<Self> {
        let scratch = Scratch::make()?;
        fs::create_dir(scratch.join("stubs"))?;
        let machine = Self {
            scratch,
            hidden: BTreeSet::new(),
        };
        Ok(machine)
    }

    /// Hides a program wherever it is.
    fn hide(mut self, program: &'static str) -> Self {
        let folders = DIRECTORIES.split(':').map(PathBuf::from);
        let folders = folders.chain(RUST.map(|(home, below)| Path::new(home).join(below)));
        let found = folders.filter(|folder| folder.join(program).exists());
        let found = found.filter_map(|folder| folder.canonicalize().ok());
        self.hidden.extend(found.map(|folder| (folder, program)));
        self
    }

    /// Commands of a mount namespace's shell that hide what is to be missing. A program is removed
    /// only where the layer is known to lie over its folder.
    fn hiding(&self) -> String {
        let layers = self.path("layers");
        let mut script = format!("mkdir -p {layers} && mount -t tmpfs none {layers} && ");
        let folders: BTreeSet<&PathBuf> = self.hidden.iter().map(|(folder, _)| folder).collect();
        for (number, folder) in folders.into_iter().enumerate() {
            let (folder, layer) = (folder.display(), format!("{layers}/{number}"));
            script += &format!(
                "mkdir -p {layer}/upper {layer}/work && mount -t overlay none \
                 -o lowerdir={folder},upperdir={layer}/upper,workdir={layer}/work {folder} && "
            );
        }
        for (folder, program) in &self.hidden {
            let folder = folder.display();
            script += &format!("mountpoint -q {folder} && rm {folder}/{program} && ");
        }
        script
    }

    fn play(self, program: &str, script: &str) -> Result<Self> {
        let text = format!("#!/bin/sh\n{script}\n");
        let path = self.scratch.write(&format!("stubs/{program}"), text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        Ok(self)
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    /// Runs the script on it.
    fn quickstart(&self, words: &[&str]) -> Result<Output> {
        let mut script = self.hiding();
        // Where systemd runs, the script would ask it.
        script +=
            "{ ! [ -d /run/systemd ] || mount -t tmpfs none /run/systemd; } && exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(root().join("deploy/quickstart.sh"))
            .args(words)
            .env("PATH", format!("{}:{DIRECTORIES}", self.path("stubs")))
            .env("HOME", self.scratch.path())
            .env("KEYWHEEL_QUICKSTART_DIR", self.path("state"));
        for variable in ["CARGO_HOME", "SUDO_USER", "KEYWHEEL_ADDRESS"] {
            command.env_remove(variable);
        }
        Output::of(&mut command)
    }

    fn assert_stops(&self, code: i32, words: &[&str]) -> Result<()> {
        let said = self.quickstart(&[])?;
        assert_eq!(said.code, code, "{}", said.said());
        for word in words {
            assert!(said.said().contains(word), "`{word}`: {}", said.said());
        }
        assert!(said.stderr.contains("next: "), "{}", said.said());
        Ok(())
    }
}

#[test]
fn without_rust_the_way_to_it_is_told() -> Result<()> {
    let machine = Machine::make()?.hide("cargo");
    machine.assert_stops(UNAVAILABLE, &["Rust is missing", "rustup"])?;
    let old = "echo 'cargo 1.70.0 (stub)'";
    let machine = Machine::make()?.play("cargo", old)?;
    machine.assert_stops(UNAVAILABLE, &["1.95 or newer", "1.70", "rustup update"])
}

#[test]
fn without_docker_debians_package_is_installed_after_saying_why() -> Result<()> {
    let machine = Machine::make()?.hide("docker").hide("dockerd");
    let asked = machine.path("asked");
    let machine = machine
        .play("cargo", CARGO)?
        .play("apt-get", &format!("echo \"$@\" >>{asked}"))?;
    let words = ["installing docker.io: Docker runs the containers"];
    machine.assert_stops(UNAVAILABLE, &words)?;
    let asked = fs::read_to_string(asked).context("nothing was asked of apt-get")?;
    assert!(
        asked.contains("install") && asked.contains("docker.io"),
        "{asked}"
    );

    let machine = Machine::make()?
        .hide("docker")
        .hide("dockerd")
        .hide("apt-get");
    let machine = machine.play("cargo", CARGO)?;
    machine.assert_stops(UNAVAILABLE, &["apt-get is missing", "docker.io", "by hand"])
}

/// A daemon that comes up only without its network, answers from then on, and ends with its machine.
fn with_dockerd() -> Result<Machine> {
    let machine = Machine::make()?;
    let up = machine.path("docker-is-up");
    let dockerd = format!(
        "case \"$*\" in *--bridge=none*) ;; *) echo no network >&2; exit 1;; esac\n\
         touch {up}\nwhile [ -e {up} ]; do sleep 0.2; done"
    );
    machine
        .play("cargo", CARGO)?
        .play("docker", &format!("[ \"$1\" != info ] || [ -e {up} ]"))?
        .play("dockerd", &dockerd)
}

#[test]
fn where_no_service_manager_runs_the_daemon_is_started_and_stopped_by_us() -> Result<()> {
    let machine = with_dockerd()?;
    let said = machine.quickstart(&[])?;
    assert_ne!(said.code, 0, "the stub of cargo built something");
    for words in [
        "no service manager runs here: starting dockerd in the background",
        "once more without its network",
    ] {
        assert!(said.said().contains(words), "`{words}`: {}", said.said());
    }
    let pid = fs::read_to_string(machine.path("state/dockerd.pid"))?;
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists(), "the daemon does not run: {}", said.said());
    machine.quickstart(&["--down"])?.ok()?;
    assert!(!process.exists(), "--down left the daemon it started");
    Ok(())
}

#[test]
fn a_daemon_that_does_not_come_up_is_told_with_its_log() -> Result<()> {
    let machine = with_dockerd()?.play("dockerd", "echo broken >&2; exit 1")?;
    machine.assert_stops(UNAVAILABLE, &["dockerd does not start", "dockerd.log"])
}
