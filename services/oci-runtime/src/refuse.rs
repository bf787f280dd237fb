//! Refusals: what, why and the next step, on stderr and in the engine's runtime log, from which users see it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::args::Invocation;

/// Why a container is not created. Never holds a secret value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    what: String,
    next: String,
}

impl Refusal {
    /// A refusal: what is wrong and why, and what to do about it.
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            next: next.into(),
        }
    }

    /// The same, and one thing more that is wrong.
    pub(crate) fn with(mut self, more: &str) -> Self {
        self.what = format!("{}; and {more}", self.what);
        self
    }

    /// One line for people.
    pub(crate) fn text(&self) -> String {
        format!("keywheel: {}; next: {}", self.what, self.next)
    }
}

/// Tells it.
pub(crate) fn report(invocation: &Invocation, refusal: &Refusal) {
    let _ = writeln!(std::io::stderr(), "{}", refusal.text());
    log(invocation, refusal);
}

/// Tells the engine's log alone. That it cannot be written changes nothing about the refusal.
#[expect(
    clippy::disallowed_methods,
    reason = "the time of a log line; this program has no clock port"
)]
pub(crate) fn log(invocation: &Invocation, refusal: &Refusal) {
    let text = refusal.text();
    let Some(path) = &invocation.log else { return };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    let line = log_line(&text, now, invocation.log_json);
    if let Ok(mut log) = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
    {
        let _ = log.write_all(line.as_bytes());
    }
}

fn log_line(text: &str, now: u64, as_json: bool) -> String {
    let time = rfc3339(now);
    if as_json {
        format!(
            "{}\n",
            json!({ "level": "error", "msg": text, "time": time })
        )
    } else {
        format!("time=\"{time}\" level=error msg={}\n", json!(text))
    }
}

/// UTC, by the proleptic Gregorian calendar in years that begin in March.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_across_leap_days() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn a_log_line_is_one_json_object_that_the_engine_reads() {
        let line = log_line("keywheel: a \"b\"\nc; next: d", 0, true);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "keywheel: a \"b\"\nc; next: d");
        assert_eq!(line.lines().count(), 1);
        let text = log_line("a \"b\"", 0, false);
        assert_eq!(
            text,
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"a \\\"b\\\"\"\n"
        );
    }

    #[test]
    fn a_refusal_has_its_next_step() {
        assert_eq!(Refusal::new("x", "y").text(), "keywheel: x; next: y");
    }
}
