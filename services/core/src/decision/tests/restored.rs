//! A log that was put back: numbers of the time it lost are never given out again.

use super::*;
use crate::command::BuryLost;

fn lost(up_to: u64) -> Command {
    Command::BuryLost(BuryLost {
        secret: secret_name(),
        up_to,
        reason: "the log was put back".to_owned(),
    })
}

#[test]
fn numbers_of_a_lost_time_are_dead_and_the_next_version_is_another() {
    let given = Given::first_version().and(lost(3));
    let secret = given.secret();
    assert_eq!((secret.current, secret.last_version), (Some(1), 3));
    assert_eq!(secret.alive(), [1]);
    assert!(!secret.is_deliverable(2) && !secret.is_deliverable(3));
    assert_eq!(
        Vec::from_iter(secret.kept()),
        [1],
        "nothing of them is anywhere"
    );
    let given = given.and(rotate(SECOND));
    assert_eq!(given.secret().pending, Some(4));
}

#[test]
fn burying_again_or_below_what_is_known_changes_nothing() {
    let given = Given::first_version().and(lost(3));
    for up_to in [0, 1, 3] {
        let before = given.world().clone();
        let after = Given::first_version().and(lost(3)).and(lost(up_to));
        assert_eq!(*after.world(), before);
    }
    given.when(lost(3)).then_nothing();
}

#[test]
fn a_secret_that_is_not_known_is_named_and_one_command_buries_so_many_at_most() {
    let nothing = Given::nothing();
    nothing
        .when(lost(3))
        .then_rejected(Rejection::SecretUnknown {
            name: secret_name(),
            nearest: None,
        });
    let given = Given::first_version().and(lost(u64::MAX));
    assert_eq!(given.secret().last_version, 1 + MAX_BURIED);
}

#[test]
fn a_dead_current_and_a_lost_one_leave_nothing_to_give_until_a_rotation() {
    let given = Given::first_version().and(revoke(None)).and(lost(2));
    assert_eq!(given.secret().current, None);
    assert!(given.secret().alive().is_empty());
    assert_eq!((given.secret().floor, given.secret().dead.len()), (2, 0));
}
