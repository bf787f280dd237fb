//! Which work waits and which runs: in order per secret, at once across secrets, bounded.
//!
//! Pure. Invariants: of one effect at most one copy waits or runs, however often it came; all its
//! copies are finished together; a store outside that is slow has a few places and leaves the rest to
//! others, and all of them together leave some to ours; a revocation goes before everything that may run, and
//! one in an emergency before other revocations: it has places of its own everywhere, and what its secret still
//! has to do before it goes with it.
//! A server whose accounts rotate, and a receiver, is a store outside here, whoever is admin there.
//! The line before a store outside is bounded apart from others', its revocations apart from its steps.
//! What finds it full is parked: it takes nobody's place and waits here only, since what is open is sent
//! again. Of what is parked there is a bound, too.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

use keywheel_core::effect::{Effect, Key, RevokeWork, StepWork, Work};
use keywheel_core::id::SecretId;
use keywheel_core::name::StoreName;
use keywheel_core::time::Timestamp;

use crate::effect::{outside, resource};

/// Effects that wait or run; more stay on the bus.
pub const MAX_QUEUED: usize = 1024;
/// Steps of one store outside that wait or run, and as many revocations; more are parked.
pub const MAX_TAKEN_PER_STORE: usize = 64;
/// Effects of all stores outside together that wait or run; more are parked.
pub const MAX_TAKEN_OUTSIDE: usize = 768;
/// Effects that are parked; more are left to be sent again.
pub const MAX_PARKED: usize = 1 << 14;
/// Effects performed at once at one store outside.
pub const MAX_RUNNING_PER_STORE: usize = 4;
/// Effects performed at once at all stores outside together; one server may be several stores.
pub const MAX_RUNNING_OUTSIDE: usize = 12;
/// Revocations in an emergency performed at once at one store outside, beside everything else there.
pub const MAX_EMERGENCIES_PER_STORE: usize = 16;

/// One effect to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) effect: Effect,
    /// The latest that a copy of it named.
    pub(crate) deadline: Timestamp,
    /// Whether nobody can have performed it before, in any attempt.
    pub(crate) is_first: bool,
    pub(crate) traceparent: Option<String>,
}

/// All work that was taken and is not finished.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Per secret, what waits behind what runs.
    waiting: HashMap<SecretId, VecDeque<Job>>,
    /// Secrets whose next job can run.
    ready: Ready,
    /// What runs, how urgent it is, and at which store outside.
    running: HashMap<SecretId, Place>,
    /// The bus's numbers of every copy of an effect.
    copies: HashMap<Key, Vec<u64>>,
    /// How many effects of a store outside wait or run and are not parked.
    lines: HashMap<Line, usize>,
    /// Effects whose line was full when they came.
    parked: HashSet<Key>,
}

/// What has places of its own: a declared store, or the server of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Server {
    Store(StoreName),
    /// By its kind and address, `postgres://db:5432`.
    OfAccounts(String),
}

impl Server {
    fn of(effect: &Effect) -> Option<Self> {
        if let Some(outside) = outside(effect) {
            return Some(Self::Store(outside.store.name.clone()));
        }
        let at = resource(effect)?;
        Some(Self::OfAccounts(at.resource.credential_server()))
    }
}

/// What goes before what; the later one goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Urgency {
    /// A step.
    Step,
    /// A revocation.
    Revocation,
    /// One that a person called an emergency.
    Emergency,
}

impl Urgency {
    const fn of(effect: &Effect) -> Self {
        match &effect.work {
            Work::Step(_) => Self::Step,
            Work::Revoke(RevokeWork {
                is_emergency: true, ..
            }) => Self::Emergency,
            Work::Revoke(_) => Self::Revocation,
        }
    }
}

/// How urgent it is, and at which store outside it is performed.
type Place = (Urgency, Option<Server>);

