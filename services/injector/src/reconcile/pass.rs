//! One pass: from the plan and the model to what is done now, what is begun, and what is said.
//!
//! Order: take back first, since it needs no value; then swap; then begin what is slow; then say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::Reload;
use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::plan::{Grant, HostPlan};
use keywheel_core::report::Fact;
use keywheel_daemon::{chain, failpoint, names};
use keywheel_seal::SecretBytes;

use super::start::hold;
use super::{RETRY_AFTER, Reconciler};
use crate::attach::{Wanted, attach};
use crate::decide::{FileWish, Todo, decide};
use crate::gate::{Gate, judge};
use crate::model::{Ack, Busy, Place, Tracked};
use crate::service::Event;
use crate::shared::VersionKey;
use crate::state::{Remembered, save};
use crate::swap::{Removal, Swap, Swapped, Tell, Told, in_batches, remove_all, signal, swap_all};

/// A container's program may take so long to install its signal handler.
const SIGNAL_GRACE: Duration = Duration::from_secs(5);
/// How often it is looked for meanwhile.
const SIGNAL_LOOK: Duration = Duration::from_millis(100);
/// A pass that made more work is repeated at once, at most so often.
const ROUNDS: usize = 3;

/// A version that a restart brings, and under which binding.
type Due = (BindingId, SecretId, u64);

/// What a pass gathered over all containers.
#[derive(Default)]
struct Gathered {
    removals: Vec<Removal>,
    needs: BTreeMap<VersionKey, Grant>,
    swaps: Vec<(ContainerId, FileWish)>,
    attaches: BTreeMap<ContainerId, Vec<FileWish>>,
    restarts: Vec<(ContainerId, Vec<Due>)>,
    stops: Vec<ContainerId>,
    refusals: Vec<(ContainerId, BindingId, SecretId, u64, String)>,
}

impl Reconciler {
    /// Does what is to be done now.
    pub(crate) async fn pass(&mut self) {
        self.wake_at = None;
        self.look_at_times();
        for _ in 0..ROUNDS {
            let Some(plan) = self.shared.plan() else { break };
            let gathered = self.gather(&plan);
            let swapped = self.do_now(&plan, gathered).await;
            let progressed = self.progress(&plan).await;
            if !swapped && !progressed {
                break;
            }
        }
        self.report();
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
        let late = |tracked: &Tracked| tracked.creating_until.is_some_and(|until| until <= now);
        let late: Vec<ContainerId> =
            self.containers.iter().filter(|(_, tracked)| late(tracked)).map(|(id, _)| id.clone()).collect();
        for id in late {
            self.inspect(id);
        }
        let retries: Vec<Duration> =
            self.containers.values().map(|tracked| tracked.retry_at).chain(self.fetching.values().copied().flatten()).filter(|at| *at > now).collect();
        for at in retries {
            self.wake_by(at);
        }
    }

    fn gather(&self, plan: &HostPlan) -> Gathered {
        let now = self.now();
        let mut gathered = Gathered::default();
        for (id, tracked) in &self.containers {
            let is_wrapped = self.shared.options.is_wrapper(&tracked.record.runtime);
            let todo = decide(plan, &self.shared.options.host_name, tracked, is_wrapped);
            for (binding, secret, directory, name) in &todo.removes {
                let dir = tracked.dirs.get(directory).cloned();
                let (container, name) = (id.clone(), name.to_string());
                gathered.removals.push(Removal { container, binding: *binding, secret: *secret, dir, name });
            }
            if tracked.is_running() && tracked.busy == Busy::No {
                self.gather_one(id, tracked, todo, now, &mut gathered);
            }
        }
        gathered
    }

