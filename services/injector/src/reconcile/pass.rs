//! One pass: from the plan and the model to what is done now, what is begun, and what is said.
//!
//! Order: take back first, since it needs no value; then swap; then begin what is slow; then say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::{OnRevoke, Reload};
use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::plan::{Grant, HostPlan, PlannedBinding};
use keywheel_core::report::Fact;
use keywheel_daemon::{chain, failpoint, lines, names};
use keywheel_engine::trace::Context;
use keywheel_seal::SecretBytes;

use super::begin::further_values;
use super::content::{ack_of, began_with, drop_others, news_of, told_at, was_acked};
use super::start::hold;
use super::{Reconciler, again};
use crate::decide::{FileWish, Had, Todo, attr_of, decide, place_of};
use crate::granted::{is_dead, seen_by, staged_of};
use crate::model::{Ack, Busy, Tracked};
use crate::origin::{Traces, trace_id};
use crate::reload::reload_in;
use crate::shared::VersionKey;
use crate::state::{Remembered, forget, save};
use crate::swap::{
    NotSwapped, Removal, Swap, Swapped, Tell, Told, in_batches, remove_all, swap_all,
};

/// A pass that made more work is repeated at once, at most so often.
const ROUNDS: usize = 3;

/// Why a container that hides its secret files gets no others.
const HIDDEN: &str = "its secret files are covered by a mount or were moved, inside the container; undo that or restart the container";

/// A version that a restart brings, and under which binding.
pub(super) type Due = (BindingId, SecretId, u64);

/// What a pass gathered over all containers.
#[derive(Default)]
pub(super) struct Gathered {
    removals: Vec<Removal>,
    pub(super) needs: BTreeMap<VersionKey, Grant>,
    swaps: Vec<(ContainerId, FileWish)>,
    attaches: BTreeMap<ContainerId, Vec<FileWish>>,
    restarts: Vec<(ContainerId, Vec<Due>)>,
    /// Those that take leave, also while they have none.
    rolling: BTreeMap<ContainerId, Vec<Due>>,
    stops: Vec<ContainerId>,
    /// What is to befall those that lose a revoked value, and those to which it is to be done now.
    losing: Vec<(ContainerId, OnRevoke)>,
    owed: Vec<ContainerId>,
    refusals: Vec<(ContainerId, BindingId, SecretId, u64, String)>,
}

impl Reconciler {
    /// Does what is to be done now.
    pub(crate) async fn pass(&mut self) {
        self.wake_at = None;
        self.look_at_times();
        self.settle_turns();
        self.ask_ahead();
        // What a pass acts on is on the disk first, so that no restart goes back behind it.
        self.shared.settle_cache().await;
        for _ in 0..ROUNDS {
            let Some(plan) = self.shared.plan() else {
                break;
            };
            self.carry_out(&plan).await;
            let mut gathered = self.gather(&plan);
            self.note_due(&plan, std::mem::take(&mut gathered.rolling));
            self.start_fallen(&plan);
            let swapped = self.do_now(&plan, gathered).await;
            let progressed = self.progress(&plan).await;
            if !swapped && !progressed {
                break;
            }
        }
        self.start_refused();
        self.watch_uses();
        self.note_wants();
        // The plan that is kept names it no more, so it can wait for a swap, and goes before that is told. Facts
        // are told at once, and a revocation's have to say that it is gone: they wait for no other value.
        let has_facts = !(self.items.is_empty() && self.denied.is_empty());
        if has_facts || !self.waits_for_values() {
            self.shared.clear_cache().await;
        }
        // What is said of a failure is on the disk first, so that a restart does not forget it.
        self.save_turns().await;
        self.report();
        self.save_refused().await;
        self.save_state().await;
    }

