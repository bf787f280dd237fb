//! The queue of timers: a pure fold of events, and what is due at an instant.
//!
//! Invariants: at most one timer per key; a secret with an open rotation has no slot timer; closing
//! a rotation or revocation clears its timers. A slot counts as served once a rotation of its
//! secret has started or ended at or after it, however that one came about. A slot that is due where its
//! policy allows none (the scheduler was away, a freeze came later) counts as missed. A rotation's
//! deadline is submitted again only while it waits for one, the end of a lease only while it is kept. What events
//! lead to is in `events`.

mod backoff;
mod events;
mod policies;
mod queue;
mod runs;
#[cfg(test)]
mod tests;
mod triggers;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::id::{PlaybookId, RevocationId, RotationId, RunId, SecretId};
use keywheel_core::rotation::Intervention;
use keywheel_core::schedule::{MissedRun, RotationPolicy, Schedule};
use keywheel_core::time::Timestamp;
use keywheel_core::{revocation, rotation, secret};
use keywheel_engine::anchors::Anchors;

use crate::schedule::plan::{self, Gate, Opening};
use crate::schedule::{jitter, next_fire, slot_id, slot_rotation, tzdata};
pub use backoff::{RETRY_BASE, RETRY_CAP, retry_delay};
use events::Rules;
pub use events::{LAST_ROTATIONS, MAX_CHAIN, QUICK_REFUSALS, REFUSED_REST};
use policies::Policies;
use queue::Queue;
use runs::Runs;
use triggers::Triggers;
pub use watches::MAX_CONDITIONS;

/// How late a slot may fire and still count as in time.
pub const MISSED_GRACE: Duration = Duration::from_secs(60);
/// How long after a refused deadline it is submitted again, for gateways whose clock lags.
pub const DEADLINE_RETRY: Duration = Duration::from_secs(1);

/// What a timer stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The next slot of a secret.
    Slot(SecretId),
    /// The end of a rotation's wait for consumers or sessions, of a grace, or of the wait for hosts before a cut-over.
    Deadline(RotationId),
    /// A rotation's failed step, or its next question for sessions.
    Step(RotationId),
    /// A revocation's failed attempt.
    Revoke(RevocationId),
    /// The end of the time for which a lease is kept without its container.
    Linger(SecretId),
    /// An event that leads to a rotation of a secret.
    OnEvent(SecretId),
    /// The end of the time of a playbook run's step.
    Playbook(RunId),
    /// An event or a slot that begins a run of a playbook.
    PlaybookStart(PlaybookId),
}

/// A timer that ran out, and the command it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// What ran out.
    pub key: Key,
    /// When it was due, jitter included.
    pub due: Timestamp,
    /// What to submit.
    pub command: Command,
    /// How often the same was refused before and is asked for anew.
    pub attempt: u32,
}

#[derive(Debug, Clone)]
struct Scheduled {
    policy: Arc<RotationPolicy>,
    has_generator: bool,
    /// What fires count from.
    anchors: Anchors,
    open: Option<RotationId>,
    slot: Option<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    scheduled: Timestamp,
    is_catch_up: bool,
}

/// All timers.
#[derive(Debug, Clone, Default)]
pub struct Timers {
    queue: Queue,
    policies: Policies,
    secrets: BTreeMap<SecretId, Scheduled>,
    rotations: BTreeMap<RotationId, SecretId>,
    /// Until when rotations wait for consumers or hosts, while they do.
    deadlines: BTreeMap<RotationId, Timestamp>,
    /// When a grace ends their wait instead.
    graces: BTreeMap<RotationId, Timestamp>,
    /// Until when leases are kept without their containers, while they are.
    lingers: BTreeMap<SecretId, Timestamp>,
    unsettled: BTreeSet<SecretId>,
    rules: Rules,
    /// Release of the time zone rules by which slots are computed, as told; empty before.
    zones: String,
    runs: Runs,
    triggers: Triggers,
}

