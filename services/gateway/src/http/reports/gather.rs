//! Which events a report has: the run's own, what happened to its secrets, hosts and containers meanwhile, and what
//! says who these are. Pure; takes the log in order, and keeps of what was before the run only what counts at its
//! beginning.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::assignment::{self, Key};
use keywheel_core::event::Event;
use keywheel_core::id::{BindingId, HostId, RevocationId, RotationId, SecretId};
use keywheel_core::playbook_run::{self, Target};
use keywheel_core::{binding, host, revocation, rotation, secret};
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_schemas::api::MAX_REPORT_EVENTS;

use super::frame::{Frame, Run};

/// What says who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Secret(SecretId),
    Spec(SecretId),
    Binding(BindingId),
    Host(HostId),
}

/// A container under a binding, as it was when the run began.
#[derive(Debug, Default)]
struct Consumer {
    assigned: Option<RecordedEvent>,
    version: u64,
    holding: Option<RecordedEvent>,
    holds: u64,
    /// Whether something happened to it since.
    is_touched: bool,
}

/// Events that are being gathered.
#[derive(Debug)]
pub(super) struct Gathering {
    frame: Frame,
    kept: BTreeMap<u64, RecordedEvent>,
    who: BTreeMap<Who, RecordedEvent>,
    consumers: BTreeMap<Key, Consumer>,
    /// What an evicted host was given and was alive then.
    granted: BTreeMap<(SecretId, u64), RecordedEvent>,
    /// Rotations that ran when the run began.
    running: BTreeMap<RotationId, RecordedEvent>,
    /// Other rotations that belong to it.
    rotations: BTreeSet<RotationId>,
    /// Revocations of what an evicted host may hold.
    revocations: BTreeSet<RevocationId>,
}

impl Gathering {
    /// Nothing yet.
    pub(super) fn new(frame: Frame) -> Self {
        Self {
            frame,
            kept: BTreeMap::new(),
            who: BTreeMap::new(),
            consumers: BTreeMap::new(),
            granted: BTreeMap::new(),
            running: BTreeMap::new(),
            rotations: BTreeSet::new(),
            revocations: BTreeSet::new(),
        }
    }

    /// Takes the next event.
    pub(super) fn note(&mut self, event: &RecordedEvent) {
        // What is more than a report holds is refused, however many events a run has.
        if self.frame.is_behind(event) || self.kept.len() > MAX_REPORT_EVENTS {
            return;
        }
        if self.frame.is_own(&event.event) || self.frame.cause == Some(event.number) {
            self.keep(event);
        }
        match &event.event {
            Event::Secret(id, fact) => self.secret(event, *id, fact),
            Event::Assignment(key, fact) => self.assignment(event, key, fact),
            Event::Binding(id, binding::Event::Bound { .. } | binding::Event::Withheld { .. }) => {
                self.name(Who::Binding(*id), event);
            }
            Event::Host(id, fact) => self.host(event, *id, fact),
            Event::Rotation(id, fact) => self.rotation(event, *id, fact),
            Event::Revocation(id, fact) => {
                let is_meant = self.kills_held(*id, fact) || self.concerns(fact);
                if self.is_begun(event) && is_meant {
                    self.keep(event);
                }
            }
            // Where a receiver is reached may be a secret of its own: steps name theirs without that.
            Event::Binding(..)
            | Event::Store(..)
            | Event::Rollout(..)
            | Event::Notification(..)
            | Event::Signal(..)
            | Event::Playbook(..)
            | Event::PlaybookRun(..)
            | Event::Policy(..)
            | Event::Token(..)
            | Event::Approval(..) => {}
        }
    }

    fn keep(&mut self, event: &RecordedEvent) {
        self.kept.insert(event.number, event.clone());
    }

    fn name(&mut self, who: Who, event: &RecordedEvent) {
        self.who.insert(who, event.clone());
    }

    const fn is_begun(&self, event: &RecordedEvent) -> bool {
        event.number >= self.frame.from
    }

    /// Whether another revocation has to do with the run.
    fn concerns(&self, fact: &revocation::Event) -> bool {
        match (fact, self.frame.run) {
            (revocation::Event::HostReleased { host }, _) => self.frame.evicted.contains_key(host),
            (revocation::Event::Requested { secret, .. }, Run::Rotation(_) | Run::Playbook(_)) => {
                self.frame.secrets.contains(secret)
            }
            _ => false,
        }
    }

