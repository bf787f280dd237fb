//! Rules on events: which secrets an event of the log leads to, and what waits until it may.
//!
//! Invariants: what waits follows from the log alone, so every scheduler waits for the same, a replay
//! fires nothing that was served, and a scheduler that was away misses nothing: no answer of a gateway and
//! no clock ends it, only a rotation that begins or rules that change; a rotation that began
//! after an event serves it, however it came about; several events that wait are one rotation. A rotation
//! that an event led to leads to none of a secret that led to it, however many lie between: no loop.
//! What a rotation does not bring about itself is held by the rule's hold-off alone.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::id::{EventId, HostId, RevocationId, RotationId, SecretId, SlotId};
use keywheel_core::rotation::Trigger;
use keywheel_core::schedule::{EVENT_HOLD_OFF, OnEvent, RotationPolicy};
use keywheel_core::time::Timestamp;
use keywheel_core::{host, lease, revocation, rotation, secret};
use keywheel_schemas::condition::{About, Facts};
use keywheel_schemas::event::{data, subject, type_name};

use super::triggers::Said;
use super::watches::Watches;
use super::{Key, Timers, retry_delay};
use crate::schedule::plan::{self, Gate};
use crate::schedule::{event_rotation, event_slot, instant, jitter};

/// Most secrets that may lead to one another by events, one after the other; then it ends.
pub const MAX_CHAIN: usize = 64;
/// Refusals of what waits after which it is asked for as seldom as [`REFUSED_REST`].
pub const QUICK_REFUSALS: u32 = 8;
/// How long after many refusals what waits is asked for again: each is on record.
pub const REFUSED_REST: Duration = Duration::from_secs(600);
/// Rotations of one secret of which is known whose they are, also after their end: the last one, which may be
/// parked, and the one before it, whose last step may be answered late.
pub const LAST_ROTATIONS: usize = 2;

/// What is known of rules and of what they ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    watches: Watches,
    /// Whether names and places are noted: from the first rule on.
    learns: bool,
    names: BTreeMap<SecretId, Box<str>>,
    hosts: BTreeMap<HostId, Box<str>>,
    /// Which hosts were ever given a version of which secrets.
    given: BTreeMap<HostId, BTreeSet<SecretId>>,
    revocations: BTreeMap<RevocationId, SecretId>,
    /// The last rotations of each secret, oldest first, and whose each of them is.
    last: BTreeMap<SecretId, [Option<RotationId>; LAST_ROTATIONS]>,
    rotations: BTreeMap<RotationId, SecretId>,
    waiting: BTreeMap<SecretId, Waiting>,
    /// Whose events led to the last rotation of a secret. What it brings about may come after its end.
    chains: BTreeMap<SecretId, Arc<[SecretId]>>,
}

/// An event that leads to a rotation, until one begins.
#[derive(Debug, Clone)]
struct Waiting {
    slot: SlotId,
    /// The event's place in the log, and when it was decided.
    number: u64,
    time: Timestamp,
    /// Numbers of the conditions by which events that wait are meant.
    rules: Vec<u64>,
    chain: Arc<[SecretId]>,
    refusals: u32,
}

/// Whom an event is about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Whom {
    secret: Option<SecretId>,
    host: Option<HostId>,
}

impl Rules {
    /// Takes a secret's rules in place of those it had. What waits by a rule that it keeps waits on.
    pub(super) fn change(
        &mut self,
        secret: SecretId,
        from: Option<&RotationPolicy>,
        to: &RotationPolicy,
    ) {
        for rule in &to.on_event {
            self.watches.add(secret, rule);
        }
        let kept: Vec<u64> = to
            .on_event
            .iter()
            .filter_map(|rule| self.watches.number(rule))
            .collect();
        for rule in from.into_iter().flat_map(|from| &from.on_event) {
            let number = self.watches.number(rule);
            if number.is_some_and(|number| !kept.contains(&number)) {
                self.watches.remove(secret, rule);
            }
        }
        if let Entry::Occupied(mut waiting) = self.waiting.entry(secret) {
            waiting.get_mut().rules.retain(|rule| kept.contains(rule));
            if waiting.get().rules.is_empty() {
                waiting.remove();
            }
        }
    }

