//! A container on a host: its copies of what the plan gives it, how its program takes them, and what there is to
//! tell of that.
//!
//! It does what `services/injector` promises for one container; which container is where, and when anything is
//! done, is `host`'s.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::id::{BindingId, ContainerId, DeliveryId};
use keywheel_core::plan::{Grant, HostPlan, PlannedBinding};
use keywheel_core::report::{Fact, Item};
use keywheel_core::rollout::Due;
use keywheel_core::time::Timestamp;

use crate::orders::is_apart;
use crate::scene::{Form, form_of, rolls};
use crate::store::Value;

/// All containers are of one image, so they are one service.
pub(crate) const IMAGE: &str = "sha256:1";

/// A value as one binding of a container has it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The version that is there, as the injector sees it.
    pub(crate) there: Value,
    /// The version that the program uses.
    pub(crate) used: Value,
    /// Whether it showed that it took what is there. Until then the injector tells it again, also when it
    /// never used another version (`Ack::Due`).
    pub(crate) took: bool,
    /// Whether it lay in a variable while its container was in quarantine, and nobody heard of it meanwhile.
    pub(crate) is_found: bool,
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
    pub(crate) used_leave: u64,
    /// Versions of which it was said that it does not run well with them, before all others had them.
    pub(crate) ill: BTreeSet<Value>,
    /// Which of its programs runs: a number for each beginning.
    pub(crate) began: u64,
    /// What lies in variables of its program and counts as lost, for it is in quarantine.
    pub(crate) lost: BTreeMap<BindingId, Held>,
    /// The generation of the plan by which something was put into it last.
    pub(crate) given: u64,
    /// That of the plan that its host has.
    pub(crate) planned: u64,
}

/// A container that exists and does not run.
#[derive(Debug, Clone)]
pub(crate) struct Down {
    pub(crate) id: ContainerId,
    pub(crate) catches: bool,
    /// Whether its start was refused: the injector starts it as soon as it can be served.
    pub(crate) is_refused: bool,
    /// What it had when its machine lost its power, which nobody told yet.
    pub(crate) left: Vec<(BindingId, Value)>,
    /// Which of its programs ran last.
    pub(crate) began: u64,
}

/// A container that started under a rollout.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    /// What it has of what it restarts for.
    pub(crate) due: Vec<Due>,
    /// Whether it restarted with leave.
    pub(crate) had_leave: bool,
    /// Whether it did not run well.
    pub(crate) failed: bool,
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
    pub(crate) form: Form,
    /// Whether its containers restart only with leave.
    pub(crate) rolls: bool,
    /// Whether a container has it before all others.
    pub(crate) is_ahead: bool,
}

/// How a value comes to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comes {
    /// It lies there, and the program uses what it had.
    Unseen,
    /// The program uses it from now on, and shows that.
    Shown,
    /// The program begins with it; whether it runs well shows later.
    OnTrial,
}

impl Container {
    pub(crate) fn down(self, is_told: bool) -> Down {
        let had = self.copies.iter().filter(|_| !is_told);
        Down {
            id: self.id,
            catches: self.catches,
            is_refused: false,
            left: had.map(|(binding, copy)| (*binding, copy.there)).collect(),
            began: self.began,
        }
    }

    /// That it ended, with all that it had.
    pub(crate) fn vanished(&self) -> impl Iterator<Item = Item> {
        let copies = self.copies.iter();
        copies.map(|(binding, copy)| item(&self.id, *binding, copy.there, Fact::Vanished))
    }
}

pub(crate) fn given_by(planned: &PlannedBinding, grant: Grant) -> Wanted {
    Wanted {
        binding: planned.binding,
        value: (planned.secret, grant.version),
        delivery: grant.delivery,
        form: form_of(&planned.reload),
        rolls: rolls(&planned.reload),
        is_ahead: false,
    }
}

/// What a plan gives one container: a login is its own container's alone, and to a canary what is staged is what
/// is current to all others.
pub(crate) fn wanted_in(plan: Option<&HostPlan>, container: &ContainerId) -> Vec<Wanted> {
    let Some(plan) = plan.filter(|plan| !is_apart(plan, container)) else {
        return Vec::new();
    };
    let means = |planned: &&PlannedBinding| {
        let only = planned.selector.container.as_ref();
        only.is_none_or(|only| only == container)
    };
    let given = plan.bindings.iter().filter(means).filter_map(|planned| {
        let mut staged = plan
            .staged
            .iter()
            .filter(|one| one.secret == planned.secret);
        let ahead = staged.find(|one| one.canaries.contains(container));
        let grant = ahead.map(|one| one.grant).or(planned.current)?;
        Some(Wanted {
            is_ahead: ahead.is_some(),
            ..given_by(planned, grant)
        })
    });
    given.collect()
}

/// Takes what the plan gives no more.
pub(crate) fn withdraw(container: &mut Container, wanted: &[Wanted], items: &mut Vec<Item>) {
    let is_given = |binding: &BindingId| wanted.iter().any(|one| one.binding == *binding);
    let held: Vec<BindingId> = container.copies.keys().copied().collect();
    for binding in held.into_iter().filter(|binding| !is_given(binding)) {
        if let Some(copy) = container.copies.remove(&binding) {
            items.push(item(&container.id, binding, copy.there, Fact::Withdrawn));
        }
    }
}

