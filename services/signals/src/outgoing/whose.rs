//! Whose an event of the log is: the secret and the host that it is about. Pure.
//!
//! Invariant: committed state forgets a run that closed long ago and a consumer that is gone, so what was read on the
//! way is remembered; of whom neither knows, it is said that nobody knows it, and never that it is nobody's.

use std::collections::{BTreeMap, VecDeque};

use keywheel_core::event::Event;
use keywheel_core::id::{HostId, SecretId};
use keywheel_core::world::World;
use keywheel_core::{assignment, host, revocation, rotation, secret};
use keywheel_schemas::event::subject;

/// Most runs and consumers that one receiver remembers at once; beyond it the oldest is forgotten.
pub(crate) const MAX_REMEMBERED: usize = 4096;

/// Which secret each run and consumer is of, as far as the log was read here.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    secrets: BTreeMap<String, SecretId>,
    /// The same in the order in which they were seen first.
    order: VecDeque<String>,
}

/// The secret that an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// None.
    Nobody,
    /// This one.
    Of(SecretId),
    /// One that nobody knows any more.
    Forgotten,
}

/// Names of what an event is about; empty for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// The secret; `None` when nobody knows any more which it was.
    pub(crate) secret: Option<String>,
    /// The host.
    pub(crate) host: String,
}

impl Memory {
    /// Remembers whose a run or a consumer is, where an event says so.
    pub(crate) fn note(&mut self, event: &Event) {
        let secret = match event {
            Event::Rotation(
                _,
                rotation::Event::Started { secret, .. } | rotation::Event::Reopened { secret, .. },
            )
            | Event::Revocation(
                _,
                revocation::Event::Requested { secret, .. }
                | revocation::Event::ReplacementAwaited { secret, .. },
            )
            | Event::Assignment(_, assignment::Event::Assigned { secret, .. }) => *secret,
            _ => return,
        };
        let subject = subject(event);
        if self.secrets.insert(subject.clone(), secret).is_none() {
            self.order.push_back(subject);
        }
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.secrets.remove(&oldest);
        }
    }

    fn of(&self, event: &Event) -> Option<SecretId> {
        self.secrets.get(&subject(event)).copied()
    }
}

impl Names {
    /// Of an event, as far as somebody knows.
    pub(crate) fn of(world: &World, memory: &Memory, event: &Event) -> Self {
        let (whose, host) = whom(world, memory, event);
        let name = |id: &SecretId| {
            let known = world.secrets.get(id);
            known
                .map(|known| known.name.to_string())
                .unwrap_or_default()
        };
        let host = host.and_then(|id| world.hosts.get(&id));
        Self {
            secret: match whose {
                Whose::Nobody => Some(String::new()),
                Whose::Of(id) => Some(name(&id)),
                Whose::Forgotten => None,
            },
            host: host.map(|known| known.name.to_string()).unwrap_or_default(),
        }
    }
}

fn whom(world: &World, memory: &Memory, event: &Event) -> (Whose, Option<HostId>) {
    let known = |there: Option<SecretId>| {
        let secret = memory.of(event).or(there);
        secret.map_or(Whose::Forgotten, Whose::Of)
    };
    match event {
        Event::Secret(id, secret::Event::Delivered { host, .. }) => (Whose::Of(*id), Some(*host)),
        Event::Secret(id, _) => (Whose::Of(*id), None),
        Event::Rotation(id, event) => {
            let known = || known(world.rotations.get(id).map(|run| run.secret));
            match event {
                rotation::Event::Started { secret, .. }
                | rotation::Event::Reopened { secret, .. } => (Whose::Of(*secret), None),
                rotation::Event::HostBarrierAcknowledged { host }
                | rotation::Event::HostReleased { host } => (known(), Some(*host)),
                _ => (known(), None),
            }
        }
        Event::Revocation(id, event) => {
            let known = || known(world.revocations.get(id).map(|run| run.secret));
            match event {
                revocation::Event::Requested { secret, .. }
                | revocation::Event::ReplacementAwaited { secret, .. } => {
                    (Whose::Of(*secret), None)
                }
                revocation::Event::WithdrawnOnHost { host, .. }
                | revocation::Event::HostReleased { host, .. } => (known(), Some(*host)),
                _ => (known(), None),
            }
        }
        Event::Assignment(key, event) => {
            let whose = match event {
                assignment::Event::Assigned { secret, .. } => Whose::Of(*secret),
                _ => known(consumed(world, key)),
            };
            (whose, Some(key.host))
        }
        Event::Host(_, host::Event::JoinTokenSpent { .. }) => (Whose::Nobody, None),
        Event::Host(id, _) => (Whose::Nobody, Some(*id)),
        Event::Signal(_, event) => (event.secret().map_or(Whose::Nobody, Whose::Of), None),
        Event::Binding(..)
        | Event::Store(..)
        | Event::Rollout(..)
        | Event::Notification(..)
        | Event::Playbook(..)
        | Event::PlaybookRun(..)
        | Event::Policy(..)
        | Event::Token(..)
        | Event::Approval(..) => (Whose::Nobody, None),
    }
}