impl Timers {
    /// No timers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells by which release of the time zone rules slots are computed from now on: what fires names it.
    pub fn set_zones(&mut self, release: &str) {
        if self.zones != release {
            release.clone_into(&mut self.zones);
        }
    }

    /// How many timers are set, slots that wait for [`Timers::settle`] not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.len() == 0
    }

    /// Folds one event with the time of its decision; total. Slots are computed by
    /// [`Timers::settle`], so that reading a long log does not compute each slot that has passed.
    pub fn apply(&mut self, time: Timestamp, event: &Event) {
        match event {
            Event::Secret(id, event) => self.apply_secret(time, *id, event),
            Event::Rotation(id, event) => self.apply_rotation(time, *id, event),
            Event::Revocation(id, event) => self.apply_revocation(time, *id, event),
            Event::PlaybookRun(id, event) => {
                self.runs.apply(*id, event, &mut self.queue);
                self.triggers.begun(time, event, &mut self.queue);
            }
            Event::Playbook(id, event) => {
                self.triggers.apply(time, *id, event, &mut self.queue);
            }
            Event::Binding(..)
            | Event::Assignment(..)
            | Event::Host(..)
            | Event::Store(..)
            | Event::Rollout(..)
            | Event::Notification(..)
            | Event::Signal(..)
            | Event::Policy(..)
            | Event::Token(..)
            | Event::Approval(..) => {}
        }
    }

    fn apply_secret(&mut self, time: Timestamp, id: SecretId, event: &secret::Event) {
        match event {
            secret::Event::Registered { spec, .. } => {
                self.rules.change(id, None, &spec.rotation);
                let fresh = Scheduled {
                    policy: self.policies.share(&spec.rotation),
                    has_generator: spec.generator.is_some(),
                    anchors: Anchors::registered_at(time),
                    open: None,
                    slot: None,
                };
                self.secrets.insert(id, fresh);
            }
            secret::Event::SpecChanged { spec } => {
                let Some(known) = self.secrets.get_mut(&id) else {
                    return;
                };
                self.rules.change(id, Some(&known.policy), &spec.rotation);
                known.has_generator = spec.generator.is_some();
                // What only holds fires back lets a slot wait on.
                if !known.policy.wants_like(&spec.rotation) {
                    known.anchors.serve(time);
                }
                known.policy = self.policies.share(&spec.rotation);
            }
            secret::Event::VersionPromoted { version } => {
                let Some(known) = self.secrets.get_mut(&id) else {
                    return;
                };
                known.anchors.promote(time, *version);
            }
            secret::Event::VersionRevoked { version } => {
                if let Some(known) = self.secrets.get_mut(&id) {
                    known.anchors.revoke(*version);
                }
                return;
            }
            secret::Event::LeaseLingering { until } => {
                self.lingers.insert(id, *until);
                self.queue.set(Key::Linger(id), *until);
                return;
            }
            secret::Event::LeaseResumed | secret::Event::LeaseEnded => {
                self.lingers.remove(&id);
                self.queue.clear(Key::Linger(id));
                return;
            }
            _ => return,
        }
        self.unsettled.insert(id);
    }

    fn apply_rotation(&mut self, time: Timestamp, id: RotationId, event: &rotation::Event) {
        match event {
            rotation::Event::Started {
                secret, trigger, ..
            } => {
                self.rules.serve(*secret, trigger);
                self.rotations.insert(id, *secret);
                self.unsettled.insert(*secret);
                if let Some(known) = self.secrets.get_mut(secret) {
                    known.open = Some(id);
                    known.anchors.serve(time);
                }
            }
            rotation::Event::StepStarted { step, .. } => {
                self.queue.clear(Key::Step(id));
                // Sessions are waited for up to the same deadline as consumers.
                if *step != rotation::Step::Drain {
                    self.clear_deadline(id);
                }
            }
            rotation::Event::StepFailed { attempt, .. } => {
                self.queue
                    .set(Key::Step(id), time.plus(retry_delay(*attempt)));
            }
            rotation::Event::SessionsLeft { attempt, .. } => {
                self.queue
                    .set(Key::Step(id), time.plus(retry_delay(*attempt)));
                self.end_grace(id);
            }
            // Where sessions are waited for beyond it, they alone end the wait.
            rotation::Event::DeadlinePassed => self.clear_deadline(id),
            rotation::Event::StagingStarted { deadline, .. }
            | rotation::Event::CanaryStarted { deadline, .. }
            | rotation::Event::CanaryWatched { until: deadline }
            | rotation::Event::DistributionStarted { deadline, .. }
            | rotation::Event::DeadlineMoved { deadline } => self.set_deadline(id, *deadline),
            rotation::Event::TurnedBack { deadline, .. } => {
                self.queue.clear(Key::Step(id));
                self.set_deadline(id, *deadline);
                // Where only canaries had it, nothing is promoted that would tell.
                self.rest(time, id);
            }
            rotation::Event::SessionsUntold { until, .. } => {
                self.queue.clear(Key::Step(id));
                self.graces.insert(id, *until);
                self.queue.set(Key::Deadline(id), *until);
            }
            rotation::Event::Reopened {
                secret, deadline, ..
            } => {
                self.rotations.insert(id, *secret);
                self.unsettled.insert(*secret);
                if let Some(known) = self.secrets.get_mut(secret) {
                    known.open = Some(id);
                }
                self.set_deadline(id, *deadline);
            }
            rotation::Event::Intervened {
                intervention: Intervention::Abort,
                ..
            } => self.rest(time, id),
            rotation::Event::Closed { .. } => self.close_rotation(time, id),
            _ => {}
        }
    }

    /// Containers were moved for nothing, or a person said no: ages rest for a while.
    fn rest(&mut self, time: Timestamp, id: RotationId) {
        let secret = self.rotations.get(&id);
        if let Some(known) = secret.and_then(|secret| self.secrets.get_mut(secret)) {
            known.anchors.stop(time);
        }
    }

    /// The server tells its sessions again: the deadline counts, which a grace had stood in for.
    fn end_grace(&mut self, id: RotationId) {
        if self.graces.remove(&id).is_none() {
            return;
        }
        match self.deadlines.get(&id) {
            Some(deadline) => self.queue.set(Key::Deadline(id), *deadline),
            None => self.queue.clear(Key::Deadline(id)),
        }
    }

    fn set_deadline(&mut self, id: RotationId, deadline: Timestamp) {
        self.graces.remove(&id);
        self.deadlines.insert(id, deadline);
        self.queue.set(Key::Deadline(id), deadline);
    }

    fn waits_until(&self, id: RotationId) -> Option<Timestamp> {
        let grace = self.graces.get(&id);
        grace.or_else(|| self.deadlines.get(&id)).copied()
    }

    fn clear_deadline(&mut self, id: RotationId) {
        self.graces.remove(&id);
        self.deadlines.remove(&id);
        self.queue.clear(Key::Deadline(id));
    }

    fn close_rotation(&mut self, time: Timestamp, id: RotationId) {
        self.queue.clear(Key::Step(id));
        self.clear_deadline(id);
        let Some(secret) = self.rotations.remove(&id) else {
            return;
        };
        self.unsettled.insert(secret);
        if let Some(known) = self.secrets.get_mut(&secret) {
            known.open = known.open.filter(|open| *open != id);
            known.anchors.serve(time);
        }
    }

    fn apply_revocation(&mut self, time: Timestamp, id: RevocationId, event: &revocation::Event) {
        match event {
            revocation::Event::BackendFailed { attempt, .. }
            | revocation::Event::StillAccepted { attempt, .. } => {
                self.queue
                    .set(Key::Revoke(id), time.plus(retry_delay(*attempt)));
            }
            revocation::Event::BackendRetried { .. }
            | revocation::Event::BackendConfirmed
            | revocation::Event::ProvenDead { .. }
            | revocation::Event::NotProvable { .. }
            | revocation::Event::Destroyed
            | revocation::Event::Forgotten { .. }
            | revocation::Event::Closed => self.queue.clear(Key::Revoke(id)),
            revocation::Event::Requested { .. }
            | revocation::Event::WithdrawnOnHost { .. }
            | revocation::Event::WithdrawnEverywhere
            | revocation::Event::ForgetAsked { .. }
            | revocation::Event::ReplacementAwaited { .. }
            | revocation::Event::ReplacementGivenUp { .. }
            | revocation::Event::HostReleased { .. } => {}
        }
    }

    /// Has the next slot of every secret computed anew: the rules for time zones changed.
    pub fn unsettle_all(&mut self) {
        self.unsettled.extend(self.secrets.keys().copied());
    }

    /// Computes the next slot of every secret that events have touched.
    pub fn settle(&mut self) {
        for id in std::mem::take(&mut self.unsettled) {
            self.arm_slot(id);
            self.arm_event(id);
        }
    }

    fn arm_slot(&mut self, id: SecretId) {
        let Some(known) = self.secrets.get_mut(&id) else {
            return;
        };
        let may_fire = known.open.is_none() && known.has_generator;
        let next = may_fire
            .then(|| next_fire(&known.policy, known.anchors.served(), &known.anchors))
            .flatten();
        known.slot = next.map(|fire| Slot {
            scheduled: fire.at,
            is_catch_up: false,
        });
        match next {
            None => self.queue.clear(Key::Slot(id)),
            Some(fire) => {
                let delay = jitter(slot_id(id, fire.at), fire.spread(known.policy.jitter));
                self.queue.set(Key::Slot(id), fire.at.plus(delay));
            }
        }
    }

    /// When the next timer runs out.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|(due, _)| due)
    }

    /// When a secret's next slot is due before jitter, if it has one.
    #[must_use]
    pub fn next_slot(&self, secret: SecretId) -> Option<Timestamp> {
        self.secrets.get(&secret)?.slot.map(|slot| slot.scheduled)
    }

    /// Takes one timer that has run out; it is not set any more. Missed slots are passed over or
    /// caught up by their secret's policy.
    pub fn pop(&mut self, now: Timestamp) -> Option<Fired> {
        while let Some((due, key)) = self.queue.first().filter(|(due, _)| *due <= now) {
            self.queue.clear(key);
            let command = match key {
                Key::Slot(secret) => self.fire_slot(secret, due, now),
                Key::Deadline(rotation) => Some(Command::DeadlinePassed { rotation }),
                Key::Step(rotation) => Some(Command::RetryStep { rotation }),
                Key::Revoke(revocation) => Some(Command::RetryRevoke { revocation }),
                Key::Linger(secret) => Some(Command::LingerEnded { secret }),
                Key::OnEvent(secret) => self.fire_event(secret, now),
                Key::Playbook(run) => self.runs.fire(run),
                Key::PlaybookStart(id) => self.triggers.fire(id, now, &mut self.queue),
            };
            if let Some(command) = command {
                let attempt = match key {
                    Key::OnEvent(secret) => self.rules.refusals(secret),
                    _ => 0,
                };
                return Some(Fired {
                    key,
                    due,
                    command,
                    attempt,
                });
            }
        }
        None
    }

    fn fire_slot(&mut self, id: SecretId, due: Timestamp, now: Timestamp) -> Option<Command> {
        let known = self.secrets.get_mut(&id)?;
        let slot = known.slot?;
        let in_time = slot.is_catch_up || now.since(due) <= MISSED_GRACE;
        let opening = match plan::gate(&known.policy, now, known.anchors.born()) {
            Gate::Open(_) if in_time => {
                return Some(Command::Due {
                    rotation: slot_rotation(id, slot.scheduled),
                    secret: id,
                    slot: slot_id(id, slot.scheduled),
                    scheduled: slot.scheduled,
                    after: None,
                    tzdata: tzdata::named(&known.policy, &self.zones),
                });
            }
            Gate::Open(until) => Some(Opening { at: now, until }),
            Gate::Until(opening) => Some(opening),
            Gate::Never => None,
        };
        let is_caught_up = known.policy.missed_run == MissedRun::Once;
        let Some(opening) = opening.filter(|_| is_caught_up) else {
            known.anchors.serve(now);
            self.arm_slot(id);
            return None;
        };
        // After a long pause everyone is late at once; the slot's own jitter spreads them again.
        let delay = jitter(
            slot_id(id, slot.scheduled),
            opening.spread(known.policy.jitter),
        );
        known.slot = Some(Slot {
            is_catch_up: true,
            ..slot
        });
        self.queue.set(Key::Slot(id), opening.at.plus(delay));
        None
    }

    /// Notes that a command was refused for good: the slot is over, a lagging deadline comes again, and so do the
    /// end of a lease that is still kept and what an event leads to.
    pub fn refused(&mut self, fired: &Fired, now: Timestamp) {
        match (&fired.command, fired.key) {
            (Command::Due { scheduled, .. }, Key::Slot(id)) => {
                if let Some(known) = self.secrets.get_mut(&id) {
                    known.anchors.serve(*scheduled);
                    if counts_from_promotion(&known.policy) {
                        known.anchors.serve(now);
                    }
                }
                self.arm_slot(id);
            }
            (Command::Due { slot, .. }, Key::OnEvent(id)) => self.refuse_event(id, *slot, now),
            (_, Key::Deadline(id)) => {
                // One that moved meanwhile is not forgotten.
                if let Some(deadline) = self.waits_until(id) {
                    let again = now.plus(DEADLINE_RETRY).max(deadline);
                    self.queue.set(fired.key, again);
                }
            }
            (_, Key::Linger(id)) => {
                if let Some(until) = self.lingers.get(&id) {
                    let again = now.plus(DEADLINE_RETRY).max(*until);
                    self.queue.set(fired.key, again);
                }
            }
            (_, Key::Playbook(id)) => self.runs.ask_again(id, now, &mut self.queue),
            (command, Key::PlaybookStart(id)) => {
                self.triggers.refused(id, command, &mut self.queue);
            }
            _ => {}
        }
    }

    /// Notes that nobody answered: the same is submitted again after a delay, unless an event made
    /// it void meanwhile; then `false`.
    pub fn unanswered(&mut self, fired: &Fired, now: Timestamp, delay: Duration) -> bool {
        let is_open = match fired.key {
            Key::Slot(id) => {
                let known = self.secrets.get_mut(&id);
                let slot =
                    known.and_then(|known| known.slot.as_mut().filter(|_| known.open.is_none()));
                let meant = |slot: &&mut Slot| matches!(&fired.command, Command::Due { scheduled, .. } if *scheduled == slot.scheduled);
                slot.filter(meant)
                    .map(|slot| slot.is_catch_up = true)
                    .is_some()
            }
            Key::Deadline(id) => self.waits_until(id).is_some(),
            Key::Step(id) => self.rotations.contains_key(&id),
            Key::Revoke(_) => true,
            Key::Linger(id) => self.lingers.contains_key(&id),
            Key::Playbook(id) => self.runs.is_open(id),
            Key::PlaybookStart(id) => self.triggers.waits(id, &fired.command),
            Key::OnEvent(id) => {
                let is_idle = |known: &Scheduled| known.open.is_none();
                let is_meant = matches!(&fired.command, Command::Due { slot, .. } if self.rules.is_waiting(id, *slot));
                is_meant && self.secrets.get(&id).is_some_and(is_idle)
            }
        };
        if is_open && !self.queue.contains(fired.key) {
            self.queue.set(fired.key, now.plus(delay));
        }
        is_open
    }
}

fn counts_from_promotion(policy: &RotationPolicy) -> bool {
    let is_interval = matches!(policy.schedule, Schedule::Interval(_));
    is_interval || policy.max_age.is_some() || policy.lifetime.is_some()
}
