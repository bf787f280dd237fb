//! The reconciler: what is, the events that change it, and the report of it.
//!
//! Invariants: one task owns all of it; nothing slow (engine, store-sync, restarts, attaching) runs
//! in that task, it comes back as an event; a pass works from the model alone and asks the engine
//! nothing. `pass` does what is to be done now, `begin` what takes long, `content` tells what is new in a file,
//! `values` asks for values, `progress` sees to consumers, `rollout` to leave for restarts, `orders` to what playbooks order about containers, `turn` to one restart of a service at a time, `records` and `start` fold what comes back, `wants` asks for leases, `ahead` sees to canaries, `again` says when what failed is tried again, `comeback` starts what was
//! refused.

mod again;
mod ahead;
mod begin;
mod beside;
mod comeback;
mod command;
mod content;
mod exec;
mod on_revoke;
mod orders;
mod pass;
mod progress;
mod records;
mod rollout;
mod start;
mod turn;
mod values;
mod wants;

pub(crate) use command::Command;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::Reload;
use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::plan::HostPlan;
use keywheel_core::report::{
    DeniedStart, HostReport, Item, MAX_REPORT_ITEMS, OrderTold, RestartWish, UsageNote,
};
use keywheel_daemon::{chain, names};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{Source, Topic};
use keywheel_engine::port::container_host::EngineEvent;
use keywheel_sys::first_use::Seen;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use self::exec::Asked;
use crate::attach::Tools;
use crate::executed::Execs;
use crate::granted::{further_of, seen_by, staged_of};
use crate::model::{Containers, Holding, Refused, Service, Tracked};
use crate::refused::{RefusedStarts, Saved};
use crate::report::{Kept, Outbox, bound_denied, bound_notes};
use crate::service::{Event, Status};
use crate::shared::{Shared, VersionKey};
use crate::state::Remembered;
use crate::turns::{Failures, Turns};
use crate::uses::Uses;

/// Containers being attached at the same time.
const PARALLEL_ATTACHES: usize = 4;
/// Containers whose start was refused being started at the same time.
const PARALLEL_STARTS: usize = 4;
/// Execs being asked about at the same time.
const PARALLEL_LOOKS: usize = 4;
/// After this time a failed attempt is repeated; at a container a little later, by its id (`again`).
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// After this time a value that could not be had is asked for again.
const FETCH_AGAIN: Duration = Duration::from_secs(1);
/// After this time an engine that did not answer is asked again.
const RELIST_AFTER: Duration = Duration::from_secs(1);
/// Longest sleep of the loop; the tick comes before.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// What the last report said of the host as a whole.
#[derive(PartialEq, Eq)]
struct Told {
    generation: u64,
    holds: BTreeSet<VersionKey>,
    complete: bool,
    restarts: Vec<RestartWish>,
    staged: BTreeSet<VersionKey>,
    orders: Vec<OrderTold>,
}