    /// A rotation began: what waited is served, and what led to it is known until the next.
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
    fn learn(&mut self, event: &Event) {
        match event {
            Event::Secret(id, secret::Event::Registered { name, .. }) => {
                self.names.insert(*id, name.as_str().into());
            }
            Event::Host(
                id,
                host::Event::JoinTokenIssued { name, .. } | host::Event::Enrolled { name, .. },
            ) => {
                self.hosts.insert(*id, name.as_str().into());
            }
            Event::Secret(id, secret::Event::Delivered { host, .. }) => {
                self.given.entry(*host).or_default().insert(*id);
            }
            Event::Revocation(
                id,
                revocation::Event::Requested { secret, .. }
                | revocation::Event::ReplacementAwaited { secret, .. },
            ) => {
                self.revocations.insert(*id, *secret);
            }
            Event::Rotation(id, rotation::Event::Started { secret, .. }) => {
                self.note_rotation(*secret, *id);
            }
            _ => {}
        }
    }

    /// Names of the secret and the host that an event is about; empty for none.
    fn names_of(&self, whom: Whom) -> (&str, &str) {
        let name = whom.secret.and_then(|id| self.names.get(&id));
        let host = whom.host.and_then(|id| self.hosts.get(&id));
        (
            name.map_or("", |name| &**name),
            host.map_or("", |name| &**name),
        )
    }

    fn note_rotation(&mut self, secret: SecretId, rotation: RotationId) {
        if self.rotations.insert(rotation, secret).is_some() {
            return;
        }
        let last = self.last.entry(secret).or_default();
        let [oldest, before] = *last;
        *last = [before, Some(rotation)];
        if let Some(oldest) = oldest {
            self.rotations.remove(&oldest);
        }
    }

    /// Lets go of what nothing asks for after this event.
    fn forget(&mut self, event: &Event) {
        match event {
            Event::Host(id, host::Event::Evicted { .. }) => {
                self.given.remove(id);
            }
            Event::Revocation(id, revocation::Event::Closed) => {
                self.revocations.remove(id);
            }
            _ => {}
        }
    }

    /// Whose events an event goes back to; `None` when they are too many. What people, hosts and others at a
    /// store bring about goes back to nobody, as far as events tell.
    fn chain(&self, event: &Event, whom: Whom) -> Option<Arc<[SecretId]>> {
        let own = whom.secret.filter(|secret| match event {
            Event::Secret(..) | Event::Rotation(..) => true,
            Event::Revocation(id, _) => self.is_end_of_rotation(*secret, *id),
            _ => false,
        });
        let Some(secret) = own else {
            return Some(Arc::default());
        };
        let before = match event {
            Event::Secret(
                _,
                secret::Event::Registered { .. }
                | secret::Event::SpecChanged { .. }
                | secret::Event::ExternalChangeDetected { .. },
            ) => None,
            // A version is staged right before its rotation begins.
            Event::Secret(_, secret::Event::VersionStaged { rotation, .. }) => {
                let waiting = self.waiting.get(&secret);
                let led = waiting.filter(|waiting| event_rotation(waiting.slot) == *rotation);
                led.map(|waiting| &waiting.chain)
            }
            _ => self.chains.get(&secret),
        };
        let before = before.map(|chain| &**chain).unwrap_or_default();
        let is_short = before.len() < MAX_CHAIN;
        is_short.then(|| before.iter().copied().chain([secret]).collect())
    }

    /// Whether a revocation is of what a rotation replaced, so that it goes back to what led to that.
    fn is_end_of_rotation(&self, secret: SecretId, revocation: RevocationId) -> bool {
        let last = self.last.get(&secret).into_iter().flatten().flatten();
        last.copied()
            .any(|rotation| lease::end_of(rotation) == revocation)
    }

    fn wait(&mut self, secret: SecretId, waiting: Waiting) {
        match self.waiting.entry(secret) {
            Entry::Vacant(entry) => {
                entry.insert(waiting);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                for rule in waiting.rules {
                    if !known.rules.contains(&rule) {
                        known.rules.push(rule);
                    }
                }
                let is_new = |link: &SecretId| !known.chain.contains(link);
                let links: Vec<SecretId> = waiting.chain.iter().copied().filter(is_new).collect();
                if !links.is_empty() {
                    let all = known.chain.iter().copied().chain(links);
                    known.chain = all.take(MAX_CHAIN).collect();
                }
            }
        }
    }

