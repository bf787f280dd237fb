//! Signals and permission bits as people write them.

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
