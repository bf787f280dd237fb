//! Which work waits and which runs: in order per secret, at once across secrets, bounded.
//!
//! Pure. Invariants: of one effect at most one copy waits or runs, however often it came; all its
//! copies are finished together; a store outside that is slow has a few places and leaves the rest to
//! others, and all of them together leave some to ours; a revocation goes before everything that may run.
//! A server whose accounts rotate, and a receiver, is a store outside here, whoever is admin there.
//! The line before a store outside is bounded apart from others', its revocations apart from its steps.
//! What finds it full is parked: it takes nobody's place and waits here only, since what is open is sent
//! again. Of what is parked there is a bound, too.

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
    /// What runs, and at which store outside.
    running: HashMap<SecretId, Option<Server>>,
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

/// Whether it is a revocation, and at which store outside.
type Place = (bool, Option<Server>);

/// Secrets in the order in which they became ready, apart by what their next job is and where.
///
/// A store that is full costs one look and not one for each that waits for it.
#[derive(Debug, Default)]
struct Ready {
    members: HashSet<SecretId>,
    queues: HashMap<Place, VecDeque<(u64, SecretId)>>,
    stamp: u64,
}

impl Ready {
    fn push(&mut self, secret: SecretId, revokes: bool, store: Option<Server>) {
        if self.members.insert(secret) {
            self.stamp += 1;
            let queue = self.queues.entry((revokes, store)).or_default();
            queue.push_back((self.stamp, secret));
        }
    }

    /// The one that waits longest of those whose store has a place; revocations first.
    fn pop(&mut self, has_place: impl Fn(Option<&Server>, bool) -> bool) -> Option<SecretId> {
        let oldest = |urgent: bool| {
            let queues = self.queues.iter();
            let fronts = queues.filter(|((revokes, store), _)| {
                *revokes == urgent && has_place(store.as_ref(), urgent)
            });
            let fronts = fronts.filter_map(|(key, queue)| Some((queue.front()?.0, key)));
            let (_, key) = fronts.min_by_key(|(stamp, _)| *stamp)?;
            Some(key.clone())
        };
        let key = oldest(true).or_else(|| oldest(false))?;
        let queue = self.queues.get_mut(&key)?;
        let (_, secret) = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        self.members.remove(&secret);
        Some(secret)
    }
}

/// Where an effect waits that is performed at a store outside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    store: Server,
    revokes: bool,
}

impl Line {
    fn of(effect: &Effect) -> Option<Self> {
        Some(Self {
            store: Server::of(effect)?,
            revokes: matches!(effect.work, Work::Revoke(_)),
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
        taken >= MAX_TAKEN_PER_STORE || outside >= MAX_TAKEN_OUTSIDE
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

    /// The next job that may run: a revocation before others, else the one that waits longest.
    pub(crate) fn start(&mut self) -> Option<Job> {
        let running = &self.running;
        let secret = self
            .ready
            .pop(|store, urgent| has_place(running, store, urgent))?;
        let queue = self.waiting.get_mut(&secret)?;
        let job = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&secret);
        }
        self.running.insert(secret, Server::of(&job.effect));
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
        let next = self.waiting.get(&secret).and_then(VecDeque::front);
        if let Some(next) = next
            && !self.running.contains_key(&secret)
        {
            let revokes = matches!(next.effect.work, Work::Revoke(_));
            self.ready.push(secret, revokes, Server::of(&next.effect));
        }
    }
}

/// Whether one more may run there, beside what runs. What is left for the local store is a revocation's, too: servers
/// that hang take no place from it.
fn has_place(
    running: &HashMap<SecretId, Option<Server>>,
    store: Option<&Server>,
    is_urgent: bool,
) -> bool {
    let Some(store) = store else {
        return true;
    };
    let outside = || running.values().flatten();
    (is_urgent || outside().count() < MAX_RUNNING_OUTSIDE)
        && outside().filter(|other| *other == store).count() < MAX_RUNNING_PER_STORE
}

#[cfg(test)]
mod tests {
    use keywheel_core::effect::{Outside, Part};
    use keywheel_core::id::{RevocationId, RotationId};
    use keywheel_core::rotation::Step;
    use keywheel_core::store::{
        AwsAuth, AwsSpec, Backend, DEFAULT_POLL, DEFAULT_TIMEOUT, NamedStore, Source, StoreSpec,
    };

    use super::*;

    fn job(secret: u8, attempt: u32) -> Job {
        let work = RevokeWork {
            revocation: RevocationId::from_bytes([secret; 16]),
            secret: SecretId::from_bytes([secret; 16]),
            versions: vec![1],
            attempt,
            outside: None,
            resource: None,
            part: Part::Whole,
            is_emergency: false,
        };
        Job {
            effect: Effect {
                work: Work::Revoke(work),
            },
            deadline: Timestamp::default(),
            is_first: true,
            traceparent: None,
        }
    }

