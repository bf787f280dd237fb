//! Restarts under a rollout: what the gateway is told of them, and who has its leave.
//!
//! Invariants: a container whose binding says `rollout` is restarted only with leave, and once per leave;
//! what is told is about every such container that has to restart, is on its way, or is down since.

use std::collections::BTreeMap;

use keywheel_core::binding::Reload;
use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::plan::{HostPlan, Leave, PlannedBinding};
use keywheel_core::report::{MAX_REPORT_ITEMS, RestartState, RestartWish};
use keywheel_core::rollout::Due as RolloutDue;

use super::Reconciler;
use super::pass::Due;
use crate::decide::{FileWish, matching};
use crate::granted::{grant_of, is_dead, previous_of, seen_by, version_of};
use crate::model::{Ack, Busy, Holding, Service, Tracked, alone_of};

/// What is known of restarts under rollouts.
#[derive(Default)]
pub(super) struct Rolling {
    /// Containers that wait for a restart, and for what, as of the last pass. One comes in when it could do
    /// it, and stays whatever is in its way since.
    due: BTreeMap<ContainerId, Vec<Due>>,
    /// The last leave that was used for a container.
    used: BTreeMap<ContainerId, Used>,
    /// Restarted by us, and down since.
    fallen: BTreeMap<ContainerId, Fallen>,
}

/// A leave that was used.
struct Used {
    number: u64,
    /// What for.
    due: Vec<RolloutDue>,
    /// The versions before the current ones that lay beside these. Without one of them the same versions
    /// are another content, and another restart.
    beside: Vec<Due>,
}

impl Used {
    fn of(plan: &HostPlan, number: u64, due: Vec<RolloutDue>) -> Self {
        let beside = beside(plan, &due);
        Self {
            number,
            due,
            beside,
        }
    }

    /// Whether it was this leave, and for what still waits.
    fn is_for(&self, plan: &HostPlan, leave: &Leave, due: &[RolloutDue]) -> bool {
        leave.number == self.number
            && self.due.iter().all(|used| due.contains(used))
            && beside(plan, &self.due) == self.beside
    }
}

/// The versions before the current ones that a plan gives under the bindings of these.
fn beside(plan: &HostPlan, due: &[RolloutDue]) -> Vec<Due> {
    let is_meant = |planned: &&PlannedBinding| {
        let mut bindings = due.iter().map(|one| one.binding);
        bindings.any(|binding| binding == planned.binding)
    };
    let meant = plan.bindings.iter().filter(is_meant);
    let all = meant.flat_map(|planned| {
        let previous = previous_of(planned);
        previous.map(move |(secret, grant)| (planned.binding, secret, grant.version))
    });
    all.collect()
}

/// A container that ended before it counted as running well.
struct Fallen {
    name: String,
    service: Service,
    due: Vec<RolloutDue>,
    reason: String,
    /// What it is being started with.
    starting: Option<Vec<RolloutDue>>,
}

/// Whether restarts under a binding take leave.
fn rolls(plan: &HostPlan, binding: BindingId) -> bool {
    let mut planned = plan.bindings.iter();
    planned.any(|planned| planned.binding == binding && is_rolled(planned))
}

const fn is_rolled(planned: &PlannedBinding) -> bool {
    matches!(
        planned.reload,
        Reload::Restart {
            rollout: Some(_),
            ..
        }
    )
}

/// Whether its program began with it and did not show yet that it runs well.
pub(super) const fn is_unproven(holding: &Holding) -> bool {
    matches!(
        holding.ack,
        Ack::AtStart | Ack::Gate { .. } | Ack::Watched { .. }
    )
}

fn told(due: &[Due]) -> Vec<RolloutDue> {
    let one = |(binding, secret, version): &Due| RolloutDue {
        binding: *binding,
        secret: *secret,
        version: *version,
    };
    due.iter().map(one).collect()
}

impl Reconciler {
    /// Whether a restart for this takes leave.
    pub(super) fn is_rolled(&self, due: &[Due]) -> bool {
        let plan = self.shared.plan();
        plan.is_some_and(|plan| due.iter().any(|(binding, ..)| rolls(&plan, *binding)))
    }

    /// What a container waits for, as it was told.
    pub(super) fn place(&self, id: &ContainerId) -> Option<&[Due]> {
        self.rolling.due.get(id).map(Vec::as_slice)
    }

    /// Whether the gateway knows that a container waits.
    pub(super) fn has_place(&self, plan: &HostPlan, id: &ContainerId) -> bool {
        let mut leaves = plan.leaves.iter().filter(|leave| leave.container == *id);
        self.place(id).is_some() || leaves.any(|leave| self.is_unused(leave))
    }

