//! What a person, or a secret's deadline policy, makes of a rotation: abort, retry, force.

use super::*;
use crate::binding::AckLevel;
use crate::schedule::{OnDeadline, RotationPolicy};

const WHY: &str = "ticket 4711";

fn intervene(intervention: Intervention) -> Command {
    Command::Intervene {
        rotation: SECOND,
        intervention,
        reason: format!(" {WHY} "),
    }
}

fn said(intervention: Intervention) -> event::Event {
    own(Event::Intervened {
        intervention,
        reason: WHY.to_owned(),
    })
}

fn parked() -> Given {
    Given::distributing()
        .at(NOW.plus(ACK_DEADLINE))
        .and(deadline(SECOND))
}

fn named() -> event::Event {
    own(Event::StragglersNamed {
        consumers: vec![lacking(1)],
        hosts: vec![HOST],
    })
}

fn reopened(consumers: Vec<assignment::Key>, hosts: Vec<crate::id::HostId>) -> event::Event {
    own(Event::Reopened {
        secret: SECRET,
        consumers,
        hosts,
        deadline: NOW.plus(ACK_DEADLINE).plus(ACK_DEADLINE),
    })
}

fn promoted(version: u64) -> event::Event {
    of_secret(secret::Event::VersionPromoted { version })
}

const ALL: [Intervention; 3] = [
    Intervention::Abort,
    Intervention::Retry,
    Intervention::Force,
];

#[test]
fn whoever_steps_in_says_why_and_names_a_rotation_that_there_is() {
    for intervention in ALL {
        let silent = Command::Intervene {
            rotation: SECOND,
            intervention,
            reason: " \n".to_owned(),
        };
        Given::distributing()
            .when(silent)
            .then_rejected(Rejection::ReasonMissing);
        Given::serving()
            .when(intervene(intervention))
            .then_rejected(Rejection::Unknown(SECOND));
    }
}

#[test]
fn a_reason_has_a_longest() {
    let with = |chars: usize| Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Force,
        reason: "ä".repeat(chars),
    };
    Given::distributing()
        .when(with(MAX_REASON_CHARS))
        .then_among_others([own(Event::Forced)]);
    Given::distributing()
        .when(with(MAX_REASON_CHARS + 1))
        .then_rejected(Rejection::ReasonTooLong);
}

#[test]
fn an_abort_rolls_back_once_the_step_under_way_is_answered() {
    for fails in [false, true] {
        let given = Given::serving().and(rotate(SECOND));
        let given = given.and(done(SECOND, Step::Create));
        let abort = given.when(intervene(Intervention::Abort));
        let given = abort.then([said(Intervention::Abort)]);
        let rejection = Rejection::AbortedAlready(SECOND);
        let again = given.clone().when(intervene(Intervention::Abort));
        again.then_rejected(rejection);
        let given = match fails {
            true => given
                .when(failed(SECOND, Step::Set, 1))
                .then([step_failed(Step::Set, 1), step(Step::RollBack, 1)]),
            false => given
                .when(done(SECOND, Step::Set))
                .then([completed(Step::Set), step(Step::RollBack, 1)]),
        };
        let given = given.when(done(SECOND, Step::RollBack)).then([
            completed(Step::RollBack),
            closed(Outcome::RolledBack),
            revoked(2),
            destroyed(2),
        ]);
        assert_eq!(given.secret().current, Some(1));
    }
}

#[test]
fn an_abort_of_a_failed_step_rolls_back_at_once() {
    let given = Given::serving()
        .and(rotate(SECOND))
        .and(failed(SECOND, Step::Create, 1));
    given
        .when(intervene(Intervention::Abort))
        .then([said(Intervention::Abort), step(Step::RollBack, 1)]);
}

#[test]
fn while_nobody_knows_what_is_current_nothing_is_aborted() {
    let finishing = [Step::Create, Step::Set, Step::Test]
        .into_iter()
        .fold(Given::serving().and(rotate(SECOND)), |given, step| {
            given.and(done(SECOND, step))
        });
    let failing = finishing.clone().and(failed(SECOND, Step::Finish, 1));
    for given in [finishing, failing] {
        given
            .when(intervene(Intervention::Abort))
            .then_rejected(Rejection::Promoting(SECOND));
    }
}

