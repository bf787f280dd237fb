//! Rollouts over two hosts: one at a time, halted by a failure and turned back, coalesced.

mod canaries;
mod cut_over;
mod histories;
mod hosts;
mod previous;
mod two_secrets;

use std::time::Duration;

use super::*;
use crate::binding::{self, Reload, Rollout as Policy};
use crate::command::{Command, Declaration};
use crate::event::Event as Any;
use crate::id::RotationId;
use crate::name::{BindingName, EnvName, SecretName};
use crate::plan::plan_host;
use crate::report::{Fact, HostReport, Item, MAX_REPORT_ITEMS, RestartState, RestartWish};
use crate::rotation::{self, Outcome, Phase, Step};
use crate::secret;
use crate::testing::{
    BINDING, Given, HOST, NOW, OTHER_HOST, SECOND, SECRET, THIRD, anywhere, apply_binding,
    apply_secret, assigned, consumer, container, done, enrol, env, evict, generated, item, later,
    of_rotation, of_secret, reloaded, report, restart, revoke, rotate,
};

const OTHER_SECRET: SecretId = SecretId::from_bytes([0x21; 16]);
const OTHER_BINDING: BindingId = BindingId::from_bytes([0x22; 16]);
const FOURTH: RotationId = RotationId::from_bytes([0x23; 16]);

fn rolling(policy: Policy) -> Reload {
    Reload::Restart {
        settle: binding::DEFAULT_SETTLE,
        health_timeout: binding::DEFAULT_HEALTH_TIMEOUT,
        rollout: Some(policy),
    }
}

fn service() -> Service {
    Service::of("sha256:1", "payments")
}

fn on(host: HostId, n: u8) -> Instance {
    Instance {
        host,
        container: container(n),
    }
}

fn due(version: u64) -> Vec<Due> {
    vec![Due {
        binding: BINDING,
        secret: SECRET,
        version,
    }]
}

fn wish(n: u8, due: Vec<Due>, state: RestartState) -> RestartWish {
    RestartWish {
        container: container(n),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        service: "payments".to_owned(),
        due,
        state,
    }
}

fn waits(n: u8, version: u64) -> RestartWish {
    wish(n, due(version), RestartState::Due)
}

fn broken(n: u8, version: u64) -> RestartWish {
    let reason = "its health check fails".to_owned();
    wish(n, due(version), RestartState::Failed { reason })
}

fn says(host: HostId, restarts: Vec<RestartWish>, items: Vec<Item>, holds: &[u64]) -> Command {
    Command::Report(HostReport {
        host,
        restarts,
        ..report(items, holds)
    })
}

fn of(event: Event) -> Any {
    Any::Rollout(service(), event)
}

fn asked(host: HostId, n: u8, version: u64) -> Any {
    of(Event::Asked {
        instance: on(host, n),
        container_name: "web".to_owned(),
        due: due(version),
    })
}

fn leave(host: HostId, n: u8) -> Any {
    of(Event::LeaveGiven {
        instance: on(host, n),
        not_before: None,
    })
}

fn settled(host: HostId, n: u8, at: Timestamp) -> Any {
    let instance = on(host, n);
    of(Event::Settled { instance, at })
}

/// Containers 1 and 2 on one host and 3 on another run on version 1 as a variable.
fn served(policy: Policy) -> Given {
    let other = says(OTHER_HOST, Vec::new(), vec![reloaded(3, 1)], &[1]);
    Given::serving_as(env(), rolling(policy))
        .and(Command::Report(report(vec![reloaded(2, 1)], &[1])))
        .and(enrol(OTHER_HOST))
        .and(other)
}

/// As [`served`], and version 2 is promoted.
fn rotated(policy: Policy) -> Given {
    served(policy).and(rotate(SECOND)).finished(SECOND)
}

/// As [`rotated`], and container 1 has leave.
fn rolled() -> Given {
    let both = vec![waits(1, 2), waits(2, 2)];
    rotated(Policy::default())
        .and(says(HOST, both, Vec::new(), &[1]))
        .and(says(OTHER_HOST, vec![waits(3, 2)], Vec::new(), &[1]))
}