    /// Whether a container waits for one of these, whose file is to come before its restart.
    pub(super) fn is_placed_for(
        &self,
        id: &ContainerId,
        mut writes: impl Iterator<Item = Due>,
    ) -> bool {
        let place = self.place(id);
        place.is_some_and(|place| writes.any(|due| place.contains(&due)))
    }

    /// A new incarnation waits for nothing that was told of the one before.
    pub(super) fn forget_place(&mut self, id: &ContainerId) {
        self.rolling.due.remove(id);
    }

    /// Whether what is known may be about the incarnation before a restart: only an answer of the engine tells.
    pub(super) fn is_outdated(&self, id: &ContainerId, tracked: &Tracked) -> bool {
        let is_gone = || tracked.target.as_ref().is_some_and(|one| !one.is_alive());
        self.inspecting.contains_key(id) || is_gone()
    }

    /// Leave that was not used yet and whose time has come.
    pub(super) fn leave_of(&self, plan: &HostPlan, id: &ContainerId) -> Option<u64> {
        let now = self.shared.clock.now();
        let leave = plan.leaves.iter().find(|leave| leave.container == *id)?;
        let is_time = leave.not_before.is_none_or(|at| at <= now);
        (is_time && self.is_unused(leave)).then_some(leave.number)
    }

    fn is_unused(&self, leave: &Leave) -> bool {
        let used = self.rolling.used.get(&leave.container);
        used.is_none_or(|used| used.number < leave.number)
    }

    /// Notes that a container is restarted with its leave.
    pub(super) fn use_leave(
        &mut self,
        plan: &HostPlan,
        id: &ContainerId,
        number: u64,
        due: &[Due],
    ) {
        let used = Used::of(plan, number, told(due));
        self.rolling.used.insert(id.clone(), used);
    }

    /// Whether a file of a running container waits, with its restart, for leave. A dead version does not.
    pub(super) fn waits_for_leave(
        &self,
        plan: &HostPlan,
        (id, tracked): (&ContainerId, &Tracked),
        wish: &FileWish,
    ) -> bool {
        let Some(held) = tracked
            .holdings
            .get(&wish.binding)
            .filter(|held| held.secret == wish.secret && !wish.compare_first)
            .filter(|held| held.version.is_some())
        else {
            return false;
        };
        let mut planned = plan.bindings.iter();
        let planned = planned.find(|planned| planned.binding == wish.binding);
        !wish.versions().all(|one| held.has(one))
            && planned.is_some_and(|planned| {
                is_rolled(planned) && !held.parts().any(|one| is_dead(planned, one))
            })
            && self.leave_of(plan, id).is_none()
    }

    /// Takes from a pass which containers wait, and wakes for leaves whose time comes.
    pub(super) fn note_due(&mut self, plan: &HostPlan, due: BTreeMap<ContainerId, Vec<Due>>) {
        self.rolling.due = due;
        let has_leave = |id: &ContainerId| plan.leaves.iter().any(|leave| leave.container == *id);
        self.rolling.used.retain(|id, _| has_leave(id));
        let (now, monotonic) = (self.shared.clock.now(), self.now());
        let times = plan.leaves.iter().filter_map(|leave| leave.not_before);
        for at in times.filter(|at| *at > now) {
            self.wake_by(monotonic.saturating_add(at.since(now)));
        }
    }

    /// A container that we restarted is down: it is started again once it would get something else.
    pub(super) fn note_fallen(&mut self, id: &ContainerId, tracked: &Tracked, reason: &str) {
        let Some(plan) = self.shared.plan() else {
            return;
        };
        let due: Vec<RolloutDue> = held_under(&plan, tracked).collect();
        if due.is_empty() {
            return;
        }
        let fallen = Fallen {
            name: tracked.record.facts.name.clone(),
            service: tracked.service(),
            due,
            reason: reason.to_owned(),
            starting: None,
        };
        self.rolling.fallen.insert(id.clone(), fallen);
    }

    /// It runs again, or is gone for good.
    pub(super) fn forget_fallen(&mut self, id: &ContainerId) {
        self.rolling.fallen.remove(id);
    }

