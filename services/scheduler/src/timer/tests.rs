//! Events in, timers out.

mod events;
mod leases;
mod limits;
mod runs;
mod triggers;

use keywheel_core::audit::Principal;
use keywheel_core::id::HostId;
use keywheel_core::name::SecretName;
use keywheel_core::rotation::{Outcome, Step, Trigger};
use keywheel_core::secret::{Generator, Spec};

use super::*;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const ROTATION: RotationId = RotationId::from_bytes([2; 16]);
const REVOCATION: RevocationId = RevocationId::from_bytes([3; 16]);
const HOUR: u64 = 3600;

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().plus(Duration::from_secs(seconds))
}

fn hourly() -> RotationPolicy {
    RotationPolicy {
        schedule: Schedule::Cron {
            expression: "0 * * * *".to_owned(),
            timezone: "UTC".to_owned(),
        },
        ..RotationPolicy::default()
    }
}

fn spec(rotation: RotationPolicy) -> Spec {
    Spec {
        generator: Some(Generator::default()),
        rotation,
        ..Spec::default()
    }
}

fn registered(spec: Spec) -> Event {
    let name = SecretName::parse("prod/db").unwrap();
    Event::Secret(SECRET, secret::Event::Registered { name, spec })
}

fn rotation(event: rotation::Event) -> Event {
    Event::Rotation(ROTATION, event)
}

fn started() -> Event {
    rotation(rotation::Event::Started {
        secret: SECRET,
        version: 1,
        trigger: Trigger::OnDemand,
    })
}

fn closed() -> Event {
    rotation(rotation::Event::Closed {
        outcome: Outcome::Completed,
    })
}

fn step_failed(attempt: u32) -> Event {
    rotation(rotation::Event::StepFailed {
        step: Step::Set,
        attempt,
        reason: "refused".to_owned(),
    })
}

fn revocation(event: revocation::Event) -> Event {
    Event::Revocation(REVOCATION, event)
}

fn after(events: &[(u64, Event)]) -> Timers {
    let mut timers = Timers::new();
    for (time, event) in events {
        timers.apply(at(*time), event);
    }
    timers.settle();
    timers
}

