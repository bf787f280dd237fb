//! A revocation that has its secret replaced first: what it waits for, in which append it begins, and what becomes
//! of it where no replacement comes.

use super::accounts::alternating;
use super::*;
use crate::command::Replacing;
use crate::effect::{Part, Work};
use crate::event::Event;
use crate::revocation::{Backend, Event as E, Rejection as No, Replacement};
use crate::rotation::{Intervention, Outcome, Phase};
use crate::testing::{
    NOW, REVOCATION, consumer, evict, of_revocation, of_rotation, of_secret, reloaded,
};
use crate::{event, secret};

fn wish(version: Option<u64>, is_emergency: bool) -> Command {
    Command::Replace(Replacing {
        revocation: REVOCATION,
        rotation: SECOND,
        secret: secret_name(),
        version,
        reason: " leaked ".to_owned(),
        is_emergency,
    })
}

fn replace() -> Command {
    wish(None, false)
}

fn urgent() -> Command {
    wish(None, true)
}

fn awaited(versions: &[u64], rotation: RotationId, is_emergency: bool) -> Event {
    of_revocation(E::ReplacementAwaited {
        secret: SECRET,
        versions: versions.to_vec(),
        reason: "leaked".to_owned(),
        rotation,
        is_emergency,
    })
}

fn requested(versions: &[u64], hosts: &[HostId]) -> Event {
    begun(versions, hosts, false)
}

/// The urgency goes with it.
fn requested_urgently(versions: &[u64], hosts: &[HostId]) -> Event {
    begun(versions, hosts, true)
}

fn begun(versions: &[u64], hosts: &[HostId], is_emergency: bool) -> Event {
    of_revocation(E::Requested {
        secret: SECRET,
        versions: versions.to_vec(),
        hosts: hosts.to_vec(),
        reason: "leaked".to_owned(),
        is_to_prove: false,
        is_emergency,
    })
}

fn revoked(version: u64) -> Event {
    of_secret(secret::Event::VersionRevoked { version })
}

fn revocation(given: &Given) -> &revocation::Revocation {
    &given.world().revocations[&REVOCATION]
}

/// What a host says once consumer 1 runs on version 2.
fn moved() -> Command {
    Command::Report(report(vec![swapped(1, 2)], &[2]))
}

fn abort() -> Command {
    Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Abort,
        reason: "wrong".to_owned(),
    }
}

/// Version 2 is given up before it is promoted, and its roll-back is under way.
fn rolling_back(given: Given) -> Given {
    given.and(abort()).and(done(SECOND, Step::Create))
}

fn asks_to_revoke_old(given: &Given) -> bool {
    let asks = |event: &Event| {
        matches!(
            event,
            Event::Rotation(
                SECOND,
                rotation::Event::StepStarted {
                    step: Step::RevokeOld,
                    ..
                }
            )
        )
    };
    given.log().iter().any(asks)
}

#[test]
fn a_rotation_begins_and_nothing_dies_before_the_last_consumer_came_over() {
    let given = Given::serving().when(replace()).then([
        awaited(&[1], SECOND, false),
        of_secret(secret::Event::VersionStaged {
            version: 2,
            rotation: SECOND,
        }),
        of_rotation(
            SECOND,
            rotation::Event::Started {
                secret: SECRET,
                version: 2,
                trigger: rotation::Trigger::OnDemand,
            },
        ),
        of_rotation(
            SECOND,
            rotation::Event::StepStarted {
                step: Step::Create,
                attempt: 1,
            },
        ),
    ]);
    let waiting = revocation(&given);
    assert!(waiting.is_awaiting() && !waiting.is_begun() && !waiting.is_done());
    let replacement = Replacement {
        rotation: SECOND,
        is_emergency: false,
    };
    assert_eq!(waiting.replacement, Some(replacement));
    let given = given.finished(SECOND);
    assert!(given.secret().is_deliverable(1), "a consumer has it");
    assert_eq!(given.secret().current, Some(2));
    // A report that tells nothing of it changes nothing of it.
    let given = given.and(Command::Report(report(vec![swapped(1, 1)], &[1, 2])));
    assert!(revocation(&given).is_awaiting());
    let given = given.when(moved()).then_among_others([
        of_rotation(
            SECOND,
            rotation::Event::ConsumerAcknowledged {
                consumer: consumer(1),
            },
        ),
        revoked(1),
        requested(&[1], &[HOST]),
        of_rotation(
            SECOND,
            rotation::Event::Closed {
                outcome: Outcome::Completed,
            },
        ),
    ]);
    assert!(!asks_to_revoke_old(&given), "the revocation ends it");
    assert_eq!(revocation(&given).backend, Backend::Asked { attempt: 1 });
    assert_eq!(given.world().awaiting(SECRET).count(), 0);
    // It is what the log says, whoever folds it.
    let again = Given::events(given.log().to_vec());
    assert_eq!(again.world(), given.world());
}

