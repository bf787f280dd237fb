//! What comes back from work on containers: attached, adopted, placed at create, restarted, stopped.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::{ContainerFacts, Reload};
use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::report::{Fact, UsageKind};
use keywheel_daemon::{lines, names};
use keywheel_engine::port::container_host::{ContainerRecord, Health};
use keywheel_sys::procfs::PinnedPid;
use keywheel_sys::secretfs::FileAttr;

use super::beside::{notes_of, written_beside};
use super::on_revoke::owed_after_restart;
use super::{RELIST_AFTER, RETRY_AFTER, Reconciler, again};
use crate::attach::{Adopted, Attached, Written};
use crate::form::Form;
use crate::granted::{grant_of, seen_by};
use crate::model::{Ack, Busy, Holding, Place, Tracked, Unformed};
use crate::reload::reload_in;
use crate::report::bound_notes;
use crate::runtime::answer::key_of;
use crate::shared::{PENDING_LIMIT, Pending, VersionKey};
use crate::state::Remembered;

/// What a consumer that gets its first copy while it runs has to do yet.
fn first_ack(reload: Option<&Reload>, now: Duration) -> Ack {
    match reload {
        Some(Reload::Signal(_) | Reload::Command { .. } | Reload::Label) => Ack::Due,
        Some(Reload::Restart { .. }) => Ack::Gate { since: now },
        Some(Reload::None) | None => Ack::Done,
    }
}

impl Reconciler {
    /// A running container got file systems.
    pub(super) fn take_attached(
        &mut self,
        id: &ContainerId,
        pid: i32,
        result: Result<Box<Attached>, String>,
    ) {
        let now = self.now();
        let at = self.shared.clock.now();
        let plan = self.shared.plan();
        let Some(tracked) = self
            .containers
            .get_mut(id)
            .filter(|tracked| tracked.record.pid == pid)
        else {
            if let Ok(attached) = result {
                // It ended meanwhile; its file is of no use any more.
                self.forget_file(id, attached.ticks);
            }
            return;
        };
        tracked.busy = Busy::No;
        let attached = match result {
            Ok(attached) => *attached,
            Err(reason) => {
                // Most often it has ended; the engine will say so.
                tracing::info!(
                    { names::CONTAINER } = id.short(),
                    { names::REASON } = reason,
                    "container not attached"
                );
                self.try_again(id, now);
                return;
            }
        };
        if let Some(unclear) = attached.unclear {
            return self.take_unclear(id, unclear);
        }
        tracked.target = Some(attached.target);
        tracked.ticks = attached.ticks;
        for (directory, dir) in attached.dirs {
            tracked.dirs.insert(directory, dir);
        }
        tracked.dirty = true;
        let facts = tracked.record.facts.clone();
        let given: Vec<_> = attached.written.iter().flat_map(given_file).collect();
        let beside = written_beside(&attached.written);
        for written in attached.written {
            let bindings = plan.iter().flat_map(|plan| &plan.bindings);
            let mut meant = bindings.filter(|planned| planned.binding == written.binding);
            let reload = meant.next().map(|planned| &planned.reload);
            let reload = reload.map(|planned| reload_in(planned, &tracked.label));
            let ack = first_ack(reload.as_ref(), now);
            tracked.refused.remove(&written.binding);
            let version = written.version;
            let place = (written.place, Some(written.attr), written.form);
            self.contents += 1;
            let holding = hold(written.secret, place, (version, self.contents), ack);
            tracked.put(written.binding, holding);
            let swapped = tracked.facts(written.binding, |version| Fact::Swapped { version, at });
            self.items.extend(swapped);
        }
        self.note_given(&facts, &given, beside);
        self.take_lacking(id, attached.refused, attached.unformed);
    }

    /// What could not be put there, and what cannot be made.
    fn take_lacking(
        &mut self,
        id: &ContainerId,
        refused: Vec<(BindingId, SecretId, u64, String)>,
        unformed: Vec<(BindingId, Unformed)>,
    ) {
        if !refused.is_empty() {
            self.try_again(id, self.now());
        }
        for (binding, secret, version, reason) in refused {
            self.refuse(id, binding, secret, version, reason);
        }
        for (binding, one) in unformed {
            self.take_unformed(id, binding, one);
        }
    }

