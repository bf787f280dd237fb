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
    Event::Secret(SECRET, secret::Event::VersionPromoted { version: 1 })
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
        },
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
