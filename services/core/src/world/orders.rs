//! Orders to hosts about containers: whom they are about. How much room a restart has is in `room`.

#[cfg(test)]
mod tests;

use super::World;
use crate::assignment::{Assignment, Key};
use crate::binding::{OnRevoke, Reload, Rollout as Policy, Target};
use crate::host::{
    self, Had, Host, OrderKind, OrderOutcome, Quarantine, Restart, Standing, Subject,
};
use crate::id::{BindingId, ContainerId, HostId, SecretId};
use crate::secret;

impl World {
    pub(super) fn apply_order(&mut self, number: u64, id: HostId, event: &host::Event) {
        self.note_gone(id, event);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.evolve_order(number, event);
        }
    }

    /// The step that gave an order knows that its container was gone: that was not what it wanted.
    fn note_gone(&mut self, id: HostId, event: &host::Event) {
        let host::Event::OrderEnded {
            container,
            order,
            outcome: OrderOutcome::Gone,
            ..
        } = event
        else {
            return;
        };
        let Some(host) = self.hosts.get(&id) else {
            return;
        };
        let origin = match order {
            OrderKind::Restart => host.restarts.get(container).map(|one| &one.origin),
            OrderKind::Quarantine => host.quarantines.get(container).map(|one| &one.origin),
        };
        if let Some(origin) = origin
            && let Some(run) = self.runs.get_mut(&origin.run)
        {
            run.note_gone(&origin.step, origin.place);
        }
    }

    /// Every container that a host is known to have: those that are served, and those in quarantine.
    pub fn known_containers(&self) -> impl Iterator<Item = (HostId, Subject)> {
        let served = self.assignments.iter().map(|(key, state)| {
            let subject = Subject {
                container: key.container.clone(),
                name: state.container_name.clone(),
                image_digest: state.image_digest.clone(),
                service: state.service.clone(),
            };
            (key.host, subject)
        });
        let quarantined = self.quarantines();
        let quarantined = quarantined.map(|(host, one)| (host.id, one.subject.clone()));
        served.chain(quarantined)
    }

    /// What is known of a container; `None` for one that is served no more.
    #[must_use]
    pub fn known_container(&self, host: HostId, container: &ContainerId) -> Option<Subject> {
        if let Some(one) = self.quarantine_of(host, container) {
            return Some(one.subject.clone());
        }
        let (key, state) = self.assignments_of(host, container).next()?;
        Some(Subject {
            container: key.container.clone(),
            name: state.container_name.clone(),
            image_digest: state.image_digest.clone(),
            service: state.service.clone(),
        })
    }

    /// Assignments of one container.
    pub(crate) fn assignments_of<'w>(
        &'w self,
        host: HostId,
        container: &'w ContainerId,
    ) -> impl Iterator<Item = (&'w Key, &'w Assignment)> {
        let first = Key {
            host,
            container: container.clone(),
            binding: BindingId::from_bytes([0; 16]),
            also: None,
        };
        let from = self.assignments.range(first..);
        from.take_while(move |(key, _)| key.host == host && key.container == *container)
    }

    /// Containers in quarantine, with their hosts.
    pub fn quarantines(&self) -> impl Iterator<Item = (&Host, &Quarantine)> {
        let hosts = self.hosts.values();
        hosts.flat_map(|host| host.quarantines.values().map(move |one| (host, one)))
    }

    /// The quarantine of a container.
    #[must_use]
    pub fn quarantine_of(&self, host: HostId, container: &ContainerId) -> Option<&Quarantine> {
        self.hosts.get(&host)?.quarantines.get(container)
    }

    /// Whether a host did not say yet what came of a container's quarantine.
    #[must_use]
    pub fn awaits_quarantine(&self, host: HostId, container: &ContainerId) -> bool {
        let known = self.quarantine_of(host, container);
        known.is_some_and(|one| one.standing == Standing::Ordered)
    }

    /// What is to be done to a container in quarantine by now: one whose program has in a variable what is dead is
    /// stopped, for nothing else takes that away.
    #[must_use]
    pub fn action_on(&self, one: &Quarantine) -> OnRevoke {
        let is_dead = |had: &Had| {
            let secret = self.secrets.get(&had.secret);
            let is_alive = secret.is_some_and(|secret| secret.is_deliverable(had.version));
            had.in_variable && !is_alive
        };
        match one.had.iter().any(is_dead) {
            true => OnRevoke::Stop,
            false => one.action,
        }
    }

    /// Containers in quarantine whose programs may have one of these versions in a variable still, with their hosts.
    pub fn kept_in_memory<'w>(
        &'w self,
        secret: SecretId,
        versions: &'w [u64],
    ) -> impl Iterator<Item = (&'w Host, &'w Quarantine)> {
        let is_meant = move |had: &Had| {
            had.in_variable && had.secret == secret && versions.contains(&had.version)
        };
        self.quarantines().filter(move |(_, one)| {
            let is_stopped = one.action == OnRevoke::Stop && one.standing == Standing::Done;
            !is_stopped && one.had.iter().any(is_meant)
        })
    }

    /// Hosts whose plans say from now on that a container in quarantine is stopped, whatever their bindings give by now.
    pub(super) fn hosts_to_stop(&self, secret: SecretId, event: &secret::Event) -> Vec<HostId> {
        let secret::Event::VersionRevoked { version } = event else {
            return Vec::new();
        };
        let dying = [*version];
        let kept = self.kept_in_memory(secret, &dying);
        kept.map(|(host, _)| host.id).collect()
    }

    /// Whether an assignment is of a variable; one whose binding is gone may be.
    pub(crate) fn is_in_variable(&self, key: &Key, secret: SecretId) -> bool {
        let planned = self.own_binding(key.binding, secret);
        let mut known = [key.binding, planned].into_iter();
        let spec = known.find_map(|id| self.bindings.get(&id)?.spec.as_ref());
        spec.is_none_or(|spec| matches!(spec.target, Target::Env { .. }))
    }

    /// Restarts that are ordered and not over, with their hosts.
    pub fn ordered_restarts(&self) -> impl Iterator<Item = (HostId, &Restart)> {
        let hosts = self.hosts.values();
        hosts.flat_map(|host| host.restarts.values().map(move |one| (host.id, one)))
    }

    /// The strictest rollout of the bindings that serve a container; one after the other where none says any.
    #[must_use]
    pub fn restart_policy(&self, host: HostId, container: &ContainerId) -> Policy {
        let own = self.assignments_of(host, container);
        let policies = own.filter_map(|(key, _)| {
            match self.bindings.get(&key.binding)?.spec.as_ref()?.reload {
                Reload::Restart { rollout, .. } => rollout,
                _ => None,
            }
        });
        policies.reduce(Policy::stricter).unwrap_or_default()
    }
}
