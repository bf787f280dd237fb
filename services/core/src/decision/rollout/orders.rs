//! What restarts that playbooks order take of a rollout's room.

use std::collections::BTreeMap;

use super::Draft;
use crate::host::Restart;
use crate::id::HostId;
use crate::rollout::{Instance, Service};

impl Draft<'_> {
    /// A restart that a playbook ordered is over: its service may have room now.
    pub(in crate::decision) fn end_ordered(&mut self, host: HostId, restart: &Restart) {
        let container = restart.subject.container.clone();
        self.ended.insert(Instance { host, container });
        let service = restart.subject.rollout_service();
        if self.world.rollouts.contains_key(&service) {
            self.touched.insert(service);
        }
    }

    fn ordered(&self) -> impl Iterator<Item = (HostId, &Restart)> {
        let all = self.world.ordered_restarts();
        all.filter(|(host, one)| {
            let container = one.subject.container.clone();
            let host = *host;
            !self.ended.contains(&Instance { host, container })
        })
    }

    /// How many of a service restart by order.
    pub(super) fn ordered_in(&self, service: &Service) -> usize {
        let all = self.ordered();
        all.filter(|(_, one)| one.subject.rollout_service() == *service)
            .count()
    }

    /// How many containers of each host restart by order.
    pub(super) fn ordered_by_host(&self) -> BTreeMap<HostId, usize> {
        let mut counts = BTreeMap::new();
        for (host, _) in self.ordered() {
            *counts.entry(host).or_default() += 1;
        }
        counts
    }
}
