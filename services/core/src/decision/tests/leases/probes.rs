//! Leases whose logins are tried at the server that they are for: what whoever works is told, and what shows that one
//! is dead.

use super::*;
use crate::effect::{Effect, Outside, Part, Work};
use crate::resource::{Kind, Probe};
use crate::revocation::{self, Answer, Backend, Evidence, Proven};

fn server(connection: &str) -> Probe {
    Probe {
        kind: Kind::Postgres,
        connection: connection.to_owned(),
        ca: None,
    }
}

fn db() -> Probe {
    server("postgres://db.example/shop")
}

fn probed(probe: Option<Probe>) -> Spec {
    Spec {
        lease: Some(Box::new(Lease::PerContainer {
            linger: DEFAULT_LINGER,
            probe: probe.map(Box::new),
        })),
        ..dynamic()
    }
}

/// Container 1 has a lease whose login is tried, and runs on it.
fn tried() -> Given {
    let bound = Given::nothing()
        .and(store())
        .and(apply_secret(probed(Some(db()))))
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), Reload::None));
    let given = bound.and(wants(&[1])).minted(mint(0), 1);
    given.and(Command::Report(HostReport {
        holds: vec![(lease(1), 1)],
        ..report(vec![leased(1, 1)], &[])
    }))
}

fn place_of(effects: &[Effect]) -> &Outside {
    match &effects[0].work {
        Work::Step(work) => work.outside.as_deref().unwrap(),
        Work::Revoke(work) => work.outside.as_deref().unwrap(),
    }
}

/// What a step of the first lease's rotation is told.
fn step_at(given: &Given, step: Step) -> Outside {
    let rotation = &given.world().rotations[&mint(0)];
    let begun = rotation::Event::StepStarted { step, attempt: 1 };
    place_of(&rotation::react(given.world(), rotation, &begun)).clone()
}

fn open(given: &Given) -> &revocation::Revocation {
    let mut all = given.world().revocations.values();
    let open = all.next().unwrap();
    assert!(all.next().is_none());
    open
}

/// What the part that is open is told.
fn asked(given: &Given) -> (Part, Option<Outside>) {
    let open = open(given);
    let Backend::Asked { attempt } = open.backend else {
        panic!("{:?}", open.backend);
    };
    let retried = revocation::Event::BackendRetried { attempt };
    let effects = revocation::react(given.world(), open, &retried);
    match &effects[0].work {
        Work::Revoke(work) => (work.part, work.outside.as_deref().cloned()),
        Work::Step(step) => panic!("{step:?}"),
    }
}

fn answers(given: Given, attempt: u32, answers: &[Answer], lacking: Option<&str>) -> Given {
    let evidence = answers.iter().map(|answer| Evidence {
        version: 1,
        at: NOW,
        place: "account v-1 of postgres at db.example:5432".to_owned(),
        answer: *answer,
    });
    let proof = Proof {
        evidence: evidence.collect(),
        lacking: lacking.map(str::to_owned),
    };
    let revocation = open(&given).id;
    given.and(Command::ProofOutcome(ProofTaken {
        revocation,
        attempt,
        proof,
    }))
}

fn told(given: Given, attempt: u32) -> Given {
    let revocation = open(&given).id;
    given.and(Command::RevokeOutcome {
        revocation,
        attempt,
        failure: None,
    })
}

#[test]
fn whoever_makes_a_lease_is_told_the_server_that_its_declared_secret_names_now() {
    let given = tried();
    let named = |given: &Given| step_at(given, Step::Test).probe.map(|probe| *probe);
    assert_eq!(named(&given), Some(db()));
    assert_eq!(named(&served()), None, "none is named");
    let other = server("postgres://other.example/shop");
    let moved = given.clone().and(apply_secret(probed(Some(other.clone()))));
    assert_eq!(named(&moved), Some(other));
    assert_eq!(named(&given.and(apply_secret(probed(None)))), None);
}

#[test]
fn a_lease_that_a_person_revokes_is_dead_once_its_login_is_refused_and_its_value_goes_then() {
    let given = tried().and(revoke(None));
    let (part, place) = asked(&given);
    assert_eq!(part, Part::Disable);
    assert_eq!(place.unwrap().retire, [remote(1)]);
    let given = told(given, 1);
    let (part, place) = asked(&given);
    assert_eq!(part, Part::Prove);
    assert_eq!(place.unwrap().probe.as_deref(), Some(&db()));
    assert!(open(&given).is_dead_at_backend && !open(&given).is_destroyed);
    let secret = &given.world().secrets[&lease(1)];
    assert!(secret.destroyed.is_empty(), "the login needs its value");
    let both = [Answer::LeaseGone, Answer::WrongPassword];
    let given = answers(given, 2, &both, None);
    assert!(matches!(&open(&given).proven, Proven::Dead(words) if words.len() == 2));
    assert_eq!(asked(&given), (Part::Destroy, None));
    let given = told(given, 3);
    assert!(open(&given).is_destroyed);
    assert!(given.world().secrets[&lease(1)].destroyed.contains(&1));
}

#[test]
fn a_login_that_is_let_in_though_its_store_says_that_it_is_gone_is_ended_once_more_and_not_proven()
{
    let both = [Answer::LeaseGone, Answer::Accepted];
    let given = answers(told(tried().and(revoke(None)), 1), 2, &both, None);
    assert!(matches!(&open(&given).proven, Proven::Alive(words) if words.len() == 2));
    assert!(!open(&given).is_dead_at_backend && !open(&given).is_destroyed);
    assert!(matches!(
        open(&given).backend,
        Backend::Failed { attempt: 2, .. }
    ));
    let revocation = open(&given).id;
    let given = given.and(Command::RetryRevoke { revocation });
    assert_eq!(asked(&given).0, Part::Disable);
    let both = [Answer::LeaseGone, Answer::NoLogin];
    let given = answers(told(given, 3), 4, &both, None);
    assert!(matches!(open(&given).proven, Proven::Dead(_)));
}

#[test]
fn a_login_that_was_never_let_in_there_is_no_proof_and_says_why() {
    let given = told(tried().and(revoke(None)), 1);
    let why = "the login of version 1 was not tried when it was made";
    let given = answers(given, 2, &[Answer::LeaseGone], Some(why));
    let Proven::Unknown(words, said) = &open(&given).proven else {
        panic!("{:?}", open(&given).proven);
    };
    assert_eq!((words.len(), said.as_str()), (1, why));
    assert_eq!(asked(&given).0, Part::Destroy);
}

#[test]
fn leases_are_proven_by_name_and_with_their_host_and_not_where_they_end_by_themselves() {
    let by_name = Command::Revoke {
        revocation: REVOCATION,
        secret: hidden_name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    };
    let removed = Item {
        secret: lease(1),
        ..item(1, Fact::Removed)
    };
    for (command, part) in [
        (by_name, Part::Disable),
        (evict(HOST), Part::Disable),
        (says(vec![removed]), Part::Whole),
    ] {
        let words = format!("{command:?}");
        let given = tried().and(command);
        assert_eq!(asked(&given).0, part, "{words}");
        assert!(given.world().secrets[&lease(1)].alive().is_empty());
        let given = told(given, 1);
        match part {
            Part::Whole => assert!(open(&given).is_destroyed, "{words}"),
            _ => assert_eq!(asked(&given).0, Part::Prove, "{words}"),
        }
    }
    // A swap is none of a person's, either.
    let over = outlived(moved(tried().and(ending()), SECOND), SECOND);
    assert_eq!(asked(&over).0, Part::Whole);
}
