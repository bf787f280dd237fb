//! Counts and spans over everything the log says, for whoever watches from outside. Pure.
//!
//! Invariants: a projection of the log and of nothing else, so every gateway has the same numbers and a
//! restart loses none; what it keeps besides them is bounded by what is open.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keywheel_core::assignment;
use keywheel_core::binding::Reload;
use keywheel_core::event::Event;
use keywheel_core::id::{RevocationId, RotationId, SecretId};
use keywheel_core::rotation::{Intervention, Outcome, Step, Trigger};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_core::{playbook_run, revocation, rotation, secret};

use crate::anchors::Anchors;
use crate::port::journal::RecordedEvent;

/// Upper bounds of a [`Spread`]'s buckets, in seconds: from a swap on this machine to half an hour.
pub const BOUNDS: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// What a restart of a consumer is put down to when its rotation is over already.
pub const LATE: &str = "late";

/// How spans of time are spread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// By the first bound that is not below; the last one is what is above all.
    buckets: [u64; BOUNDS.len() + 1],
    micros: u64,
}

impl Spread {
    /// Takes one more span.
    pub fn add(&mut self, span: Duration) {
        let seconds = span.as_secs_f64();
        let above = BOUNDS.iter().filter(|bound| **bound < seconds).count();
        if let Some(bucket) = self.buckets.get_mut(above) {
            *bucket += 1;
        }
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.micros = self.micros.saturating_add(micros);
    }

    /// Takes all spans of another one, too.
    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *own = own.saturating_add(*more);
        }
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// How many spans there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        Duration::from_micros(self.micros)
    }

    /// For each bound, how many spans are not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS
            .into_iter()
            .zip(&self.buckets)
            .scan(0, |sum, (bound, n)| {
                *sum += n;
                Some((bound, *sum))
            })
    }
}

/// What the log says in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rotations that began, by what led to them.
    pub started: BTreeMap<&'static str, u64>,
    /// Rotations that ended, by how: from the request to the end. One that was parked and went on ends
    /// again.
    pub closed: BTreeMap<&'static str, Spread>,
    /// Steps that were done: from the first attempt's start.
    pub steps: BTreeMap<&'static str, Spread>,
    /// Attempts that failed, by step.
    pub failures: BTreeMap<&'static str, u64>,
    /// From a promotion to the moment a running consumer's copy was replaced, by its host's clock.
    pub propagation: Spread,
    /// Cut-overs: how long consumers were behind the server.
    pub gaps: Spread,
    /// Consumers that were restarted to take a new version, by what led to it.
    pub restarts: BTreeMap<&'static str, u64>,
    /// Consumers that were not served.
    pub refused: u64,
    /// Revocations that ended: from the request to the end.
    pub revoked: Spread,
    /// Runs of playbooks that ended, by how.
    pub runs: BTreeMap<&'static str, u64>,
    secrets: BTreeMap<SecretId, Anchors>,
    open: BTreeMap<RotationId, Open>,
    /// The newest rotation of a secret, if it is parked, and when it was requested.
    parked: BTreeMap<SecretId, (RotationId, Timestamp)>,
    open_revocations: BTreeMap<RevocationId, Timestamp>,
    replaced: BTreeSet<assignment::Key>,
}

/// A rotation under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    secret: SecretId,
    requested: Timestamp,
    /// The word of what it does now, and since when.
    step: Option<(&'static str, Timestamp)>,
}

impl Tally {
    /// When a secret was declared.
    #[must_use]
    pub fn registered(&self, secret: SecretId) -> Option<Timestamp> {
        self.secrets.get(&secret).map(Anchors::registered)
    }

    /// When a secret's current version was promoted for the first time; a later version may have been
    /// revoked since.
    #[must_use]
    pub fn promoted(&self, secret: SecretId) -> Option<Timestamp> {
        self.secrets.get(&secret)?.promoted()
    }

    /// What the fires of a secret's policy count from.
    #[must_use]
    pub fn anchors(&self, secret: SecretId) -> Option<&Anchors> {
        self.secrets.get(&secret)
    }

