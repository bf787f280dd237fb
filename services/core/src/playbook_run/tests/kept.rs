//! The password of an account that lies at a store outside, too: what a playbook rotates, and what is revoked with a
//! replacement, is through once the new version is in use, the old one is proven dead at its server, and the store has
//! let go of it.

use super::*;
use crate::binding::Reload;
use crate::command::{ProofTaken, Replacing};
use crate::decision::tests::accounts::{alternating_at_aws, at_aws, written};
use crate::effect::{Part, Work};
use crate::lease;
use crate::revocation::{self, Answer, Evidence, Proof, Proven, Revocation};
use crate::rotation::{Phase, Sessions};
use crate::testing::{
    NOW, REVOCATION, anywhere, apply_binding, enrol, file, reloaded, secret_name,
};

/// One container runs on version 1.
fn served() -> Given {
    alternating_at_aws()
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
        .and(Command::Report(report(vec![reloaded(1, 1)], &[1])))
}

/// The new version is made, accepted by the server, and current at the store.
fn promoted(given: Given, rotation: RotationId) -> Given {
    let steps = [
        rotation::Step::Create,
        rotation::Step::Set,
        rotation::Step::Test,
    ];
    let made = steps.into_iter().fold(given, |given, step| {
        settled(given.and(done(rotation, step)))
    });
    settled(made.and(written(rotation, 2)))
}

/// The container runs on version 2.
fn moved(given: Given) -> Given {
    settled(given.and(Command::Report(report(vec![reloaded(1, 2)], &[2]))))
}

fn drained(given: Given, rotation: RotationId) -> Given {
    settled(given.and(Command::StepOutcome {
        rotation,
        step: rotation::Step::Drain,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: None,
        sessions: Some(Sessions { mark: 1, left: 0 }),
    }))
}

fn told(given: Given, revocation: RevocationId, attempt: u32) -> Given {
    settled(given.and(Command::RevokeOutcome {
        revocation,
        attempt,
        failure: None,
    }))
}

fn proof(given: Given, revocation: RevocationId, attempt: u32, answer: Answer) -> Given {
    let evidence = vec![Evidence {
        version: 1,
        at: NOW,
        place: "account app of postgres at db.example:5432".to_owned(),
        answer,
    }];
    settled(given.and(Command::ProofOutcome(ProofTaken {
        revocation,
        attempt,
        proof: Proof {
            evidence,
            lacking: None,
        },
    })))
}

fn end(given: &Given, id: RevocationId) -> &Revocation {
    &given.world().revocations[&id]
}

/// The server is asked, not only the store: what the part that is open names.
fn reaches_the_server(given: &Given, id: RevocationId) -> (Part, bool) {
    let open = end(given, id);
    let again = revocation::Event::BackendRetried { attempt: 1 };
    match &revocation::react(given.world(), open, &again)[0].work {
        Work::Revoke(work) => (work.part, work.resource.is_some()),
        Work::Step(step) => panic!("{step:?}"),
    }
}

/// Refused once it was let in, and nothing of it is kept: every part of the proof but the store's half.
fn proven_after_one_login_too_many(
    mut given: Given,
    id: RevocationId,
    is_open: impl Fn(&Given),
) -> Given {
    assert_eq!(reaches_the_server(&given, id), (Part::Disable, true));
    given = told(given, id, 1);
    is_open(&given);
    assert_eq!(reaches_the_server(&given, id), (Part::Prove, true));
    given = proof(given, id, 2, Answer::Accepted);
    is_open(&given);
    given = settled(given.and(Command::RetryRevoke { revocation: id }));
    given = proof(told(given, id, 3), id, 4, Answer::WrongPassword);
    is_open(&given);
    assert!(matches!(end(&given, id).proven, Proven::Dead(_)));
    told(given, id, 5)
}

fn rotating_and_proving() -> Vec<Step> {
    vec![
        step("rotate", rotating(), &[]),
        step("converge", converging(), &["rotate"]),
        step("prove", Deed::Prove, &["converge"]),
    ]
}

/// A run whose container moved, and whose old version begins to die.
fn dying() -> (Given, RotationId) {
    let waits = |given: &Given| {
        assert_eq!(progress(given, "converge"), Progress::Open);
        assert!(given.secret().is_deliverable(1), "nothing dies yet");
    };
    let given = settled(
        served()
            .and(declare(spec(rotating_and_proving())))
            .and(start()),
    );
    let rotation = rotation_of(&given);
    waits(&given);
    let given = promoted(given, rotation);
    assert_eq!(given.secret().current, Some(2));
    assert_eq!(given.secret().known, Some(at_aws(2)));
    waits(&given);
    let given = moved(given);
    waits(&given);
    let given = drained(given, rotation);
    assert!(!given.secret().is_deliverable(1));
    (given, rotation)
}

#[test]
fn what_a_playbook_rotates_is_through_once_it_is_proven_and_its_store_let_go_of_it() {
    for is_store_first in [true, false] {
        let (mut given, rotation) = dying();
        let id = lease::end_of(rotation);
        let waits = |given: &Given| assert_eq!(progress(given, "converge"), Progress::Open);
        waits(&given);
        let step = &given.world().rotations[&rotation].phase;
        let retires = rotation::Step::RevokeOld;
        assert!(matches!(step, Phase::Performing { step, .. } if *step == retires));
        if is_store_first {
            given = settled(given.and(done(rotation, retires)));
            waits(&given);
        }
        given = proven_after_one_login_too_many(given, id, waits);
        if !is_store_first {
            waits(&given);
            given = settled(given.and(done(rotation, retires)));
        }
        assert!(end(&given, id).closed);
        for step in ["converge", "prove"] {
            assert_eq!(progress(&given, step), Progress::Done, "{step}");
        }
        let note = given.world().runs[&RUN].step("prove").unwrap().note.clone();
        assert_eq!(note.as_deref(), Some("1 proven dead"));
        assert_eq!(outcome(&given), Some(Outcome::Completed));
        let remotes = given.secret().remotes.iter();
        let left: Vec<_> = remotes.map(|remote| remote.remote.clone()).collect();
        assert_eq!(left, [at_aws(2)], "the store has the new one alone");
    }
}

#[test]
fn what_is_revoked_with_a_replacement_is_closed_once_that_is_in_use_and_it_is_proven() {
    let given = served().and(Command::Replace(Replacing {
        revocation: REVOCATION,
        rotation: SECOND,
        secret: secret_name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    }));
    let waits = |given: &Given| {
        assert!(end(given, REVOCATION).is_awaiting());
        assert!(given.secret().is_deliverable(1), "nothing dies yet");
    };
    waits(&given);
    let given = promoted(given, SECOND);
    assert_eq!(given.secret().known, Some(at_aws(2)));
    waits(&given);
    let given = moved(given);
    assert!(!given.secret().is_deliverable(1), "it dies with that");
    assert!(given.secret().is_deliverable(2));
    let is_open = |given: &Given| assert!(!end(given, REVOCATION).closed);
    let given = proven_after_one_login_too_many(given, REVOCATION, is_open);
    assert!(end(&given, REVOCATION).is_destroyed);
    assert!(given.secret().destroyed.contains(&1));
    // Only the host's word is missing that it has given it up, too.
    is_open(&given);
    let given = moved(given);
    assert!(end(&given, REVOCATION).closed);
    assert_eq!(given.secret().current, Some(2));
}
