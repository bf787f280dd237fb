//! What a policy says beyond its schedule: age, lifetime, hold-off, offset, windows, freezes.

use keywheel_core::schedule::{Freeze, GroupOffset, RotationPolicy, Window};
use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// A Thursday.
const NEW_YEAR: &str = "2026-01-01T00:00:00Z";

pub(super) fn daily(line: &str) -> RotationPolicy {
    RotationPolicy {
        schedule: cron(line, "UTC"),
        ..RotationPolicy::default()
    }
}

pub(super) fn window(line: &str, timezone: &str, duration: Duration) -> Window {
    Window {
        expression: line.to_owned(),
        timezone: timezone.to_owned(),
        duration,
    }
}

pub(super) fn freeze(from: &str, until: &str) -> Freeze {
    Freeze {
        from: at(from),
        until: at(until),
        reason: "closing".to_owned(),
    }
}

fn fire(policy: &RotationPolicy, after: &str, promoted: &str) -> Fire {
    next_fire(policy, at(after), at(promoted)).unwrap()
}

fn fires_at(policy: &RotationPolicy, after: &str, promoted: &str) -> String {
    instant(fire(policy, after, promoted).at)
}

/// The next fires, each of which is served at once and promotes a version.
fn served(policy: &RotationPolicy, from: &str, count: usize) -> Vec<String> {
    let mut now = at(from);
    let next = std::iter::from_fn(|| {
        now = next_fire(policy, now, now)?.at;
        Some(instant(now))
    });
    next.take(count).collect()
}

#[test]
fn the_largest_age_fires_alone_or_before_the_slot() {
    let aged = RotationPolicy {
        max_age: Some(2 * DAY),
        ..RotationPolicy::default()
    };
    assert_eq!(
        served(&aged, NEW_YEAR, 2),
        ["2026-01-03T00:00:00Z", "2026-01-05T00:00:00Z"]
    );
    let weekly = RotationPolicy {
        max_age: Some(2 * DAY),
        ..daily("0 12 * * 0")
    };
    let first = fire(&weekly, NEW_YEAR, NEW_YEAR);
    assert_eq!(first.cause, Cause::MaxAge);
    let expected = [
        "2026-01-03T00:00:00Z",
        "2026-01-04T12:00:00Z",
        "2026-01-06T12:00:00Z",
    ];
    assert_eq!(served(&weekly, NEW_YEAR, 3), expected);
}

#[test]
fn an_age_that_a_rotation_did_not_end_is_wanted_again_every_ten_minutes() {
    let aged = RotationPolicy {
        max_age: Some(DAY),
        ..RotationPolicy::default()
    };
    for (after, expected) in [
        ("2026-01-01T23:59:59Z", "2026-01-02T00:00:00Z"),
        ("2026-01-02T00:00:00Z", "2026-01-02T00:10:00Z"),
        ("2026-01-02T00:25:00Z", "2026-01-02T00:30:00Z"),
        ("2026-03-01T00:00:00Z", "2026-03-01T00:10:00Z"),
    ] {
        assert_eq!(fires_at(&aged, after, NEW_YEAR), expected, "{after}");
    }
}

#[test]
fn two_thirds_of_a_lifetime_fire_and_wait_only_as_long_as_the_version_lives() {
    let day = |n: u64| instant(at(NEW_YEAR).plus(DAY * u32::try_from(n).unwrap()));
    let policy = |freezes| RotationPolicy {
        lifetime: Some(90 * DAY),
        freezes,
        ..RotationPolicy::default()
    };
    let frozen = |until: u64| policy(vec![freeze(&day(50), &day(until))]);
    let free = fire(&policy(Vec::new()), NEW_YEAR, NEW_YEAR);
    assert_eq!((instant(free.at), free.cause), (day(60), Cause::Lifetime));
    assert_eq!(fires_at(&frozen(80), NEW_YEAR, NEW_YEAR), day(80));
    assert_eq!(fires_at(&frozen(89), NEW_YEAR, NEW_YEAR), day(89));
    let forced = fire(&frozen(90), NEW_YEAR, NEW_YEAR);
    assert_eq!(instant(forced.at), day(60));
    assert_eq!(forced.until.map(instant), Some(day(90)));
}

