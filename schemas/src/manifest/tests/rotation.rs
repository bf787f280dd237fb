//! What holds a schedule back: read whole, refused where it can have no effect, limits at their value.

use keywheel_core::schedule::{Freeze, GroupOffset, RotationPolicy, Window};
use keywheel_core::time::Timestamp;

use super::*;
use crate::manifest::{
    MAX_FREEZES, MAX_GROUP_BYTES, MAX_OFFSET, MAX_REASON_BYTES, MAX_WINDOW, MAX_WINDOWS, MIN_AGE,
    MIN_WINDOW,
};

const DAY: Duration = Duration::from_secs(86_400);
const WHOLE: &str = "schedule: '0 3 * * 0', timezone: Europe/Berlin, maxAge: 30d, lifetime: 90d, holdOff: 2d, windows: [{ schedule: '0 22 * * *', duration: 6h }, { schedule: '0 0 * * 6', timezone: UTC, duration: 2d }], freezes: [{ from: 2026-12-20T00:00:00+01:00, until: 2027-01-04T00:00:00Z, reason: closing }], phase: { group: payments, offset: 12h }";

fn rotation(fields: &str) -> String {
    secret(&format!("{{ generator: {{}}, rotation: {{ {fields} }} }}"))
}

fn policy(fields: &str) -> RotationPolicy {
    match read(&rotation(fields)).unwrap().remove(0) {
        Manifest::Secret { spec, .. } => spec.rotation,
        other => panic!("{other:?}"),
    }
}

fn instant(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_micros(instant.as_microsecond())
}

/// Asserts that a rotation has exactly one fault, which says `part`.
fn refused(fields: &str, part: &str) {
    let found = faults(&rotation(fields));
    assert_eq!(found.len(), 1, "{fields}: {found:#?}");
    assert!(found[0].contains(part), "`{part}` is not in: {}", found[0]);
}

#[test]
fn everything_that_limits_a_schedule_is_read() {
    let window = |expression: &str, timezone: &str, duration| Window {
        expression: expression.to_owned(),
        timezone: timezone.to_owned(),
        duration,
    };
    let expected = RotationPolicy {
        schedule: Schedule::Cron {
            expression: "0 3 * * 0".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
        },
        max_age: Some(30 * DAY),
        lifetime: Some(90 * DAY),
        hold_off: Some(2 * DAY),
        windows: vec![
            window("0 22 * * *", "Europe/Berlin", DAY / 4),
            window("0 0 * * 6", "UTC", 2 * DAY),
        ],
        freezes: vec![Freeze {
            from: instant("2026-12-19T23:00:00Z"),
            until: instant("2027-01-04T00:00:00Z"),
            reason: "closing".to_owned(),
        }],
        phase: Some(GroupOffset {
            group: "payments".to_owned(),
            offset: DAY / 2,
        }),
        ..RotationPolicy::default()
    };
    assert_eq!(policy(WHOLE), expected);
    assert!(is_valid_under_schema(&rotation(WHOLE)));
}

#[test]
fn the_version_before_is_kept_only_where_it_says_so() {
    for (fields, kept) in [
        ("deadline: 1m", false),
        ("previous: revoke", false),
        ("previous: keep", true),
    ] {
        assert_eq!(policy(fields).keep_previous, kept, "{fields}");
        assert!(is_valid_under_schema(&rotation(fields)));
    }
    refused("previous: 2d", "write `revoke` or `keep`");
}

#[test]
fn an_age_or_a_lifetime_is_enough_for_what_is_not_about_slots() {
    for fields in [
        "maxAge: 30d",
        "lifetime: 30d, jitter: 1h, missedRun: skip",
        "maxAge: 30d, windows: [{ schedule: '0 0 * * *', duration: 1h }]",
    ] {
        assert_eq!(policy(fields).schedule, Schedule::OnDemand, "{fields}");
    }
}

#[test]
fn a_part_that_says_nothing_is_refused_with_what_it_needs() {
    let window = "windows: [{ schedule: '0 0 * * *', duration: 1h }]";
    let freeze = "freezes: [{ from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z }]";
    refused(window, "`windows` says nothing without a `schedule`");
    refused(freeze, "`freezes` says nothing without a `schedule`");
    refused("holdOff: 1d", "`holdOff` says nothing without");
    refused("maxAge: 9d, holdOff: 1d", "`holdOff` says nothing without");
    let phase = "phase: { group: a, offset: 1h }";
    refused(phase, "`phase` says nothing without a `schedule`");
    let interval = format!("interval: 1d, {phase}");
    refused(&interval, "write a cron line");
}

#[test]
fn a_part_that_another_one_forestalls_is_refused() {
    let cron = |rest: &str| format!("schedule: '0 3 * * *', {rest}");
    refused("interval: 1d, maxAge: 9d", "do not go together");
    refused("interval: 60d, lifetime: 90d", "shorten `interval`");
    refused(&cron("maxAge: 9d, holdOff: 9d"), "shorten `holdOff`");
    refused(&cron("lifetime: 90d, holdOff: 60d"), "two thirds");
    policy(&cron("lifetime: 90d, holdOff: 59d"));
    refused("maxAge: 60d, lifetime: 90d", "shorten `maxAge`");
    policy("maxAge: 59d, lifetime: 90d");
    policy(&cron("maxAge: 9d, holdOff: 8d"));
    policy("interval: 59d, lifetime: 90d");
}

