//! Where spans are told: an OpenTelemetry collector, by OTLP over HTTP.

use super::sources::Sources;
use crate::leaf::shorten;

/// Name of the setting.
const SETTING: &str = "otlp.endpoint";
/// Longest address, in bytes.
pub const MAX_ENDPOINT_BYTES: usize = 512;

/// The collector's base address, if spans are told at all.
pub(super) fn take(sources: &mut Sources) -> Option<String> {
    let text = sources.optional_text(SETTING)?;
    check(&text)
        .inspect_err(|fault| sources.fault(SETTING, format!("`{}` {fault}", shorten(&text))))
        .ok()?;
    Some(text)
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
