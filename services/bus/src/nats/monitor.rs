//! Reads a bus server's monitoring port: whether what it acknowledges is on its disk (rule E6).
//!
//! Plain HTTP, and believed nothing that matters: what is read is shown to a person and changes no
//! decision. Invariants: the answer is bounded in bytes and time.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest answer that is read.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How long one look may take.
pub const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// How a bus server keeps messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    /// What it calls itself.
    pub server_name: String,
    /// Whether it writes to its disk before it acknowledges.
    pub sync_always: bool,
}

/// Why it cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// Nobody answers there.
    #[error("the monitoring port cannot be read")]
    Io(#[source] std::io::Error),
    /// Too slow.
    #[error("the monitoring port did not answer within {} s", LOOK_TIMEOUT.as_secs())]
    Late,
    /// Something else answers.
    #[error("what answers there is no bus server with JetStream")]
    Other,
}

/// Reads `http://HOST:PORT`.
///
/// # Errors
/// When it cannot be known.
pub async fn read(address: &str) -> Result<Durability, MonitorError> {
    let authority = address.strip_prefix("http://").ok_or(MonitorError::Other)?;
    let authority = authority.trim_end_matches('/');
    let asked = tokio::time::timeout(LOOK_TIMEOUT, ask(authority)).await;
    let answer = asked
        .map_err(|_| MonitorError::Late)?
        .map_err(MonitorError::Io)?;
    parse(&answer).ok_or(MonitorError::Other)
}

async fn ask(authority: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(authority).await?;
    let request = format!("GET /varz HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let limit = u64::try_from(MAX_ANSWER_BYTES).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut answer).await?;
    Ok(answer)
}

#[derive(Deserialize)]
struct Varz {
    server_name: String,
    jetstream: JetStream,
}

#[derive(Deserialize)]
struct JetStream {
    config: JetStreamConfig,
}

#[derive(Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
}

/// Reads an HTTP answer with the server's figures.
pub(crate) fn parse(answer: &[u8]) -> Option<Durability> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end + 4)?;
    let status = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    if status != b"200" {
        return None;
    }
    let varz: Varz = serde_json::from_slice(body).ok()?;
    Some(Durability {
        server_name: varz.server_name.chars().take(64).collect(),
        sync_always: varz.jetstream.config.sync_always,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    const GOOD: &[u8] = b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"server_name\":\"n\",\"jetstream\":{\"config\":{\"sync_always\":true}}}";

    #[test]
    fn an_answer_is_read_and_another_is_none() {
        let found = parse(GOOD).unwrap();
        assert_eq!((found.server_name.as_str(), found.sync_always), ("n", true));
        assert!(parse(b"HTTP/1.0 404 Not Found\r\n\r\n{}").is_none());
        assert!(parse(b"HTTP/1.0 200 OK\r\n\r\n{\"server_name\":\"n\"}").is_none());
        assert!(parse(b"").is_none());
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes: Vec<u8>, at in any::<prop::sample::Index>(), byte: u8) {
            let _ = parse(&bytes);
            let mut changed = GOOD.to_vec();
            let at = at.index(changed.len());
            changed[at] = byte;
            let _ = parse(&changed);
            changed.truncate(at);
            assert!(parse(&changed).is_none());
        }
    }
}
