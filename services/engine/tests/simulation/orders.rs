//! What steps of playbooks order about a host's containers: a restart, once, and a quarantine, until it is lifted.
//!
//! It does what `services/injector/src/reconcile/orders.rs` promises. A restart is written down before the engine is
//! asked, one pass later, so that a kill may come between; what came of it is in memory alone. A quarantine is done to
//! every beginning of its container anew. What has to hold of orders is in `rules`.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::binding::OnRevoke;
use keywheel_core::id::ContainerId;
use keywheel_core::plan::{HostPlan, Order, Task};
use keywheel_core::report::{Fact, Item, OrderState, OrderTold};
use keywheel_core::time::Timestamp;

use crate::container::{Container, item, restart, wanted_in, withdraw};
use crate::host::Host;
use crate::leases::lacks;
use crate::scene::is_variable;

pub(crate) mod rules;

/// Why a container that was restarted by order failed.
const ENDED: &str = "it ended before it counted as running well";
/// The same of one whose program is not well.
const UNWELL: &str = "its health check fails";
/// Why one in quarantine is not restarted.
const APART: &str = "it is in quarantine";
/// Why nothing was done.
const REFUSED: &str = "the engine does not answer";

/// What a host's injector knows of its orders, and what its engine did.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// On the disk: the number of each restart that was begun, and for which beginning of its container.
    noted: BTreeMap<ContainerId, (u64, u64)>,
    /// In memory.
    restarts: BTreeMap<ContainerId, Restarting>,
    /// In memory.
    apart: BTreeMap<ContainerId, Apart>,
    /// Whether the engine does nothing for now.
    pub(crate) refuses: bool,
    /// Planted: nothing of it is written down.
    pub(crate) is_unwritten: bool,
    /// Restarts that the engine did, by number.
    restarted: BTreeSet<u64>,
    /// One that it did again.
    twice: Option<u64>,
}

/// How far a restart by order is.
#[derive(Debug, Clone)]
struct Restarting {
    number: u64,
    /// The beginning of its container that it is for; `None` where nothing was begun.
    began: Option<u64>,
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Stage {
    /// It is written down, and the engine is asked next.
    Asked,
    /// A run before this one wrote it down.
    Resumed,
    /// The engine did it, and this beginning has to run well.
    Judged(u64),
    Over(OrderState),
}

/// A container in quarantine.
#[derive(Debug, Default)]
struct Apart {
    /// What was done to it last.
    action: OnRevoke,
    /// To which beginning of it; 0 for none.
    began: u64,
    state: Option<OrderState>,
}

/// Whether a container is given nothing until a person lifts that.
pub(crate) fn is_apart(plan: &HostPlan, container: &ContainerId) -> bool {
    let mut orders = plan.orders.iter();
    orders.any(|order| order.container == *container && is_quarantine(order))
}

const fn is_quarantine(order: &Order) -> bool {
    matches!(order.task, Task::Quarantine { .. })
}

fn failed(reason: &str) -> OrderState {
    OrderState::Failed {
        reason: reason.to_owned(),
    }
}

impl Orders {
    /// The injector is killed.
    pub(crate) fn forget(&mut self) {
        self.apart.clear();
        let noted = self.noted.iter();
        let resumed = noted.map(|(id, (number, began))| {
            let resumed = Restarting {
                number: *number,
                began: Some(*began),
                stage: Stage::Resumed,
            };
            (id.clone(), resumed)
        });
        self.restarts = resumed.collect();
    }

    /// Whether the engine is about to restart a container: nobody else does meanwhile.
    pub(crate) fn is_asked(&self, id: &ContainerId) -> bool {
        let known = self.restarts.get(id);
        known.is_some_and(|one| matches!(one.stage, Stage::Asked))
    }

    /// What the plan names no more is forgotten.
    fn keep(&mut self, orders: &[Order]) {
        let is_planned = |id: &ContainerId, number: u64| {
            let mut own = orders.iter();
            own.any(|one| one.container == *id && one.number == number && !is_quarantine(one))
        };
        self.restarts.retain(|id, one| is_planned(id, one.number));
        let is_kept = |id: &ContainerId| {
            let mut own = orders.iter();
            own.any(|one| one.container == *id && is_quarantine(one))
        };
        self.apart.retain(|id, _| is_kept(id));
    }

    fn write(&mut self) {
        if self.is_unwritten {
            return;
        }
        let begun = self.restarts.iter();
        let begun = begun.filter_map(|(id, one)| Some((id.clone(), (one.number, one.began?))));
        self.noted = begun.collect();
    }