    fn gather_one(&self, id: &ContainerId, tracked: &Tracked, todo: Todo, now: Duration, gathered: &mut Gathered) {
        for (secret, grant) in &todo.needs {
            gathered.needs.insert((*secret, grant.version), *grant);
        }
        for (binding, secret, version, reason) in todo.refusals {
            gathered.refusals.push((id.clone(), binding, secret, version, reason));
        }
        if now < tracked.retry_at {
            return;
        }
        if !todo.stop.is_empty() {
            gathered.stops.push(id.clone());
            return;
        }
        // A directory is attached with all its files at once.
        let is_missing = todo.writes.iter().any(|wish| !self.has(wish));
        for wish in todo.writes {
            if !self.has(&wish) {
                continue;
            }
            if tracked.dirs.contains_key(&wish.directory) && tracked.target.is_some() {
                gathered.swaps.push((id.clone(), wish));
            } else if !is_missing {
                gathered.attaches.entry(id.clone()).or_default().push(wish);
            }
        }
        let is_ready = |(_, secret, version): &Due| self.shared.has_value((*secret, *version));
        if !todo.restart.is_empty() && todo.restart.iter().all(is_ready) {
            gathered.restarts.push((id.clone(), todo.restart));
        }
    }

    fn has(&self, wish: &FileWish) -> bool {
        self.shared.has_value((wish.secret, wish.grant.version))
    }

    /// `true` when something changed that may lead to more.
    async fn do_now(&mut self, plan: &HostPlan, gathered: Gathered) -> bool {
        let removed = self.remove(gathered.removals).await;
        for (key, grant) in gathered.needs {
            self.fetch(key, grant);
        }
        let values = self.open_values(gathered.swaps.iter().map(|(_, wish)| wish).chain(gathered.attaches.values().flatten()));
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
        for (id, due) in gathered.restarts {
            self.begin_restart(&id, &due);
        }
        removed || swapped
    }

    async fn remove(&mut self, removals: Vec<Removal>) -> bool {
        let mut changed = false;
        for (removal, result) in remove_all(removals).await {
            let Some(tracked) = self.containers.get_mut(&removal.container) else { continue };
            match result {
                Ok(()) => {
                    tracked.holdings.remove(&removal.binding);
                    tracked.refused.remove(&removal.binding);
                    tracked.dirty = true;
                    changed = true;
                    let item = tracked.item(removal.binding, removal.secret, Fact::Withdrawn);
                    self.items.push(item);
                }
                Err(reason) => {
                    tracing::error!({ names::CONTAINER } = removal.container.short(), { names::REASON } = reason, "secret file not removed");
                    let at = self.now() + Duration::from_secs(1);
                    self.wake_by(at);
                }
            }
        }
        changed
    }

    /// Asks for a value in the background, once at a time.
    fn fetch(&mut self, key: VersionKey, grant: Grant) {
        if self.shared.has_value(key) {
            return;
        }
        let now = self.now();
        match self.fetching.get(&key) {
            Some(None) => return,
            Some(Some(at)) if now < *at => return,
            _ => {}
        }
        self.fetching.insert(key, None);
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(async move {
            let result = shared.fetch(key.0, grant).await.map(|_| ());
            let _ = events.send(Event::Fetched { key, result }).await;
        });
    }

