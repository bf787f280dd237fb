//! Cron lines: five fields, or six with seconds first.
//!
//! croner finds matching times of the wall clock; what they mean where the wall clock jumps is
//! decided here, because croner calls a line fixed only if it names a single hour and minute.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, ToSpan as _};
use keywheel_core::time::Timestamp;

/// Longest line, in bytes.
pub(super) const MAX_LINE_BYTES: usize = 256;
/// Fields of a line, seconds first.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 or SUN-SAT, 0 and 7 are Sunday"),
];
/// Days in forty years.
const DAYS_SEARCHED: usize = 14_610;
/// Stretches between two jumps of a zone's clock that are searched: two centuries of two a year.
const MAX_STRETCHES: usize = 400;
/// Matches that may lie behind the start, in a repeated hour of a line that fires each second.
const MAX_SKIPPED: usize = 7_200;

/// A parsed line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    cron: Cron,
    counts_hours: bool,
}

impl Line {
    /// The line in words.
    pub(super) fn describe(&self) -> String {
        self.cron.describe()
    }
}

/// Parses a line.
pub(super) fn parse(expression: &str) -> Result<Line, String> {
    if expression.len() > MAX_LINE_BYTES {
        return Err(format!(
            "the cron line has {} bytes; at most {MAX_LINE_BYTES} are allowed",
            expression.len()
        ));
    }
    let fields: Vec<&str> = expression.split_whitespace().collect();
    if !matches!(fields.len(), 5 | 6) {
        return Err(format!(
            "the cron line `{expression}` has {} fields; write five (minute, hour, day of month, month, day of week) or six with seconds first",
            fields.len()
        ));
    }
    let first = FIELDS.len() - fields.len();
    for (index, field) in fields.iter().enumerate() {
        check_field(first + index, field)?;
    }
    read_line(expression)
}

/// Parses a line that was checked before; its errors do not name the field.
pub(super) fn read_line(expression: &str) -> Result<Line, String> {
    let cron = read(expression).map_err(|error| {
        format!(
            "the cron line `{expression}` is not understood: {}",
            in_house_form(&error)
        )
    })?;
    if !has_a_day(&cron) {
        return Err(format!(
            "the cron line `{expression}` never fires: no day of the calendar fits its day and month"
        ));
    }
    let hour = expression.split_whitespace().rev().nth(3);
    let counts_hours = hour.is_some_and(|hour| hour.starts_with('*'));
    Ok(Line { cron, counts_hours })
}

/// Whether any day of forty years fits: the longest wait is for a 29 February on a certain weekday.
/// croner itself would search for half a minute.
fn has_a_day(cron: &Cron) -> bool {
    let first = jiff::civil::date(2024, 1, 1);
    first.series(1.day()).take(DAYS_SEARCHED).any(|date| {
        let weekday = match date.weekday() {
            jiff::civil::Weekday::Monday => croner::Weekday::Monday,
            jiff::civil::Weekday::Tuesday => croner::Weekday::Tuesday,
            jiff::civil::Weekday::Wednesday => croner::Weekday::Wednesday,
            jiff::civil::Weekday::Thursday => croner::Weekday::Thursday,
            jiff::civil::Weekday::Friday => croner::Weekday::Friday,
            jiff::civil::Weekday::Saturday => croner::Weekday::Saturday,
            jiff::civil::Weekday::Sunday => croner::Weekday::Sunday,
        };
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        let (year, month, day) = (i32::from(date.year()), u32::from(month), u32::from(day));
        cron.pattern.month_match(month).unwrap_or(false)
            && cron
                .pattern
                .day_match(year, month, day, weekday)
                .unwrap_or(false)
    })
}

fn read(expression: &str) -> Result<Cron, croner::errors::CronError> {
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed);
    parser.build().parse(expression)
}

fn check_field(index: usize, field: &str) -> Result<(), String> {
    let Some((name, range)) = FIELDS.get(index) else {
        return Ok(());
    };
    let odd = |byte: u8| !(byte.is_ascii_alphanumeric() || b"*/,-#+?".contains(&byte));
    let reason = if field.bytes().any(odd) {
        Some("it has a character that no cron line has".to_owned())
    } else if field.split(',').any(str::is_empty) {
        Some("a part between commas is empty".to_owned())
    } else {
        let mut alone = ["*"; FIELDS.len()];
        if let Some(cell) = alone.get_mut(index) {
            *cell = field;
        }
        read(&alone.join(" "))
            .err()
            .map(|error| in_house_form(&error))
    };
    match reason {
        None => Ok(()),
        Some(reason) => Err(format!(
            "the field `{field}` ({name}) of the cron line is not understood: {reason}; allowed is {range}, with `*`, lists `1,2`, ranges `1-5` and steps `*/15`"
        )),
    }
}

