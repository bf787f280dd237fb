//! The wait for sessions of the old credential, between the last acknowledgement and its end.

use super::*;
use crate::schedule::{Ack, OnDeadline};

const MARK: i64 = 7;

fn policy(ack: Option<Ack>) -> RotationPolicy {
    RotationPolicy {
        ack,
        ..RotationPolicy::default()
    }
}

/// Consumer 1 has to move to version 2.
fn distributing_with(rotation: RotationPolicy) -> Given {
    let spec = Spec {
        rotation,
        ..generated()
    };
    let given = Given::nothing().and(apply_secret(spec)).finished(FIRST);
    let serving = given
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(Command::Report(report(vec![reloaded(1, 1)], &[1])));
    serving.and(rotate(SECOND)).finished(SECOND)
}

/// Consumer 1 acknowledges version 2.
fn shown() -> Command {
    Command::Report(report(vec![swapped(1, 2)], &[2]))
}

/// It did, and sessions of version 1 are asked for.
fn asked_with(rotation: RotationPolicy) -> Given {
    distributing_with(rotation).when(shown()).then([
        moves_to(1, 2),
        acknowledged(1),
        barrier(),
        step(Step::Drain, 1),
    ])
}

fn asked() -> Given {
    asked_with(policy(Some(Ack::Drained)))
}

/// store-sync answers the n-th question.
fn told(attempt: u32, sessions: Option<Sessions>) -> Command {
    Command::StepOutcome {
        rotation: SECOND,
        step: Step::Drain,
        attempt,
        failure: None,
        is_away: false,
        remote: None,
        sessions,
    }
}

fn left(attempt: u32, left: u64) -> Command {
    told(attempt, Some(Sessions { mark: MARK, left }))
}

fn sessions_left(attempt: u32, sessions: u64) -> event::Event {
    own(Event::SessionsLeft {
        attempt,
        mark: MARK,
        sessions,
        since: NOW,
    })
}

fn intervene(intervention: Intervention) -> Command {
    Command::Intervene {
        rotation: SECOND,
        intervention,
        reason: "ticket 4711".to_owned(),
    }
}

fn retry() -> Command {
    Command::RetryStep { rotation: SECOND }
}

/// The old version dies, and the wait is over.
fn dies() -> [event::Event; 3] {
    [completed(Step::Drain), revoked(1), step(Step::RevokeOld, 1)]
}

#[test]
fn the_old_version_dies_once_no_session_from_before_is_left() {
    let given = asked().when(left(1, 2)).then([sessions_left(1, 2)]);
    assert!(given.secret().is_deliverable(1));
    let given = given.when(retry()).then([step(Step::Drain, 2)]);
    let given = given.at(later(9)).when(left(2, 1));
    // Since when they are waited for does not move.
    let given = given.then([sessions_left(2, 1)]);
    let given = given.and(retry()).when(left(3, 0)).then(dies());
    given.when(done(SECOND, Step::RevokeOld)).then([
        completed(Step::RevokeOld),
        closed(Outcome::Completed),
        destroyed(1),
    ]);
}

#[test]
fn the_first_question_draws_the_line_and_the_others_name_it() {
    let work = |given: &Given, attempt| {
        let rotation = &given.world().rotations[&SECOND];
        let asks = Event::StepStarted {
            step: Step::Drain,
            attempt,
        };
        match react(given.world(), rotation, &asks).remove(0).work {
            Work::Step(work) => (work.versions, work.mark),
            other @ Work::Revoke(_) => panic!("{other:?}"),
        }
    };
    let given = asked();
    assert_eq!(work(&given, 1), (vec![1], None));
    let given = given.and(left(1, 2)).and(retry());
    assert_eq!(work(&given, 2), (vec![1], Some(MARK)));
}

#[test]
fn an_answer_is_taken_once_and_only_for_the_question_that_is_open() {
    let given = asked().and(left(1, 2)).and(retry());
    for attempt in [1, 3] {
        let rejection = Rejection::StepNotOpen {
            rotation: SECOND,
            step: Step::Drain,
            attempt,
        };
        given
            .clone()
            .when(left(attempt, 0))
            .then_rejected(rejection);
    }
}

