//! How consumers come to use what they hold: started, signalled, healthy. What a command in a container
//! does for that is `command`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::Reload;
use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::plan::HostPlan;
use keywheel_core::report::Fact;
use keywheel_daemon::names;

use super::pass::Due;
use super::{RETRY_AFTER, Reconciler};
use crate::gate::{Gate, judge, monitor_of, watch};
use crate::model::{Ack, Busy, Holding, Place};
use crate::reload::reload_in;
use crate::swap::{Told, in_batches, signal};

/// A container's program may take so long to install its signal handler.
const SIGNAL_GRACE: Duration = Duration::from_secs(5);
/// How often it is looked for meanwhile.
const SIGNAL_LOOK: Duration = Duration::from_millis(100);

impl Reconciler {
    /// Moves consumers on: started, healthy, told. `true` when a slot may have become free.
    pub(super) async fn progress(&mut self, plan: &HostPlan) -> bool {
        let planned: BTreeMap<BindingId, &Reload> = plan
            .bindings
            .iter()
            .map(|planned| (planned.binding, &planned.reload))
            .collect();
        let mut changed = false;
        let ids: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|(_, tracked)| tracked.is_running() && tracked.busy == Busy::No)
            .filter(|(_, tracked)| {
                tracked
                    .holdings
                    .values()
                    .any(|holding| holding.ack != Ack::Done)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            let Some(tracked) = self.containers.get(&id) else {
                continue;
            };
            let reload = |binding: &BindingId| {
                let reload = reload_in(planned.get(binding)?, &tracked.label);
                Some((*binding, reload))
            };
            let reloads: Vec<(BindingId, Reload)> =
                tracked.holdings.keys().filter_map(reload).collect();
            for (binding, reload) in &reloads {
                changed |= self.progress_one(&id, *binding, reload).await;
            }
            self.begin_command(&id, &reloads);
        }
        changed
    }

    async fn progress_one(
        &mut self,
        id: &ContainerId,
        binding: BindingId,
        reload: &Reload,
    ) -> bool {
        let (now, at) = (self.now(), self.shared.clock.now());
        let Some(tracked) = self.containers.get_mut(id) else {
            return false;
        };
        let Some(holding) = tracked.holdings.get_mut(&binding) else {
            return false;
        };
        let (Some(version), secret, ack) = (holding.version, holding.secret, holding.ack) else {
            return false;
        };
        match ack {
            Ack::Done => false,
            Ack::AtStart => {
                let is_env = matches!(holding.place, Place::Env { .. });
                let is_gated = is_env || matches!(reload, Reload::Restart { .. });
                holding.ack = if is_gated {
                    Ack::Gate { since: now }
                } else {
                    Ack::Done
                };
                tracked.dirty = true;
                tracked.refused.remove(&binding);
                let swapped = tracked.facts(binding, |version| Fact::Swapped { version, at });
                self.items.extend(swapped);
                // It began with the version, so there is nothing to tell it.
                if !matches!(reload, Reload::None | Reload::Restart { .. }) {
                    let told = tracked.facts(binding, |version| Fact::Reloaded { version, at });
                    self.items.extend(told);
                }
                true
            }
            Ack::Gate { since } => {
                let mut gate = judge(reload, tracked.record.health, since, now);
                let monitor = monitor_of(reload);
                if gate == Gate::Passed && monitor > Duration::ZERO {
                    holding.ack = Ack::Watched { since: now };
                    gate = Gate::Wait(now.saturating_add(monitor));
                }
                self.pass_gate(id, (binding, secret, version), gate)
            }
            Ack::Watched { since } => {
                let gate = watch(reload, tracked.record.health, since, now);
                self.pass_gate(id, (binding, secret, version), gate)
            }
            Ack::Due => match reload {
                Reload::Signal(number) => self.tell(id, (binding, secret, version), *number).await,
                // A pass begins the one, the end of this container's turn the other.
                Reload::Restart { .. } | Reload::Command { .. } => false,
                Reload::None => {
                    holding.ack = Ack::Done;
                    false
                }
                Reload::Label => self.ask_label(id, (binding, secret, version)),
            },
        }
    }

    /// A label that says `none` is an answer; one that cannot be followed is told.
    fn ask_label(&mut self, id: &ContainerId, (binding, secret, version): Due) -> bool {
        let at = self.shared.clock.now();
        let Some(tracked) = self.containers.get_mut(id) else {
            return false;
        };
        let label = tracked.label.as_ref().map(|_| ());
        match label.map_err(Clone::clone) {
            Ok(()) => {
                if let Some(holding) = tracked.holdings.get_mut(&binding) {
                    holding.ack = Ack::Done;
                }
                tracked.dirty = true;
                tracked.refused.remove(&binding);
                let told = tracked.facts(binding, |version| Fact::Reloaded { version, at });
                self.items.extend(told);
                true
            }
            Err(reason) => {
                self.refuse(id, binding, secret, version, reason);
                false
            }
        }
    }

    fn pass_gate(&mut self, id: &ContainerId, (binding, secret, version): Due, gate: Gate) -> bool {
        let at = self.shared.clock.now();
        let Some(tracked) = self.containers.get_mut(id) else {
            return false;
        };
        let service = tracked.service();
        match gate {
            Gate::Passed
                if tracked
                    .target
                    .as_ref()
                    .is_none_or(|target| target.is_alive()) =>
            {
                if let Some(holding) = tracked.holdings.get_mut(&binding) {
                    holding.ack = Ack::Done;
                }
                tracked.dirty = true;
                tracked.refused.remove(&binding);
                if tracked.holdings.values().all(|held| held.ack == Ack::Done) {
                    self.slots.remove(&tracked.alone());
                }
                let told = tracked.facts(binding, |version| Fact::Reloaded { version, at });
                self.items.extend(told);
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
                let is_news = !tracked.refused.contains_key(&binding);
                let held = tracked.holdings.get(&binding);
                let mark = held.map_or(version, Holding::mark);
                if self.slots.get(&service) == Some(id) && !self.is_by_label(binding) {
                    self.failed.insert((service, binding), mark);
                }
                self.refuse(id, binding, secret, version, reason);
                is_news
            }
        }
    }

    /// Signals a consumer that could not be told at once.
    async fn tell(
        &mut self,
        id: &ContainerId,
        (binding, secret, version): Due,
        number: i32,
    ) -> bool {
        let now = self.now();
        let Some(tracked) = self.containers.get_mut(id) else {
            return false;
        };
        let Some(target) = tracked.target.clone() else {
            return false;
        };
        let is_young = now < tracked.first_seen + SIGNAL_GRACE;
        let shared = Arc::clone(&self.shared);
        let told = in_batches(vec![target], move |target| signal(&shared, &target, number))
            .await
            .pop();
        let Some(tracked) = self.containers.get_mut(id) else {
            return false;
        };
        match told {
            Some(Ok(Told::At(at))) => {
                if let Some(holding) = tracked.holdings.get_mut(&binding) {
                    holding.ack = Ack::Done;
                }
                tracked.dirty = true;
                tracked.refused.remove(&binding);
                let told = tracked.facts(binding, |version| Fact::Reloaded { version, at });
                self.items.extend(told);
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
                tracing::info!(
                    { names::CONTAINER } = id.short(),
                    { names::REASON } = reason,
                    "consumer not signalled"
                );
                self.wake_by(now + RETRY_AFTER);
            }
            None => {}
        }
        false
    }
}
