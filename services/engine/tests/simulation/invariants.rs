//! What holds after every step (I1 to I9; X1 to X5 are in `revocations`, P1 to P8 in `runs`), and what holds when
//! everybody behaves again.
//!
//! Truth is kept apart from the core: what died, by the events alone; what containers use, by the hosts;
//! what a server accepts, by the store. The core's own state is compared with it, never asked about it.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::assignment;
use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::id::{BindingId, RotationId, SecretId, SlotId};
use keywheel_core::plan::{HostPlan, plan_host};
use keywheel_core::resource::Strategy;
use keywheel_core::rotation::{self, Intervention, Phase, Rotation, Step, Trigger};
use keywheel_core::schedule::{Ack, OnDeadline};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_core::{revocation, secret};
use keywheel_engine::port::journal::RecordedEvent;

use crate::canaries::Canaries;
use crate::container::Wanted;
use crate::host::Host;
use crate::leases::{Leases, no_login_is_an_orphan, own_key};
use crate::orders::rules::Rules;
use crate::revocations::Revocations;
use crate::runs::Runs;
use crate::scene::{Form, form_of};
use crate::store::{Store, Value};

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) rule: &'static str,
    pub(crate) text: String,
}

impl Broken {
    pub(crate) const fn new(rule: &'static str, text: String) -> Self {
        Self { rule, text }
    }
}

pub(crate) fn hold(
    holds: bool,
    rule: &'static str,
    text: impl FnOnce() -> String,
) -> Result<(), Broken> {
    match holds {
        true => Ok(()),
        false => Err(Broken::new(rule, text())),
    }
}

/// What is true, by the events in their order.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Highest number ever given out.
    staged: BTreeMap<SecretId, u64>,
    /// Revoked, for whatever reason.
    pub(crate) dead: BTreeSet<Value>,
    /// Revoked by a person, or by a wait that a person or the secret's policy ended: whoever still runs on it.
    by_person: BTreeSet<Value>,
    /// Secrets whose old versions die at a deadline.
    forcing: BTreeSet<SecretId>,
    /// Secrets whose old versions die only once their sessions are gone.
    drained: BTreeSet<SecretId>,
    /// Those that say nothing of it, and whose old versions are good until they die: the same where a container without
    /// reload has the new one.
    unsaid: BTreeSet<SecretId>,
    /// What consumers have, as they told.
    copies: BTreeMap<assignment::Key, (SecretId, Option<u64>)>,
    /// Rotations whose wait may be ended with what is being appended.
    may_force: BTreeSet<RotationId>,
    /// Rotations whose server does not tell its sessions, and until when the old version lives all the same.
    graces: BTreeMap<RotationId, Timestamp>,
    /// Slots that began a rotation.
    slots: BTreeSet<SlotId>,
    /// Versions that were current once.
    promoted: BTreeSet<Value>,
    canaries: Canaries,
    leases: Leases,
    pub(crate) revocations: Revocations,
    pub(crate) runs: Runs,
    pub(crate) orders: Rules,
}

