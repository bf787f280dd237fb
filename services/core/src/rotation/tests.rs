//! One case per event and per rejection of a rotation, and its whole way from request to close.

mod canary;
mod drains;
mod interventions;
mod starts;
mod unreloaded;
mod waits;

use super::*;
use crate::assignment;
use crate::binding::Reload;
use crate::command::Command;
use crate::effect::{Effect, StepWork, Work};
use crate::event;
use crate::id::{RotationId, SecretId, SlotId};
use crate::name::SecretName;
use crate::report::{Fact, HostReport};
use crate::schedule::{RotationPolicy, Schedule};
use crate::secret::{self, Generator, Spec};
use crate::testing::{
    FIRST, Given, HOST, NOW, OTHER_HOST, SECOND, SECRET, THIRD, anywhere, apply_binding,
    apply_secret, assigned, consumer, done, drawn, enrol, env, failed, file, generated, item,
    later, of_consumer, of_rotation, of_secret, reloaded, report, restart, revoke, rotate,
    secret_name, swapped,
};
use crate::time::Timestamp;
use std::time::Duration;

fn own(event: Event) -> event::Event {
    of_rotation(SECOND, event)
}

fn step(step: Step, attempt: u32) -> event::Event {
    own(Event::StepStarted { step, attempt })
}

fn completed(step: Step) -> event::Event {
    own(Event::StepCompleted { step })
}

fn step_failed(step: Step, attempt: u32) -> event::Event {
    own(Event::StepFailed {
        step,
        attempt,
        reason: "store down".to_owned(),
    })
}

fn closed(outcome: Outcome) -> event::Event {
    own(Event::Closed { outcome })
}

fn acknowledged(n: u8) -> event::Event {
    own(Event::ConsumerAcknowledged {
        consumer: consumer(n),
    })
}

fn barrier() -> event::Event {
    own(Event::HostBarrierAcknowledged { host: HOST })
}

fn revoked(version: u64) -> event::Event {
    of_secret(secret::Event::VersionRevoked { version })
}

fn destroyed(version: u64) -> event::Event {
    of_secret(secret::Event::VersionDestroyed { version })
}

/// A consumer that has nothing of the new version yet.
fn lacking(n: u8) -> Straggler {
    Straggler {
        consumer: consumer(n),
        reason: "new value not in place yet".to_owned(),
    }
}

fn moves_to(n: u8, version: u64) -> event::Event {
    let at = NOW;
    of_consumer(n, assignment::Event::Swapped { version, at })
}

fn deadline(rotation: RotationId) -> Command {
    Command::DeadlinePassed { rotation }
}

fn due(scheduled: Timestamp) -> Command {
    Command::Due {
        rotation: SECOND,
        secret: SECRET,
        slot: SlotId::from_bytes([1; 16]),
        scheduled,
        after: None,
        tzdata: None,
    }
}

#[test]
fn the_whole_way_from_request_to_close() {
    let given = Given::serving().when(rotate(SECOND)).then([
        of_secret(secret::Event::VersionStaged {
            version: 2,
            rotation: SECOND,
        }),
        own(Event::Started {
            secret: SECRET,
            version: 2,
            trigger: Trigger::OnDemand,
        }),
        step(Step::Create, 1),
    ]);
    let created = given.when(done(SECOND, Step::Create));
    let given = created.then([completed(Step::Create), step(Step::Set, 1)]);
    let set = given.when(done(SECOND, Step::Set));
    let given = set.then([completed(Step::Set), step(Step::Test, 1)]);
    let tested = given.when(done(SECOND, Step::Test));
    let given = tested.then([completed(Step::Test), step(Step::Finish, 1)]);
    let given = given.when(done(SECOND, Step::Finish)).then([
        completed(Step::Finish),
        of_secret(secret::Event::VersionPromoted { version: 2 }),
        of_secret(secret::Event::Delivered {
            host: HOST,
            version: 2,
            delivery: drawn(1),
        }),
        of_consumer(1, assigned(2)),
        own(Event::DistributionStarted {
            consumers: vec![consumer(1)],
            hosts: vec![HOST],
            old: vec![1],
            deadline: NOW.plus(ACK_DEADLINE),
        }),
    ]);
    let shown = given.when(Command::Report(report(vec![swapped(1, 2)], &[2])));
    let given = shown.then([
        moves_to(1, 2),
        acknowledged(1),
        barrier(),
        revoked(1),
        step(Step::RevokeOld, 1),
    ]);
    let ended = given.when(done(SECOND, Step::RevokeOld)).then([
        completed(Step::RevokeOld),
        closed(Outcome::Completed),
        destroyed(1),
    ]);
    assert_eq!(ended.world().open_rotations().count(), 0);
    assert_eq!(ended.secret().alive(), [2]);
}