    fn end(&mut self, id: &ContainerId, number: u64, state: OrderState) {
        let began = self.restarts.get(id).and_then(|one| one.began);
        let over = Restarting {
            number,
            began,
            stage: Stage::Over(state),
        };
        self.restarts.insert(id.clone(), over);
    }

    fn turn(&mut self, id: &ContainerId, stage: Stage) {
        if let Some(one) = self.restarts.get_mut(id) {
            one.stage = stage;
        }
    }

    /// The engine did a restart.
    fn note_done(&mut self, number: u64) {
        if !self.restarted.insert(number) {
            self.twice = Some(number);
        }
    }
}

fn place_of(containers: &BTreeMap<usize, Container>, id: &ContainerId) -> Option<usize> {
    let mut all = containers.iter();
    all.find_map(|(place, one)| (one.id == *id).then_some(*place))
}

impl Host {
    /// Whether its plan orders something.
    pub(crate) fn has_orders(&self) -> bool {
        let plan = self.plan.as_ref().filter(|_| self.knows_orders);
        plan.is_some_and(|plan| !plan.orders.is_empty())
    }

    /// Whoever is in quarantine no more has what lies in its variables.
    pub(crate) fn find_lost(&mut self, at: Timestamp, items: &mut Vec<Item>) {
        let plan = self.plan.as_ref();
        for container in self.containers.values_mut() {
            if plan.is_some_and(|plan| is_apart(plan, &container.id)) {
                continue;
            }
            for (binding, mut found) in std::mem::take(&mut container.lost) {
                (found.is_found, found.took) = (true, true);
                let version = found.there.1;
                let fact = Fact::Reloaded { version, at };
                items.push(item(&container.id, binding, found.there, fact));
                container.copies.insert(binding, found);
            }
        }
    }

    /// Does what is ordered, as far as it can be done now.
    pub(crate) fn carry_out(&mut self, at: Timestamp, items: &mut Vec<Item>) {
        let plan = self.plan.as_ref().filter(|_| self.knows_orders);
        let orders = plan.map_or_else(Vec::new, |plan| plan.orders.clone());
        self.orders.keep(&orders);
        for order in &orders {
            match order.task {
                Task::Quarantine { action } => self.keep_apart(order, action, items),
                Task::Restart { not_before } => {
                    let is_due = not_before.is_none_or(|from| from <= at);
                    self.restart_ordered(order, is_due, (at, items));
                }
            }
        }
        self.orders.write();
    }

    /// What its container's leases are told once it is known to be in quarantine: nothing is kept for it.
    fn removed(&self, id: &ContainerId) -> Vec<Item> {
        let bindings = self.plan.iter().flat_map(|plan| &plan.bindings);
        let own = bindings.filter(|one| one.selector.container.as_ref() == Some(id));
        let told = own.map(|one| item(id, one.binding, (one.secret, 0), Fact::Removed));
        told.collect()
    }

    fn keep_apart(&mut self, order: &Order, action: OnRevoke, items: &mut Vec<Item>) {
        let id = &order.container;
        if !self.orders.apart.contains_key(id) {
            items.extend(self.removed(id));
        }
        let refuses = self.orders.refuses;
        let apart = self.orders.apart.entry(id.clone()).or_default();
        let place = place_of(&self.containers, id);
        let Some(container) = place.and_then(|place| self.containers.get_mut(&place)) else {
            let is_over = matches!(apart.state, Some(OrderState::Done | OrderState::Gone));
            if !is_over || apart.action != action {
                let is_there = self.down.values().any(|one| one.id == *id);
                apart.action = action;
                apart.state = Some(match is_there {
                    true => OrderState::Done,
                    false => OrderState::Gone,
                });
            }
            return;
        };
        lose(container, action, items);
        let is_done = apart.state == Some(OrderState::Done)
            && (apart.action, apart.began) == (action, container.began);
        if is_done {
            return;
        }
        (apart.action, apart.began) = (action, container.began);
        if refuses {
            apart.state = Some(failed(REFUSED));
            return;
        }
        apart.state = Some(OrderState::Done);
        if action == OnRevoke::Stop
            && let Some(place) = place
            && let Some(container) = self.containers.remove(&place)
        {
            items.extend(container.vanished());
            self.down.insert(place, container.down(true));
        }
    }

