//! A host as its injector keeps it: a plan, the values of its cache, containers with copies, and reports
//! that are sent in order, one at a time, until they are answered.
//!
//! It does what `services/injector` promises and decides nothing about secrets. Plan, cache and reports
//! with facts are on its disk; what it asks for is in its memory. Every fact is on the disk with the deed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use keywheel_core::host::LEASE;
use keywheel_core::id::{BindingId, CommandId, ContainerId, DeliveryId, HostId};
use keywheel_core::plan::{HostPlan, Leave};
use keywheel_core::report::{Fact, HostReport, Item, RestartState, RestartWish};
use keywheel_core::rollout::Due;
use keywheel_core::time::Timestamp;

use crate::scene::{Form, container_id, form_of, host_id, rolls};
use crate::store::Value;

/// All containers are of one image, so they are one service.
const IMAGE: &str = "sha256:1";

/// A value as one binding of a container has it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The version that is there, as the injector sees it.
    pub(crate) there: Value,
    /// The version that the program uses.
    pub(crate) used: Value,
    /// Whether it showed that it took what is there. Until then the injector tells it again, also when it
    /// never used another version (`Ack::Due`).
    took: bool,
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    /// Whether its program catches the signal.
    pub(crate) catches: bool,
    pub(crate) copies: BTreeMap<BindingId, Held>,
    /// A restart after which it did not show yet that it runs well.
    pub(crate) trial: Option<Trial>,
    /// The last leave that was used for it.
    used_leave: u64,
}

/// A container that started under a rollout.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    /// What it has of what it restarts for.
    due: Vec<Due>,
    /// Whether it restarted with leave.
    had_leave: bool,
    /// Whether it did not run well.
    failed: bool,
}

impl Trial {
    /// Whether it is on its way with leave.
    pub(crate) const fn is_led(&self) -> bool {
        self.had_leave && !self.failed
    }
}

/// What a plan gives under one binding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) binding: BindingId,
    pub(crate) value: Value,
    pub(crate) delivery: DeliveryId,
    form: Form,
    /// Whether its containers restart only with leave.
    rolls: bool,
}

/// How a value comes to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// It lies there, and the program uses what it had.
    Unseen,
    /// The program uses it from now on, and shows that.
    Shown,
    /// The program begins with it; whether it runs well shows later.
    OnTrial,
}

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
    /// On the disk.
    pub(crate) reports: VecDeque<(CommandId, HostReport)>,
    /// Asked for, in memory.
    pub(crate) asking: BTreeSet<Value>,
    /// It acts on no plan before it heard one since it came back.
    pub(crate) needs_plan: bool,
    /// When it last heard a plan.
    heard: Duration,
    /// Programs do not run well with versions whose number it divides; 0: they do with all.
    pub(crate) weak: u64,
    pub(crate) containers: BTreeMap<usize, Container>,
}

impl Host {
    pub(crate) fn new(n: usize, life: usize, now: Duration) -> Self {
        Self {
            n,
            life,
            id: host_id(n, life),
            is_up: true,
            is_cut: false,
            plan: None,
            cache: BTreeSet::new(),
            reports: VecDeque::new(),
            asking: BTreeSet::new(),
            needs_plan: true,
            heard: now,
            weak: 0,
            containers: BTreeMap::new(),
        }
    }

    /// The injector is killed: its memory is gone.
    pub(crate) fn kill(&mut self) {
        self.is_up = false;
        self.asking.clear();
        self.reports.retain(|(_, report)| !report.items.is_empty());
        // Which leaves were used is in its memory alone.
        let containers = self.containers.values_mut();
        containers.for_each(|container| container.used_leave = 0);
    }

