//! A rollout whose files have the version before the current one in them, which dies meanwhile.

use super::*;
use crate::schedule::RotationPolicy;
use crate::testing::apply_secret;

fn keeping() -> Command {
    apply_secret(secret::Spec {
        rotation: RotationPolicy {
            keep_previous: true,
            ..RotationPolicy::default()
        },
        ..generated()
    })
}

#[test]
fn whoever_restarted_with_a_version_before_that_is_revoked_gets_leave_once_more() {
    let asks = || says(HOST, vec![waits(1, 2)], Vec::new(), &[1]);
    let given = served(Policy::default())
        .and(keeping())
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(asks());
    assert_eq!(given.secret().retained, Some(1));
    assert_eq!(members_with_leave(&given), [on(HOST, 1)]);
    let first = plan_host(given.world(), HOST).unwrap().leaves;
    let given = given.when(asks()).then_nothing();

    let given = given.and(revoke(Some(1)));
    assert!(given.world().rotations[&SECOND].is_open());
    let again = [asked(HOST, 1, 2), leave(HOST, 1)];
    let given = given.when(asks()).then_among_others(again);
    let second = plan_host(given.world(), HOST).unwrap().leaves;
    assert!(second[0].number > first[0].number, "none is used twice");
    let given = given.when(asks()).then_nothing();

    let all = vec![reloaded(1, 2), reloaded(2, 2)];
    let given = given.and(says(HOST, Vec::new(), all, &[2])).and(says(
        OTHER_HOST,
        Vec::new(),
        vec![reloaded(3, 2)],
        &[2],
    ));
    let closed = Phase::Closed(Outcome::Completed);
    let rotation = &given.world().rotations[&SECOND];
    assert_eq!((&rotation.phase, &rotation.halted), (&closed, &None));
    assert!(given.world().rollouts.is_empty());
}

#[test]
fn another_version_that_dies_gives_nobody_leave_again() {
    let asks = || says(HOST, vec![waits(1, 2)], Vec::new(), &[1]);
    let given = rotated(Policy::default()).and(asks());
    let given = given.and(revoke(Some(1)));
    given.when(asks()).then_nothing();
}
