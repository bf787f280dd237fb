//! What a rotation waits for: consumers, and hosts that may hold an older version.

use super::*;

#[test]
fn a_consumer_that_vanished_or_was_withdrawn_is_waited_for_no_more() {
    for fact in [Fact::Vanished, Fact::Withdrawn] {
        let gone = Command::Report(report(vec![item(1, fact)], &[]));
        let expected = [acknowledged(1), barrier(), revoked(1)];
        Given::distributing().when(gone).then_among_others(expected);
    }
}

#[test]
fn a_consumer_that_must_reload_is_not_done_when_swapped() {
    let given = Given::serving_as(file(), Reload::Signal(1))
        .and(rotate(SECOND))
        .finished(SECOND);
    let half = Command::Report(report(vec![swapped(1, 2)], &[2]));
    let given = given.when(half).then([moves_to(1, 2), barrier()]);
    let at = NOW;
    let told = given.when(Command::Report(report(vec![reloaded(1, 2)], &[2])));
    told.then([
        of_consumer(1, assignment::Event::Reloaded { version: 2, at }),
        acknowledged(1),
        revoked(1),
        step(Step::RevokeOld, 1),
    ]);
}

#[test]
fn an_env_consumer_is_done_when_it_was_restarted() {
    let given = Given::serving_as(env(), restart())
        .and(rotate(SECOND))
        .finished(SECOND);
    let restarted = Command::Report(report(vec![reloaded(1, 2)], &[2]));
    given
        .when(restarted)
        .then_among_others([acknowledged(1), revoked(1)]);
}

#[test]
fn a_refused_consumer_that_runs_on_the_old_version_is_waited_for() {
    let fact = Fact::Refused {
        version: 2,
        reason: "no space".to_owned(),
    };
    let refused = Command::Report(report(vec![item(1, fact)], &[1]));
    let given = Given::distributing().and(refused);
    assert!(
        given.world().rotations[&SECOND]
            .waiting
            .contains(&consumer(1))
    );
}

#[test]
fn a_consumer_refused_before_its_first_copy_holds_no_rotation_up() {
    let fact = Fact::Refused {
        version: 1,
        reason: "not under the runtime".to_owned(),
    };
    let refused = Command::Report(report(vec![item(2, fact)], &[1]));
    let given = Given::serving()
        .and(refused)
        .and(rotate(SECOND))
        .finished(SECOND);
    let rotation = &given.world().rotations[&SECOND];
    assert!(rotation.waiting.contains(&consumer(1)) && !rotation.waiting.contains(&consumer(2)));
    let shown = Command::Report(report(vec![swapped(1, 2)], &[2]));
    given
        .when(shown)
        .then_among_others([acknowledged(1), revoked(1)]);
}

#[test]
fn a_binding_that_asks_less_during_the_rotation_lets_a_swapped_consumer_pass() {
    let given = Given::serving_as(file(), Reload::Signal(1))
        .and(rotate(SECOND))
        .finished(SECOND);
    let given = given
        .and(Command::Report(report(vec![swapped(1, 2)], &[2])))
        .and(apply_binding(anywhere(), file(), Reload::None));
    let nothing_new = Command::Report(report(Vec::new(), &[2]));
    given
        .when(nothing_new)
        .then([acknowledged(1), revoked(1), step(Step::RevokeOld, 1)]);
}

/// A report that moves consumer 1 but does not open the barrier.
fn moves_only(report: HostReport) {
    let given = Given::distributing().when(Command::Report(report));
    given.then([moves_to(1, 2), acknowledged(1)]);
}

#[test]
fn an_incomplete_report_does_not_open_the_barrier() {
    let mut partial = report(vec![swapped(1, 2)], &[2]);
    partial.complete = false;
    moves_only(partial);
}

#[test]
fn a_report_of_an_older_plan_does_not_open_the_barrier_and_one_of_that_plan_does() {
    let given = Given::distributing();
    let generation = given.world().rotations[&SECOND].generation;
    assert!(given.world().host_generation(HOST) >= generation);
    let mut older = report(vec![swapped(1, 2)], &[2]);
    older.generation = generation - 1;
    moves_only(older);
    let mut same = report(vec![swapped(1, 2)], &[2]);
    same.generation = generation;
    given
        .when(Command::Report(same))
        .then_among_others([barrier(), revoked(1)]);
}

#[test]
fn a_host_that_still_holds_the_old_version_does_not_open_the_barrier() {
    moves_only(report(vec![swapped(1, 2)], &[1, 2]));
}

#[test]
fn every_host_that_was_granted_the_old_version_is_waited_for() {
    let given = Given::first_version()
        .and(enrol(HOST))
        .and(enrol(OTHER_HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(rotate(SECOND))
        .finished(SECOND);
    let given = given
        .when(Command::Report(report(Vec::new(), &[])))
        .then([barrier()]);
    let mut other = report(Vec::new(), &[]);
    other.host = OTHER_HOST;
    given
        .when(Command::Report(other))
        .then_among_others([revoked(1)]);
}

#[test]
fn a_stale_report_of_the_old_version_does_not_bring_it_back() {
    let given = Given::distributing();
    let stale = Command::Report(report(vec![swapped(1, 1)], &[1]));
    given.when(stale.clone()).then_nothing();
    Given::retiring().when(stale).then_nothing();
}

#[test]
fn a_repeated_report_changes_nothing() {
    let acknowledged = Command::Report(report(vec![swapped(1, 2)], &[2]));
    Given::retiring().when(acknowledged).then_nothing();
}