impl Truth {
    /// What was said in one append counts in no other; what a person revoked in it counts for all of it.
    pub(crate) fn begin<'e>(&mut self, appended: impl Iterator<Item = &'e Event>) {
        self.may_force.clear();
        self.leases.begin_append();
        for event in appended {
            self.leases.begin(event);
            if let Event::Revocation(id, event) = event
                && !self.leases.is_end(*id)
                && let revocation::Event::Requested {
                    secret, versions, ..
                } = event
            {
                let revoked = versions.iter().map(|version| (*secret, *version));
                self.by_person.extend(revoked);
            }
        }
    }

    /// Looks at one event that was appended; the world is the one after all of its append.
    pub(crate) fn see(
        &mut self,
        recorded: &RecordedEvent,
        (command, now): (&Command, &Now<'_>),
    ) -> Result<(), Broken> {
        let is_end = matches!(recorded.event, Event::Revocation(id, _) if self.leases.is_end(id));
        self.revocations.see(recorded, is_end, (command, now))?;
        self.orders.see(recorded, (command, now))?;
        self.runs.see(&recorded.event, now)?;
        match &recorded.event {
            Event::Secret(id, event) => {
                self.leases.see_secret(*id, event);
                self.canaries.see_secret(*id, event)?;
                self.see_secret(*id, event)
            }
            Event::Rotation(id, event) => {
                self.leases.see_started(event)?;
                self.canaries.see_rotation(*id, event, now)?;
                self.see_rotation(*id, event, now)
            }
            Event::Revocation(id, event) => {
                let seen = (&self.by_person, now);
                self.leases.see_revocation(*id, event, seen)
            }
            Event::Assignment(key, event) => {
                self.see_copy(key, event);
                self.canaries.see_consumer(key, event);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn see_copy(&mut self, key: &assignment::Key, event: &assignment::Event) {
        match event {
            assignment::Event::Assigned { secret, .. } => {
                let copy = self.copies.entry(key.clone()).or_insert((*secret, None));
                if copy.0 != *secret {
                    *copy = (*secret, None);
                }
            }
            assignment::Event::Swapped { version, .. }
            | assignment::Event::Reloaded { version, .. } => {
                if let Some(copy) = self.copies.get_mut(key) {
                    copy.1 = Some(*version);
                }
            }
            assignment::Event::Withdrawn | assignment::Event::Vanished => {
                self.copies.remove(key);
            }
            assignment::Event::Refused { .. } | assignment::Event::ServiceNoted { .. } => {}
        }
    }

    /// I2 and I3.
    fn see_secret(&mut self, id: SecretId, event: &secret::Event) -> Result<(), Broken> {
        match event {
            secret::Event::Registered { spec, .. } | secret::Event::SpecChanged { spec } => {
                match spec.rotation.on_deadline {
                    OnDeadline::Force => self.forcing.insert(id),
                    OnDeadline::Hold => self.forcing.remove(&id),
                };
                let is_double = spec
                    .rotator
                    .as_ref()
                    .is_some_and(|at| at.strategy == Strategy::DualPassword);
                match spec.rotation.ack {
                    Some(Ack::Drained) => self.drained.insert(id),
                    None if is_double => self.unsaid.insert(id),
                    _ => false,
                };
                Ok(())
            }
            secret::Event::VersionStaged { version, .. } => {
                let before = self.staged.insert(id, *version).unwrap_or(0);
                hold(*version > before, "I2", || {
                    format!("version {version} after {before}")
                })
            }
            secret::Event::Delivered { version, .. }
            | secret::Event::VersionPromoted { version } => {
                if matches!(event, secret::Event::VersionPromoted { .. }) {
                    self.promoted.insert((id, *version));
                }
                let is_dead = self.dead.contains(&(id, *version));
                hold(!is_dead, "I3", || {
                    format!("dead version {version} comes back: {event:?}")
                })
            }
            secret::Event::VersionRevoked { version } => {
                let is_first = self.dead.insert((id, *version));
                hold(is_first, "I3", || format!("version {version} dies twice"))
            }
            secret::Event::VersionDestroyed { version } => {
                let is_dead = self.dead.contains(&(id, *version));
                hold(is_dead, "I3", || {
                    format!("version {version} is destroyed alive")
                })
            }
            _ => Ok(()),
        }
    }

    fn see_rotation(
        &mut self,
        id: RotationId,
        event: &rotation::Event,
        now: &Now<'_>,
    ) -> Result<(), Broken> {
        match event {
            rotation::Event::Started {
                trigger: Trigger::Slot { slot, .. },
                ..
            } => {
                let is_first = self.slots.insert(*slot);
                hold(is_first, "I1", || {
                    format!("slot {slot} began two rotations")
                })
            }
            rotation::Event::StepStarted {
                step: Step::RevokeOld,
                ..
            } => {
                self.nobody_runs_on_the_old(id, now)?;
                self.no_session_of_the_old_is_open(id, now)
            }
            rotation::Event::StepStarted {
                step: Step::RollBack,
                ..
            } => self.nobody_runs_on_the_old(id, now),
            rotation::Event::Intervened {
                intervention: Intervention::Force,
                ..
            } => {
                self.may_force.insert(id);
                Ok(())
            }
            rotation::Event::DeadlinePassed => {
                let open = now.world.rotations.get(&id);
                if open.is_some_and(|open| self.forcing.contains(&open.secret)) {
                    self.may_force.insert(id);
                }
                Ok(())
            }
            rotation::Event::Forced => self.see_forced(id, now),
            rotation::Event::SessionsUntold { until, .. } => {
                self.graces.insert(id, *until);
                Ok(())
            }
            rotation::Event::SessionsLeft { .. } | rotation::Event::Reopened { .. } => {
                self.graces.remove(&id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// I9: a wait ends without everybody only by a person's word, or by a deadline where that is wanted; then
    /// what was to die dies under those who are late.
    fn see_forced(&mut self, id: RotationId, now: &Now<'_>) -> Result<(), Broken> {
        hold(self.may_force.contains(&id), "I9", || {
            format!("nobody forced rotation {id}")
        })?;
        if let Some(open) = now.world.rotations.get(&id) {
            let old = open.old.iter().map(|version| (open.secret, *version));
            self.by_person.extend(old);
        }
        Ok(())
    }

    /// I9: the old versions are revoked only when every consumer has the new one; on the way back the new one
    /// only when every consumer has the one before.
    fn nobody_runs_on_the_old(&self, id: RotationId, now: &Now<'_>) -> Result<(), Broken> {
        let Some(open) = now.world.rotations.get(&id) else {
            return Ok(());
        };
        // A roll-back takes back what nobody had yet, or had for a while.
        let dies = |version: &u64| match open.phase {
            Phase::Performing {
                step: Step::RollBack,
                ..
            } => *version == open.version,
            _ => open.old.contains(version),
        };
        let is_old = |value: &Value| {
            value.0 == open.secret && dies(&value.1) && !self.by_person.contains(value)
        };
        // A program that is given the secret no more has nothing to take instead of what it uses.
        let is_given = |binding: &BindingId| {
            let own = now.world.own_binding(*binding, open.secret);
            let known = now.world.bindings.get(&own);
            let spec = known.and_then(|known| known.spec.as_ref());
            spec.is_some_and(|spec| now.world.gives(spec, open.secret))
        };
        // What an evicted machine has is on the eviction's list.
        let counts = |host: &&Host| now.world.live_host(host.id).is_some();
        for host in now.hosts.iter().filter(counts) {
            for container in host.containers.values() {
                let told = container.copies.iter().filter(|(_, copy)| !copy.is_found);
                for (binding, copy) in told {
                    let is_used = is_given(binding) && is_old(&copy.used);
                    let is_late = is_old(&copy.there) || is_used;
                    hold(!is_late, "I9", || {
                        format!(
                            "host {} container {} still has {copy:?} when rotation {id} revokes {:?}",
                            host.n,
                            container.id.short(),
                            open.old
                        )
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Whether sessions of what dies are waited for: its secret says so, or says nothing, and of some container that
    /// has the new version nobody knows when its program reads it.
    fn is_promised(&self, open: &Rotation, world: &World) -> bool {
        let is_unreloaded = |(key, copy): (&assignment::Key, &(SecretId, Option<u64>))| {
            let binding = world.bindings.get(&key.binding);
            let spec = binding.and_then(|known| known.spec.as_ref());
            let given = spec.filter(|spec| world.gives(spec, open.secret));
            *copy == (open.secret, Some(open.version))
                && world.live_host(key.host).is_some()
                && given.is_some_and(|spec| form_of(&spec.reload) == Form::Read)
        };
        let says_nothing = self.unsaid.contains(&open.secret);
        self.drained.contains(&open.secret)
            || (says_nothing && self.copies.iter().any(is_unreloaded))
    }

    /// Where it is promised, an old version is revoked by its rotation only once no session of it is open.
    fn no_session_of_the_old_is_open(&self, id: RotationId, now: &Now<'_>) -> Result<(), Broken> {
        let Some(open) = now.world.rotations.get(&id) else {
            return Ok(());
        };
        // Where the server does not tell them, the old version lived on for a grace.
        let is_over = |until: &Timestamp| now.at >= *until;
        let had_grace = self.graces.get(&id).is_some_and(is_over);
        if !self.is_promised(open, now.world) || open.forced || had_grace {
            return Ok(());
        }
        for version in &open.old {
            let value = (open.secret, *version);
            let left = now.store.sessions.get(&value).copied().unwrap_or(0);
            hold(left == 0 || self.by_person.contains(&value), "I9", || {
                format!("rotation {id} revokes version {version} with {left} sessions open")
            })?;
        }
        Ok(())
    }

    /// I1, and that the core and the events agree on what is dead (I3).
    pub(crate) fn stages_are_sane(&self, world: &World) -> Result<(), Broken> {
        for (id, secret) in &world.secrets {
            let open = world.rotations.values();
            let open = open
                .filter(|one| one.secret == *id && one.is_open())
                .count();
            hold(open <= 1, "I1", || {
                format!("{open} open rotations of {}", secret.name)
            })?;
            let stages = [secret.pending, secret.current, secret.previous];
            for version in stages.into_iter().flatten() {
                let is_alive = !self.dead.contains(&(*id, version));
                hold(is_alive, "I1", || {
                    format!("dead version {version} has a stage")
                })?;
            }
            let promoted = [secret.current, secret.previous];
            let is_twice = promoted[0].is_some() && promoted[0] == promoted[1];
            hold(!is_twice, "I1", || {
                "current and previous are one".to_owned()
            })?;
            for version in 1..=secret.last_version {
                let is_dead = self.dead.contains(&(*id, version));
                hold(secret.is_deliverable(version) != is_dead, "I3", || {
                    format!(
                        "version {version} of {} is {}, and the core says otherwise",
                        secret.name,
                        if is_dead { "dead" } else { "alive" }
                    )
                })?;
            }
        }
        Ok(())
    }

    /// I3: a plan names nothing dead and nothing that was not granted.
    pub(crate) fn plan_is_sane(&self, plan: &HostPlan, world: &World) -> Result<(), Broken> {
        for planned in &plan.bindings {
            let Some(grant) = planned.current else {
                continue;
            };
            let value = (planned.secret, grant.version);
            hold(!self.dead.contains(&value), "I3", || {
                format!("a plan gives dead {value:?}")
            })?;
            let granted = world.secrets.get(&planned.secret);
            let granted = granted.and_then(|one| one.delivered.get(&(plan.host, grant.version)));
            hold(granted == Some(&grant.delivery), "I3", || {
                format!("a plan gives {value:?} without a grant")
            })?;
        }
        for staged in &plan.staged {
            let value = (staged.secret, staged.grant.version);
            hold(!self.dead.contains(&value), "I3", || {
                format!("a plan stages dead {value:?}")
            })?;
            let secret = world.secrets.get(&staged.secret);
            let granted = secret.and_then(|one| one.delivered.get(&(plan.host, value.1)));
            hold(granted == Some(&staged.grant.delivery), "I3", || {
                format!("a plan stages {value:?} without a grant")
            })?;
        }
        Ok(())
    }

    /// I3: what is dead is never sealed.
    pub(crate) fn may_be_sealed(&self, wanted: &Wanted) -> Result<(), Broken> {
        let is_dead = self.dead.contains(&wanted.value);
        hold(!is_dead, "I3", || {
            format!("dead {:?} is sealed", wanted.value)
        })
    }

    /// What a server may let in at the end, though it is dead.
    pub(crate) fn may_live(&self) -> BTreeSet<Value> {
        self.revocations.may_live()
    }

    /// I8: what a container has, its server accepts, unless a person revoked it or it is a login that ended by
    /// itself; and it was current once: what is staged is given to canaries alone.
    pub(crate) fn copies_are_accepted(&self, hosts: &[Host], store: &Store) -> Result<(), Broken> {
        let copies = hosts.iter().flat_map(|host| {
            let containers = host.containers.values();
            containers.flat_map(move |one| one.copies.values().map(move |copy| (host, one, copy)))
        });
        for (host, container, copy) in copies {
            let value = copy.there;
            let is_excused = || {
                copy.is_found
                    || self.by_person.contains(&value)
                    || store.logins.expired.contains(&value)
            };
            hold(
                store.accepted.contains(&value) || is_excused(),
                "I8",
                || format!("host {} has {copy:?}, which its server refuses", host.n),
            )?;
            let may_have = || self.canaries.may_have(value, host, &container.id);
            hold(self.promoted.contains(&value) || may_have(), "I8", || {
                let id = container.id.short();
                format!(
                    "host {} container {id} has {copy:?}, which was never current",
                    host.n
                )
            })?;
        }
        Ok(())
    }
}

/// What there is beside the events when one is looked at.
pub(crate) struct Now<'a> {
    pub(crate) world: &'a World,
    pub(crate) hosts: &'a [Host],
    pub(crate) store: &'a Store,
    /// When it was decided, by the gateway's clock.
    pub(crate) at: Timestamp,
}

/// Of containers that restart with leave no more do so at a time than their bindings let (one).
pub(crate) fn restarts_are_few(hosts: &[Host]) -> Result<(), Broken> {
    let containers = hosts.iter().flat_map(|host| host.containers.values());
    let with_leave =
        containers.filter(|one| one.trial.as_ref().is_some_and(|trial| trial.is_led()));
    let restarting = with_leave.count();
    hold(restarting <= 1, "restarts", || {
        format!("{restarting} containers restart at the same time")
    })
}

/// What a step's command has to do with it: a report opens barriers, nothing else does (I9).
pub(crate) fn barriers_open_by_reports(
    world: &World,
    command: &Command,
    event: &Event,
) -> Result<(), Broken> {
    let Event::Rotation(id, rotation::Event::HostBarrierAcknowledged { host }) = event else {
        return Ok(());
    };
    let Command::Report(report) = command else {
        return Err(Broken::new("I9", format!("{command:?} opened a barrier")));
    };
    let Some(open) = world.rotations.get(id) else {
        return Ok(());
    };
    let is_told = report.host == *host && report.complete && report.generation >= open.generation;
    let holds_old = |value: &Value| value.0 == open.secret && open.old.contains(&value.1);
    let is_clear = !report.holds.iter().any(holds_old);
    hold(is_told && is_clear, "I9", || {
        format!("{report:?} opened the barrier of {open:?}")
    })
}

/// The end: what was begun has ended (I7), and everything is as the log says.
pub(crate) fn all_is_well(
    world: &World,
    hosts: &[Host],
    (store, may_live): (&Store, &BTreeSet<Value>),
) -> Result<(), Broken> {
    let secrets = world.secrets.values();
    let alive = secrets.flat_map(|secret| {
        let alive = secret.alive().into_iter();
        alive.map(|version| (secret.id, version))
    });
    let alive: BTreeSet<Value> = alive.collect();
    let mut good = alive.clone();
    good.retain(|(id, version)| {
        let secret = world.secrets.get(id);
        !secret.is_some_and(|secret| store.logins.is_over(secret, *version))
    });
    let accepted = store.accepted.difference(may_live);
    let accepted: BTreeSet<Value> = accepted.copied().collect();
    hold(accepted == good, "I17", || {
        format!("the server accepts {accepted:?}, good are {good:?}")
    })?;
    hold(store.values == alive, "I17", || {
        format!("store-sync has {:?}, alive are {alive:?}", store.values)
    })?;
    no_login_is_an_orphan(world, hosts, (store, may_live))?;
    let mut held = BTreeMap::new();
    for host in hosts {
        let plan = plan_host(world, host.id);
        hold(host.plan == plan, "I7", || {
            format!("host {} has another plan", host.n)
        })?;
        for container in host.containers.values() {
            let wanted = host.wanted_by(&container.id);
            for one in &wanted {
                let copy = container.copies.get(&one.binding);
                let is_there =
                    copy.is_some_and(|copy| copy.there == one.value && copy.used == one.value);
                hold(is_there, "I7", || {
                    format!("host {}: {copy:?} instead of {:?}", host.n, one.value)
                })?;
            }
            for (binding, copy) in &container.copies {
                let key = assignment::Key {
                    host: host.id,
                    container: container.id.clone(),
                    binding: *binding,
                    also: None,
                };
                let secret = copy.there.0;
                held.insert(own_key(world, key, secret), copy.there);
            }
        }
    }
    let known = world.assignments.iter();
    let known: BTreeMap<assignment::Key, Value> = known
        .map(|(key, state)| (key.clone(), (state.secret, state.holds)))
        .collect();
    hold(known == held, "I24", || {
        let without = |these: &BTreeMap<_, _>, those: &BTreeMap<_, _>| {
            let mut only = these.clone();
            only.retain(|key: &assignment::Key, value: &mut Value| those.get(key) != Some(value));
            only
        };
        let (ghosts, missing) = (without(&known, &held), without(&held, &known));
        format!("the world knows {ghosts:?}, there are {missing:?}")
    })
}
