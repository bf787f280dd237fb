//! Asking for leases: which containers run or start under a binding that gives one, and have none; and saying
//! which are to be had no more.
//!
//! Invariant: one want of a container and a binding is told at most once in [`WANT_AGAIN`], and ever later, up to
//! [`WANT_LIMIT`], while it brings nothing; what it leads to is in the next plans.

use std::collections::BTreeSet;
use std::time::Duration;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::plan::PlannedBinding;
use keywheel_core::report::{Fact, Item};

use super::Reconciler;
use crate::leases::{WANT_AGAIN, WANT_LIMIT, unleased, unmeant};

/// Which container, under which binding of the plan.
type Key = (ContainerId, BindingId);

/// What was told of a lease, and how long it is not told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Want {
    at: Duration,
    pause: Duration,
}

impl Want {
    fn told(before: Option<Self>, now: Duration) -> Self {
        let pause = before.map_or(WANT_AGAIN, |before| {
            before.pause.saturating_mul(2).min(WANT_LIMIT)
        });
        Self { at: now, pause }
    }

    const fn again(&self) -> Duration {
        self.at.saturating_add(self.pause)
    }
}

impl Reconciler {
    /// Says who lacks a lease, and which are to be had no more.
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
        let running = self.containers.values().filter(|one| one.is_running());
        asking.extend(running.map(|one| one.record.facts.clone()));
        let host = self.shared.options.host_name.clone();
        let mut open: BTreeSet<Key> = BTreeSet::new();
        for facts in &asking {
            let lacks = unleased(&plan, &host, facts).into_iter();
            let lacks = lacks.map(|binding| (binding, Fact::Wanted));
            let over = unmeant(&plan, &host, facts).into_iter();
            let over = over.map(|binding| (binding, Fact::Removed));
            for (binding, fact) in lacks.chain(over) {
                let key = (facts.id.clone(), binding.binding);
                if self.may_tell(&key, now) {
                    self.items.push(about(facts, binding, fact));
                }
                open.insert(key);
            }
        }
        let asked: BTreeSet<&ContainerId> = asking.iter().map(|facts| &facts.id).collect();
        self.wanted.retain(|key, want| {
            let is_unheard = !asked.contains(&key.0);
            let is_kept = is_unheard && now < want.again().saturating_add(WANT_LIMIT);
            open.contains(key) || is_kept
        });
        let next = self.wanted.values().map(Want::again);
        if let Some(next) = next.filter(|at| *at > now).min() {
            self.wake_by(next);
        }
    }

    /// Whether this is told now; notes that it is.
    fn may_tell(&mut self, key: &Key, now: Duration) -> bool {
        let before = self.wanted.get(key).copied();
        if before.is_some_and(|before| now < before.again()) {
            return false;
        }
        self.wanted.insert(key.clone(), Want::told(before, now));
        true
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

fn about(facts: &ContainerFacts, binding: &PlannedBinding, fact: Fact) -> Item {
    Item {
        container: facts.id.clone(),
        container_name: facts.name.clone(),
        image_digest: facts.image_digest.clone(),
        binding: binding.binding,
        secret: binding.secret,
        fact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brings_nothing_is_told_later_each_time_and_never_later_than_the_limit() {
        let start = Duration::from_secs(100);
        let mut want = Want::told(None, start);
        assert_eq!(want.again(), start + WANT_AGAIN);
        for pause in [20, 40, 80, 160, 320, 600, 600] {
            let now = want.again();
            want = Want::told(Some(want), now);
            assert_eq!(want.again() - now, Duration::from_secs(pause));
        }
    }
}