fn members_with_leave(given: &Given) -> Vec<Instance> {
    let rollout = given.world().rollouts.get(&service());
    let members = rollout.iter().flat_map(|rollout| &rollout.members);
    let members = members.filter(|(_, member)| member.has_leave());
    members.map(|(instance, _)| instance.clone()).collect()
}

#[test]
fn one_container_over_all_hosts_has_leave_and_the_next_when_it_is_through() {
    let given = rolled();
    assert_eq!(members_with_leave(&given), [on(HOST, 1)]);
    let leaves = plan_host(given.world(), HOST).unwrap().leaves;
    assert_eq!(leaves.len(), 1);
    assert_eq!(leaves[0].container, container(1));
    assert!(
        plan_host(given.world(), OTHER_HOST)
            .unwrap()
            .leaves
            .is_empty()
    );

    let under_way = vec![wish(1, due(2), RestartState::UnderWay), waits(2, 2)];
    let given = given
        .when(says(HOST, under_way, Vec::new(), &[1]))
        .then_nothing();
    let through = says(HOST, vec![waits(2, 2)], vec![reloaded(1, 2)], &[1, 2]);
    let given = given
        .when(through)
        .then_among_others([settled(HOST, 1, NOW), leave(HOST, 2)]);
    let through = says(HOST, Vec::new(), vec![reloaded(2, 2)], &[2]);
    let given = given
        .when(through)
        .then_among_others([settled(HOST, 2, NOW), leave(OTHER_HOST, 3)]);
    let through = says(OTHER_HOST, Vec::new(), vec![reloaded(3, 2)], &[2]);
    let given = given.when(through).then_among_others([
        of_secret(secret::Event::VersionRevoked { version: 1 }),
        settled(OTHER_HOST, 3, NOW),
    ]);
    assert!(given.world().rollouts.is_empty());
}

#[test]
fn a_compose_service_is_one_over_images_and_other_containers_are_one_by_their_image() {
    assert_eq!(
        Service::of("sha256:1", "web"),
        Service::of("sha256:2", "web")
    );
    assert_ne!(Service::of("sha256:1", ""), Service::of("sha256:2", ""));
    assert_ne!(Service::of("sha256:1", ""), Service::of("sha256:1", "web"));
}

#[test]
fn a_repeated_report_and_an_incomplete_one_end_nothing() {
    let given = rolled();
    let repeated = says(HOST, vec![waits(1, 2), waits(2, 2)], Vec::new(), &[1]);
    let given = given.when(repeated).then_nothing();
    let incomplete = Command::Report(HostReport {
        complete: false,
        containers: Vec::new(),
        ..report(Vec::new(), &[1])
    });
    let given = given.when(incomplete).then_nothing();
    assert_eq!(members_with_leave(&given), [on(HOST, 1)]);
}

#[test]
fn a_failure_halts_the_rollout_and_the_version_before_is_assigned_again_everywhere() {
    let failed = says(HOST, vec![broken(1, 2), waits(2, 2)], Vec::new(), &[1, 2]);
    let reason = "its health check fails".to_owned();
    let given = rolled().when(failed).then_among_others([
        of_rotation(
            SECOND,
            rotation::Event::Halted {
                consumer: consumer(1),
                reason,
            },
        ),
        of_secret(secret::Event::VersionPromoted { version: 1 }),
        Any::Assignment(consumer(1), assigned(1)),
        Any::Assignment(consumer(2), assigned(1)),
    ]);
    assert!(members_with_leave(&given).is_empty());
    let grant = plan_host(given.world(), OTHER_HOST).unwrap().bindings[0].current;
    assert_eq!(grant.map(|grant| grant.version), Some(1));
    // Nobody is waited for who never left the version.
    let open = &given.world().rotations[&SECOND];
    assert_eq!((open.wanted(), open.old.clone()), (1, vec![2]));
    assert!(open.waiting.is_empty());

    // It is down, so it comes first, and back on the version before all of it is over.
    let back = says(HOST, vec![waits(1, 1)], Vec::new(), &[1, 2]);
    let given = given.when(back).then_among_others([
        asked(HOST, 1, 1),
        settled(HOST, 2, NOW),
        leave(HOST, 1),
    ]);
    let given = given
        .and(says(OTHER_HOST, Vec::new(), Vec::new(), &[1]))
        .and(says(HOST, Vec::new(), vec![reloaded(1, 1)], &[1]));
    let open = &given.world().rotations[&SECOND];
    let (step, attempt) = (Step::RollBack, 1);
    assert_eq!(open.phase, Phase::Performing { step, attempt });
    assert!(!given.secret().is_deliverable(2));
    let outcome = Outcome::RolledBack;
    let given = given.when(done(SECOND, Step::RollBack)).then_among_others([
        of_rotation(SECOND, rotation::Event::Closed { outcome }),
        of_secret(secret::Event::VersionDestroyed { version: 2 }),
    ]);
    assert_eq!(given.secret().current, Some(1));
    assert!(given.world().rollouts.is_empty());
}

