//! What a step `prove` waits for, and how what a playbook rotates dies.

use super::*;
use crate::binding::Reload;
use crate::command::ProofTaken;
use crate::decision::tests::accounts::alternating;
use crate::decision::tests::leases;
use crate::lease;
use crate::revocation::{self, Answer, Evidence, NOTHING_TO_ASK, Proof, Proven};
use crate::testing::{NOW, anywhere, apply_binding, enrol, file, reloaded};

fn proving(steps: Vec<Step>) -> Vec<Step> {
    let last = steps.last().map(|step| step.name.clone()).unwrap();
    let mut steps = steps;
    steps.push(step("prove", Deed::Prove, &[last.as_str()]));
    steps
}

fn revoking(which: Which) -> Deed {
    Deed::Revoke {
        secrets: the_secret(),
        which,
    }
}

fn note(given: &Given) -> Option<String> {
    given.world().runs[&RUN].step("prove").unwrap().note.clone()
}

/// The only revocation.
fn revocation(given: &Given) -> RevocationId {
    let mut all = given.world().revocations.keys();
    let one = *all.next().unwrap();
    assert_eq!(all.next(), None);
    one
}

fn told(given: Given, attempt: u32) -> Given {
    let revocation = revocation(&given);
    given.and(Command::RevokeOutcome {
        revocation,
        attempt,
        failure: None,
    })
}

fn proof(given: Given, attempt: u32, answer: Answer) -> Given {
    let revocation = revocation(&given);
    let evidence = vec![Evidence {
        version: 1,
        at: NOW,
        place: "account app of postgres at db.example:5432".to_owned(),
        answer,
    }];
    given.and(Command::ProofOutcome(ProofTaken {
        revocation,
        attempt,
        proof: Proof {
            evidence,
            lacking: None,
        },
    }))
}

/// A secret over two accounts, and a run of this playbook.
fn over_accounts(steps: Vec<Step>) -> Given {
    settled(alternating().and(declare(spec(steps))).and(start()))
}

/// No session of the old account is left.
fn drained(rotation: RotationId) -> Command {
    Command::StepOutcome {
        rotation,
        step: rotation::Step::Drain,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: None,
        sessions: Some(rotation::Sessions { mark: 1, left: 0 }),
    }
}

#[test]
fn what_a_playbook_rotates_dies_by_a_revocation_that_proves_it() {
    let steps = vec![
        step("rotate", rotating(), &[]),
        step("converge", converging(), &["rotate"]),
    ];
    let given = over_accounts(proving(steps));
    let rotation = rotation_of(&given);
    let run = rotation::Trigger::Playbook { run: RUN };
    assert_eq!(given.world().rotations[&rotation].trigger, run);
    // Where two accounts take turns, sessions of the old one are asked for first.
    let given = settled(given.finished(rotation).and(drained(rotation)));
    let ended = &given.world().rotations[&rotation];
    assert!(ended.phase == rotation::Phase::Closed(rotation::Outcome::Completed));
    assert_eq!(revocation(&given), lease::end_of(rotation));
    assert!(!given.secret().is_deliverable(1), "it is dead at once");
    assert_eq!(progress(&given, "converge"), Progress::Open, "not there");
    let given = settled(told(given, 1));
    assert_eq!(progress(&given, "converge"), Progress::Open);
    let given = settled(proof(given, 2, Answer::WrongPassword));
    let given = settled(told(given, 3));
    assert_eq!(progress(&given, "prove"), Progress::Done);
    assert_eq!(note(&given).as_deref(), Some("1 proven dead"));
    assert_eq!(outcome(&given), Some(Outcome::Completed));
}

#[test]
fn what_is_proven_dead_is_through_though_its_data_keys_are_left() {
    let steps = vec![
        step("rotate", rotating(), &[]),
        step("withdrawn", Deed::Withdrawn, &["rotate"]),
    ];
    let given = over_accounts(proving(steps));
    let rotation = rotation_of(&given);
    let given = settled(given.finished(rotation).and(drained(rotation)));
    let given = settled(told(given, 1));
    assert_eq!(given.world().runs[&RUN].score, None);
    let given = settled(proof(given, 2, Answer::WrongPassword));
    let whole = Score {
        targets: 1,
        through: 1,
    };
    assert_eq!(given.world().runs[&RUN].score, Some(whole));
    let known = &given.world().revocations[&revocation(&given)];
    assert!(!known.is_destroyed && !known.closed);
}

