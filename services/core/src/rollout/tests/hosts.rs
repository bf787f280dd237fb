//! How many containers of one host may restart at the same time, whatever service they are of.

use super::*;

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
