//! An OpenTelemetry collector: each record is a log record, by OTLP over HTTP.
//!
//! Invariants: a batch counts as told when the collector took all of it; one of which it says that it left some out
//! did not go well. The messages are `opentelemetry/proto/collector/logs/v1` and what it is made of, version 1, as
//! far as they are set; their numbers are the protocol's.

use async_trait::async_trait;
use hyper::body::Bytes;
use keywheel_core::audit::{Outcome, Record};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::{ErrorKind, PortError};
use prost::Message as _;

use super::http::Way;
use super::line::Line;
use super::{Target, secret};

/// The sink.
pub(super) struct Collector {
    pub(super) way: Way,
    pub(super) authorization_file: Option<String>,
    pub(super) machine: String,
}

#[async_trait]
impl Target for Collector {
    async fn tell(&mut self, lines: &[Line]) -> Result<(), PortError> {
        let mut headers = vec![("content-type", "application/x-protobuf".to_owned())];
        if let Some(path) = &self.authorization_file {
            let value = secret::key(path).await?;
            // EXPOSE: the collector knows us by it.
            let value = std::str::from_utf8(value.expose()).map(str::trim);
            let value = value.map_err(|_| {
                let text = format!("the file {path} holds no text; put the header's value there");
                PortError::new(ErrorKind::Denied, text)
            })?;
            headers.push(("authorization", value.to_owned()));
        }
        let body = export(lines, &self.machine).encode_to_vec();
        let answer = self.way.post(&headers, Bytes::from(body)).await?;
        let taken = Taken::decode(answer.body.as_slice()).map_err(|error| {
            let text = "what answers is no collector of logs; correct the URL";
            PortError::caused(ErrorKind::Unavailable, text, error)
        })?;
        match taken.partial.map_or(0, |partial| partial.rejected) {
            0 => Ok(()),
            rejected => {
                let text = format!("the collector left out {rejected} records; see its log");
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
        }
    }

    fn reset(&mut self) {
        self.way.forget();
    }
}

/// `ExportLogsServiceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

/// `ResourceLogs`.
#[derive(Clone, PartialEq, prost::Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

/// `Resource`.
#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

/// `ScopeLogs`.
#[derive(Clone, PartialEq, prost::Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

/// `LogRecord`.
#[derive(Clone, PartialEq, prost::Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    severity_number: i32,
    #[prost(string, tag = "3")]
    severity_text: String,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(bytes = "vec", tag = "9")]
    trace_id: Vec<u8>,
    #[prost(string, tag = "12")]
    event_name: String,
}

/// `KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

/// `AnyValue`.
#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 3")]
    value: Option<Any>,
}

/// What an `AnyValue` is.
#[derive(Clone, PartialEq, prost::Oneof)]
enum Any {
    /// A text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A number.
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// `ExportLogsServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Taken {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

/// `ExportLogsPartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// `SEVERITY_NUMBER_INFO`.
const INFO: (i32, &str) = (9, "INFO");
/// `SEVERITY_NUMBER_WARN`.
const WARN: (i32, &str) = (13, "WARN");

fn export(lines: &[Line], machine: &str) -> Export {
    let said = [
        ("service.name", "keywheel-audit-sink"),
        ("service.namespace", "keywheel"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("host.name", machine),
    ];
    let attributes = said.map(|(key, value)| text(key, value)).to_vec();
    let scope = Scope {
        name: "keywheel.audit".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let scope_logs = ScopeLogs {
        scope: Some(scope),
        log_records: lines.iter().map(log_record).collect(),
    };
    Export {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes }),
            scope_logs: vec![scope_logs],
        }],
    }
}

fn log_record(line: &Line) -> LogRecord {
    let record = line.record.as_ref();
    let is_well = record.is_none_or(|record| record.outcome == Outcome::Allowed);
    let (number, word) = if is_well { INFO } else { WARN };
    let sequence = i64::try_from(line.sequence).unwrap_or(i64::MAX);
    let mut attributes = vec![
        KeyValue {
            key: "keywheel.audit.sequence".to_owned(),
            value: Some(AnyValue {
                value: Some(Any::Number(sequence)),
            }),
        },
        text("keywheel.audit.leaf", &line.leaf),
    ];
    if let Some(record) = record {
        attributes.push(text("keywheel.audit.verb", &record.verb));
        attributes.push(text("keywheel.audit.object", &record.object));
    }
    LogRecord {
        time_unix_nano: record.map_or(0, |record| nanos(record.time)),
        severity_number: number,
        severity_text: word.to_owned(),
        body: Some(AnyValue {
            value: Some(Any::Text(line.text.clone())),
        }),
        attributes,
        trace_id: record.map(trace).unwrap_or_default(),
        event_name: "keywheel.audit.record".to_owned(),
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::Text(value.to_owned())),
        }),
    }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.micros()).map_or(0, |micros| micros.saturating_mul(1000))
}

/// Its 16 bytes; none when there is no trace.
fn trace(record: &Record) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (pairs, _) = record.trace.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| {
        let byte = digit(high)? << 4 | digit(low)?;
        u8::try_from(byte).ok()
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes.filter(|bytes| bytes.len() == 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keywheel_daemon::SystemClock;
    use keywheel_seal::OsEntropy;

    use super::super::http::tests::Server;
    use super::super::line::tests::lines;
    use super::*;

    #[test]
    fn a_record_is_a_log_record_with_its_time_and_its_trace() {
        let export = export(&lines(4, 2), "m");
        let read = Export::decode(export.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read, export);
        let records = &read.resource_logs[0].scope_logs[0].log_records;
        assert_eq!(records.len(), 2);
        let first = &records[0];
        assert_eq!(first.time_unix_nano, 1_795_946_400_000_001_000);
        assert_eq!(first.trace_id.len(), 16);
        assert_eq!(first.severity_text, "INFO");
        let sequence = first.attributes[0].value.clone().unwrap().value;
        assert_eq!(sequence, Some(Any::Number(4)));
    }

    #[tokio::test]
    async fn a_collector_has_taken_a_batch_when_it_says_that_it_left_nothing_out() {
        let server = Server::start().await;
        let directory = tempfile::tempdir().unwrap();
        let authorization = server.closed_file(&directory, "Bearer s3cr3t\n");
        let way = Way::new(Arc::new(SystemClock::new()), Arc::new(OsEntropy));
        let mut sink = Collector {
            way: way.to(server.url("/v1/logs"), None),
            authorization_file: Some(authorization),
            machine: "m".to_owned(),
        };
        server.answers(200, Vec::new());
        sink.tell(&lines(0, 3)).await.unwrap();
        let heard = server.heard();
        assert!(
            heard.head.starts_with("post /v1/logs http/1.1"),
            "{}",
            heard.head
        );
        assert!(heard.head.contains("authorization: bearer s3cr3t"));
        let read = Export::decode(heard.body.as_slice()).unwrap();
        assert_eq!(read.resource_logs[0].scope_logs[0].log_records.len(), 3);
        let partial = Taken {
            partial: Some(Partial {
                rejected: 1,
                message: "no room".to_owned(),
            }),
        };
        server.answers(200, partial.encode_to_vec());
        let refused = sink.tell(&lines(0, 3)).await.unwrap_err();
        assert!(refused.text.contains("left out 1"), "{refused}");
        server.answers(503, Vec::new());
        assert!(sink.tell(&lines(0, 3)).await.is_err());
        server.answers(200, b"<html>".to_vec());
        let refused = sink.tell(&lines(0, 3)).await.unwrap_err();
        assert!(refused.text.contains("no collector"), "{refused}");
    }
}
