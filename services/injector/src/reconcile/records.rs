//! Folding what the engine says into the model.
//!
//! Invariants: an answer older than what is known changes nothing, also when that is that it is gone; a
//! container that is being created or restarted by us does not count as gone; a container that is gone
//! is reported once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::OnRevoke;
use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::report::Fact;
use keywheel_daemon::{chain, names};
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::ContainerRecord;

use super::on_revoke::still_owing;
use super::rollout::is_unproven;
use super::{RELIST_AFTER, Reconciler};
use crate::attach::adopt;
use crate::model::{Ack, Busy, Place, Refused, Tracked};
use crate::service::Event;
use crate::state::Remembered;

/// Why a container that we restarted failed.
const ENDED: &str = "it ended before it counted as running well; look at its log";

impl Reconciler {
    pub(super) fn take_list(
        &mut self,
        begun: Duration,
        result: Result<Vec<ContainerRecord>, PortError>,
    ) {
        let records = match result {
            Ok(records) => records,
            Err(error) => {
                self.listing = None;
                tracing::warn!({ names::ERROR } = chain(&error), "containers not listed");
                self.is_listed = false;
                self.relist_at = Some(self.now() + RELIST_AFTER);
                self.drop_ended();
                return;
            }
        };
        let listed: std::collections::BTreeSet<ContainerId> = records
            .iter()
            .map(|record| record.facts.id.clone())
            .collect();
        for record in records {
            self.apply(begun, record);
        }
        self.listing = None;
        // What was vouched for after the list was asked for is newer than the list.
        let is_gone = |id: &ContainerId, tracked: &Tracked| {
            !listed.contains(id)
                && tracked.seen <= begun
                && tracked.creating_until.is_none()
                && tracked.busy != Busy::Restarting
        };
        let gone: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(id, tracked)| is_gone(id, tracked))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.forget(&id, false);
        }
        let absent: Vec<ContainerId> = self
            .remembered
            .keys()
            .filter(|id| !self.containers.contains_key(id))
            .cloned()
            .collect();
        for id in absent {
            if let Some(remembered) = self.remembered.remove(&id) {
                self.items.extend(remembered.vanished());
                self.go_down(&id, remembered.ticks, remembered.owing());
            }
        }
        self.is_listed = true;
        self.drop_ended();
        self.look_for_hidden();
    }

    /// Tries again to reach file systems that containers hide.
    fn look_for_hidden(&mut self) {
        for (id, remembered) in self.hidden.clone() {
            let tracked = self.containers.get_mut(&id);
            if let Some(tracked) = tracked.filter(|tracked| tracked.busy == Busy::No) {
                tracked.busy = Busy::Attaching;
                let pid = tracked.record.pid;
                self.begin_adopt(id, pid, remembered);
            }
        }
    }

    /// A container ended: an older answer that it runs brings it back no more.
    fn note_end(&mut self, id: &ContainerId) {
        self.ended.insert(id.clone(), self.now());
        self.drop_ended();
    }

    /// What no answer that is under way can be older than is not needed any more.
    fn drop_ended(&mut self) {
        let asked = self.inspecting.values().map(|(begun, _)| *begun);
        match asked.chain(self.listing).min() {
            Some(oldest) => self.ended.retain(|_, at| *at >= oldest),
            None => self.ended.clear(),
        }
    }

    pub(super) fn take_inspected(
        &mut self,
        id: &ContainerId,
        result: Result<Option<ContainerRecord>, PortError>,
    ) {
        let (begun, again) = self.inspecting.remove(id).unwrap_or_default();
        match result {
            Ok(Some(record)) => {
                // Something happened since the question; the next one tells of it.
                if !again {
                    self.look_at_ordered(id, Some(&record));
                    self.look_at_refused(id, Some(&record));
                    self.look_at_turn(id, Some(&record));
                }
                self.apply(begun, record);
            }
            Ok(None) => {
                self.look_at_ordered(id, None);
                self.look_at_refused(id, None);
                self.look_at_turn(id, None);
                self.forget(id, true);
                self.forget_fallen(id);
                self.items
                    .extend(self.graveyard.remove(id).unwrap_or_default());
            }
            Err(error) => {
                tracing::warn!(
                    { names::CONTAINER } = id.short(),
                    { names::ERROR } = chain(&error),
                    "container not inspected"
                );
                self.look_at_refused_later(id);
            }
        }
        if again {
            self.inspect(id.clone());
        }
        self.drop_ended();
    }

    /// Brings one container up to date, by an answer to a question of that time.
    pub(super) fn apply(&mut self, begun: Duration, record: ContainerRecord) {
        let now = self.now();
        let id = record.facts.id.clone();
        let Some(tracked) = self.containers.get_mut(&id) else {
            if !record.running {
                return self.note_end(&id);
            }
            match self.ended.get(&id) {
                // Whether it was started since, only a new question tells.
                Some(ended) if *ended >= begun => self.inspect(id),
                _ => self.insert(record),
            }
            return;
        };
        if record.pid != tracked.record.pid && tracked.seen > begun {
            // Which of the two incarnations is the later one, only a new question tells.
            return self.inspect(id);
        }
        // Between create and start the engine says that it does not run; its process says whether it ended.
        let is_young = tracked.creating_until.is_some_and(|until| now < until)
            && tracked
                .target
                .as_ref()
                .is_none_or(|target| target.is_alive());
        if record.running && record.pid == tracked.record.pid {
            let before = tracked.record.health;
            tracked.creating_until = None;
            tracked.record = record;
            tracked.seen = now;
            self.judge_ahead(&id, before);
        } else if is_young || tracked.busy == Busy::Restarting {
            // An answer about the incarnation before.
        } else if record.running {
            // Started anew without the wrapper: its file systems went with the old process.
            let owed = self.owed_anew(&id);
            let refused = self.part_before(&id);
            self.containers.remove(&id);
            self.insert(record);
            if let Some(tracked) = self.containers.get_mut(&id) {
                tracked.refused = refused;
                tracked.owed = owed;
                tracked.dirty = owed != OnRevoke::Remove;
            }
        } else {
            self.forget(&id, false);
        }
    }

    fn insert(&mut self, record: ContainerRecord) {
        let id = record.facts.id.clone();
        let mut tracked = Tracked::new(record, self.now());
        self.graveyard.remove(&id);
        self.forget_fallen(&id);
        self.forget_place(&id);
        if let Some(remembered) = self.remembered.get(&id).cloned() {
            tracked.busy = Busy::Attaching;
            self.begin_adopt(id.clone(), tracked.record.pid, remembered);
        }
        self.take_owing(&id, &mut tracked);
        self.containers.insert(id, tracked);
    }

    /// Looks for the file systems of a container that is marked busy; the answer is an event.
    fn begin_adopt(&self, wanted: ContainerId, pid: i32, remembered: Remembered) {
        let (tools, events) = (self.tools.clone(), self.events.clone());
        let pool = Arc::clone(&self.attach_pool);
        self.tasks.spawn(async move {
            let _permit = pool.acquire().await;
            let work = move || (adopt(&tools, &wanted, pid, Some(&remembered)), wanted);
            if let Ok((result, id)) = tokio::task::spawn_blocking(work).await {
                let _ = events
                    .send(Event::Adopted {
                        id,
                        pid,
                        result: result.map(Box::new),
                    })
                    .await;
            }
        });
    }

    /// A container begins anew. The engine's word that it ended may come only after that, or be an answer that
    /// tells of the new program alone: so what it had is told as gone first, or what it has now would count as
    /// told. Gives what stays said of it: why it does not have what it did not have before.
    pub(super) fn part_before(&mut self, id: &ContainerId) -> BTreeMap<BindingId, Refused> {
        if let Some(remembered) = self.remembered.remove(id) {
            self.items.extend(remembered.vanished());
            self.forget_file(id, remembered.ticks);
        }
        let goes_on = self.goes_on(id);
        let mut stays = BTreeMap::new();
        if let Some(tracked) = self.containers.get_mut(id) {
            let held = &tracked.holdings;
            let is_kept =
                |binding: &BindingId, _: &mut Refused| goes_on || !held.contains_key(binding);
            stays = tracked.refused.extract_if(.., is_kept).collect();
        }
        if goes_on {
            self.hidden.remove(id);
        } else {
            self.forget(id, false);
        }
        stays
    }

    /// Whether a container that begins anew bids no farewell: our restart of it is under way, or is judged yet
    /// and has its slot, in which the new program is judged, or a rollout would go on without it.
    fn goes_on(&self, id: &ContainerId) -> bool {
        let Some(tracked) = self.containers.get(id) else {
            return false;
        };
        let is_under_way = tracked.busy == Busy::Restarting || !tracked.record.running;
        let has_slot = self.slots.contains_key(&tracked.alone())
            || self.slots.get(&tracked.service()) == Some(id);
        let mut held = tracked.holdings.iter();
        let is_judged = tracked.holdings.is_empty()
            || held.any(|(binding, holding)| {
                is_unproven(holding) || tracked.refused.contains_key(binding)
            });
        is_under_way || (has_slot && is_judged && tracked.busy != Busy::Stopping)
    }

    /// A container ended; `removed` when it is gone for good.
    pub(super) fn forget(&mut self, id: &ContainerId, removed: bool) {
        self.note_end(id);
        self.forget_owing(id, removed);
        if let Some(hidden) = self.hidden.remove(id) {
            self.items.extend(hidden.vanished());
            self.forget_file(id, hidden.ticks);
        }
        let Some(tracked) = self.containers.remove(id) else {
            return;
        };
        let (service, at) = (tracked.service(), self.shared.clock.now());
        let was_alone = self.slots.remove(&tracked.alone()).is_some();
        let is_rollout = !removed && (was_alone || self.slots.get(&service) == Some(id));
        let mut owed = Vec::new();
        for (binding, holding) in tracked.holdings.iter() {
            // Stopped by us because it held what may not be used any more.
            let is_withdrawn =
                tracked.busy == Busy::Stopping && matches!(holding.place, Place::Env { .. });
            let farewell = if is_withdrawn {
                Fact::Withdrawn
            } else {
                Fact::Vanished
            };
            let vanished = tracked.farewells(*binding, &farewell);
            let is_untold = holding.ack == Ack::AtStart && holding.remembered.is_none();
            let is_unproven = matches!(
                holding.ack,
                Ack::Gate { .. } | Ack::Watched { .. } | Ack::AtStart
            );
            if !is_rollout || !(is_unproven || tracked.refused.contains_key(binding)) {
                if is_untold {
                    // It ended before the engine said that it ran; it had the value all the same.
                    let swapped = tracked.facts(*binding, |version| Fact::Swapped { version, at });
                    self.items.extend(swapped);
                }
                self.items.extend(vanished);
                continue;
            }
            // Restarted by us and down since: a failure, not a farewell.
            owed.extend(vanished);
            if is_unproven {
                let reason = ENDED.to_owned();
                if !self.is_by_label(*binding) {
                    self.failed
                        .insert((service.clone(), *binding), holding.mark());
                }
                let refused = |version| Fact::Refused {
                    version,
                    reason: reason.clone(),
                };
                self.items.extend(tracked.facts(*binding, refused));
            }
        }
        for (binding, refused) in &tracked.refused {
            if tracked.holdings.contains_key(binding) {
                continue;
            }
            let secrets = refused.versions.iter().map(|(secret, _)| *secret);
            let vanished = secrets.map(|secret| tracked.item(*binding, secret, Fact::Vanished));
            self.items.extend(vanished);
        }
        if !owed.is_empty() {
            let said = tracked.refused.values().next();
            let reason = said.map_or(ENDED, |said| said.reason.as_str());
            self.note_fallen(id, &tracked, reason);
            self.graveyard.insert(id.clone(), owed);
        }
        self.go_down(id, tracked.ticks, still_owing(&tracked, removed));
    }

    /// Its state file goes once the disk has what was said of it.
    pub(super) fn forget_file(&mut self, id: &ContainerId, ticks: u64) {
        // That file may have been written over what stays of a container that is down.
        if self.owing.contains_key(id) {
            self.owing_unsaved.insert(id.clone());
        }
        self.forgotten.push((id.clone(), ticks));
    }
}