    /// What no state of a consumer says of what it was given.
    fn note_given(&mut self, facts: &ContainerFacts, given: &[Delivered], beside: Vec<Delivered>) {
        self.note_alone(facts, given);
        self.note_beside(facts, beside);
    }

    /// What was given out while the gateway did not answer is on record as such.
    fn note_alone(&mut self, facts: &ContainerFacts, given: &[Delivered]) {
        if !self.shared.is_alone() {
            return;
        }
        let at = self.shared.clock.now();
        let given = given.iter().copied();
        let starts = notes_of(UsageKind::ServedFromCache, facts, given, at);
        self.notes.extend(starts);
        bound_notes(&mut self.notes);
    }

    fn take_unclear(&mut self, id: &ContainerId, unclear: Remembered) {
        tracing::warn!(
            { names::CONTAINER } = id.short(),
            "whether a file system came into the container is not known; looked for again"
        );
        self.remembered.insert(id.clone(), unclear);
        self.look_for_again(id);
    }

    /// A template could not be filled. Nothing else in its container waits for it.
    pub(super) fn take_unformed(&mut self, id: &ContainerId, binding: BindingId, one: Unformed) {
        let (secret, version, reason) = (one.secret, one.version, one.reason.clone());
        if let Some(tracked) = self.containers.get_mut(id) {
            tracked.unformed.insert(binding, one);
        }
        self.refuse(id, binding, secret, version, reason);
    }

    /// Forgotten for now: the next list brings it, to be adopted, or says that it is gone.
    fn look_for_again(&mut self, id: &ContainerId) {
        self.containers.remove(id);
        if let Some(hidden) = self.hidden.remove(id) {
            self.remembered.insert(id.clone(), hidden);
        }
        self.is_listed = false;
        self.relist_at = Some(self.now() + RELIST_AFTER);
    }

    /// A container of an earlier run is known again.
    pub(super) fn take_adopted(
        &mut self,
        id: &ContainerId,
        pid: i32,
        result: Result<Box<Adopted>, String>,
    ) {
        let at = self.shared.clock.now();
        let Some(tracked) = self
            .containers
            .get_mut(id)
            .filter(|tracked| tracked.record.pid == pid)
        else {
            return;
        };
        tracked.busy = Busy::No;
        let adopted = match result {
            Ok(adopted) => *adopted,
            Err(reason) => {
                tracing::warn!(
                    { names::CONTAINER } = id.short(),
                    { names::REASON } = reason,
                    "container not known again"
                );
                return self.look_for_again(id);
            }
        };
        let unreached = self.remembered.remove(id);
        let is_first_look = unreached.is_some();
        let Some(remembered) = unreached.or_else(|| self.hidden.remove(id)) else {
            return;
        };
        if adopted.is_same && adopted.is_hidden {
            return self.take_hidden(id, remembered, is_first_look);
        }
        tracked.target = Some(adopted.target);
        tracked.ticks = adopted.ticks;
        tracked.dirs = adopted.dirs.into_iter().collect();
        tracked.dirty = true;
        if !adopted.is_same {
            tracked.owed = owed_after_restart(remembered.owed());
            return;
        }
        let mut holdings = remembered.holdings();
        // A file whose file system is not there any more is not held either.
        holdings.retain(|_, holding| match &holding.place {
            Place::File { directory, .. } => tracked.dirs.contains_key(directory),
            Place::Env { .. } => true,
        });
        for (binding, holding) in &holdings {
            // Said again, in case the earlier run did not come to it.
            if let (Some(version), Ack::Done) = (holding.version, holding.ack) {
                self.items.push(tracked.item(
                    *binding,
                    holding.secret,
                    Fact::Swapped { version, at },
                ));
                self.items.push(tracked.item(
                    *binding,
                    holding.secret,
                    Fact::Reloaded { version, at },
                ));
            }
        }
        tracked.holdings = holdings.into_iter().collect();
        tracked.owed = remembered.owed();
        tracked.lost = remembered.lost().into_iter().collect();
    }

