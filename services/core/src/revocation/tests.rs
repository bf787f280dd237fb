//! One case per event and per rejection of a revocation. Revoke beats rotate.

use super::*;
use crate::binding::Reload;
use crate::command::Command;
use crate::event;
use crate::plan::plan_host;
use crate::report::Fact;
use crate::rotation::{Outcome, Step};
use crate::secret;
use crate::testing::{
    FIRST, Given, HOST, OTHER_HOST, REVOCATION, SECOND, SECRET, anywhere, apply_binding,
    apply_secret, done, enrol, file, generated, item, of_consumer, of_revocation, of_rotation,
    of_secret, report, revoke, rotate, secret_name, swapped,
};
use crate::{assignment, rotation};

fn requested(versions: &[u64], hosts: &[HostId]) -> event::Event {
    of_revocation(Event::Requested {
        secret: SECRET,
        versions: versions.to_vec(),
        hosts: hosts.to_vec(),
        reason: "leaked".to_owned(),
        is_to_prove: false,
        is_emergency: false,
    })
}

#[test]
fn what_no_host_held_is_withdrawn_everywhere_with_the_request() {
    let given = Given::first_version().and(revoke(None));
    let log: Vec<_> = given.log().iter().rev().take(2).cloned().collect();
    let everywhere = of_revocation(Event::WithdrawnEverywhere);
    assert_eq!(log, [everywhere.clone(), requested(&[1], &[])]);
    let held = Given::serving().and(revoke(None));
    assert!(!held.log().contains(&everywhere));
}

#[test]
fn an_emergency_is_in_the_event_and_in_the_work() {
    for is_emergency in [false, true] {
        let command = Command::Revoke {
            revocation: REVOCATION,
            secret: secret_name(),
            version: None,
            reason: "leaked".to_owned(),
            is_emergency,
        };
        let given = Given::serving().and(command);
        let found = given.log().iter().find_map(|event| match event {
            event::Event::Revocation(_, event @ Event::Requested { .. }) => Some(event),
            _ => None,
        });
        let requested = found.unwrap();
        let Event::Requested {
            is_emergency: told, ..
        } = requested
        else {
            panic!("{requested:?}");
        };
        assert_eq!(*told, is_emergency);
        let open = &given.world().revocations[&REVOCATION];
        let effects = super::react(given.world(), open, requested);
        let Work::Revoke(work) = &effects[0].work else {
            panic!("{effects:?}");
        };
        assert_eq!(work.is_emergency, is_emergency);
    }
}

fn revoked(version: u64) -> event::Event {
    of_secret(secret::Event::VersionRevoked { version })
}

fn confirmed(attempt: u32) -> Command {
    Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt,
        failure: None,
    }
}

fn store_down(attempt: u32) -> Command {
    Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt,
        failure: Some("store down".to_owned()),
    }
}

fn retry() -> Command {
    Command::RetryRevoke {
        revocation: REVOCATION,
    }
}

fn withdrawn_report() -> Command {
    Command::Report(report(vec![item(1, Fact::Withdrawn)], &[]))
}

#[test]
fn a_request_kills_the_versions_first_and_names_the_hosts_that_hold_them() {
    let given = Given::serving().when(revoke(Some(1)));
    let given = given.then([revoked(1), requested(&[1], &[HOST])]);
    let plan = plan_host(given.world(), HOST).unwrap();
    assert_eq!(
        (plan.bindings[0].current, plan.bindings[0].floor),
        (None, 1)
    );
    assert_eq!(
        plan.generation,
        given.world().revocations[&REVOCATION].generation
    );
}

#[test]
fn withdrawing_first_then_confirming_closes() {
    let given = Given::serving()
        .and(revoke(None))
        .when(withdrawn_report())
        .then([
            of_consumer(1, assignment::Event::Withdrawn),
            of_revocation(Event::WithdrawnOnHost { host: HOST }),
            of_revocation(Event::WithdrawnEverywhere),
        ]);
    let given = given.when(confirmed(1)).then([
        of_revocation(Event::BackendConfirmed),
        of_secret(secret::Event::VersionDestroyed { version: 1 }),
        of_revocation(Event::Destroyed),
        of_revocation(Event::Closed),
    ]);
    assert!(given.world().revocations[&REVOCATION].closed);
}