    #[test]
    fn one_secret_goes_in_order_and_others_do_not_wait_for_it() {
        let mut backlog = Backlog::default();
        for (number, (secret, attempt)) in [(1, 1), (1, 2), (2, 1)].into_iter().enumerate() {
            backlog.admit(job(secret, attempt), number as u64);
        }
        assert_eq!(backlog.start(), Some(job(1, 1)));
        assert_eq!(backlog.start(), Some(job(2, 1)));
        assert_eq!(
            backlog.start(),
            None,
            "the second of secret 1 waits for the first"
        );
        assert_eq!(backlog.finish(&job(1, 1).effect), [0]);
        assert_eq!(backlog.start(), Some(job(1, 2)));
        assert_eq!(backlog.finish(&job(1, 2).effect), [1]);
        assert_eq!(backlog.finish(&job(2, 1).effect), [2]);
        assert_eq!(backlog.start(), None);
    }

    fn step_at(secret: u8, store: &str) -> Job {
        let work = StepWork {
            rotation: RotationId::from_bytes([secret; 16]),
            secret: SecretId::from_bytes([secret; 16]),
            step: Step::Set,
            attempt: 1,
            versions: vec![1],
            generator: None,
            provided: false,
            outside: Some(Box::new(at(store))),
            resource: None,
            mark: None,
        };
        Job {
            effect: Effect {
                work: Work::Step(work),
            },
            ..job(secret, 1)
        }
    }

    fn at(store: &str) -> Outside {
        let auth = AwsAuth::Chain {
            profile: String::new(),
        };
        let spec = StoreSpec {
            backend: Backend::Aws(AwsSpec {
                region: String::new(),
                endpoint: String::new(),
                auth,
            }),
            poll: DEFAULT_POLL,
            timeout: DEFAULT_TIMEOUT,
        };
        let name = StoreName::parse(store).unwrap();
        Outside {
            store: NamedStore { name, spec },
            source: Source::default(),
            known: None,
            fetch: None,
            retire: Vec::new(),
            unstage: None,
        }
    }

    #[test]
    fn all_stores_outside_together_leave_places_to_ours() {
        let mut backlog = Backlog::default();
        let stores = ["a", "b", "c", "d"];
        for secret in 0..16_u8 {
            let store = stores[usize::from(secret) % stores.len()];
            backlog.admit(step_at(secret, store), secret.into());
        }
        let started = std::iter::from_fn(|| backlog.start()).count();
        assert_eq!(started, MAX_RUNNING_OUTSIDE);
        backlog.admit(job(101, 1), 101);
        assert_eq!(backlog.start(), Some(job(101, 1)), "ours");
        // Nor do they keep a revocation elsewhere from its place.
        let mut revoked = job(102, 1);
        if let Work::Revoke(work) = &mut revoked.effect.work {
            work.outside = Some(Box::new(at("e")));
        }
        backlog.admit(revoked.clone(), 102);
        assert_eq!(backlog.start(), Some(revoked.clone()));
        backlog.finish(&revoked.effect);
        backlog.finish(&step_at(0, "a").effect);
        assert_eq!(backlog.start(), Some(step_at(12, "a")));
    }

    #[test]
    fn a_store_has_so_many_places_and_the_rest_is_for_others() {
        let mut backlog = Backlog::default();
        let many = u8::try_from(MAX_RUNNING_PER_STORE).unwrap() + 2;
        for secret in 1..=many {
            backlog.admit(step_at(secret, "slow"), secret.into());
        }
        backlog.admit(step_at(100, "other"), 100);
        backlog.admit(job(101, 1), 101);
        assert_eq!(
            backlog.start(),
            Some(job(101, 1)),
            "a revocation goes first"
        );
        for secret in 1..=many - 2 {
            assert_eq!(backlog.start(), Some(step_at(secret, "slow")));
        }
        assert_eq!(backlog.start(), Some(step_at(100, "other")));
        assert_eq!(backlog.start(), None);
        backlog.finish(&step_at(2, "slow").effect);
        assert_eq!(backlog.start(), Some(step_at(many - 1, "slow")));
        assert_eq!(backlog.start(), None);
        backlog.finish(&step_at(1, "slow").effect);
        let mut revokes = job(102, 1);
        let Work::Revoke(work) = &mut revokes.effect.work else {
            panic!("it revokes");
        };
        work.outside = Some(Box::new(at("slow")));
        backlog.admit(revokes.clone(), 102);
        assert_eq!(
            backlog.start(),
            Some(revokes),
            "before the step that waits longer"
        );
        assert_eq!(
            backlog.start(),
            None,
            "a revocation takes one of the places"
        );
    }

    /// A step of its own secret.
    fn numbered(number: u16, store: &str) -> Job {
        let mut job = step_at(0, store);
        let Work::Step(step) = &mut job.effect.work else {
            panic!("it is a step");
        };
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        (step.secret, step.rotation) = (SecretId::from_bytes(id), RotationId::from_bytes(id));
        job
    }