    /// Its variables are known; its files are what was remembered, until they can be reached.
    fn take_hidden(&mut self, id: &ContainerId, remembered: Remembered, is_first_look: bool) {
        let mut holdings = remembered.holdings();
        holdings.retain(|_, holding| matches!(holding.place, Place::Env { .. }));
        if let Some(tracked) = self.containers.get_mut(id) {
            tracked.holdings = holdings.into_iter().collect();
            tracked.owed = remembered.owed();
            tracked.lost = remembered.lost().into_iter().collect();
        }
        if is_first_look {
            let reason = self.tools.lacks.as_deref();
            tracing::warn!(
                { names::CONTAINER } = id.short(),
                { names::REASON } = reason.unwrap_or("it covered or moved them"),
                "secret files of the container cannot be reached"
            );
        }
        self.hidden.insert(id.clone(), remembered);
        let at = self.now() + RETRY_AFTER;
        self.relist_at.get_or_insert(at);
    }

    /// A container is created under the wrapper, with everything in place; it starts next.
    pub(super) fn take_placed(
        &mut self,
        id: &ContainerId,
        pid: i32,
        pending: &Pending,
        attached: Attached,
    ) {
        let now = self.now();
        let owed = self.owed_anew(id);
        let refused = self.part_before(id);
        self.note_start(id, pending, &attached.written);
        self.graveyard.remove(id);
        self.forget_fallen(id);
        self.forget_place(id);
        let before = self.containers.remove(id);
        let record = match &before {
            Some(before) => ContainerRecord {
                pid,
                running: true,
                ..before.record.clone()
            },
            None => created(pending, pid),
        };
        let mut tracked = Tracked::new(record, now);
        if let Some(before) = before {
            // Whatever else was under way was about the incarnation before.
            tracked.busy = if before.busy == Busy::Restarting {
                Busy::Restarting
            } else {
                Busy::No
            };
        }
        tracked.refused = refused;
        self.take_owing(id, &mut tracked);
        tracked.owed = owed;
        tracked.creating_until = Some(now + PENDING_LIMIT);
        tracked.target = Some(attached.target);
        tracked.ticks = attached.ticks;
        tracked.dirs = attached.dirs.into_iter().collect();
        tracked.dirty = true;
        for given in &pending.env {
            let mut holding = hold(
                given.binding.secret,
                (given.place.clone(), None, None),
                (given.version, 0),
                Ack::AtStart,
            );
            holding.kept = pending.kept.get(&key_of(given)).cloned();
            tracked.holdings.insert(given.binding.binding, holding);
        }
        for written in attached.written {
            let holding = hold(
                written.secret,
                (written.place, Some(written.attr), written.form),
                (written.version, 0),
                Ack::AtStart,
            );
            tracked.holdings.insert(written.binding, holding);
        }
        self.wake_by(now + PENDING_LIMIT);
        self.containers.insert(id.clone(), tracked);
        self.inspect(id.clone());
    }

    /// What a start was given: where it stands in a trace, and that nobody could be asked.
    fn note_start(&mut self, id: &ContainerId, pending: &Pending, written: &[Written]) {
        let env = pending.env.iter();
        let env = env.map(|given| (given.binding.binding, given.binding.secret, given.version));
        let given: Vec<Delivered> = env.chain(written.iter().flat_map(given_file)).collect();
        if let Some(trace) = pending.trace {
            let versions = given.iter().map(|&(_, secret, version)| (secret, version));
            self.shared
                .origins
                .note_start(id, versions.collect(), trace);
        }
        self.note_given(&pending.facts, &given, written_beside(written));
    }

    /// Whether a container lacks what a binding gives it now and only its restart would bring, or tell it.
    fn lacks(
        &self,
        id: &ContainerId,
        (binding, is_told_so): (BindingId, bool),
        own: VersionKey,
    ) -> bool {
        let tracked = self.containers.get(id);
        let held = tracked.and_then(|tracked| tracked.holdings.get(&binding));
        let further = self.further_in(id, binding, own.0);
        let mut all = std::iter::once(own).chain(further);
        let is_owed = |held: &Holding, one| match is_told_so {
            true => held.owes(one),
            false => !held.has(one),
        };
        held.is_none_or(|held| all.any(|one| is_owed(held, one)))
    }