    /// What is due by the clock: another list, containers whose create never ended.
    fn look_at_times(&mut self) {
        let now = self.now();
        match self.relist_at {
            Some(at) if at <= now => {
                self.relist_at = None;
                self.look_again();
            }
            Some(at) => self.wake_by(at),
            None => {}
        }
        self.look_at_unsettled();
        let late = |tracked: &Tracked| tracked.creating_until.is_some_and(|until| until <= now);
        let late: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(_, tracked)| late(tracked))
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.inspect(id);
        }
        // What may be asked for again is forgotten, so that the map holds only what is under way or waits.
        self.fetching.retain(|_, at| at.is_none_or(|at| at > now));
        let both = |tracked: &Tracked| [tracked.retry_at, tracked.stop_at];
        let retries = self.containers.values().flat_map(both);
        let creates = self
            .containers
            .values()
            .filter_map(|tracked| tracked.creating_until);
        let fetches = self.fetching.values().copied().flatten();
        let contact = self.shared.look_at_contact();
        let retries: Vec<Duration> = retries
            .chain(creates)
            .chain(fetches)
            .chain(contact)
            .chain(self.execs.next())
            .filter(|at| *at > now)
            .collect();
        for at in retries {
            self.wake_by(at);
        }
    }

    pub(super) fn gather(&self, plan: &HostPlan) -> Gathered {
        let (now, traces) = (self.now(), Traces::of(plan));
        let mut gathered = Gathered::default();
        let had = |key| self.had(key);
        for (id, tracked) in &self.containers {
            let is_wrapped = self.shared.options.is_wrapper(&tracked.record.runtime);
            let todo = decide(
                &seen_by(plan, id),
                &self.shared.options.host_name,
                (tracked, now),
                is_wrapped,
                &had,
            );
            if todo.on_revoke != OnRevoke::Remove {
                gathered.losing.push((id.clone(), todo.on_revoke));
            }
            for (binding, secret, directory, name) in &todo.removes {
                let dir = tracked.dirs.get(directory).cloned();
                let (container, name) = (id.clone(), name.to_string());
                gathered.removals.push(Removal {
                    container,
                    binding: *binding,
                    secret: *secret,
                    dir,
                    name,
                    trace: traces.of_secret(*secret),
                });
            }
            if tracked.is_running() && tracked.busy == Busy::No {
                self.gather_one(plan, (id, tracked), todo, now, &mut gathered);
            } else {
                self.keep_place(id, &mut gathered);
            }
        }
        // Had before it is given out, so that nothing is asked for when it is.
        gathered.needs.extend(staged_of(plan));
        gathered
    }

    fn gather_one(
        &self,
        plan: &HostPlan,
        (id, tracked): (&ContainerId, &Tracked),
        todo: Todo,
        now: Duration,
        gathered: &mut Gathered,
    ) {
        for (secret, grant) in &todo.needs {
            gathered.needs.insert((*secret, grant.version), *grant);
        }
        for (binding, secret, version, reason) in todo.refusals {
            gathered
                .refusals
                .push((id.clone(), binding, secret, version, reason));
        }
        // Nothing that failed before holds up a stop but a stop.
        if !todo.stop.is_empty() {
            if now >= tracked.stop_at {
                gathered.stops.push(id.clone());
            }
            return self.keep_place(id, gathered);
        }
        if tracked.owed != OnRevoke::Remove && now >= tracked.stop_at {
            gathered.owed.push(id.clone());
            return self.keep_place(id, gathered);
        }
        // A directory is attached with all its files at once.
        let is_missing = todo.writes.iter().any(|wish| !self.has(wish));
        let waits = |wish: &FileWish| self.waits_for_leave(plan, (id, tracked), wish);
        let (waiting, writes): (Vec<_>, Vec<_>) = todo.writes.into_iter().partition(waits);
        let mut due = todo.restart;
        let is_own = !due.is_empty();
        due.extend(waiting.iter().flat_map(due_of));
        let is_later = now < tracked.retry_at;
        if due.is_empty() && self.is_placed_for(id, writes.iter().flat_map(due_of)) {
            self.keep_place(id, gathered);
        }
        if !is_later {
            self.gather_writes((id, tracked), writes, is_missing, gathered);
        }
        let is_had = |(_, secret, version): &Due| self.shared.has_value((*secret, *version));
        let is_ready = !is_later && due.iter().all(is_had);
        if due.is_empty() {
            return;
        }
        // Once told of, it keeps its place while something is in its way: else it would count as through.
        if (is_ready || self.has_place(plan, id)) && self.is_rolled(&due) {
            gathered.rolling.insert(id.clone(), due.clone());
        }
        if is_own && is_ready && !self.is_outdated(id, tracked) {
            gathered.restarts.push((id.clone(), due));
        }
    }

    /// What was told of its restart stays so.
    fn keep_place(&self, id: &ContainerId, gathered: &mut Gathered) {
        if let Some(due) = self.place(id) {
            gathered.rolling.insert(id.clone(), due.to_vec());
        }
    }

    fn gather_writes(
        &self,
        (id, tracked): (&ContainerId, &Tracked),
        writes: Vec<FileWish>,
        is_missing: bool,
        gathered: &mut Gathered,
    ) {
        // A restart with leave is not judged by what is only late.
        let is_judged = self.slots.contains_key(&tracked.alone());
        for wish in writes {
            if !self.has(&wish) {
                if let Some(reason) = self.lacks_previous(&wish)
                    && !is_judged
                {
                    let refusal = (
                        id.clone(),
                        wish.binding,
                        wish.secret,
                        wish.grant.version,
                        reason,
                    );
                    gathered.refusals.push(refusal);
                }
                continue;
            }
            if tracked.dirs.contains_key(&wish.directory) && tracked.target.is_some() {
                gathered.swaps.push((id.clone(), wish));
            } else if self.hidden.contains_key(id) {
                let reason = self.tools.lacks.as_deref().unwrap_or(HIDDEN).to_owned();
                let id = id.clone();
                let refusal = (id, wish.binding, wish.secret, wish.grant.version, reason);
                gathered.refusals.push(refusal);
            } else if !is_missing {
                gathered.attaches.entry(id.clone()).or_default().push(wish);
            }
        }
    }

    fn has(&self, wish: &FileWish) -> bool {
        wish.parts().all(|one| self.shared.has_value(one))
    }

    /// Why a file is not written for want of a version before the current one, which nobody may need.
    fn lacks_previous(&self, wish: &FileWish) -> Option<String> {
        let mut previous = wish.form.iter().flat_map(|form| form.previous_named());
        let (name, (_, version)) = previous.find(|(_, key)| self.had(*key) == Had::Failed)?;
        Some(format!(
            "previous_not_had: version {version} of secret `{name}`, which its template names as the version before, is not had from store-sync; it is asked for again by itself, and `keywheel revoke {name} --version {version}` goes on without it"
        ))
    }

    /// `true` when something changed that may lead to more.
    async fn do_now(&mut self, plan: &HostPlan, gathered: Gathered) -> bool {
        self.note_owed(gathered.losing);
        let removed = self.remove(gathered.removals).await;
        for (key, grant) in gathered.needs {
            self.fetch(key, grant);
        }
        let values = self.open_values(
            gathered
                .swaps
                .iter()
                .map(|(_, wish)| wish)
                .chain(gathered.attaches.values().flatten()),
        );
        let swapped = self.swap(plan, gathered.swaps, &values).await;
        for (id, wishes) in gathered.attaches {
            self.begin_attach(&id, wishes, &values);
        }
        for (id, binding, secret, version, reason) in gathered.refusals {
            self.refuse(&id, binding, secret, version, reason);
        }
        for id in gathered.stops {
            self.begin_stop(&id);
        }
        for id in gathered.owed {
            self.begin_owed(&id);
        }
        for (id, due) in gathered.restarts {
            self.begin_restart(&id, &due);
        }
        self.begin_ready().await;
        removed || swapped
    }

    async fn remove(&mut self, removals: Vec<Removal>) -> bool {
        let mut changed = false;
        for (removal, result) in remove_all(removals).await {
            let Some(tracked) = self.containers.get_mut(&removal.container) else {
                continue;
            };
            match result {
                Ok(()) => {
                    let items = tracked.farewells(removal.binding, &Fact::Withdrawn);
                    tracked.drop_holding(removal.binding);
                    tracked.refused.remove(&removal.binding);
                    tracked.dirty = true;
                    changed = true;
                    tracing::info!(
                        { names::EVENT } = lines::FILE_REMOVED,
                        { names::CONTAINER } = removal.container.short(),
                        { names::SECRET } = %removal.secret,
                        { names::TRACE } = trace_id(removal.trace),
                        "file removed"
                    );
                    self.items.extend(items);
                }
                Err(reason) => {
                    tracing::error!(
                        { names::CONTAINER } = removal.container.short(),
                        { names::REASON } = reason,
                        "secret file not removed"
                    );
                    let at = self.now() + Duration::from_secs(1);
                    self.wake_by(at);
                }
            }
        }
        changed
    }

    async fn swap(
        &mut self,
        plan: &HostPlan,
        wishes: Vec<(ContainerId, FileWish)>,
        values: &BTreeMap<VersionKey, Arc<SecretBytes>>,
    ) -> bool {
        if wishes.is_empty() {
            return false;
        }
        let traces = Traces::of(plan);
        let job = |(id, wish): (ContainerId, FileWish)| {
            let tracked = self.containers.get(&id)?;
            let held = tracked
                .holdings
                .get(&wish.binding)
                .filter(|holding| holding.secret == wish.secret);
            let is_acked = held.is_some_and(|holding| was_acked(holding, &wish_versions(&wish)));
            // Only its owner or mode changes: nothing new to be told.
            let is_known = held.is_some_and(|held| {
                held.version == Some(wish.grant.version) && held.form == wish.form
            });
            let tell = match wish.reload {
                Reload::Signal(signal) if !is_known => Some(Tell {
                    signal,
                    even_if_equal: !is_acked,
                }),
                Reload::Signal(_)
                | Reload::None
                | Reload::Restart { .. }
                | Reload::Command { .. }
                | Reload::Label => None,
            };
            Some(Swap {
                binding: wish.binding,
                secret: wish.secret,
                version: wish.grant.version,
                dir: Arc::clone(tracked.dirs.get(&wish.directory)?),
                target: Arc::clone(tracked.target.as_ref()?),
                directory: wish.directory.clone(),
                name: wish.name.to_string(),
                owner: tracked.owners.get(&(wish.attr.uid, wish.attr.gid)).copied(),
                attr: wish.attr,
                further: further_values(&wish, values)?,
                form: wish.form,
                value: Arc::clone(values.get(&(wish.secret, wish.grant.version))?),
                compare_first: wish.compare_first,
                tell,
                trace: wish.news.first().and_then(|one| traces.of_secret(one.0)),
                container: id,
            })
        };
        let jobs: Vec<Swap> = wishes.into_iter().filter_map(job).collect();
        let mut changed = false;
        for swapped in swap_all(&self.shared, jobs).await {
            self.note_swapped_beside(&swapped);
            changed |= self.take_swapped(plan, swapped);
        }
        changed
    }

    /// Looks at a container again in a while.
    pub(super) fn try_again(&mut self, container: &ContainerId, now: Duration) {
        let at = now + again::derive_wait(container);
        if let Some(tracked) = self.containers.get_mut(container) {
            tracked.retry_at = at;
        }
        self.wake_by(at);
    }

    /// Whether what is there may have to go now: also what is dead and cannot be replaced before a while.
    fn take_unswapped(
        &mut self,
        planned: Option<&PlannedBinding>,
        (container, binding): (&ContainerId, BindingId),
        (secret, version): (SecretId, u64),
        why: NotSwapped,
    ) -> bool {
        match why {
            NotSwapped::Now(reason) => {
                let now = self.now();
                self.try_again(container, now);
                self.refuse(container, binding, secret, version, reason);
                let tracked = self.containers.get(container);
                let held = tracked.and_then(|tracked| tracked.holdings.get(&binding));
                let has_dead = planned.zip(held).is_some_and(|(planned, held)| {
                    let mut parts = held.parts();
                    parts.any(|one| is_dead(planned, one))
                });
                if has_dead {
                    // Also after the last round of this pass.
                    self.wake_by(now);
                }
                has_dead
            }
            NotSwapped::Unformed(one) => {
                self.take_unformed(container, binding, one);
                true
            }
        }
    }

    fn take_swapped(&mut self, plan: &HostPlan, swapped: Swapped) -> bool {
        let Swapped {
            container,
            binding,
            secret,
            version,
            form,
            result,
        } = swapped;
        let now = self.now();
        let mut planned = plan.bindings.iter();
        let planned = planned.find(|planned| planned.binding == binding);
        let done = match result {
            Ok(done) => done,
            Err(why) => {
                let place = (&container, binding);
                return self.take_unswapped(planned, place, (secret, version), why);
            }
        };
        let Some(planned) = planned else {
            return false;
        };
        let Some(tracked) = self.containers.get_mut(&container) else {
            return false;
        };
        let mut versions = vec![(secret, version)];
        versions.extend(form.iter().flat_map(|form| form.versions()));
        let (gone, is_other) = drop_others(tracked, binding, &versions);
        self.items.extend(gone);
        let before = tracked.holdings.get(&binding);
        let known = before
            .filter(|holding| holding.version == Some(version) && holding.form == form)
            .map(|holding| (holding.ack, holding.content));
        let was_acked = !done.written && before.is_some_and(|held| was_acked(held, &versions));
        let news = news_of(before, &versions);
        let is_first = before.is_none() && !is_other;
        let reload = reload_in(&planned.reload, &tracked.label);
        let ack = match (known, done.told) {
            _ if was_acked => Ack::Done,
            _ if !done.written && began_with(before, &versions, &reload) => {
                Ack::Gate { since: now }
            }
            (Some((ack, _)), Told::NotAsked) => ack,
            _ => ack_of(&reload, done.told, is_first, now),
        };
        self.contents += 1;
        let content = known.map_or(self.contents, |(_, content)| content);
        let place = (place_of(&planned.target), attr_of(&planned.target), form);
        tracked.owners.insert(done.owner.0, done.owner.1);
        let holding = hold(secret, place, (version, content), ack).with(news);
        let said = holding.untold();
        tracked.put(binding, holding);
        tracked.refused.remove(&binding);
        tracked.dirty = true;
        let at = done.at;
        let swapped = tracked.facts(binding, |version| Fact::Swapped { version, at });
        self.items.extend(swapped);
        for one in said.into_iter().filter(|_| done.written) {
            say_replaced(&container, planned, one);
        }
        if let Some(at) = told_at(done.told, was_acked.then_some(done.at)) {
            let told = tracked.facts(binding, |version| Fact::Reloaded { version, at });
            self.items.extend(told);
        }
        true
    }

    /// Writes down what changed, after the disk has what was said of it: a crash in between is said
    /// again, not lost.
    async fn save_state(&mut self) {
        // Without a plan nothing was said yet; the event of the write brings the next pass.
        if !self.items.is_empty() || !self.outbox.is_written() {
            return;
        }
        let owing = self.owing_to_save();
        save_all(self.tools.state.clone(), owing).await;
        let folder = self.tools.state.clone();
        let gone = std::mem::take(&mut self.forgotten);
        let removed = in_batches(gone, move |(id, ticks)| {
            failpoint::hit("injector.before_forget").map_err(|error| error.to_string())?;
            forget(&folder, id.as_str(), ticks).map_err(|error| chain(&error))?;
            failpoint::hit("injector.after_forget").map_err(|error| error.to_string())
        });
        for fault in removed.await.into_iter().filter_map(Result::err) {
            tracing::warn!({ names::ERROR } = fault, "state file not removed");
        }
        let mut changed = Vec::new();
        for tracked in self.containers.values_mut() {
            // While something is being attached its job keeps the file.
            let is_kept = tracked.target.is_some() || tracked.owed != OnRevoke::Remove;
            if tracked.dirty && tracked.busy != Busy::Attaching && is_kept {
                tracked.dirty = false;
                changed.push(Remembered::of(tracked));
            }
        }
        save_all(self.tools.state.clone(), changed).await;
    }
}