#[test]
fn a_bad_window_is_refused_with_what_is_right() {
    let window = |text: &str| format!("schedule: '0 3 * * *', windows: [{text}]");
    for (text, part) in [
        ("{ schedule: '0 3', duration: 1h }", "too few fields"),
        (
            "{ schedule: '0 3 * * *', duration: 1h, timezone: Nowhere }",
            "time zone `Nowhere`",
        ),
        ("{ schedule: '0 3 * * *' }", "`duration` is missing"),
        ("{ duration: 1h }", "`schedule` is missing"),
        (
            "{ schedule: '0 3 * * *', lenght: 1h, duration: 1h }",
            "field `lenght` is not known in a window",
        ),
        ("1h", "a window has to be a mapping"),
        ("", "between 1 and 8"),
    ] {
        refused(&window(text), part);
    }
    refused(
        "schedule: '0 3 * * *', windows: daily",
        "`windows` has to be a list",
    );
}

#[test]
fn a_bad_freeze_is_refused_with_what_is_right() {
    let freeze = |text: &str| format!("schedule: '0 3 * * *', freezes: [{{ {text} }}]");
    for (text, part) in [
        (
            "from: 2026-12-20, until: 2027-01-04T00:00:00Z",
            "`from` is not an instant",
        ),
        (
            "from: 2026-12-20T00:00:00, until: 2027-01-04T00:00:00Z",
            "date, time and offset",
        ),
        (
            "from: 2027-01-04T00:00:00Z, until: 2027-01-04T00:00:00Z",
            "`until` has to lie after",
        ),
        ("from: 2027-01-04T00:00:00Z", "`until` is missing"),
    ] {
        refused(&freeze(text), part);
    }
}

#[test]
fn a_bad_group_is_refused_with_what_is_right() {
    let phase = |text: &str| format!("schedule: '0 3 * * *', phase: {{ {text} }}");
    for (text, part) in [
        ("group: Payments, offset: 1h", "lower-case"),
        ("group: '', offset: 1h", "lower-case"),
        ("group: a", "`offset` is missing"),
        ("offset: 1h", "`group` is missing"),
    ] {
        refused(&phase(text), part);
    }
    policy(&phase("group: a, offset: 0s"));
}

#[test]
fn limits_hold_at_their_value() {
    let seconds = |span: Duration| span.as_secs();
    let cron = |rest: String| format!("schedule: '0 3 * * *', {rest}");
    let window = |n: u64| {
        cron(format!(
            "windows: [{{ schedule: '0 0 * * *', duration: {n}s }}]"
        ))
    };
    let age = |n: u64| format!("maxAge: {n}s");
    let lifetime = |n: u64| format!("lifetime: {n}s");
    let offset = |n: u64| cron(format!("phase: {{ group: a, offset: {n}s }}"));
    policy(&window(seconds(MIN_WINDOW)));
    policy(&window(seconds(MAX_WINDOW)));
    policy(&offset(seconds(MAX_OFFSET)));
    let spans: [&dyn Fn(u64) -> String; 2] = [&age, &lifetime];
    for of in spans {
        policy(&of(seconds(MIN_AGE)));
        policy(&of(seconds(MAX_INTERVAL)));
        refused(&of(seconds(MIN_AGE) - 1), "between 60s");
        refused(&of(seconds(MAX_INTERVAL) + 1), "and 3660d");
    }
    refused(&window(seconds(MIN_WINDOW) - 1), "between 60s and 31d");
    refused(&window(seconds(MAX_WINDOW) + 1), "between 60s and 31d");
    refused(&offset(seconds(MAX_OFFSET) + 1), "between 0s and 31d");
}

#[test]
fn counts_and_lengths_hold_at_their_value() {
    let cron = |rest: String| format!("schedule: '0 3 * * *', {rest}");
    let many = |one: &str, n: usize| vec![one; n].join(", ");
    let windows = |n| {
        let one = "{ schedule: '0 0 * * *', duration: 1h }";
        cron(format!("windows: [{}]", many(one, n)))
    };
    let freezes = |n| {
        let one = "{ from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z }";
        cron(format!("freezes: [{}]", many(one, n)))
    };
    let reason = |n: usize| {
        let text = "x".repeat(n);
        cron(format!(
            "freezes: [{{ from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z, reason: {text} }}]"
        ))
    };
    let group = |n: usize| {
        let text = "x".repeat(n);
        cron(format!("phase: {{ group: {text}, offset: 1h }}"))
    };
    policy(&windows(MAX_WINDOWS));
    policy(&freezes(MAX_FREEZES));
    policy(&reason(MAX_REASON_BYTES));
    policy(&group(MAX_GROUP_BYTES));
    refused(&windows(MAX_WINDOWS + 1), "has 9 entries");
    refused(&freezes(MAX_FREEZES + 1), "has 33 entries");
    refused(&reason(MAX_REASON_BYTES + 1), "at most 256 bytes");
    refused(&group(MAX_GROUP_BYTES + 1), "1 to 64");
}