#[test]
fn a_host_that_has_nobody_to_move_holds_nothing_up() {
    let given = Given::first_version()
        .and(enrol(HOST))
        .and(enrol(OTHER_HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(Command::Report(report(vec![reloaded(1, 1)], &[1])))
        .and(replace())
        .finished(SECOND);
    assert!(given.secret().delivered.contains_key(&(OTHER_HOST, 1)));
    let given = given
        .when(moved())
        .then_among_others([revoked(1), requested(&[1], &[HOST, OTHER_HOST])]);
    let ended = Phase::Closed(Outcome::Completed);
    assert_eq!(given.world().rotations[&SECOND].phase, ended);
    assert!(revocation(&given).waiting.contains(&OTHER_HOST));
}

#[test]
fn in_an_emergency_it_begins_with_the_promotion() {
    let given = Given::serving().and(urgent());
    let given = [Step::Create, Step::Set, Step::Test]
        .into_iter()
        .fold(given, |given, step| given.and(done(SECOND, step)));
    let given = given.when(done(SECOND, Step::Finish)).then_among_others([
        of_secret(secret::Event::VersionPromoted { version: 2 }),
        revoked(1),
        requested_urgently(&[1], &[HOST]),
    ]);
    let open = &given.world().rotations[&SECOND];
    assert_eq!(open.phase, Phase::Distributing, "the others come over yet");
    assert!(open.old.is_empty() && open.barrier.is_empty());
    let given = given.and(moved());
    assert!(!given.world().rotations[&SECOND].is_open());
    assert!(!asks_to_revoke_old(&given));
}

#[test]
fn without_anybody_to_move_it_begins_with_the_promotion_too() {
    let given = Given::first_version().and(replace()).finished(SECOND);
    assert!(!given.secret().is_deliverable(1));
    assert!(revocation(&given).is_begun());
    assert!(!asks_to_revoke_old(&given));
    assert!(!given.world().rotations[&SECOND].is_open());
}

#[test]
fn sessions_of_what_leaked_are_not_waited_for_and_its_login_is_proven_refused() {
    let given = alternating()
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(Command::Report(report(vec![reloaded(1, 1)], &[1])))
        .and(replace())
        .finished(SECOND)
        .and(moved());
    let waiting = revocation(&given);
    assert_eq!(waiting.part, Part::Disable);
    assert!(
        !given.world().rotations[&SECOND].is_open(),
        "nothing drains"
    );
    let begun = given.log().iter().rev().find_map(|event| match event {
        Event::Revocation(REVOCATION, event @ E::Requested { .. }) => Some(event),
        _ => None,
    });
    let effects = revocation::react(given.world(), waiting, begun.unwrap());
    let Work::Revoke(work) = &effects[0].work else {
        panic!("{effects:?}");
    };
    assert_eq!((&work.versions, work.part), (&vec![1], Part::Disable));
    let resource = work.resource.as_ref().unwrap();
    assert_eq!(resource.current, Some(2));
}

#[test]
fn a_rotation_that_brings_nothing_leaves_it_waiting_for_the_next_one() {
    let given = rolling_back(Given::serving().and(replace()));
    let given = given.and(done(SECOND, Step::RollBack));
    let ended = Phase::Closed(Outcome::RolledBack);
    assert_eq!(given.world().rotations[&SECOND].phase, ended);
    assert!(revocation(&given).is_awaiting());
    assert!(given.secret().is_deliverable(1), "it would be an outage");
    let third = report(vec![swapped(1, 3)], &[3]);
    let given = given.and(rotate(THIRD)).finished(THIRD);
    assert!(revocation(&given).is_awaiting());
    given
        .when(Command::Report(third))
        .then_among_others([revoked(1), requested(&[1], &[HOST])]);
}

#[test]
fn in_an_emergency_it_begins_without_a_replacement_once_there_is_none_to_come() {
    let given = rolling_back(Given::serving().and(urgent()));
    assert!(given.secret().is_deliverable(1));
    let given = given.when(done(SECOND, Step::RollBack)).then_among_others([
        of_rotation(
            SECOND,
            rotation::Event::Closed {
                outcome: Outcome::RolledBack,
            },
        ),
        revoked(1),
        requested_urgently(&[1], &[HOST]),
    ]);
    let why = revocation(&given).given_up.as_ref().unwrap();
    assert!(why.contains("was rolled back"), "{why}");
}

#[test]
fn a_parked_rotation_leaves_it_waiting_and_a_person_who_ends_that_begins_it() {
    let parked = Given::serving()
        .and(replace())
        .finished(SECOND)
        .at(NOW.plus(rotation::ACK_DEADLINE))
        .and(Command::DeadlinePassed { rotation: SECOND });
    let ended = Phase::Closed(Outcome::Parked);
    assert_eq!(parked.world().rotations[&SECOND].phase, ended);
    assert!(revocation(&parked).is_awaiting());
    let force = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Force,
        reason: "they are switched off".to_owned(),
    };
    let forced = parked.clone().when(force).then_among_others([
        revoked(1),
        requested(&[1], &[HOST]),
        of_rotation(
            SECOND,
            rotation::Event::Closed {
                outcome: Outcome::Completed,
            },
        ),
    ]);
    assert!(!asks_to_revoke_old(&forced));
    let retry = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Retry,
        reason: "mended".to_owned(),
    };
    let again = parked.and(retry);
    assert!(revocation(&again).is_awaiting());
    again.when(moved()).then_among_others([revoked(1)]);
}