#[test]
fn a_consumer_that_had_moved_is_waited_for_when_the_rotation_is_turned_back() {
    let through = says(HOST, vec![waits(2, 2)], vec![reloaded(1, 2)], &[1, 2]);
    let failed = says(HOST, vec![broken(2, 2)], Vec::new(), &[1, 2]);
    let given = rolled().and(through).and(failed);
    let open = &given.world().rotations[&SECOND];
    assert_eq!(Vec::from_iter(&open.waiting), [&consumer(1)]);
    // The one that is down comes first; the other one only when it is well again.
    let back = says(HOST, vec![waits(1, 1), waits(2, 1)], Vec::new(), &[1, 2]);
    let given = given.and(back);
    assert_eq!(members_with_leave(&given), [on(HOST, 2)]);
    let well = says(HOST, vec![waits(1, 1)], Vec::new(), &[1, 2]);
    let given = given.and(well);
    assert_eq!(members_with_leave(&given), [on(HOST, 1)]);
}

#[test]
fn the_version_that_failed_dies_only_when_whoever_failed_is_well_again() {
    let failed = says(HOST, vec![broken(1, 2)], Vec::new(), &[1, 2]);
    let other = says(OTHER_HOST, Vec::new(), Vec::new(), &[1]);
    let down = says(HOST, vec![waits(1, 1)], Vec::new(), &[1]);
    let given = rolled().and(failed).and(other).and(down);
    assert!(given.secret().is_deliverable(2));
    assert_eq!(members_with_leave(&given), [on(HOST, 1)]);
    let starts = vec![wish(1, due(1), RestartState::UnderWay)];
    let given = given.and(says(HOST, starts, Vec::new(), &[1]));
    assert!(given.secret().is_deliverable(2));
    let given = given.and(says(HOST, Vec::new(), Vec::new(), &[1]));
    assert!(!given.secret().is_deliverable(2));
}

#[test]
fn when_the_version_before_fails_too_nothing_more_restarts_and_the_deadline_parks() {
    let failed = says(HOST, vec![broken(1, 2)], Vec::new(), &[1, 2]);
    let again = says(HOST, vec![waits(1, 1)], Vec::new(), &[1, 2]);
    let fails_again = says(HOST, vec![broken(1, 1)], Vec::new(), &[1, 2]);
    let asks = says(OTHER_HOST, vec![waits(3, 1)], Vec::new(), &[1]);
    let given = rolled().and(failed).and(again).and(fails_again).and(asks);
    assert!(members_with_leave(&given).is_empty());
    let open = &given.world().rotations[&SECOND];
    assert!(open.is_open() && open.returning == Some(1));
    let outcome = Outcome::Parked;
    let given = given.at(later(3600));
    let parked = given.when(Command::DeadlinePassed { rotation: SECOND });
    parked.then_among_others([
        of_rotation(SECOND, rotation::Event::DeadlinePassed),
        of_rotation(SECOND, rotation::Event::Closed { outcome }),
    ]);
}

