//! One container of a service restarts at a time, also over the injector's own end.
//!
//! Invariants: a restart begins only when the disk has whose turn it is; while a turn of an earlier run is not
//! looked at, nobody else of that service restarts; one that is down since counts as failed with what it
//! restarted for, which holds back the others. Restarts under a rollout are the gateway's to count, those that a
//! label alone asks for concern nobody else: neither is noted here.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::id::{BindingId, ContainerId};
use keywheel_daemon::{chain, names};
use keywheel_engine::port::container_host::ContainerRecord;
use keywheel_engine::trace::Context;

use super::Reconciler;
use super::pass::Due;
use crate::model::{Ack, Busy, Service, alone_of};
use crate::turns::{Turn, Turns, save};

/// So long after the first list the engine is asked what became of a turn whose container is not there: the
/// engine may be half way through the restart that the earlier run asked for.
const LOOK_AFTER: Duration = Duration::from_secs(10);

/// Turns of this run and of the one before.
pub(super) struct UnderWay {
    /// Whose turn it is, as the disk is to have it.
    turns: BTreeMap<ContainerId, Turn>,
    /// Those of an earlier run that were not looked at yet.
    left: BTreeMap<ContainerId, Left>,
    /// Restarts that begin once the disk has them.
    ready: Vec<(ContainerId, Option<Context>)>,
    /// What the disk has.
    saved: Turns,
}

/// When the engine is asked about one, and whether it was.
#[derive(Default)]
struct Left {
    ask_at: Option<Duration>,
    is_asked: bool,
}

impl UnderWay {
    /// Goes on where an earlier run left it.
    pub(super) fn of(kept: Turns) -> Self {
        let left = kept.turns.keys().cloned().map(|id| (id, Left::default()));
        Self {
            left: left.collect(),
            turns: kept.turns.clone(),
            ready: Vec::new(),
            saved: kept,
        }
    }

    fn is_left(&self, service: &Service) -> bool {
        let mut turns = self.left.keys().filter_map(|id| self.turns.get(id));
        turns.any(|turn| turn.service == *service)
    }
}

impl Reconciler {
    /// Whether a container of the service is on its way through a restart, also one that was ordered.
    pub(super) fn is_occupied(&mut self, service: &Service) -> bool {
        self.restarts_by_order(service) || self.is_turn_taken(service)
    }

    /// The same, but for those that were ordered.
    pub(super) fn is_turn_taken(&mut self, service: &Service) -> bool {
        if self.under_way.is_left(service) {
            return true;
        }
        let Some(id) = self.slots.get(service) else {
            return false;
        };
        let is_on_its_way = self.is_on_its_way(id);
        if !is_on_its_way {
            self.slots.remove(service);
        }
        is_on_its_way
    }

    fn is_on_its_way(&self, id: &ContainerId) -> bool {
        self.containers.get(id).is_some_and(|tracked| {
            let waits = tracked.holdings.iter().any(|(binding, holding)| {
                let is_unproven = matches!(
                    holding.ack,
                    Ack::AtStart | Ack::Gate { .. } | Ack::Watched { .. }
                );
                is_unproven && !tracked.refused.contains_key(binding)
            });
            let is_between = !tracked.record.running || tracked.creating_until.is_some();
            tracked.busy != Busy::No || is_between || waits
        })
    }

    /// It is this container's turn. Its restart begins in [`Self::begin_ready`].
    pub(super) fn take_turn(&mut self, id: &ContainerId, due: &[Due], slot: Service) {
        if slot != alone_of(id) {
            let mark = |(binding, _, version): &Due| {
                let mark = self.mark_of(id, *binding).unwrap_or(*version);
                (*binding, mark)
            };
            let due: BTreeMap<BindingId, u64> = due.iter().map(mark).collect();
            let turn = Turn {
                service: slot.clone(),
                due: due.into_iter().collect(),
            };
            self.under_way.turns.insert(id.clone(), turn);
        }
        self.slots.insert(slot, id.clone());
        let trace = due.first().and_then(|due| self.shared.trace_of(due.1));
        self.under_way.ready.push((id.clone(), trace));
    }