/// Secrets in the order in which they became ready, apart by what their next job is and where.
///
/// A store that is full costs one look and not one for each that waits for it.
#[derive(Debug, Default)]
struct Ready {
    members: HashMap<SecretId, Place>,
    queues: HashMap<Place, VecDeque<(u64, SecretId)>>,
    stamp: u64,
}

impl Ready {
    /// One that is there already stays in its place, unless it became more urgent.
    fn push(&mut self, secret: SecretId, place: Place) {
        match self.members.get(&secret) {
            Some(known) if known.0 >= place.0 => return,
            Some(known) => {
                let known = known.clone();
                self.leave(secret, &known);
            }
            None => {}
        }
        self.stamp += 1;
        self.members.insert(secret, place.clone());
        let queue = self.queues.entry(place).or_default();
        queue.push_back((self.stamp, secret));
    }

    fn leave(&mut self, secret: SecretId, place: &Place) {
        let Some(queue) = self.queues.get_mut(place) else {
            return;
        };
        queue.retain(|(_, other)| *other != secret);
        if queue.is_empty() {
            self.queues.remove(place);
        }
    }

    /// The most urgent one that waits longest of those whose store has a place, and that place.
    fn pop(&mut self, has_place: impl Fn(&Place) -> bool) -> Option<(SecretId, Place)> {
        let queues = self.queues.iter().filter(|(place, _)| has_place(place));
        let fronts = queues.filter_map(|(place, queue)| Some((queue.front()?.0, place)));
        let (_, place) = fronts.min_by_key(|(stamp, place)| (Reverse(place.0), *stamp))?;
        let place = place.clone();
        let queue = self.queues.get_mut(&place)?;
        let (_, secret) = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&place);
        }
        self.members.remove(&secret);
        Some((secret, place))
    }
}

/// Where an effect waits that is performed at a store outside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    store: Server,
    urgency: Urgency,
}

impl Line {
    fn of(effect: &Effect) -> Option<Self> {
        Some(Self {
            store: Server::of(effect)?,
            urgency: Urgency::of(effect),
        })
    }
}

/// The secret an effect is about.
pub(crate) const fn secret_of(effect: &Effect) -> SecretId {
    match &effect.work {
        Work::Step(step) => step.secret,
        Work::Revoke(revoke) => revoke.secret,
    }
}

/// Whether nothing of the same kind was tried before.
pub(crate) const fn is_first_attempt(effect: &Effect) -> bool {
    let (Work::Step(StepWork { attempt, .. }) | Work::Revoke(RevokeWork { attempt, .. })) =
        &effect.work;
    *attempt <= 1
}

