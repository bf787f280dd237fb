//! Tables of instants, most of them where the wall clock of Berlin jumps in 2026: forward on
//! 29 March at 01:00 UTC, back on 25 October at 01:00 UTC. Other zones, properties, limits and words have
//! files of their own.

mod clock;
mod limits;
mod words;
mod zones;

use super::*;

fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_micros(instant.as_microsecond())
}

fn cron(expression: &str, timezone: &str) -> Schedule {
    Schedule::Cron {
        expression: expression.to_owned(),
        timezone: timezone.to_owned(),
    }
}

fn fires(expression: &str, timezone: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = cron(expression, timezone);
    let mut after = at(from);
    let mut found = Vec::new();
    for _ in 0..count {
        after = next_after(&schedule, after, Timestamp::default()).unwrap();
        found.push(
            jiff::Timestamp::from_microsecond(after.micros())
                .unwrap()
                .to_string(),
        );
    }
    found
}

const BERLIN: &str = "Europe/Berlin";
const SPRING: &str = "2026-03-28T12:00:00Z";
const AUTUMN: &str = "2026-10-24T12:00:00Z";

#[test]
fn a_daily_time_in_the_spring_gap_fires_once_right_after_it() {
    let expected = ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    assert_eq!(fires("30 2 * * *", BERLIN, SPRING, 2), expected);
}

#[test]
fn several_times_in_the_spring_gap_fire_once_together() {
    let expected = ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"];
    assert_eq!(fires("*/15 2 * * *", BERLIN, SPRING, 2), expected);
    let listed = [
        "2026-03-28T13:00:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-29T12:00:00Z",
    ];
    assert_eq!(fires("0 2,14 * * *", BERLIN, SPRING, 3), listed);
}

