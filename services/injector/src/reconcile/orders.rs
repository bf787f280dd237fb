//! What steps of playbooks order about containers: a restart, once, and a quarantine, until it is lifted.
//!
//! Invariants: a restart is asked of the engine only when the disk has its number and which incarnation it is for, so
//! that a later run of this process does not do it twice; it is over when the container ran well, or is down or gone.
//! A quarantine is done to every incarnation of its container anew; what that has in variables counts as lost, for
//! only its end takes it away, until it is lifted: then it is held again, and goes by the rules of all. What is told of an order is told for as long as the plan names it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use keywheel_core::binding::{
    DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, OnRevoke, Reload, Rollout as Policy,
};
use keywheel_core::id::ContainerId;
use keywheel_core::plan::{HostPlan, Order, Task};
use keywheel_core::report::{OrderState, OrderTold};
use keywheel_core::time::Timestamp;
use keywheel_daemon::{chain, names};
use keywheel_engine::port::container_host::ContainerRecord;

use super::{RELIST_AFTER, RETRY_AFTER, Reconciler};
use crate::begun::{Begun, load, save};
use crate::decide::matching;
use crate::gate::{Gate, judge, monitor_of, watch};
use crate::granted::is_quarantined;
use crate::model::{Busy, Containers, Service, Tracked, alone_of};
use crate::reload::reload_in;

/// Why a container that was restarted by order failed.
const ENDED: &str = "it ended before it counted as running well; look at its log";
/// Why one in quarantine is not restarted.
const APART: &str = "it is in quarantine; lift that first";
/// So long after the first look a container is asked about that a run before this one restarted: the engine may be
/// half way through it.
const LOOK_AFTER: Duration = Duration::from_secs(10);

/// How far an ordered restart is.
enum Stage {
    /// The engine does it.
    Asked,
    /// A run before this one asked for it; whether its container was looked at.
    Resumed { is_looked_at: bool },
    /// The engine did it; the new program is not known yet.
    Returned,
    /// Its new program is judged.
    Judged {
        started_at: String,
        since: Duration,
        is_watched: bool,
    },
    /// It is over.
    Over(OrderState),
}

/// A restart by order.
struct Restarting {
    number: u64,
    /// When the incarnation began that it is for, as the engine prints it.
    started_at: String,
    service: Option<Service>,
    stage: Stage,
}

/// A container in quarantine.
#[derive(Default)]
struct Apart {
    number: u64,
    /// What was done to it last, or is under way; a plan may say a stronger one later. Nothing was yet where it is
    /// `remove`.
    action: OnRevoke,
    /// The incarnation that it was done to; 0 for none.
    pid: i32,
    is_under_way: bool,
    state: Option<OrderState>,
}

/// See the file.
#[derive(Default)]
pub(super) struct Orders {
    restarts: BTreeMap<ContainerId, Restarting>,
    apart: BTreeMap<ContainerId, Apart>,
    /// When the engine may be asked again about one that is not known.
    ask_at: BTreeMap<ContainerId, Duration>,
    /// Restarts that were begun, as the disk has them.
    saved: BTreeMap<ContainerId, Begun>,
}

impl Orders {
    /// Goes on where an earlier run left it. Blocks.
    pub(super) fn of(folder: &Path) -> Self {
        let saved = load(folder);
        let restart = |(id, begun): (&ContainerId, &Begun)| {
            let resumed = Restarting {
                number: begun.number,
                started_at: begun.started_at.clone(),
                service: None,
                stage: Stage::Resumed {
                    is_looked_at: false,
                },
            };
            (id.clone(), resumed)
        };
        Self {
            restarts: saved.iter().map(restart).collect(),
            saved,
            ..Self::default()
        }
    }

    /// What the plan names no more is forgotten.
    fn keep_planned(&mut self, plan: &HostPlan) {
        let is_planned = |id: &ContainerId, number: u64, is_restart: bool| {
            plan.orders.iter().any(|order| {
                let is_kind = matches!(order.task, Task::Restart { .. }) == is_restart;
                is_kind && order.container == *id && order.number == number
            })
        };
        self.restarts
            .retain(|id, one| is_planned(id, one.number, true));
        self.apart
            .retain(|id, one| is_planned(id, one.number, false));
        let is_named = |id: &ContainerId| plan.orders.iter().any(|one| one.container == *id);
        self.ask_at.retain(|id, _| is_named(id));
    }

    fn end(&mut self, id: &ContainerId, number: u64, state: OrderState) {
        let over = Restarting {
            number,
            started_at: String::new(),
            service: None,
            stage: Stage::Over(state),
        };
        self.restarts.insert(id.clone(), over);
    }

