//! Where spans are told: an OpenTelemetry collector, by OTLP over HTTP.
//!
//! Headers may hold a credential, so the configuration says only where they are read: a file, or
//! OpenTelemetry's own variable.

use std::path::PathBuf;

use super::sources::Sources;
use crate::leaf::shorten;

/// Names of the settings.
const ENDPOINT: &str = "otlp.endpoint";
const HEADERS: &str = "otlp.headers_file";
const COMPRESSION: &str = "otlp.compression";
/// OpenTelemetry's own variable for headers.
pub const HEADERS_VARIABLE: &str = "OTEL_EXPORTER_OTLP_HEADERS";
/// Longest address, in bytes.
pub const MAX_ENDPOINT_BYTES: usize = 512;

/// Where the headers of each request to the collector are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OtlpHeaders {
    /// There are none.
    #[default]
    None,
    /// A file, which others may not read.
    File(PathBuf),
    /// [`HEADERS_VARIABLE`].
    Environment,
}

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Its base address.
    pub endpoint: String,
    /// What it is sent besides spans.
    pub headers: OtlpHeaders,
    /// Whether spans are compressed with gzip on their way.
    pub gzip: bool,
}

/// The collector, if spans are told at all.
pub(super) fn take(sources: &mut Sources) -> Option<Otlp> {
    let file = sources.optional_path(HEADERS);
    let gzip = gzip(sources);
    let Some(endpoint) = sources.optional_text(ENDPOINT) else {
        if file.is_some() {
            let message = format!("`{HEADERS}` is of no use without `{ENDPOINT}`");
            sources.fault(HEADERS, message);
        }
        return None;
    };
    check(&endpoint)
        .inspect_err(|fault| {
            sources.fault(ENDPOINT, format!("`{}` {fault}", shown(&endpoint)));
        })
        .ok()?;
    let headers = match file {
        Some(file) => OtlpHeaders::File(file),
        None if sources.has_otlp_headers => OtlpHeaders::Environment,
        None => OtlpHeaders::None,
    };
    Some(Otlp {
        endpoint,
        headers,
        gzip,
    })
}

/// One with a login is not repeated.
fn shown(endpoint: &str) -> String {
    match endpoint.contains('@') {
        true => ENDPOINT.to_owned(),
        false => shorten(endpoint),
    }
}

fn gzip(sources: &mut Sources) -> bool {
    match sources.optional_text(COMPRESSION).as_deref() {
        None | Some("none") => false,
        Some("gzip") => true,
        Some(other) => {
            let message = format!("`{}` is not `gzip` or `none`", shorten(other));
            sources.fault(COMPRESSION, message);
            false
        }
    }
}

fn check(text: &str) -> Result<(), String> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let authority = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_graphic() && !"?#\"<>\\^`{|}".contains(c));
    match authority {
        _ if text.len() > MAX_ENDPOINT_BYTES => Err(format!(
            "has {} bytes; at most {MAX_ENDPOINT_BYTES} are allowed",
            text.len()
        )),
        Some(authority) if authority.contains('@') => {
            Err("names a user; the collector is told nothing but spans".to_owned())
        }
        Some(authority) if !authority.is_empty() && is_plain => Ok(()),
        _ => Err("is not the address of a collector; write http://127.0.0.1:4318".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigFlags};

    fn load(file: &str, env: &[(&str, &str)]) -> Result<Option<Otlp>, String> {
        let env = |name: &str| {
            let mut env = env.iter();
            env.find(|(known, _)| *known == name)
                .map(|(_, text)| (*text).to_owned())
        };
        let flags = ConfigFlags {
            machine_name: Some("one".to_owned()),
            ..ConfigFlags::default()
        };
        let loaded = Config::load(Some(("file", file)), &env, flags);
        loaded.map(|config| config.otlp).map_err(|faults| {
            let faults = faults.iter().map(ToString::to_string);
            faults.collect::<Vec<_>>().join("; ")
        })
    }

    #[test]
    fn headers_and_compression_come_by_our_names_or_by_open_telemetrys() {
        let at = "http://127.0.0.1:4318";
        let standard = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", at),
            (HEADERS_VARIABLE, "authorization=secret-6f01"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ];
        let otlp = load("", &standard).unwrap().unwrap();
        assert_eq!((otlp.endpoint.as_str(), otlp.gzip), (at, true));
        assert_eq!(otlp.headers, OtlpHeaders::Environment);
        assert!(!format!("{otlp:?}").contains("6f01"), "its text is nowhere");
        let file =
            "[otlp]\nendpoint = \"https://c\"\nheaders_file = \"/h\"\ncompression = \"none\"";
        let otlp = load(file, &standard).unwrap().unwrap();
        assert_eq!(otlp.headers, OtlpHeaders::File("/h".into()), "ours wins");
        assert_eq!(otlp.endpoint, at, "a variable wins over the file");
        assert_eq!(load("", &standard[1..]), Ok(None), "nobody is told");
        let plain = load("", &standard[..1]).unwrap().unwrap();
        assert_eq!((plain.headers, plain.gzip), (OtlpHeaders::None, false));
        for (file, told) in [
            (
                "[otlp]\nheaders_file = \"/h\"",
                "of no use without `otlp.endpoint`",
            ),
            (
                "[otlp]\nendpoint = \"https://ada:secret-6f01@c\"",
                "`otlp.endpoint` names a user",
            ),
            (
                "[otlp]\ncompression = \"zstd\"",
                "`zstd` is not `gzip` or `none`",
            ),
        ] {
            let fault = load(file, &[]).unwrap_err();
            assert!(fault.contains(told) && !fault.contains("6f01"), "{fault}");
        }
    }

    #[test]
    fn a_collector_is_named_by_its_base_address() {
        for good in [
            "http://127.0.0.1:4318",
            "https://collector.example",
            "http://[::1]:4318/base/",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, told) in [
            ("127.0.0.1:4318", "http://127.0.0.1:4318"),
            ("grpc://127.0.0.1:4317", "http://127.0.0.1:4318"),
            ("http://", "http://127.0.0.1:4318"),
            ("http:///v1/traces", "http://127.0.0.1:4318"),
            ("http://a b", "http://127.0.0.1:4318"),
            ("http://a?b=c", "http://127.0.0.1:4318"),
            ("https://ada:secret@collector", "names a user"),
        ] {
            assert!(check(bad).is_err_and(|fault| fault.contains(told)), "{bad}");
        }
    }

    #[test]
    fn an_address_is_as_long_as_its_limit_and_not_longer() {
        let of = |bytes: usize| format!("http://{}", "a".repeat(bytes - 7));
        assert_eq!(check(&of(MAX_ENDPOINT_BYTES)), Ok(()));
        assert!(check(&of(MAX_ENDPOINT_BYTES + 1)).is_err());
    }
}