#[test]
fn confirming_first_then_withdrawing_closes() {
    let given = Given::serving().and(revoke(None)).when(confirmed(1)).then([
        of_revocation(Event::BackendConfirmed),
        of_secret(secret::Event::VersionDestroyed { version: 1 }),
        of_revocation(Event::Destroyed),
    ]);
    given.when(withdrawn_report()).then([
        of_consumer(1, assignment::Event::Withdrawn),
        of_revocation(Event::WithdrawnOnHost { host: HOST }),
        of_revocation(Event::WithdrawnEverywhere),
        of_revocation(Event::Closed),
    ]);
}

#[test]
fn a_version_no_host_ever_had_closes_on_the_store_s_word_alone() {
    let given = Given::first_version().and(revoke(None));
    given
        .when(confirmed(1))
        .then_among_others([of_revocation(Event::Closed)]);
}

#[test]
fn what_a_cancelled_rotation_was_about_to_destroy_is_destroyed_by_the_revocation() {
    let given = Given::retiring().when(revoke(None)).then([
        revoked(2),
        of_rotation(
            SECOND,
            rotation::Event::Closed {
                outcome: Outcome::Cancelled,
            },
        ),
        requested(&[1, 2], &[HOST]),
    ]);
    given.when(confirmed(1)).then_among_others([
        of_secret(secret::Event::VersionDestroyed { version: 1 }),
        of_secret(secret::Event::VersionDestroyed { version: 2 }),
    ]);
    // What it destroyed already is nothing to ask for again.
    let ended = Given::retiring().and(done(SECOND, Step::RevokeOld));
    ended
        .when(revoke(None))
        .then([revoked(2), requested(&[2], &[HOST])]);
}

#[test]
fn a_failing_store_is_asked_again_for_ever() {
    let mut given = Given::serving().and(revoke(None));
    for attempt in 1..=20 {
        let failure = of_revocation(Event::BackendFailed {
            attempt,
            reason: "store down".to_owned(),
        });
        given = given.when(store_down(attempt)).then([failure]);
        let again = of_revocation(Event::BackendRetried {
            attempt: attempt + 1,
        });
        given = given.when(retry()).then([again]);
    }
    given
        .when(confirmed(21))
        .then_among_others([of_revocation(Event::BackendConfirmed)]);
}

#[test]
fn the_request_and_each_retry_ask_the_shell_and_nothing_else_does() {
    let given = Given::serving()
        .and(revoke(None))
        .and(store_down(1))
        .and(retry());
    let given = given.and(confirmed(2)).and(withdrawn_report());
    let revocation = &given.world().revocations[&REVOCATION];
    let mut attempts = Vec::new();
    for event in given.log() {
        let event::Event::Revocation(_, event) = event else {
            continue;
        };
        for effect in react(given.world(), revocation, event) {
            let Work::Revoke(work) = effect.work else {
                panic!("{event:?}");
            };
            assert_eq!((work.secret, work.versions), (SECRET, vec![1]));
            attempts.push(work.attempt);
        }
    }
    assert_eq!(attempts, [1, 2]);
}

#[test]
fn a_report_that_is_partial_old_or_still_holds_the_version_withdraws_nothing() {
    let given = Given::serving().and(revoke(None));
    let generation = given.world().revocations[&REVOCATION].generation;
    let clear = report(Vec::new(), &[]);
    let mut partial = clear.clone();
    partial.complete = false;
    let mut older = clear.clone();
    older.generation = generation - 1;
    let holding = report(Vec::new(), &[1]);
    for report in [partial, older, holding] {
        given.clone().when(Command::Report(report)).then_nothing();
    }
    let mut same = clear;
    same.generation = generation;
    let withdrawn = of_revocation(Event::WithdrawnOnHost { host: HOST });
    let gone = of_consumer(1, assignment::Event::Withdrawn);
    let everywhere = of_revocation(Event::WithdrawnEverywhere);
    given
        .when(Command::Report(same))
        .then([gone, withdrawn, everywhere]);
}

