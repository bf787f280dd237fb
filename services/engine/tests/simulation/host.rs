//! A host as its injector keeps it: a plan, the values of its cache, containers with copies, and reports
//! that are sent in order, one at a time, until they are answered.
//!
//! It does what `services/injector` promises and decides nothing about secrets. Plan, cache, reports with
//! facts and the report that it said last are on its disk; what it asks for is in its memory. Every fact is
//! on the disk with the deed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use keywheel_core::host::LEASE;
use keywheel_core::id::{BindingId, CommandId, ContainerId, HostId};
use keywheel_core::plan::{HostPlan, Leave};
use keywheel_core::report::{Fact, HostReport, Item, RestartState, RestartWish};
use keywheel_core::rollout::Due;
use keywheel_core::time::Timestamp;

use crate::container::{
    Comes, Container, Down, IMAGE, Wanted, due_in, due_of, given_by, gone, is_behind, item, judge,
    judge_ahead, put, restart, take_dead, wanted_in, withdraw,
};
use crate::leases::{lacks, wants};
use crate::orders::{Orders, is_apart};
use crate::scene::{Form, Reach, container_id, host_id};
use crate::store::Value;

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) n: usize,
    /// How often this machine was made anew after an eviction.
    pub(crate) life: usize,
    pub(crate) id: HostId,
    /// Whether its injector runs.
    pub(crate) is_up: bool,
    /// Whether nothing gets through to it.
    pub(crate) is_cut: bool,
    /// On the disk.
    pub(crate) plan: Option<HostPlan>,
    /// On the disk, sealed.
    pub(crate) cache: BTreeSet<Value>,
    /// On the disk, as far as they have facts.
    pub(crate) reports: VecDeque<(CommandId, HostReport)>,
    /// The report that was said last: on the disk before it is, so that the next run ends what this one began.
    pub(crate) said: Option<CommandId>,
    /// Asked for, in memory.
    pub(crate) asking: BTreeSet<Value>,
    /// It acts on no plan before it heard one since it came back.
    pub(crate) needs_plan: bool,
    /// When it last heard a plan.
    heard: Duration,
    /// Whether what is dead waits for nothing. It did in runs that found something once.
    takes_back: bool,
    /// Programs do not run well with versions whose number it divides; 0: they do with all.
    pub(crate) weak: u64,
    pub(crate) containers: BTreeMap<usize, Container>,
    /// Those that do not run, at places of their own.
    pub(crate) down: BTreeMap<usize, Down>,
    /// What steps of playbooks ordered about them.
    pub(crate) orders: Orders,
    /// Whether its injector carries those out. It did not in runs that found something once.
    pub(crate) knows_orders: bool,
}

impl Host {
    pub(crate) fn new(n: usize, life: usize, now: Duration, reach: Reach) -> Self {
        Self {
            n,
            life,
            id: host_id(n, life),
            is_up: true,
            is_cut: false,
            plan: None,
            cache: BTreeSet::new(),
            reports: VecDeque::new(),
            said: None,
            asking: BTreeSet::new(),
            needs_plan: true,
            heard: now,
            takes_back: reach >= Reach::Incidents,
            weak: 0,
            containers: BTreeMap::new(),
            down: BTreeMap::new(),
            orders: Orders::default(),
            knows_orders: reach >= Reach::Whole,
        }
    }

    /// The injector is killed: its memory is gone.
    pub(crate) fn kill(&mut self) {
        self.is_up = false;
        self.asking.clear();
        self.orders.forget();
        let said = self.said;
        self.reports
            .retain(|(id, report)| !report.items.is_empty() || said == Some(*id));
        // Which leaves were used is in its memory alone.
        let containers = self.containers.values_mut();
        containers.for_each(|container| container.used_leave = 0);
    }

    /// The machine loses its power: what ran is gone, too, or is down until somebody starts it.
    pub(crate) fn lose_power(&mut self, stays: bool) {
        self.kill();
        for (place, container) in std::mem::take(&mut self.containers) {
            if stays {
                self.down.insert(place, container.down(false));
            }
        }
    }