#[test]
fn an_abort_after_the_promotion_promotes_the_old_version_again() {
    let given = Given::distributing()
        .when(intervene(Intervention::Abort))
        .then_among_others([
            said(Intervention::Abort),
            promoted(1),
            of_consumer(1, assigned(1)),
        ]);
    let open = &given.world().rotations[&SECOND];
    assert_eq!((open.returning, open.wanted()), (Some(1), 1));
    assert!(given.secret().is_deliverable(2));
    let back = Command::Report(report(vec![swapped(1, 1)], &[1]));
    let given = given
        .when(back)
        .then_among_others([revoked(2), step(Step::RollBack, 1)]);
    let given = given
        .when(done(SECOND, Step::RollBack))
        .then_among_others([closed(Outcome::RolledBack)]);
    assert_eq!(given.secret().current, Some(1));
    assert_eq!(given.secret().alive(), [1]);
}

#[test]
fn an_abort_of_a_parked_rotation_promotes_the_old_version_again() {
    let given = parked()
        .when(intervene(Intervention::Abort))
        .then_among_others([
            said(Intervention::Abort),
            reopened(vec![consumer(1)], vec![HOST]),
            promoted(1),
        ]);
    assert_eq!(given.world().open_rotation(SECRET).unwrap().id, SECOND);
}

#[test]
fn what_has_no_way_back_is_not_aborted() {
    let secret = secret_name();
    let old_is_dead = Given::distributing().and(revoke(Some(1)));
    old_is_dead
        .when(intervene(Intervention::Abort))
        .then_rejected(Rejection::NoWayBack {
            rotation: SECOND,
            secret: secret.clone(),
        });
    let nothing = |state| Rejection::NothingToAbort {
        rotation: SECOND,
        secret: secret.clone(),
        state,
    };
    Given::retiring()
        .when(intervene(Intervention::Abort))
        .then_rejected(nothing("takes its other version out of use already"));
    Given::retiring()
        .and(done(SECOND, Step::RevokeOld))
        .when(intervene(Intervention::Abort))
        .then_rejected(nothing("has ended"));
    Given::distributing()
        .and(intervene(Intervention::Abort))
        .when(intervene(Intervention::Abort))
        .then_rejected(nothing("goes back to the version before already"));
}

#[test]
fn a_failed_step_is_retried_by_hand() {
    let given = Given::serving()
        .and(rotate(SECOND))
        .and(failed(SECOND, Step::Create, 1));
    given
        .when(intervene(Intervention::Retry))
        .then([said(Intervention::Retry), step(Step::Create, 2)]);
    Given::distributing()
        .when(intervene(Intervention::Retry))
        .then_rejected(Rejection::NothingToRetry(SECOND));
}

#[test]
fn a_parked_rotation_that_is_retried_waits_for_whoever_lacks_something_and_completes() {
    let given = parked().when(intervene(Intervention::Retry)).then([
        said(Intervention::Retry),
        reopened(vec![consumer(1)], vec![HOST]),
    ]);
    let rejection = Rejection::AlreadyOpen {
        secret: secret_name(),
        rotation: SECOND,
    };
    given.clone().when(rotate(THIRD)).then_rejected(rejection);
    let shown = Command::Report(report(vec![swapped(1, 2)], &[2]));
    let given = given.when(shown).then([
        moves_to(1, 2),
        acknowledged(1),
        barrier(),
        revoked(1),
        step(Step::RevokeOld, 1),
    ]);
    let given = given.and(done(SECOND, Step::RevokeOld));
    assert_eq!(given.secret().alive(), [2]);
    assert_eq!(given.world().open_rotations().count(), 0);
}

#[test]
fn a_retry_waits_for_nobody_who_moved_while_it_was_parked() {
    let late = Command::Report(report(vec![swapped(1, 2)], &[2]));
    parked()
        .and(late)
        .when(intervene(Intervention::Retry))
        .then([said(Intervention::Retry), reopened(Vec::new(), vec![HOST])]);
}

#[test]
fn a_parked_rotation_that_another_one_came_after_is_passed_by() {
    let given = parked().and(rotate(THIRD));
    for intervention in ALL {
        given
            .clone()
            .when(intervene(intervention))
            .then_rejected(Rejection::AlreadyOpen {
                secret: secret_name(),
                rotation: THIRD,
            });
    }
    let later = given.finished(THIRD);
    let shown = Command::Report(report(vec![swapped(1, 3)], &[3]));
    let ended = later.and(shown).and(done(THIRD, Step::RevokeOld));
    for intervention in ALL {
        ended
            .clone()
            .when(intervene(intervention))
            .then_rejected(Rejection::PassedBy {
                rotation: SECOND,
                secret: secret_name(),
            });
    }
}