#[test]
fn slots_within_the_hold_off_are_passed_over_and_the_one_at_its_end_counts() {
    let policy = RotationPolicy {
        hold_off: Some(DAY),
        ..daily("0 3 * * *")
    };
    for (promoted, expected) in [
        ("2026-01-01T01:00:00Z", "2026-01-02T03:00:00Z"),
        ("2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"),
        ("2026-01-01T03:00:00.000001Z", "2026-01-03T03:00:00Z"),
        ("2026-01-01T03:00:01Z", "2026-01-03T03:00:00Z"),
        ("2025-12-01T00:00:00Z", "2026-01-01T03:00:00Z"),
    ] {
        assert_eq!(
            fires_at(&policy, NEW_YEAR, promoted),
            expected,
            "{promoted}"
        );
    }
}

#[test]
fn an_offset_in_a_group_shifts_every_slot() {
    let policy = RotationPolicy {
        phase: Some(GroupOffset {
            group: "pair".to_owned(),
            offset: 36 * HOUR,
        }),
        ..daily("0 3 * * SUN")
    };
    assert_eq!(
        served(&policy, NEW_YEAR, 2),
        ["2026-01-05T15:00:00Z", "2026-01-12T15:00:00Z"]
    );
    // The line fired before the start, and the shifted slot is still to come.
    let between = "2026-01-04T12:00:00Z";
    assert_eq!(fires_at(&policy, between, between), "2026-01-05T15:00:00Z");
}

#[test]
fn a_slot_outside_of_the_windows_waits_for_the_next_to_open() {
    let policy = RotationPolicy {
        windows: vec![window("0 22 * * *", "UTC", 6 * HOUR)],
        ..daily("0 12 * * *")
    };
    let first = fire(&policy, NEW_YEAR, NEW_YEAR);
    assert_eq!(instant(first.wanted), "2026-01-01T12:00:00Z");
    assert_eq!(instant(first.at), "2026-01-01T22:00:00Z");
    assert_eq!(
        first.until.map(instant).as_deref(),
        Some("2026-01-02T04:00:00Z")
    );
    let at_hour = |line: &str| {
        let policy = RotationPolicy {
            windows: policy.windows.clone(),
            ..daily(line)
        };
        fires_at(&policy, NEW_YEAR, NEW_YEAR)
    };
    for (line, expected) in [
        ("0 22 * * *", "2026-01-01T22:00:00Z"),
        ("0 2 * * *", "2026-01-01T02:00:00Z"),
        ("59 59 3 * * *", "2026-01-01T03:59:59Z"),
        ("0 4 * * *", "2026-01-01T22:00:00Z"),
    ] {
        assert_eq!(at_hour(line), expected, "{line}");
    }
}

#[test]
fn the_first_of_several_windows_counts_and_they_may_overlap() {
    let policy = RotationPolicy {
        windows: vec![
            window("0 22 * * MON-FRI", "UTC", 2 * HOUR),
            window("0 0 * * SAT", "UTC", 2 * DAY),
            window("0 * * * SAT", "UTC", 2 * HOUR),
        ],
        ..daily("0 12 * * *")
    };
    let expected = [
        "2026-01-01T22:00:00Z",
        "2026-01-02T22:00:00Z",
        "2026-01-03T12:00:00Z",
        "2026-01-04T12:00:00Z",
        "2026-01-05T22:00:00Z",
    ];
    assert_eq!(served(&policy, NEW_YEAR, 5), expected);
}

/// On 29 March the window of four hours from 01:00 closes at 06:00 by the clock.
#[test]
fn a_window_lasts_real_hours_over_a_jump() {
    let policy = RotationPolicy {
        schedule: cron("30 5 * * *", BERLIN),
        windows: vec![window("0 1 * * *", BERLIN, 4 * HOUR)],
        ..RotationPolicy::default()
    };
    assert_eq!(
        fires_at(&policy, SPRING, SPRING),
        "2026-03-29T03:30:00Z",
        "open"
    );
    let day_after = "2026-03-29T12:00:00Z";
    assert_eq!(
        fires_at(&policy, day_after, day_after),
        "2026-03-30T23:00:00Z",
        "closed"
    );
}

