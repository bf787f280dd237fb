//! Asking for leases: which containers run or start under a binding that gives one, and have none; and saying
//! which are to be had no more.
//!
//! Invariant: one want of a container and a binding is told at most once in [`WANT_AGAIN`], and ever later, up to
//! [`WANT_LIMIT`], while it brings nothing; what it leads to is in the next plans.

use std::collections::BTreeSet;
use std::time::Duration;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::name::HostName;
use keywheel_core::plan::{HostPlan, PlannedBinding};
use keywheel_core::report::{Fact, Item};

use super::Reconciler;
use crate::granted::is_quarantined;
use crate::leases::{WANT_AGAIN, WANT_LIMIT, unleased, unmeant};
use crate::model::service_name;

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
        let running: Vec<ContainerFacts> = running.map(|one| one.record.facts.clone()).collect();
        let runs: BTreeSet<ContainerId> = running.iter().map(|facts| facts.id.clone()).collect();
        asking.extend(running);
        asking.retain(|facts| !is_quarantined(&plan, &facts.id));
        let host = self.shared.options.host_name.clone();
        let mut open: BTreeSet<Key> = BTreeSet::new();
        for facts in &asking {
            for (binding, fact) in to_tell(&plan, &host, facts, runs.contains(&facts.id)) {
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
            service: String::new(),
        }));
    }
}

/// What there is to tell of a container's leases. That it is to have one no more is told only of one that runs: what
/// a start that was refused says of it may be older than what the engine says.
fn to_tell<'p>(
    plan: &'p HostPlan,
    host: &HostName,
    facts: &ContainerFacts,
    runs: bool,
) -> Vec<(&'p PlannedBinding, Fact)> {
    let lacks = unleased(plan, host, facts).into_iter();
    let lacks = lacks.map(|binding| (binding, Fact::Wanted));
    let over = unmeant(plan, host, facts).into_iter().filter(|_| runs);
    let over = over.map(|binding| (binding, Fact::Removed));
    lacks.chain(over).collect()
}

fn about(facts: &ContainerFacts, binding: &PlannedBinding, fact: Fact) -> Item {
    Item {
        container: facts.id.clone(),
        container_name: facts.name.clone(),
        image_digest: facts.image_digest.clone(),
        binding: binding.binding,
        secret: binding.secret,
        fact,
        service: service_name(&facts.labels),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keywheel_core::binding::Reload;
    use keywheel_core::id::SecretId;
    use keywheel_core::lease;

    use super::*;
    use crate::decide::tests::{binding, file, plan};

    const LEASE: SecretId = SecretId::from_bytes([0x77; 16]);

    #[test]
    fn a_container_is_to_have_its_lease_no_more_only_where_it_runs() {
        let facts = ContainerFacts {
            id: ContainerId::parse(&"c".repeat(64)).unwrap(),
            name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            image_name: "app".to_owned(),
            labels: BTreeMap::new(),
            user: None,
        };
        let mut leased = binding(1, file("db"), Reload::None, Some(1));
        leased.binding = lease::binding_of(leased.binding, LEASE);
        leased.secret = LEASE;
        leased.selector.container = Some(facts.id.clone());
        leased.selector.labels = BTreeMap::from([("app".to_owned(), "another".to_owned())]);
        let plan = plan(vec![leased]);
        let host = HostName::parse("web-1").unwrap();
        let told = to_tell(&plan, &host, &facts, true);
        assert!(told.len() == 1 && told[0].1 == Fact::Removed);
        assert!(to_tell(&plan, &host, &facts, false).is_empty());
    }

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