#[test]
fn a_force_names_who_is_left_behind_and_revokes_the_old_version() {
    let end = [
        named(),
        own(Event::Forced),
        revoked(1),
        step(Step::RevokeOld, 1),
    ];
    let given = Given::distributing()
        .when(intervene(Intervention::Force))
        .then_among_others(end.clone());
    assert!(given.world().rotations[&SECOND].forced);
    let expected = [
        said(Intervention::Force),
        reopened(vec![consumer(1)], vec![HOST]),
    ];
    let given = parked()
        .when(intervene(Intervention::Force))
        .then(expected.into_iter().chain(end));
    let given = given
        .when(done(SECOND, Step::RevokeOld))
        .then_among_others([closed(Outcome::Completed), destroyed(1)]);
    assert_eq!(given.secret().alive(), [2]);
}

#[test]
fn a_force_of_what_waits_for_no_consumer_is_refused() {
    for given in [Given::serving().and(rotate(SECOND)), Given::retiring()] {
        given
            .when(intervene(Intervention::Force))
            .then_rejected(Rejection::NothingToForce(SECOND));
    }
}

fn serving_with(rotation: RotationPolicy) -> Given {
    let spec = Spec {
        rotation,
        ..generated()
    };
    Given::serving()
        .and(apply_secret(spec))
        .and(rotate(SECOND))
        .finished(SECOND)
}

#[test]
fn a_deadline_is_the_secret_s_own() {
    let waits = Duration::from_secs(42);
    let given = serving_with(RotationPolicy {
        deadline: Some(waits),
        ..RotationPolicy::default()
    });
    let known = given.world().rotations[&SECOND].deadline;
    assert_eq!(known, Some(NOW.plus(waits)));
    let given = given.at(NOW.plus(waits)).when(deadline(SECOND));
    given.then_among_others([closed(Outcome::Parked)]);
}

#[test]
fn with_force_the_deadline_revokes_the_old_version_on_the_record() {
    let policy = RotationPolicy {
        on_deadline: OnDeadline::Force,
        ..RotationPolicy::default()
    };
    let at = NOW.plus(ACK_DEADLINE);
    let given = serving_with(policy.clone()).at(at);
    let given = given.when(deadline(SECOND)).then([
        own(Event::DeadlinePassed),
        named(),
        own(Event::Forced),
        revoked(1),
        step(Step::RevokeOld, 1),
    ]);
    assert_eq!(given.secret().alive(), [2]);
    // Of two versions that containers may run on, a person decides.
    let back = serving_with(policy)
        .and(intervene(Intervention::Abort))
        .at(NOW.plus(ACK_DEADLINE));
    let parked = back.when(deadline(SECOND));
    let parked = parked.then_among_others([closed(Outcome::Parked)]);
    assert_eq!(parked.secret().alive(), [1, 2]);
}

/// Consumer 1 is to be told of a file by a signal, and has version 1 without having shown that it took it; version
/// 2 is promoted.
fn untold() -> Given {
    Given::first_version()
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), Reload::Signal(1)))
        .and(Command::Report(report(vec![swapped(1, 1)], &[1])))
        .and(rotate(SECOND))
        .finished(SECOND)
}

#[test]
fn what_a_container_shows_late_of_the_version_it_has_counts_when_that_one_is_back() {
    let late = Command::Report(report(vec![reloaded(1, 1)], &[1]));
    let shown = of_consumer(
        1,
        assignment::Event::Reloaded {
            version: 1,
            at: NOW,
        },
    );
    let given = untold().when(late.clone()).then([shown]);
    let given = given.when(late).then_nothing();
    let known = &given.world().assignments[&consumer(1)];
    let has = (known.holds, known.assigned, known.shown);
    assert_eq!(has, (1, 2, Some(AckLevel::Reloaded)));
    assert_eq!(known.progress, assignment::Progress::Waiting);
    assert!(
        given.world().rotations[&SECOND]
            .waiting
            .contains(&consumer(1))
    );
    let given = given.and(intervene(Intervention::Abort));
    let open = &given.world().rotations[&SECOND];
    assert_eq!((open.returning, open.waiting.len()), (Some(1), 0));
}

#[test]
fn a_stale_word_of_a_version_below_the_one_that_is_known_changes_nothing() {
    let given = untold().and(Command::Report(report(vec![reloaded(1, 2)], &[2])));
    let given = given.and(done(SECOND, Step::RevokeOld));
    let given = given.and(rotate(THIRD)).finished(THIRD);
    // Version 1 is dead and below what is known: nothing of it comes back.
    let stale = Command::Report(report(vec![swapped(1, 1)], &[2]));
    given.when(stale).then_nothing();
}