    fn restart_ordered(
        &mut self,
        order: &Order,
        is_due: bool,
        (at, items): (Timestamp, &mut Vec<Item>),
    ) {
        let (id, number) = (&order.container, order.number);
        let is_apart = self.plan.as_ref().is_some_and(|plan| is_apart(plan, id));
        let place = place_of(&self.containers, id);
        let container = place.and_then(|place| self.containers.get(&place));
        let known = self.orders.restarts.get(id).cloned();
        let Some(container) = container else {
            let is_there = self.down.values().any(|one| one.id == *id);
            let state = match known.as_ref().map(|one| &one.stage) {
                Some(Stage::Over(_)) => return,
                Some(_) if is_there => failed(ENDED),
                _ if is_apart => failed(APART),
                _ => OrderState::Gone,
            };
            return self.orders.end(id, number, state);
        };
        let began = container.began;
        let Some(known) = known else {
            if is_apart {
                self.orders.end(id, number, failed(APART));
            } else if is_due {
                let begun = Restarting {
                    number,
                    began: Some(began),
                    stage: Stage::Asked,
                };
                self.orders.restarts.insert(id.clone(), begun);
            }
            return;
        };
        match known.stage {
            Stage::Over(_) => {}
            Stage::Asked if is_apart => self.orders.end(id, number, failed(APART)),
            Stage::Asked => self.restart_now(order, (at, items)),
            // Only a new program tells that the engine did it.
            Stage::Resumed if known.began != Some(began) => {
                self.orders.turn(id, Stage::Judged(began));
            }
            Stage::Resumed if is_apart => self.orders.end(id, number, failed(APART)),
            Stage::Resumed => self.orders.turn(id, Stage::Asked),
            Stage::Judged(judged) if judged != began => {
                self.orders.end(id, number, failed(ENDED));
            }
            Stage::Judged(_) => {
                let state = match self.is_weak(container) {
                    true => failed(UNWELL),
                    false => OrderState::Done,
                };
                self.orders.end(id, number, state);
            }
        }
    }

    /// Whether a container does not run well with what it has.
    fn is_weak(&self, container: &Container) -> bool {
        let mut copies = container.copies.values();
        self.weak > 0 && copies.any(|copy| copy.used.1.is_multiple_of(self.weak))
    }

    /// The engine is asked; what the container lacks it waits for.
    fn restart_now(&mut self, order: &Order, (at, items): (Timestamp, &mut Vec<Item>)) {
        let (id, number) = (&order.container, order.number);
        if self.orders.refuses {
            return self.orders.end(id, number, failed(REFUSED));
        }
        let wanted = wanted_in(self.plan.as_ref(), id);
        let is_lacking = self.plan.as_ref().is_some_and(|plan| lacks(plan, id));
        let has_all = wanted.iter().all(|one| self.cache.contains(&one.value));
        let place = place_of(&self.containers, id);
        let Some(container) = place.and_then(|place| self.containers.get_mut(&place)) else {
            return;
        };
        if is_lacking || !has_all {
            return;
        }
        withdraw(container, &wanted, items);
        restart(container, &wanted, false, (at, items));
        let began = container.began;
        self.orders.note_done(number);
        self.orders.turn(id, Stage::Judged(began));
    }

    /// What came of the orders of its plan, as far as anything did.
    pub(crate) fn orders_told(&self) -> Option<Vec<OrderTold>> {
        if !self.knows_orders {
            return None;
        }
        let orders = self.plan.iter().flat_map(|plan| &plan.orders);
        let told = orders.filter_map(|order| {
            Some(OrderTold {
                container: order.container.clone(),
                number: order.number,
                state: self.state_of(order)?,
            })
        });
        Some(told.collect())
    }

    fn state_of(&self, order: &Order) -> Option<OrderState> {
        let id = &order.container;
        let Task::Quarantine { action } = order.task else {
            let known = self.orders.restarts.get(id)?;
            return match &known.stage {
                Stage::Over(state) if known.number == order.number => Some(state.clone()),
                _ => None,
            };
        };
        let apart = self.orders.apart.get(id)?;
        let state = apart.state.clone().filter(|_| apart.action == action)?;
        let mut own = self.containers.values().filter(|one| one.id == *id);
        let has_any = own.any(|one| !one.copies.is_empty());
        (state != OrderState::Done || !has_any).then_some(state)
    }
}

/// Takes what a container in quarantine has; what lies in its variables is lost, or goes with its program.
fn lose(container: &mut Container, action: OnRevoke, items: &mut Vec<Item>) {
    for (binding, copy) in std::mem::take(&mut container.copies) {
        let there = copy.there;
        let fact = match is_variable(binding) {
            true if action == OnRevoke::Stop => {
                container.copies.insert(binding, copy);
                continue;
            }
            true => {
                container.lost.insert(binding, copy);
                Fact::Vanished
            }
            false => Fact::Withdrawn,
        };
        items.push(item(&container.id, binding, there, fact));
    }
    container.trial = None;
}