    /// Starts those again that are down, would get something else now, and have leave.
    pub(super) fn start_fallen(&mut self, plan: &HostPlan) {
        let ready = |(id, fallen): (&ContainerId, &Fallen)| {
            let wanted = fallen
                .wanted(&seen_by(plan, id))
                .filter(|_| fallen.starting.is_none())?;
            Some((id.clone(), self.leave_of(plan, id)?, wanted))
        };
        let ready: Vec<_> = self.rolling.fallen.iter().filter_map(ready).collect();
        for (id, number, wanted) in ready {
            if let Some(fallen) = self.rolling.fallen.get_mut(&id) {
                fallen.starting = Some(wanted.clone());
            }
            let trace = wanted
                .first()
                .and_then(|due| self.shared.trace_of(due.secret));
            let used = Used::of(plan, number, wanted);
            self.rolling.used.insert(id.clone(), used);
            self.slots.insert(alone_of(&id), id.clone());
            self.spawn_restart(id, trace);
        }
    }

    /// Our start of a container that was down is over. When it runs, it is not known as down any more.
    pub(super) fn note_restarted(&mut self, id: &ContainerId, result: &Result<(), String>) {
        let Some(fallen) = self.rolling.fallen.get_mut(id) else {
            return;
        };
        if let (Some(wanted), Err(reason)) = (fallen.starting.take(), result) {
            fallen.reason = format!("its start failed: {reason}");
            let is_replaced = |due: &RolloutDue| wanted.iter().any(|new| is_same_place(new, due));
            fallen.due.retain(|due| !is_replaced(due));
            fallen.due.extend(wanted);
        }
    }

    /// What the gateway is told: every container under a rollout about which something is to be done.
    pub(super) fn restart_wishes(&self, plan: &HostPlan) -> Vec<RestartWish> {
        let running = self
            .containers
            .iter()
            .filter_map(|(id, tracked)| self.wish_of(plan, id, tracked));
        let down = self.rolling.fallen.iter();
        let down = down.filter(|(id, _)| !self.containers.contains_key(*id));
        let down = down.map(|(id, fallen)| self.wish_of_fallen(plan, id, fallen));
        running.chain(down).take(MAX_REPORT_ITEMS).collect()
    }

    fn wish_of(&self, plan: &HostPlan, id: &ContainerId, tracked: &Tracked) -> Option<RestartWish> {
        let (image_digest, service) = tracked.service();
        let wish = |due, state| {
            Some(RestartWish {
                container: id.clone(),
                container_name: tracked.record.facts.name.clone(),
                image_digest,
                service,
                due,
                state,
            })
        };
        let held: Vec<RolloutDue> = held_under(plan, tracked).collect();
        let waiting = self.rolling.due.get(id);
        let is_ours = self.slots.contains_key(&tracked.alone());
        if tracked.busy == Busy::Restarting || !tracked.record.running {
            let is_rolled = waiting.is_some() || (is_ours && !held.is_empty());
            return wish(held, RestartState::UnderWay).filter(|_| is_rolled);
        }
        if let Some(due) = waiting {
            let due = told(due);
            if !self.is_spent(plan, id, &due) {
                return wish(due, RestartState::Due);
            }
            if self.is_outdated(id, tracked) {
                return wish(due, RestartState::UnderWay);
            }
            let reason = refused_in(tracked, &due).unwrap_or_else(|| {
                "it was restarted and still does not have it; look at its log".to_owned()
            });
            return wish(due, RestartState::Failed { reason });
        }
        let unproven: Vec<RolloutDue> = held
            .iter()
            .filter(|due| tracked.holdings.get(&due.binding).is_some_and(is_unproven))
            .copied()
            .collect();
        // Without the wrapper its files come after its start.
        let is_bare = is_ours && tracked.holdings.is_empty() && {
            let host = &self.shared.options.host_name;
            let mut given = matching(plan, host, tracked);
            given.any(|planned| is_rolled(planned) && grant_of(planned).is_some())
        };
        if unproven.is_empty() && !is_bare {
            return None;
        }
        // What cannot come to it is what it was restarted for.
        let used = || self.rolling.used.get(id).map(|used| used.due.clone());
        let judged = if unproven.is_empty() {
            used().unwrap_or_default()
        } else {
            unproven
        };
        match refused_in(tracked, &judged) {
            Some(reason) => wish(judged, RestartState::Failed { reason }),
            None => wish(judged, RestartState::UnderWay),
        }
    }

    /// Whether its leave was used for what still waits.
    fn is_spent(&self, plan: &HostPlan, id: &ContainerId, due: &[RolloutDue]) -> bool {
        let leave = plan.leaves.iter().find(|leave| leave.container == *id);
        let used = self.rolling.used.get(id);
        let both = leave.zip(used);
        both.is_some_and(|(leave, used)| used.is_for(plan, leave, due))
    }