/// The secret of a consumer: as committed state has it, else as its binding says, which outlives its consumers.
fn consumed(world: &World, key: &assignment::Key) -> Option<SecretId> {
    let assigned = world.assignments.get(key).map(|one| one.secret);
    let bound = || {
        let binding = world.bindings.get(&key.binding)?;
        Some(binding.declared()?.secret)
    };
    assigned.or(key.also).or_else(bound)
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::{BindingId, ContainerId, RotationId, SignalSourceId};
    use keywheel_core::name::SignalSourceName;
    use keywheel_core::rotation::{Outcome, Trigger};
    use keywheel_core::signal::{self, Match};

    use super::*;

    const SECRET: SecretId = SecretId::from_bytes([1; 16]);

    fn rotation(number: usize, event: rotation::Event) -> Event {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        Event::Rotation(RotationId::from_bytes(id), event)
    }

    fn started(number: usize) -> Event {
        rotation(
            number,
            rotation::Event::Started {
                secret: SECRET,
                version: 1,
                trigger: Trigger::OnDemand,
            },
        )
    }

    fn closed(number: usize) -> Event {
        let outcome = Outcome::Completed;
        rotation(number, rotation::Event::Closed { outcome })
    }

    #[test]
    fn a_run_that_the_world_forgot_is_known_by_its_start() {
        let (world, mut memory) = (World::default(), Memory::default());
        assert_eq!(whom(&world, &memory, &closed(7)).0, Whose::Forgotten);
        memory.note(&started(7));
        assert_eq!(whom(&world, &memory, &closed(7)).0, Whose::Of(SECRET));
    }

    #[test]
    fn a_consumer_that_is_gone_is_known_by_what_it_was_assigned() {
        let key = assignment::Key {
            host: HostId::from_bytes([2; 16]),
            container: ContainerId::parse(&"c".repeat(64)).unwrap(),
            binding: BindingId::from_bytes([3; 16]),
            also: None,
        };
        let assigned = assignment::Event::Assigned {
            secret: SECRET,
            version: 1,
            container_name: "web".to_owned(),
            image_digest: String::new(),
        };
        let assigned = Event::Assignment(key.clone(), assigned);
        let withdrawn = Event::Assignment(key.clone(), assignment::Event::Withdrawn);
        let (mut world, mut memory) = (World::default(), Memory::default());
        let whose = |world: &World, memory: &Memory| whom(world, memory, &withdrawn).0;
        for (number, event) in [(1, &assigned), (2, &withdrawn)] {
            world.apply(number, event);
        }
        assert_eq!(whose(&world, &memory), Whose::Forgotten);
        memory.note(&assigned);
        assert_eq!(whose(&world, &memory), Whose::Of(SECRET));
    }

    #[test]
    fn a_signal_is_about_the_one_secret_that_holds_what_it_reports() {
        let received = |matched: Option<Vec<Match>>| {
            let via = SignalSourceName::parse("pager").unwrap();
            let received = signal::Event::Received {
                via,
                source: "s".to_owned(),
                id: "1".to_owned(),
                kind: "leak".to_owned(),
                subject: String::new(),
                fields: BTreeMap::new(),
                compared: Some(matched.is_some()),
                matched,
                first: None,
            };
            let event = Event::Signal(SignalSourceId::from_bytes([4; 16]), received);
            whom(&World::default(), &Memory::default(), &event)
        };
        let held = |secret, version| Match { secret, version };
        let other = SecretId::from_bytes([9; 16]);
        let one = vec![held(SECRET, 1), held(SECRET, 2)];
        assert_eq!(received(Some(one)), (Whose::Of(SECRET), None));
        for none in [
            None,
            Some(Vec::new()),
            Some(vec![held(SECRET, 1), held(other, 1)]),
        ] {
            assert_eq!(received(none), (Whose::Nobody, None));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let mut memory = Memory::default();
        for number in 0..=MAX_REMEMBERED {
            memory.note(&started(number));
            memory.note(&started(number));
        }
        assert_eq!(memory.secrets.len(), MAX_REMEMBERED);
        assert_eq!(memory.order.len(), MAX_REMEMBERED);
        assert_eq!(memory.of(&closed(0)), None);
        assert_eq!(memory.of(&closed(1)), Some(SECRET));
    }
}