/// See the file.
pub(crate) struct Reconciler {
    shared: Arc<Shared>,
    tools: Tools,
    events: mpsc::Sender<Event>,
    tasks: TaskTracker,
    outbox: Arc<Outbox>,
    containers: Containers,
    /// Of an earlier run, and not looked at yet.
    remembered: BTreeMap<ContainerId, Remembered>,
    /// Of an earlier run, with file systems that they hide from us. What they hold is said; they hold up
    /// nobody else.
    hidden: BTreeMap<ContainerId, Remembered>,
    /// Stopped after a failure: what to say when they are removed.
    graveyard: BTreeMap<ContainerId, Vec<Item>>,
    /// When a value that could not be had is asked for again; `None` while it is asked for.
    fetching: BTreeMap<VersionKey, Option<Duration>>,
    /// Containers being inspected; `true` when something happened meanwhile.
    inspecting: BTreeMap<ContainerId, (Duration, bool)>,
    /// Which container of a service restarts.
    slots: BTreeMap<Service, ContainerId>,
    /// Versions that a container of the service did not get healthy with.
    failed: Failures,
    /// Restarts of services, as the disk has them.
    under_way: turn::UnderWay,
    /// Restarts that take the gateway's leave.
    rolling: rollout::Rolling,
    /// What playbooks order about containers.
    orders: orders::Orders,
    /// Contents that were set so far, the number of the last.
    contents: u64,
    attach_pool: Arc<Semaphore>,
    items: Vec<Item>,
    denied: Vec<DeniedStart>,
    /// What people ran in consumers.
    execs: Execs,
    /// What a container had of a secret beside what is in its items.
    notes: Vec<UsageNote>,
    /// Watches over files, where first uses are to be noted.
    uses: Option<Uses>,
    look_pool: Arc<Semaphore>,
    /// The same, of containers that are not known yet.
    unsure: Vec<(ContainerId, exec::Came)>,
    /// Execs that wait for their variables until their containers are known.
    asked: Vec<Asked>,
    /// Starts that were refused and come back.
    refused: RefusedStarts,
    /// When the engine is asked again whether it wrote a refusal down.
    unsettled: BTreeMap<ContainerId, Duration>,
    start_pool: Arc<Semaphore>,
    /// The looking for them in the engine.
    scan: comeback::Scan,
    /// Who waits until the disk has the refused starts.
    kept: Kept,
    /// State files to go, with the start of the incarnation they are of.
    forgotten: Vec<(ContainerId, u64)>,
    /// Containers that are down, and to which something is owed whenever they begin anew.
    owing: BTreeMap<ContainerId, Remembered>,
    /// Those of them that the disk does not have so yet.
    owing_unsaved: BTreeSet<ContainerId>,
    is_listed: bool,
    /// When the list under way was asked for.
    listing: Option<Duration>,
    /// Containers that ended while an older answer may still be on its way, and when.
    ended: BTreeMap<ContainerId, Duration>,
    relist_at: Option<Duration>,
    told: Option<Told>,
    /// A report without facts, while it waits for values.
    unsaid: values::Unsaid,
    /// Wants of leases that were told, and when.
    wanted: BTreeMap<(ContainerId, BindingId), wants::Want>,
    wake_at: Option<Duration>,
}

