//! Execs into containers: what a health check may have of what its container holds, and which execs of
//! people go on record.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::name::{EnvName, SecretName};
use keywheel_core::plan::HostPlan;
use keywheel_core::time::Timestamp;
use keywheel_daemon::names;
use keywheel_engine::port::container_host::{ContainerRecord, ExecCommand};
use tokio::sync::oneshot;

use super::Reconciler;
use crate::kept::KeptValue;
use crate::model::{Holding, Place};
use crate::runtime::exec::{HeldVariable, HeldVariables};
use crate::service::Event;
use crate::shared::VersionKey;

/// Execs that wait until it is known what their containers hold.
const MAX_UNSURE: usize = 1024;
/// So long at most.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

/// An exec of which the engine told.
pub(super) struct Came {
    exec: String,
    command: ExecCommand,
    at: Timestamp,
    until: Duration,
}

/// An exec that waits for its variables.
pub(super) struct Asked {
    pub(super) id: ContainerId,
    pub(super) args: Vec<String>,
    pub(super) held: oneshot::Sender<HeldVariables>,
}

impl Reconciler {
    /// Answers at once or, where the container has just started, when it is known; who asks gives up by itself, and
    /// the exec goes on without.
    pub(super) fn answer_exec(&mut self, asked: Asked) {
        if self.knows(&asked.id).is_none() && self.asked.len() < MAX_UNSURE {
            self.asked.push(asked);
            return;
        }
        let _ = asked.held.send(self.held_variables(&asked.id, &asked.args));
    }

    fn answer_execs(&mut self) {
        for asked in std::mem::take(&mut self.asked) {
            if !asked.held.is_closed() {
                self.answer_exec(asked);
            }
        }
    }

    /// Somebody ran something in a container: on record if that holds a secret, and it was not its
    /// health check. Decided when its container is known.
    pub(super) fn note_exec(&mut self, id: ContainerId, exec: String, command: ExecCommand) {
        let noted = self.now();
        let came = Came {
            exec,
            command,
            at: self.shared.clock.now(),
            until: noted + KNOWN_WITHIN,
        };
        if self.unsure.len() >= MAX_UNSURE {
            tracing::error!(
                { names::CONTAINER } = id.short(),
                "exec not noted: too many wait until their containers are known"
            );
            return;
        }
        self.unsure.push((id, came));
        self.decide_execs();
    }

    /// Whether a note of execs is to be told now; else the loop wakes when one is.
    pub(super) fn is_exec_due(&mut self) -> bool {
        let now = self.now();
        let waiting = self.unsure.iter().map(|(_, came)| came.until).min();
        for at in self.execs.next().into_iter().chain(waiting) {
            if at <= now {
                return true;
            }
            self.wake_by(at);
        }
        false
    }

    /// Decides on those whose container is known by now, or will not be.
    pub(super) fn decide_execs(&mut self) {
        self.answer_execs();
        let now = self.now();
        for (id, came) in std::mem::take(&mut self.unsure) {
            match self.knows(&id) {
                Some(false) => {}
                None if came.until > now => self.unsure.push((id, came)),
                // What is not known in time counts as what is known of it by then.
                Some(true) | None => self.decide_exec(&id, came),
            }
        }
        if let Some(at) = self.unsure.iter().map(|(_, came)| came.until).min() {
            self.wake_by(at);
        }
    }

    /// Whether a container runs and what it holds is known; `Some(false)` when it is none of ours to know.
    fn knows(&self, id: &ContainerId) -> Option<bool> {
        let is_read = !self.remembered.contains_key(id) && !self.inspecting.contains_key(id);
        match self.containers.get(id) {
            Some(tracked) if tracked.is_running() && is_read => Some(true),
            None if self.is_listed && is_read => Some(false),
            _ => None,
        }
    }

    fn decide_exec(&mut self, id: &ContainerId, came: Came) {
        let Some(tracked) = self.containers.get(id) else {
            return;
        };
        if tracked.holdings.is_empty() {
            return;
        }
        match came.command.is_of(&tracked.record.health_command) {
            true => self.look_at_exec(&tracked.record, came),
            false => self.execs.came(&tracked.record.facts, came.exec, came.at),
        }
    }

