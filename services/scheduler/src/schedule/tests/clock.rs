//! Properties near the jumps of many zones, against a clock that is read minute by minute.
//!
//! The oracle knows no gap and no fold: a daily time is reached at the first instant at which the wall
//! clock shows it or more; an hourly one whenever the wall clock shows its minute.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};
use proptest::prelude::*;

use super::*;

static ZONES: [&str; 14] = [
    BERLIN,
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Asia/Almaty",
    "Pacific/Apia",
    "Pacific/Chatham",
    "America/Sao_Paulo",
    "America/Caracas",
    "Africa/Casablanca",
    "Europe/Dublin",
    "Europe/Istanbul",
    "Antarctica/Troll",
    "Asia/Pyongyang",
];
/// 1990-01-01 and 2037-01-01, in seconds.
const YEARS: std::ops::Range<i64> = 631_152_000..2_114_380_800;
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// No zone is further ahead of UTC.
const AHEAD: SignedDuration = SignedDuration::from_hours(15);

/// A zone and a whole minute, mostly within two days of a jump of its clock.
fn near_a_jump() -> impl Strategy<Value = (&'static str, jiff::Timestamp)> {
    (proptest::sample::select(&ZONES[..]), YEARS, -2880_i64..600).prop_map(
        |(name, second, minutes)| {
            let zone = TimeZone::get(name).unwrap();
            let somewhere = jiff::Timestamp::from_second(second).unwrap();
            let jump = zone.following(somewhere).next();
            let near = jump.map_or(somewhere, |jump| jump.timestamp());
            let second = near.as_second() + minutes * 60;
            let minute = second - second.rem_euclid(60);
            (name, jiff::Timestamp::from_second(minute).unwrap())
        },
    )
}

fn first_instant(zone: &TimeZone, date: Date, hour: i8, minute: i8) -> jiff::Timestamp {
    let wanted = date.at(hour, minute, 0, 0);
    let mut at = wanted.to_zoned(TimeZone::UTC).unwrap().timestamp();
    at = at.checked_sub(AHEAD).unwrap();
    while zone.to_datetime(at) < wanted {
        at = at.checked_add(MINUTE).unwrap();
    }
    at
}

fn found(line: &str, zone: &str, from: jiff::Timestamp, count: usize) -> Vec<jiff::Timestamp> {
    let from = from.to_string();
    let fires = fires(line, zone, &from, count);
    fires.iter().map(|text| text.parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_daily_line_fires_when_the_clock_first_shows_its_time(
        (name, from) in near_a_jump(), hour in 0_i8..24, minute in 0_i8..60,
    ) {
        let zone = TimeZone::get(name).unwrap();
        let first = zone.to_datetime(from).date().yesterday().unwrap();
        let mut expected: Vec<_> = first
            .series(1.day())
            .take(7)
            .map(|date| first_instant(&zone, date, hour, minute))
            .filter(|at| *at > from)
            .collect();
        expected.sort();
        expected.dedup();
        expected.truncate(3);
        let line = format!("{minute} {hour} * * *");
        prop_assert_eq!(found(&line, name, from, 3), expected, "{} in {}", line, name);
    }

    #[test]
    fn an_hourly_line_fires_whenever_the_clock_shows_its_minute(
        (name, from) in near_a_jump(), minute in 0_i8..60,
    ) {
        let zone = TimeZone::get(name).unwrap();
        let mut expected = Vec::new();
        let mut at = from;
        while expected.len() < 4 {
            at = at.checked_add(MINUTE).unwrap();
            if zone.to_datetime(at).minute() == minute {
                expected.push(at);
            }
        }
        let line = format!("{minute} * * * *");
        prop_assert_eq!(found(&line, name, from, 4), expected, "{} in {}", line, name);
    }
}