impl Reconciler {
    pub(crate) fn new(
        shared: Arc<Shared>,
        tools: Tools,
        events: mpsc::Sender<Event>,
        tasks: TaskTracker,
        outbox: Arc<Outbox>,
        (remembered, refused, turns): (BTreeMap<ContainerId, Remembered>, Vec<Saved>, Turns),
    ) -> Self {
        let refused = RefusedStarts::of(refused, shared.clock.monotonic());
        let orders = orders::Orders::of(&tools.state);
        let is_noted = shared.options.first_use;
        let uses = is_noted.then(|| Uses::begin(events.clone())).flatten();
        Self {
            shared,
            tools,
            events,
            tasks,
            outbox,
            containers: Containers::new(),
            remembered,
            hidden: BTreeMap::new(),
            graveyard: BTreeMap::new(),
            fetching: BTreeMap::new(),
            inspecting: BTreeMap::new(),
            slots: BTreeMap::new(),
            failed: turns.failed.clone(),
            under_way: turn::UnderWay::of(turns),
            rolling: rollout::Rolling::default(),
            orders,
            contents: 0,
            attach_pool: Arc::new(Semaphore::new(PARALLEL_ATTACHES)),
            items: Vec::new(),
            denied: Vec::new(),
            execs: Execs::default(),
            notes: Vec::new(),
            uses,
            look_pool: Arc::new(Semaphore::new(PARALLEL_LOOKS)),
            unsure: Vec::new(),
            asked: Vec::new(),
            refused,
            unsettled: BTreeMap::new(),
            start_pool: Arc::new(Semaphore::new(PARALLEL_STARTS)),
            scan: comeback::Scan::default(),
            kept: Kept::new(),
            forgotten: Vec::new(),
            owing: BTreeMap::new(),
            owing_unsaved: BTreeSet::new(),
            is_listed: false,
            listing: None,
            ended: BTreeMap::new(),
            relist_at: None,
            told: None,
            unsaid: values::Unsaid::default(),
            wanted: BTreeMap::new(),
            wake_at: None,
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// How long nothing is due.
    pub(crate) fn sleep_for(&self) -> Duration {
        self.wake_at
            .map_or(LONGEST_SLEEP, |at| at.saturating_sub(self.now()))
    }

    fn wake_by(&mut self, at: Duration) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// The last words before the end.
    pub(crate) async fn leave(&mut self) {
        self.decide_execs();
        self.execs.flush();
        self.report();
        self.save_refused().await;
    }

    /// Takes one event; `true` when a pass is to come after. Execs, as often as they are, need none
    /// but for a note that is due.
    pub(crate) fn take(&mut self, event: Event) -> bool {
        let is_exec = matches!(
            event,
            Event::Exec { .. }
                | Event::ExecLooked { .. }
                | Event::Engine(EngineEvent::Executed { .. })
        );
        self.apply_event(event);
        !is_exec || self.is_exec_due()
    }

    fn apply_event(&mut self, event: Event) {
        match event {
            Event::Plan(plan) => {
                let generation = plan.generation;
                let from = Source::Topic(Topic::Plan(plan.host));
                if self.shared.receive_plan(*plan, from) {
                    tracing::debug!({ names::GENERATION } = generation, "plan taken");
                }
            }
            Event::Engine(hint) => self.take_hint(hint),
            Event::Listed { begun, result } => self.take_list(begun, result),
            Event::Inspected { id, result } => self.take_inspected(&id, result),
            Event::Fetched { key, result } => self.take_fetched(key, result),
            Event::Attached {
                id,
                pid,
                result,
                intent,
            } => {
                self.take_attached(&id, pid, result);
                drop(intent);
            }
            Event::Adopted { id, pid, result } => self.take_adopted(&id, pid, result),
            Event::Placed {
                id,
                pid,
                pending,
                attached,
                intent,
            } => {
                self.take_placed(&id, pid, &pending, *attached);
                drop(intent);
            }
            Event::RefusedStart { denied, kept } => {
                self.note_refused(&denied.container);
                self.denied.push(*denied);
                self.kept.push(kept);
                bound_denied(&mut self.denied);
            }
            Event::Exec { id, args, held } => self.answer_exec(Asked { id, args, held }),
            Event::ExecLooked {
                facts,
                exec,
                at,
                is_check,
            } => {
                if !is_check {
                    self.execs.came(&facts, exec, at);
                }
            }
            Event::Refused { result } => self.take_refused(result),
            Event::Started { id, result } => self.take_started(&id, result),
            // The pass that follows saves what waited for it.
            Event::Written => {}
            Event::Used(seen) => self.take_used(&seen),
            Event::Restarted { id, result } => self.take_restarted(&id, result),
            Event::Stopped { id, result } => self.take_stopped(&id, result),
            Event::CutOff { id, result } => self.take_cut_off(&id, result),
            Event::Commanded {
                id,
                pid,
                command,
                result,
            } => self.take_commanded(&id, pid, &command, result),
        }
    }

    fn take_used(&mut self, seen: &[Seen]) {
        let at = self.shared.clock.now();
        let notes = self.uses.as_mut().map(|uses| uses.take(seen, at));
        self.notes.extend(notes.unwrap_or_default());
        bound_notes(&mut self.notes);
    }

    /// Files that came since the last time are watched, where first uses are to be noted.
    fn watch_uses(&mut self) {
        if let Some(uses) = &mut self.uses {
            uses.watch(&self.containers);
        }
    }

    fn take_hint(&mut self, hint: EngineEvent) {
        match hint {
            EngineEvent::Resync => {
                self.is_listed = false;
                self.look_again();
                self.look_for_refused();
            }
            EngineEvent::Removed(id) => {
                self.look_at_refused(&id, None);
                self.look_at_ordered(&id, None);
                self.forget(&id, true);
                self.forget_fallen(&id);
                self.note_removed(&id);
                self.items
                    .extend(self.graveyard.remove(&id).unwrap_or_default());
            }
            EngineEvent::Started(id)
            | EngineEvent::Stopped(id)
            | EngineEvent::HealthChanged(id) => self.inspect(id),
            EngineEvent::Executed { id, exec, command } => self.note_exec(id, exec, command),
            EngineEvent::Away(_) => {}
        }
    }

    /// Asks for the plan. The answer is also the sign that the gateway is there.
    pub(crate) fn ask_gateway(&self) {
        if self.shared.is_barred() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            if let Err(error) = shared.reach().await {
                tracing::warn!({ names::ERROR } = chain(&error), "plan not read");
            }
        });
    }

