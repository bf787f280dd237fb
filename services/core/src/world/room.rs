//! How much room services and hosts have for restarts that playbooks order: what restarts by orders and rollouts,
//! counted once for all that wait.
//!
//! It owns the count, and holds nothing beyond the question: whoever changes the world counts anew. Invariant: what is
//! asked of one container costs no more, however many orders and members of rollouts there are.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use crate::id::{ContainerId, HostId};
use crate::rollout::{Instance, MAX_LEAVES_PER_HOST, Member, Service};

/// What restarts, or may, in a world.
#[derive(Debug)]
pub struct Room<'w> {
    world: &'w World,
    /// Containers that restart by order.
    ordered: BTreeSet<(HostId, &'w ContainerId)>,
    services: BTreeMap<Service, Taken>,
    /// Containers of a host that restart, or may, by orders and rollouts.
    hosts: BTreeMap<HostId, usize>,
}

/// What is taken of a service's room, over all hosts.
#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    leaves: usize,
    unavailable: usize,
}

impl<'w> Room<'w> {
    /// Looks at each order and each member of a rollout, once.
    #[must_use]
    pub fn in_world(world: &'w World) -> Self {
        let mut room = Self {
            world,
            ordered: BTreeSet::new(),
            services: BTreeMap::new(),
            hosts: BTreeMap::new(),
        };
        for (host, one) in world.ordered_restarts() {
            note_looked();
            room.ordered.insert((host, &one.subject.container));
            let taken = room.services.entry(one.subject.rollout_service());
            let taken = taken.or_default();
            taken.leaves += 1;
            taken.unavailable += 1;
            *room.hosts.entry(host).or_default() += 1;
        }
        for (service, rollout) in &world.rollouts {
            let taken = room.services.entry(service.clone()).or_default();
            for (instance, member) in &rollout.members {
                note_looked();
                let may = usize::from(member.has_leave());
                taken.leaves += may;
                taken.unavailable += usize::from(member.is_unavailable());
                *room.hosts.entry(instance.host).or_default() += may;
            }
        }
        room
    }

    /// Whether an ordered restart of a container may begin: none of it is under way, and its service, counted over
    /// hosts, rollouts and orders, and its host have room.
    #[must_use]
    pub fn may_restart(&self, host: HostId, container: &ContainerId) -> bool {
        let Some(subject) = self.world.known_container(host, container) else {
            // It is gone, which is decided when it is its turn.
            return true;
        };
        if self.ordered.contains(&(host, container)) {
            return false;
        }
        let service = subject.rollout_service();
        let own = Instance {
            host,
            container: container.clone(),
        };
        let rollout = self.world.rollouts.get(&service);
        let own = rollout.and_then(|rollout| rollout.members.get(&own));
        if own.is_some_and(Member::has_leave) {
            // What it restarts for under its rollout comes first.
            return false;
        }
        let taken = self.services.get(&service).copied().unwrap_or_default();
        // That it is down already takes no room from itself.
        let is_down = own.is_some_and(Member::is_unavailable);
        let unavailable = taken.unavailable.saturating_sub(usize::from(is_down));
        let policy = self.world.restart_policy(host, container);
        let fits = |taken: usize, most: u32| u32::try_from(taken).is_ok_and(|taken| taken < most);
        let on_host = self.hosts.get(&host).copied().unwrap_or(0);
        fits(taken.leaves, policy.max_parallel)
            && fits(unavailable, policy.max_unavailable)
            && on_host < MAX_LEAVES_PER_HOST
    }
}

/// Work is counted in tests alone.
#[cfg(not(test))]
const fn note_looked() {}

#[cfg(test)]
pub(crate) use tests::looked;
#[cfg(test)]
use tests::note_looked;
