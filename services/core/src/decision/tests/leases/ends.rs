//! What a store that ends no lease holds up, and what it does not.

use super::*;
use crate::effect::{Part, StepWork, Work};
use crate::lease::MAX_UNCONFIRMED;
use crate::revocation::{Answer, Evidence, Proven};
use crate::store;

/// As logs have it from when a swap ended the lease before by a step of its own: that step waits for its store.
fn ending_by_a_step() -> Given {
    let given = served().and(ending()).minted(SECOND, 2);
    let began = [
        of_lease(1, secret::Event::VersionRevoked { version: 1 }),
        of_rotation(
            SECOND,
            rotation::Event::StepStarted {
                step: Step::RevokeOld,
                attempt: 1,
            },
        ),
    ];
    Given::events(given.log().iter().cloned().chain(began))
}

#[test]
fn a_swap_that_ends_the_lease_before_by_a_step_goes_on_as_it_began() {
    let given = ending_by_a_step();
    let open = given.world().open_rotation(lease(1)).unwrap();
    let step = rotation::Event::StepStarted {
        step: Step::RevokeOld,
        attempt: 1,
    };
    let effects = rotation::react(given.world(), open, &step);
    let Work::Step(StepWork { outside, .. }) = &effects[0].work else {
        panic!("{effects:?}");
    };
    assert_eq!(outside.as_ref().unwrap().retire, [remote(1)]);
    let ended = given.and(done(SECOND, Step::RevokeOld));
    assert!(ended.world().open_rotation(lease(1)).is_none());
    assert!(ended.world().revocations.is_empty());
}

#[test]
fn a_revocation_takes_over_the_end_of_a_lease_that_its_store_did_not_confirm() {
    let away = failed(SECOND, Step::RevokeOld, 1);
    for given in [ending_by_a_step(), ending_by_a_step().and(away)] {
        let revoked = given.and(revoke(None));
        assert!(revoked.world().open_rotation(lease(1)).is_none());
        let open = &revoked.world().revocations[&REVOCATION];
        assert_eq!(open.versions, [1, 2]);
        assert_eq!(open.retire, [remote(1), remote(2)]);
        let over = through(revoked);
        let secret = &over.world().secrets[&lease(1)];
        assert!(secret.remotes.is_empty() && secret.destroyed.len() == 2);
    }
}

#[test]
fn a_container_gets_another_lease_before_its_store_confirms_the_end_of_the_one_before() {
    let is_made = |given: &Given| given.world().open_rotation(lease(1)).is_some();
    let revoked = served().and(revoke(None)).drawn(0xdd);
    assert!(is_made(&revoked.clone().and(wants(&[1]))));
    // At another role the revocation would not find what it is to end.
    let mut other = dynamic();
    if let Store::Outside(place) = &mut other.store {
        place.source.path = "database/creds/other".to_owned();
    }
    let moved = revoked.and(apply_secret(other));
    assert!(!is_made(&moved.clone().and(wants(&[1]))));
    assert!(
        !is_made(&moved.clone().and(confirmed()).and(wants(&[1]))),
        "it is asked there yet"
    );
    assert!(is_made(&through(moved).and(wants(&[1]))));
}

#[test]
fn a_container_gets_no_other_lease_while_its_store_confirms_the_end_of_none_of_so_many() {
    let making = |given: &Given| given.world().open_rotation(lease(1)).map(|open| open.id);
    let id = |n: u8| RevocationId::from_bytes([0xa0 + n; 16]);
    let mut given = served();
    for n in 1..=u8::try_from(MAX_UNCONFIRMED).unwrap() {
        let revoke = Command::Revoke {
            revocation: id(n),
            secret: secret_name(),
            version: None,
            reason: "leaked".to_owned(),
            is_emergency: false,
        };
        given = given.drawn(0xb0 + n).and(revoke).and(wants(&[1]));
        let made = making(&given);
        assert_eq!(made.is_some(), usize::from(n) < MAX_UNCONFIRMED);
        if let Some(rotation) = made {
            given = given.minted(rotation, 1 + n);
        }
    }
    let confirmed = Command::RevokeOutcome {
        revocation: id(1),
        attempt: 1,
        failure: None,
    };
    let ended = given.and(confirmed).and(word(id(1))).and(dropped(id(1)));
    assert!(making(&ended.and(wants(&[1]))).is_some());
}

