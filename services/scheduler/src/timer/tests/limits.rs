//! Given a policy with limits, when time passes or things go wrong, then the slot waits as it should.

use keywheel_core::schedule::{Freeze, Window};

use super::*;

const DAY: u64 = 24 * HOUR;

/// At noon, from ten to midnight.
fn nightly(missed_run: MissedRun) -> RotationPolicy {
    RotationPolicy {
        schedule: Schedule::Cron {
            expression: "0 12 * * *".to_owned(),
            timezone: "UTC".to_owned(),
        },
        windows: vec![Window {
            expression: "0 22 * * *".to_owned(),
            timezone: "UTC".to_owned(),
            duration: Duration::from_secs(2 * HOUR),
        }],
        missed_run,
        ..RotationPolicy::default()
    }
}

fn promoted() -> Event {
    promoted_to(1)
}

fn promoted_to(version: u64) -> Event {
    Event::Secret(SECRET, secret::Event::VersionPromoted { version })
}

/// A version that lives ninety days; sixty days later its successor failed within an hour, and
/// consumers went back to it.
fn returned(freezes: Vec<Freeze>) -> Timers {
    let policy = RotationPolicy {
        lifetime: Some(Duration::from_secs(90 * DAY)),
        freezes,
        ..RotationPolicy::default()
    };
    after(&[
        (0, registered(spec(policy))),
        (0, promoted_to(1)),
        (60 * DAY, started()),
        (60 * DAY + 60, promoted_to(2)),
        (60 * DAY + HOUR, promoted_to(1)),
        (60 * DAY + 2 * HOUR, closed()),
    ])
}

#[test]
fn a_return_to_the_version_before_makes_it_no_younger_and_is_tried_again_after_a_rest() {
    let mut timers = returned(Vec::new());
    let again = at(61 * DAY + HOUR);
    assert_eq!(
        timers.next_due(),
        Some(again),
        "not 120 days after the start"
    );
    assert_eq!(due_of(timers.pop(again)), again);
    // In vain before the promotion: consumers are left alone for as long again.
    timers.apply(again, &started());
    timers.apply(again.plus(Duration::from_secs(60)), &closed());
    timers.settle();
    assert_eq!(timers.next_due(), Some(at(62 * DAY + HOUR)));
    // A new version that stays counts from its own promotion.
    timers.apply(at(62 * DAY), &promoted_to(3));
    timers.settle();
    assert_eq!(timers.next_due(), Some(at(122 * DAY)));
}

#[test]
fn a_version_that_is_current_again_waits_for_no_freeze_beyond_its_own_end() {
    let freeze = Freeze {
        from: at(50 * DAY),
        until: at(100 * DAY),
        reason: String::new(),
    };
    let mut timers = returned(vec![freeze]);
    let again = at(61 * DAY + HOUR);
    assert_eq!(due_of(timers.pop(again)), again);
}

#[test]
fn an_age_rests_after_an_abort_before_the_promotion() {
    let policy = RotationPolicy {
        max_age: Some(Duration::from_secs(30 * DAY)),
        ..RotationPolicy::default()
    };
    let aborted = rotation(rotation::Event::Intervened {
        intervention: Intervention::Abort,
        reason: "not now".to_owned(),
    });
    let timers = after(&[
        (0, registered(spec(policy))),
        (30 * DAY, started()),
        (30 * DAY + 60, aborted),
        (30 * DAY + 90, closed()),
    ]);
    assert_eq!(timers.next_due(), Some(at(31 * DAY + 60)));
}

#[test]
fn an_age_rests_after_canaries_went_back_too() {
    let policy = RotationPolicy {
        max_age: Some(Duration::from_secs(30 * DAY)),
        ..RotationPolicy::default()
    };
    let back = rotation(rotation::Event::TurnedBack {
        version: 1,
        consumers: Vec::new(),
        hosts: Vec::new(),
        deadline: at(30 * DAY + 300),
    });
    let timers = after(&[
        (0, registered(spec(policy))),
        (0, promoted()),
        (30 * DAY, started()),
        (30 * DAY + 60, back),
        (30 * DAY + 90, closed()),
    ]);
    assert_eq!(timers.next_due(), Some(at(31 * DAY + 60)));
}

#[test]
fn a_slot_that_waits_for_its_window_waits_on_when_the_policy_changes_otherwise() {
    let longer = RotationPolicy {
        deadline: Some(Duration::from_secs(HOUR)),
        ..nightly(MissedRun::Once)
    };
    let changed = |policy| {
        let spec = spec(policy);
        Event::Secret(SECRET, secret::Event::SpecChanged { spec })
    };
    let mut timers = after(&[
        (10, registered(spec(nightly(MissedRun::Once)))),
        (13 * HOUR, changed(longer.clone())),
    ]);
    assert_eq!(timers.next_due(), Some(at(22 * HOUR)));
    let free = RotationPolicy {
        windows: Vec::new(),
        ..longer
    };
    timers.apply(at(14 * HOUR), &changed(free));
    timers.settle();
    assert_eq!(due_of(timers.pop(at(14 * HOUR))), at(12 * HOUR));
}

#[test]
fn a_slot_outside_of_its_window_is_due_when_the_window_opens() {
    let mut timers = after(&[(10, registered(spec(nightly(MissedRun::Once))))]);
    assert_eq!(timers.next_due(), Some(at(22 * HOUR)));
    assert_eq!(timers.pop(at(22 * HOUR - 1)), None);
    assert_eq!(due_of(timers.pop(at(22 * HOUR))), at(22 * HOUR));
}

