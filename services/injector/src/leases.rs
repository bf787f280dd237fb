//! Containers whose secrets are leases: what a plan gives them, what they lack, and a start that waits for it.
//!
//! A plan has a binding for each lease, which means exactly its container, and the declared one, which gives
//! nothing and says who may want a lease. Invariants: a container never gets another one's lease; a start waits
//! for one no longer than [`LEASE_WAIT`], and is refused then like any other; where [`MAX_WAITING`] of them wait, the
//! next is refused at once, and comes back like any other.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::{ContainerId, SecretId};
use keywheel_core::lease;
use keywheel_core::name::HostName;
use keywheel_core::plan::{HostPlan, PlannedBinding};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::granted::grant_of;
use crate::shared::Shared;

/// How long a container's start waits for its lease: below what the runtime waits for its answer.
pub(crate) const LEASE_WAIT: Duration = Duration::from_secs(10);
/// Most starts that wait for a lease at a time; fewer than the runtime's requests, so that none of the others waits
/// for them.
pub(crate) const MAX_WAITING: usize = 16;
/// A want that brought nothing is told again after this time, then after twice as long each time.
pub(crate) const WANT_AGAIN: Duration = Duration::from_secs(10);
/// Longest such time.
pub(crate) const WANT_LIMIT: Duration = Duration::from_secs(600);
/// Most containers of which it is kept that they want one; a pass takes them all.
const MAX_WANTS: usize = 10_000;

/// Containers that want a lease and are no consumers yet: their starts wait, or were refused.
#[derive(Debug)]
pub(crate) struct Wants {
    asked: Mutex<BTreeMap<ContainerId, ContainerFacts>>,
    places: Semaphore,
    /// Another plan came.
    planned: Notify,
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            places: Semaphore::new(MAX_WAITING),
            planned: Notify::new(),
        }
    }
}

impl Wants {
    /// Whoever waits looks at the plan.
    pub(crate) fn look(&self) {
        self.planned.notify_waiters();
    }

    /// A place among those who wait, if there is one.
    fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.try_acquire().ok()
    }

    /// One more, until the next pass.
    pub(crate) fn add(&self, facts: &ContainerFacts) {
        let mut wants = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if wants.len() < MAX_WANTS {
            wants.insert(facts.id.clone(), facts.clone());
        }
    }

    /// All of them.
    pub(crate) fn take(&self) -> Vec<ContainerFacts> {
        let mut wants = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *wants).into_values().collect()
    }
}

/// The bindings that mean a container, in the plan's order. Its lease stands for what was declared.
pub(crate) fn meant<'p>(
    plan: &'p HostPlan,
    host: &HostName,
    facts: &ContainerFacts,
) -> Vec<&'p PlannedBinding> {
    let mut all: Vec<&PlannedBinding> = plan
        .bindings
        .iter()
        .filter(|binding| binding.selector.matches(host, facts))
        .collect();
    if all.iter().any(|binding| binding.leases) {
        let leases: Vec<&PlannedBinding> =
            all.iter().copied().filter(|one| is_lease(one)).collect();
        let has = |asked: &PlannedBinding| {
            let mut leases = leases.iter();
            leases.any(|one| lease::binding_of(asked.binding, one.secret) == one.binding)
        };
        all.retain(|binding| !binding.leases || !has(binding));
    }
    all
}

/// Whether it is the lease of one container.
pub(crate) fn is_lease(binding: &PlannedBinding) -> bool {
    binding.selector.container.is_some()
}

/// Bindings of which a container has no lease, and none is being made.
pub(crate) fn unleased<'p>(
    plan: &'p HostPlan,
    host: &HostName,
    facts: &ContainerFacts,
) -> Vec<&'p PlannedBinding> {
    let mut meant = meant(plan, host, facts);
    meant.retain(|binding| binding.leases);
    meant
}

/// Whether a container lacks a lease that it could have a moment later.
fn lacks(plan: &HostPlan, host: &HostName, facts: &ContainerFacts) -> bool {
    let meant = meant(plan, host, facts);
    let is_awaited = |binding: &&PlannedBinding| {
        binding.leases || (is_lease(binding) && grant_of(binding).is_none())
    };
    meant.iter().any(is_awaited)
}

/// Leases of a container that no binding gives it any more: by now their selectors mean others.
pub(crate) fn unmeant<'p>(
    plan: &'p HostPlan,
    host: &HostName,
    facts: &ContainerFacts,
) -> Vec<&'p PlannedBinding> {
    let is_its = |one: &&PlannedBinding| one.selector.container.as_ref() == Some(&facts.id);
    let own: Vec<&PlannedBinding> = plan.bindings.iter().filter(is_its).collect();
    let is_given = |lease: SecretId| {
        let mut own = own.iter().filter(|one| one.secret == lease);
        own.any(|one| one.selector.matches(host, facts))
    };
    let all = own.iter().copied();
    all.filter(|one| !is_given(one.secret)).collect()
}