#[test]
fn a_container_that_a_report_names_is_here_though_the_report_is_not_complete() {
    let partial = |items| {
        Command::Report(HostReport {
            complete: false,
            containers: Vec::new(),
            ..report(items, &[])
        })
    };
    let resumed = of_lease(1, secret::Event::LeaseResumed);
    let down = served().and(only(&[]));
    let named = down.clone().when(partial(vec![leased(1, 1)]));
    named.then_among_others([resumed]);
    let end = Command::LingerEnded { secret: lease(1) };
    let unnamed = down.and(partial(Vec::new())).at(NOW.plus(DEFAULT_LINGER));
    let ended = unnamed.and(end);
    assert!(ended.world().secrets[&lease(1)].alive().is_empty());
    // Of a report that is not complete nobody is gone.
    served().when(partial(Vec::new())).then_nothing();
}

#[test]
fn a_store_in_which_nothing_but_leases_lie_that_are_over_is_in_use_no_more() {
    let elsewhere = || {
        let mut elsewhere = store();
        if let Command::Apply(declarations) = &mut elsewhere
            && let Some(Declaration::Store { id, name, .. }) = declarations.first_mut()
        {
            *id = StoreId::from_bytes([0x32; 16]);
            *name = StoreName::parse("other").unwrap();
        }
        elsewhere
    };
    let mut moved = dynamic();
    if let Store::Outside(place) = &mut moved.store {
        place.store = StoreName::parse("other").unwrap();
    }
    let remove = || Command::RemoveStore {
        name: StoreName::parse("bao").unwrap(),
    };
    let ending = served().and(revoke(None)).and(elsewhere());
    let ending = ending.and(apply_secret(moved));
    let in_use = store::Rejection::InUse {
        store: StoreName::parse("bao").unwrap(),
        secret: hidden_name(),
    };
    ending.clone().when(remove()).then_rejected(in_use);
    let over = through(ending).drawn(0xdd);
    let removed = over.and(remove());
    assert_eq!(removed.world().stores.len(), 1);
    // Its container gets its next one from where the declared secret lies now.
    let again = removed.and(wants(&[1]));
    assert!(again.world().open_rotation(lease(1)).is_some());
    let place = again.world().secrets[&lease(1)].place().unwrap();
    assert_eq!(place.store.as_str(), "other");
}

/// A lease is minted, and given up before it is promoted.
fn rolling_back(given: Given, rotation: RotationId, n: u8) -> Given {
    let abort = Command::Intervene {
        rotation,
        intervention: Intervention::Abort,
        reason: "not now".to_owned(),
    };
    let minted = given.and(made(rotation, n));
    minted.and(failed(rotation, Step::Set, 1)).and(abort)
}

/// Its store refuses to end it, all but the last time.
fn refused(given: Given, rotation: RotationId) -> Given {
    (1..rotation::MAX_STEP_ATTEMPTS).fold(given, |given, attempt| {
        let refused = given.and(failed(rotation, Step::RollBack, attempt));
        refused.and(Command::RetryStep { rotation })
    })
}

fn last_refusal(rotation: RotationId) -> Command {
    failed(rotation, Step::RollBack, rotation::MAX_STEP_ATTEMPTS)
}