#[test]
fn who_is_evicted_is_waited_for_neither_before_nor_after_it_begins() {
    let given = Given::serving().and(replace()).finished(SECOND);
    given.when(evict(HOST)).then_among_others([
        revoked(1),
        requested(&[1], &[]),
        of_revocation(E::WithdrawnEverywhere),
    ]);
}

#[test]
fn a_rotation_under_way_that_has_promoted_nothing_is_its_replacement() {
    let given = Given::serving().and(rotate(THIRD));
    let given = given
        .when(replace())
        .then([awaited(&[1], THIRD, false)])
        .finished(THIRD);
    given
        .when(moved())
        .then_among_others([revoked(1), requested(&[1], &[HOST])]);
}

#[test]
fn what_an_open_rotation_has_promoted_is_not_spared_unasked() {
    let held_up = || No::ReplacementHeldUp {
        secret: secret_name(),
        rotation: SECOND,
    };
    let open = Given::distributing();
    open.clone().when(replace()).then_rejected(held_up());
    open.clone()
        .when(wish(Some(2), false))
        .then_rejected(held_up());
    // By name the older one is meant alone.
    let older = open.clone().when(wish(Some(1), false));
    let older = older.then([awaited(&[1], SECOND, false)]);
    older.when(moved()).then_among_others([revoked(1)]);
    // In an emergency nothing is refused that can be revoked.
    let dead = open.when(urgent()).then_among_others([
        revoked(1),
        revoked(2),
        requested_urgently(&[1, 2], &[HOST]),
    ]);
    let why = revocation(&dead).given_up.as_ref().unwrap();
    assert!(why.contains("is open"), "{why}");
    Given::retiring().when(replace()).then_rejected(held_up());
    rolling_back(Given::serving().and(rotate(SECOND)))
        .when(replace())
        .then_rejected(held_up());
}

