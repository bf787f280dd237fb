//! What a revocation does at an account's server: dead there, proven by a login that is refused, and only then
//! the data key goes; and how two principals give one up.

use super::accounts::{alternating, resource, with_admin};
use super::*;
use crate::audit::{Principal, Role};
use crate::command::ProofTaken;
use crate::effect::{Part, RevokeWork, Work};
use crate::event;
use crate::revocation::{
    self, Answer, Backend, Event as E, Evidence, FORGET_LIFETIME, MAX_REASON_CHARS, NOTHING_TO_ASK,
    Proof, Proven, Rejection as No,
};
use crate::testing::{NOW, REVOCATION, of_revocation, of_secret, opening, reloaded};
use crate::time::Timestamp;

fn told(attempt: u32, failure: Option<&str>) -> Command {
    Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt,
        failure: failure.map(ToOwned::to_owned),
    }
}

fn retry() -> Command {
    Command::RetryRevoke {
        revocation: REVOCATION,
    }
}

fn evidence(answer: Answer) -> Vec<Evidence> {
    vec![Evidence {
        version: 1,
        at: NOW,
        place: "account app of postgres at db.example:5432".to_owned(),
        answer,
    }]
}

fn proof(attempt: u32, evidence: Vec<Evidence>, lacking: Option<&str>) -> Command {
    Command::ProofOutcome(ProofTaken {
        revocation: REVOCATION,
        attempt,
        proof: Proof {
            evidence,
            lacking: lacking.map(ToOwned::to_owned),
        },
    })
}

fn user(uid: u32, name: &str) -> Principal {
    Principal::User {
        uid,
        name: name.to_owned(),
    }
}

fn forget(by: Principal) -> Command {
    Command::ForgetRevocation {
        revocation: REVOCATION,
        by,
        reason: " switched off ".to_owned(),
    }
}

fn revocation(given: &Given) -> &revocation::Revocation {
    &given.world().revocations[&REVOCATION]
}

/// The work that the last event of the revocation asks for.
fn asked(given: &Given) -> Option<RevokeWork> {
    let last = given.log().iter().rev().find_map(|event| match event {
        // Where no host held it, this follows the request at once.
        event::Event::Revocation(_, E::WithdrawnEverywhere) => None,
        event::Event::Revocation(_, event) => Some(event),
        _ => None,
    });
    let mut effects = revocation::react(given.world(), revocation(given), last?);
    match effects.pop()?.work {
        Work::Revoke(work) => Some(work),
        other @ Work::Step(_) => panic!("{other:?}"),
    }
}

fn part_of(given: &Given) -> Option<(Part, u32, bool)> {
    asked(given).map(|work| (work.part, work.attempt, work.resource.is_some()))
}

fn destroyed() -> event::Event {
    of_secret(secret::Event::VersionDestroyed { version: 1 })
}

#[test]
fn the_data_key_goes_after_the_login_was_refused_and_not_before() {
    let given = alternating().and(revoke(None));
    assert_eq!(part_of(&given), Some((Part::Disable, 1, true)));
    let given = given.when(told(1, None));
    let given = given.then([of_revocation(E::BackendConfirmed)]);
    assert!(revocation(&given).is_dead_at_backend && !revocation(&given).is_destroyed);
    assert_eq!(part_of(&given), Some((Part::Prove, 2, true)));
    let refused = evidence(Answer::WrongPassword);
    let given = given.when(proof(2, refused.clone(), None));
    let proven = E::ProvenDead {
        evidence: refused.clone(),
    };
    let given = given.then([of_revocation(proven)]);
    assert_eq!(part_of(&given), Some((Part::Destroy, 3, false)));
    let given = given.when(told(3, None)).then([
        of_revocation(E::Destroyed),
        destroyed(),
        of_revocation(E::Closed),
    ]);
    let ended = revocation(&given);
    assert!(ended.is_destroyed && ended.closed);
    assert_eq!(ended.proven, Proven::Dead(refused));
    assert_eq!(asked(&given), None);
}

