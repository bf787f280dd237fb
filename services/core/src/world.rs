//! All state the gateway decides on: every aggregate, and the indexes between them.
//!
//! The world is the fold of the log and nothing else. Applying an event is total.

pub mod approvals;
mod difference;
mod ends;
mod leases;
mod orders;
mod outside;
mod outward;
mod playbooks;
mod policies;
mod replacement;
mod rollouts;
mod room;
pub mod tokens;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::assignment::{self, Assignment};
use crate::binding::{self, Binding};
use crate::event::Event;
use crate::host::{self, Host, JoinToken};
use crate::id::{
    BindingId, ContainerId, HostId, JoinTokenId, NotificationId, PlaybookId, RevocationId,
    RotationId, RunId, SecretId, SignalSourceId, StoreId,
};
use crate::name::{BindingName, HostName, PlaybookName, SecretName, StoreName};
use crate::notification;
use crate::playbook::Playbook;
use crate::playbook_run::Run;
use crate::policy::Applied;
use crate::revocation::{self, Revocation};
use crate::rollout::{self, Rollout};
use crate::rotation::{self, Rotation, Trigger};
use crate::secret::{self, Secret};
use crate::signal;
use crate::store;
use crate::time::Timestamp;

pub use room::Room;
#[cfg(test)]
pub(crate) use room::looked;

/// Closed rotations and revocations kept for people, per secret; older ones are in the log only.
pub const KEPT_CLOSED: usize = 16;

/// All state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Secrets by id.
    pub secrets: BTreeMap<SecretId, Secret>,
    /// Bindings by id.
    pub bindings: BTreeMap<BindingId, Binding>,
    /// Live assignments.
    pub assignments: BTreeMap<assignment::Key, Assignment>,
    /// Hosts by id, also those that were evicted.
    pub hosts: BTreeMap<HostId, Host>,
    /// Join tokens that nobody presented yet.
    pub join_tokens: BTreeMap<JoinTokenId, JoinToken>,
    /// Open rotations, and the last closed ones.
    pub rotations: BTreeMap<RotationId, Rotation>,
    /// Open revocations, and the last closed ones.
    pub revocations: BTreeMap<RevocationId, Revocation>,
    /// Stores outside, by id.
    pub stores: BTreeMap<StoreId, store::Declared>,
    /// Rollouts that have something to do or to remember, by service.
    pub rollouts: BTreeMap<rollout::Service, Rollout>,
    /// Declared notifications, by id.
    pub notifications: BTreeMap<NotificationId, notification::Declared>,
    /// Declared sources of signals, by id.
    pub signal_sources: BTreeMap<SignalSourceId, signal::Source>,
    /// Playbooks that may be run, by id.
    pub playbooks: BTreeMap<PlaybookId, Playbook>,
    /// Open runs of playbooks, and the last ones that ended.
    pub runs: BTreeMap<RunId, Run>,
    /// Tokens that were issued and not revoked.
    pub tokens: tokens::Tokens,
    /// What takes several people.
    pub approvals: approvals::Approvals,
    /// When open join tokens end.
    join_ends: ends::Ends<JoinTokenId>,
    secrets_by_name: BTreeMap<SecretName, SecretId>,
    bindings_by_name: BTreeMap<BindingName, BindingId>,
    hosts_by_name: BTreeMap<HostName, HostId>,
    assignments_by_secret: BTreeMap<SecretId, BTreeSet<assignment::Key>>,
    open_rotations: BTreeMap<SecretId, RotationId>,
    closed_rotations: BTreeMap<SecretId, VecDeque<RotationId>>,
    closed_revocations: BTreeMap<SecretId, VecDeque<RevocationId>>,
    last_slots: BTreeMap<SecretId, Timestamp>,
    /// Of secrets that rotate after events.
    last_starts: BTreeMap<SecretId, u64>,
    host_generations: BTreeMap<HostId, u64>,
    stores_by_name: BTreeMap<StoreName, StoreId>,
    store_changes: BTreeMap<StoreId, u64>,
    place_changes: BTreeMap<SecretId, u64>,
    /// Leases that are alive, by the secret that was declared.
    leases: BTreeMap<SecretId, BTreeSet<SecretId>>,
    /// The same, by their containers' hosts.
    leases_at: BTreeMap<HostId, BTreeSet<SecretId>>,
    /// Revocations that wait for a replacement, by secret.
    awaiting: BTreeMap<SecretId, BTreeSet<RevocationId>>,
    playbooks_by_name: BTreeMap<PlaybookName, PlaybookId>,
    open_runs: BTreeSet<RunId>,
    closed_runs: BTreeMap<PlaybookId, VecDeque<RunId>>,
    /// The same of playbooks that were removed, all together.
    closed_of_removed: VecDeque<RunId>,
    /// The policies in force, last, and those before them.
    policies: VecDeque<Arc<Applied>>,
}

