//! Canaries of one secret, and restarts that another one leads to.

use super::*;
use crate::schedule::{CANARIES, CANARY_WATCH, Canary, RotationPolicy};

#[test]
fn leave_for_one_secret_does_not_wait_while_canaries_of_another_are_watched() {
    let canary = Canary {
        consumers: CANARIES,
        watch: CANARY_WATCH,
    };
    let spec = secret::Spec {
        rotation: RotationPolicy {
            canary: Some(canary),
            ..RotationPolicy::default()
        },
        ..generated()
    };
    let wished = Command::Apply(vec![Declaration::Secret {
        id: OTHER_SECRET,
        rotation: FOURTH,
        name: SecretName::parse("prod/other").unwrap(),
        spec,
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