#[test]
fn with_the_version_before_revoked_a_failure_only_halts() {
    let failed = says(HOST, vec![broken(1, 2)], Vec::new(), &[2]);
    let given = rolled().and(revoke(Some(1))).and(failed);
    let open = &given.world().rotations[&SECOND];
    assert!(open.halted.is_some() && open.returning.is_none());
    assert_eq!(given.secret().current, Some(2));
    assert!(members_with_leave(&given).is_empty());
}

#[test]
fn a_revocation_of_the_version_that_is_taken_back_ends_the_rotation() {
    let failed = says(HOST, vec![broken(1, 2)], Vec::new(), &[1, 2]);
    let given = rolled().and(failed).and(revoke(Some(2)));
    let outcome = Outcome::Cancelled;
    assert_eq!(
        given.world().rotations[&SECOND].phase,
        Phase::Closed(outcome)
    );
    assert_eq!(given.secret().current, Some(1));
}

#[test]
fn a_revocation_of_the_version_that_is_turned_back_to_leaves_the_new_one_alive() {
    let failed = says(HOST, vec![broken(1, 2)], Vec::new(), &[1, 2]);
    let given = rolled().and(failed);
    let closed = |outcome| of_rotation(SECOND, rotation::Event::Closed { outcome });
    // A journal of an earlier build, whose revocation left the rotation open.
    let dead = of_secret(secret::Event::VersionRevoked { version: 1 });
    let before = Given::events(given.log().iter().cloned().chain([dead]))
        .and(says(OTHER_HOST, Vec::new(), Vec::new(), &[]))
        .when(says(HOST, Vec::new(), Vec::new(), &[]))
        .then_among_others([closed(Outcome::Parked)]);
    assert!(before.secret().is_deliverable(2));

    let given = given
        .when(revoke(Some(1)))
        .then_among_others([closed(Outcome::Cancelled)])
        .and(says(OTHER_HOST, Vec::new(), Vec::new(), &[]))
        .and(says(HOST, Vec::new(), Vec::new(), &[]));
    assert!(given.secret().is_deliverable(2));
}

#[test]
fn more_may_restart_together_as_far_as_both_bounds_go() {
    for (max_parallel, max_unavailable, expected) in [(2, 2, 2), (2, 1, 1), (1, 2, 1), (3, 3, 3)] {
        let policy = Policy {
            max_parallel,
            max_unavailable,
            ..Policy::default()
        };
        let given = rotated(policy)
            .and(says(HOST, vec![waits(1, 2), waits(2, 2)], Vec::new(), &[1]))
            .and(says(OTHER_HOST, vec![waits(3, 2)], Vec::new(), &[1]));
        assert_eq!(members_with_leave(&given).len(), expected, "{policy:?}");
    }
}

#[test]
fn a_container_that_started_on_its_own_takes_room_until_it_is_well() {
    let starts = wish(3, due(2), RestartState::UnderWay);
    let given = rolled()
        .and(says(OTHER_HOST, vec![starts], Vec::new(), &[1, 2]))
        .and(says(HOST, vec![waits(2, 2)], vec![reloaded(1, 2)], &[1, 2]));
    assert!(members_with_leave(&given).is_empty());
    let well = says(OTHER_HOST, Vec::new(), vec![reloaded(3, 2)], &[2]);
    assert_eq!(members_with_leave(&given.and(well)), [on(HOST, 2)]);
}

#[test]
fn a_container_that_took_the_version_by_itself_and_is_not_well_halts_too() {
    let failed = says(OTHER_HOST, vec![broken(3, 2)], Vec::new(), &[1, 2]);
    let given = rolled().and(failed.clone());
    assert_eq!(given.world().rotations[&SECOND].returning, Some(1));
    given.when(failed).then_nothing();
    // Of what no rotation brings it only takes room.
    let broken_before = says(OTHER_HOST, vec![broken(3, 1)], Vec::new(), &[1]);
    let given = rolled().and(broken_before);
    assert!(given.world().rotations[&SECOND].halted.is_none());
    let member = &given.world().rollouts[&service()].members[&on(OTHER_HOST, 3)];
    assert_eq!((&member.stage, member.is_down), (&Stage::Unwell, true));
}

