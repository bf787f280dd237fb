//! Where audit records go besides the journal and its copy: a file of its own, TOML, that `audit.sinks_file` names.
//!
//! Invariant (rule A7): sinks are in this file and nowhere else; no request, event or manifest makes one, so nobody who
//! may only ask has a file written or an address called. No secret is in here: keys come by file path.

mod faults;
mod receiver;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, tables};

/// Most sinks.
pub const MAX_SINKS: usize = 16;
/// Longest file of sinks, in bytes.
pub const MAX_SINKS_BYTES: usize = 64 << 10;
/// Longest name of a sink, in bytes.
pub const MAX_SINK_NAME_BYTES: usize = 32;
/// Longest address, URL or path of a sink, in bytes.
pub const MAX_SINK_TEXT_BYTES: usize = 512;
/// A file of records is put aside at this size, by default.
pub const DEFAULT_SINK_FILE_BYTES: u64 = 256 << 20;
/// Smallest size at which a file of records may be put aside.
pub const MIN_SINK_FILE_BYTES: u64 = 64 << 10;

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SinkFormat {
    /// The record as it is in the audit tree, with its number and its leaf hash.
    #[default]
    Native,
    /// An event of the Open Cybersecurity Schema Framework, 1.8.0.
    Ocsf,
}

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Sink {
    /// A file to which records are appended, one a line.
    File {
        /// Its name.
        name: String,
        /// The file; its directory exists, and what is put aside lies there, too. Absolute path.
        path: String,
        /// At this size it is put aside, as `PATH.` and the number of its first record.
        #[serde(default = "default_file_bytes")]
        max_bytes: u64,
        /// How many that were put aside are kept; the oldest goes first. 0 keeps all.
        #[serde(default)]
        keep: u32,
        /// How records are written.
        #[serde(default)]
        format: SinkFormat,
    },
    /// A syslog receiver: RFC 5424 over TLS (RFC 5425).
    Syslog {
        /// Its name.
        name: String,
        /// `HOST:PORT`.
        address: String,
        /// Authorities (PEM) that its certificate comes from; the system's by default.
        #[serde(default)]
        ca_file: Option<String>,
        /// Our certificate (PEM), where it wants one.
        #[serde(default)]
        cert_file: Option<String>,
        /// The key of our certificate (PEM); others may not read it.
        #[serde(default)]
        key_file: Option<String>,
        /// How records are written.
        #[serde(default)]
        format: SinkFormat,
    },
    /// A subject of a NATS server, in a stream there.
    Nats {
        /// Its name.
        name: String,
        /// `tls://HOST:PORT`, or `nats://` of this machine.
        url: String,
        /// The subject.
        subject: String,
        /// Credentials as NATS writes them; others may not read them.
        #[serde(default)]
        credentials_file: Option<String>,
        /// Authorities (PEM); the system's by default.
        #[serde(default)]
        ca_file: Option<String>,
        /// How records are written.
        #[serde(default)]
        format: SinkFormat,
    },
    /// An OpenTelemetry collector: log records by OTLP over HTTP.
    Otlp {
        /// Its name.
        name: String,
        /// Where logs are taken, such as `https://HOST:4318/v1/logs`; `http://` of this machine only.
        url: String,
        /// A file with the value of the header `Authorization`; others may not read it.
        #[serde(default)]
        authorization_file: Option<String>,
        /// Authorities (PEM); the system's by default.
        #[serde(default)]
        ca_file: Option<String>,
        /// How the body of a log record is written.
        #[serde(default)]
        format: SinkFormat,
    },
    /// A receiver of requests that are signed as Standard Webhooks has it.
    Http {
        /// Its name.
        name: String,
        /// `https://HOST/PATH`; `http://` of this machine only.
        url: String,
        /// A file with the key that signs, `whsec_…`; others may not read it.
        key_file: String,
        /// Authorities (PEM); the system's by default.
        #[serde(default)]
        ca_file: Option<String>,
        /// How records are written.
        #[serde(default)]
        format: SinkFormat,
    },
}

const fn default_file_bytes() -> u64 {
    DEFAULT_SINK_FILE_BYTES
}

/// The file of sinks, TOML: `[[sink]]` once for each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinksFile {
    /// The sinks.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub sink: Vec<Sink>,
}

impl Sink {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::File { name, .. }
            | Self::Syslog { name, .. }
            | Self::Nats { name, .. }
            | Self::Otlp { name, .. }
            | Self::Http { name, .. } => name,
        }
    }

    /// What sort it is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Syslog { .. } => "syslog",
            Self::Nats { .. } => "nats",
            Self::Otlp { .. } => "otlp",
            Self::Http { .. } => "http",
        }
    }

    /// How it has records written.
    #[must_use]
    pub const fn format(&self) -> SinkFormat {
        match self {
            Self::File { format, .. }
            | Self::Syslog { format, .. }
            | Self::Nats { format, .. }
            | Self::Otlp { format, .. }
            | Self::Http { format, .. } => *format,
        }
    }
}

/// Reads the file of sinks.
///
/// # Errors
/// With every fault of it, each with its line; where it is no TOML with those alone.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Sink>, Vec<ConfigError>> {
    let file: Result<SinksFile, _> = tables::read(path, text, MAX_SINKS_BYTES, faults::of_file);
    file.map(|file| file.sink)
}

#[cfg(test)]
mod tests;