#[test]
fn what_was_made_unusable_opens_nothing_that_the_next_value_cannot_have() {
    let kept = |given: &Given| {
        let secret = &given.world().secrets[&SECRET];
        let at = given.world().at_resource(secret, &[2]).unwrap();
        at.kept
    };
    let given = alternating().and(revoke(None));
    assert_eq!(kept(&given), [1]);
    let given = given.and(told(1, None));
    assert!(
        kept(&given).is_empty(),
        "its value stays for the proof alone"
    );
    let given = given.and(proof(2, evidence(Answer::Accepted), None));
    assert_eq!(kept(&given), [1], "it is let in");
}

/// Version 1 is revoked while a rotation brings version 2, and everybody runs on that by now.
fn beside_a_rotation() -> Given {
    alternating()
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(Command::Report(report(vec![reloaded(1, 1)], &[1])))
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(revoke(Some(1)))
        .and(Command::Report(report(vec![swapped(1, 2)], &[2])))
}

#[test]
fn what_one_revocation_ends_is_no_other_s_to_end() {
    let others = RevocationId::from_bytes([77; 16]);
    let all = Command::Revoke {
        revocation: others,
        secret: secret_name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    };
    let proven = proof(2, evidence(Answer::WrongPassword), None);
    let asked = beside_a_rotation().and(told(1, None));
    for given in [beside_a_rotation(), asked.clone(), asked.and(proven)] {
        let given = given.and(all.clone());
        assert_eq!(given.world().revocations[&others].versions, [2]);
        assert!(!given.world().rotations[&SECOND].is_open());
    }
}

#[test]
fn a_rotation_leaves_to_a_revocation_the_value_that_its_proof_needs() {
    let given = beside_a_rotation();
    let (world, attempt) = (given.world(), 1);
    let step = Step::RevokeOld;
    let begun = rotation::Event::StepStarted { step, attempt };
    let effects = rotation::react(world, &world.rotations[&SECOND], &begun);
    let [effect] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert!(
        matches!(&effect.work, Work::Step(work) if work.versions.is_empty()),
        "{effect:?}"
    );
    let given = given.and(done(SECOND, Step::RevokeOld));
    let is_destroyed = |given: &Given| given.secret().destroyed.contains(&1);
    assert!(!is_destroyed(&given), "it is not proven yet");
    let given = given.and(told(1, None));
    let given = given.and(proof(2, evidence(Answer::WrongPassword), None));
    assert!(is_destroyed(&given.and(told(3, None))));
}

#[test]
fn what_opens_no_account_is_revoked_in_one_part_and_nobody_looks_for_a_login() {
    let given = Given::first_version().and(revoke(None));
    assert_eq!(part_of(&given), Some((Part::Whole, 1, false)));
    let given = given.and(told(1, None));
    let ended = revocation(&given);
    assert_eq!(ended.proven, Proven::NotAsked);
    assert!(ended.is_dead_at_backend && ended.is_destroyed && ended.closed);
}

#[test]
fn a_login_that_is_let_in_has_the_store_asked_once_more_and_keeps_the_data_key() {
    let given = alternating().and(revoke(None)).and(told(1, None));
    let alive = evidence(Answer::Accepted);
    let given = given.when(proof(2, alive.clone(), Some("what else there is")));
    let still = E::StillAccepted {
        attempt: 2,
        evidence: alive,
    };
    let given = given.then([of_revocation(still)]);
    let open = revocation(&given);
    assert!(!open.is_dead_at_backend && !open.is_destroyed);
    assert!(matches!(open.backend, Backend::Failed { attempt: 2, .. }));
    let given = given.and(retry());
    assert_eq!(part_of(&given), Some((Part::Disable, 3, true)));
    let given = given.and(told(3, None));
    assert_eq!(part_of(&given), Some((Part::Prove, 4, true)));
}

#[test]
fn a_server_that_is_away_is_asked_again_for_the_same_part_for_ever() {
    let mut given = alternating().and(revoke(None)).and(told(1, None));
    for attempt in 2..20 {
        assert_eq!(part_of(&given), Some((Part::Prove, attempt, true)));
        given = given.and(told(attempt, Some("away"))).and(retry());
    }
    assert!(revocation(&given).is_dead_at_backend && !revocation(&given).is_destroyed);
    let given = given.and(proof(20, evidence(Answer::NoLogin), None));
    assert_eq!(part_of(&given), Some((Part::Destroy, 21, false)));
}

