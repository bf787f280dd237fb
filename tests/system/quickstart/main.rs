//! Suite quickstart: see README.md beside this file.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

mod missing;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use keywheel_tests::docker;
use keywheel_tests::output::Output;
use keywheel_tests::places;
use keywheel_tests::planted::PLANTED;
use keywheel_tests::scratch::{Scratch, root};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn quickstart(state: &Path, words: &[&str]) -> Result<Output> {
    let script = root().join("deploy/quickstart.sh");
    Output::of(
        Command::new(script)
            // What the other suites run; a release differs in its profile alone.
            .arg("--dev-build")
            .args(words)
            .env("KEYWHEEL_QUICKSTART_DIR", state)
            .env_remove("KEYWHEEL_ADDRESS"),
    )
}

fn figure(report: &Value, path: &str) -> Result<f64> {
    let found = report.pointer(path).and_then(Value::as_f64);
    found.with_context(|| format!("no number at {path}: {report}"))
}

/// Runs `--down` however the test ends.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        if let Err(error) = quickstart(self.0, &["--down"]).and_then(Output::ok) {
            eprintln!("--down failed: {error:#}");
        }
    }
}

fn check_report(report: &Value, state: &Path) -> Result<()> {
    assert!(figure(report, "/rotations")? >= 100.0, "{report}");
    for path in [
        "/file_swap_ms/p50",
        "/file_swap_ms/p99",
        "/rotation_ms/p50",
        "/rotation_ms/p99",
        "/env_restart_ms",
        "/env_restart_vs_docker_restart",
        "/revoke_ms",
    ] {
        let value = figure(report, path)?;
        assert!(value > 0.0 && value < 60_000.0, "{path} is {value}");
    }
    assert!(
        figure(report, "/file_swap_ms/p50")? <= figure(report, "/rotation_ms/p50")?,
        "{report}"
    );
    assert!(figure(report, "/audit/records")? >= 100.0, "{report}");
    assert_eq!(report.pointer("/audit/verified"), Some(&Value::Bool(true)));
    let socket = report
        .get("socket")
        .and_then(Value::as_str)
        .unwrap_or_default();
    assert!(socket.starts_with(&state.display().to_string()), "{socket}");
    assert!(
        Path::new(socket).exists(),
        "the report names a socket that is not there"
    );
    Ok(())
}

fn assert_nothing_left(state: &Path) -> Result<()> {
    assert!(
        !state.exists() || fs::read_dir(state)?.next().is_none(),
        "{} is not empty",
        state.display()
    );
    let left = docker::docker(&["ps", "-aq", "--filter", "name=keywheel-quickstart"])?
        .ok()?
        .stdout;
    assert!(left.trim().is_empty(), "containers are left: {left}");
    let left = docker::docker(&["images", "-q", "keywheel-quickstart"])?
        .ok()?
        .stdout;
    assert!(left.trim().is_empty(), "the image is left: {left}");
    let table = fs::read_to_string("/etc/docker/daemon.json").unwrap_or_default();
    assert!(
        !table.contains("\"keywheel\""),
        "the runtime is still registered: {table}"
    );
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    assert!(
        !mounts.contains(&state.display().to_string()),
        "a mount is left: {mounts}"
    );
    Ok(())
}

/// Runs the client that the first command built; a value is given by stdin.
fn client(report: &Value, words: &[&str], value: Option<File>) -> Result<Output> {
    let socket = report.get("socket").and_then(Value::as_str);
    let address = format!("unix://{}", socket.context("no socket")?);
    let mut command = Command::new(root().join("target/dist-dev/keywheel"));
    command.args(words).env("KEYWHEEL_ADDRESS", address);
    command.stdin(value.map_or_else(Stdio::null, Stdio::from));
    Output::of(&mut command)?.ok()
}

/// Gives the running server a value and searches every place for it.
fn check_no_plaintext(report: &Value, scratch: &Scratch, state: &Path) -> Result<()> {
    let digest = Sha256::digest(scratch.path().as_os_str().as_encoded_bytes());
    let value: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let path = scratch.write("planted", &value)?;
    let stdin = File::open(&path)?;
    fs::remove_file(path)?;
    let put = ["secret", "put", PLANTED, "--value-file", "-", "--wait"];
    let mut said = vec![client(report, &put, Some(stdin))?];
    for words in [
        &["get", "secret", PLANTED, "-o", "json"][..],
        &["events", "list", "--after", "0", "--limit", "1000000"],
        &["audit", "list", "--after", "0", "--limit", "1000000"],
    ] {
        said.push(client(report, words, None)?);
    }
    assert!(
        said.iter()
            .skip(1)
            .all(|output| output.stdout.contains(PLANTED)),
        "the planted value was never put"
    );
    let names = docker::docker(&["ps", "-aq", "--filter", "name=keywheel-quickstart"])?.ok()?;
    let containers: Vec<&str> = names.stdout.split_whitespace().collect();
    places::assert_clean_at(&[value.into_bytes()], &[state], &said, &containers)
}

#[test]
fn the_first_command_works_twice_and_down_leaves_nothing() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let scratch = Scratch::make()?;
    let state = scratch.join("qs");
    let down = Down(&state);
    let first = quickstart(&state, &[])?.ok()?;
    for words in [
        "  fires in ",
        "its container acknowledged it",
        "124 rotations acknowledged",
    ] {
        assert!(
            first.stdout.contains(words),
            "no `{words}`: {}",
            first.said()
        );
    }
    let second = quickstart(&state, &["--json"])?.ok()?;
    eprintln!("{}", second.said());
    assert_eq!(
        second.stdout.lines().count(),
        1,
        "more than the report is on stdout: {}",
        second.stdout
    );
    let report = second.json()?;
    check_report(&report, &state)?;
    check_no_plaintext(&report, &scratch, &state)?;
    drop(down);
    assert_nothing_left(&state)?;
    quickstart(&state, &["--down"])?.ok()?;
    assert_nothing_left(&state)
}

#[test]
fn an_unknown_flag_gets_help() -> Result<()> {
    let scratch = Scratch::make()?;
    for words in [&["--nonsense"][..], &["--json", "--down"], &["extra"]] {
        let said = quickstart(&scratch.join("qs"), words)?;
        assert_eq!(said.code, 64, "{}", said.said());
        assert!(said.stderr.contains("usage:") && said.stderr.contains("--down"));
    }
    let help = quickstart(&scratch.join("qs"), &["--help"])?;
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("--json"));
    Ok(())
}

#[test]
fn down_with_nothing_there_is_fine() -> Result<()> {
    let scratch = Scratch::make()?;
    quickstart(&scratch.join("never"), &["--down"])?.ok()?;
    Ok(())
}

#[test]
fn a_directory_with_something_else_is_not_touched() -> Result<()> {
    let scratch = Scratch::make()?;
    fs::create_dir(scratch.join("mine"))?;
    let path = scratch.write("mine/precious", "mine")?;
    let said = quickstart(&scratch.join("mine"), &[])?;
    assert_eq!(said.code, 73, "{}", said.said());
    quickstart(&scratch.join("mine"), &["--down"])?.ok()?;
    assert_eq!(fs::read_to_string(path)?, "mine");
    Ok(())
}