    /// Restarts that the disk has to have: those that are begun, also once they are over.
    fn begun(&self) -> BTreeMap<ContainerId, Begun> {
        let begun = self.restarts.iter();
        let begun = begun.filter(|(_, one)| !one.started_at.is_empty());
        begun
            .map(|(id, one)| {
                let begun = Begun {
                    number: one.number,
                    started_at: one.started_at.clone(),
                };
                (id.clone(), begun)
            })
            .collect()
    }
}

fn failed(reason: impl Into<String>) -> OrderState {
    OrderState::Failed {
        reason: reason.into(),
    }
}

/// How a container is judged after its restart: as the slowest of its bindings says.
fn gate_of<'p>(reloads: impl Iterator<Item = &'p Reload>, tracked: &Tracked) -> Reload {
    let (mut settle, mut health_timeout) = (None, None);
    let mut monitor = Duration::ZERO;
    for reload in reloads {
        let reload = reload_in(reload, &tracked.label);
        monitor = monitor.max(monitor_of(&reload));
        if let Reload::Restart {
            settle: own,
            health_timeout: timeout,
            ..
        } = reload
        {
            settle = settle.max(Some(own));
            health_timeout = health_timeout.max(Some(timeout));
        }
    }
    Reload::Restart {
        settle: settle.unwrap_or(DEFAULT_SETTLE),
        health_timeout: health_timeout.unwrap_or(DEFAULT_HEALTH_TIMEOUT),
        rollout: Some(Policy {
            monitor,
            ..Policy::default()
        }),
    }
}

/// Judges a program that began by order; gives when it is to be looked at again.
fn pass_gate(
    stage: &mut Stage,
    reload: &Reload,
    record: &ContainerRecord,
    now: Duration,
) -> Option<Duration> {
    let Stage::Judged {
        started_at,
        since,
        is_watched,
    } = stage
    else {
        return None;
    };
    if *started_at != record.started_at {
        *stage = Stage::Over(failed(ENDED));
        return None;
    }
    let monitor = monitor_of(reload);
    let gate = match *is_watched {
        true => watch(reload, record.health, *since, now),
        false => judge(reload, record.health, *since, now),
    };
    match gate {
        Gate::Passed if !*is_watched && monitor > Duration::ZERO => {
            (*is_watched, *since) = (true, now);
            Some(now.saturating_add(monitor))
        }
        Gate::Passed => {
            *stage = Stage::Over(OrderState::Done);
            None
        }
        Gate::Failed(reason) => {
            *stage = Stage::Over(failed(reason));
            None
        }
        Gate::Wait(until) => Some(until),
    }
}

impl Reconciler {
    /// Does what is ordered, as far as it can be done now.
    pub(super) async fn carry_out(&mut self, plan: &HostPlan) {
        self.orders.keep_planned(plan);
        find_lost(&mut self.containers, plan);
        let mut due = Vec::new();
        for order in &plan.orders {
            match order.task {
                Task::Quarantine { action } => self.keep_apart(order, action),
                Task::Restart { not_before } => {
                    if self.is_restart_due(plan, order, not_before) {
                        due.push(order.clone());
                    }
                }
            }
        }
        for order in &due {
            self.note_begun(order);
        }
        if !self.save_orders().await {
            // Without a note the next run would do it again; so nothing is begun.
            for order in &due {
                self.orders.restarts.remove(&order.container);
            }
            if !due.is_empty() {
                let at = self.now() + RETRY_AFTER;
                self.wake_by(at);
            }
            return;
        }
        for order in due {
            if let Some(tracked) = self.containers.get_mut(&order.container) {
                tracked.busy = Busy::Restarting;
                self.spawn_restart(order.container, None);
            }
        }
    }

    fn note_begun(&mut self, order: &Order) {
        let Some(tracked) = self.containers.get(&order.container) else {
            return;
        };
        let begun = Restarting {
            number: order.number,
            started_at: tracked.record.started_at.clone(),
            service: Some(tracked.service()),
            stage: Stage::Asked,
        };
        self.orders.restarts.insert(order.container.clone(), begun);
    }

    /// Writes down what is begun, when that changed; `false` when the disk has it not.
    async fn save_orders(&mut self) -> bool {
        let begun = self.orders.begun();
        if begun == self.orders.saved {
            return true;
        }
        let (folder, written) = (self.tools.state.clone(), begun.clone());
        let result = tokio::task::spawn_blocking(move || save(&folder, &written)).await;
        let fault = match result {
            Ok(Ok(())) => {
                self.orders.saved = begun;
                return true;
            }
            Ok(Err(error)) => chain(&error),
            Err(error) => chain(&error),
        };
        tracing::warn!({ names::ERROR } = fault, "ordered restarts not written");
        false
    }

