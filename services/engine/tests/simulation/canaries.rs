//! What has to hold of canaries: containers that have a version before it is promoted.
//!
//! Truth by the events in their order: who was chosen, what was told of them, and when it was promoted. What is
//! in containers is looked at beside it; the core's own state is asked for the level of a binding alone.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::assignment;
use keywheel_core::binding::AckLevel;
use keywheel_core::id::{ContainerId, HostId, RotationId, SecretId};
use keywheel_core::rotation;
use keywheel_core::secret;
use keywheel_core::time::Timestamp;

use crate::host::Host;
use crate::invariants::{Broken, Now, hold};
use crate::store::Value;

/// What the events say of canaries.
#[derive(Debug, Default)]
pub(crate) struct Canaries {
    /// How many containers people want to have a version before all others.
    wishes: BTreeMap<SecretId, u32>,
    /// What a rotation brings.
    brings: BTreeMap<RotationId, Value>,
    /// Canaries that are neither through nor on their way back.
    ahead: BTreeMap<RotationId, Ahead>,
    /// Who may have what was never current.
    may_have: BTreeSet<(Value, HostId, ContainerId)>,
}

/// The canaries of one rotation.
#[derive(Debug)]
struct Ahead {
    value: Value,
    consumers: BTreeSet<assignment::Key>,
    acknowledged: BTreeSet<assignment::Key>,
    /// What was told of them last, as far as it is good.
    shown: BTreeMap<assignment::Key, AckLevel>,
    /// Since all had acknowledged: until when they are watched.
    until: Option<Timestamp>,
}

impl Canaries {
    /// Whether a container may have what is not promoted.
    pub(crate) fn may_have(&self, value: Value, host: &Host, container: &ContainerId) -> bool {
        let all = &self.may_have;
        all.contains(&(value, host.id, container.clone()))
    }

    pub(crate) fn see_secret(&mut self, id: SecretId, event: &secret::Event) -> Result<(), Broken> {
        match event {
            secret::Event::Registered { spec, .. } | secret::Event::SpecChanged { spec } => {
                match spec.rotation.canary {
                    Some(wish) => self.wishes.insert(id, wish.consumers),
                    None => self.wishes.remove(&id),
                };
                Ok(())
            }
            secret::Event::VersionPromoted { version } => {
                let value = (id, *version);
                let open = self.ahead.values().find(|ahead| ahead.value == value);
                hold(open.is_none(), "canaries", || {
                    format!("version {version} is promoted, and its canaries did not pass")
                })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn see_consumer(&mut self, key: &assignment::Key, event: &assignment::Event) {
        for ahead in self.ahead.values_mut() {
            if !ahead.consumers.contains(key) {
                continue;
            }
            let version = ahead.value.1;
            let level = match event {
                assignment::Event::Assigned { .. } => continue,
                assignment::Event::Swapped { version: told, .. } if *told == version => {
                    AckLevel::Swapped
                }
                assignment::Event::Reloaded { version: told, .. } if *told == version => {
                    AckLevel::Reloaded
                }
                _ => {
                    ahead.shown.remove(key);
                    continue;
                }
            };
            ahead.shown.insert(key.clone(), level);
        }
    }

    pub(crate) fn see_rotation(
        &mut self,
        id: RotationId,
        event: &rotation::Event,
        now: &Now<'_>,
    ) -> Result<(), Broken> {
        match event {
            rotation::Event::Started {
                secret, version, ..
            } => {
                self.brings.insert(id, (*secret, *version));
            }
            rotation::Event::CanaryStarted { consumers, .. } => self.begin(id, consumers)?,
            rotation::Event::ConsumerAcknowledged { consumer } => {
                if let Some(ahead) = self.ahead.get_mut(&id) {
                    ahead.acknowledged.insert(consumer.clone());
                }
            }
            rotation::Event::CanaryWatched { until } => {
                if let Some(ahead) = self.ahead.get_mut(&id) {
                    ahead.until = Some(*until);
                }
            }
            rotation::Event::CanaryPassed => {
                let ahead = self.ahead.remove(&id);
                let ahead =
                    ahead.ok_or_else(|| Broken::new("canaries", "none passed".to_owned()))?;
                ahead.is_well(now)?;
            }
            rotation::Event::CanarySkipped { .. }
            | rotation::Event::Halted { .. }
            | rotation::Event::TurnedBack { .. }
            | rotation::Event::Closed { .. } => {
                self.ahead.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, id: RotationId, consumers: &[assignment::Key]) -> Result<(), Broken> {
        let Some(value) = self.brings.get(&id).copied() else {
            return Err(Broken::new("canaries", format!("{id} brings nothing")));
        };
        let containers = consumers
            .iter()
            .map(|key| (key.host, key.container.clone()));
        let containers: BTreeSet<(HostId, ContainerId)> = containers.collect();
        let most = self.wishes.get(&value.0).copied().unwrap_or(0);
        let few = u32::try_from(containers.len()).is_ok_and(|count| count > 0 && count <= most);
        hold(few, "canaries", || {
            format!("{} canaries, and {most} are wanted", containers.len())
        })?;
        let may_have = containers.into_iter().map(|(host, one)| (value, host, one));
        self.may_have.extend(may_have);
        let ahead = Ahead {
            value,
            consumers: consumers.iter().cloned().collect(),
            acknowledged: BTreeSet::new(),
            shown: BTreeMap::new(),
            until: None,
        };
        self.ahead.insert(id, ahead);
        Ok(())
    }
}

impl Ahead {
    /// Each of them acknowledged, was told to run on it last, and all did so for as long as was asked.
    fn is_well(&self, now: &Now<'_>) -> Result<(), Broken> {
        let is_over = self.until.is_some_and(|until| now.at >= until);
        hold(is_over, "canaries", || {
            format!("watched until {:?}, and passed before", self.until)
        })?;
        for key in &self.consumers {
            let spec = now.world.bindings.get(&key.binding);
            let spec = spec.and_then(|binding| binding.spec.as_ref());
            let Some(spec) = spec.filter(|spec| spec.names(self.value.0)) else {
                continue;
            };
            let shown = self.shown.get(key);
            let is_shown = shown.is_some_and(|shown| *shown >= spec.ack_level());
            let is_well = is_shown && self.acknowledged.contains(key);
            hold(is_well, "canaries", || {
                format!("{key:?} is said to run well, and showed {shown:?}")
            })?;
            self.has_it(key, now)?;
        }
        Ok(())
    }

    /// What there is in a canary is what it was promoted for.
    fn has_it(&self, key: &assignment::Key, now: &Now<'_>) -> Result<(), Broken> {
        let host = now.hosts.iter().find(|host| host.id == key.host);
        let containers = host.into_iter().flat_map(|host| host.containers.values());
        let mut own = containers.filter(|one| one.id == key.container);
        let copy = own.find_map(|one| one.copies.get(&key.binding));
        // It may have ended, or been given another secret since, which is told later.
        let copy = copy.filter(|copy| copy.there.0 == self.value.0);
        let is_it = copy.is_none_or(|copy| copy.there == self.value && copy.used == self.value);
        hold(is_it, "canaries", || {
            format!("{key:?} has {copy:?} when {:?} is promoted", self.value)
        })
    }
}