    #[test]
    fn the_line_before_a_store_is_bounded_and_its_revocations_have_their_own() {
        let mut backlog = Backlog::default();
        let limit = u16::try_from(MAX_TAKEN_PER_STORE).unwrap();
        for number in 0..limit {
            assert!(backlog.admit(numbered(number, "hung"), number.into()));
        }
        assert!(!backlog.admit(numbered(limit, "hung"), 7000));
        assert!(backlog.admit(numbered(0, "hung"), 7001), "one more copy");
        assert!(backlog.admit(numbered(limit + 1, "other"), 7002));
        let revocation = |secret: u8| {
            let mut job = job(secret, 1);
            if let Work::Revoke(work) = &mut job.effect.work {
                work.outside = Some(Box::new(at("hung")));
            }
            job
        };
        for secret in 0..u8::try_from(limit).unwrap() {
            assert!(backlog.admit(revocation(secret), 8000 + u64::from(secret)));
        }
        assert!(!backlog.admit(revocation(200), 9000));
        assert_eq!(backlog.len(), 2 * MAX_TAKEN_PER_STORE + 3, "two are parked");
        assert!(backlog.admit(numbered(limit, "hung"), 7003), "it is known");
        let ended = std::iter::from_fn(|| backlog.start())
            .find(|job| matches!(job.effect.work, Work::Revoke(_)))
            .unwrap();
        assert_eq!(backlog.finish(&ended.effect).len(), 1);
        assert!(backlog.admit(revocation(201), 9001), "one place is free");
        assert!(!backlog.admit(numbered(limit + 2, "hung"), 7004));
    }

    #[test]
    fn what_is_parked_runs_in_its_turn_and_is_bounded() {
        let mut backlog = Backlog::default();
        let all = u16::try_from(MAX_TAKEN_PER_STORE + MAX_PARKED + 1).unwrap();
        for number in 0..all {
            backlog.admit(numbered(number, "slow"), number.into());
        }
        assert_eq!(backlog.len(), MAX_TAKEN_PER_STORE + MAX_PARKED);
        assert!(backlog.has_room(), "it takes nobody's place");
        let (mut ended, mut copies) = (0, 0);
        while let Some(job) = backlog.start() {
            copies += backlog.finish(&job.effect).len();
            ended += 1;
        }
        assert_eq!(ended, MAX_TAKEN_PER_STORE + MAX_PARKED);
        assert_eq!(
            copies, MAX_TAKEN_PER_STORE,
            "of the others the bus has none"
        );
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn all_stores_outside_together_leave_room_to_ours() {
        let mut backlog = Backlog::default();
        let stores = MAX_QUEUED / MAX_TAKEN_PER_STORE;
        let mut taken = 0;
        for number in 0..u16::try_from(MAX_QUEUED).unwrap() {
            let store = format!("s{}", usize::from(number) % stores);
            taken += usize::from(backlog.admit(numbered(number, &store), number.into()));
        }
        assert_eq!(taken, MAX_TAKEN_OUTSIDE);
        assert!(backlog.has_room());
        assert!(backlog.admit(job(1, 1), 5000), "ours");
        let first = std::iter::from_fn(|| backlog.start())
            .find(|job| outside(&job.effect).is_some())
            .unwrap();
        assert!(!backlog.admit(numbered(6000, "new"), 6000));
        backlog.finish(&first.effect);
        assert!(backlog.admit(numbered(6001, "new"), 6001), "one is free");
        assert!(!backlog.admit(numbered(6002, "new"), 6002));
    }

    #[test]
    fn copies_of_one_effect_run_once_and_finish_together() {
        let mut backlog = Backlog::default();
        backlog.admit(job(1, 1), 7);
        backlog.admit(job(1, 1), 8);
        let running = backlog.start().unwrap();
        backlog.admit(job(1, 1), 7);
        backlog.admit(job(1, 1), 9);
        assert_eq!(backlog.start(), None);
        assert_eq!(backlog.finish(&running.effect), [7, 8, 9]);
        assert_eq!(backlog.start(), None);
        backlog.admit(job(1, 1), 10);
        assert!(
            backlog.start().is_some(),
            "what comes after the end runs again"
        );
    }

    #[test]
    fn the_latest_deadline_of_what_waits_counts_and_a_second_copy_makes_it_a_repeat() {
        let mut backlog = Backlog::default();
        let until = |micros| Job {
            deadline: Timestamp::from_micros(micros),
            ..job(1, 1)
        };
        for (sequence, micros) in [(1, 5), (2, 9), (3, 7)] {
            backlog.admit(until(micros), sequence);
        }
        let repeat = Job {
            is_first: false,
            ..until(9)
        };
        assert_eq!(backlog.start(), Some(repeat));
        backlog.admit(until(20), 4);
        assert_eq!(backlog.finish(&job(1, 1).effect), [1, 2, 3, 4]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut backlog = Backlog::default();
        for attempt in 0..u32::try_from(MAX_QUEUED).unwrap() {
            assert!(backlog.has_room());
            backlog.admit(job(1, attempt), attempt.into());
        }
        assert!(!backlog.has_room());
        let first = backlog.start().unwrap();
        assert!(!backlog.has_room());
        backlog.finish(&first.effect);
        assert!(backlog.has_room());
    }
}