#[test]
fn a_first_version_nobody_waits_for_closes_at_once() {
    let ready = Given::nothing()
        .and(apply_secret(generated()))
        .and(done(FIRST, Step::Create))
        .and(done(FIRST, Step::Set))
        .and(done(FIRST, Step::Test));
    let finished = ready.when(done(FIRST, Step::Finish));
    finished.then([
        of_rotation(FIRST, Event::StepCompleted { step: Step::Finish }),
        of_secret(secret::Event::VersionPromoted { version: 1 }),
        of_rotation(
            FIRST,
            Event::DistributionStarted {
                consumers: Vec::new(),
                hosts: Vec::new(),
                old: Vec::new(),
                deadline: NOW.plus(ACK_DEADLINE),
            },
        ),
        of_rotation(
            FIRST,
            Event::Closed {
                outcome: Outcome::Completed,
            },
        ),
    ]);
}

#[test]
fn without_consumers_the_old_version_is_revoked_at_once() {
    let given = Given::first_version().and(rotate(SECOND)).finished(SECOND);
    assert_eq!(given.secret().alive(), [2]);
    let last = given.log().last();
    assert_eq!(last, Some(&step(Step::RevokeOld, 1)));
}

#[test]
fn every_started_step_asks_the_shell_and_nothing_else_does() {
    let given = Given::retiring();
    let rotation = &given.world().rotations[&SECOND];
    let effects = |event: &Event| react(given.world(), rotation, event);
    let mut asked = 0;
    for event in given.log() {
        let event::Event::Rotation(SECOND, event) = event else {
            continue;
        };
        let expected = usize::from(matches!(event, Event::StepStarted { .. }));
        assert_eq!(effects(event).len(), expected, "{event:?}");
        asked += expected;
    }
    assert_eq!(asked, 5);
    let last = effects(&Event::StepStarted {
        step: Step::RevokeOld,
        attempt: 1,
    });
    assert!(matches!(&last[0].work, Work::Step(work) if work.versions == [1]));
}

#[test]
fn an_outcome_is_taken_once_and_only_for_the_open_step_and_attempt() {
    let given = Given::serving()
        .and(rotate(SECOND))
        .and(done(SECOND, Step::Create));
    for (step, attempt) in [(Step::Create, 1), (Step::Test, 1), (Step::Set, 2)] {
        let stale = Command::StepOutcome {
            rotation: SECOND,
            step,
            attempt,
            failure: None,
            is_away: false,
            remote: None,
            sessions: None,
        };
        let rejection = Rejection::StepNotOpen {
            rotation: SECOND,
            step,
            attempt,
        };
        given.clone().when(stale).then_rejected(rejection);
    }
}

#[test]
fn a_rotation_nobody_started_is_unknown() {
    for command in [
        done(THIRD, Step::Create),
        Command::RetryStep { rotation: THIRD },
        deadline(THIRD),
    ] {
        Given::serving()
            .when(command)
            .then_rejected(Rejection::Unknown(THIRD));
    }
}

#[test]
fn a_failed_step_waits_and_is_tried_again_under_the_next_attempt() {
    let given = Given::serving().and(rotate(SECOND));
    let given = given
        .when(failed(SECOND, Step::Create, 1))
        .then([step_failed(Step::Create, 1)]);
    let retry = Command::RetryStep { rotation: SECOND };
    let given = given.when(retry.clone()).then([step(Step::Create, 2)]);
    given
        .when(retry)
        .then_rejected(Rejection::NoDeadline(SECOND));
}

/// A rotation whose step has failed as often as it may but once.
fn before_the_last_attempt(given: Given, step: Step) -> Given {
    (1..MAX_STEP_ATTEMPTS).fold(given, |given, attempt| {
        given
            .and(failed(SECOND, step, attempt))
            .and(Command::RetryStep { rotation: SECOND })
    })
}