    /// How long after the last promotion what waits begins at the earliest, by the rules of now.
    fn rest(&self, waiting: &Waiting, policy: &RotationPolicy) -> Duration {
        let is_meant = |rule: &&OnEvent| {
            let number = self.watches.number(rule);
            number.is_some_and(|number| waiting.rules.contains(&number))
        };
        let rests = policy.on_event.iter().filter(is_meant).map(OnEvent::rest);
        rests.min().unwrap_or(EVENT_HOLD_OFF)
    }

    /// Whether a slot is what waits for a secret.
    pub(super) fn is_waiting(&self, secret: SecretId, slot: SlotId) -> bool {
        let waiting = self.waiting.get(&secret);
        waiting.is_some_and(|waiting| waiting.slot == slot)
    }

    /// How often what waits for a secret was refused.
    pub(super) fn refusals(&self, secret: SecretId) -> u32 {
        let waiting = self.waiting.get(&secret);
        waiting.map_or(0, |waiting| waiting.refusals)
    }
}

/// The same signal as it was taken first, of one that says what came of its comparison later: what that led to it does
/// not lead to again.
fn told_before(event: &Event) -> Option<Event> {
    let Event::Signal(id, event) = event else {
        return None;
    };
    Some(Event::Signal(*id, event.as_first()?))
}

impl Timers {
    /// Folds one event of the log, with its place there, as [`Timers::apply`] does, and notes the secrets it
    /// leads to.
    pub fn fold(&mut self, place: (u64, EventId), time: Timestamp, event: &Event) {
        let whom = self.whom(event);
        if self.rules.learns {
            self.rules.learn(event);
        }
        self.apply(time, event);
        let before = told_before(event);
        if self.rules.watches.has(type_name(event)) {
            self.observe(place, time, (event, before.as_ref()), whom);
        }
        if self.triggers.has(type_name(event)) {
            let facts = self.facts_of(place.1, time, event, whom);
            let (secret, host) = self.rules.names_of(whom);
            let said = Said {
                secret,
                host,
                event,
            };
            let first = before.as_ref().map(|event| {
                let facts = self.facts_of(place.1, time, event, Whom::default());
                let said = Said {
                    secret: "",
                    host: "",
                    event,
                };
                (facts, said)
            });
            let event = (place.0, time, type_name(event));
            let told = (&facts, &said);
            self.triggers
                .observe(event, told, first.as_ref(), &mut self.queue);
        }
        if self.rules.learns {
            self.rules.forget(event);
        }
    }

    /// Whether a rule came and names and places were not noted so far: the log up to here is to be read again
    /// for [`Timers::learn`] before anything else is folded. Without rules nothing is kept of them.
    #[must_use]
    pub fn lacks_names(&self) -> bool {
        let asks = !self.rules.watches.is_empty() || self.triggers.ask();
        !self.rules.learns && asks
    }

    /// Notes the names and places of an event that was folded; harmless when repeated.
    pub fn learn(&mut self, event: &Event) {
        self.rules.learn(event);
        self.rules.forget(event);
    }

    /// Everything that was folded is learned; what is folded from here on is, too.
    pub fn learned(&mut self) {
        self.rules.learns = true;
    }

    /// How many conditions on events are not asked, since there are too many.
    #[must_use]
    pub fn surplus_conditions(&self) -> usize {
        self.rules.watches.surplus()
    }