/// Waits until a container that starts has its leases, at most [`LEASE_WAIT`]; one that may start without is
/// served later.
pub(crate) async fn wait_for(shared: &Shared, facts: &ContainerFacts, may_lack: bool) {
    let is_lacking = || {
        let plan = shared.plan().filter(|_| !shared.is_lease_over());
        plan.is_some_and(|plan| lacks(&plan, &shared.options.host_name, facts))
    };
    if may_lack || !is_lacking() {
        return;
    }
    shared.wants.add(facts);
    shared.changed.notify_one();
    let Some(_place) = shared.wants.place() else {
        return;
    };
    let given = async {
        loop {
            // Made before the look, so that no plan comes between unseen.
            let planned = shared.wants.planned.notified();
            if !is_lacking() {
                return;
            }
            planned.await;
        }
    };
    let _in_time = tokio::time::timeout(LEASE_WAIT, given).await;
}

#[cfg(test)]
mod tests {
    use keywheel_core::binding::{Reload, Target};

    use super::*;
    use crate::decide::tests::{binding, file, plan};

    const LEASE: SecretId = SecretId::from_bytes([0x77; 16]);

    fn host() -> HostName {
        HostName::parse("web-1").unwrap()
    }

    fn facts() -> ContainerFacts {
        ContainerFacts {
            id: ContainerId::parse(&"c".repeat(64)).unwrap(),
            name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            image_name: "app".to_owned(),
            labels: BTreeMap::new(),
            user: None,
        }
    }

    fn declared(target: Target) -> PlannedBinding {
        PlannedBinding {
            leases: true,
            ..binding(1, target, Reload::None, None)
        }
    }

    fn leased(target: Target, container: &ContainerId, version: Option<u64>) -> PlannedBinding {
        let mut leased = binding(1, target, Reload::None, version);
        leased.binding = lease::binding_of(leased.binding, LEASE);
        leased.secret = LEASE;
        leased.selector.container = Some(container.clone());
        leased
    }

    #[test]
    fn a_container_gets_its_own_lease_and_nobody_else_s() {
        let (own, other) = (facts(), ContainerId::parse(&"e".repeat(64)).unwrap());
        let bindings = |id: &ContainerId, version| {
            plan(vec![declared(file("db")), leased(file("db"), id, version)])
        };
        let its = bindings(&own.id, Some(1));
        assert_eq!(meant(&its, &host(), &own).len(), 1);
        assert!(!meant(&its, &host(), &own)[0].leases);
        assert!(unleased(&its, &host(), &own).is_empty() && !lacks(&its, &host(), &own));
        let foreign = bindings(&other, Some(1));
        let given = meant(&foreign, &host(), &own);
        assert!(given.len() == 1 && given[0].leases);
        assert_eq!(unleased(&foreign, &host(), &own).len(), 1);
        assert!(lacks(&foreign, &host(), &own));
        // It is being made: it is waited for, and not asked for again.
        let made = bindings(&own.id, None);
        assert!(lacks(&made, &host(), &own) && unleased(&made, &host(), &own).is_empty());
    }

    #[test]
    fn a_want_is_taken_once() {
        let wants = Wants::default();
        wants.add(&facts());
        wants.add(&facts());
        assert_eq!(wants.take().len(), 1);
        assert!(wants.take().is_empty());
    }

    #[test]
    fn a_lease_goes_when_no_binding_of_it_means_its_container_any_more() {
        let own = facts();
        let mut other = leased(file("db"), &own.id, Some(1));
        other.selector.labels = BTreeMap::from([("app".to_owned(), "another".to_owned())]);
        let gone = plan(vec![declared(file("db")), other.clone()]);
        let told = unmeant(&gone, &host(), &own);
        assert!(told.len() == 1 && told[0].secret == LEASE);
        // Another binding of the same secret gives it still.
        let kept = plan(vec![other, leased(file("db2"), &own.id, Some(1))]);
        assert!(unmeant(&kept, &host(), &own).is_empty());
        let foreign = ContainerId::parse(&"e".repeat(64)).unwrap();
        let foreign = plan(vec![leased(file("db"), &foreign, Some(1))]);
        assert!(unmeant(&foreign, &host(), &own).is_empty());
    }

    #[test]
    fn so_many_starts_wait_for_a_lease_and_the_next_does_not() {
        let wants = Wants::default();
        let places: Vec<_> = (0..MAX_WAITING).filter_map(|_| wants.place()).collect();
        assert_eq!(places.len(), MAX_WAITING);
        assert!(wants.place().is_none());
        drop(places);
        assert!(wants.place().is_some());
    }
}
