//! Spans, signals and permission bits as people write them.

use std::time::Duration;

use crate::leaf::shorten;

/// Highest signal number.
pub const MAX_SIGNAL: i32 = 64;

/// Names of the signals Linux has on the machines we run on.
const SIGNALS: [(&str, i32); 30] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
];
/// Signals no program can catch, so none can reload on them.
const UNCATCHABLE: [i32; 2] = [9, 19];

/// Reads a signal: `HUP`, `SIGHUP` or a number from 1 to 64.
///
/// # Errors
/// When it is no signal, or one that cannot be caught.
pub fn signal_number(text: &str) -> Result<i32, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let by_name = SIGNALS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number);
    let by_number = || {
        text.parse()
            .ok()
            .filter(|number| (1..=MAX_SIGNAL).contains(number))
    };
    let number = by_name.or_else(by_number).ok_or_else(|| {
        format!("`{}` is not a signal; write a name like HUP or USR1, or a number from 1 to {MAX_SIGNAL}", shorten(text))
    })?;
    if UNCATCHABLE.contains(&number) {
        return Err(format!(
            "signal {} cannot be caught; use one the program reloads on, like HUP",
            shorten(text)
        ));
    }
    Ok(number)
}

/// Reads a span: numbers with `ms`, `s`, `m`, `h`, `d`, for example `90s` or `1h30m`.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
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
pub(super) fn span_words(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds > 0 && seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds => format!("{seconds}s"),
    }
}

/// Reads permission bits: a quoted octal number like `0400`.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = if digits {
        u32::from_str_radix(text, 8).ok()
    } else {
        None
    };
    let bits = bits.ok_or_else(|| {
        format!(
            "`{}` is not a mode; write three or four octal digits in quotes, like \"0400\"",
            shorten(text)
        )
    })?;
    if bits > 0o777 {
        return Err(format!(
            "mode \"{text}\" sets more than permission bits; a secret's file takes at most \"0777\""
        ));
    }
    if bits & 0o400 == 0 {
        return Err(format!(
            "mode \"{text}\" lets not even the owner read the file; write for example \"0400\""
        ));
    }
    Ok(bits)
}