    /// The machine loses its power: what ran is gone, too.
    pub(crate) fn lose_power(&mut self) {
        self.kill();
        self.containers.clear();
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

    /// What the plan gives its containers.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let bindings = self.plan.iter().flat_map(|plan| &plan.bindings);
        let given = bindings.filter_map(|planned| {
            let grant = planned.current?;
            Some(Wanted {
                binding: planned.binding,
                value: (planned.secret, grant.version),
                delivery: grant.delivery,
                form: form_of(&planned.reload),
                rolls: rolls(&planned.reload),
            })
        });
        given.collect()
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
        let wanted = self.wanted();
        if !wanted
            .iter()
            .all(|wanted| self.cache.contains(&wanted.value))
        {
            return Err("a value is missing");
        }
        let (nth, catches) = fresh;
        let container = self.containers.entry(place).or_insert_with(|| Container {
            id: container_id(nth),
            catches,
            copies: BTreeMap::new(),
            trial: None,
            used_leave: 0,
        });
        let mut items = Vec::new();
        withdraw(container, &wanted, &mut items);
        restart(container, &wanted, false, (at, &mut items));
        let report = self.report(items, false);
        self.push(command, report);
        Ok(wanted)
    }

    /// Takes a container away.
    pub(crate) fn remove(&mut self, place: usize, command: CommandId) -> bool {
        if !self.is_up {
            return false;
        }
        let Some(container) = self.containers.remove(&place) else {
            return false;
        };
        let items = container
            .copies
            .iter()
            .map(|(binding, copy)| item(&container.id, *binding, copy.there, Fact::Vanished));
        let items: Vec<Item> = items.collect();
        let report = self.report(items, false);
        self.push(command, report);
        true
    }

    /// Brings its containers to what the plan gives, as far as it has the values, and reports all of it.
    pub(crate) fn pass(&mut self, at: Timestamp, command: CommandId) -> bool {
        if !self.is_up || self.needs_plan {
            return false;
        }
        let wanted = self.wanted();
        let has_all = wanted.iter().all(|one| self.cache.contains(&one.value));
        let mut items = Vec::new();
        let leaves: Vec<Leave> = self
            .plan
            .iter()
            .flat_map(|plan| plan.leaves.clone())
            .collect();
        for container in self.containers.values_mut() {
            withdraw(container, &wanted, &mut items);
            let is_rolled = due_in(container, &wanted).any(|one| one.rolls);
            let is_due = due_in(container, &wanted).next().is_some();
            let leave = leaves.iter().find(|leave| leave.container == container.id);
            let leave = leave.filter(|leave| leave.not_before.is_none_or(|from| from <= at));
            let number = leave.map_or(0, |leave| leave.number);
            if has_all && is_due && (!is_rolled || number > container.used_leave) {
                if is_rolled {
                    container.used_leave = number;
                }
                // A restart gives all of it.
                restart(container, &wanted, is_rolled, (at, &mut items));
                continue;
            }
            judge(container, &wanted, self.weak, (at, &mut items));
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
            host: self.id,
            generation: self.plan.as_ref().map_or(0, |plan| plan.generation),
            items,
            holds: holds.into_iter().collect(),
            complete,
            containers: self.containers.values().map(|one| one.id.clone()).collect(),
            denied: Vec::new(),
            stale: Vec::new(),
            executed: Vec::new(),
            notes: Vec::new(),
            restarts: self.restart_wishes(),
            staged: self
                .staged()
                .map(|staged| staged.value)
                .filter(|value| self.cache.contains(value))
                .collect(),
            knows_staged: true,
        }
    }

