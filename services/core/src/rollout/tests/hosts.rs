//! How many containers of one host may restart at the same time, whatever service they are of.

use super::*;
use crate::schedule::{OnDeadline, RotationPolicy};
use crate::testing::apply_secret;

/// Container `n` of a service of its own waits for leave.
fn of_its_own(n: u8) -> RestartWish {
    RestartWish {
        service: format!("service-{n}"),
        ..waits(n, 2)
    }
}

fn leaves_on(given: &Given, host: HostId) -> usize {
    plan_host(given.world(), host).unwrap().leaves.len()
}

fn most() -> u8 {
    u8::try_from(MAX_LEAVES_PER_HOST).unwrap()
}

#[test]
fn a_host_has_so_many_restarts_at_once_and_the_next_when_one_is_through() {
    let wishes: Vec<RestartWish> = (1..=most() + 1).map(of_its_own).collect();
    let given = rotated(Policy::default());
    let within = wishes[..MAX_LEAVES_PER_HOST].to_vec();
    let full = given.clone().and(says(HOST, within, Vec::new(), &[1]));
    assert_eq!(leaves_on(&full, HOST), MAX_LEAVES_PER_HOST);
    let given = given.and(says(HOST, wishes.clone(), Vec::new(), &[1]));
    assert_eq!(leaves_on(&given, HOST), MAX_LEAVES_PER_HOST);

    // Another host has room of its own.
    let given = given.and(says(OTHER_HOST, vec![of_its_own(20)], Vec::new(), &[1]));
    assert_eq!(leaves_on(&given, OTHER_HOST), 1);

    let waiting = |given: &Given| {
        let rollouts = given.world().rollouts.values();
        let members = rollouts.flat_map(|rollout| rollout.members.iter());
        let on_host = members.filter(|(instance, _)| instance.host == HOST);
        let waiting = on_host.filter(|(_, member)| !member.has_leave());
        waiting
            .map(|(instance, _)| instance.container.clone())
            .collect::<Vec<_>>()
    };
    let left = waiting(&given);
    assert_eq!(left.len(), 1);
    // One that has leave is through: it is named no more.
    let through = (1..=most() + 1).find(|n| container(*n) != left[0]).unwrap();
    let rest: Vec<RestartWish> = wishes
        .into_iter()
        .filter(|wish| wish.container != container(through))
        .collect();
    let given = given.and(says(HOST, rest, Vec::new(), &[1, 2]));
    assert_eq!(leaves_on(&given, HOST), MAX_LEAVES_PER_HOST);
    assert!(waiting(&given).is_empty());
}

/// As many containers of other services as may restart at once on the host; the first is this one.
fn others(first: u8) -> Vec<RestartWish> {
    (first..first + most()).map(of_its_own).collect()
}

#[test]
fn leave_whose_time_comes_later_takes_no_place_until_then() {
    let delay = Duration::from_secs(60);
    let policy = Policy {
        delay,
        ..Policy::default()
    };
    // A second container of each service, which has its turn after the first.
    let second = |n: u8| RestartWish {
        container: container(n + 0x40),
        ..of_its_own(n)
    };
    let seconds: Vec<RestartWish> = (1..=most()).map(second).collect();
    let all: Vec<RestartWish> = others(1).into_iter().chain(seconds.clone()).collect();
    let given = rotated(policy).and(says(HOST, all, Vec::new(), &[1]));
    assert_eq!(leaves_on(&given, HOST), MAX_LEAVES_PER_HOST);

    let next = vec![of_its_own(0x20)];
    let left: Vec<RestartWish> = seconds.into_iter().chain(next).collect();
    let given = given.and(says(HOST, left.clone(), Vec::new(), &[1, 2]));
    let leaves = plan_host(given.world(), HOST).unwrap().leaves;
    let ahead = leaves.iter().filter(|leave| leave.not_before.is_some());
    assert_eq!(ahead.count(), MAX_LEAVES_PER_HOST);
    assert_eq!(leaves.len(), MAX_LEAVES_PER_HOST + 1, "one begins at once");

    let another = vec![of_its_own(0x21)];
    let left = left.into_iter().chain(another).collect();
    let given = given.at(NOW.plus(delay));
    let given = given.and(says(HOST, left, Vec::new(), &[1, 2]));
    assert_eq!(leaves_on(&given, HOST), MAX_LEAVES_PER_HOST + 1);
}

/// Container 1 alone waits for leave, with the policy to force, on a host that has no room.
fn held_back() -> Given {
    let spec = secret::Spec {
        rotation: RotationPolicy {
            on_deadline: OnDeadline::Force,
            ..RotationPolicy::default()
        },
        ..generated()
    };
    let all: Vec<RestartWish> = others(0x20).into_iter().chain([waits(1, 2)]).collect();
    Given::serving_as(env(), rolling(Policy::default()))
        .and(apply_secret(spec))
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(says(HOST, others(0x20), Vec::new(), &[1]))
        .and(says(HOST, all, Vec::new(), &[1]))
}

fn deadline_of(given: &Given) -> Timestamp {
    given.world().rotations[&SECOND].deadline.unwrap()
}

#[test]
fn a_deadline_forces_nobody_who_waits_for_room() {
    let passed = || Command::DeadlinePassed { rotation: SECOND };
    let given = held_back();
    let at = deadline_of(&given);
    let deadline = at.plus(rotation::ACK_DEADLINE);
    let moved = rotation::Event::DeadlineMoved { deadline };
    let given = given
        .at(at)
        .when(passed())
        .then([of_rotation(SECOND, moved)]);

    // Once it has leave it has its time, and then the policy's word counts.
    let given = given.and(says(HOST, vec![waits(1, 2)], Vec::new(), &[1]));
    assert_eq!(members_with_leave(&given), [on(HOST, 1)]);
    let at = deadline_of(&given);
    assert!(at > deadline);
    given
        .at(at)
        .when(passed())
        .then_among_others([of_rotation(SECOND, rotation::Event::Forced)]);
}

#[test]
fn a_deadline_forces_when_somebody_is_missing_who_waits_for_no_room() {
    // Container 2 runs on version 1, and asks for nothing.
    let given = held_back();
    let at = deadline_of(&given);
    let missing = rotation::Event::DistributionStarted {
        consumers: vec![consumer(1), consumer(2)],
        hosts: vec![HOST],
        old: vec![1],
        deadline: at,
    };
    let log = given.log().iter().cloned();
    Given::events(log.chain([of_rotation(SECOND, missing)]))
        .at(at)
        .when(Command::DeadlinePassed { rotation: SECOND })
        .then_among_others([of_rotation(SECOND, rotation::Event::Forced)]);
}

#[test]
fn a_retry_gives_whoever_has_leave_the_time_of_its_restart() {
    let given = rolled();
    let at = deadline_of(&given);
    let parked = given
        .at(at)
        .and(Command::DeadlinePassed { rotation: SECOND });
    assert!(!parked.world().rotations[&SECOND].is_open());
    let given = parked.and(Command::Intervene {
        rotation: SECOND,
        intervention: rotation::Intervention::Retry,
        reason: "mended".to_owned(),
    });
    let takes = binding::DEFAULT_SETTLE.max(binding::DEFAULT_HEALTH_TIMEOUT);
    let deadline = at.plus(rotation::ACK_DEADLINE).plus(takes);
    assert_eq!(deadline_of(&given), deadline);
}