async fn save_all(folder: PathBuf, changed: Vec<Remembered>) {
    let saved = in_batches(changed, move |remembered| {
        save(&folder, &remembered).map_err(|error| chain(&error))
    });
    for fault in saved.await.into_iter().filter_map(Result::err) {
        tracing::warn!({ names::ERROR } = fault, "state file not written");
    }
}

fn due_of(wish: &FileWish) -> impl Iterator<Item = Due> + '_ {
    let (binding, news) = (wish.binding, wish.news.iter());
    news.map(move |(secret, version)| (binding, *secret, *version))
}

fn wish_versions(wish: &FileWish) -> Vec<VersionKey> {
    wish.versions().collect()
}

fn say_replaced(container: &ContainerId, planned: &PlannedBinding, (secret, version): VersionKey) {
    let further = planned.also.iter().find(|one| one.secret == secret);
    let (name, trace) = match further {
        Some(one) => (&one.name, &one.traceparent),
        None => (&planned.secret_name, &planned.traceparent),
    };
    let trace = trace.as_deref().and_then(Context::parse);
    tracing::info!(
        { names::EVENT } = lines::FILE_REPLACED,
        { names::CONTAINER } = container.short(),
        { names::SECRET_NAME } = %name,
        { names::VERSION } = version,
        { names::TRACE } = trace_id(trace),
        "file replaced"
    );
}
