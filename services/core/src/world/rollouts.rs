//! Rollouts: what they say of a container, and the fold of what happens to them.

use super::World;
use crate::id::{ContainerId, HostId};
use crate::rollout;

impl World {
    /// What a rollout says of a container.
    #[must_use]
    pub fn rollout_member(
        &self,
        host: HostId,
        container: &ContainerId,
    ) -> Option<&rollout::Member> {
        if self.rollouts.is_empty() {
            return None;
        }
        let instance = rollout::Instance {
            host,
            container: container.clone(),
        };
        let mut rollouts = self.rollouts.values();
        rollouts.find_map(|rollout| rollout.members.get(&instance))
    }

    pub(super) fn apply_rollout(
        &mut self,
        number: u64,
        service: &rollout::Service,
        event: &rollout::Event,
    ) {
        let rollout = self.rollouts.entry(service.clone()).or_default();
        rollout.evolve(number, event);
        if rollout.is_over() {
            self.rollouts.remove(service);
        }
        // What waits is in no plan.
        let is_planned = !matches!(
            event,
            rollout::Event::Asked { .. } | rollout::Event::Unwell { .. }
        );
        if is_planned {
            self.bump(number, [event.instance().host]);
        }
    }
}
