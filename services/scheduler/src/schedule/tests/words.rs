//! Policies and fires as people read them.

use keywheel_core::schedule::{GroupOffset, OnEvent, RotationPolicy};

use super::limits::{daily, freeze, window};
use super::*;

fn in_zone(line: &str, timezone: &str) -> RotationPolicy {
    RotationPolicy {
        schedule: cron(line, timezone),
        ..RotationPolicy::default()
    }
}

/// Local time and notes of the first fire.
fn said(policy: &RotationPolicy, after: &str) -> (String, Vec<String>) {
    let fire = next_fire(policy, at(after), at(after)).unwrap();
    (local(policy, fire.at), notes(policy, &fire, at(after)))
}

#[test]
fn a_gap_is_said_with_what_the_clock_does() {
    let (local, notes) = said(&in_zone("30 2 * * *", BERLIN), SPRING);
    assert_eq!(local, "Sun 2026-03-29 03:00:00 CEST (+02:00)");
    assert_eq!(
        notes,
        ["02:30 is left out: the clock goes from 02:00 to 03:00; it fires right after the gap"]
    );
    let apia = in_zone("0 12 * * *", "Pacific/Apia");
    let (_, notes) = said(&apia, "2011-12-29T23:00:00Z");
    assert_eq!(
        notes,
        [
            "2011-12-30 12:00 is left out: the clock goes from 2011-12-30 00:00 to 2011-12-31 00:00; it fires right after the gap"
        ]
    );
}

#[test]
fn a_fold_is_said_with_the_pass() {
    let (local, notes) = said(&in_zone("30 2 * * *", BERLIN), AUTUMN);
    assert_eq!(local, "Sun 2026-10-25 02:30:00 CEST (+02:00)");
    let twice = "02:30 comes twice, as the clock goes back";
    assert_eq!(notes, [format!("{twice}: it fires in the first pass only")]);
    let hourly = in_zone("30 * * * *", BERLIN);
    for (after, local, pass) in [
        ("2026-10-25T00:00:00Z", "CEST (+02:00)", "first"),
        ("2026-10-25T01:00:00Z", "CET (+01:00)", "second"),
    ] {
        let (found, notes) = said(&hourly, after);
        assert!(found.ends_with(local), "{found}");
        assert_eq!(notes, [format!("{twice}: this is the {pass} of both")]);
    }
}

#[test]
fn a_gap_is_said_by_the_line_s_time_also_with_an_offset() {
    let policy = RotationPolicy {
        phase: Some(GroupOffset {
            group: "pair".to_owned(),
            offset: Duration::from_secs(43_200),
        }),
        ..in_zone("30 2 * * *", BERLIN)
    };
    let (local, notes) = said(&policy, "2026-03-29T00:00:00Z");
    assert_eq!(local, "Sun 2026-03-29 15:00:00 CEST (+02:00)");
    assert!(notes[0].starts_with("02:30 is left out"), "{notes:?}");
}

#[test]
fn a_day_without_a_jump_has_no_note() {
    let quiet = said(&in_zone("30 2 * * *", BERLIN), "2026-06-01T12:00:00Z");
    let expected = "Tue 2026-06-02 02:30:00 CEST (+02:00)".to_owned();
    assert_eq!(quiet, (expected, Vec::new()));
}

#[test]
fn what_moved_a_fire_is_said() {
    let from = "2026-01-01T00:00:00Z";
    let hour = Duration::from_secs(3600);
    let mut policy = RotationPolicy {
        windows: vec![window("0 22 * * *", "UTC", hour)],
        ..daily("0 12 * * *")
    };
    let (_, notes) = said(&policy, from);
    assert_eq!(
        notes,
        ["moved from Thu 2026-01-01 12:00:00 UTC (+00:00): no window is open then"]
    );
    policy.windows.clear();
    policy.freezes = vec![freeze("2026-01-01T06:00:00Z", "2026-01-02T00:00:00Z")];
    let (_, notes) = said(&policy, from);
    assert!(
        notes[0].ends_with("a freeze holds then (closing)"),
        "{notes:?}"
    );
}

#[test]
fn a_lifetime_that_waits_for_nothing_is_said() {
    let from = "2026-01-01T00:00:00Z";
    let policy = RotationPolicy {
        lifetime: Some(Duration::from_secs(3 * 86_400)),
        freezes: vec![freeze("2026-01-02T00:00:00Z", "2026-02-01T00:00:00Z")],
        ..RotationPolicy::default()
    };
    let (local, notes) = said(&policy, from);
    assert_eq!(local, "Sat 2026-01-03 00:00:00 UTC (+00:00)");
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("two thirds"), "{notes:?}");
    assert!(
        notes[1].contains("lifetime ends Sun 2026-01-04 00:00:00 UTC"),
        "{notes:?}"
    );
}

#[test]
fn every_rule_of_a_policy_is_said() {
    assert_eq!(rules(&RotationPolicy::default()), ["on demand"]);
    let day = Duration::from_secs(86_400);
    let aged = RotationPolicy {
        max_age: Some(day),
        ..RotationPolicy::default()
    };
    assert_eq!(rules(&aged), ["when the version is 1 day old"]);
    let whole = RotationPolicy {
        jitter: Duration::from_secs(300),
        max_age: Some(30 * day),
        lifetime: Some(90 * day),
        hold_off: Some(2 * day),
        windows: vec![window("0 22 * * *", BERLIN, day / 4)],
        freezes: vec![freeze("2026-12-19T23:00:00Z", "2027-01-03T23:00:00Z")],
        phase: Some(GroupOffset {
            group: "pair".to_owned(),
            offset: day / 2,
        }),
        ..in_zone("0 3 * * 0", BERLIN)
    };
    let said = rules(&whole);
    assert_eq!(said.len(), 8, "{said:#?}");
    for (rule, part) in said.iter().zip([
        BERLIN,
        "12 hours after that, in group pair",
        "when the version is 30 days old",
        "when the version is 60 days old",
        "slots within 2 days",
        "each up to 5 minutes later",
        "only in the 6 hours after",
        "not from Sun 2026-12-20 00:00:00 CET (+01:00) until Mon 2027-01-04 00:00:00 CET (+01:00) (closing)",
    ]) {
        assert!(rule.contains(part), "`{part}` is not in: {rule}");
    }
}

#[test]
fn a_rule_on_an_event_is_said_with_its_condition_and_hold_off() {
    let rule = |when: Option<&str>, hold_off| OnEvent {
        event: "dev.keywheel.host.evicted.v1".to_owned(),
        when: when.map(str::to_owned),
        hold_off,
    };
    let policy = RotationPolicy {
        on_event: vec![
            rule(Some("held"), Some(Duration::from_secs(3600))),
            rule(None, None),
        ],
        ..RotationPolicy::default()
    };
    assert_eq!(
        rules(&policy),
        [
            "on event dev.keywheel.host.evicted.v1 when held, at the earliest 1 hour after a rotation",
            "on event dev.keywheel.host.evicted.v1, at the earliest 10 minutes after a rotation",
        ]
    );
}