impl World {
    /// A secret by name.
    #[must_use]
    pub fn secret_named(&self, name: &SecretName) -> Option<&Secret> {
        self.secrets.get(self.secrets_by_name.get(name)?)
    }
    /// A binding by name, also one that is unbound.
    #[must_use]
    pub fn binding_named(&self, name: &BindingName) -> Option<&Binding> {
        self.bindings.get(self.bindings_by_name.get(name)?)
    }
    /// A host by name; one that was evicted has its name no more.
    #[must_use]
    pub fn host_named(&self, name: &HostName) -> Option<&Host> {
        self.hosts.get(self.hosts_by_name.get(name)?)
    }
    /// The host that has a name, or is to have it by a join token that is open.
    #[must_use]
    pub fn host_to_be(&self, name: &HostName) -> Option<HostId> {
        let promised = || self.join_tokens.values().find(|open| open.name == *name);
        let known = self.host_named(name).map(|host| host.id);
        known.or_else(|| promised().map(|open| open.host))
    }
    /// A host that was not evicted.
    #[must_use]
    pub fn live_host(&self, host: HostId) -> Option<&Host> {
        self.hosts.get(&host).filter(|host| !host.is_evicted())
    }
    /// Hosts that were not evicted.
    pub fn live_hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values().filter(|host| !host.is_evicted())
    }
    /// The rotation of a secret that still runs.
    #[must_use]
    pub fn open_rotation(&self, secret: SecretId) -> Option<&Rotation> {
        self.rotations.get(self.open_rotations.get(&secret)?)
    }
    /// Rotations that still run.
    pub fn open_rotations(&self) -> impl Iterator<Item = &Rotation> {
        self.open_rotations
            .values()
            .filter_map(|id| self.rotations.get(id))
    }
    /// When the last slot that was served was due.
    #[must_use]
    pub fn last_slot(&self, secret: SecretId) -> Option<Timestamp> {
        self.last_slots.get(&secret).copied()
    }
    /// Number in the log of the last start of a rotation, whatever led to it, of a secret that rotates after
    /// events.
    #[must_use]
    pub fn last_start(&self, secret: SecretId) -> Option<u64> {
        self.last_starts.get(&secret).copied()
    }
    /// Generation of a host's plan.
    #[must_use]
    pub fn host_generation(&self, host: HostId) -> u64 {
        self.host_generations.get(&host).copied().unwrap_or(0)
    }
    /// Assignments of a host's containers.
    pub fn assignments_at(
        &self,
        host: HostId,
    ) -> impl Iterator<Item = (&assignment::Key, &Assignment)> {
        let from = self.assignments.range(assignment::Key::first_at(host)..);
        from.take_while(move |(key, _)| key.host == host)
    }
    /// Assignments of a secret's consumers.
    pub fn consumers(
        &self,
        secret: SecretId,
    ) -> impl Iterator<Item = (&assignment::Key, &Assignment)> {
        let keys = self
            .assignments_by_secret
            .get(&secret)
            .into_iter()
            .flatten();
        keys.filter_map(|key| Some((key, self.assignments.get(key)?)))
    }
    /// The key of a container's assignment under a binding that is about this secret: the one that has it,
    /// else the one that is to have it.
    #[must_use]
    pub fn consumer_key(
        &self,
        (host, container): (HostId, &ContainerId),
        binding: BindingId,
        secret: SecretId,
    ) -> assignment::Key {
        let own = assignment::Key {
            host,
            container: container.clone(),
            binding,
            also: None,
        };
        let further = assignment::Key {
            also: Some(secret),
            ..own.clone()
        };
        if self.assignments.contains_key(&further) {
            return further;
        }
        let held = self.assignments.get(&own).map(|known| known.secret);
        let binding = self.bindings.get(&binding);
        let spec = binding.and_then(|binding| binding.spec.as_ref());
        let is_own = match spec {
            _ if held == Some(secret) => true,
            // A secret that the binding still gives keeps its place.
            Some(spec) if self.gives(spec, secret) => {
                spec.secret == self.home(secret) && held.is_none_or(|held| !self.gives(spec, held))
            }
            // It is granted no more, and nothing is known of it.
            _ => true,
        };
        if is_own { own } else { further }
    }
    /// Hosts that some binding of the secret means.
    #[must_use]
    pub fn hosts_of(&self, secret: SecretId) -> Vec<HostId> {
        let specs: Vec<_> = self.specs_of(secret).collect();
        let wanted = |host: &&Host| {
            self.may_have(secret, host.id)
                && specs
                    .iter()
                    .any(|spec| spec.selector.means_host(&host.name))
        };
        self.live_hosts()
            .filter(wanted)
            .map(|host| host.id)
            .collect()
    }

    /// Whether some binding gives the secret to this host.
    #[must_use]
    pub fn is_given_to(&self, secret: SecretId, host: HostId) -> bool {
        let Some(host) = self.live_host(host) else {
            return false;
        };
        let mut specs = self.specs_of(secret);
        self.may_have(secret, host.id) && specs.any(|spec| spec.selector.means_host(&host.name))
    }

    /// Whether some binding means it, also one that is withheld.
    #[must_use]
    pub fn is_bound(&self, secret: SecretId) -> bool {
        let home = self.home(secret);
        let mut declared = self.bindings.values().filter_map(Binding::declared);
        declared.any(|spec| spec.names(home))
    }

    fn specs_of(&self, secret: SecretId) -> impl Iterator<Item = &binding::Spec> {
        let home = self.home(secret);
        self.bindings
            .values()
            .filter_map(|binding| binding.spec.as_ref())
            .filter(move |spec| spec.names(home))
    }

    /// Folds one event with its journal number; total.
    pub fn apply(&mut self, number: u64, event: &Event) {
        match event {
            Event::Secret(id, event) => self.apply_secret(number, *id, event),
            Event::Binding(id, event) => self.apply_binding(number, *id, event),
            Event::Assignment(key, event) => self.apply_assignment(key, event),
            Event::Host(id, event) => self.apply_host(number, *id, event),
            Event::Rotation(id, event) => self.apply_rotation(number, *id, event),
            Event::Revocation(id, event) => self.apply_revocation(number, *id, event),
            Event::Store(id, event) => self.apply_store(number, *id, event),
            Event::Rollout(service, event) => self.apply_rollout(number, service, event),
            Event::Notification(id, event) => self.apply_notification(number, *id, event),
            Event::Signal(id, event) => self.apply_signal(*id, event),
            Event::Playbook(id, event) => self.apply_playbook(*id, event),
            Event::PlaybookRun(id, event) => self.apply_playbook_run(*id, event),
            Event::Policy(id, event) => self.apply_policy(number, *id, event),
            Event::Token(id, event) => self.tokens.apply(*id, event),
            Event::Approval(id, event) => self.approvals.apply(number, *id, event),
        }
        self.note_outside(number, event);
    }

    fn bump(&mut self, number: u64, hosts: impl IntoIterator<Item = HostId>) {
        for host in hosts {
            self.host_generations.insert(host, number);
        }
    }

    fn apply_secret(&mut self, number: u64, id: SecretId, event: &secret::Event) {
        if let secret::Event::Registered { name, spec } = event {
            // Who has a name keeps it.
            self.secrets_by_name.entry(name.clone()).or_insert(id);
            self.secrets
                .insert(id, Secret::registered(id, name.clone(), spec.clone()));
            self.note_keeper(id);
            return;
        }
        let Some(secret) = self.secrets.get_mut(&id) else {
            return;
        };
        let beside = secret.retained;
        secret.evolve(event);
        if let secret::Event::SpecChanged { .. } = event {
            self.note_keeper(id);
        }
        if let secret::Event::VersionRevoked { version } = event {
            self.forget_failed(id, *version);
            if beside == Some(*version) {
                self.let_ask_again(id);
            }
        }
        if let secret::Event::RemoteVersionRetired { remote } = event {
            self.note_ended_there(id, remote);
        }
        let affected = match event {
            secret::Event::Delivered { host, .. } => vec![*host],
            secret::Event::VersionPromoted { .. } | secret::Event::VersionRevoked { .. } => {
                self.hosts_of(id)
            }
            _ => Vec::new(),
        };
        self.bump(number, affected);
        self.bump(number, self.hosts_to_stop(id, event));
        self.index_lease(id);
    }

    /// A dead version is given to nobody, so nobody has to know what came of it.
    fn forget_failed(&mut self, secret: SecretId, version: u64) {
        self.rollouts.retain(|_, rollout| {
            rollout.failed.remove(&(secret, version));
            !rollout.is_over()
        });
    }

    /// What restarted with a version beside the current one that is dead now may have to restart once more.
    fn let_ask_again(&mut self, secret: SecretId) {
        let names = |binding: &&Binding| {
            let spec = binding.spec.as_ref();
            spec.is_some_and(|spec| self.gives(spec, secret))
        };
        let bound = self.bindings.values().filter(names);
        let bindings: BTreeSet<BindingId> = bound.map(|binding| binding.id).collect();
        for rollout in self.rollouts.values_mut() {
            rollout.ask_again(&bindings);
        }
    }

    fn apply_binding(&mut self, number: u64, id: BindingId, event: &binding::Event) {
        let mut affected = self.hosts_of_binding(id);
        if let binding::Event::Bound { name, .. } | binding::Event::Withheld { name, .. } = event {
            self.bindings_by_name.insert(name.clone(), id);
            self.bindings
                .entry(id)
                .or_insert_with(|| Binding::new(id, name.clone()));
        }
        if let Some(binding) = self.bindings.get_mut(&id) {
            binding.evolve(event);
        }
        if let binding::Event::Bound { spec, .. } = event {
            self.rollouts.retain(|_, rollout| {
                spec.secrets().for_each(|secret| rollout.try_again(secret));
                !rollout.is_over()
            });
        }
        affected.extend(self.hosts_of_binding(id));
        self.bump(number, affected);
    }

    fn hosts_of_binding(&self, id: BindingId) -> Vec<HostId> {
        let Some(spec) = self.bindings.get(&id).and_then(|b| b.spec.as_ref()) else {
            return Vec::new();
        };
        let meant = |host: &&Host| spec.selector.means_host(&host.name);
        self.live_hosts()
            .filter(meant)
            .map(|host| host.id)
            .collect()
    }

    fn apply_assignment(&mut self, key: &assignment::Key, event: &assignment::Event) {
        let assignment = self.assignments.entry(key.clone()).or_default();
        let former = assignment.secret;
        assignment.evolve(event);
        let (secret, is_live) = (assignment.secret, assignment.is_live());
        if former != secret || !is_live {
            self.forget_consumer(former, key);
        }
        if is_live {
            self.assignments_by_secret
                .entry(secret)
                .or_default()
                .insert(key.clone());
        } else {
            self.assignments.remove(key);
        }
    }

    fn forget_consumer(&mut self, secret: SecretId, key: &assignment::Key) {
        if let Some(keys) = self.assignments_by_secret.get_mut(&secret) {
            keys.remove(key);
            if keys.is_empty() {
                self.assignments_by_secret.remove(&secret);
            }
        }
    }

    fn apply_host(&mut self, number: u64, id: HostId, event: &host::Event) {
        match event {
            host::Event::JoinTokenIssued {
                name,
                token,
                secret_hash,
                expires_at,
            } => {
                let issued = JoinToken {
                    host: id,
                    name: name.clone(),
                    secret_hash: *secret_hash,
                    expires_at: *expires_at,
                    is_over: false,
                };
                self.join_tokens.insert(*token, issued);
                self.join_ends.add(*expires_at, *token);
                return;
            }
            host::Event::JoinTokenSpent { token } => {
                self.forget_join_token(*token);
                return;
            }
            host::Event::Enrolled {
                name,
                sealing_key,
                signing_key,
            } => {
                self.hosts_by_name.insert(name.clone(), id);
                let enrolled = Host::enrolled(id, name.clone(), *sealing_key, *signing_key);
                self.hosts.insert(id, enrolled);
            }
            host::Event::KeyReplaced { .. } => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.evolve(event);
                }
            }
            host::Event::PermitIssued { .. }
            | host::Event::StagingKnown
            | host::Event::OrdersKnown => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.evolve(event);
                }
                // Its plan does not say it.
                return;
            }
            host::Event::Evicted { .. } => self.apply_eviction(id, event),
            _ => self.apply_order(number, id, event),
        }
        self.bump(number, [id]);
    }

    /// Takes a host's name and grants; the grants stay with it as what it may hold.
    fn apply_eviction(&mut self, id: HostId, event: &host::Event) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        host.evolve(event);
        self.hosts_by_name.retain(|_, named| *named != id);
        for secret in self.secrets.values_mut() {
            let held = secret.void_grants(id);
            if !held.is_empty() {
                host.held.insert(secret.id, held);
            }
        }
    }

    fn apply_rotation(&mut self, number: u64, id: RotationId, event: &rotation::Event) {
        if let rotation::Event::Started {
            secret,
            version,
            trigger,
        } = event
        {
            self.note_start(number, *secret, trigger);
            self.open_rotations.insert(*secret, id);
            let started = Rotation::started(id, *secret, *version, trigger.clone());
            self.rotations.insert(id, started);
            return;
        }
        let Some(rotation) = self.rotations.get_mut(&id) else {
            return;
        };
        rotation.evolve(event);
        let secret = rotation.secret;
        match event {
            rotation::Event::DistributionStarted { hosts, .. }
            | rotation::Event::TurnedBack { hosts, .. } => {
                rotation.generation = number;
                self.bump(number, hosts.iter().copied());
            }
            rotation::Event::CanaryStarted { hosts, .. } => {
                self.bump(number, hosts.iter().copied());
            }
            rotation::Event::Reopened { hosts, .. } => {
                rotation.generation = number;
                self.open_rotations.insert(secret, id);
                if let Some(closed) = self.closed_rotations.get_mut(&secret) {
                    closed.retain(|other| *other != id);
                }
                self.bump(number, hosts.iter().copied());
            }
            rotation::Event::Closed { .. } => {
                if self.open_rotations.get(&secret) == Some(&id) {
                    self.open_rotations.remove(&secret);
                }
                let closed = self.closed_rotations.entry(secret).or_default();
                closed.push_back(id);
                if closed.len() > KEPT_CLOSED
                    && let Some(oldest) = closed.pop_front()
                {
                    self.rotations.remove(&oldest);
                }
            }
            _ => {}
        }
    }

    fn note_start(&mut self, number: u64, secret: SecretId, trigger: &Trigger) {
        if let Trigger::Slot { scheduled, .. } = trigger {
            let last = self.last_slots.entry(secret).or_insert(*scheduled);
            // An event may have been before the last slot.
            *last = (*last).max(*scheduled);
        }
        let known = self.secrets.get(&secret);
        if known.is_some_and(|known| !known.spec.rotation.on_event.is_empty()) {
            self.last_starts.insert(secret, number);
        }
    }

    fn apply_revocation(&mut self, number: u64, id: RevocationId, event: &revocation::Event) {
        let revocation = self
            .revocations
            .entry(id)
            .or_insert_with(|| Revocation::new(id));
        let was_awaiting = revocation.is_awaiting();
        revocation.evolve(event);
        let secret = revocation.secret;
        let is_awaiting = revocation.is_awaiting();
        match event {
            revocation::Event::Requested {
                hosts, versions, ..
            } => {
                revocation.generation = number;
                let last = self.closed_rotations.get(&secret).and_then(VecDeque::back);
                let last = last.and_then(|id| self.rotations.get(id));
                let cancelled =
                    last.filter(|run| run.is_cancelled() && versions.contains(&run.version));
                let half_made = cancelled.filter(|run| !run.takes_over());
                revocation.unstage = half_made.map(|run| run.id);
                if let Some(secret) = self.secrets.get_mut(&secret) {
                    revocation.retire = secret.remotes_of(versions);
                    let stays = secret.stays_current_outside(versions);
                    revocation.stays_at_store = stays.is_some();
                    revocation.left_at_store = stays.cloned();
                    secret.note_revoked(versions);
                }
                if was_awaiting {
                    self.give_over(secret, versions);
                }
                self.bump(number, hosts.iter().copied());
            }
            revocation::Event::Closed => {
                let closed = self.closed_revocations.entry(secret).or_default();
                closed.push_back(id);
                if closed.len() > KEPT_CLOSED
                    && let Some(oldest) = closed.pop_front()
                {
                    self.revocations.remove(&oldest);
                }
            }
            _ => {}
        }
        if was_awaiting != is_awaiting {
            self.index_awaiting(secret, id, is_awaiting);
        }
    }
}
