//! Times as engines print them (RFC 3339), read into ours.
//!
//! Pure. Tolerant: what is no such time, and the year 1 that engines print for "never", is `None`.

use keywheel_core::time::Timestamp;

/// Reads `2026-11-28T12:00:00.123456789Z`, or the same with an offset like `+01:00`.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let micros = text.parse::<jiff::Timestamp>().ok()?.as_microsecond();
    (micros >= 0).then(|| Timestamp::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_engines_are_read() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-28T23:59:59Z", 951_782_399_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2100-03-01T00:00:00.5Z", 4_107_542_400_500_000),
            ("2025-12-31T23:59:59.123456789Z", 1_767_225_599_123_456),
            ("2026-01-01T00:59:59.1+01:00", 1_767_225_599_100_000),
            ("2025-12-31T18:59:59-05:00", 1_767_225_599_000_000),
        ] {
            assert_eq!(parse(text), Some(Timestamp::from_micros(micros)), "{text}");
        }
        for none in [
            "",
            "0001-01-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.xZ",
            "2026-01-01T24:00:00Z",
            "-026-01-01T00:00:00Z",
            "2026-01-01T00:00:00+1",
        ] {
            assert_eq!(parse(none), None, "{none}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        keywheel_testkit::hostile(b"2026-01-01T00:59:59.1+01:00", |bytes| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = parse(text);
            }
        });
    }
}