    /// Whom an event is about, as known before it is folded: the end of a rotation is still about its secret, and
    /// so is what comes after that end.
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
                    _ => {
                        let open = self.rotations.get(id);
                        open.or_else(|| self.rules.rotations.get(id)).copied()
                    }
                },
                host: match event {
                    rotation::Event::HostBarrierAcknowledged { host }
                    | rotation::Event::HostReleased { host } => Some(*host),
                    _ => None,
                },
            },
            Event::Revocation(id, event) => Whom {
                secret: match event {
                    revocation::Event::Requested { secret, .. }
                    | revocation::Event::ReplacementAwaited { secret, .. } => Some(*secret),
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
            Event::Signal(_, event) => Whom {
                secret: event.secret(),
                host: None,
            },
            Event::Binding(..)
            | Event::Assignment(..)
            | Event::Store(..)
            | Event::Rollout(..)
            | Event::Notification(..)
            | Event::Playbook(..)
            | Event::PlaybookRun(..)
            | Event::Policy(..)
            | Event::Token(..)
            | Event::Approval(..) => Whom::default(),
        }
    }

    /// An event as conditions ask about it.
    fn facts_of(&self, id: EventId, time: Timestamp, event: &Event, whom: Whom) -> Facts {
        let (secret, host) = self.rules.names_of(whom);
        let about = About {
            id: &id.to_string(),
            type_name: type_name(event),
            subject: &subject(event),
            time: &instant(time),
            secret,
            host,
        };
        Facts::of(about, &data(event))
    }

    fn observe(
        &mut self,
        (number, id): (u64, EventId),
        time: Timestamp,
        (event, before): (&Event, Option<&Event>),
        whom: Whom,
    ) {
        let Some(chain) = self.rules.chain(event, whom) else {
            return;
        };
        let facts = self.facts_of(id, time, event, whom);
        let (name, _) = self.rules.names_of(whom);
        let given = whom.host.and_then(|id| self.rules.given.get(&id));
        let watches = &self.rules.watches;
        // What the first word of it meant waits, or was served.
        let meant_before = before.map(|first| {
            let facts = self.facts_of(id, time, first, Whom::default());
            watches.meant((type_name(first), ""), &facts, None)
        });
        let meant_before = meant_before.unwrap_or_default();
        for (secret, rule) in watches.meant((type_name(event), name), &facts, given) {
            if chain.contains(&secret) || meant_before.contains(&(secret, rule)) {
                continue;
            }
            let waiting = Waiting {
                slot: event_slot(secret, id),
                number,
                time,
                rules: vec![rule],
                chain: Arc::clone(&chain),
                refusals: 0,
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
        let rest = self.rules.rest(waiting, &known.policy);
        let rested = known.anchors.moved().plus(rest);
        let delay = jitter(waiting.slot, known.policy.jitter);
        let due = waiting.time.max(rested).plus(delay);
        self.queue.set(Key::OnEvent(id), due);
    }

    /// What waits for a secret has waited long enough, unless windows and freezes hold it on. Where they
    /// never allow it, it waits for another policy, without a timer.
    pub(super) fn fire_event(&mut self, id: SecretId, now: Timestamp) -> Option<Command> {
        let known = self.secrets.get(&id)?;
        let waiting = self.rules.waiting.get(&id)?;
        match plan::gate(&known.policy, now, known.anchors.born()) {
            Gate::Open(_) => Some(Command::Due {
                rotation: event_rotation(waiting.slot),
                secret: id,
                slot: waiting.slot,
                scheduled: waiting.time,
                after: Some(waiting.number),
                // Its time is the event's.
                tzdata: None,
            }),
            Gate::Until(opening) => {
                let delay = jitter(waiting.slot, opening.spread(known.policy.jitter));
                self.queue.set(Key::OnEvent(id), opening.at.plus(delay));
                None
            }
            Gate::Never => None,
        }
    }

    /// What waits for a secret was refused. What serves it, or forbids it, is in the log or comes there; until
    /// then it waits on, and the end of an open rotation sets its timer.
    pub(super) fn refuse_event(&mut self, id: SecretId, slot: SlotId, now: Timestamp) {
        let waiting = self.rules.waiting.get_mut(&id);
        let Some(waiting) = waiting.filter(|waiting| waiting.slot == slot) else {
            return;
        };
        waiting.refusals = waiting.refusals.saturating_add(1);
        let delay = match waiting.refusals {
            few if few <= QUICK_REFUSALS => retry_delay(few),
            _ => REFUSED_REST,
        };
        let known = self.secrets.get(&id);
        if known.is_some_and(|known| known.open.is_none() && known.has_generator) {
            self.queue.set(Key::OnEvent(id), now.plus(delay));
        }
    }
}