/// croner's words without its capital and full stop.
fn in_house_form(error: &croner::errors::CronError) -> String {
    let text = error.to_string();
    let text = text
        .strip_prefix("Component error: ")
        .unwrap_or(&text)
        .trim_end_matches('.');
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|c| c.to_lowercase().to_string())
        .unwrap_or_default();
    first + letters.as_str()
}

/// What the clock of the zone does at a fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// The time that the line names is left out that day; it fires right after the gap.
    Gap {
        /// That time.
        wanted: DateTime,
    },
    /// The time comes twice that day.
    Fold {
        /// Which of the two this is.
        pass: Pass,
    },
}

/// Which of two equal times of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The first, and the line fires in no other.
    Only,
    /// The first of a line that fires in both.
    First,
    /// The second of such a line.
    Second,
}

/// A fire, and what the clock does there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) at: Timestamp,
    pub(super) jump: Option<Jump>,
}

/// The first fire after an instant.
pub(super) fn next(line: &Line, zone: &TimeZone, after: Timestamp) -> Option<Found> {
    let after = jiff::Timestamp::from_second(after.micros().div_euclid(1_000_000)).ok()?;
    let (at, jump) = if line.counts_hours {
        next_counting_hours(&line.cron, zone, after)?
    } else {
        next_by_the_wall(&line.cron, zone, after)?
    };
    Some(Found {
        at: Timestamp::from_micros(at.as_microsecond()),
        jump,
    })
}

/// Every matching instant, in real order; both passes of a repeated hour. Between two jumps of the
/// zone the wall clock runs evenly, so each such stretch is looked at by itself; the line is searched
/// once, and again only where a jump leaves out what was found or goes back to before the search.
fn next_counting_hours(
    cron: &Cron,
    zone: &TimeZone,
    after: jiff::Timestamp,
) -> Option<(jiff::Timestamp, Option<Jump>)> {
    let (mut from, mut is_inclusive) = (after, false);
    // Between the two nothing matches.
    let mut searched: Option<(DateTime, DateTime)> = None;
    for _ in 0..MAX_STRETCHES {
        let offset = zone.to_offset(from);
        let begin = offset.to_datetime(from);
        let known = searched.filter(|(since, found)| *since < begin && begin <= *found);
        let wall = match known {
            Some((_, found)) => found,
            None => cron.find_next_occurrence(&begin, is_inclusive).ok()?,
        };
        searched = Some(known.unwrap_or((begin, wall)));
        let found = offset.to_timestamp(wall).ok()?;
        let end = zone.following(from).next().map(|jump| jump.timestamp());
        match end.filter(|end| *end <= found) {
            None => return Some((found, pass_of(zone, wall, found))),
            Some(end) => (from, is_inclusive) = (end, true),
        }
    }
    None
}

fn pass_of(zone: &TimeZone, wall: DateTime, found: jiff::Timestamp) -> Option<Jump> {
    let ambiguous = zone.to_ambiguous_timestamp(wall);
    if !matches!(ambiguous.offset(), AmbiguousOffset::Fold { .. }) {
        return None;
    }
    let is_first = ambiguous.earlier().is_ok_and(|first| first == found);
    let pass = if is_first { Pass::First } else { Pass::Second };
    Some(Jump::Fold { pass })
}

/// Every matching time of the wall clock once: carried past a gap, in the first pass of a fold.
fn next_by_the_wall(
    cron: &Cron,
    zone: &TimeZone,
    after: jiff::Timestamp,
) -> Option<(jiff::Timestamp, Option<Jump>)> {
    let mut wall: DateTime = zone.to_datetime(after);
    for _ in 0..MAX_SKIPPED {
        wall = cron.find_next_occurrence(&wall, false).ok()?;
        let found = resolve(zone, wall)?;
        if found.0 > after {
            return Some(found);
        }
    }
    None
}

fn resolve(zone: &TimeZone, wall: DateTime) -> Option<(jiff::Timestamp, Option<Jump>)> {
    let ambiguous = zone.to_ambiguous_timestamp(wall);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => Some((ambiguous.earlier().ok()?, None)),
        AmbiguousOffset::Fold { .. } => {
            let jump = Jump::Fold { pass: Pass::Only };
            Some((ambiguous.earlier().ok()?, Some(jump)))
        }
        AmbiguousOffset::Gap { .. } => {
            // Read with the offset from after the gap, the time lies before the jump.
            let before = ambiguous.earlier().ok()?;
            let just_before = before.checked_sub(SignedDuration::from_secs(1)).ok()?;
            let jump = zone.following(just_before).next()?.timestamp();
            Some((jump, Some(Jump::Gap { wanted: wall })))
        }
    }
}