    fn wish_of_fallen(&self, plan: &HostPlan, id: &ContainerId, fallen: &Fallen) -> RestartWish {
        let reason = fallen.reason.clone();
        let (due, state) = match fallen.wanted(&seen_by(plan, id)) {
            _ if fallen.starting.is_some() => (fallen.due.clone(), RestartState::UnderWay),
            Some(wanted) if self.is_spent(plan, id, &wanted) => {
                (wanted, RestartState::Failed { reason })
            }
            Some(wanted) => (wanted, RestartState::Due),
            None => (fallen.due.clone(), RestartState::Failed { reason }),
        };
        RestartWish {
            container: id.clone(),
            container_name: fallen.name.clone(),
            image_digest: fallen.service.0.clone(),
            service: fallen.service.1.clone(),
            due,
            state,
        }
    }
}

impl Fallen {
    /// What it would start with that it did not fall with; `None` when there is nothing.
    fn wanted(&self, plan: &HostPlan) -> Option<Vec<RolloutDue>> {
        let grant = |due: &RolloutDue| {
            let mut planned = plan.bindings.iter();
            let planned =
                planned.find(|planned| planned.binding == due.binding && is_rolled(planned))?;
            let version = version_of(planned, due.secret)?;
            Some(RolloutDue { version, ..*due })
        };
        let wanted = self.due.iter().filter_map(grant);
        let wanted: Vec<RolloutDue> = wanted.filter(|due| !self.due.contains(due)).collect();
        (!wanted.is_empty()).then_some(wanted)
    }
}

/// What a container holds under bindings whose restarts take leave.
fn held_under<'a>(
    plan: &'a HostPlan,
    tracked: &'a Tracked,
) -> impl Iterator<Item = RolloutDue> + 'a {
    let held = tracked.holdings.iter();
    let held = held.filter(move |(binding, _)| rolls(plan, **binding));
    let held = held.filter(|(_, holding)| holding.version.is_some());
    held.flat_map(|(binding, holding)| {
        holding.held().map(move |(secret, version)| RolloutDue {
            binding: *binding,
            secret,
            version,
        })
    })
}

fn is_same_place(one: &RolloutDue, other: &RolloutDue) -> bool {
    one.binding == other.binding && one.secret == other.secret
}

/// Why one of these was refused.
fn refused_in(tracked: &Tracked, due: &[RolloutDue]) -> Option<String> {
    due.iter().find_map(|due| {
        let refused = tracked.refused.get(&due.binding)?;
        let is_it = refused.versions.contains(&(due.secret, due.version));
        is_it.then(|| refused.reason.clone())
    })
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::{DeliveryId, SecretId};
    use keywheel_core::plan::{Grant, PlannedPrevious};

    use super::*;
    use crate::decide::tests::{binding, file, plan};

    /// A plan with version 2, and this one beside it.
    fn with(previous: Option<u64>) -> HostPlan {
        let mut planned = binding(1, file("db"), Reload::None, Some(2));
        let secret = planned.secret;
        let grant = |version| Grant {
            version,
            delivery: DeliveryId::from_bytes([1; 16]),
        };
        let before = previous.map(|version| PlannedPrevious {
            secret,
            grant: grant(version),
        });
        planned.previous = before.into_iter().collect();
        plan(vec![planned])
    }

    fn due(version: u64) -> Vec<RolloutDue> {
        vec![RolloutDue {
            binding: BindingId::from_bytes([1; 16]),
            secret: SecretId::from_bytes([1; 16]),
            version,
        }]
    }

    fn leave(number: u64) -> Leave {
        Leave {
            container: ContainerId::parse(&"a".repeat(64)).unwrap(),
            number,
            not_before: None,
        }
    }

    #[test]
    fn a_restart_counts_as_in_vain_only_when_it_was_for_the_same_content() {
        let used = Used::of(&with(Some(1)), 7, due(2));
        assert!(used.is_for(&with(Some(1)), &leave(7), &due(2)));
        assert!(!used.is_for(&with(Some(1)), &leave(8), &due(2)));
        assert!(!used.is_for(&with(Some(1)), &leave(7), &due(3)));
        // The version before was revoked since.
        assert!(!used.is_for(&with(None), &leave(7), &due(2)));
        // Restarted without it, and it still waits.
        let again = Used::of(&with(None), 8, due(2));
        assert!(again.is_for(&with(None), &leave(8), &due(2)));
    }
}
