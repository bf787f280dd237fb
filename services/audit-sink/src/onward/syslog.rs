//! A syslog receiver: RFC 5424 messages over TLS, framed as RFC 5425 has it.
//!
//! Syslog has no word for "I have it", and what lies in a connection that breaks is lost with it. So each batch has a
//! connection of its own that we close first, as RFC 5425 §4.4 asks: the receiver reads all that came before our
//! `close_notify` and only then answers with its own. Invariant: a batch counts as told when that answer came; an end
//! without it tells the batch again. The receiver's certificate is always checked.

mod tls;

use async_trait::async_trait;
use keywheel_core::audit::{Category, Outcome, Record};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::mirror::TextForm as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::line::Line;
use super::{Target, secret};

/// Facility "log audit" (RFC 5424, table 1).
const FACILITY: u8 = 13;
/// Largest `sequenceId` (RFC 5424 §7.3.1).
const MAX_SEQUENCE_ID: u64 = 2_147_483_647;
/// Longest host name in a header, in bytes.
const MAX_HOSTNAME_BYTES: usize = 255;
/// Most that a receiver may say; none says anything.
const MAX_ANSWER_BYTES: u64 = 1024;

/// The sink.
pub(super) struct Syslog {
    pub(super) address: String,
    pub(super) ca_file: Option<String>,
    /// Our certificate and its key.
    pub(super) own: Option<(String, String)>,
    pub(super) machine: String,
}

#[async_trait]
impl Target for Syslog {
    async fn tell(&mut self, lines: &[Line]) -> Result<(), PortError> {
        let authorities = secret::certificates(self.ca_file.as_deref()).await?;
        let own = match &self.own {
            None => None,
            Some((certificates, key)) => {
                let shown = secret::certificates(Some(certificates)).await?;
                Some((shown.unwrap_or_default(), secret::key(key).await?))
            }
        };
        let (connector, name) = tls::connector(&self.address, authorities.as_deref(), own)?;
        let broken = |error: std::io::Error| {
            let text = format!("{} does not take syslog messages", self.address);
            PortError::caused(ErrorKind::Unavailable, text, error)
        };
        let stream = TcpStream::connect(&self.address).await.map_err(broken)?;
        let mut stream = connector.connect(name, stream).await.map_err(broken)?;
        let mut frames = Vec::new();
        for line in lines {
            let message = message(line, &self.machine);
            frames.extend_from_slice(format!("{} ", message.len()).as_bytes());
            frames.extend_from_slice(message.as_bytes());
        }
        stream.write_all(&frames).await.map_err(broken)?;
        stream.shutdown().await.map_err(broken)?;
        let mut said = Vec::new();
        let mut bounded = stream.take(MAX_ANSWER_BYTES);
        // An end without `close_notify` is an error here: whoever is on the way can make one.
        match bounded.read_to_end(&mut said).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(wordless(&self.address, error))
            }
            Err(error) => Err(broken(error)),
        }
    }

    fn reset(&mut self) {}
}

/// The receiver ended the connection and did not say that it had read everything.
fn wordless(address: &str, error: std::io::Error) -> PortError {
    let text = format!(
        "{address} ended without TLS's `close_notify`, so it may not have read every record, and they are told again; it was killed, or its TLS library never says it: with rsyslog set `streamDriver.name=\"ossl\"` (package rsyslog-openssl)"
    );
    PortError::caused(ErrorKind::Unavailable, text, error)
}

/// One message: header, the sequence as structured data, and the record.
fn message(line: &Line, machine: &str) -> String {
    let record = line.record.as_ref();
    let priority = FACILITY * 8 + severity(record);
    let time = record.map_or_else(|| "-".to_owned(), |record| record.time.text());
    let host: String = machine
        .chars()
        .filter(char::is_ascii_graphic)
        .take(MAX_HOSTNAME_BYTES)
        .collect();
    let host = if host.is_empty() { "-" } else { &host };
    // From 1 to its end, and then from 1 again, as the RFC has it.
    let sequence = line.sequence % MAX_SEQUENCE_ID + 1;
    format!(
        "<{priority}>1 {time} {host} keywheel - audit [meta sequenceId=\"{sequence}\"] {}",
        line.text
    )
}

/// Notice for what people did, informational for the rest, warning for what was refused.
fn severity(record: Option<&Record>) -> u8 {
    match record {
        None => 5,
        Some(record) if record.outcome != Outcome::Allowed => 4,
        Some(record) if record.category == Category::Administration => 5,
        Some(_) => 6,
    }
}

#[cfg(test)]
mod tests;
