//! Asking for leases: which containers run or start under a binding that gives one, and have none.
//!
//! Invariant: one want of a container and a binding is told at most once in [`WANT_AGAIN`]; what it leads to is
//! in the next plans.

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_core::plan::PlannedBinding;
use keywheel_core::report::{Fact, Item};

use super::Reconciler;
use crate::leases::{WANT_AGAIN, unleased};

impl Reconciler {
    /// Says who lacks a lease.
    pub(super) fn note_wants(&mut self) {
        let mut asking = self.shared.wants.take();
        let Some(plan) = self.shared.plan() else {
            return;
        };
        let gives_leases = plan.bindings.iter().any(|binding| binding.leases);
        if !gives_leases || self.shared.is_lease_over() {
            return;
        }
        let now = self.now();
        self.wanted
            .retain(|_, at| now < at.saturating_add(WANT_AGAIN));
        let running = self.containers.values().filter(|one| one.is_running());
        asking.extend(running.map(|one| one.record.facts.clone()));
        let host = self.shared.options.host_name.clone();
        for facts in &asking {
            for binding in unleased(&plan, &host, facts) {
                let key = (facts.id.clone(), binding.binding);
                if self.wanted.contains_key(&key) {
                    continue;
                }
                self.wanted.insert(key, now);
                self.items.push(want(facts, binding));
            }
        }
        let first = self.wanted.values().min().copied();
        if let Some(first) = first {
            self.wake_by(first.saturating_add(WANT_AGAIN));
        }
    }

    /// Says that a container with leases will not start again.
    pub(super) fn note_removed(&mut self, id: &ContainerId) {
        let Some(plan) = self.shared.plan() else {
            return;
        };
        let is_its = |binding: &&PlannedBinding| binding.selector.container.as_ref() == Some(id);
        let leases = plan.bindings.iter().filter(is_its);
        self.items.extend(leases.map(|binding| Item {
            container: id.clone(),
            container_name: String::new(),
            image_digest: String::new(),
            binding: binding.binding,
            secret: binding.secret,
            fact: Fact::Removed,
        }));
    }
}

fn want(facts: &ContainerFacts, binding: &PlannedBinding) -> Item {
    Item {
        container: facts.id.clone(),
        container_name: facts.name.clone(),
        image_digest: facts.image_digest.clone(),
        binding: binding.binding,
        secret: binding.secret,
        fact: Fact::Wanted,
    }
}
