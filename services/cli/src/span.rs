//! Spans of time as people write them on a command line: `90s`, `5m`, `1h`. What is none is not repeated.

use std::time::Duration;

/// Longest span, in seconds: a week.
pub(crate) const MAX_SPAN_SECONDS: u64 = 7 * 24 * 3600;

/// Reads a span.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "give a number and a unit, at most a week: 30s, 5m, 1h".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number.min(MAX_SPAN_SECONDS * 1000))),
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(86_400),
        _ => None,
    };
    seconds
        .filter(|seconds| *seconds <= MAX_SPAN_SECONDS)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

/// Reads a span of whole minutes, hours or days; how long one may be is the server's matter.
pub(crate) fn parse_long(text: &str) -> Result<Duration, String> {
    let wrong = || "give a number and a unit: 90m, 12h, 30d".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(86_400),
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// A span as people read it.
pub(crate) fn words(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_spans_are_whole_minutes_hours_and_days() {
        for (text, seconds) in [("1m", 60), ("12h", 43_200), ("366d", 31_622_400)] {
            assert_eq!(parse_long(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "5", "30s", "d", "1w", "-1d", "99999999999999999999d"] {
            assert!(parse_long(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_read_and_written() {
        for (text, seconds, shown) in [
            ("90s", 90, "90 s"),
            ("5m", 300, "5 min"),
            ("1h", 3600, "1 h"),
            ("7d", 604_800, "168 h"),
        ] {
            let span = parse(text).unwrap();
            assert_eq!((span.as_secs(), words(span).as_str()), (seconds, shown));
        }
        assert_eq!(parse("250ms").unwrap(), Duration::from_millis(250));
        for bad in [
            "",
            "5",
            "m",
            "-1s",
            "1.5h",
            "8d",
            "5 m",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
