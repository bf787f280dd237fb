//! Execs into containers: what a health check may have of what its container holds, and which execs of
//! people go on record.

use std::sync::Arc;

use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::name::{EnvName, SecretName};
use keywheel_core::plan::HostPlan;
use keywheel_engine::port::container_host::ExecCommand;

use super::Reconciler;
use crate::kept::KeptValue;
use crate::model::{Holding, Place};
use crate::runtime::exec::{HeldVariable, HeldVariables};
use crate::shared::VersionKey;

impl Reconciler {
    /// Somebody ran something in a container: on record if that holds a secret, and it was not its
    /// health check.
    pub(super) fn note_exec(&mut self, id: &ContainerId, exec: String, command: &ExecCommand) {
        let Some(tracked) = self.containers.get(id) else {
            return;
        };
        let record = &tracked.record;
        // Until the engine told of it as running, its health check is not known.
        let is_consumer = tracked.is_running() && !tracked.holdings.is_empty();
        if is_consumer && !command.is_of(&record.health_command) {
            let at = self.shared.clock.now();
            self.execs.came(&record.facts, exec, at);
        }
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
