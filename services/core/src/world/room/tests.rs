//! The room that is counted once is the room that counting for each container finds, in every world that some orders
//! and members of rollouts make.

use std::cell::Cell;

use super::*;
use crate::binding::{DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, Reload, Rollout as Policy};
use crate::event::Event;
use crate::host::{self, Origin, Subject};
use crate::id::RunId;
use crate::rollout;
use crate::testing::{
    Given, HOST, OTHER_HOST, anywhere, apply_binding, container, enrol, file, reloaded, report,
};

thread_local! {
    static LOOKED: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn note_looked() {
    LOOKED.set(LOOKED.get() + 1);
}

/// How many orders and members this thread looked at since it was asked last.
pub(crate) fn looked() -> usize {
    LOOKED.take()
}

/// As it was counted for each container by itself.
fn may_by_itself(world: &World, host: HostId, container: &ContainerId) -> bool {
    let Some(subject) = world.known_container(host, container) else {
        return true;
    };
    let is_own = |at: HostId, other: &ContainerId| at == host && other == container;
    let mut ordered = world.ordered_restarts();
    if ordered.any(|(at, one)| is_own(at, &one.subject.container)) {
        return false;
    }
    let service = subject.rollout_service();
    let ordered = world.ordered_restarts();
    let beside = ordered.filter(|(_, one)| one.subject.rollout_service() == service);
    let beside = beside.count();
    let (mut leaves, mut unavailable) = (beside, beside);
    let members = world.rollouts.get(&service).map(|rollout| &rollout.members);
    for (Instance { host, container }, member) in members.into_iter().flatten() {
        if is_own(*host, container) {
            if member.has_leave() {
                return false;
            }
            continue;
        }
        leaves += usize::from(member.has_leave());
        unavailable += usize::from(member.is_unavailable());
    }
    let members = world.rollouts.values().flat_map(|one| &one.members);
    let may = members.filter(|(at, member)| at.host == host && member.has_leave());
    let on_host = world.hosts[&host].restarts.len() + may.count();
    let policy = world.restart_policy(host, container);
    let fits = |taken: usize, most: u32| u32::try_from(taken).is_ok_and(|taken| taken < most);
    fits(leaves, policy.max_parallel)
        && fits(unavailable, policy.max_unavailable)
        && on_host < MAX_LEAVES_PER_HOST
}

fn ordered(host: HostId, n: u8, image: &str) -> Event {
    let subject = Subject {
        container: container(n),
        name: "web".to_owned(),
        image_digest: image.to_owned(),
        service: String::new(),
    };
    let origin = Origin {
        run: RunId::from_bytes([0x21; 16]),
        step: "restart".to_owned(),
        place: 0,
    };
    let ordered = host::Event::RestartOrdered {
        subject,
        origin,
        not_before: None,
    };
    Event::Host(host, ordered)
}

const OWN: &str = "sha256:1";
const OTHER: &str = "sha256:2";

fn of_rollout(image: &str, event: rollout::Event) -> Event {
    Event::Rollout(Service::of(image, ""), event)
}

fn unwell(host: HostId, n: u8, image: &str) -> Event {
    let unwell = rollout::Event::Unwell {
        instance: instance(host, n),
        container_name: "web".to_owned(),
    };
    of_rollout(image, unwell)
}

fn leave(host: HostId, n: u8, image: &str) -> Vec<Event> {
    let asked = rollout::Event::Asked {
        instance: instance(host, n),
        container_name: "web".to_owned(),
        due: Vec::new(),
    };
    let given = rollout::Event::LeaveGiven {
        instance: instance(host, n),
        not_before: None,
    };
    let all = [asked, given].into_iter();
    all.map(|event| of_rollout(image, event)).collect()
}

fn instance(host: HostId, n: u8) -> Instance {
    let container = container(n);
    Instance { host, container }
}

/// Five containers of one service run on one host, and there is another host.
fn serving(policy: Option<Policy>) -> Given {
    let items = (1..6).map(|n| reloaded(n, 1)).collect();
    let given = Given::serving().and(enrol(OTHER_HOST));
    let given = given.and(crate::command::Command::Report(report(items, &[1])));
    let reload = Reload::Restart {
        settle: DEFAULT_SETTLE,
        health_timeout: DEFAULT_HEALTH_TIMEOUT,
        rollout: policy,
    };
    given.and(apply_binding(anywhere(), file(), reload))
}

fn policy(most: u32, unavailable: u32) -> Option<Policy> {
    Some(Policy {
        max_parallel: most,
        max_unavailable: unavailable,
        ..Policy::default()
    })
}

#[test]
fn what_is_counted_once_is_what_each_would_count() {
    let busy = (20..27).map(|n| ordered(HOST, n, OTHER));
    let parts = [
        vec![ordered(HOST, 1, OWN)],
        vec![ordered(OTHER_HOST, 30, OWN)],
        busy.collect(),
        vec![unwell(HOST, 2, OWN)],
        leave(HOST, 3, OWN),
        leave(OTHER_HOST, 31, OWN),
        vec![unwell(OTHER_HOST, 32, OWN)],
        leave(HOST, 4, OTHER),
    ];
    let (mut free, mut full) = (0, 0);
    for policy in [None, policy(2, 3), policy(3, 2), policy(20, 20)] {
        let known = serving(policy);
        for chosen in 0..(1_u32 << parts.len()) {
            let parts = parts.iter().enumerate();
            let events = parts.filter(|(at, _)| chosen & (1 << at) != 0);
            let events = events.flat_map(|(_, events)| events.iter().cloned());
            let given = Given::events(known.log().iter().cloned().chain(events));
            let room = Room::in_world(given.world());
            // The last one is gone.
            for n in 1..7 {
                let found = room.may_restart(HOST, &container(n));
                let wanted = may_by_itself(given.world(), HOST, &container(n));
                assert_eq!(found, wanted, "{n} with {policy:?} in {chosen:b}");
                free += usize::from(found);
                full += usize::from(!found);
            }
        }
    }
    assert!(
        free > 100 && full > 100,
        "{free} are free and {full} are not"
    );
}
