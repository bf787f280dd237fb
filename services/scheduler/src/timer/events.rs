//! Rules on events: which secrets an event of the log leads to, and what waits until it may.
//!
//! Invariants: what waits follows from the log alone, so every scheduler waits for the same, a replay
//! fires nothing that was served, and a scheduler that was away misses nothing; a rotation that began
//! after an event serves it, however it came about; several events that wait are one rotation. A rotation
//! that an event led to leads to none of a secret that led to it, however many lie between: no loop.
//! What a rotation does not bring about itself is held by the rule's hold-off alone.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::id::{EventId, HostId, RevocationId, SecretId, SlotId};
use keywheel_core::rotation::Trigger;
use keywheel_core::schedule::{OnEvent, RotationPolicy};
use keywheel_core::time::Timestamp;
use keywheel_core::{host, revocation, rotation, secret};
use keywheel_schemas::condition::{About, Condition, Facts};
use keywheel_schemas::event::{data, subject, type_name};

use super::{Key, Timers};
use crate::schedule::plan::{self, Gate};
use crate::schedule::{event_rotation, event_slot, instant, jitter};

/// Most secrets that may lead to one another by events, one after the other; then it ends.
pub const MAX_CHAIN: usize = 64;

/// What is known of rules and of what they ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// By type of event and text of the condition, so that many secrets ask once.
    watched: BTreeMap<String, BTreeMap<Option<String>, Watch>>,
    hosts: BTreeMap<HostId, Box<str>>,
    /// Which hosts were ever given a version of which secrets.
    given: BTreeSet<(HostId, SecretId)>,
    revocations: BTreeMap<RevocationId, SecretId>,
    waiting: BTreeMap<SecretId, Waiting>,
    /// Whose events led to the open rotation of a secret.
    chains: BTreeMap<SecretId, Vec<SecretId>>,
}

#[derive(Debug, Clone)]
struct Watch {
    ask: Ask,
    secrets: BTreeSet<SecretId>,
}

#[derive(Debug, Clone)]
enum Ask {
    Nothing,
    Whether(Box<Condition>),
    /// A condition that this build cannot read.
    Never,
}

/// An event that leads to a rotation, until one begins.
#[derive(Debug, Clone)]
struct Waiting {
    slot: SlotId,
    time: Timestamp,
    rule: OnEvent,
    chain: Vec<SecretId>,
}

/// Whom an event is about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Whom {
    secret: Option<SecretId>,
    host: Option<HostId>,
}

impl Ask {
    fn of(when: Option<&str>) -> Self {
        match when.map(Condition::parse) {
            None => Self::Nothing,
            Some(Ok(condition)) => Self::Whether(Box::new(condition)),
            Some(Err(_)) => Self::Never,
        }
    }

    fn holds(&self, facts: &Facts, held: bool) -> bool {
        match self {
            Self::Nothing => true,
            Self::Whether(condition) => condition.holds(facts, held),
            Self::Never => false,
        }
    }
}

impl Rules {
    /// Takes a secret's rules in place of those it had.
    pub(super) fn change(
        &mut self,
        secret: SecretId,
        from: Option<&RotationPolicy>,
        to: &RotationPolicy,
    ) {
        for rule in from.into_iter().flat_map(|from| &from.on_event) {
            self.unwatch(secret, rule);
        }
        for rule in &to.on_event {
            let by_condition = self.watched.entry(rule.event.clone()).or_default();
            let watch = by_condition.entry(rule.when.clone());
            let watch = watch.or_insert_with(|| Watch {
                ask: Ask::of(rule.when.as_deref()),
                secrets: BTreeSet::new(),
            });
            watch.secrets.insert(secret);
        }
        let waits = self.waiting.get(&secret);
        if waits.is_some_and(|waiting| !to.on_event.contains(&waiting.rule)) {
            self.waiting.remove(&secret);
        }
    }

    fn unwatch(&mut self, secret: SecretId, rule: &OnEvent) {
        let Some(by_condition) = self.watched.get_mut(&rule.event) else {
            return;
        };
        if let Some(watch) = by_condition.get_mut(&rule.when) {
            watch.secrets.remove(&secret);
        }
        by_condition.retain(|_, watch| !watch.secrets.is_empty());
        if by_condition.is_empty() {
            self.watched.remove(&rule.event);
        }
    }