/// Takes files with what is dead that cannot be replaced yet: that waits for nothing
/// (`services/injector/src/decide.rs`: `is_left_over`).
pub(crate) fn take_dead(
    container: &mut Container,
    wanted: &[Wanted],
    (plan, cache): (Option<&HostPlan>, &BTreeSet<Value>),
    items: &mut Vec<Item>,
) {
    let is_left = |(binding, copy): &(&BindingId, &Held)| {
        let mut instead = wanted.iter();
        let instead = instead.find(|one| one.binding == **binding);
        let is_late =
            instead.is_some_and(|one| one.form != Form::Restart && !cache.contains(&one.value));
        is_late && is_dead(plan, **binding, copy.there)
    };
    let left = container.copies.iter().filter(is_left);
    let left: Vec<BindingId> = left.map(|(binding, _)| *binding).collect();
    for binding in left {
        if let Some(copy) = container.copies.remove(&binding) {
            items.push(item(&container.id, binding, copy.there, Fact::Withdrawn));
        }
    }
}

/// Whether a plan tells that what a binding gave is dead.
fn is_dead(plan: Option<&HostPlan>, binding: BindingId, (secret, version): Value) -> bool {
    let mut planned = plan.into_iter().flat_map(|plan| &plan.bindings);
    planned.any(|one| {
        let is_it = one.binding == binding && one.secret == secret;
        is_it && (version <= one.floor || one.dead.contains(&version))
    })
}

/// What a file's new content drops: its binding gives another secret. The injector says it before it tells
/// of the new one; a restart says nothing of what was there before (`services/injector/src/reconcile`:
/// `drop_others` and `take_placed`).
pub(crate) fn gone(container: &Container, wanted: &Wanted) -> Option<Item> {
    let there = container.copies.get(&wanted.binding)?.there;
    let gone = || item(&container.id, wanted.binding, there, Fact::Withdrawn);
    (there.0 != wanted.value.0).then(gone)
}

/// Whether a pass has something to do about a file.
pub(crate) fn is_behind(container: &Container, wanted: &Wanted) -> bool {
    let Some(copy) = container.copies.get(&wanted.binding) else {
        return true;
    };
    copy.there != wanted.value || (!copy.took && container.catches)
}

/// What a container has to restart for.
pub(crate) fn due_in<'w>(
    container: &Container,
    wanted: &'w [Wanted],
) -> impl Iterator<Item = &'w Wanted> {
    let is_there = |one: &&Wanted| {
        let copy = container.copies.get(&one.binding);
        copy.is_some_and(|copy| copy.there == one.value)
    };
    let restarting = wanted.iter().filter(|one| one.form == Form::Restart);
    restarting.filter(move |one| !is_there(one))
}

pub(crate) const fn due_of(wanted: &Wanted) -> Due {
    Due {
        binding: wanted.binding,
        secret: wanted.value.0,
        version: wanted.value.1,
    }
}

/// Its program begins anew with all that it is given; under a rollout it has to show that it runs well.
pub(crate) fn restart(
    container: &mut Container,
    wanted: &[Wanted],
    had_leave: bool,
    (at, items): (Timestamp, &mut Vec<Item>),
) {
    container.began += 1;
    container.lost.clear();
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
pub(crate) fn judge(
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

/// What a canary runs on and does not run well with is told, although nothing restarted it
/// (`services/injector/src/reconcile/ahead.rs`).
pub(crate) fn judge_ahead(
    container: &mut Container,
    wanted: &[Wanted],
    weak: u64,
    items: &mut Vec<Item>,
) {
    let reason = "its health check fails";
    for one in wanted.iter().filter(|one| one.is_ahead) {
        let is_weak = weak > 0 && one.value.1.is_multiple_of(weak);
        let copy = container.copies.get_mut(&one.binding);
        let Some(copy) = copy.filter(|copy| is_weak && copy.took && copy.used == one.value) else {
            continue;
        };
        if one.form == Form::Restart || !container.ill.insert(one.value) {
            continue;
        }
        // It is told again, should it get well.
        copy.took = false;
        let (version, reason) = (one.value.1, reason.to_owned());
        let refused = Fact::Refused { version, reason };
        items.push(item(&container.id, one.binding, one.value, refused));
    }
}

/// Puts a value there.
pub(crate) fn put(container: &mut Container, wanted: &Wanted, comes: Comes, at: Timestamp) -> Item {
    let (secret, version) = wanted.value;
    let before = container.copies.get(&wanted.binding);
    // What never had a value of this secret uses none but this one.
    let used = before.map(|copy| copy.used).filter(|used| used.0 == secret);
    let used = used.filter(|_| comes == Comes::Unseen);
    let used = used.unwrap_or(wanted.value);
    let there = wanted.value;
    let took = comes == Comes::Shown;
    container.given = container.planned;
    let held = Held {
        there,
        used,
        took,
        is_found: false,
    };
    container.copies.insert(wanted.binding, held);
    let is_shown = took && wanted.form != Form::Read;
    let fact = match is_shown {
        true => Fact::Reloaded { version, at },
        false => Fact::Swapped { version, at },
    };
    item(&container.id, wanted.binding, there, fact)
}

pub(crate) fn item(container: &ContainerId, binding: BindingId, value: Value, fact: Fact) -> Item {
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