    /// Whether a restart is to be asked of the engine now; one that was is judged.
    fn is_restart_due(
        &mut self,
        plan: &HostPlan,
        order: &Order,
        not_before: Option<Timestamp>,
    ) -> bool {
        let id = &order.container;
        if self.orders.restarts.contains_key(id) {
            return self.judge_ordered(plan, id);
        }
        if is_quarantined(plan, id) {
            self.orders.end(id, order.number, failed(APART));
            return false;
        }
        let (now, monotonic) = (self.shared.clock.now(), self.now());
        if let Some(at) = not_before.filter(|at| *at > now) {
            self.wake_by(monotonic.saturating_add(at.since(now)));
            return false;
        }
        let Some(tracked) = self.containers.get(id) else {
            self.ask_about_ordered(id);
            return false;
        };
        let service = tracked.service();
        let is_free = tracked.is_running()
            && tracked.busy == Busy::No
            && !tracked.record.started_at.is_empty()
            && !self.remembered.contains_key(id);
        is_free && !self.is_turn_taken(&service) && !self.is_turn_taken(&alone_of(id))
    }

    /// Looks at a restart that was begun. Whether it is to be asked of the engine once more.
    fn judge_ordered(&mut self, plan: &HostPlan, id: &ContainerId) -> bool {
        let now = self.now();
        let Some(one) = self.orders.restarts.get_mut(id) else {
            return false;
        };
        if matches!(one.stage, Stage::Asked | Stage::Over(_)) {
            return false;
        }
        let Some(tracked) = self.containers.get(id) else {
            self.ask_about_ordered(id);
            return false;
        };
        if !tracked.is_running() || tracked.busy != Busy::No {
            return false;
        }
        let is_old = tracked.record.started_at == one.started_at;
        let is_resumed = matches!(one.stage, Stage::Resumed { .. });
        if is_resumed || matches!(one.stage, Stage::Returned) {
            if is_old {
                if is_resumed && is_quarantined(plan, id) {
                    // Whatever the run before asked for: it is not brought up now.
                    one.stage = Stage::Over(failed(APART));
                    return false;
                }
                // Only an answer of the engine tells of the new program.
                return is_resumed;
            }
            one.service = Some(tracked.service());
            one.stage = Stage::Judged {
                started_at: tracked.record.started_at.clone(),
                since: now,
                is_watched: false,
            };
        }
        let given = matching(plan, &self.shared.options.host_name, tracked);
        let reload = gate_of(given.map(|planned| &planned.reload), tracked);
        if let Some(until) = pass_gate(&mut one.stage, &reload, &tracked.record, now) {
            self.wake_by(until);
        }
        false
    }

    /// Asks the engine about a container that is not known to run.
    fn ask_about_ordered(&mut self, id: &ContainerId) {
        if !self.is_listed {
            return;
        }
        let now = self.now();
        let at = self.orders.ask_at.get(id).copied();
        if let Some(at) = at.filter(|at| *at > now) {
            return self.wake_by(at);
        }
        let next = now + RELIST_AFTER;
        self.orders.ask_at.insert(id.clone(), next);
        self.wake_by(next);
        self.inspect(id.clone());
    }

    /// What the engine says of a container that is not known to run, or that it is gone.
    pub(super) fn look_at_ordered(&mut self, id: &ContainerId, record: Option<&ContainerRecord>) {
        let is_up = record.is_some_and(|record| record.running);
        if is_up || (record.is_some() && self.containers.contains_key(id)) {
            return;
        }
        let Some(plan) = self.shared.plan() else {
            return;
        };
        let now = self.now();
        for order in plan.orders.iter().filter(|order| order.container == *id) {
            match order.task {
                Task::Quarantine { action } => {
                    let state = match record {
                        Some(_) => OrderState::Done,
                        None => OrderState::Gone,
                    };
                    let apart = self.orders.apart.entry(id.clone()).or_default();
                    apart.number = order.number;
                    apart.action = action;
                    apart.state = Some(state);
                }
                Task::Restart { .. } => self.look_at_restart(order, record.is_some(), now),
            }
        }
    }

    fn look_at_restart(&mut self, order: &Order, is_there: bool, now: Duration) {
        let id = &order.container;
        let Some(one) = self.orders.restarts.get_mut(id) else {
            return self.orders.end(id, order.number, OrderState::Gone);
        };
        match &mut one.stage {
            Stage::Over(_) => {}
            Stage::Resumed { is_looked_at } if is_there && !*is_looked_at => {
                *is_looked_at = true;
                self.orders.ask_at.insert(id.clone(), now + LOOK_AFTER);
                self.wake_by(now + LOOK_AFTER);
            }
            stage if is_there => *stage = Stage::Over(failed(ENDED)),
            stage => *stage = Stage::Over(OrderState::Gone),
        }
    }