    /// Our restart is over, one way or the other.
    pub(super) fn take_restarted(&mut self, id: &ContainerId, result: Result<(), String>) {
        self.note_restarted(id, &result);
        self.note_ordered(id, &result);
        let Some(tracked) = self.containers.get_mut(id) else {
            return;
        };
        tracked.busy = Busy::No;
        if result.is_ok() {
            tracked.owed = owed_after_restart(tracked.owed);
            tracing::info!(
                { names::EVENT } = lines::CONTAINER_RESTARTED,
                { names::CONTAINER } = id.short(),
                "container restarted"
            );
            // Without the wrapper only the engine tells of its new program; until then it is between the two.
            let is_over = |target: &Arc<PinnedPid>| !target.is_alive();
            if tracked.creating_until.is_none() && tracked.target.as_ref().is_some_and(is_over) {
                tracked.record.running = false;
            }
        }
        if let Err(reason) = result {
            tracked.retry_at = self.shared.clock.monotonic() + again::derive_wait(id);
            tracked.stop_at = tracked.retry_at;
            let plan = self.shared.plan();
            let seen = plan.as_deref().map(|plan| seen_by(plan, id));
            let due: Vec<_> = seen
                .iter()
                .flat_map(|plan| &plan.bindings)
                .filter(|planned| tracked.holdings.contains_key(&planned.binding))
                .filter_map(|planned| {
                    let is_told_so =
                        matches!(planned.reload, Reload::Restart { .. } | Reload::Label);
                    let own = (planned.secret, grant_of(planned)?.version);
                    Some(((planned.binding, is_told_so), own))
                })
                .collect();
            for ((binding, is_told_so), (secret, version)) in due {
                // What else the container has its restart was not for.
                if self.lacks(id, (binding, is_told_so), (secret, version)) {
                    self.refuse(
                        id,
                        binding,
                        secret,
                        version,
                        format!("its restart failed: {reason}"),
                    );
                }
            }
        }
        self.inspect(id.clone());
    }

    /// Our stop is over, one way or the other.
    pub(super) fn take_stopped(&mut self, id: &ContainerId, result: Result<(), String>) {
        let now = self.now();
        self.note_apart(id, &result);
        let Some(tracked) = self.containers.get_mut(id) else {
            return;
        };
        match result {
            Ok(()) => self.forget(id, false),
            Err(reason) => {
                tracing::error!(
                    { names::CONTAINER } = id.short(),
                    { names::REASON } = reason,
                    "container that has or had a revoked value not stopped; stop it by hand"
                );
                tracked.busy = Busy::No;
                tracked.stop_at = now + RETRY_AFTER;
                self.wake_by(now + RETRY_AFTER);
            }
        }
    }
}

/// A binding, its secret and the version that was given.
type Delivered = (BindingId, SecretId, u64);

fn given_file(written: &Written) -> impl Iterator<Item = Delivered> {
    let binding = written.binding;
    let further = written.form.iter().flat_map(|form| form.versions());
    let further = further.map(move |(secret, version)| (binding, secret, version));
    std::iter::once((binding, written.secret, written.version)).chain(further)
}

/// What it holds, with the number of its content.
pub(super) fn hold(
    secret: keywheel_core::id::SecretId,
    (place, attr, form): (Place, Option<FileAttr>, Option<Arc<Form>>),
    (version, content): (u64, u64),
    ack: Ack,
) -> Holding {
    let further = form.as_ref().map(|form| form.versions());
    let previous = form.as_ref().map(|form| form.previous_versions());
    Holding {
        secret,
        place,
        attr,
        form,
        further: further.unwrap_or_default(),
        previous: previous.unwrap_or_default(),
        news: Vec::new(),
        version: Some(version),
        content,
        ack,
        remembered: None,
        kept: None,
    }
}

fn created(pending: &Pending, pid: i32) -> ContainerRecord {
    ContainerRecord {
        facts: pending.facts.clone(),
        pid,
        running: true,
        paused: false,
        started_at: String::new(),
        runtime: crate::options::RUNTIME_PREFIX.to_owned(),
        health: Health::None,
        placeholders: Vec::new(),
        refused: None,
        health_command: Vec::new(),
        user: String::new(),
    }
}