    /// An event's words have lost where an argument ends, and as whom it runs: the engine is asked. In
    /// doubt it is on record.
    fn look_at_exec(&self, record: &ContainerRecord, came: Came) {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        let (pool, record) = (Arc::clone(&self.look_pool), record.clone());
        self.tasks.spawn(async move {
            let _permit = pool.acquire().await;
            let details = match came.exec.as_str() {
                "" => Ok(None),
                exec => shared.containers.exec_details(exec).await,
            };
            let details = details.unwrap_or_default();
            let is_check = details.is_some_and(|exec| record.is_health_check(&exec));
            let event = Event::ExecLooked {
                facts: Box::new(record.facts),
                exec: came.exec,
                at: came.at,
                is_check,
            };
            let _ = events.send(event).await;
        });
    }

    /// The variables a container was started with, if these are the arguments of its health check, and
    /// as far as they may be used by the plan of this moment.
    pub(super) fn held_variables(&self, id: &ContainerId, args: &[String]) -> HeldVariables {
        let holdings = self.health_check_holdings(id, args).unwrap_or_default();
        if holdings.is_empty() {
            return HeldVariables {
                variables: Vec::new(),
                intent: None,
            };
        }
        let (usable, intent) = self.shared.intend(|plan| {
            let usable = |held: Held| {
                let secret = usable_secret(plan?, &held)?;
                Some((held, secret))
            };
            let usable: Vec<(Held, SecretName)> = holdings.into_iter().filter_map(usable).collect();
            let keys = usable.iter().map(|(held, _)| held.key).collect();
            (usable, keys)
        });
        let sealed = |held: &Held| match &held.kept {
            Some(kept) => Some(kept.sealed()),
            None => self.shared.sealed(held.key),
        };
        let variable = |(held, secret): (Held, SecretName)| {
            Some(HeldVariable {
                sealed: sealed(&held)?,
                name: held.name,
                secret,
                key: held.key,
            })
        };
        HeldVariables {
            variables: usable.into_iter().filter_map(variable).collect(),
            intent: Some(intent),
        }
    }

    fn health_check_holdings(&self, id: &ContainerId, args: &[String]) -> Option<Vec<Held>> {
        let tracked = self.containers.get(id)?;
        let command = &tracked.record.health_command;
        if command.is_empty() || command != args || self.shared.is_lease_over() {
            return None;
        }
        let holdings = tracked.holdings.iter();
        let held = holdings.filter_map(|(binding, holding)| held(*binding, holding));
        Some(held.collect())
    }
}

/// A variable that a container was started with.
struct Held {
    binding: BindingId,
    name: EnvName,
    key: VersionKey,
    kept: Option<Arc<KeptValue>>,
}

fn held(binding: BindingId, holding: &Holding) -> Option<Held> {
    let Place::Env { name } = &holding.place else {
        return None;
    };
    Some(Held {
        binding,
        name: name.clone(),
        key: (holding.secret, holding.version?),
        kept: holding.kept.clone(),
    })
}

/// The secret's name, while what is held of it may be used. A binding that was turned to another secret
/// says nothing of the one before.
fn usable_secret(plan: &HostPlan, held: &Held) -> Option<SecretName> {
    let (secret, version) = held.key;
    let mut bindings = plan.bindings.iter();
    let planned = bindings.find(|planned| planned.binding == held.binding)?;
    let is_usable =
        planned.secret == secret && version > planned.floor && !planned.dead.contains(&version);
    is_usable.then(|| planned.secret_name.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keywheel_core::binding::Reload;
    use keywheel_core::id::SecretId;

    use super::*;
    use crate::decide::tests::{binding, env, plan};

    #[test]
    fn a_version_is_usable_by_the_floor_and_the_dead_of_its_own_secret() {
        let of = |secret: u8, version: u64| Held {
            binding: BindingId::from_bytes([1; 16]),
            name: EnvName::parse("DB").unwrap(),
            key: (SecretId::from_bytes([secret; 16]), version),
            kept: None,
        };
        let mut planned = binding(1, env(), Reload::None, Some(9));
        (planned.floor, planned.dead) = (3, BTreeSet::from([5]));
        let plan = plan(vec![planned]);
        let usable = |held: &Held| usable_secret(&plan, held).is_some();
        assert!(usable(&of(1, 4)) && usable(&of(1, 9)));
        assert!(!usable(&of(1, 3)) && !usable(&of(1, 5)));
        // The binding gives another secret by now, whose numbers say nothing of this one.
        assert!(!usable(&of(2, 9)));
        let mut other = of(1, 9);
        other.binding = BindingId::from_bytes([2; 16]);
        assert!(!usable(&other), "no binding any more");
    }
}
