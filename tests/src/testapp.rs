//! The test application's program (`tests/app`): how it is built, and what it asks a server from this machine.
//!
//! Invariant: user, password and statements come by standard input: no argument has them. One of it in a container is
//! the suite's that loads it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::output::Output;
use crate::scratch::root;

/// Where it is built, below the repository's root.
const FOLDER: &str = "target/tmp";
/// What the program ends with when a server refuses a login.
const REFUSED: i32 = 3;

static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The program: static, and built once for all that this process does with it. It has no dependencies, so `rustc`
/// alone builds it; Cargo would wait for itself, since it holds its directory's lock while tests run.
pub fn program() -> Result<&'static Path> {
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let program = folder.join("keywheel-testapp");
    let mut build = Command::new("rustc");
    build.args(["--edition", "2024", "--crate-name", "keywheel_testapp"]);
    build.args(["-O", "-C", "target-feature=+crt-static", "-o"]);
    build
        .arg(&program)
        .arg(root().join("tests/app/src/main.rs"));
    Output::of(&mut build)?.ok()?;
    Ok(program)
}

/// Signs in from this machine and runs statements; gives the first value of each answer, and nothing when
/// the login is refused.
pub fn ask(
    kind: &str,
    place: &str,
    login: [&str; 2],
    statements: &[&str],
) -> Result<Option<Vec<String>>> {
    let mut child = Command::new(program()?)
        .args(["ask", kind, place])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let input = [&login[..], statements].concat().join("\n");
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let done = child.wait_with_output()?;
    match done.status.code() {
        Some(0) => {
            let said = String::from_utf8_lossy(&done.stdout);
            Ok(Some(said.lines().map(str::to_owned).collect()))
        }
        Some(REFUSED) => Ok(None),
        code => bail!(
            "{kind} at {place} ({code:?}): {}",
            String::from_utf8_lossy(&done.stderr)
        ),
    }
}
