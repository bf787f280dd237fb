//! What a report says of the past: consumers that vanished unseen, and starts told of late.

use crate::assignment;
use crate::binding::Reload;
use crate::command::Command;
use crate::report::Fact;
use crate::revocation;
use crate::rotation::{self, Phase, Straggler};
use crate::testing::{
    Given, HOST, NOW, OTHER_HOST, REVOCATION, SECOND, SECRET, assigned, consumer, container, enrol,
    evict, file, item, of_consumer, of_revocation, of_rotation, reloaded, report, revoke, rotate,
    swapped,
};

fn a_complete_report_of(containers: &[u8], holds: &[u64]) -> Command {
    Command::Report(crate::report::HostReport {
        containers: containers.iter().copied().map(container).collect(),
        ..report(Vec::new(), holds)
    })
}

#[test]
fn a_consumer_that_a_complete_report_does_not_name_has_vanished() {
    let gone = assignment::Event::Vanished;
    let after = Given::serving()
        .when(a_complete_report_of(&[2], &[]))
        .then([of_consumer(1, gone)]);
    assert!(after.world().assignments.is_empty());
}

#[test]
fn a_ghost_holds_up_no_rotation() {
    let given = Given::distributing().and(a_complete_report_of(&[], &[2]));
    assert!(given.world().rotations[&SECOND].waiting.is_empty());
    assert!(given.world().rotations[&SECOND].phase != crate::rotation::Phase::Distributing);
}

#[test]
fn who_is_named_or_left_out_of_a_part_of_a_report_stays() {
    Given::serving()
        .when(a_complete_report_of(&[1], &[1]))
        .then_nothing();
    let part = crate::report::HostReport {
        complete: false,
        containers: Vec::new(),
        ..report(Vec::new(), &[1])
    };
    Given::serving().when(Command::Report(part)).then_nothing();
    let by_item = crate::report::HostReport {
        containers: Vec::new(),
        ..report(vec![swapped(1, 1)], &[1])
    };
    let after = Given::serving().and(Command::Report(by_item));
    assert_eq!(after.world().assignments.len(), 1);
}

#[test]
fn a_late_start_on_an_older_version_is_history_and_acknowledges_nothing() {
    let given = Given::distributing();
    let late = report(vec![swapped(2, 1), reloaded(2, 1)], &[1, 2]);
    let given = given.when(Command::Report(late)).then([
        of_consumer(2, assigned(1)),
        of_consumer(
            2,
            assignment::Event::Swapped {
                version: 1,
                at: NOW,
            },
        ),
        of_consumer(
            2,
            assignment::Event::Reloaded {
                version: 1,
                at: NOW,
            },
        ),
    ]);
    let open = &given.world().rotations[&SECOND];
    assert!(open.waiting.contains(&consumer(1)) && open.is_open());
    assert_eq!(given.world().consumers(SECRET).count(), 2);
    let gone = report(vec![item(2, Fact::Withdrawn)], &[1, 2]);
    let given = given
        .when(Command::Report(gone))
        .then([of_consumer(2, assignment::Event::Withdrawn)]);
    assert_eq!(given.world().consumers(SECRET).count(), 1);
}

#[test]
fn a_late_start_on_a_version_dead_since_is_history_until_it_is_withdrawn() {
    let given = Given::serving().and(revoke(None));
    let late = report(vec![swapped(2, 1)], &[1]);
    let given = given.when(Command::Report(late)).then([
        of_consumer(2, assigned(1)),
        of_consumer(
            2,
            assignment::Event::Swapped {
                version: 1,
                at: NOW,
            },
        ),
    ]);
    assert!(!given.world().revocations[&REVOCATION].waiting.is_empty());
    let gone = report(vec![item(2, Fact::Withdrawn)], &[]);
    given.when(Command::Report(gone)).then_among_others([
        of_consumer(2, assignment::Event::Withdrawn),
        of_revocation(revocation::Event::WithdrawnOnHost { host: HOST }),
    ]);
}

#[test]
fn history_never_takes_back_what_is_known_since_nor_invents_a_version() {
    let given = Given::retiring();
    given
        .when(Command::Report(report(vec![swapped(1, 1)], &[2])))
        .then_nothing();
    let never = report(vec![swapped(2, 9)], &[1]);
    Given::serving().when(Command::Report(never)).then_nothing();
}

/// Version 2 is on its way by signal; a start on version 1 is told of, and then that its file is new. Consumer
/// 1 is through.
fn a_late_start_that_was_not_told(serving: Given) -> Given {
    let late = report(vec![swapped(2, 1), reloaded(2, 1)], &[1]);
    let half = report(vec![reloaded(1, 2), swapped(2, 2)], &[2]);
    serving
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(Command::Report(late))
        .and(Command::Report(half))
}

fn serving_by_signal() -> Given {
    Given::serving_as(file(), Reload::Signal(1))
}

#[test]
fn a_late_start_whose_program_runs_on_the_old_version_keeps_it_alive() {
    let given = a_late_start_that_was_not_told(serving_by_signal());
    let open = &given.world().rotations[&SECOND];
    assert!(open.is_settled() && open.phase == Phase::Distributing);
    assert_eq!(given.secret().alive(), [1, 2]);
    let told = report(vec![reloaded(2, 2)], &[2]);
    let given = given.and(Command::Report(told));
    assert_eq!(given.secret().alive(), [2]);
}

#[test]
fn a_start_on_the_new_version_keeps_no_old_one_alive() {
    let began = report(vec![reloaded(1, 2), swapped(2, 2)], &[2]);
    let given = serving_by_signal()
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(Command::Report(began));
    assert_eq!(given.secret().alive(), [2]);
}

#[test]
fn who_was_told_of_too_late_to_be_waited_for_is_a_straggler_all_the_same() {
    let given = a_late_start_that_was_not_told(serving_by_signal());
    let deadline = given.world().rotations[&SECOND].deadline.unwrap();
    let named = rotation::Event::StragglersNamed {
        consumers: vec![Straggler {
            consumer: consumer(2),
            reason: "has the new value, reload not confirmed yet".to_owned(),
        }],
        hosts: Vec::new(),
    };
    given
        .at(deadline)
        .when(Command::DeadlinePassed { rotation: SECOND })
        .then_among_others([of_rotation(SECOND, named)]);
}

#[test]
fn an_eviction_ends_no_wait_for_a_program_that_runs_on_the_old_version() {
    let serving = serving_by_signal().and(enrol(OTHER_HOST));
    let given = a_late_start_that_was_not_told(serving).and(evict(OTHER_HOST));
    assert!(given.world().rotations[&SECOND].is_settled());
    assert_eq!(given.secret().alive(), [1, 2]);
}
