//! The few Docker API calls that are measured, without a client's own start-up.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Docker's socket.
const SOCKET: &str = "/var/run/docker.sock";
/// The API version every Docker since 20.10 answers.
const VERSION: &str = "v1.41";

/// Sends one POST without a body; how long the answer took.
pub fn post(path: &str) -> Result<Duration> {
    let begun = now();
    let mut stream =
        UnixStream::connect(SOCKET).with_context(|| format!("cannot connect to {SOCKET}"))?;
    write!(
        stream,
        "POST /{VERSION}{path} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let took = begun.elapsed();
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "Docker answered {path}: {answer}");
    Ok(took)
}

/// Starts a created container.
pub fn start(id: &str) -> Result<Duration> {
    post(&format!("/containers/{id}/start"))
}

/// Restarts a running container.
pub fn restart(id: &str) -> Result<Duration> {
    post(&format!("/containers/{id}/restart"))
}

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}
