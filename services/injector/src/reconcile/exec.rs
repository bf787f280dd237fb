//! Execs into containers: what a health check may have of what its container holds, and which execs of
//! people go on record.

use std::sync::Arc;

use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::plan::HostPlan;
use keywheel_engine::port::container_host::ExecCommand;

use super::Reconciler;
use crate::model::{Holding, Place};
use crate::runtime::exec::{HeldVariable, HeldVariables};
use crate::shared::Shared;

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

    /// The variables a container was started with, if these are the arguments of its health check.
    pub(super) fn held_variables(&self, id: &ContainerId, args: &[String]) -> HeldVariables {
        let variables = self.health_check_variables(id, args).unwrap_or_default();
        if variables.is_empty() {
            return HeldVariables {
                variables,
                intent: None,
            };
        }
        let keys = variables.iter().map(|one| one.key).collect();
        let ((), intent) = self.shared.intend(|_| ((), keys));
        HeldVariables {
            variables,
            intent: Some(intent),
        }
    }

    fn health_check_variables(
        &self,
        id: &ContainerId,
        args: &[String],
    ) -> Option<Vec<HeldVariable>> {
        let tracked = self.containers.get(id)?;
        let command = &tracked.record.health_command;
        if command.is_empty() || command != args || self.shared.is_lease_over() {
            return None;
        }
        let plan = self.shared.plan()?;
        let holdings = tracked.holdings.iter();
        let held = |(binding, holding): (&BindingId, &Holding)| {
            held_variable(&self.shared, &plan, *binding, holding)
        };
        Some(holdings.filter_map(held).collect())
    }
}

/// What a variable was started with, unless that may not be used any more.
fn held_variable(
    shared: &Shared,
    plan: &HostPlan,
    binding: BindingId,
    holding: &Holding,
) -> Option<HeldVariable> {
    let Place::Env { name } = &holding.place else {
        return None;
    };
    let version = holding.version?;
    let mut bindings = plan.bindings.iter();
    let planned = bindings.find(|planned| planned.binding == binding)?;
    if version <= planned.floor || planned.dead.contains(&version) {
        return None;
    }
    let key = (holding.secret, version);
    let kept = holding.kept.as_ref().map(Arc::clone);
    Some(HeldVariable {
        name: name.clone(),
        secret: planned.secret_name.clone(),
        key,
        sealed: kept.or_else(|| shared.sealed(key))?,
    })
}