    /// A rotation began: what waited is served, and what led to it is known while it is open.
    pub(super) fn serve(&mut self, secret: SecretId, trigger: &Trigger) {
        self.chains.remove(&secret);
        let Some(served) = self.waiting.remove(&secret) else {
            return;
        };
        if matches!(trigger, Trigger::Slot { slot, .. } if *slot == served.slot) {
            self.chains.insert(secret, served.chain);
        }
    }

    /// Notes names and places that rules ask for.
    pub(super) fn learn(&mut self, event: &Event) {
        match event {
            Event::Host(
                id,
                host::Event::JoinTokenIssued { name, .. } | host::Event::Enrolled { name, .. },
            ) => {
                self.hosts.insert(*id, name.as_str().into());
            }
            Event::Secret(id, secret::Event::Delivered { host, .. }) => {
                self.given.insert((*host, *id));
            }
            Event::Revocation(id, revocation::Event::Requested { secret, .. }) => {
                self.revocations.insert(*id, *secret);
            }
            _ => {}
        }
    }

    /// Lets go of what nothing asks for after this event.
    fn forget(&mut self, event: &Event, whom: Whom) {
        match event {
            Event::Host(id, host::Event::Evicted { .. }) => {
                self.given.retain(|(host, _)| host != id);
            }
            Event::Revocation(id, revocation::Event::Closed) => {
                self.revocations.remove(id);
            }
            Event::Rotation(_, rotation::Event::Closed { .. }) => {
                if let Some(secret) = whom.secret {
                    self.chains.remove(&secret);
                }
            }
            _ => {}
        }
    }

    /// Whose events an event goes back to; `None` when they are too many. What people and hosts bring
    /// about goes back to nobody.
    fn chain(&self, event: &Event, whom: Whom) -> Option<Vec<SecretId>> {
        let (Event::Secret(..) | Event::Rotation(..), Some(secret)) = (event, whom.secret) else {
            return Some(Vec::new());
        };
        // A version is staged right before its rotation begins.
        let beginning = match event {
            Event::Secret(_, secret::Event::VersionStaged { rotation, .. }) => {
                let waiting = self.waiting.get(&secret);
                waiting.filter(|waiting| event_rotation(waiting.slot) == *rotation)
            }
            _ => None,
        };
        let before = beginning.map(|waiting| &waiting.chain);
        let before = before.or_else(|| self.chains.get(&secret));
        let mut chain = before.cloned().unwrap_or_default();
        chain.push(secret);
        (chain.len() <= MAX_CHAIN).then_some(chain)
    }

    /// The secrets whose rules mean an event, and by which condition.
    fn meant(
        &self,
        type_name: &str,
        facts: &Facts,
        host: Option<HostId>,
    ) -> Vec<(SecretId, Option<String>)> {
        let mut meant = Vec::new();
        let watched = self.watched.get(type_name);
        for (when, watch) in watched.into_iter().flatten() {
            let [apart, given] = [false, true].map(|held| watch.ask.holds(facts, held));
            for secret in &watch.secrets {
                let held = host.is_some_and(|host| self.given.contains(&(host, *secret)));
                let answer = if held { given } else { apart };
                if answer {
                    meant.push((*secret, when.clone()));
                }
            }
        }
        meant
    }

    fn wait(&mut self, secret: SecretId, waiting: Waiting) {
        match self.waiting.entry(secret) {
            Entry::Vacant(entry) => {
                entry.insert(waiting);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                if waiting.rule.rest() < known.rule.rest() {
                    known.rule = waiting.rule;
                }
                for link in waiting.chain {
                    if !known.chain.contains(&link) && known.chain.len() <= MAX_CHAIN {
                        known.chain.push(link);
                    }
                }
            }
        }
    }

    /// Lets go of what waits for a secret.
    pub(super) fn drop_waiting(&mut self, secret: SecretId) {
        self.waiting.remove(&secret);
    }

    /// Whether a slot is what waits for a secret.
    pub(super) fn is_waiting(&self, secret: SecretId, slot: SlotId) -> bool {
        let waiting = self.waiting.get(&secret);
        waiting.is_some_and(|waiting| waiting.slot == slot)
    }
}

impl Timers {
    /// Folds one event of the log as [`Timers::apply`] does, and notes the secrets it leads to.
    pub fn fold(&mut self, id: EventId, time: Timestamp, event: &Event) {
        let whom = self.whom(event);
        self.apply(time, event);
        if !self.rules.watched.is_empty() && self.rules.watched.contains_key(type_name(event)) {
            self.observe((id, time), event, whom);
        }
        self.rules.forget(event, whom);
    }