    /// Whether something that an evicted host may hold dies by a revocation, and whether its store says so.
    fn kills_held(&mut self, id: RevocationId, fact: &revocation::Event) -> bool {
        if !matches!(self.frame.run, Run::Host(_)) {
            return false;
        }
        match fact {
            revocation::Event::Requested { secret, .. } if self.was_given(*secret) => {
                self.revocations.insert(id);
                true
            }
            revocation::Event::BackendConfirmed | revocation::Event::StillAccepted { .. } => {
                self.revocations.contains(&id)
            }
            _ => false,
        }
    }

    fn secret(&mut self, event: &RecordedEvent, id: SecretId, fact: &secret::Event) {
        match fact {
            secret::Event::Registered { .. } => self.name(Who::Secret(id), event),
            secret::Event::SpecChanged { .. } => self.name(Who::Spec(id), event),
            _ => {
                self.held(event, id, fact);
                self.own_secret(event, id, fact);
            }
        }
    }

    fn own_secret(&mut self, event: &RecordedEvent, id: SecretId, fact: &secret::Event) {
        let is_meant = match fact {
            secret::Event::VersionStaged { version, .. }
            | secret::Event::Delivered { version, .. }
            | secret::Event::VersionRevoked { version }
            | secret::Event::VersionDestroyed { version } => self.is_version(id, *version),
            secret::Event::VersionPromoted { version } => {
                self.is_begun(event) || self.is_version(id, *version)
            }
            _ => false,
        };
        if is_meant && self.frame.secrets.contains(&id) {
            self.keep(event);
        }
    }

    fn is_version(&self, secret: SecretId, version: u64) -> bool {
        self.frame.versions.contains(&(secret, version))
    }

    /// What becomes of what evicted hosts were given.
    fn held(&mut self, event: &RecordedEvent, id: SecretId, fact: &secret::Event) {
        match fact {
            secret::Event::Delivered { host, version, .. } => {
                let evicted = self.frame.evicted.get(host);
                if evicted.is_some_and(|evicted| event.number < *evicted) {
                    self.granted.insert((id, *version), event.clone());
                }
            }
            secret::Event::VersionRevoked { version }
            | secret::Event::VersionDestroyed { version } => {
                if !self.is_begun(event) {
                    self.granted.remove(&(id, *version));
                } else if self.granted.contains_key(&(id, *version)) {
                    self.keep(event);
                }
            }
            secret::Event::VersionPromoted { .. } if self.is_begun(event) && self.was_given(id) => {
                self.keep(event);
            }
            _ => {}
        }
    }

    fn was_given(&self, secret: SecretId) -> bool {
        let all = (secret, 0)..=(secret, u64::MAX);
        self.granted.range(all).next().is_some()
    }

    fn assignment(&mut self, event: &RecordedEvent, key: &Key, fact: &assignment::Event) {
        if let assignment::Event::Assigned { secret, .. } = fact {
            let is_meant =
                self.frame.evicted.contains_key(&key.host) || self.frame.secrets.contains(secret);
            if !is_meant {
                // Its binding means another secret now.
                if !self.is_begun(event) {
                    self.consumers.remove(key);
                }
                return;
            }
            self.consumers.entry(key.clone()).or_default();
        }
        match self.is_begun(event) {
            true => self.happened(event, key, fact),
            false => self.was(event, key, fact),
        }
    }