#[test]
fn a_time_at_the_end_of_the_gap_does_not_fire_twice() {
    let expected = [
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:30:00Z",
        "2026-03-30T01:00:00Z",
    ];
    assert_eq!(
        fires("0,30 2,3 * * *", BERLIN, "2026-03-29T00:59:59Z", 1),
        expected[..1]
    );
    assert_eq!(
        fires("0 2,3 * * *", BERLIN, SPRING, 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
    );
}

#[test]
fn a_daily_time_in_the_repeated_autumn_hour_fires_once() {
    let expected = ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
    assert_eq!(fires("30 2 * * *", BERLIN, AUTUMN, 2), expected);
    let within = ["2026-10-26T01:30:00Z"];
    assert_eq!(
        fires("30 2 * * *", BERLIN, "2026-10-25T01:10:00Z", 1),
        within
    );
}

#[test]
fn quarters_of_one_hour_fire_in_its_first_pass_only() {
    let expected = [
        "2026-10-25T00:00:00Z",
        "2026-10-25T00:15:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T00:45:00Z",
        "2026-10-26T01:00:00Z",
    ];
    assert_eq!(fires("*/15 2 * * *", BERLIN, AUTUMN, 5), expected);
}

/// The longest fold there is: two hours, all seconds of which have fired already.
#[test]
fn a_line_of_seconds_passes_over_the_longest_repeated_span() {
    let line = "* * 1-2 * * *";
    let first = fires(line, "Antarctica/Troll", "2026-10-25T01:00:00Z", 1);
    assert_eq!(first, ["2026-10-26T01:00:00Z"]);
}

#[test]
fn an_hourly_line_fires_in_each_pass_and_in_real_order() {
    let expected = [
        "2026-10-24T23:30:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T02:30:00Z",
    ];
    assert_eq!(
        fires("30 * * * *", BERLIN, "2026-10-24T23:00:00Z", 4),
        expected
    );
}

#[test]
fn an_hourly_line_has_no_extra_fire_at_the_gap() {
    let expected = ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"];
    assert_eq!(
        fires("30 * * * *", BERLIN, "2026-03-29T00:00:00Z", 2),
        expected
    );
}

#[test]
fn the_29th_of_february_waits_for_a_leap_year() {
    let expected = ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"];
    assert_eq!(
        fires("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2),
        expected
    );
}

#[test]
fn the_31st_passes_over_short_months() {
    let expected = [
        "2026-01-31T00:00:00Z",
        "2026-03-31T00:00:00Z",
        "2026-05-31T00:00:00Z",
    ];
    assert_eq!(
        fires("0 0 31 * *", "UTC", "2026-01-01T00:00:00Z", 3),
        expected
    );
}

#[test]
fn six_fields_have_seconds_first() {
    let expected = ["2026-01-01T00:00:10Z", "2026-01-01T00:00:20Z"];
    assert_eq!(
        fires("*/10 * * * * *", "UTC", "2026-01-01T00:00:00.5Z", 2),
        expected
    );
}

#[test]
fn sunday_is_0_and_7_and_the_issue_s_example_is_a_sunday_in_berlin() {
    let expected = ["2026-03-29T01:00:00Z", "2026-04-05T01:00:00Z"];
    assert_eq!(fires("0 3 * * 0", BERLIN, SPRING, 2), expected);
    assert_eq!(fires("0 3 * * 7", BERLIN, SPRING, 2), expected);
}

#[test]
fn an_instant_itself_is_not_after_itself() {
    assert_eq!(
        fires("0 0 * * *", "UTC", "2026-01-01T00:00:00Z", 1),
        ["2026-01-02T00:00:00Z"]
    );
}

#[test]
fn every_fire_lies_after_the_one_before_around_the_jumps_of_many_zones() {
    let zones = [
        "UTC",
        BERLIN,
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
    ];
    let spans = [
        ("2026-03-07T00:00:00Z", "2026-04-06T00:00:00Z"),
        ("2026-10-03T00:00:00Z", "2026-11-03T00:00:00Z"),
    ];
    let lines = [
        "30 2 * * *",
        "*/30 * * * *",
        "0 */5 * * *",
        "15,45 0-3 * * *",
    ];
    for ((zone, (from, to)), line) in zones
        .iter()
        .flat_map(|zone| spans.map(|span| (zone, span)))
        .flat_map(|pair| lines.map(|line| (pair, line)))
    {
        let schedule = cron(line, zone);
        let mut after = at(from);
        while after < at(to) {
            let next = next_after(&schedule, after, Timestamp::default()).unwrap();
            assert!(next > after, "{line} in {zone} after {after}");
            after = next;
        }
    }
}

#[test]
fn an_interval_counts_from_the_last_promotion() {
    let hour = Schedule::Interval(Duration::from_secs(3600));
    let anchor = at("2026-01-01T00:00:00Z");
    for (after, expected) in [
        ("2025-12-31T00:00:00Z", "2026-01-01T01:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
        ("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"),
        ("2026-01-01T05:59:59Z", "2026-01-01T06:00:00Z"),
    ] {
        assert_eq!(
            next_after(&hour, at(after), anchor),
            Some(at(expected)),
            "{after}"
        );
    }
    assert_eq!(next_after(&Schedule::OnDemand, anchor, anchor), None);
    let zero = Schedule::Interval(Duration::ZERO);
    assert_eq!(
        next_after(&zero, anchor, anchor),
        Some(anchor.plus(MIN_INTERVAL))
    );
}

#[test]
fn a_bad_line_is_refused_with_the_field_named() {
    for (line, part) in [
        ("0 25 * * *", "`25` (hour)"),
        ("60 0 * * *", "`60` (minute)"),
        ("99 0 0 * * *", "`99` (second)"),
        ("0 0 32 * *", "(day of month)"),
        ("0 0 * 13 *", "(month)"),
        ("0 0 * * 8", "(day of week)"),
        ("0 0 * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("0 0 0 * * * 2030", "has 7 fields"),
        ("@daily", "has 1 fields"),
        ("0 0 30 2 *", "never fires"),
        ("0 , * * *", "between commas"),
        ("0 0;ls * * *", "character"),
    ] {
        let text = check(line, "UTC").unwrap_err();
        assert!(text.contains(part), "{line}: {text}");
    }
    assert_eq!(check("0 3 * * 0", BERLIN), Ok(()));
    assert_eq!(check("0 9 * JAN-MAR MON-FRI", "UTC"), Ok(()));
    assert_eq!(check("0 0 29 2 *", "UTC"), Ok(()));
}

#[test]
fn a_line_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let minutes = "1,".repeat((cron::MAX_LINE_BYTES - "1 * * * *".len()) / 2);
    let line = format!("{minutes}1 * * * *");
    let padded = format!("{line}{}", " ".repeat(cron::MAX_LINE_BYTES - line.len()));
    assert_eq!(check(&padded, "UTC"), Ok(()));
    let text = check(&format!("{padded} "), "UTC").unwrap_err();
    assert!(text.contains("at most 256"), "{text}");
}

#[test]
fn an_unknown_zone_is_refused_with_the_nearest() {
    for (zone, near) in [
        ("Europe/Berln", "did you mean `Europe/Berlin`?"),
        ("Berlin", "did you mean `Europe/Berlin`?"),
        ("Middle/Earth/Shire", "such as `Europe/Berlin`"),
        ("../../etc/passwd", "there is no time zone"),
        ("", "there is no time zone"),
    ] {
        let text = check("0 0 * * *", zone).unwrap_err();
        assert!(text.contains(near), "{zone}: {text}");
    }
}

#[test]
fn a_slot_id_follows_from_secret_and_instant_alone() {
    let (one, two) = (SecretId::from_bytes([1; 16]), SecretId::from_bytes([2; 16]));
    let (noon, later) = (at("2026-01-01T12:00:00Z"), at("2026-01-02T12:00:00Z"));
    assert_eq!(slot_id(one, noon), slot_id(one, noon));
    assert_ne!(slot_id(one, noon), slot_id(two, noon));
    assert_ne!(slot_id(one, noon), slot_id(one, later));
    assert_ne!(slot_id(one, noon).bytes(), slot_rotation(one, noon).bytes());
}

#[test]
fn jitter_is_the_same_for_a_slot_and_spreads_up_to_its_limit() {
    let most = Duration::from_secs(300);
    let slot = |n: u8| slot_id(SecretId::from_bytes([n; 16]), Timestamp::default());
    let delays: Vec<Duration> = (0..100).map(|n| jitter(slot(n), most)).collect();
    assert_eq!(jitter(slot(7), most), delays[7]);
    assert!(delays.iter().all(|delay| *delay <= most));
    assert!(
        delays.iter().any(|delay| *delay > most / 2)
            && delays.iter().any(|delay| *delay < most / 2)
    );
    assert_eq!(jitter(slot(1), Duration::ZERO), Duration::ZERO);
}

#[test]
fn a_schedule_is_described_for_people() {
    assert_eq!(describe(&Schedule::OnDemand), "on demand");
    assert_eq!(
        describe(&Schedule::Interval(Duration::from_secs(43_200))),
        "every 12 hours"
    );
    assert_eq!(
        describe(&Schedule::Interval(Duration::from_secs(86_400))),
        "every day"
    );
    let text = describe(&cron("0 3 * * 0", BERLIN));
    assert!(text.contains("Sunday") && text.contains(BERLIN), "{text}");
}