#[test]
fn a_value_that_nobody_makes_is_not_replaced_and_dies_in_an_emergency() {
    let put = Command::Put {
        id: SECRET,
        rotation: FIRST,
        name: secret_name(),
        provided: true,
    };
    let given = Given::nothing().and(put).finished(FIRST);
    let refused = rotation::Rejection::NoGenerator {
        secret: secret_name(),
    };
    given.clone().when(replace()).then_rejected(refused.clone());
    given.when(urgent()).then([
        revoked(1),
        requested_urgently(&[1], &[]),
        of_revocation(E::WithdrawnEverywhere),
        of_revocation(E::ReplacementGivenUp {
            reason: refused.to_string(),
        }),
    ]);
}

#[test]
fn what_is_dead_needs_no_replacement_and_no_reason_is_none() {
    let dead = Given::serving().and(revoke(None));
    dead.when(replace()).then_rejected(No::NothingAlive {
        secret: secret_name(),
    });
    let mut silent = replace();
    if let Command::Replace(wish) = &mut silent {
        wish.reason = " ".to_owned();
    }
    Given::serving()
        .when(silent)
        .then_rejected(No::ReasonMissing);
    let unknown = secret::Rejection::VersionUnknown {
        secret: secret_name(),
        version: 9,
    };
    Given::serving()
        .when(wish(Some(9), false))
        .then_rejected(unknown);
}

#[test]
fn one_whose_versions_die_otherwise_ends_and_says_so() {
    let other = RevocationId::from_bytes([0x77; 16]);
    let at_once = Command::Revoke {
        revocation: other,
        secret: secret_name(),
        version: None,
        reason: "now".to_owned(),
        is_emergency: false,
    };
    let given = Given::serving().and(replace()).and(at_once);
    let ended = revocation(&given);
    assert!(ended.closed && !ended.is_begun());
    assert!(ended.given_up.is_some());
    assert_eq!(given.world().awaiting(SECRET).count(), 0);
    assert!(!given.world().revocations[&other].closed);
}

#[test]
fn nobody_is_asked_about_one_that_waits() {
    let given = Given::serving().and(replace());
    let not_open = |attempt| No::AttemptNotOpen {
        revocation: REVOCATION,
        attempt,
    };
    let told = Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt: 1,
        failure: None,
    };
    given.clone().when(told).then_rejected(not_open(1));
    let retry = Command::RetryRevoke {
        revocation: REVOCATION,
    };
    given.clone().when(retry).then_rejected(not_open(0));
    assert!(given.world().unconfirmed_revocation(SECRET).is_none());
    let asks = |event: &event::Event| match event {
        event::Event::Revocation(_, event) => {
            revocation::react(given.world(), revocation(&given), event).len()
        }
        _ => 0,
    };
    assert_eq!(given.log().iter().map(asks).sum::<usize>(), 0);
}

#[test]
fn who_was_told_of_late_and_has_it_holds_it_up_but_in_an_emergency() {
    let late = || Command::Report(report(vec![swapped(1, 2), swapped(2, 1)], &[1, 2]));
    let given = Given::serving().and(replace()).finished(SECOND).and(late());
    assert!(given.world().rotations[&SECOND].waiting.is_empty());
    assert!(revocation(&given).is_awaiting(), "container 2 runs on it");
    let both = report(vec![swapped(2, 2)], &[2]);
    given
        .when(Command::Report(both))
        .then_among_others([revoked(1), requested(&[1], &[HOST])]);
    let urgent = Given::serving().and(urgent()).finished(SECOND);
    assert!(!urgent.secret().is_deliverable(1));
}