#[test]
fn the_last_failed_attempt_rolls_back_and_consumers_keep_the_old_version() {
    let given = Given::serving()
        .and(rotate(SECOND))
        .and(done(SECOND, Step::Create));
    let given = before_the_last_attempt(given, Step::Set);
    let given = given
        .when(failed(SECOND, Step::Set, MAX_STEP_ATTEMPTS))
        .then([
            step_failed(Step::Set, MAX_STEP_ATTEMPTS),
            step(Step::RollBack, 1),
        ]);
    let given = given.when(done(SECOND, Step::RollBack)).then([
        completed(Step::RollBack),
        closed(Outcome::RolledBack),
        revoked(2),
        destroyed(2),
    ]);
    assert_eq!(
        (given.secret().current, given.secret().pending),
        (Some(1), None)
    );
    assert_eq!(given.world().assignments[&consumer(1)].assigned, 1);
    let again = given.and(rotate(THIRD));
    assert_eq!(again.secret().pending, Some(3));
}

#[test]
fn rolling_back_and_revoking_the_old_are_tried_for_ever() {
    let retiring = before_the_last_attempt(Given::retiring(), Step::RevokeOld);
    let last = failed(SECOND, Step::RevokeOld, MAX_STEP_ATTEMPTS);
    retiring
        .when(last)
        .then([step_failed(Step::RevokeOld, MAX_STEP_ATTEMPTS)]);
    let given = before_the_last_attempt(Given::serving().and(rotate(SECOND)), Step::Create);
    let given = given.and(failed(SECOND, Step::Create, MAX_STEP_ATTEMPTS));
    let given = before_the_last_attempt(given, Step::RollBack);
    let last = failed(SECOND, Step::RollBack, MAX_STEP_ATTEMPTS);
    given
        .when(last)
        .then([step_failed(Step::RollBack, MAX_STEP_ATTEMPTS)]);
}

#[test]
fn a_deadline_that_passes_parks_the_rotation_and_the_old_version_lives() {
    let at = NOW.plus(ACK_DEADLINE);
    let given = Given::distributing().at(at);
    let named = own(Event::StragglersNamed {
        consumers: vec![lacking(1)],
        hosts: vec![HOST],
    });
    let parked = [own(Event::DeadlinePassed), named, closed(Outcome::Parked)];
    let given = given.when(deadline(SECOND)).then(parked);
    assert_eq!(given.secret().alive(), [1, 2]);
    assert_eq!(given.world().open_rotations().count(), 0);
}

#[test]
fn the_rotation_after_a_parked_one_retires_both_old_versions() {
    let parked = Given::distributing()
        .at(NOW.plus(ACK_DEADLINE))
        .and(deadline(SECOND));
    let given = parked.and(rotate(THIRD)).finished(THIRD);
    let shown = given.when(Command::Report(report(vec![swapped(1, 3)], &[3])));
    shown.then_among_others([revoked(1), revoked(2)]);
}

#[test]
fn a_deadline_ahead_or_of_a_rotation_that_does_not_wait_is_refused() {
    let rejection = || Rejection::NoDeadline(SECOND);
    let early = Timestamp::from_micros(NOW.plus(ACK_DEADLINE).micros() - 1);
    Given::distributing()
        .at(early)
        .when(deadline(SECOND))
        .then_rejected(rejection());
    let at = NOW.plus(ACK_DEADLINE);
    Given::retiring()
        .at(at)
        .when(deadline(SECOND))
        .then_rejected(rejection());
    let performing = Given::serving().and(rotate(SECOND)).at(at);
    performing.when(deadline(SECOND)).then_rejected(rejection());
}

#[test]
fn a_revocation_of_the_new_version_cancels_the_rotation() {
    for given in [Given::serving().and(rotate(SECOND)), Given::distributing()] {
        let after = given
            .when(revoke(Some(2)))
            .then_among_others([revoked(2), closed(Outcome::Cancelled)]);
        assert_eq!(after.world().open_rotations().count(), 0);
        after
            .when(done(SECOND, Step::Create))
            .then_rejected(Rejection::StepNotOpen {
                rotation: SECOND,
                step: Step::Create,
                attempt: 1,
            });
    }
}

#[test]
fn a_revocation_of_the_old_version_alone_lets_the_rotation_go_on() {
    let given = Given::distributing().and(revoke(Some(1)));
    assert!(given.world().rotations[&SECOND].is_open());
    let shown = Command::Report(report(vec![swapped(1, 2)], &[2]));
    let given =
        given
            .when(shown)
            .then_among_others([acknowledged(1), barrier(), step(Step::RevokeOld, 1)]);
    assert_eq!(given.secret().alive(), [2]);
}