    /// What was before the run began.
    fn was(&mut self, event: &RecordedEvent, key: &Key, fact: &assignment::Event) {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return;
        };
        match fact {
            assignment::Event::Assigned { version, .. } => {
                consumer.version = *version;
                consumer.assigned = Some(event.clone());
            }
            assignment::Event::Swapped { version, .. }
            | assignment::Event::Reloaded { version, .. } => {
                consumer.holds = *version;
                consumer.holding = Some(event.clone());
            }
            assignment::Event::Withdrawn | assignment::Event::Vanished => {
                self.consumers.remove(key);
            }
            assignment::Event::Refused { .. } | assignment::Event::ServiceNoted { .. } => {}
        }
    }

    fn happened(&mut self, event: &RecordedEvent, key: &Key, fact: &assignment::Event) {
        if matches!(fact, assignment::Event::ServiceNoted { .. }) {
            return;
        }
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.is_touched = true;
            self.keep(event);
        }
    }

    fn host(&mut self, event: &RecordedEvent, id: HostId, fact: &host::Event) {
        match fact {
            host::Event::Enrolled { .. } => self.name(Who::Host(id), event),
            host::Event::Evicted { .. }
                if self.is_begun(event) && self.frame.hosts.contains(&id) =>
            {
                self.keep(event);
            }
            _ => {}
        }
    }

    fn rotation(&mut self, event: &RecordedEvent, id: RotationId, fact: &rotation::Event) {
        if self.frame.is_own(&event.event) {
            return;
        }
        match fact {
            rotation::Event::Started { secret, .. } => {
                let is_meant = match self.frame.run {
                    Run::Host(_) => self.was_given(*secret),
                    Run::Revocation(_) => self.frame.secrets.contains(secret),
                    Run::Rotation(_) => false,
                    Run::Playbook(_) => {
                        self.frame.secrets.contains(secret) || self.was_given(*secret)
                    }
                };
                if is_meant && self.is_begun(event) {
                    self.rotations.insert(id);
                    self.keep(event);
                } else if is_meant {
                    self.running.insert(id, event.clone());
                }
            }
            rotation::Event::Closed { .. } => {
                let running = self.running.remove(&id);
                if !self.is_begun(event) {
                    return;
                }
                if let Some(started) = &running {
                    self.keep(started);
                }
                if running.is_some() || self.rotations.contains(&id) {
                    self.keep(event);
                }
            }
            _ => {}
        }
    }

    /// All of them, in order, with those that say who is who.
    pub(super) fn finish(mut self) -> Vec<RecordedEvent> {
        let granted: Vec<RecordedEvent> = std::mem::take(&mut self.granted).into_values().collect();
        granted.iter().for_each(|event| self.keep(event));
        for consumer in std::mem::take(&mut self.consumers).into_values() {
            if self.is_concerned(&consumer) {
                let before = [consumer.assigned, consumer.holding];
                before.iter().flatten().for_each(|event| self.keep(event));
            }
        }
        let mut named: BTreeSet<Who> = self.frame.hosts.iter().copied().map(Who::Host).collect();
        named.extend(self.kept.values().flat_map(named_by));
        for who in named {
            if let Some(event) = self.who.remove(&who) {
                self.kept.insert(event.number, event);
            }
        }
        self.kept.into_values().collect()
    }

    fn is_concerned(&self, consumer: &Consumer) -> bool {
        // A revocation is of one secret.
        let mut versions = self.frame.versions.iter().map(|(_, version)| *version);
        match self.frame.run {
            Run::Revocation(_) => {
                let dies = |version| version == consumer.holds || version == consumer.version;
                consumer.is_touched || versions.any(dies)
            }
            Run::Rotation(_) | Run::Host(_) | Run::Playbook(_) => true,
        }
    }
}

/// Whom an event speaks of by an id.
fn named_by(event: &RecordedEvent) -> Vec<Who> {
    let secret = |id: SecretId| vec![Who::Secret(id), Who::Spec(id)];
    match &event.event {
        Event::Secret(id, secret::Event::Delivered { host, .. }) => {
            [secret(*id), vec![Who::Host(*host)]].concat()
        }
        Event::Secret(id, _) => secret(*id),
        Event::Assignment(key, fact) => {
            let mut who = vec![Who::Host(key.host), Who::Binding(key.binding)];
            if let assignment::Event::Assigned { secret: id, .. } = fact {
                who.extend(secret(*id));
            }
            who
        }
        Event::Rotation(_, rotation::Event::Started { secret: id, .. })
        | Event::Revocation(
            _,
            revocation::Event::Requested { secret: id, .. }
            | revocation::Event::ReplacementAwaited { secret: id, .. },
        ) => secret(*id),
        Event::Host(id, _) => vec![Who::Host(*id)],
        Event::PlaybookRun(_, fact) => named_by_run(fact),
        _ => Vec::new(),
    }
}

fn named_by_run(fact: &playbook_run::Event) -> Vec<Who> {
    let who = |target: &Target| match target {
        Target::Secret { secret, .. } => vec![Who::Secret(*secret), Who::Spec(*secret)],
        Target::Host { host } | Target::Container { host, .. } => vec![Who::Host(*host)],
        Target::Playbook { .. } | Target::Notification { .. } => Vec::new(),
    };
    match fact {
        playbook_run::Event::StepStarted { targets, .. } => targets.iter().flat_map(who).collect(),
        _ => Vec::new(),
    }
}
