//! What a store that ends no lease holds up, and what it does not.

use super::*;
use crate::effect::{StepWork, Work};

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
        let over = revoked.and(confirmed());
        let secret = &over.world().secrets[&lease(1)];
        assert!(secret.remotes.is_empty() && secret.destroyed.len() == 2);
    }
}