    pub(crate) fn come_back(&mut self) {
        self.is_up = true;
        self.needs_plan = true;
    }

    /// Takes a plan unless it has a newer one; what it does not give leaves the disk first.
    pub(crate) fn take(&mut self, plan: HostPlan, now: Duration) -> bool {
        let held = self.plan.as_ref().map_or(0, |held| held.generation);
        if !self.is_up || plan.host != self.id || plan.generation < held {
            return false;
        }
        self.plan = Some(plan);
        self.needs_plan = false;
        self.heard = now;
        let mut given: BTreeSet<Value> = self.wanted().iter().map(|wanted| wanted.value).collect();
        given.extend(self.staged().map(|wanted| wanted.value));
        self.cache.retain(|value| given.contains(value));
        self.asking.retain(|value| given.contains(value));
        true
    }

    /// What the plan gives its containers, whichever it is that gets it.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let bindings = self.plan.iter().flat_map(|plan| &plan.bindings);
        let given = bindings.filter_map(|planned| Some(given_by(planned, planned.current?)));
        given.collect()
    }

    /// What the plan gives one of its containers.
    pub(crate) fn wanted_by(&self, container: &ContainerId) -> Vec<Wanted> {
        wanted_in(self.plan.as_ref(), container)
    }

    /// What the plan gives nobody yet and has it hold all the same.
    fn staged(&self) -> impl Iterator<Item = Wanted> {
        let staged = self.plan.iter().flat_map(|plan| &plan.staged);
        staged.map(|staged| Wanted {
            binding: BindingId::default(),
            value: (staged.secret, staged.grant.version),
            delivery: staged.grant.delivery,
            form: Form::Read,
            rolls: false,
            is_ahead: false,
        })
    }

    /// What it has to ask for; from now on it does.
    pub(crate) fn ask(&mut self) -> Vec<Wanted> {
        if !self.is_up || self.needs_plan {
            return Vec::new();
        }
        let mut missing = self.wanted();
        missing.extend(self.staged());
        missing.retain(|wanted| {
            !self.cache.contains(&wanted.value) && self.asking.insert(wanted.value)
        });
        missing
    }

    /// Takes a value that it asked for; another one is dropped.
    pub(crate) fn receive(&mut self, value: Value) -> bool {
        let is_asked = self.is_up && self.asking.remove(&value);
        if is_asked {
            self.cache.insert(value);
        }
        is_asked
    }

    /// An answer that is lost is asked for again.
    pub(crate) fn give_up_asking(&mut self) {
        self.asking.clear();
    }

    /// Starts a container, or starts one again; what it gets is what the plan gives, or it does not start.
    pub(crate) fn start(
        &mut self,
        place: usize,
        fresh: (u64, bool),
        (now, at): (Duration, Timestamp),
        command: CommandId,
    ) -> Result<Vec<Wanted>, &'static str> {
        if !self.is_up {
            return Err("no injector");
        }
        if now.saturating_sub(self.heard) > LEASE {
            return Err("the lease is over");
        }
        let (nth, catches) = fresh;
        let runs = self.containers.get(&place);
        let runs = runs.map(|one| (one.id.clone(), one.catches));
        let was_down = self.down.get(&place);
        let was_down = || was_down.map(|one| (one.id.clone(), one.catches));
        let known = runs.clone().or_else(was_down);
        let (id, catches) = known.unwrap_or_else(|| (container_id(nth), catches));
        if self.plan.as_ref().is_some_and(|plan| lacks(plan, &id)) {
            if runs.is_none() {
                let down = self.down.entry(place).or_insert(Down {
                    id,
                    catches,
                    is_refused: true,
                    left: Vec::new(),
                    began: 0,
                });
                down.is_refused = true;
            }
            return Err("it has no login yet");
        }
        let wanted = self.wanted_by(&id);
        if !self.has_all(&wanted) {
            return Err("a value is missing");
        }
        let mut items = Vec::new();
        self.begin(place, (id, catches), &wanted, (at, &mut items));
        let report = self.report(items, false);
        self.push(command, report);
        Ok(wanted)
    }

    fn has_all(&self, wanted: &[Wanted]) -> bool {
        let mut wanted = wanted.iter();
        wanted.all(|one| self.cache.contains(&one.value))
    }

    /// A container's program begins.
    fn begin(
        &mut self,
        place: usize,
        (id, catches): (ContainerId, bool),
        wanted: &[Wanted],
        (at, items): (Timestamp, &mut Vec<Item>),
    ) {
        let down = self.down.remove(&place);
        let began = down.as_ref().map_or(0, |down| down.began);
        let left = down.into_iter().flat_map(|down| down.left);
        let planned = self.plan.as_ref().map_or(0, |plan| plan.generation);
        items.extend(left.map(|(binding, had)| item(&id, binding, had, Fact::Vanished)));
        let container = self.containers.entry(place).or_insert_with(|| Container {
            id,
            catches,
            copies: BTreeMap::new(),
            trial: None,
            used_leave: 0,
            ill: BTreeSet::new(),
            began,
            lost: BTreeMap::new(),
            given: 0,
            planned,
        });
        container.planned = planned;
        withdraw(container, wanted, items);
        restart(container, wanted, false, (at, items));
    }

    /// Starts what was refused and can be served now.
    fn start_refused(&mut self, at: Timestamp, items: &mut Vec<Item>) {
        let refused = self.down.iter().filter(|(_, down)| down.is_refused);
        let refused: Vec<(usize, Down)> = refused.map(|(at, down)| (*at, down.clone())).collect();
        for (place, Down { id, catches, .. }) in refused {
            let wanted = self.wanted_by(&id);
            let is_lacking = self.plan.as_ref().is_some_and(|plan| lacks(plan, &id));
            if !is_lacking && self.has_all(&wanted) {
                self.begin(place, (id, catches), &wanted, (at, items));
            }
        }
    }

    /// A container's program ends, and the container stays.
    pub(crate) fn stop(&mut self, place: usize, command: CommandId) -> bool {
        if !self.is_up {
            return false;
        }
        let Some(container) = self.containers.remove(&place) else {
            return false;
        };
        let items = container.vanished().collect();
        self.down.insert(place, container.down(true));
        let report = self.report(items, false);
        self.push(command, report);
        true
    }

    /// Takes a container away.
    pub(crate) fn remove(&mut self, place: usize, command: CommandId) -> bool {
        if !self.is_up {
            return false;
        }
        let mut items = Vec::new();
        let id = match (self.containers.remove(&place), self.down.remove(&place)) {
            (Some(container), _) => {
                items.extend(container.vanished());
                container.id
            }
            (None, Some(down)) => down.id,
            (None, None) => return false,
        };
        // It does not start again: nothing is to be kept for it.
        let bindings = self.plan.iter().flat_map(|plan| &plan.bindings);
        let own = bindings.filter(|one| one.selector.container.as_ref() == Some(&id));
        items.extend(own.map(|one| item(&id, one.binding, (one.secret, 0), Fact::Removed)));
        let report = self.report(items, false);
        self.push(command, report);
        true
    }

    /// Brings its containers to what the plan gives, as far as it has the values, and reports all of it.
    pub(crate) fn pass(&mut self, at: Timestamp, command: CommandId) -> bool {
        if !self.is_up || self.needs_plan {
            return false;
        }
        let mut items = Vec::new();
        self.find_lost(at, &mut items);
        let leaves: Vec<Leave> = self
            .plan
            .iter()
            .flat_map(|plan| plan.leaves.clone())
            .collect();
        let planned = self.plan.as_ref().map_or(0, |plan| plan.generation);
        for container in self.containers.values_mut() {
            container.planned = planned;
            let plan = self.plan.as_ref();
            if plan.is_some_and(|plan| is_apart(plan, &container.id)) {
                // What becomes of it is ordered.
                continue;
            }
            let wanted = wanted_in(self.plan.as_ref(), &container.id);
            let has_all = wanted.iter().all(|one| self.cache.contains(&one.value));
            withdraw(container, &wanted, &mut items);
            if self.takes_back {
                let had = (self.plan.as_ref(), &self.cache);
                take_dead(container, &wanted, had, &mut items);
            }
            let is_rolled = due_in(container, &wanted).any(|one| one.rolls);
            let is_due = due_in(container, &wanted).next().is_some();
            let leave = leaves.iter().find(|leave| leave.container == container.id);
            let leave = leave.filter(|leave| leave.not_before.is_none_or(|from| from <= at));
            let number = leave.map_or(0, |leave| leave.number);
            let is_free = !self.orders.is_asked(&container.id);
            let may = is_free && (!is_rolled || number > container.used_leave);
            if has_all && is_due && may {
                if is_rolled {
                    container.used_leave = number;
                }
                // A restart gives all of it.
                restart(container, &wanted, is_rolled, (at, &mut items));
                continue;
            }
            judge(container, &wanted, self.weak, (at, &mut items));
            judge_ahead(container, &wanted, self.weak, &mut items);
            for one in wanted.iter().filter(|one| one.form != Form::Restart) {
                if self.cache.contains(&one.value) && is_behind(container, one) {
                    items.extend(gone(container, one));
                    let comes = match one.form == Form::Read || container.catches {
                        true => Comes::Shown,
                        false => Comes::Unseen,
                    };
                    items.push(put(container, one, comes, at));
                }
            }
        }
        self.start_refused(at, &mut items);
        self.carry_out(at, &mut items);
        if let Some(plan) = &self.plan {
            let running = self.containers.values().map(|one| &one.id);
            let refused = self.down.values().filter(|one| one.is_refused);
            let all = running.chain(refused.map(|one| &one.id));
            let lacking = all.flat_map(|id| wants(plan, id).map(move |one| (id, one)));
            let told =
                lacking.map(|(id, one)| item(id, one.binding, (one.secret, 0), Fact::Wanted));
            items.extend(told);
        }
        let report = self.report(items, true);
        self.push(command, report);
        true
    }

    fn report(&self, items: Vec<Item>, complete: bool) -> HostReport {
        let copies = self.containers.values().flat_map(|one| one.copies.values());
        let mut holds: BTreeSet<Value> = copies.map(|copy| copy.there).collect();
        holds.extend(&self.cache);
        holds.extend(&self.asking);
        HostReport {
            generation: self.plan.as_ref().map_or(0, |plan| plan.generation),
            items,
            holds: holds.into_iter().collect(),
            complete,
            containers: self.containers.values().map(|one| one.id.clone()).collect(),
            restarts: self.restart_wishes(),
            staged: self
                .staged()
                .map(|staged| staged.value)
                .filter(|value| self.cache.contains(value))
                .collect(),
            knows_staged: true,
            orders: self.orders_told(),
            ..HostReport::empty(self.id)
        }
    }

    /// Every container under a rollout about which something is to be done.
    fn restart_wishes(&self) -> Vec<RestartWish> {
        let told = self.containers.values().filter_map(|container| {
            let wanted = self.wanted_by(&container.id);
            let rolled = due_in(container, &wanted).filter(|one| one.rolls);
            let waits: Vec<Due> = rolled.map(due_of).collect();
            let (due, state) = match &container.trial {
                Some(trial) if !trial.failed => (trial.due.clone(), RestartState::UnderWay),
                _ if !waits.is_empty() => (waits, RestartState::Due),
                Some(trial) => {
                    let reason = "its health check fails".to_owned();
                    (trial.due.clone(), RestartState::Failed { reason })
                }
                None => return None,
            };
            Some(RestartWish {
                container: container.id.clone(),
                container_name: "c".to_owned(),
                image_digest: IMAGE.to_owned(),
                service: String::new(),
                due,
                state,
            })
        });
        told.collect()
    }

    /// One without facts gives way to a newer one; the first may be on its way.
    fn push(&mut self, command: CommandId, report: HostReport) {
        let last = self.reports.back();
        let gives_way = last.is_some_and(|(_, last)| last.items.is_empty());
        if self.reports.len() > 1 && gives_way {
            self.reports.pop_back();
        }
        self.reports.push_back((command, report));
    }
}