    /// Looks at everything again: the engine's list and the gateway's plan.
    pub(crate) fn look_again(&mut self) {
        self.ask_gateway();
        if self.listing.is_some() {
            return;
        }
        let (shared, events, begun) = (Arc::clone(&self.shared), self.events.clone(), self.now());
        self.listing = Some(begun);
        self.tasks.spawn(async move {
            let result = shared.containers.list().await;
            let _ = events.send(Event::Listed { begun, result }).await;
        });
        let down = self.graveyard.keys().chain(self.owing.keys());
        for id in down.cloned().collect::<Vec<_>>() {
            self.inspect(id);
        }
    }

    /// Asks the engine about one container; what happens meanwhile asks again.
    fn inspect(&mut self, id: ContainerId) {
        if let Some((_, again)) = self.inspecting.get_mut(&id) {
            *again = true;
            return;
        }
        self.inspecting.insert(id.clone(), (self.now(), false));
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.tasks.spawn(async move {
            let result = shared.containers.inspect(&id).await;
            let _ = events.send(Event::Inspected { id, result }).await;
        });
    }

    fn take_fetched(
        &mut self,
        key: VersionKey,
        result: Result<(), keywheel_engine::port::PortError>,
    ) {
        match result {
            Ok(()) => {
                self.fetching.remove(&key);
            }
            Err(error) => {
                tracing::warn!({ names::SECRET } = %key.0, { names::VERSION } = key.1, { names::ERROR } = chain(&error), "value not had from store-sync");
                let at = self.now() + FETCH_AGAIN;
                self.fetching.insert(key, Some(at));
                if error.kind == ErrorKind::Denied && !self.shared.is_barred() {
                    // The plan that granted it is behind.
                    self.look_again();
                }
            }
        }
    }

    /// Says once why something is not served; of a file of several secrets under each that it lacks.
    fn refuse(
        &mut self,
        id: &ContainerId,
        binding: BindingId,
        secret: SecretId,
        version: u64,
        reason: String,
    ) {
        let mut versions = vec![(secret, version)];
        versions.extend(self.further_in(id, binding, secret));
        let Some(tracked) = self.containers.get_mut(id) else {
            return;
        };
        let refused = Refused {
            versions,
            reason: reason.clone(),
        };
        let Some(items) = tracked.refuse(binding, refused) else {
            return;
        };
        tracing::warn!({ names::CONTAINER } = id.short(), { names::BINDING } = %binding, { names::REASON } = reason, "not served");
        self.items.extend(items);
    }

    /// The further versions of a binding that what is refused of its own secret would bring.
    fn further_in(
        &self,
        id: &ContainerId,
        binding: BindingId,
        secret: SecretId,
    ) -> Vec<VersionKey> {
        let plan = self.shared.plan();
        let seen = plan.as_deref().map(|plan| seen_by(plan, id));
        let mut planned = seen.iter().flat_map(|plan| &plan.bindings);
        let planned = planned.find(|one| one.binding == binding && one.secret == secret);
        let further = planned.into_iter().flat_map(further_of);
        let further = further.map(|(one, grant)| (one.secret, grant.version));
        further.collect()
    }