    /// Opens each wanted version once, however many containers get it.
    fn open_values<'a>(&self, wishes: impl Iterator<Item = &'a FileWish>) -> BTreeMap<VersionKey, Arc<SecretBytes>> {
        let mut values = BTreeMap::new();
        for wish in wishes {
            let key = (wish.secret, wish.grant.version);
            if values.contains_key(&key) {
                continue;
            }
            let Some(sealed) = self.shared.sealed(key) else { continue };
            match self.shared.open(key, &sealed) {
                Ok(value) => {
                    values.insert(key, Arc::new(value));
                }
                Err(error) => tracing::error!({ names::SECRET } = %key.0, { names::ERROR } = chain(&error), "value not opened"),
            }
        }
        values
    }

    async fn swap(
        &mut self,
        plan: &HostPlan,
        wishes: Vec<(ContainerId, FileWish)>,
        values: &BTreeMap<VersionKey, Arc<SecretBytes>>,
    ) -> bool {
        let job = |(id, wish): (ContainerId, FileWish)| {
            let tracked = self.containers.get(&id)?;
            let remembered = tracked.holdings.get(&wish.binding).and_then(|holding| holding.remembered);
            let tell = match wish.reload {
                Reload::Signal(signal) => {
                    Some(Tell { signal, even_if_equal: remembered != Some((wish.grant.version, true)) })
                }
                Reload::None | Reload::Restart { .. } => None,
            };
            Some(Swap {
                binding: wish.binding,
                secret: wish.secret,
                version: wish.grant.version,
                dir: Arc::clone(tracked.dirs.get(&wish.directory)?),
                target: Arc::clone(tracked.target.as_ref()?),
                name: wish.name.to_string(),
                owner: tracked.owners.get(&(wish.attr.uid, wish.attr.gid)).copied(),
                attr: wish.attr,
                value: Arc::clone(values.get(&(wish.secret, wish.grant.version))?),
                compare_first: wish.compare_first,
                tell,
                container: id,
            })
        };
        let jobs: Vec<Swap> = wishes.into_iter().filter_map(job).collect();
        let mut changed = false;
        for swapped in swap_all(&self.shared, jobs).await {
            changed |= self.take_swapped(plan, swapped);
        }
        changed
    }

    fn take_swapped(&mut self, plan: &HostPlan, swapped: Swapped) -> bool {
        let Swapped { container, binding, secret, version, result } = swapped;
        let now = self.now();
        let done = match result {
            Ok(done) => done,
            Err(reason) => {
                if let Some(tracked) = self.containers.get_mut(&container) {
                    tracked.retry_at = now + RETRY_AFTER;
                }
                self.wake_by(now + RETRY_AFTER);
                self.refuse(&container, binding, secret, version, reason);
                return false;
            }
        };
        let Some(planned) = plan.bindings.iter().find(|planned| planned.binding == binding) else { return false };
        let Some(tracked) = self.containers.get_mut(&container) else { return false };
        let before = tracked.holdings.get(&binding);
        let was_acked = !done.written && before.and_then(|holding| holding.remembered) == Some((version, true));
        let is_first = before.is_none();
        let ack = match (&planned.reload, done.told) {
            _ if was_acked => Ack::Done,
            (Reload::None, _) | (Reload::Signal(_), Told::At(_)) => Ack::Done,
            (Reload::Signal(_), _) => Ack::Due,
            (Reload::Restart { .. }, _) if is_first => Ack::Gate { since: now },
            (Reload::Restart { .. }, _) => Ack::Due,
        };
        let place = crate::decide::place_of(&planned.target);
        tracked.owners.insert(done.owner.0, done.owner.1);
        tracked.holdings.insert(binding, hold(secret, place, version, ack));
        tracked.refused.remove(&binding);
        tracked.dirty = true;
        self.items.push(tracked.item(binding, secret, Fact::Swapped { version, at: done.at }));
        let told_at = match done.told {
            Told::At(at) => Some(at),
            Told::NotAsked | Told::Unhandled => was_acked.then_some(done.at),
        };
        if let Some(at) = told_at {
            self.items.push(tracked.item(binding, secret, Fact::Reloaded { version, at }));
        }
        true
    }

    fn begin_attach(
        &mut self,
        id: &ContainerId,
        wishes: Vec<FileWish>,
        values: &BTreeMap<VersionKey, Arc<SecretBytes>>,
    ) {
        let want = |wish: FileWish| {
            Some(Wanted {
                value: Arc::clone(values.get(&(wish.secret, wish.grant.version))?),
                binding: wish.binding,
                secret: wish.secret,
                version: wish.grant.version,
                directory: wish.directory,
                name: wish.name,
                attr: wish.attr,
            })
        };
        let wanted: Vec<Wanted> = wishes.into_iter().filter_map(want).collect();
        let Some(tracked) = self.containers.get_mut(id).filter(|_| !wanted.is_empty()) else { return };
        tracked.busy = Busy::Attaching;
        let versions = wanted.iter().map(|file| (file.secret, file.version)).collect();
        let ((), intent) = self.shared.intend(|_| ((), versions));
        let (base, pid) = (Remembered::of(tracked), tracked.record.pid);
        let (tools, events, pool, id) =
            (self.tools.clone(), self.events.clone(), Arc::clone(&self.attach_pool), id.clone());
        self.tasks.spawn(async move {
            let _permit = pool.acquire().await;
            let target = id.clone();
            let work = move || attach(&tools, &target, pid, base, wanted);
            let result = match tokio::task::spawn_blocking(work).await {
                Ok(result) => result.map(Box::new),
                Err(_) => return,
            };
            let _ = events.send(Event::Attached { id, pid, result, intent }).await;
        });
    }

    fn begin_stop(&mut self, id: &ContainerId) {
        let Some(tracked) = self.containers.get_mut(id) else { return };
        tracked.busy = Busy::Stopping;
        tracing::warn!({ names::CONTAINER } = id.short(), "container stopped: a variable it holds may not be used any more");
        let (shared, events, id) = (Arc::clone(&self.shared), self.events.clone(), id.clone());
        self.tasks.spawn(async move {
            let result = shared.containers.stop(&id).await.map_err(|error| chain(&error));
            let _ = events.send(Event::Stopped { id, result }).await;
        });
    }

    /// Restarts a container, one of its service at a time; a version its service failed with holds back the rest.
    fn begin_restart(&mut self, id: &ContainerId, due: &[Due]) {
        let Some(tracked) = self.containers.get(id) else { return };
        let service = tracked.service();
        let failed = due.iter().find(|(binding, _, version)| {
            self.failed.get(&(service.clone(), *binding)).is_some_and(|failed| failed == version)
        });
        if let Some((binding, secret, version)) = failed.copied() {
            let reason = format!(
                "held back: another container of the same service did not run well with version {version}; look at its log, then rotate again"
            );
            return self.refuse(id, binding, secret, version, reason);
        }
        if self.is_occupied(&service) {
            return;
        }
        self.slots.insert(service, id.clone());
        if let Some(tracked) = self.containers.get_mut(id) {
            tracked.busy = Busy::Restarting;
        }
        let (shared, events, id) = (Arc::clone(&self.shared), self.events.clone(), id.clone());
        self.tasks.spawn(async move {
            let work = async {
                failpoint::hit_async("injector.before_restart").await.map_err(|error| error.to_string())?;
                shared.containers.restart(&id).await.map_err(|error| chain(&error))?;
                failpoint::hit_async("injector.after_restart").await.map_err(|error| error.to_string())
            };
            let result = work.await;
            let _ = events.send(Event::Restarted { id, result }).await;
        });
    }

    /// Moves consumers on: started, healthy, told. `true` when a slot may have become free.
    async fn progress(&mut self, plan: &HostPlan) -> bool {
        let reloads: BTreeMap<BindingId, Reload> =
            plan.bindings.iter().map(|planned| (planned.binding, planned.reload.clone())).collect();
        let mut changed = false;
        let ids: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(_, tracked)| tracked.is_running() && tracked.busy == Busy::No)
            .filter(|(_, tracked)| tracked.holdings.values().any(|holding| holding.ack != Ack::Done))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            let bindings: BTreeSet<BindingId> =
                self.containers.get(&id).map(|tracked| tracked.holdings.keys().copied().collect()).unwrap_or_default();
            for binding in bindings {
                let Some(reload) = reloads.get(&binding) else { continue };
                changed |= self.progress_one(&id, binding, reload).await;
            }
        }
        changed
    }

    async fn progress_one(&mut self, id: &ContainerId, binding: BindingId, reload: &Reload) -> bool {
        let (now, at) = (self.now(), self.shared.clock.now());
        let Some(tracked) = self.containers.get_mut(id) else { return false };
        let Some(holding) = tracked.holdings.get_mut(&binding) else { return false };
        let (Some(version), secret, ack) = (holding.version, holding.secret, holding.ack) else { return false };
        match ack {
            Ack::Done => false,
            Ack::AtStart => {
                let is_env = matches!(holding.place, Place::Env { .. });
                let is_gated = is_env || matches!(reload, Reload::Restart { .. });
                holding.ack = if is_gated { Ack::Gate { since: now } } else { Ack::Done };
                tracked.dirty = true;
                tracked.refused.remove(&binding);
                self.items.push(tracked.item(binding, secret, Fact::Swapped { version, at }));
                if matches!(reload, Reload::Signal(_)) {
                    self.items.push(tracked.item(binding, secret, Fact::Reloaded { version, at }));
                }
                true
            }
            Ack::Gate { since } => self.pass_gate(id, (binding, secret, version), reload, since),
            Ack::Due => match reload {
                Reload::Signal(number) => self.tell(id, (binding, secret, version), *number).await,
                Reload::Restart { .. } => false,
                Reload::None => {
                    holding.ack = Ack::Done;
                    false
                }
            },
        }
    }

    fn pass_gate(
        &mut self,
        id: &ContainerId,
        (binding, secret, version): Due,
        reload: &Reload,
        since: Duration,
    ) -> bool {
        let (now, at) = (self.now(), self.shared.clock.now());
        let Some(tracked) = self.containers.get_mut(id) else { return false };
        let service = tracked.service();
        match judge(reload, tracked.record.health, since, now) {
            Gate::Passed if tracked.target.as_ref().is_none_or(|target| target.is_alive()) => {
                if let Some(holding) = tracked.holdings.get_mut(&binding) {
                    holding.ack = Ack::Done;
                }
                tracked.dirty = true;
                tracked.refused.remove(&binding);
                self.items.push(tracked.item(binding, secret, Fact::Reloaded { version, at }));
                self.failed.remove(&(service, binding));
                true
            }
            // It has ended; the engine will say so.
            Gate::Passed => {
                self.inspect(id.clone());
                false
            }
            Gate::Wait(until) => {
                self.wake_by(until);
                false
            }
            Gate::Failed(reason) => {
                if self.slots.get(&service) == Some(id) {
                    self.failed.insert((service, binding), version);
                }
                let is_news = !tracked.refused.contains_key(&binding);
                self.refuse(id, binding, secret, version, reason);
                is_news
            }
        }
    }

    /// Signals a consumer that could not be told at once.
    async fn tell(&mut self, id: &ContainerId, (binding, secret, version): Due, number: i32) -> bool {
        let now = self.now();
        let Some(tracked) = self.containers.get_mut(id) else { return false };
        let Some(target) = tracked.target.clone() else { return false };
        let is_young = now < tracked.first_seen + SIGNAL_GRACE;
        let shared = Arc::clone(&self.shared);
        let told = in_batches(vec![target], move |target| signal(&shared, &target, number)).await.pop();
        let Some(tracked) = self.containers.get_mut(id) else { return false };
        match told {
            Some(Ok(Told::At(at))) => {
                if let Some(holding) = tracked.holdings.get_mut(&binding) {
                    holding.ack = Ack::Done;
                }
                tracked.dirty = true;
                tracked.refused.remove(&binding);
                self.items.push(tracked.item(binding, secret, Fact::Reloaded { version, at }));
            }
            Some(Ok(_)) if is_young => self.wake_by(now + SIGNAL_LOOK),
            Some(Ok(_)) => {
                let reason = format!(
                    "signal_unhandled: its first program does not catch signal {number}; set `reload` to a signal it handles, to `restart`, or leave it out"
                );
                self.refuse(id, binding, secret, version, reason);
                self.wake_by(now + RETRY_AFTER);
            }
            Some(Err(reason)) => {
                tracing::info!({ names::CONTAINER } = id.short(), { names::REASON } = reason, "consumer not signalled");
                self.wake_by(now + RETRY_AFTER);
            }
            None => {}
        }
        false
    }

    /// Writes down what changed, after it was said.
    async fn save_state(&mut self) {
        let mut changed = Vec::new();
        for tracked in self.containers.values_mut() {
            // While something is being attached its job keeps the file.
            if tracked.dirty && tracked.busy != Busy::Attaching && tracked.target.is_some() {
                tracked.dirty = false;
                changed.push(Remembered::of(tracked));
            }
        }
        let folder = self.tools.state.clone();
        let saved = in_batches(changed, move |remembered| save(&folder, &remembered).map_err(|error| chain(&error)));
        for fault in saved.await.into_iter().filter_map(Result::err) {
            tracing::warn!({ names::ERROR } = fault, "state file not written");
        }
    }
}
