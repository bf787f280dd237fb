//! The test application in a container.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use keywheel_tests::docker::Container;
use keywheel_tests::stage::{PATIENCE, Stage};
use keywheel_tests::testapp::program;
use keywheel_tests::wait;
use serde_json::Value;

/// Where the program is in a container, and the directory with its socket.
pub(crate) const PROGRAM: &str = "/bin/testapp";
const DIRECTORY: &str = "/run/app";
/// Its socket there.
pub(crate) const SOCKET: &str = "/run/app/http";
/// Connections in each of its pools.
pub(crate) const SIZE: usize = 3;
/// No answer takes as long.
const TIMEOUT: Duration = PATIENCE;

/// One of it in a container.
pub(crate) struct App {
    pub(crate) container: Container,
    socket: PathBuf,
}

impl App {
    /// Starts it under the stage's runtime, on the machine's network, where the servers are.
    pub(crate) fn run(stage: &Stage, name: &str, flags: &[&str], words: &[&str]) -> Result<Self> {
        Self::run_with(stage, name, flags, (&SIZE.to_string(), words))
    }

    /// The same under another load than the usual one, as the program reads it.
    pub(crate) fn run_with(
        stage: &Stage,
        name: &str,
        flags: &[&str],
        (load, words): (&str, &[&str]),
    ) -> Result<Self> {
        let directory = stage.keywheel.scratch().join(name);
        fs::create_dir(&directory)?;
        let program = format!("{}:{PROGRAM}:ro", program()?.display());
        let mounted = format!("{}:{DIRECTORY}", directory.display());
        let own = [
            "--runtime",
            &stage.runtime,
            "--network",
            "host",
            "-v",
            &program,
            "-v",
            &mounted,
        ];
        let flags = [&own[..], flags].concat();
        let words = [&[PROGRAM, "serve", SOCKET, load][..], words].concat();
        Ok(Self {
            container: Container::run_with(&stage.image, &flags, &[], &words)?,
            socket: directory.join("http"),
        })
    }

    /// Where it serves, as this machine sees it.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it counted, for each database in their order.
    pub(crate) fn stats(&self) -> Result<Value> {
        let (status, body) = fetch(&self.socket, "/stats")?;
        let logs = || self.container.logs().unwrap_or_default();
        match status {
            200 => Ok(serde_json::from_str(&body)?),
            _ => bail!("/stats is {status}: {body}\n{}", logs()),
        }
    }

    /// What it counted at one kind of database.
    pub(crate) fn stats_of(&self, kind: &str) -> Result<Value> {
        let stats = self.stats()?;
        let mut pools = stats.as_array().into_iter().flatten();
        let found = pools.find(|pool| pool["kind"] == kind).cloned();
        found.with_context(|| format!("no pool for {kind}: {stats}"))
    }

    /// Waits until all of its connections are signed in with this generation of a login, or a later one.
    pub(crate) fn wait_generation(&self, kind: &str, generation: u64) -> Result<()> {
        let what = format!("every connection to {kind} at generation {generation}");
        wait::until_true(&what, PATIENCE, || {
            let stats = self.stats_of(kind)?;
            Ok(stats["oldest"].as_u64() >= Some(generation))
        })
    }

    /// A file as its process sees it, without a program inside.
    pub(crate) fn file(&self, path: &str) -> Result<String> {
        let from = format!("/proc/{}/root{path}", self.container.pid()?);
        fs::read_to_string(&from).with_context(|| format!("cannot read {from}"))
    }
}

/// One request; its status and body. The status of a part of an answer is 0; no byte of one is an error.
pub(crate) fn fetch(socket: &Path, path: &str) -> Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(!answer.is_empty(), "the connection ended before an answer");
    Ok(parse(&answer).unwrap_or((0, "a part of an answer".to_owned())))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("Content-Length: "))?;
    let is_whole = length.parse() == Ok(body.len());
    is_whole.then(|| (status, body.to_owned()))
}