impl Backlog {
    /// Whether more may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.copies.len() - self.parked.len() < MAX_QUEUED
    }

    /// How many effects wait or run.
    pub(crate) fn len(&self) -> usize {
        self.copies.len()
    }

    /// Takes a job, or one more copy of a job it has; `false` when this copy is done with on the bus:
    /// the line before its store is full.
    pub(crate) fn admit(&mut self, job: Job, sequence: u64) -> bool {
        let key = job.effect.key();
        if let Some(copies) = self.copies.get_mut(&key) {
            if !copies.contains(&sequence) {
                copies.push(sequence);
            }
            let waiting = self.waiting.get_mut(&secret_of(&job.effect));
            let same = |waits: &&mut Job| waits.effect == job.effect;
            if let Some(waits) = waiting.and_then(|queue| queue.iter_mut().find(same)) {
                waits.deadline = waits.deadline.max(job.deadline);
                // The other copy may have come to another store-sync before.
                waits.is_first = false;
            }
            return true;
        }
        let mut is_kept = true;
        if let Some(line) = Line::of(&job.effect) {
            is_kept = !self.is_full(&line);
            if is_kept {
                *self.lines.entry(line).or_default() += 1;
            } else if self.parked.len() >= MAX_PARKED {
                return false;
            } else {
                self.parked.insert(key.clone());
            }
        }
        let copies = if is_kept { vec![sequence] } else { Vec::new() };
        self.copies.insert(key, copies);
        let secret = secret_of(&job.effect);
        self.waiting.entry(secret).or_default().push_back(job);
        self.prepare(secret);
        is_kept
    }

    fn is_full(&self, line: &Line) -> bool {
        let taken = self.lines.get(line).copied().unwrap_or(0);
        let outside: usize = self.lines.values().sum();
        let is_crowded = outside >= MAX_TAKEN_OUTSIDE && line.urgency != Urgency::Emergency;
        taken >= MAX_TAKEN_PER_STORE || is_crowded
    }

    /// It waits and runs no more.
    fn leave_line(&mut self, effect: &Effect) {
        let Some(line) = Line::of(effect) else { return };
        if let Some(taken) = self.lines.get_mut(&line) {
            *taken -= 1;
            if *taken == 0 {
                self.lines.remove(&line);
            }
        }
    }

    /// The next job that may run: an emergency before a revocation, a revocation before others, else the one that
    /// waits longest.
    pub(crate) fn start(&mut self) -> Option<Job> {
        self.start_from(Urgency::Step)
    }

    /// The next job of an emergency that may run, or one that holds it up.
    pub(crate) fn start_emergency(&mut self) -> Option<Job> {
        self.start_from(Urgency::Emergency)
    }

    /// The next job that is at least so urgent and may run.
    fn start_from(&mut self, least: Urgency) -> Option<Job> {
        let running = &self.running;
        let may_run = |place: &Place| place.0 >= least && has_place(running, place);
        let (secret, place) = self.ready.pop(may_run)?;
        let queue = self.waiting.get_mut(&secret)?;
        let job = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&secret);
        }
        self.running.insert(secret, place);
        Some(job)
    }

    /// A job ended, well or not; gives the bus's numbers of all its copies.
    pub(crate) fn finish(&mut self, effect: &Effect) -> Vec<u64> {
        let secret = secret_of(effect);
        self.running.remove(&secret);
        self.prepare(secret);
        let Some(copies) = self.copies.remove(&effect.key()) else {
            return Vec::new();
        };
        if !self.parked.remove(&effect.key()) {
            self.leave_line(effect);
        }
        copies
    }

    fn prepare(&mut self, secret: SecretId) {
        let waiting = self.waiting.get(&secret);
        if let Some(waiting) = waiting
            && let Some(next) = waiting.front()
            && !self.running.contains_key(&secret)
        {
            // Of one secret all goes in order: what an emergency waits behind is as urgent as it is.
            let is_held_up = |job: &Job| Urgency::of(&job.effect) == Urgency::Emergency;
            let urgency = match waiting.iter().any(is_held_up) {
                true => Urgency::Emergency,
                false => Urgency::of(&next.effect),
            };
            self.ready.push(secret, (urgency, Server::of(&next.effect)));
        }
    }
}

/// Whether one more may run there, beside what runs. What is left for the local store is a revocation's, too: servers
/// that hang take no place from it. An emergency takes none of others' places.
fn has_place(running: &HashMap<SecretId, Place>, (urgency, store): &Place) -> bool {
    let Some(store) = store else {
        return true;
    };
    if *urgency == Urgency::Emergency {
        let there = outside_of(running, true).filter(|other| *other == store);
        return there.count() < MAX_EMERGENCIES_PER_STORE;
    }
    let there = outside_of(running, false).filter(|other| *other == store);
    let is_roomy = outside_of(running, false).count() < MAX_RUNNING_OUTSIDE;
    (is_roomy || *urgency != Urgency::Step) && there.count() < MAX_RUNNING_PER_STORE
}

/// At which stores outside emergencies run, or all else.
fn outside_of(
    running: &HashMap<SecretId, Place>,
    is_emergency: bool,
) -> impl Iterator<Item = &Server> {
    let meant = running
        .values()
        .filter(move |(urgency, _)| (*urgency == Urgency::Emergency) == is_emergency);
    meant.filter_map(|(_, store)| store.as_ref())
}

#[cfg(test)]
mod tests;