#[test]
fn a_backend_that_does_not_tell_is_on_record_and_a_grace_counts_instead() {
    let until = NOW.plus(GRACE);
    let untold = own(Event::SessionsUntold { attempt: 1, until });
    let given = asked().when(told(1, None)).then([untold]);
    let early = given.clone().at(later(GRACE.as_secs() - 1));
    let rejection = Rejection::NoDeadline(SECOND);
    early.when(deadline(SECOND)).then_rejected(rejection);
    // Who asks again does not make the grace longer.
    let again = given.clone().at(later(60)).and(retry());
    let untold = own(Event::SessionsUntold { attempt: 2, until });
    let again = again.when(told(2, None)).then([untold]);
    for given in [given, again] {
        given.at(until).when(deadline(SECOND)).then(dies());
    }
}

#[test]
fn a_backend_that_does_not_answer_is_asked_again_and_nothing_is_rolled_back() {
    let mut given = asked();
    for attempt in 1..=MAX_STEP_ATTEMPTS + 1 {
        given = given
            .when(failed(SECOND, Step::Drain, attempt))
            .then([step_failed(Step::Drain, attempt)]);
        given = given.when(retry()).then([step(Step::Drain, attempt + 1)]);
    }
    given.when(left(MAX_STEP_ATTEMPTS + 2, 0)).then(dies());
}

/// The deadline passes, and the old version lives on.
fn held(given: Given) -> Given {
    let named = own(Event::StragglersNamed {
        consumers: Vec::new(),
        hosts: Vec::new(),
    });
    let given = given.when(deadline(SECOND));
    let given = given.then([own(Event::DeadlinePassed), named]);
    assert!(given.secret().is_deliverable(1));
    assert!(given.world().rotations[&SECOND].is_held_by_sessions());
    given
}

#[test]
fn at_the_deadline_sessions_hold_the_old_version_alive_and_are_asked_for_until_they_are_gone() {
    let end = NOW.plus(ACK_DEADLINE);
    for is_asked in [false, true] {
        let given = asked().and(left(1, 2));
        let given = match is_asked {
            true => given.and(retry()),
            false => given,
        };
        let given = held(given.at(end));
        let rejection = Rejection::NoDeadline(SECOND);
        let twice = given.clone().when(deadline(SECOND));
        twice.then_rejected(rejection);
        let forced = given.clone().when(intervene(Intervention::Force));
        forced.then_among_others([own(Event::Forced), revoked(1), step(Step::RevokeOld, 1)]);
        let back = given.clone().and(intervene(Intervention::Abort));
        assert_eq!(back.secret().current, Some(1));
        let given = match is_asked {
            true => given,
            false => given.and(retry()),
        };
        let given = given.when(left(2, 1)).then([sessions_left(2, 1)]);
        given.and(retry()).when(left(3, 0)).then(dies());
    }
}

#[test]
fn sessions_that_are_known_to_be_open_are_never_ended_by_a_grace() {
    let given = asked().and(left(1, 2)).and(retry()).and(told(2, None));
    let open = &given.world().rotations[&SECOND];
    let is_asked_again = matches!(
        open.phase,
        Phase::Retrying {
            step: Step::Drain,
            attempt: 2,
            ..
        }
    );
    assert!(is_asked_again, "{:?}", open.phase);
    assert_eq!((open.drain.left, open.drain.grace), (Some(2), None));
    let given = held(given.at(NOW.plus(ACK_DEADLINE)));
    given.and(retry()).when(left(3, 0)).then(dies());
}