#[test]
fn a_slot_whose_window_closed_meanwhile_is_caught_up_when_it_opens_again() {
    let mut timers = after(&[(10, registered(spec(nightly(MissedRun::Once))))]);
    assert_eq!(timers.pop(at(DAY + HOUR)), None);
    assert_eq!(timers.next_due(), Some(at(DAY + 22 * HOUR)));
    let due = due_of(timers.pop(at(DAY + 22 * HOUR)));
    assert_eq!(due, at(22 * HOUR), "the slot that was missed");
}

#[test]
fn under_skip_a_slot_whose_window_closed_waits_for_the_next_one() {
    let mut timers = after(&[(10, registered(spec(nightly(MissedRun::Skip))))]);
    assert_eq!(timers.pop(at(DAY + HOUR)), None);
    let due = due_of(timers.pop(at(DAY + 22 * HOUR)));
    assert_eq!(due, at(DAY + 22 * HOUR), "the slot of the next day");
}

#[test]
fn a_command_that_nobody_answered_does_not_leave_the_window() {
    let mut timers = after(&[(10, registered(spec(nightly(MissedRun::Once))))]);
    let fired = timers.pop(at(22 * HOUR)).unwrap();
    timers.unanswered(&fired, at(DAY - 1), RETRY_BASE);
    let late = at(DAY - 1).plus(RETRY_BASE);
    assert_eq!(timers.pop(late), None);
    assert_eq!(timers.next_due(), Some(at(DAY + 22 * HOUR)));
}

#[test]
fn a_delay_stays_in_the_window() {
    let policy = RotationPolicy {
        jitter: Duration::from_secs(DAY),
        ..nightly(MissedRun::Once)
    };
    let timers = after(&[(10, registered(spec(policy)))]);
    let due = timers.next_due().unwrap();
    assert!(at(22 * HOUR) <= due && due < at(DAY), "{due}");
}

#[test]
fn a_freeze_that_is_declared_later_holds_the_slot_back() {
    let frozen = RotationPolicy {
        freezes: vec![Freeze {
            from: at(0),
            until: at(3 * HOUR + 60),
            reason: String::new(),
        }],
        ..hourly()
    };
    let changed = secret::Event::SpecChanged { spec: spec(frozen) };
    let mut timers = after(&[
        (10, registered(spec(hourly()))),
        (20, Event::Secret(SECRET, changed)),
    ]);
    assert_eq!(timers.pop(at(HOUR)), None);
    assert_eq!(timers.next_due(), Some(at(3 * HOUR + 60)));
}

#[test]
fn a_slot_soon_after_a_rotation_on_demand_is_held_off() {
    let policy = RotationPolicy {
        hold_off: Some(Duration::from_secs(HOUR)),
        ..hourly()
    };
    let timers = after(&[
        (10, registered(spec(policy))),
        (3000, started()),
        (3010, promoted()),
        (3020, closed()),
    ]);
    assert_eq!(timers.next_due(), Some(at(2 * HOUR)));
}

#[test]
fn an_age_counts_from_the_promotion_and_is_wanted_again_after_a_rotation_in_vain() {
    let policy = RotationPolicy {
        max_age: Some(Duration::from_secs(DAY)),
        ..RotationPolicy::default()
    };
    let mut timers = after(&[
        (10, registered(spec(policy))),
        (20, started()),
        (30, promoted()),
        (40, closed()),
    ]);
    assert_eq!(due_of(timers.pop(at(DAY + 30))), at(DAY + 30));
    timers.apply(at(DAY + 31), &started());
    timers.apply(at(DAY + 50), &closed());
    timers.settle();
    let again = at(DAY + 30).plus(crate::schedule::AGE_RETRY);
    assert_eq!(timers.next_due(), Some(again));
}

#[test]
fn a_refused_slot_of_an_age_is_not_submitted_over_and_over() {
    let policy = RotationPolicy {
        max_age: Some(Duration::from_secs(DAY)),
        ..RotationPolicy::default()
    };
    let mut timers = after(&[(10, registered(spec(policy)))]);
    let late = at(9 * DAY);
    assert_eq!(due_of(timers.pop(late)), at(DAY + 10));
    let fired = Fired {
        key: Key::Slot(SECRET),
        due: late,
        command: Command::Due {
            rotation: slot_rotation(SECRET, at(DAY + 10)),
            secret: SECRET,
            slot: slot_id(SECRET, at(DAY + 10)),
            scheduled: at(DAY + 10),
            after: None,
            tzdata: None,
        },
        attempt: 0,
    };
    timers.refused(&fired, late);
    assert!(timers.next_due().unwrap() > late);
}

#[test]
fn near_the_end_of_its_lifetime_a_version_waits_for_no_window() {
    let policy = RotationPolicy {
        lifetime: Some(Duration::from_secs(90 * DAY)),
        freezes: vec![Freeze {
            from: at(50 * DAY),
            until: at(100 * DAY),
            reason: String::new(),
        }],
        ..RotationPolicy::default()
    };
    let registered = registered(spec(policy));
    let mut timers = after(&[(0, registered.clone())]);
    assert_eq!(due_of(timers.pop(at(60 * DAY))), at(60 * DAY));
    let mut late = after(&[(0, registered)]);
    assert_eq!(due_of(late.pop(at(70 * DAY))), at(60 * DAY));
}