    /// Begins the restarts that were decided, after the disk has whose turn it is.
    pub(super) async fn begin_ready(&mut self) {
        if self.under_way.ready.is_empty() {
            return;
        }
        let is_noted = self.save_turns().await;
        let now = self.now();
        for (id, trace) in std::mem::take(&mut self.under_way.ready) {
            if is_noted || !self.under_way.turns.contains_key(&id) {
                self.spawn_restart(id, trace);
                continue;
            }
            // Without a note the next run would restart another one meanwhile.
            self.under_way.turns.remove(&id);
            if let Some(tracked) = self.containers.get_mut(&id) {
                tracked.busy = Busy::No;
            }
            self.try_again(&id, now);
        }
    }

    /// Looks at what an earlier run left.
    pub(super) fn settle_turns(&mut self) {
        let left: Vec<ContainerId> = self.under_way.left.keys().cloned().collect();
        for id in left {
            match self.containers.get(&id).map(|tracked| tracked.busy) {
                Some(Busy::No) if !self.remembered.contains_key(&id) => self.go_on(&id),
                Some(_) => {}
                None if self.is_listed => self.ask_about(id),
                None => {}
            }
        }
    }

    /// The container is there: its turn goes on, or is over, as any other's.
    fn go_on(&mut self, id: &ContainerId) {
        self.under_way.left.remove(id);
        if let Some(turn) = self.under_way.turns.get(id) {
            self.slots.insert(turn.service.clone(), id.clone());
        }
    }

    fn ask_about(&mut self, id: ContainerId) {
        let now = self.now();
        let Some(left) = self.under_way.left.get_mut(&id) else {
            return;
        };
        let at = *left.ask_at.get_or_insert(now + LOOK_AFTER);
        if at > now {
            return self.wake_by(at);
        }
        left.ask_at = Some(now + LOOK_AFTER);
        left.is_asked = true;
        self.wake_by(now + LOOK_AFTER);
        self.inspect(id);
    }

    /// What the engine says of a container whose turn it was, or that it is gone.
    pub(super) fn look_at_turn(&mut self, id: &ContainerId, record: Option<&ContainerRecord>) {
        let Some(left) = self.under_way.left.get(id) else {
            return;
        };
        let is_up = record.is_some_and(|record| record.running);
        let is_early = record.is_some() && !left.is_asked;
        if is_up || is_early || self.containers.contains_key(id) {
            return;
        }
        self.under_way.left.remove(id);
        let turn = self.under_way.turns.remove(id);
        // One whose start was refused did not fail with anything; it comes back by itself.
        let is_down = record.is_some_and(|record| record.refused.is_none());
        let Some(turn) = turn.filter(|_| is_down) else {
            return;
        };
        tracing::warn!(
            { names::CONTAINER } = id.short(),
            "container ended after its restart, while no injector ran: the others of its service keep what they have"
        );
        for (binding, version) in turn.due {
            if !self.is_by_label(binding) {
                self.failed.insert((turn.service.clone(), binding), version);
            }
        }
    }

    /// Forgets turns that are over, and failures under bindings that are gone.
    fn drop_over(&mut self) {
        let turns = self.under_way.turns.keys();
        let is_over =
            |id: &&ContainerId| !self.under_way.left.contains_key(*id) && !self.is_on_its_way(id);
        let over: Vec<ContainerId> = turns.filter(is_over).cloned().collect();
        for id in over {
            self.under_way.turns.remove(&id);
        }
        if let Some(plan) = self.shared.plan() {
            self.failed.retain(|(_, binding), _| {
                let mut planned = plan.bindings.iter();
                planned.any(|planned| planned.binding == *binding)
            });
        }
    }

    /// Writes down whose turn it is and what failed, when that changed; `false` when the disk has it not.
    pub(super) async fn save_turns(&mut self) -> bool {
        self.drop_over();
        let saved = &self.under_way.saved;
        if saved.turns == self.under_way.turns && saved.failed == self.failed {
            return true;
        }
        let kept = Turns {
            turns: self.under_way.turns.clone(),
            failed: self.failed.clone(),
        };
        let (folder, written) = (self.tools.state.clone(), kept.clone());
        let result = tokio::task::spawn_blocking(move || save(&folder, &written)).await;
        let fault = match result {
            Ok(Ok(())) => {
                self.under_way.saved = kept;
                return true;
            }
            Ok(Err(error)) => chain(&error),
            Err(error) => chain(&error),
        };
        tracing::warn!({ names::ERROR } = fault, "restarts under way not written");
        false
    }
}
