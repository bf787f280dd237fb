//! What a path after a failed wait waits for and proves: what is revoked on it, and not the rotation that was too slow.

use super::*;
use crate::binding::Reload;
use crate::command::ProofTaken;
use crate::decision::tests::accounts::alternating;
use crate::revocation::{Answer, Evidence, Proof};
use crate::testing::{NOW, anywhere, apply_binding, done, enrol, file, reloaded};

/// Beyond the deadline of a rotation.
const LATE: u64 = 600;

/// The steps of the shipped playbook for a leaked credential after its first one.
fn steps() -> Vec<Step> {
    let mut revoke = step(
        "revoke-old",
        Deed::Revoke {
            secrets: the_secret(),
            which: Which::Old,
        },
        &[],
    );
    revoke.after = vec![After {
        step: "converge".to_owned(),
        failed: true,
    }];
    vec![
        step("replace", rotating(), &[]),
        step("converge", Deed::Withdrawn, &["replace"]),
        revoke,
        step("dead-everywhere", converging(), &["revoke-old"]),
        step("prove-dead", Deed::Prove, &["dead-everywhere"]),
    ]
}

/// The host says nothing, and the rotation is parked.
fn parked() -> (Given, RotationId) {
    let served = alternating()
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(Command::Report(report(vec![reloaded(1, 1)], &[1])));
    let given = settled(served.and(declare(spec(steps()))).and(start()));
    let rotation = rotation_of(&given);
    let given = given.finished(rotation);
    let given = given
        .at(later(LATE))
        .and(Command::DeadlinePassed { rotation });
    (settled(given), rotation)
}

/// The only revocation.
fn revocation(given: &Given) -> RevocationId {
    let all: Vec<RevocationId> = given.world().revocations.keys().copied().collect();
    assert_eq!(all.len(), 1);
    all[0]
}

fn told(given: Given, attempt: u32) -> Given {
    let revocation = revocation(&given);
    given.and(Command::RevokeOutcome {
        revocation,
        attempt,
        failure: None,
    })
}

fn refused(given: Given, attempt: u32) -> Given {
    let revocation = revocation(&given);
    let evidence = vec![Evidence {
        version: 1,
        at: NOW,
        place: "account app of postgres at db.example:5432".to_owned(),
        answer: Answer::WrongPassword,
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

#[test]
fn what_a_parked_rotation_left_is_waited_for_and_proven_by_its_revocation() {
    let (given, rotation) = parked();
    let phase = &given.world().rotations[&rotation].phase;
    assert!(*phase == rotation::Phase::Closed(rotation::Outcome::Parked));
    assert_eq!(progress(&given, "converge"), Progress::Failed);
    assert_eq!(progress(&given, "revoke-old"), Progress::Done);
    assert_eq!(progress(&given, "dead-everywhere"), Progress::Open);
    let given = settled(refused(told(given, 1), 2));
    let given = settled(told(given, 3));
    assert_eq!(
        progress(&given, "dead-everywhere"),
        Progress::Open,
        "a host has it"
    );
    let moved = report(vec![swapped(1, 2)], &[2]);
    let given = settled(given.and(Command::Report(moved)));
    assert_eq!(progress(&given, "dead-everywhere"), Progress::Done);
    assert_eq!(progress(&given, "prove-dead"), Progress::Done);
    let note = given.world().runs[&RUN]
        .step("prove-dead")
        .unwrap()
        .note
        .clone();
    assert_eq!(note.as_deref(), Some("1 proven dead"));
    // What was to be through in time was not.
    assert_eq!(outcome(&given), Some(Outcome::Failed));
}

#[test]
fn a_rotation_that_left_what_nobody_revoked_fails_the_proof() {
    let mut steps = steps();
    steps.retain(|step| ["replace", "converge"].contains(&step.name.as_str()));
    let mut prove = step("prove-dead", Deed::Prove, &[]);
    prove.after = vec![After {
        step: "converge".to_owned(),
        failed: true,
    }];
    steps.push(prove);
    let given = settled(running(steps));
    let rotation = rotation_of(&given);
    let given = given.finished(rotation);
    let given = given
        .at(later(LATE))
        .and(Command::DeadlinePassed { rotation });
    let given = settled(given);
    assert_eq!(progress(&given, "prove-dead"), Progress::Failed);
}

#[test]
fn a_rotation_that_was_taken_back_fails_the_wait_for_what_is_dead() {
    let given = settled(running(steps()));
    let rotation = rotation_of(&given);
    let given = settled(given.and(Command::Intervene {
        rotation,
        intervention: rotation::Intervention::Abort,
        reason: "its server takes no other".to_owned(),
    }));
    let given = given.and(done(rotation, rotation::Step::Create));
    let given = settled(given.and(done(rotation, rotation::Step::RollBack)));
    assert_eq!(progress(&given, "converge"), Progress::Failed);
    assert_eq!(progress(&given, "dead-everywhere"), Progress::Failed);
}