    /// Takes an event; the world is as it was before.
    pub fn note(&mut self, before: &World, recorded: &RecordedEvent) {
        let at = recorded.time;
        match &recorded.event {
            Event::Secret(id, event) => self.note_secret(before, *id, event, at),
            Event::Assignment(key, event) => self.note_consumer(before, key, event),
            Event::Rotation(id, event) => {
                self.note_course(before, *id, event, at);
                self.note_rotation(*id, event, at);
            }
            Event::Revocation(id, event) => self.note_revocation(*id, event, at),
            Event::PlaybookRun(_, playbook_run::Event::Completed { outcome, .. }) => {
                *self.runs.entry(outcome.word()).or_default() += 1;
            }
            _ => {}
        }
    }

    fn note_secret(&mut self, before: &World, id: SecretId, event: &secret::Event, at: Timestamp) {
        if let secret::Event::Registered { .. } = event {
            self.secrets.insert(id, Anchors::registered_at(at));
            return;
        }
        let Some(anchors) = self.secrets.get_mut(&id) else {
            return;
        };
        match event {
            secret::Event::SpecChanged { spec } => {
                let known = before.secrets.get(&id);
                if known.is_some_and(|known| !spec.rotation.wants_like(&known.spec.rotation)) {
                    anchors.serve(at);
                }
            }
            secret::Event::VersionPromoted { version } => anchors.promote(at, *version),
            secret::Event::VersionRevoked { version } => anchors.revoke(*version),
            _ => {}
        }
    }

    /// What a rotation means for the fires of its secret.
    fn note_course(
        &mut self,
        before: &World,
        id: RotationId,
        event: &rotation::Event,
        at: Timestamp,
    ) {
        let secret = match event {
            rotation::Event::Started { secret, .. } => Some(*secret),
            _ => before.rotations.get(&id).map(|known| known.secret),
        };
        let Some(anchors) = secret.and_then(|secret| self.secrets.get_mut(&secret)) else {
            return;
        };
        match event {
            rotation::Event::Started { .. } | rotation::Event::Closed { .. } => anchors.serve(at),
            // Where only canaries go back, nothing is promoted that would tell.
            rotation::Event::TurnedBack { .. }
            | rotation::Event::Intervened {
                intervention: Intervention::Abort,
                ..
            } => anchors.stop(at),
            _ => {}
        }
    }

    fn note_consumer(&mut self, before: &World, key: &assignment::Key, event: &assignment::Event) {
        let known = before.assignments.get(key);
        match event {
            assignment::Event::Swapped { version, at } => {
                let Some(known) = known.filter(|known| known.holds > 0 && known.holds < *version)
                else {
                    return;
                };
                // What a canary has of a version was before that is promoted.
                let secret = before.secrets.get(&known.secret);
                let is_ahead = secret.is_some_and(|secret| secret.pending == Some(*version));
                // Of one that is current again: from when it became so.
                let anchors = self.secrets.get(&known.secret);
                if let Some(anchors) = anchors.filter(|_| !is_ahead) {
                    self.propagation.add(at.since(anchors.moved()));
                }
                self.replaced.insert(key.clone());
            }
            assignment::Event::Reloaded { .. } => {
                if self.replaced.remove(key) && restarts(before, key) {
                    let cause = known.map_or(LATE, |known| cause(before, known.secret));
                    *self.restarts.entry(cause).or_default() += 1;
                }
            }
            assignment::Event::Refused { .. } => self.refused += 1,
            assignment::Event::Withdrawn | assignment::Event::Vanished => {
                self.replaced.remove(key);
            }
            assignment::Event::Assigned { .. } | assignment::Event::ServiceNoted { .. } => {}
        }
    }