#[test]
fn each_host_that_was_granted_a_version_withdraws_for_itself() {
    let given = Given::first_version()
        .and(enrol(HOST))
        .and(enrol(OTHER_HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(revoke(None))
        .and(confirmed(1));
    let mut other = report(Vec::new(), &[]);
    other.host = OTHER_HOST;
    let first = given.when(Command::Report(report(Vec::new(), &[])));
    let given = first.then([of_revocation(Event::WithdrawnOnHost { host: HOST })]);
    given.when(Command::Report(other)).then([
        of_revocation(Event::WithdrawnOnHost { host: OTHER_HOST }),
        of_revocation(Event::WithdrawnEverywhere),
        of_revocation(Event::Closed),
    ]);
}

#[test]
fn revoking_everything_during_a_rotation_cancels_it_and_beats_its_outcome() {
    let given = Given::serving()
        .and(rotate(SECOND))
        .when(revoke(None))
        .then([
            revoked(1),
            revoked(2),
            of_rotation(
                SECOND,
                rotation::Event::Closed {
                    outcome: Outcome::Cancelled,
                },
            ),
            requested(&[1, 2], &[HOST]),
        ]);
    let late = rotation::Rejection::StepNotOpen {
        rotation: SECOND,
        step: Step::Create,
        attempt: 1,
    };
    given.when(done(SECOND, Step::Create)).then_rejected(late);
}

#[test]
fn a_revoke_before_the_first_version_is_made_cancels_its_rotation() {
    let given = Given::nothing()
        .and(apply_secret(generated()))
        .and(revoke(None));
    assert_eq!(given.world().open_rotations().count(), 0);
    assert_eq!(
        given.world().rotations[&FIRST].phase,
        rotation::Phase::Closed(Outcome::Cancelled)
    );
}

#[test]
fn a_new_version_after_the_revocation_reaches_the_same_containers() {
    let given = Given::serving()
        .and(revoke(None))
        .and(withdrawn_report())
        .and(confirmed(1))
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(Command::Report(report(vec![swapped(1, 2)], &[2])));
    let holds: Vec<u64> = given
        .world()
        .consumers(SECRET)
        .map(|(_, state)| state.holds)
        .collect();
    assert_eq!(holds, [2]);
    assert_eq!(given.world().open_rotations().count(), 0);
}

#[test]
fn nothing_alive_leaves_nothing_to_revoke() {
    let rejection = Rejection::NothingAlive {
        secret: secret_name(),
    };
    let given = Given::serving().and(revoke(None));
    given.when(revoke(None)).then_rejected(rejection);
}

#[test]
fn a_dead_version_is_not_revoked_again() {
    let rejection = secret::Rejection::VersionDead {
        secret: secret_name(),
        version: 1,
    };
    let given = Given::serving().and(revoke(None));
    given.when(revoke(Some(1))).then_rejected(rejection);
}

#[test]
fn a_revocation_needs_a_reason() {
    for reason in ["", "  \n"] {
        let command = Command::Revoke {
            revocation: REVOCATION,
            secret: secret_name(),
            version: None,
            reason: reason.to_owned(),
            is_emergency: false,
        };
        Given::serving()
            .when(command)
            .then_rejected(Rejection::ReasonMissing);
    }
}

#[test]
fn an_outcome_is_taken_once_and_only_for_the_open_attempt() {
    let not_open = |attempt| Rejection::AttemptNotOpen {
        revocation: REVOCATION,
        attempt,
    };
    let given = Given::serving().and(revoke(None));
    given.clone().when(confirmed(2)).then_rejected(not_open(2));
    given.clone().when(retry()).then_rejected(not_open(0));
    let given = given.and(confirmed(1));
    given.clone().when(confirmed(1)).then_rejected(not_open(1));
    given.when(retry()).then_rejected(not_open(0));
}

#[test]
fn a_revocation_nobody_requested_is_unknown() {
    for command in [confirmed(1), store_down(1), retry()] {
        let rejection = Rejection::Unknown(REVOCATION);
        Given::serving().when(command).then_rejected(rejection);
    }
}