    /// Whom an event is about, as known before it is folded: the end of a rotation is still about its secret.
    fn whom(&self, event: &Event) -> Whom {
        match event {
            Event::Secret(id, event) => Whom {
                secret: Some(*id),
                host: match event {
                    secret::Event::Delivered { host, .. } => Some(*host),
                    _ => None,
                },
            },
            Event::Rotation(id, event) => Whom {
                secret: match event {
                    rotation::Event::Started { secret, .. }
                    | rotation::Event::Reopened { secret, .. } => Some(*secret),
                    _ => self.rotations.get(id).copied(),
                },
                host: match event {
                    rotation::Event::HostBarrierAcknowledged { host }
                    | rotation::Event::HostReleased { host } => Some(*host),
                    _ => None,
                },
            },
            Event::Revocation(id, event) => Whom {
                secret: match event {
                    revocation::Event::Requested { secret, .. } => Some(*secret),
                    _ => self.rules.revocations.get(id).copied(),
                },
                host: match event {
                    revocation::Event::WithdrawnOnHost { host, .. }
                    | revocation::Event::HostReleased { host, .. } => Some(*host),
                    _ => None,
                },
            },
            Event::Host(id, _) => Whom {
                secret: None,
                host: Some(*id),
            },
            Event::Binding(..) | Event::Assignment(..) | Event::Store(..) | Event::Rollout(..) => {
                Whom::default()
            }
        }
    }

    fn observe(&mut self, (id, time): (EventId, Timestamp), event: &Event, whom: Whom) {
        let Some(chain) = self.rules.chain(event, whom) else {
            return;
        };
        let known = whom.secret.and_then(|secret| self.secrets.get(&secret));
        let host = whom.host.and_then(|host| self.rules.hosts.get(&host));
        let about = About {
            id: &id.to_string(),
            type_name: type_name(event),
            subject: &subject(event),
            time: &instant(time),
            secret: known.map_or("", |known| &*known.name),
            host: host.map_or("", |name| &**name),
        };
        let facts = Facts::of(about, &data(event));
        for (secret, when) in self.rules.meant(type_name(event), &facts, whom.host) {
            let policy = self.secrets.get(&secret).map(|known| &known.policy);
            let mut rules = policy.into_iter().flat_map(|policy| &policy.on_event);
            let rule = rules.find(|rule| rule.event == type_name(event) && rule.when == when);
            let Some(rule) = rule.filter(|_| !chain.contains(&secret)) else {
                continue;
            };
            let waiting = Waiting {
                slot: event_slot(secret, id),
                time,
                rule: rule.clone(),
                chain: chain.clone(),
            };
            self.rules.wait(secret, waiting);
            self.unsettled.insert(secret);
        }
    }

    /// Sets or clears the timer of what waits for a secret.
    pub(super) fn arm_event(&mut self, id: SecretId) {
        let waiting = self.rules.waiting.get(&id);
        let known = self.secrets.get(&id);
        let known = known.filter(|known| known.open.is_none() && known.has_generator);
        let (Some(waiting), Some(known)) = (waiting, known) else {
            self.queue.clear(Key::OnEvent(id));
            return;
        };
        let rested = known.anchors.moved().plus(waiting.rule.rest());
        let delay = jitter(waiting.slot, known.policy.jitter);
        let due = waiting.time.max(rested).plus(delay);
        self.queue.set(Key::OnEvent(id), due);
    }

    /// What waits for a secret has waited long enough, unless windows and freezes hold it on.
    pub(super) fn fire_event(&mut self, id: SecretId, now: Timestamp) -> Option<Command> {
        let known = self.secrets.get(&id)?;
        let waiting = self.rules.waiting.get(&id)?;
        match plan::gate(&known.policy, now, known.anchors.born()) {
            Gate::Open(_) => Some(Command::Due {
                rotation: event_rotation(waiting.slot),
                secret: id,
                slot: waiting.slot,
                scheduled: waiting.time,
            }),
            Gate::Until(opening) => {
                let delay = jitter(waiting.slot, opening.spread(known.policy.jitter));
                self.queue.set(Key::OnEvent(id), opening.at.plus(delay));
                None
            }
            Gate::Never => {
                self.rules.drop_waiting(id);
                None
            }
        }
    }
}