#[test]
fn the_next_one_waits_for_the_delay_and_whoever_has_leave_is_given_time() {
    let policy = Policy {
        delay: Duration::from_secs(30),
        ..Policy::default()
    };
    let both = vec![waits(1, 2), waits(2, 2)];
    let given = rotated(policy).and(says(HOST, both, Vec::new(), &[1]));
    let through = says(HOST, vec![waits(2, 2)], vec![reloaded(1, 2)], &[1, 2]);
    let given = given.at(later(60)).and(through);
    let last = given.world().rollouts[&service()].members[&on(HOST, 2)].clone();
    let Stage::Leave { not_before, .. } = last.stage else {
        panic!("{last:?}");
    };
    assert_eq!(not_before, Some(later(90)));
    let waits_until = given.world().rotations[&SECOND].deadline;
    let takes = rotation::ACK_DEADLINE + binding::DEFAULT_HEALTH_TIMEOUT;
    assert_eq!(waits_until, Some(later(90).plus(takes)));
}

#[test]
fn whoever_only_waited_starts_no_delay() {
    let both = vec![waits(1, 2), waits(2, 2)];
    let given = rotated(Policy::default())
        .and(says(HOST, both, Vec::new(), &[1]))
        .when(says(HOST, vec![waits(1, 2)], Vec::new(), &[1]))
        .then([settled(HOST, 2, NOW)]);
    assert_eq!(given.world().rollouts[&service()].rested_at, None);
}

/// An incomplete report in which these containers wait.
fn crowd(numbers: impl IntoIterator<Item = usize>) -> Command {
    let one = |n: usize| RestartWish {
        container: ContainerId::parse(&format!("{n:064x}")).unwrap(),
        ..waits(1, 2)
    };
    Command::Report(HostReport {
        restarts: numbers.into_iter().map(one).collect(),
        containers: Vec::new(),
        complete: false,
        ..report(Vec::new(), &[1])
    })
}

#[test]
fn a_host_has_as_many_members_as_one_report_may_name() {
    let last = MAX_REPORT_ITEMS - 1;
    let given = rotated(Policy::default())
        .and(crowd(0..last))
        .and(crowd([last, MAX_REPORT_ITEMS]));
    let members = &given.world().rollouts[&service()].members;
    assert_eq!(members.len(), MAX_REPORT_ITEMS);
    given.when(crowd([MAX_REPORT_ITEMS])).then_nothing();
}

#[test]
fn the_room_of_a_host_that_is_evicted_is_free_again() {
    let given = rolled()
        .when(evict(HOST))
        .then_among_others([settled(HOST, 1, NOW), leave(OTHER_HOST, 3)]);
    assert_eq!(members_with_leave(&given), [on(OTHER_HOST, 3)]);
}

#[test]
fn what_no_binding_gives_a_rollout_is_not_listened_to() {
    let given = Given::serving_as(env(), restart())
        .and(rotate(SECOND))
        .finished(SECOND);
    let asks = says(HOST, vec![waits(1, 2)], Vec::new(), &[1]);
    assert!(given.and(asks).world().rollouts.is_empty());
}

#[test]
fn another_binding_lets_what_failed_ask_again() {
    let failed = says(HOST, vec![broken(1, 2)], Vec::new(), &[2]);
    let given = rolled().and(revoke(Some(1))).and(failed);
    let policy = Policy {
        monitor: Duration::from_secs(1),
        ..Policy::default()
    };
    let given = given.and(apply_binding(anywhere(), env(), rolling(policy)));
    let asks = says(HOST, vec![waits(1, 2)], Vec::new(), &[2]);
    assert_eq!(members_with_leave(&given.and(asks)), [on(HOST, 1)]);
}

