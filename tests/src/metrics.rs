//! What processes show to Prometheus: the harness lets each of them serve its page at a socket in its
//! own run directory, and asks all that answer.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::keywheel::Keywheel;

/// Sockets of pages begin and end so.
const PREFIX: &str = "metrics";
const SUFFIX: &str = ".sock";

/// The page at a socket; `None` when nobody listens there any more.
pub fn page(socket: &Path) -> Result<Option<String>> {
    let Ok(mut stream) = UnixStream::connect(socket) else {
        return Ok(None);
    };
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, page) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(
        head.starts_with("HTTP/1.1 200"),
        "{}: {head}",
        socket.display()
    );
    Ok(Some(page.to_owned()))
}

/// The pages of all processes that run, by their sockets.
pub fn pages(keywheel: &Keywheel) -> Result<Vec<(PathBuf, String)>> {
    let mut pages = Vec::new();
    for tree in keywheel.trees() {
        let entries = fs::read_dir(&tree).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_page = name.starts_with(PREFIX) && name.ends_with(SUFFIX);
            let is_known = pages.iter().any(|(known, _)| *known == path);
            if is_page
                && !is_known
                && let Some(page) = page(&path)?
            {
                pages.push((path, page));
            }
        }
    }
    Ok(pages)
}

/// The numbers of a metric, whatever its labels, on all pages.
#[must_use]
pub fn numbers(pages: &[(PathBuf, String)], start: &str) -> Vec<f64> {
    let lines = pages.iter().flat_map(|(_, page)| page.lines());
    lines
        .filter(|line| line.starts_with(start))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect()
}

/// Prometheus' own checker: where `tests/run.sh` unpacked it, else of the system.
#[expect(clippy::disallowed_methods, reason = "where the installer put it")]
pub fn promtool(arguments: &[&str]) -> Result<Command> {
    let kept = std::env::var("HOME").map(PathBuf::from).unwrap_or_default();
    let kept = kept.join(".cache/keywheel/prometheus/usr/bin/promtool");
    let program = if kept.exists() {
        kept
    } else {
        "promtool".into()
    };
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// `promtool check metrics` finds nothing wrong with a page.
pub fn check(page: &str) -> Result<()> {
    let mut command = promtool(&["check", "metrics"])?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .context("promtool is missing: ./tests/run.sh unpacks it")?;
    let mut input = child.stdin.take().context("no stdin")?;
    input.write_all(page.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && said.is_empty(), "{said}\n{page}");
    Ok(())
}