    /// Reports what changed, and the host as a whole when that changed.
    pub(crate) fn report(&mut self) {
        let Some(plan) = self.shared.plan() else {
            return;
        };
        let mut holds = self.shared.holds();
        for tracked in self.containers.values() {
            holds.extend(held_by(tracked));
        }
        let held = |remembered: &Remembered| {
            let holdings = remembered.holdings();
            let held = holdings.values().flat_map(Holding::parts);
            held.collect::<Vec<_>>()
        };
        let unreached = self.remembered.values().chain(self.hidden.values());
        holds.extend(unreached.flat_map(held));
        let containers = self.present();
        let told = Told {
            generation: plan.generation,
            holds,
            // A list that is cut off would make ghosts of what lives.
            complete: self.is_complete() && containers.len() <= MAX_REPORT_ITEMS,
            restarts: self.restart_wishes(&plan),
            staged: self.staged(&plan),
            orders: self.orders_told(&plan),
        };
        let stale = Vec::from_iter(self.shared.stale_plans());
        self.decide_execs();
        let executed = self.execs.notes(self.now());
        let has_notes = !(stale.is_empty() && executed.is_empty() && self.notes.is_empty());
        let has_facts = has_notes || !(self.items.is_empty() && self.denied.is_empty());
        if !has_facts && (self.told.as_ref() == Some(&told) || self.waits_for_values()) {
            return;
        }
        let report = HostReport {
            host: self.shared.options.host,
            generation: told.generation,
            items: std::mem::take(&mut self.items),
            holds: told.holds.iter().copied().collect(),
            complete: told.complete,
            containers: if told.complete {
                containers
            } else {
                Vec::new()
            },
            denied: std::mem::take(&mut self.denied),
            stale,
            executed,
            notes: std::mem::take(&mut self.notes),
            restarts: told.restarts.clone(),
            staged: told.staged.iter().copied().collect(),
            knows_staged: true,
            orders: Some(told.orders.clone()),
        };
        self.told = Some(told);
        self.unsaid.said(has_facts);
        self.outbox.push(report, std::mem::take(&mut self.kept));
    }

    /// Of what the plan names as staged, what is at hand; at most what one report may say.
    fn staged(&self, plan: &HostPlan) -> BTreeSet<VersionKey> {
        let staged = staged_of(plan).map(|(key, _)| key);
        let had = staged.filter(|key| self.shared.has_value(*key));
        had.take(MAX_REPORT_ITEMS).collect()
    }

    /// Containers that exist as consumers, also those that are down after a failed restart.
    fn present(&self) -> Vec<ContainerId> {
        let known = self.containers.keys().chain(self.graveyard.keys());
        let all: BTreeSet<&ContainerId> = known.chain(self.remembered.keys()).collect();
        all.into_iter().cloned().collect()
    }

    fn is_complete(&self) -> bool {
        self.is_listed
            && self.remembered.is_empty()
            && !self.containers.values().any(Tracked::is_unclear)
    }

    /// Brings a status up to date; `true` when it changed.
    pub(crate) fn describe(&self, status: &mut Status) -> bool {
        let now = Status {
            generation: self.shared.plan().map(|plan| plan.generation),
            containers: self
                .containers
                .values()
                .filter(|tracked| tracked.is_running())
                .count(),
            consumers: self
                .containers
                .values()
                .filter(|tracked| !tracked.holdings.is_empty())
                .count(),
            is_complete: self.is_complete(),
            engine_fault: status.engine_fault.clone(),
            gateway_fault: self.shared.gateway_fault(),
            is_cached: self.shared.cache.get().is_some(),
            is_lease_over: self.shared.plan().is_some() && self.shared.is_lease_over(),
        };
        let changed = *status != now;
        *status = now;
        changed
    }

    /// Whether what happens on change is chosen by labels: then it is no matter of a whole service.
    fn is_by_label(&self, binding: BindingId) -> bool {
        let plan = self.shared.plan();
        let mut planned = plan.iter().flat_map(|plan| &plan.bindings);
        planned.any(|planned| planned.binding == binding && planned.reload == Reload::Label)
    }
}

fn held_by(tracked: &Tracked) -> impl Iterator<Item = VersionKey> {
    tracked.holdings.values().flat_map(Holding::parts)
}