#[test]
fn a_login_that_is_let_in_holds_the_proof_up_until_one_is_refused() {
    let given = over_accounts(proving(vec![step("revoke", revoking(Which::Alive), &[])]));
    let given = settled(proof(told(given, 1), 2, Answer::Accepted));
    assert_eq!(progress(&given, "prove"), Progress::Open);
    let revocation = revocation(&given);
    let given = given.and(Command::RetryRevoke { revocation });
    let given = settled(proof(told(given, 3), 4, Answer::NoLogin));
    assert!(matches!(
        given.world().revocations[&revocation].proven,
        Proven::Dead(_)
    ));
    assert_eq!(outcome(&given), Some(Outcome::Completed));
}

#[test]
fn what_cannot_be_probed_says_so_once_its_store_has_confirmed() {
    let given = settled(running(proving(vec![step(
        "revoke",
        revoking(Which::Alive),
        &[],
    )])));
    assert_eq!(progress(&given, "prove"), Progress::Open);
    let given = settled(told(given, 1));
    assert_eq!(progress(&given, "prove"), Progress::Done);
    let said = note(&given).unwrap();
    let words = format!("0 proven dead; 1 not probed: `prod/db`: {NOTHING_TO_ASK}");
    assert_eq!(said, words);
}

/// Two principals have the only revocation given up.
fn given_up(given: Given) -> Given {
    let id = revocation(&given);
    let forget = |uid| Command::ForgetRevocation {
        revocation: id,
        by: crate::audit::Principal::User {
            uid,
            name: "who".to_owned(),
        },
        reason: "switched off".to_owned(),
    };
    given.and(forget(1)).and(forget(2))
}

fn failure(given: &Given) -> &str {
    let state = given.world().runs[&RUN].step("prove").unwrap();
    state.failure.as_deref().unwrap()
}

#[test]
fn what_two_principals_gave_up_fails_the_proof() {
    let given = over_accounts(proving(vec![step("revoke", revoking(Which::Alive), &[])]));
    let given = settled(given_up(given));
    assert_eq!(progress(&given, "prove"), Progress::Failed);
    let why = failure(&given);
    assert!(why.contains("gave revocation"), "{why}");
}

#[test]
fn what_two_principals_gave_up_fails_the_proof_also_where_no_login_could_show_it() {
    let steps = proving(vec![step("revoke", revoking(Which::Alive), &[])]);
    // Its store never confirmed; the second attempt only destroys its value.
    let given = settled(told(given_up(settled(running(steps))), 2));
    assert_eq!(progress(&given, "prove"), Progress::Failed);
    let why = failure(&given);
    assert!(why.contains("before it was proven"), "{why}");
}

#[test]
fn a_wait_until_withdrawn_ends_when_no_host_has_it_and_not_when_the_store_confirms() {
    let steps = vec![
        step("revoke", revoking(Which::Alive), &[]),
        step("withdrawn", Deed::Withdrawn, &["revoke"]),
        step("converge", converging(), &["withdrawn"]),
    ];
    let given = settled(running(steps));
    let given = settled(told(given, 1));
    assert_eq!(progress(&given, "withdrawn"), Progress::Open);
    let given = settled(given.and(Command::Report(report(Vec::new(), &[]))));
    assert_eq!(progress(&given, "withdrawn"), Progress::Done);
    assert_eq!(outcome(&given), Some(Outcome::Completed));
}

#[test]
fn a_wait_until_withdrawn_takes_a_rotation_whose_old_version_is_only_to_die_yet() {
    let steps = vec![
        step("rotate", rotating(), &[]),
        step("withdrawn", Deed::Withdrawn, &["rotate"]),
        step("converge", converging(), &["withdrawn"]),
    ];
    let given = settled(running(steps));
    let rotation = rotation_of(&given);
    let given = settled(given.finished(rotation));
    assert_eq!(progress(&given, "withdrawn"), Progress::Open);
    let moved = report(vec![swapped(1, 2)], &[2]);
    let given = settled(given.and(Command::Report(moved)));
    assert_eq!(progress(&given, "withdrawn"), Progress::Done);
    assert_eq!(progress(&given, "converge"), Progress::Open);
    let given = settled(given.and(done(rotation, rotation::Step::RevokeOld)));
    assert_eq!(outcome(&given), Some(Outcome::Completed));
}

