//! Times as engines print them (RFC 3339), read into ours.
//!
//! Pure. Tolerant: what is no such time, and the year 1 that engines print for "never", is `None`.

use keywheel_core::time::Timestamp;

/// Reads `2026-11-28T12:00:00.123456789Z`, or the same with an offset like `+01:00`.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (
        number(date.next())?,
        number(date.next())?,
        number(date.next())?,
    );
    let zone_at = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut whole = whole.splitn(3, ':');
    let (hour, minute) = (number(whole.next())?, number(whole.next())?);
    let second = number(whole.next())?;
    let is_sound = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_sound {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let micros = (seconds - offset(zone)?) * 1_000_000 + micros(fraction)?;
    Some(Timestamp::from_micros(micros))
}

/// Digits, and not so many that anything can overflow.
fn number(text: Option<&str>) -> Option<i64> {
    let text = text.filter(|text| text.len() <= 4)?;
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let seconds = number(Some(hours))? * 3600 + number(Some(minutes))? * 60;
    Some(if sign == "-" { -seconds } else { seconds })
}

fn micros(fraction: &str) -> Option<i64> {
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse().ok()).flatten()
}

/// Days since 1970, by the proleptic Gregorian calendar in years that begin in March.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
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