#[test]
fn a_freeze_moves_a_slot_to_its_end_and_from_there_into_a_window() {
    let mut policy = RotationPolicy {
        freezes: vec![
            freeze("2026-01-02T00:00:00Z", "2026-01-03T06:00:00Z"),
            freeze("2026-01-03T06:00:00Z", "2026-01-05T06:00:00Z"),
        ],
        ..daily("0 3 * * *")
    };
    let first = fire(&policy, NEW_YEAR, NEW_YEAR);
    assert_eq!(instant(first.at), "2026-01-01T03:00:00Z");
    assert_eq!(
        first.until.map(instant).as_deref(),
        Some("2026-01-02T00:00:00Z")
    );
    let held = fires_at(&policy, "2026-01-01T03:00:00Z", NEW_YEAR);
    assert_eq!(held, "2026-01-05T06:00:00Z");
    policy.windows = vec![window("0 2 * * *", "UTC", 2 * HOUR)];
    let held = fires_at(&policy, "2026-01-01T03:00:00Z", NEW_YEAR);
    assert_eq!(held, "2026-01-06T02:00:00Z");
    policy
        .freezes
        .push(freeze("2026-01-06T00:00:00Z", "2026-01-06T03:00:00Z"));
    let held = fires_at(&policy, "2026-01-01T03:00:00Z", NEW_YEAR);
    assert_eq!(held, "2026-01-06T03:00:00Z");
}

#[test]
fn a_delay_ends_before_the_window_closes() {
    let policy = RotationPolicy {
        windows: vec![window("0 22 * * *", "UTC", HOUR)],
        ..daily("0 12 * * *")
    };
    let fire = fire(&policy, NEW_YEAR, NEW_YEAR);
    assert_eq!(fire.spread(DAY), Duration::from_secs(3599));
    assert_eq!(fire.spread(HOUR / 2), HOUR / 2);
    let free = daily("0 12 * * *");
    let free = next_fire(&free, at(NEW_YEAR), at(NEW_YEAR)).unwrap();
    assert_eq!(free.spread(DAY), DAY);
}

/// Hours of UTC days, told without a calendar: whether a window of these hours is open.
fn is_open(at: Timestamp, opens: u64, hours: u64) -> bool {
    let hour = at.micros().rem_euclid(86_400_000_000) / 3_600_000_000;
    let since = (u64::try_from(hour).unwrap() + 24 - opens) % 24;
    since < hours
}

fn any_policy() -> impl Strategy<Value = (RotationPolicy, Vec<(u64, u64)>)> {
    let hours = (0_u64..24, 1_u64..24);
    let spans = proptest::collection::vec((0_u32..2400, 1_u32..400), 0..4);
    let windows = proptest::collection::vec(hours, 0..3);
    (windows, spans, 0_u64..24).prop_map(|(windows, freezes, hour)| {
        let start = at(NEW_YEAR);
        let policy = RotationPolicy {
            windows: windows
                .iter()
                .map(|(opens, hours)| {
                    let duration = HOUR * u32::try_from(*hours).unwrap();
                    window(&format!("0 {opens} * * *"), "UTC", duration)
                })
                .collect(),
            freezes: freezes
                .into_iter()
                .map(|(from, hours)| Freeze {
                    from: start.plus(HOUR * from),
                    until: start.plus(HOUR * (from + hours)),
                    reason: String::new(),
                })
                .collect(),
            ..daily(&format!("30 {hour} * * *"))
        };
        (policy, windows)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_slot_fires_in_a_freeze_or_outside_of_every_window((policy, windows) in any_policy()) {
        let mut now = at(NEW_YEAR);
        for _ in 0..40 {
            let fire = next_fire(&policy, now, now).unwrap();
            prop_assert!(fire.at > now && fire.at >= fire.wanted);
            prop_assert!(!policy.freezes.iter().any(|freeze| freeze.holds(fire.at)));
            let is_open = windows.is_empty()
                || windows.iter().any(|(opens, hours)| is_open(fire.at, *opens, *hours));
            prop_assert!(is_open, "{}", instant(fire.at));
            let last = fire.at.plus(fire.spread(DAY));
            prop_assert!(fire.until.is_none_or(|until| last < until));
            now = fire.at;
        }
    }
}