#[test]
fn what_cannot_be_probed_says_why_and_does_not_wait() {
    for (command, reason) in [
        (
            proof(2, Vec::new(), Some("its value is gone")),
            "its value is gone",
        ),
        (proof(2, Vec::new(), None), NOTHING_TO_ASK),
    ] {
        let given = alternating().and(revoke(None)).and(told(1, None));
        let unknown = E::NotProvable {
            evidence: Vec::new(),
            reason: reason.to_owned(),
        };
        let given = given.when(command).then([of_revocation(unknown)]);
        assert_eq!(part_of(&given), Some((Part::Destroy, 3, false)));
    }
    // Who says only that it is done looked for nothing, and is asked again.
    let given = alternating().and(revoke(None)).and(told(1, None));
    let given = given.and(told(2, None)).and(retry());
    assert_eq!(part_of(&given), Some((Part::Prove, 3, true)));
    // Evidence of a version that is not meant shows nothing.
    let given = alternating().and(revoke(None)).and(told(1, None));
    let mut other = evidence(Answer::WrongPassword);
    other[0].version = 7;
    let given = given.and(proof(2, other, None));
    assert!(matches!(revocation(&given).proven, Proven::Unknown(..)));
}

#[test]
fn what_no_server_ever_heard_of_needs_no_login_and_dies_all_the_same() {
    let given = alternating().and(rotate(SECOND)).and(revoke(None));
    assert_eq!(revocation(&given).versions, [1, 2]);
    let given = given.and(told(1, None));
    let work = asked(&given).unwrap();
    assert_eq!((work.part, work.versions), (Part::Prove, vec![1]));
    let given = given.and(proof(2, evidence(Answer::WrongPassword), None));
    assert!(matches!(revocation(&given).proven, Proven::Dead(_)));
    let given = given.and(told(3, None));
    let gone: Vec<u64> = given.secret().destroyed.iter().copied().collect();
    assert_eq!(gone, [1, 2]);
}

#[test]
fn a_proof_is_taken_once_and_only_when_it_is_asked_for() {
    let not_open = |attempt| No::AttemptNotOpen {
        revocation: REVOCATION,
        attempt,
    };
    let refused = || evidence(Answer::Refused);
    let given = alternating().and(revoke(None));
    let early = given.clone().when(proof(1, refused(), None));
    early.then_rejected(not_open(1));
    let given = given.and(told(1, None));
    let wrong = given.clone().when(proof(3, refused(), None));
    wrong.then_rejected(not_open(3));
    let given = given.and(proof(2, refused(), None));
    let again = given.when(proof(2, refused(), None));
    again.then_rejected(not_open(2));
}

#[test]
fn while_the_proof_is_open_the_secret_s_accounts_stay_where_they_are() {
    let given = with_admin().and(apply_secret(opening(resource(&["app"]))));
    let given = given.finished(FIRST).and(revoke(None)).and(told(1, None));
    let id = given.secret().id;
    assert!(given.world().unconfirmed_revocation(id).is_some());
    let given = given
        .and(proof(2, evidence(Answer::NoLogin), None))
        .and(told(3, None));
    assert!(given.world().unconfirmed_revocation(id).is_none());
}

#[test]
fn two_principals_forget_what_no_store_confirms_and_the_data_key_goes() {
    let given = alternating().and(revoke(None)).and(told(1, Some("gone")));
    let given = given.when(forget(user(1000, "ann")));
    let first = E::ForgetAsked {
        by: user(1000, "ann"),
        reason: "switched off".to_owned(),
        at: Some(NOW),
    };
    let given = given.then([of_revocation(first)]);
    assert_eq!(asked(&given), None);
    // Under whatever name, it is the same user.
    let alone = given.clone().when(forget(user(1000, "root")));
    alone.then_rejected(No::SecondPrincipal(REVOCATION));
    let bob = Principal::Operator {
        name: "bob".to_owned(),
    };
    let given = given.when(forget(bob.clone()));
    let second = E::Forgotten {
        by: bob,
        reason: "switched off".to_owned(),
    };
    let given = given.then([of_revocation(second)]);
    assert_eq!(part_of(&given), Some((Part::Destroy, 2, false)));
    let given = given.and(told(2, None));
    let ended = revocation(&given);
    assert!(ended.closed && ended.is_forgotten() && ended.is_destroyed);
    assert!(!ended.is_dead_at_backend, "nobody says that it is");
    let again = given.when(forget(user(1001, "eve")));
    again.then_rejected(No::NothingToForget(REVOCATION));
}