/// A second secret in the same containers, with a version that container 1 runs on.
fn with_another_secret() -> Given {
    let name = SecretName::parse("prod/other").unwrap();
    let secret = Command::Apply(vec![Declaration::Secret {
        id: OTHER_SECRET,
        rotation: FOURTH,
        name: name.clone(),
        spec: generated(),
    }]);
    let binding = Command::Apply(vec![Declaration::Binding {
        id: OTHER_BINDING,
        name: BindingName::parse("other").unwrap(),
        secret: name,
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::new(),
        selector: anywhere(),
        target: binding::Target::Env {
            name: EnvName::parse("OTHER").unwrap(),
        },
        reload: rolling(Policy::default()),
        on_revoke: crate::binding::OnRevoke::Remove,
    }]);
    let runs = Item {
        binding: OTHER_BINDING,
        secret: OTHER_SECRET,
        ..reloaded(1, 1)
    };
    served(Policy::default())
        .and(secret)
        .finished(FOURTH)
        .and(binding)
        .and(Command::Report(report(vec![runs], &[1])))
}

fn rotate_other() -> Command {
    Command::Rotate {
        rotation: THIRD,
        secret: SecretName::parse("prod/other").unwrap(),
    }
}

#[test]
fn leave_waits_for_another_secret_of_the_container_that_is_about_to_change() {
    let given = with_another_secret()
        .and(rotate(SECOND))
        .and(rotate_other())
        .finished(SECOND)
        .and(says(HOST, vec![waits(1, 2)], Vec::new(), &[1]));
    assert!(members_with_leave(&given).is_empty());
    let promoted = given.clone().finished(THIRD);
    assert_eq!(members_with_leave(&promoted), [on(HOST, 1)]);
    // A store that does not answer holds nobody up.
    let failed = Command::StepOutcome {
        rotation: THIRD,
        step: Step::Create,
        attempt: 1,
        failure: Some("store down".to_owned()),
        is_away: true,
        remote: None,
        sessions: None,
    };
    assert_eq!(members_with_leave(&given.and(failed)), [on(HOST, 1)]);
}

#[test]
fn a_restart_for_two_secrets_that_fails_turns_both_back() {
    let both = vec![
        Due {
            binding: BINDING,
            secret: SECRET,
            version: 2,
        },
        Due {
            binding: OTHER_BINDING,
            secret: OTHER_SECRET,
            version: 2,
        },
    ];
    let reason = "it ended".to_owned();
    let failed = wish(1, both.clone(), RestartState::Failed { reason });
    let given = with_another_secret()
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(rotate_other())
        .finished(THIRD)
        .and(says(
            HOST,
            vec![wish(1, both, RestartState::Due)],
            Vec::new(),
            &[1],
        ))
        .and(says(HOST, vec![failed], Vec::new(), &[1, 2]));
    for rotation in [SECOND, THIRD] {
        assert_eq!(given.world().rotations[&rotation].returning, Some(1));
    }
}

#[test]
fn what_else_a_container_holds_is_not_to_blame() {
    let all = vec![
        due(2)[0],
        Due {
            binding: OTHER_BINDING,
            secret: OTHER_SECRET,
            version: 1,
        },
    ];
    let reason = "it ended".to_owned();
    let failed = wish(1, all, RestartState::Failed { reason });
    let given = with_another_secret()
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(says(HOST, vec![waits(1, 2)], Vec::new(), &[1]))
        .and(says(HOST, vec![failed.clone()], Vec::new(), &[1, 2]));
    let rollout = &given.world().rollouts[&service()];
    assert_eq!(Vec::from_iter(&rollout.failed), [&(SECRET, 2)]);
    assert_eq!(given.world().rotations[&SECOND].returning, Some(1));
    let repeated = says(HOST, vec![failed], Vec::new(), &[1, 2]);
    given.when(repeated).then_nothing();
}

#[test]
fn a_refused_consumer_under_no_rollout_turns_nothing_back() {
    let reason = "no space".to_owned();
    let refused = item(1, Fact::Refused { version: 2, reason });
    let given = rotated(Policy::default()).and(Command::Report(report(vec![refused], &[1])));
    assert!(given.world().rotations[&SECOND].halted.is_none());
}
