//! Spans as people write them: `30s`, `5m`, `12h`, `7d`, `1h30m`.

use std::time::Duration;

use crate::leaf::shorten;

/// Reads a span: numbers with `ms`, `s`, `m`, `h`, `d`, for example `90s` or `1h30m`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!(
            "`{}` is not a span; write for example `30s`, `5m`, `12h`, `7d` or `1h30m`",
            shorten(text)
        )
    };
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        let part = number.checked_mul(milliseconds).map(Duration::from_millis);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(bad)?;
        rest = after;
    }
    if text.is_empty() {
        Err(bad())
    } else {
        Ok(total)
    }
}

/// A bound in the unit people would use.
pub(crate) fn span_words(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds > 0 && seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds => format!("{seconds}s"),
    }
}