#[test]
fn what_dies_by_force_is_withdrawn_when_the_hosts_say_so_that_were_not_through() {
    let served = alternating()
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(Command::Report(report(vec![reloaded(1, 1)], &[1])));
    let steps = vec![
        step("rotate", rotating(), &[]),
        step("withdrawn", Deed::Withdrawn, &["rotate"]),
        step("converge", converging(), &["withdrawn"]),
    ];
    let given = settled(served.and(declare(spec(steps))).and(start()));
    let rotation = rotation_of(&given);
    let given = settled(given.finished(rotation).and(Command::Intervene {
        rotation,
        intervention: rotation::Intervention::Force,
        reason: "they are switched off".to_owned(),
    }));
    let is_everywhere = |event: &event::Event| {
        let everywhere = revocation::Event::WithdrawnEverywhere;
        matches!(event, event::Event::Revocation(_, event) if *event == everywhere)
    };
    let waiting = &given.world().revocations[&lease::end_of(rotation)].waiting;
    assert!(waiting.contains(&HOST));
    assert!(!given.log().iter().any(is_everywhere));
    assert_eq!(progress(&given, "withdrawn"), Progress::Open);
    let moved = report(vec![swapped(1, 2)], &[2]);
    let given = settled(given.and(Command::Report(moved)));
    assert!(given.log().iter().any(is_everywhere));
    assert_eq!(progress(&given, "withdrawn"), Progress::Done);
}

/// Container 1 has a lease; a playbook had another one take its place, and it runs on that.
fn lease_replaced() -> (Given, RotationId) {
    let steps = vec![
        step("rotate", rotating(), &[]),
        step("withdrawn", Deed::Withdrawn, &["rotate"]),
    ];
    let declared = leases::served().and(declare(spec(proving(steps))));
    let given = settled(declared.and(start()));
    let rotation = given.world().open_rotation(leases::lease(1)).unwrap().id;
    let given = settled(leases::moved(given, rotation));
    (given, rotation)
}

#[test]
fn a_lease_that_a_playbook_replaces_is_to_be_proven_dead_as_one_that_a_person_revokes() {
    let (given, rotation) = lease_replaced();
    let id = revocation(&given);
    assert_eq!(id, lease::end_of(rotation));
    let known = &given.world().revocations[&id];
    assert_eq!(
        (&known.versions[..], &known.proven),
        (&[1][..], &Proven::Awaited)
    );
    assert!(known.reason.contains(&RUN.to_string()), "{}", known.reason);
    let secret = &given.world().secrets[&leases::lease(1)];
    assert_eq!(secret.alive(), [2], "it is dead at once");
    assert_eq!(progress(&given, "withdrawn"), Progress::Done);
    // Its store ended it, which is no proof: the run waits for the login.
    let given = settled(told(given, 1));
    assert_eq!(progress(&given, "prove"), Progress::Open);
    let let_in = settled(proof(given.clone(), 2, Answer::Accepted));
    assert_eq!(progress(&let_in, "prove"), Progress::Open);
    let given = settled(proof(given, 2, Answer::WrongPassword));
    assert_eq!(note(&given).as_deref(), Some("1 proven dead"));
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    let given = told(given, 3);
    assert!(given.world().revocations[&id].is_destroyed);
}

#[test]
fn of_a_lease_whose_login_nobody_can_try_a_playbook_says_why_not() {
    let (given, _) = lease_replaced();
    let given = settled(told(given, 1));
    let why = "its store's word is what there is";
    let untold = Command::ProofOutcome(ProofTaken {
        revocation: revocation(&given),
        attempt: 2,
        proof: Proof::lacking(why),
    });
    let given = settled(given.and(untold));
    let said = note(&given).unwrap();
    assert!(said.starts_with("0 proven dead; 1 not probed: "), "{said}");
    assert!(said.ends_with(why), "{said}");
    assert_eq!(outcome(&given), Some(Outcome::Completed));
}