#[test]
fn a_server_that_tells_sessions_again_ends_the_grace_and_the_deadline_counts() {
    let given = asked().at(later(60)).and(told(1, None));
    let open = &given.world().rotations[&SECOND];
    let until = later(60).plus(GRACE);
    assert_eq!(open.waits_until(), Some(until));
    assert_eq!(open.deadline, Some(NOW.plus(ACK_DEADLINE)), "it is kept");
    let at_deadline = given.clone().at(NOW.plus(ACK_DEADLINE));
    let rejection = Rejection::NoDeadline(SECOND);
    at_deadline.when(deadline(SECOND)).then_rejected(rejection);
    let given = given.and(retry()).and(left(2, 1));
    held(given.at(NOW.plus(ACK_DEADLINE)));
}

#[test]
fn sessions_have_as_long_as_consumers_had() {
    let given = distributing_with(policy(Some(Ack::Drained))).at(later(100));
    given.when(shown()).then([
        moves_to(1, 2),
        acknowledged(1),
        barrier(),
        own(Event::DeadlineMoved {
            deadline: later(100).plus(ACK_DEADLINE),
        }),
        step(Step::Drain, 1),
    ]);
}

#[test]
fn what_a_person_revoked_is_waited_for_no_longer() {
    for is_asked in [false, true] {
        let given = asked().and(left(1, 2));
        let given = match is_asked {
            true => given.and(retry()),
            false => given,
        };
        given.when(revoke(Some(1))).then_among_others([
            revoked(1),
            completed(Step::Drain),
            step(Step::RevokeOld, 1),
        ]);
    }
}

#[test]
fn the_policy_force_ends_the_wait_for_sessions_and_so_does_a_person() {
    let forces = RotationPolicy {
        on_deadline: OnDeadline::Force,
        ..policy(Some(Ack::Drained))
    };
    let given = asked_with(forces).and(left(1, 2));
    let ended = [own(Event::Forced), revoked(1), step(Step::RevokeOld, 1)];
    let by_person = given.clone().when(intervene(Intervention::Force));
    by_person.then_among_others(ended.clone());
    let by_policy = given.at(NOW.plus(ACK_DEADLINE)).when(deadline(SECOND));
    by_policy.then_among_others(ended);
}

#[test]
fn while_sessions_are_waited_for_there_is_a_way_back() {
    for answered in [false, true] {
        let given = match answered {
            true => asked().and(left(1, 2)),
            false => asked(),
        };
        let given = given.and(intervene(Intervention::Abort));
        let open = &given.world().rotations[&SECOND];
        assert_eq!(
            (open.returning, &open.phase),
            (Some(1), &Phase::Distributing)
        );
        assert_eq!(given.secret().current, Some(1));
        // An answer that is late changes nothing.
        let attempt = 1 + u32::from(answered);
        let rejection = Rejection::StepNotOpen {
            rotation: SECOND,
            step: Step::Drain,
            attempt,
        };
        given.when(left(attempt, 0)).then_rejected(rejection);
    }
}

#[test]
fn who_goes_back_after_sessions_were_asked_for_waits_for_those_of_the_new_one() {
    let given = asked().and(left(1, 2)).and(intervene(Intervention::Abort));
    let back = Command::Report(report(vec![swapped(1, 1)], &[1]));
    let given = given.when(back).then_among_others([step(Step::Drain, 2)]);
    let given = given.and(left(2, 3)).and(retry());
    given
        .when(left(3, 0))
        .then_among_others([revoked(2), step(Step::RollBack, 1)]);
}

#[test]
fn an_incident_does_not_wait_for_sessions() {
    let given = asked().and(left(1, 2));
    let given = given.when(revoke(None));
    let given = given.then_among_others([revoked(1), revoked(2), closed(Outcome::Cancelled)]);
    given
        .when(retry())
        .then_rejected(Rejection::NoDeadline(SECOND));
}

#[test]
fn where_nothing_is_promised_the_old_version_dies_with_the_last_acknowledgement() {
    let shown = Command::Report(report(vec![swapped(1, 2)], &[2]));
    Given::distributing().when(shown).then([
        moves_to(1, 2),
        acknowledged(1),
        barrier(),
        revoked(1),
        step(Step::RevokeOld, 1),
    ]);
}