    /// Our restart of a container is over, one way or the other.
    pub(super) fn note_ordered(&mut self, id: &ContainerId, result: &Result<(), String>) {
        let Some(one) = self.orders.restarts.get_mut(id) else {
            return;
        };
        if matches!(one.stage, Stage::Asked) {
            one.stage = match result {
                Ok(()) => Stage::Returned,
                Err(reason) => Stage::Over(failed(format!("its restart failed: {reason}"))),
            };
        }
    }

    /// Whether a container of the service restarts by order, or is judged after that.
    pub(super) fn restarts_by_order(&self, service: &Service) -> bool {
        let mut restarts = self.orders.restarts.values();
        restarts.any(|one| {
            let is_over = matches!(one.stage, Stage::Over(_));
            !is_over && one.service.as_ref() == Some(service)
        })
    }

    /// Cuts a container off, pauses or stops it, where that is not done to this incarnation yet.
    fn keep_apart(&mut self, order: &Order, action: OnRevoke) {
        let (id, now) = (&order.container, self.now());
        if !self.orders.apart.contains_key(id) {
            // It has leases no more: whoever is in it may know them.
            self.note_removed(id);
        }
        let apart = self.orders.apart.entry(id.clone()).or_default();
        apart.number = order.number;
        let Some(tracked) = self.containers.get_mut(id) else {
            // One that could not be stopped may have ended by itself, or by hand.
            let is_over = matches!(apart.state, Some(OrderState::Done | OrderState::Gone));
            if !is_over || apart.action != action {
                self.ask_about_ordered(id);
            }
            return;
        };
        if action != OnRevoke::Stop {
            self.items.extend(tracked.lose_variables());
        }
        let is_done = apart.state == Some(OrderState::Done)
            && apart.action == action
            && apart.pid == tracked.record.pid;
        let is_free = tracked.is_running() && tracked.busy == Busy::No && now >= tracked.stop_at;
        if is_done || !is_free {
            return;
        }
        if apart.action != action {
            // What was told of a weaker one says nothing of this one.
            apart.state = None;
        }
        (apart.action, apart.pid) = (action, tracked.record.pid);
        apart.is_under_way = true;
        tracing::warn!(
            { names::CONTAINER } = id.short(),
            { names::KIND } = action.word(),
            "container is put into quarantine"
        );
        if action == OnRevoke::Stop {
            tracked.busy = Busy::Stopping;
            self.spawn_stop(id.clone());
        } else {
            tracked.busy = Busy::CuttingOff;
            self.spawn_cut_off(id.clone(), action);
        }
    }

    /// What was to be done to a container in quarantine is over; `false` when nothing was.
    pub(super) fn note_apart(&mut self, id: &ContainerId, result: &Result<(), String>) -> bool {
        let apart = self.orders.apart.get_mut(id);
        let Some(apart) = apart.filter(|apart| apart.is_under_way) else {
            return false;
        };
        apart.is_under_way = false;
        apart.state = Some(match result {
            Ok(()) => OrderState::Done,
            Err(reason) => failed(format!("{reason}; it is tried again, or do it by hand")),
        });
        true
    }

    /// What came of the orders of a plan, as far as anything did.
    pub(super) fn orders_told(&self, plan: &HostPlan) -> Vec<OrderTold> {
        let state = |order: &Order| match order.task {
            Task::Restart { .. } => match &self.orders.restarts.get(&order.container)?.stage {
                Stage::Over(state) => Some(state.clone()),
                _ => None,
            },
            Task::Quarantine { action } => {
                let apart = self.orders.apart.get(&order.container);
                let state = apart
                    .filter(|apart| apart.action == action)?
                    .state
                    .clone()?;
                let tracked = self.containers.get(&order.container);
                let has_any = tracked.is_some_and(|one| !one.holdings.is_empty());
                let is_open = state == OrderState::Done
                    && (has_any || self.remembered.contains_key(&order.container));
                (!is_open).then_some(state)
            }
        };
        let told = plan.orders.iter().filter_map(|order| {
            Some(OrderTold {
                container: order.container.clone(),
                number: order.number,
                state: state(order)?,
            })
        });
        told.collect()
    }
}

/// Whoever is in quarantine no more has what lies in its variables: that is judged, replaced or stopped like anybody's.
fn find_lost(containers: &mut Containers, plan: &HostPlan) {
    for (id, tracked) in containers {
        if !tracked.lost.is_empty() && !is_quarantined(plan, id) {
            tracked.find_variables();
        }
    }
}

#[cfg(test)]
mod tests;