    /// Every container under a rollout about which something is to be done.
    fn restart_wishes(&self) -> Vec<RestartWish> {
        let wanted = self.wanted();
        let told = self.containers.values().filter_map(|container| {
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

/// Takes what the plan gives no more.
fn withdraw(container: &mut Container, wanted: &[Wanted], items: &mut Vec<Item>) {
    let is_given = |binding: &BindingId| wanted.iter().any(|one| one.binding == *binding);
    let held: Vec<BindingId> = container.copies.keys().copied().collect();
    for binding in held.into_iter().filter(|binding| !is_given(binding)) {
        if let Some(copy) = container.copies.remove(&binding) {
            items.push(item(&container.id, binding, copy.there, Fact::Withdrawn));
        }
    }
}

/// What a file's new content drops: its binding gives another secret. The injector says it before it tells
/// of the new one; a restart says nothing of what was there before (`services/injector/src/reconcile`:
/// `drop_others` and `take_placed`).
fn gone(container: &Container, wanted: &Wanted) -> Option<Item> {
    let there = container.copies.get(&wanted.binding)?.there;
    let gone = || item(&container.id, wanted.binding, there, Fact::Withdrawn);
    (there.0 != wanted.value.0).then(gone)
}

/// Whether a pass has something to do about a file.
fn is_behind(container: &Container, wanted: &Wanted) -> bool {
    let Some(copy) = container.copies.get(&wanted.binding) else {
        return true;
    };
    copy.there != wanted.value || (!copy.took && container.catches)
}

/// What a container has to restart for.
fn due_in<'w>(container: &Container, wanted: &'w [Wanted]) -> impl Iterator<Item = &'w Wanted> {
    let is_there = |one: &&Wanted| {
        let copy = container.copies.get(&one.binding);
        copy.is_some_and(|copy| copy.there == one.value)
    };
    let restarting = wanted.iter().filter(|one| one.form == Form::Restart);
    restarting.filter(move |one| !is_there(one))
}

const fn due_of(wanted: &Wanted) -> Due {
    Due {
        binding: wanted.binding,
        secret: wanted.value.0,
        version: wanted.value.1,
    }
}

/// Its program begins anew with all that it is given; under a rollout it has to show that it runs well.
fn restart(
    container: &mut Container,
    wanted: &[Wanted],
    had_leave: bool,
    (at, items): (Timestamp, &mut Vec<Item>),
) {
    let due: Vec<Due> = wanted.iter().filter(|one| one.rolls).map(due_of).collect();
    for one in wanted {
        let comes = if one.rolls {
            Comes::OnTrial
        } else {
            Comes::Shown
        };
        items.push(put(container, one, comes, at));
    }
    container.trial = (!due.is_empty()).then_some(Trial {
        due,
        had_leave,
        failed: false,
    });
}

/// Looks how a container does that started under a rollout.
fn judge(
    container: &mut Container,
    wanted: &[Wanted],
    weak: u64,
    (at, items): (Timestamp, &mut Vec<Item>),
) {
    let Some(mut trial) = container.trial.take() else {
        return;
    };
    trial.failed = trial
        .due
        .iter()
        .any(|due| weak > 0 && due.version.is_multiple_of(weak));
    if trial.failed {
        container.trial = Some(trial);
        return;
    }
    let restarted = wanted.iter().filter(|one| one.form == Form::Restart);
    let shown: Vec<Wanted> = restarted
        .filter_map(|one| {
            let copy = container.copies.get(&one.binding)?;
            // It shows what it began with, whatever it is to have by now.
            let value = copy.there;
            (!copy.took).then_some(Wanted { value, ..*one })
        })
        .collect();
    for one in shown {
        items.push(put(container, &one, Comes::Shown, at));
    }
}

/// Puts a value there.
fn put(container: &mut Container, wanted: &Wanted, comes: Comes, at: Timestamp) -> Item {
    let (secret, version) = wanted.value;
    let before = container.copies.get(&wanted.binding);
    // What never had a value of this secret uses none but this one.
    let used = before.map(|copy| copy.used).filter(|used| used.0 == secret);
    let used = used.filter(|_| comes == Comes::Unseen);
    let used = used.unwrap_or(wanted.value);
    let there = wanted.value;
    let took = comes == Comes::Shown;
    let held = Held { there, used, took };
    container.copies.insert(wanted.binding, held);
    let is_shown = took && wanted.form != Form::Read;
    let fact = match is_shown {
        true => Fact::Reloaded { version, at },
        false => Fact::Swapped { version, at },
    };
    item(&container.id, wanted.binding, there, fact)
}

fn item(container: &ContainerId, binding: BindingId, value: Value, fact: Fact) -> Item {
    Item {
        container: container.clone(),
        container_name: "c".to_owned(),
        image_digest: IMAGE.to_owned(),
        binding,
        secret: value.0,
        fact,
        service: String::new(),
    }
}
