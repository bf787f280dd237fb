//! Where audit records go besides the journal and its copy: a file of its own, TOML, that `audit.sinks_file` names.
//!
//! Invariant (rule A7): sinks are in this file and nowhere else; no request, event or manifest makes one, so nobody who
//! may only ask has a file written or an address called. No secret is in here: keys come by file path.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::leaf::shorten;

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

    /// The files that it names.
    fn files(&self) -> Vec<&str> {
        let optional: Vec<&Option<String>> = match self {
            Self::File { .. } => Vec::new(),
            Self::Syslog {
                ca_file,
                cert_file,
                key_file,
                ..
            } => vec![ca_file, cert_file, key_file],
            Self::Nats {
                credentials_file,
                ca_file,
                ..
            } => vec![credentials_file, ca_file],
            Self::Otlp {
                authorization_file,
                ca_file,
                ..
            } => vec![authorization_file, ca_file],
            Self::Http { ca_file, .. } => vec![ca_file],
        };
        let own = match self {
            Self::File { path, .. } => Some(path.as_str()),
            Self::Http { key_file, .. } => Some(key_file.as_str()),
            Self::Syslog { .. } | Self::Nats { .. } | Self::Otlp { .. } => None,
        };
        let optional = optional.into_iter().flatten().map(String::as_str);
        own.into_iter().chain(optional).collect()
    }

    fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.files().into_iter().filter_map(path_fault).collect();
        faults.extend(name_fault(self.name()));
        match self {
            Self::File { max_bytes, .. } => {
                let is_small = *max_bytes < MIN_SINK_FILE_BYTES;
                faults.extend(is_small.then(|| {
                    format!("`max_bytes` is {max_bytes}; at least {MIN_SINK_FILE_BYTES} are needed")
                }));
            }
            Self::Syslog {
                address,
                cert_file,
                key_file,
                ..
            } => {
                faults.extend(address_fault(address));
                if cert_file.is_some() != key_file.is_some() {
                    let text = "`cert_file` and `key_file` belong together; name both or neither";
                    faults.push(text.to_owned());
                }
            }
            Self::Nats { url, subject, .. } => {
                faults.extend(url_fault(url, ["tls://", "nats://"]));
                faults.extend(subject_fault(subject));
            }
            Self::Otlp { url, .. } | Self::Http { url, .. } => {
                faults.extend(url_fault(url, ["https://", "http://"]));
            }
        }
        faults
    }
}

/// Reads the file of sinks.
///
/// # Errors
/// With every fault of it.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Sink>, Vec<ConfigError>> {
    let fault = |message: String| ConfigError {
        origin: path.display().to_string(),
        message,
    };
    if text.len() > MAX_SINKS_BYTES {
        let message = format!(
            "the file has {} bytes; at most {MAX_SINKS_BYTES} are allowed",
            text.len()
        );
        return Err(vec![fault(message)]);
    }
    let read: Result<SinksFile, _> = toml::from_str(text);
    let sinks = read.map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let message = format!("line {line}: {}", error.message());
        vec![fault(message)]
    })?;
    let faults = faults(&sinks.sink);
    match faults.is_empty() {
        true => Ok(sinks.sink),
        false => Err(faults.into_iter().map(fault).collect()),
    }
}

fn faults(sinks: &[Sink]) -> Vec<String> {
    let mut faults = Vec::new();
    if sinks.len() > MAX_SINKS {
        faults.push(format!(
            "there are {} sinks; at most {MAX_SINKS} are allowed",
            sinks.len()
        ));
    }
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for sink in sinks {
        let name = shorten(sink.name());
        let own = sink.faults().into_iter();
        faults.extend(own.map(|fault| format!("sink `{name}`: {fault}")));
        if !names.insert(sink.name()) {
            faults.push(format!("two sinks are named `{name}`; give each its own"));
        }
        if let Sink::File { path, .. } = sink
            && !paths.insert(path)
        {
            faults.push(format!(
                "sink `{name}`: another sink writes to the same file; name one of its own"
            ));
        }
    }
    faults
}

fn name_fault(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name =
        !name.is_empty() && name.len() <= MAX_SINK_NAME_BYTES && name.chars().all(is_plain);
    (!is_name).then(|| {
        format!("its name has to be 1 to {MAX_SINK_NAME_BYTES} small letters, digits and hyphens")
    })
}

fn path_fault(path: &str) -> Option<String> {
    let is_path = path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains('\0')
        && path.len() <= MAX_SINK_TEXT_BYTES;
    (!is_path).then(|| {
        format!(
            "`{}` is not the absolute path of a file of at most {MAX_SINK_TEXT_BYTES} bytes",
            shorten(path)
        )
    })
}

fn address_fault(address: &str) -> Option<String> {
    let parts = address.rsplit_once(':');
    let is_address = parts.is_some_and(|(host, port)| {
        !host.is_empty()
            && host.chars().all(|c| c.is_ascii_graphic() && c != '/')
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    (!is_address || address.len() > MAX_SINK_TEXT_BYTES).then(|| {
        format!(
            "`{}` is not an address; write HOST:PORT, for example siem.example.org:6514",
            shorten(address)
        )
    })
}

/// Shows no more of it than its scheme: a path may be a credential.
fn url_fault(url: &str, schemes: [&str; 2]) -> Option<String> {
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    let authority = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    let is_url = authority
        .is_some_and(|authority| !authority.is_empty() && !authority.contains('@'))
        && url.chars().all(|c| c.is_ascii_graphic())
        && url.len() <= MAX_SINK_TEXT_BYTES;
    (!is_url).then(|| {
        format!(
            "`url` is no address without a login; write {}HOST:PORT, or {} of this machine",
            schemes[0], schemes[1]
        )
    })
}

fn subject_fault(subject: &str) -> Option<String> {
    let is_token = |token: &str| {
        !token.is_empty()
            && token
                .chars()
                .all(|c| c.is_ascii_graphic() && c != '*' && c != '>')
    };
    let is_subject = subject.len() <= MAX_SINK_TEXT_BYTES && subject.split('.').all(is_token);
    (!is_subject).then(|| {
        format!(
            "`{}` is not a subject; write words with dots between, for example keywheel.audit",
            shorten(subject)
        )
    })
}

#[cfg(test)]
mod tests;
