//! Canaries of one secret, and restarts that another one leads to.

use super::*;
use crate::schedule::{CANARIES, CANARY_WATCH, Canary, RotationPolicy};

/// A secret whose next versions go to few containers first.
fn with_canary() -> secret::Spec {
    let canary = Canary {
        consumers: CANARIES,
        watch: CANARY_WATCH,
    };
    secret::Spec {
        rotation: RotationPolicy {
            canary: Some(canary),
            ..RotationPolicy::default()
        },
        ..generated()
    }
}

#[test]
fn leave_for_one_secret_does_not_wait_while_canaries_of_another_are_watched() {
    let wished = Command::Apply(vec![Declaration::Secret {
        id: OTHER_SECRET,
        rotation: FOURTH,
        name: SecretName::parse("prod/other").unwrap(),
        spec: with_canary(),
    }]);
    let runs = Item {
        binding: OTHER_BINDING,
        secret: OTHER_SECRET,
        ..reloaded(2, 1)
    };
    let knowing = Command::Report(HostReport {
        knows_staged: true,
        ..report(vec![runs], &[1])
    });
    let given = with_another_secret()
        .and(wished)
        .and(knowing)
        .and(rotate(SECOND))
        .and(rotate_other())
        .finished(SECOND)
        .and(says(HOST, vec![waits(2, 2)], Vec::new(), &[1]));
    assert!(
        members_with_leave(&given).is_empty(),
        "one restart for both"
    );
    let steps = [Step::Create, Step::Set, Step::Test];
    let given = steps
        .into_iter()
        .fold(given, |given, step| given.and(done(THIRD, step)));
    let open = &given.world().rotations[&THIRD];
    assert_eq!(open.phase, Phase::Canary);
    assert!(
        open.canaries
            .iter()
            .all(|key| key.container == container(1))
    );
    assert_eq!(members_with_leave(&given), [on(HOST, 2)]);
}

/// Version 2 is all there is, container 3 runs on it, container 2 is down and waits for it, and container 1 has
/// leave for it.
fn half_way() -> Given {
    let wanted = says(HOST, vec![waits_for(1), waits_for(2)], Vec::new(), &[2]);
    let started = says(OTHER_HOST, Vec::new(), vec![reloaded(3, 2)], &[2]);
    let ended = wish(2, Vec::new(), failing());
    let again = says(HOST, vec![waits_for(1), waits_for(2)], Vec::new(), &[2]);
    rotated(Policy::default())
        .and(revoke(Some(1)))
        .and(started)
        .and(wanted)
        .and(says(HOST, vec![waits_for(1), ended], Vec::new(), &[2]))
        .and(again)
}

fn waits_for(n: u8) -> RestartWish {
    waits(n, 2)
}

fn failing() -> RestartState {
    let reason = "its health check fails".to_owned();
    RestartState::Failed { reason }
}

#[test]
fn a_canary_is_not_waited_for_whose_service_is_down_with_the_version_before() {
    let deadline = |rotation| Command::DeadlinePassed { rotation };
    let failed = says(HOST, vec![broken(1, 2), waits(2, 2)], Vec::new(), &[2]);
    let knowing = Command::Report(HostReport {
        host: OTHER_HOST,
        knows_staged: true,
        ..report(Vec::new(), &[2])
    });
    let wants = Command::Report(HostReport {
        host: OTHER_HOST,
        knows_staged: true,
        restarts: vec![waits(3, 3)],
        ..report(Vec::new(), &[2, 3])
    });
    let given = half_way().and(failed).at(later(100_000));
    let given = given.and(deadline(SECOND));
    assert!(!given.world().rotations[&SECOND].is_open());
    let given = given
        .and(apply_secret(with_canary()))
        .and(knowing)
        .and(rotate(THIRD));
    let steps = [Step::Create, Step::Set, Step::Test];
    let given = steps
        .into_iter()
        .fold(given, |given, step| given.and(done(THIRD, step)));
    assert_eq!(given.world().rotations[&THIRD].phase, Phase::Canary);
    let given = given.and(wants);
    assert!(members_with_leave(&given).is_empty(), "there is no room");
    let given = given.at(later(200_000)).when(deadline(THIRD));
    let given = given.then_among_others([of_rotation(THIRD, rotation::Event::DeadlinePassed)]);
    let open = &given.world().rotations[&THIRD];
    assert!(open.is_canary_return());
    let halted = open.halted.as_ref().unwrap();
    assert_eq!(given.secret().current, Some(2));
    assert!(
        format!("{halted:?}").contains("leave `canary` out"),
        "{halted:?}"
    );
}

/// Container 2 ends again and again on its own, on the version that everybody has; container 1 is the next one's canary
/// and wants to restart.
fn canary_beside_one_that_is_down(policy: Policy) -> Given {
    let down = || wish(2, Vec::new(), RestartState::UnderWay);
    let told = |restarts| {
        Command::Report(HostReport {
            knows_staged: true,
            restarts,
            ..report(Vec::new(), &[1])
        })
    };
    let given = served(policy)
        .and(apply_secret(with_canary()))
        .and(told(vec![down()]))
        .and(rotate(SECOND));
    let steps = [Step::Create, Step::Set, Step::Test];
    let given = steps
        .into_iter()
        .fold(given, |given, step| given.and(done(SECOND, step)));
    let open = &given.world().rotations[&SECOND];
    assert_eq!(open.phase, Phase::Canary);
    let is_first = |key: &crate::assignment::Key| key.container == container(1);
    assert!(open.canaries.iter().all(is_first));
    given.and(told(vec![down(), waits(1, 2)]))
}

#[test]
fn a_canary_is_not_waited_for_beside_one_that_does_not_come_up() {
    let given = canary_beside_one_that_is_down(Policy::default());
    assert!(members_with_leave(&given).is_empty(), "there is no room");
    let deadline = Command::DeadlinePassed { rotation: SECOND };
    let given = given.at(later(200_000)).when(deadline);
    let given = given.then_among_others([of_rotation(SECOND, rotation::Event::DeadlinePassed)]);
    let open = &given.world().rotations[&SECOND];
    assert!(open.is_canary_return());
    let halted = format!("{:?}", open.halted);
    assert!(
        halted.contains("container web of its service is down"),
        "{halted}"
    );
}

#[test]
fn a_canary_for_which_there_is_room_restarts_beside_one_that_does_not_come_up() {
    let two = Policy {
        max_unavailable: 2,
        ..Policy::default()
    };
    let given = canary_beside_one_that_is_down(two);
    assert_eq!(members_with_leave(&given), [on(HOST, 1)]);
}