    fn note_rotation(&mut self, id: RotationId, event: &rotation::Event, at: Timestamp) {
        match event {
            rotation::Event::Started {
                secret, trigger, ..
            } => {
                *self.started.entry(trigger_word(trigger)).or_default() += 1;
                // Its own parked ones end with it, and none of them goes on.
                self.parked.remove(secret);
                let open = Open {
                    secret: *secret,
                    requested: at,
                    step: None,
                };
                self.open.insert(id, open);
            }
            rotation::Event::Reopened { secret, .. } => self.reopen(id, *secret, at),
            rotation::Event::StepStarted { step, .. } => self.begin(id, step_word(*step), at),
            rotation::Event::StepCompleted { .. } => self.end_step(id, at),
            rotation::Event::StepFailed { step, .. } => {
                *self.failures.entry(step_word(*step)).or_default() += 1;
            }
            rotation::Event::DistributionStarted { .. } => self.begin(id, DISTRIBUTE, at),
            rotation::Event::GapMeasured { since, until } => self.gaps.add(until.since(*since)),
            rotation::Event::Closed { outcome } => {
                self.end_step(id, at);
                if let Some(open) = self.open.remove(&id) {
                    let spread = self.closed.entry(outcome_word(outcome)).or_default();
                    spread.add(at.since(open.requested));
                    if *outcome == Outcome::Parked {
                        self.parked.insert(open.secret, (id, open.requested));
                    }
                }
            }
            _ => {}
        }
    }

    /// It counts from its first request, and waits for consumers again.
    fn reopen(&mut self, id: RotationId, secret: SecretId, at: Timestamp) {
        let parked = self.parked.remove(&secret);
        let parked = parked.filter(|(known, _)| *known == id);
        let open = Open {
            secret,
            requested: parked.map_or(at, |(_, requested)| requested),
            step: Some((DISTRIBUTE, at)),
        };
        self.open.insert(id, open);
    }

    /// A step that is tried again goes on; another one ends what was before it.
    fn begin(&mut self, id: RotationId, word: &'static str, at: Timestamp) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        match open.step {
            Some((now, _)) if now == word => {}
            _ => {
                self.end_step(id, at);
                if let Some(open) = self.open.get_mut(&id) {
                    open.step = Some((word, at));
                }
            }
        }
    }

    fn end_step(&mut self, id: RotationId, at: Timestamp) {
        let ended = self.open.get_mut(&id).and_then(|open| open.step.take());
        if let Some((word, since)) = ended {
            self.steps.entry(word).or_default().add(at.since(since));
        }
    }

    fn note_revocation(&mut self, id: RevocationId, event: &revocation::Event, at: Timestamp) {
        match event {
            revocation::Event::Requested { .. } | revocation::Event::ReplacementAwaited { .. } => {
                self.open_revocations.entry(id).or_insert(at);
            }
            revocation::Event::Closed => {
                if let Some(requested) = self.open_revocations.remove(&id) {
                    self.revoked.add(at.since(requested));
                }
            }
            _ => {}
        }
    }
}

/// Moving the consumers, among the words of steps.
pub const DISTRIBUTE: &str = "distribute";

/// A step's word.
#[must_use]
pub const fn step_word(step: Step) -> &'static str {
    match step {
        Step::Create => "create",
        Step::Set => "set",
        Step::Test => "test",
        Step::Finish => "finish",
        Step::RevokeOld => "revoke_old",
        Step::RollBack => "roll_back",
        Step::Drain => "drain",
    }
}

const fn trigger_word(trigger: &Trigger) -> &'static str {
    match trigger {
        Trigger::Initial => "initial",
        // A playbook asks as a person does.
        Trigger::OnDemand | Trigger::Playbook { .. } => "on_demand",
        Trigger::Provided => "provided",
        Trigger::Slot { .. } => "schedule",
        Trigger::External { .. } => "external",
    }
}

const fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::RolledBack => "rolled_back",
        Outcome::Parked => "parked",
        Outcome::Cancelled => "cancelled",
    }
}

fn restarts(world: &World, key: &assignment::Key) -> bool {
    let binding = world.bindings.get(&key.binding);
    let spec = binding.and_then(|binding| binding.spec.as_ref());
    spec.is_some_and(|spec| matches!(spec.reload, Reload::Restart { .. }))
}

fn cause(world: &World, secret: SecretId) -> &'static str {
    let open = world.open_rotation(secret);
    open.map_or(LATE, |rotation| trigger_word(&rotation.trigger))
}

#[cfg(test)]
mod tests;