#[test]
fn a_first_word_is_void_once_the_store_or_a_login_says_something_else() {
    let given = alternating()
        .and(revoke(None))
        .and(forget(user(1000, "ann")))
        .and(told(1, None));
    let given = given.when(forget(user(1001, "bob")));
    let first = |uid, name| {
        of_revocation(E::ForgetAsked {
            by: user(uid, name),
            reason: "switched off".to_owned(),
            at: Some(NOW),
        })
    };
    let given = given.then([first(1001, "bob")]);
    let given = given.and(proof(2, evidence(Answer::Accepted), None));
    let given = given.when(forget(user(1000, "ann")));
    let _asked = given.then([first(1000, "ann")]);
}

#[test]
fn a_first_word_counts_for_a_day_and_one_without_a_time_until_it_is_void() {
    let given = alternating().and(revoke(None));
    let given = given.and(forget(user(1000, "ann")));
    let late = NOW.plus(FORGET_LIFETIME);
    let in_time = given
        .clone()
        .at(Timestamp::from_micros(late.micros() - 1))
        .when(forget(user(1001, "bob")));
    let agreed = E::Forgotten {
        by: user(1001, "bob"),
        reason: "switched off".to_owned(),
    };
    let _asked = in_time.then([of_revocation(agreed.clone())]);
    let anew = |uid, name| E::ForgetAsked {
        by: user(uid, name),
        reason: "switched off".to_owned(),
        at: Some(late),
    };
    // Whoever comes then is the first, also who was it before.
    for (uid, name) in [(1001, "bob"), (1000, "ann")] {
        let given = given.clone().at(late).when(forget(user(uid, name)));
        let given = given.then([of_revocation(anew(uid, name))]);
        let same = given.clone().at(late).when(forget(user(uid, name)));
        same.then_rejected(No::SecondPrincipal(REVOCATION));
        assert_eq!(revocation(&given).forget.len(), 1);
    }
    let mut world = given.world().clone();
    let old = E::ForgetAsked {
        by: user(1000, "ann"),
        reason: "switched off".to_owned(),
        at: None,
    };
    world.apply(99, &of_revocation(old));
    assert_eq!(world.revocations[&REVOCATION].forget_until, None);
}

#[test]
fn a_reason_is_as_long_as_a_record_holds() {
    let because = |reason: String| Command::Revoke {
        revocation: REVOCATION,
        secret: secret_name(),
        version: None,
        reason,
        is_emergency: false,
    };
    let _begun = alternating().and(because("x".repeat(MAX_REASON_CHARS)));
    let longer = alternating().when(because("x".repeat(MAX_REASON_CHARS + 1)));
    longer.then_rejected(No::ReasonTooLong);
}

#[test]
fn only_a_person_forgets_and_with_a_reason() {
    let given = alternating().and(revoke(None));
    let service = given
        .clone()
        .when(forget(Principal::Service(Role::StoreSync)));
    service.then_rejected(No::NoPerson);
    for (reason, no) in [
        (" ".to_owned(), No::ReasonMissing),
        ("x".repeat(MAX_REASON_CHARS + 1), No::ReasonTooLong),
    ] {
        let command = Command::ForgetRevocation {
            revocation: REVOCATION,
            by: user(0, "root"),
            reason,
        };
        given.clone().when(command).then_rejected(no);
    }
    let longest = Command::ForgetRevocation {
        revocation: REVOCATION,
        by: user(0, "root"),
        reason: "x".repeat(MAX_REASON_CHARS),
    };
    let _asked = given.and(longest);
}