fn due_of(fired: Option<Fired>) -> Timestamp {
    match fired.unwrap().command {
        Command::Due {
            scheduled,
            slot,
            rotation,
            secret,
            after,
            ..
        } => {
            assert_eq!(after, None);
            assert_eq!((slot, secret), (slot_id(SECRET, scheduled), SECRET));
            assert_eq!(rotation, slot_rotation(SECRET, scheduled));
            scheduled
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_registered_secret_gets_its_next_slot_and_no_other() {
    let mut timers = after(&[(10, registered(spec(hourly())))]);
    assert_eq!(timers.next_due(), Some(at(HOUR)));
    assert_eq!(timers.pop(at(HOUR - 1)), None);
    assert_eq!(due_of(timers.pop(at(HOUR))), at(HOUR));
    assert_eq!(timers.pop(at(HOUR)), None);
}

#[test]
fn a_slot_is_computed_anew_when_all_are_unsettled() {
    let mut timers = after(&[(10, registered(spec(hourly())))]);
    assert_eq!(due_of(timers.pop(at(HOUR))), at(HOUR));
    timers.settle();
    assert_eq!(timers.next_due(), None, "nothing touched it");
    timers.unsettle_all();
    timers.settle();
    // Whether that was served is the gateway's to say.
    assert_eq!(due_of(timers.pop(at(HOUR))), at(HOUR));
}

#[test]
fn a_slot_names_the_rules_it_was_computed_by_where_it_asks_a_zone() {
    let named = |policy: RotationPolicy, releases: &[&str]| {
        let mut timers = after(&[(10, registered(spec(policy)))]);
        releases.iter().for_each(|one| timers.set_zones(one));
        match timers.pop(at(HOUR)).unwrap().command {
            Command::Due { tzdata, .. } => tzdata,
            other => panic!("{other:?}"),
        }
    };
    let interval = || RotationPolicy {
        schedule: Schedule::Interval(Duration::from_secs(HOUR - 10)),
        ..RotationPolicy::default()
    };
    assert_eq!(named(hourly(), &[]), None, "nobody told it");
    let told = ["2026a", "2026b"];
    assert_eq!(named(hourly(), &told), Some("2026b".to_owned()));
    assert_eq!(named(interval(), &told), None);
}

#[test]
fn a_secret_on_demand_or_without_a_generator_has_no_slot() {
    assert!(after(&[(10, registered(spec(RotationPolicy::default())))]).is_empty());
    let provided = Spec {
        rotation: hourly(),
        ..Spec::default()
    };
    assert!(after(&[(10, registered(provided))]).is_empty());
}

#[test]
fn a_changed_schedule_replaces_the_slot() {
    let quarters = RotationPolicy {
        schedule: Schedule::Cron {
            expression: "*/15 * * * *".to_owned(),
            timezone: "UTC".to_owned(),
        },
        ..RotationPolicy::default()
    };
    let changed = |rotation| {
        Event::Secret(
            SECRET,
            secret::Event::SpecChanged {
                spec: spec(rotation),
            },
        )
    };
    let first = (10, registered(spec(hourly())));
    let timers = after(&[first.clone(), (950, changed(quarters))]);
    assert_eq!((timers.next_due(), timers.len()), (Some(at(1800)), 1));
    let none = after(&[first, (950, changed(RotationPolicy::default()))]);
    assert!(none.is_empty());
}

#[test]
fn an_open_rotation_holds_the_slot_back_and_its_end_counts_as_served() {
    let open = [(10, registered(spec(hourly()))), (3000, started())];
    assert_eq!(after(&open).next_due(), None);
    let [registered, started] = open;
    let timers = after(&[registered, started, (HOUR + 5, closed())]);
    assert_eq!(timers.next_due(), Some(at(2 * HOUR)));
}

#[test]
fn an_interval_counts_from_the_promotion() {
    let policy = RotationPolicy {
        schedule: Schedule::Interval(Duration::from_secs(100)),
        ..RotationPolicy::default()
    };
    let promoted = Event::Secret(SECRET, secret::Event::VersionPromoted { version: 1 });
    let timers = after(&[
        (10, registered(spec(policy))),
        (20, started()),
        (30, promoted),
        (40, closed()),
    ]);
    assert_eq!(timers.next_due(), Some(at(130)));
    assert_eq!(timers.next_slot(SECRET), Some(at(130)));
}

#[test]
fn jitter_moves_the_timer_but_not_the_slot() {
    let policy = RotationPolicy {
        jitter: Duration::from_secs(300),
        ..hourly()
    };
    let mut timers = after(&[(10, registered(spec(policy)))]);
    let due = timers.next_due().unwrap();
    assert_eq!(
        due,
        at(HOUR).plus(jitter(slot_id(SECRET, at(HOUR)), Duration::from_secs(300)))
    );
    assert_eq!(due_of(timers.pop(due)), at(HOUR));
}

#[test]
fn slots_missed_under_once_give_one_catch_up() {
    let mut timers = after(&[(10, registered(spec(hourly())))]);
    let now = at(50 * HOUR + 120);
    assert_eq!(due_of(timers.pop(now)), at(HOUR));
    assert_eq!(timers.pop(now), None);
    timers.apply(now, &started());
    timers.apply(now, &closed());
    timers.settle();
    assert_eq!(timers.next_due(), Some(at(51 * HOUR)));
}

#[test]
fn a_catch_up_is_spread_by_its_jitter() {
    let policy = RotationPolicy {
        jitter: Duration::from_secs(300),
        ..hourly()
    };
    let mut timers = after(&[(10, registered(spec(policy)))]);
    let now = at(50 * HOUR);
    let delay = jitter(slot_id(SECRET, at(HOUR)), Duration::from_secs(300));
    assert_eq!(timers.pop(now), None);
    assert_eq!(timers.next_due(), Some(now.plus(delay)));
    assert_eq!(due_of(timers.pop(now.plus(delay))), at(HOUR));
}

#[test]
fn slots_missed_under_skip_wait_for_the_next() {
    let policy = RotationPolicy {
        missed_run: MissedRun::Skip,
        ..hourly()
    };
    let mut timers = after(&[(10, registered(spec(policy.clone())))]);
    assert_eq!(timers.pop(at(50 * HOUR + 120)), None);
    assert_eq!(timers.next_due(), Some(at(51 * HOUR)));
    let mut in_time = after(&[(10, registered(spec(policy)))]);
    assert_eq!(due_of(in_time.pop(at(HOUR).plus(MISSED_GRACE))), at(HOUR));
}

#[test]
fn a_distribution_sets_the_deadline_and_its_end_clears_it() {
    let distributing = rotation(rotation::Event::DistributionStarted {
        consumers: Vec::new(),
        hosts: vec![HostId::default()],
        old: vec![1],
        deadline: at(500),
    });
    let events = [(1, started()), (2, distributing)];
    let mut timers = after(&events);
    assert_eq!(timers.next_due(), Some(at(500)));
    let fired = timers.pop(at(500)).unwrap();
    assert_eq!(
        fired.command,
        Command::DeadlinePassed { rotation: ROTATION }
    );
    timers.refused(&fired, at(500));
    assert_eq!(timers.next_due(), Some(at(500).plus(DEADLINE_RETRY)));
    timers.apply(at(501), &closed());
    assert!(timers.is_empty());
    let revoke_old = rotation(rotation::Event::StepStarted {
        step: Step::RevokeOld,
        attempt: 1,
    });
    let [one, two] = events;
    assert!(after(&[one, two, (3, revoke_old)]).is_empty());
}

#[test]
fn a_deadline_moves_with_leave_to_restart_and_when_the_rotation_is_turned_back() {
    let distributing = rotation(rotation::Event::DistributionStarted {
        consumers: Vec::new(),
        hosts: vec![HostId::default()],
        old: vec![1],
        deadline: at(500),
    });
    let mut timers = after(&[(1, started()), (2, distributing)]);
    let deadline = at(700);
    let moved = rotation(rotation::Event::DeadlineMoved { deadline });
    timers.apply(at(3), &moved);
    assert_eq!(timers.next_due(), Some(at(700)));
    let turned = rotation(rotation::Event::TurnedBack {
        version: 1,
        consumers: Vec::new(),
        hosts: vec![HostId::default()],
        deadline: at(900),
    });
    timers.apply(at(4), &turned);
    assert_eq!(timers.next_due(), Some(at(900)));
    timers.apply(at(5), &closed());
    assert!(timers.is_empty());
}

#[test]
fn hosts_are_waited_for_before_a_cut_over_until_the_server_is_told() {
    let staging = rotation(rotation::Event::StagingStarted {
        hosts: vec![HostId::default()],
        deadline: at(15),
    });
    let mut timers = after(&[(1, started()), (2, staging)]);
    assert_eq!(timers.next_due(), Some(at(15)));
    let set = rotation(rotation::Event::StepStarted {
        step: rotation::Step::Set,
        attempt: 1,
    });
    timers.apply(at(3), &set);
    assert!(timers.is_empty());
}

#[test]
fn canaries_are_waited_for_then_watched_and_then_no_more() {
    let begun = rotation(rotation::Event::CanaryStarted {
        consumers: Vec::new(),
        hosts: vec![HostId::default()],
        deadline: at(300),
    });
    let watched = rotation(rotation::Event::CanaryWatched { until: at(30) });
    let mut timers = after(&[(1, started()), (2, begun)]);
    assert_eq!(timers.next_due(), Some(at(300)));
    timers.apply(at(3), &watched);
    assert_eq!(timers.next_due(), Some(at(30)));
    timers.apply(at(30), &rotation(rotation::Event::CanaryPassed));
    let finish = rotation(rotation::Event::StepStarted {
        step: rotation::Step::Finish,
        attempt: 1,
    });
    timers.apply(at(30), &finish);
    assert!(timers.is_empty());
}

#[test]
fn a_deadline_that_is_refused_comes_again_only_while_there_is_one() {
    let distributing = rotation(rotation::Event::DistributionStarted {
        consumers: Vec::new(),
        hosts: vec![HostId::default()],
        old: vec![1],
        deadline: at(500),
    });
    let mut timers = after(&[(1, started()), (2, distributing)]);
    let fired = timers.pop(at(500)).unwrap();
    // It moved between the question and the answer.
    let moved = rotation::Event::DeadlineMoved { deadline: at(700) };
    let mut later = timers.clone();
    later.apply(at(500), &rotation(moved));
    later.refused(&fired, at(501));
    assert_eq!(later.next_due(), Some(at(700)));
    // `onDeadline: force` leaves it open, at its last step.
    let revoke_old = rotation::Event::StepStarted {
        step: Step::RevokeOld,
        attempt: 1,
    };
    timers.apply(at(500), &rotation(revoke_old));
    timers.refused(&fired, at(501));
    assert!(timers.is_empty());
    assert!(!timers.unanswered(&fired, at(501), RETRY_BASE));
    assert!(timers.is_empty());
}

#[test]
fn sessions_are_asked_for_again_up_to_the_deadline_and_what_cannot_be_told_waits_for_its_grace() {
    let distributing = rotation(rotation::Event::DistributionStarted {
        consumers: Vec::new(),
        hosts: vec![HostId::default()],
        old: vec![1],
        deadline: at(500),
    });
    let asks = |attempt| {
        rotation(rotation::Event::StepStarted {
            step: Step::Drain,
            attempt,
        })
    };
    let left = rotation(rotation::Event::SessionsLeft {
        attempt: 3,
        mark: 7,
        sessions: 2,
        since: at(3),
    });
    let untold = rotation(rotation::Event::SessionsUntold {
        attempt: 3,
        until: at(900),
    });
    let mut timers = after(&[(1, started()), (2, distributing), (3, asks(3))]);
    assert_eq!(timers.next_due(), Some(at(500)), "the deadline stands");
    let mut told = timers.clone();
    told.apply(at(10), &left);
    assert_eq!(told.next_due(), Some(at(14)));
    let fired = told.pop(at(14)).unwrap();
    assert_eq!(fired.command, Command::RetryStep { rotation: ROTATION });
    told.apply(at(14), &asks(4));
    assert_eq!(told.next_due(), Some(at(500)));
    told.apply(at(500), &rotation(rotation::Event::DeadlinePassed));
    assert!(told.is_empty(), "no deadline ends the wait any more");
    told.apply(at(501), &left);
    assert_eq!(told.next_due(), Some(at(505)), "they are asked for on");
    timers.apply(at(10), &untold);
    assert_eq!(timers.next_due(), Some(at(900)), "nobody asks again");
    let mut again = timers.clone();
    again.apply(at(20), &asks(4));
    again.apply(at(21), &left);
    assert_eq!(again.pop(at(25)).map(|fired| fired.due), Some(at(25)));
    assert_eq!(again.next_due(), Some(at(500)), "the deadline counts again");
    let fired = timers.pop(at(900)).unwrap();
    assert_eq!(
        fired.command,
        Command::DeadlinePassed { rotation: ROTATION }
    );
}

#[test]
fn a_failed_step_is_retried_later_each_time_and_not_after_a_roll_back() {
    let mut timers = after(&[(1, started()), (10, step_failed(3))]);
    assert_eq!(timers.next_due(), Some(at(14)));
    let fired = timers.pop(at(14)).unwrap();
    assert_eq!(fired.command, Command::RetryStep { rotation: ROTATION });
    let roll_back = rotation(rotation::Event::StepStarted {
        step: Step::RollBack,
        attempt: 1,
    });
    assert!(after(&[(1, started()), (10, step_failed(5)), (10, roll_back)]).is_empty());
}

#[test]
fn a_failed_revocation_is_retried_for_ever_at_the_cap() {
    let failed = revocation(revocation::Event::BackendFailed {
        attempt: 1000,
        reason: "store down".to_owned(),
    });
    let mut timers = after(&[(10, failed.clone())]);
    assert_eq!(timers.next_due(), Some(at(10).plus(RETRY_CAP)));
    let fired = timers.pop(at(70)).unwrap();
    assert_eq!(
        fired.command,
        Command::RetryRevoke {
            revocation: REVOCATION
        }
    );
    let retried = revocation(revocation::Event::BackendRetried { attempt: 1001 });
    assert!(after(&[(10, failed.clone()), (11, retried)]).is_empty());
    let confirmed = revocation(revocation::Event::BackendConfirmed);
    assert!(after(&[(10, failed.clone()), (11, confirmed)]).is_empty());
    let forgotten = revocation(revocation::Event::Forgotten {
        by: Principal::Operator {
            name: "ann".to_owned(),
        },
        reason: "switched off".to_owned(),
    });
    assert!(after(&[(10, failed), (11, forgotten)]).is_empty());
}

#[test]
fn what_is_still_let_in_is_revoked_once_more_after_a_pause() {
    let alive = revocation(revocation::Event::StillAccepted {
        attempt: 1000,
        evidence: Vec::new(),
    });
    let timers = after(&[(10, alive.clone())]);
    assert_eq!(timers.next_due(), Some(at(10).plus(RETRY_CAP)));
    let proven = revocation(revocation::Event::ProvenDead {
        evidence: Vec::new(),
    });
    assert!(after(&[(10, alive), (11, proven)]).is_empty());
}

#[test]
fn a_refused_slot_is_over_and_the_next_is_set() {
    let mut timers = after(&[(10, registered(spec(hourly())))]);
    let fired = timers.pop(at(HOUR)).unwrap();
    timers.refused(&fired, at(HOUR + 1));
    assert_eq!(timers.next_due(), Some(at(2 * HOUR)));
}

#[test]
fn an_unanswered_slot_comes_again_as_the_same_slot_unless_a_rotation_started() {
    let mut timers = after(&[(10, registered(spec(hourly())))]);
    let fired = timers.pop(at(HOUR)).unwrap();
    let mut started_meanwhile = timers.clone();
    timers.unanswered(&fired, at(HOUR + 100), RETRY_BASE);
    assert_eq!(
        timers.pop(at(HOUR + 101)).map(|again| again.command),
        Some(fired.command.clone())
    );
    started_meanwhile.apply(at(HOUR), &started());
    started_meanwhile.settle();
    started_meanwhile.unanswered(&fired, at(HOUR + 100), RETRY_BASE);
    assert!(started_meanwhile.is_empty());
}

#[test]
fn events_of_unknown_secrets_and_rotations_change_nothing() {
    let promoted = Event::Secret(SECRET, secret::Event::VersionPromoted { version: 1 });
    let changed = Event::Secret(
        SECRET,
        secret::Event::SpecChanged {
            spec: spec(hourly()),
        },
    );
    assert!(after(&[(1, promoted), (2, changed), (3, closed())]).is_empty());
}

#[test]
fn many_secrets_pop_in_the_order_of_their_instants() {
    let mut timers = Timers::new();
    for n in 0..50_u8 {
        let id = RevocationId::from_bytes([n; 16]);
        let failed = revocation::Event::BackendFailed {
            attempt: 1,
            reason: String::new(),
        };
        timers.apply(at(u64::from(n) * 7 % 50), &Event::Revocation(id, failed));
    }
    let order: Vec<Timestamp> = std::iter::from_fn(|| timers.pop(at(1000)))
        .map(|fired| fired.due)
        .collect();
    assert_eq!(order.len(), 50);
    assert!(order.windows(2).all(|pair| pair[0] <= pair[1]));
}

#[test]
fn a_parked_rotation_that_is_reopened_has_a_deadline_again_and_holds_up_slots() {
    let distributing = rotation(rotation::Event::DistributionStarted {
        consumers: Vec::new(),
        hosts: vec![HostId::default()],
        old: vec![1],
        deadline: at(500),
    });
    let mut timers = after(&[(1, started()), (2, distributing), (500, closed())]);
    assert!(timers.is_empty());
    let reopened = rotation(rotation::Event::Reopened {
        secret: SECRET,
        consumers: Vec::new(),
        hosts: vec![HostId::default()],
        deadline: at(900),
    });
    timers.apply(at(600), &reopened);
    assert_eq!(timers.next_due(), Some(at(900)));
    timers.apply(at(700), &closed());
    assert!(timers.is_empty());
}