#[test]
fn a_lease_that_its_store_does_not_take_back_is_revoked_by_itself_and_holds_nothing_up() {
    let (rotation, end) = (mint(0), lease::end_of(mint(0)));
    let given = rolling_back(bound().and(wants(&[1])), rotation, 1);
    let given = refused(given, rotation);
    let is_open = |given: &Given| given.world().open_rotation(lease(1)).is_some();
    // A store that is away is waited for.
    let away = Command::StepOutcome {
        rotation,
        step: Step::RollBack,
        attempt: rotation::MAX_STEP_ATTEMPTS,
        failure: Some("connection refused".to_owned()),
        is_away: true,
        remote: None,
        sessions: None,
    };
    assert!(is_open(&given) && is_open(&given.clone().and(away)));
    let closed = rotation::Event::Closed {
        outcome: Outcome::RolledBack,
    };
    let given = given.when(last_refusal(rotation)).then_among_others([
        of_lease(1, secret::Event::VersionRevoked { version: 1 }),
        of_rotation(rotation, closed),
    ]);
    let open = &given.world().revocations[&end];
    assert_eq!(
        (&open.versions[..], &open.retire[..]),
        (&[1][..], &[remote(1)][..])
    );
    let again = given.clone().drawn(0xdd).and(wants(&[1]));
    assert!(is_open(&again), "its container gets another one");
    let confirmed = Command::RevokeOutcome {
        revocation: end,
        attempt: 1,
        failure: None,
    };
    let over = given.and(confirmed);
    let secret = &over.world().secrets[&lease(1)];
    assert!(secret.remotes.is_empty() && secret.destroyed.contains(&1));
    assert!(over.world().revocations[&end].closed);
}

#[test]
fn no_more_ends_than_so_many_are_left_to_a_store_that_confirms_none() {
    let open = |given: &Given| given.world().open_rotation(lease(1)).map(|open| open.id);
    let mut given = bound();
    for n in 1..=u8::try_from(MAX_UNCONFIRMED).unwrap() {
        given = given.drawn(0xb0 + n).and(wants(&[1]));
        let rotation = open(&given).unwrap();
        let back = refused(rolling_back(given, rotation, n), rotation);
        given = back.and(last_refusal(rotation));
        assert_eq!(open(&given), None, "{n}");
    }
    let asked = given.drawn(0xdd).and(another());
    let back = refused(rolling_back(asked, SECOND, 99), SECOND);
    let held = back.and(last_refusal(SECOND));
    assert_eq!(open(&held), Some(SECOND));
    assert_eq!(
        held.world().unconfirmed_revocations(lease(1)),
        MAX_UNCONFIRMED
    );
}

#[test]
fn a_store_is_asked_for_a_lease_that_a_person_revokes_and_its_word_is_no_proof() {
    let given = served().and(revoke(None)).and(confirmed());
    let open = |given: &Given| given.world().revocations[&REVOCATION].clone();
    assert!(open(&given).is_dead_at_backend && !open(&given).is_destroyed);
    assert_eq!(
        crate::revocation::to_prove(given.world(), &open(&given)),
        [1]
    );
    let said = |answer| {
        let evidence = vec![Evidence {
            version: 1,
            at: NOW,
            place: "a lease of database/creds/app at store bao".to_owned(),
            answer,
        }];
        Command::ProofOutcome(ProofTaken {
            revocation: REVOCATION,
            attempt: 2,
            proof: Proof {
                evidence,
                lacking: None,
            },
        })
    };
    let gone = open(&given.clone().and(said(Answer::LeaseGone)));
    assert!(matches!(gone.proven, Proven::Unknown(ref words, _) if words.len() == 1));
    assert_eq!(gone.part, Part::Destroy);
    let alive = open(&given.and(said(Answer::LeaseAlive)));
    assert!(matches!(alive.proven, Proven::Alive(_)) && !alive.is_dead_at_backend);
    // Of a container that is through with its own nobody asks.
    let down = served().and(only(&[])).at(NOW.plus(DEFAULT_LINGER));
    let ended = down.and(Command::LingerEnded { secret: lease(1) });
    let ends = ended.world().revocations.values();
    assert!(ends.into_iter().all(|end| end.part == Part::Whole));
}
