//! Which work waits and which runs: in order per secret, at once across secrets, bounded.
//!
//! Pure. Invariants: of one effect at most one copy waits or runs, however often it came; all its
//! copies are finished together; a store outside that is slow has a few places and leaves the rest to
//! others, and all of them together leave some to ours; a revocation goes before everything that may run.

use std::collections::{HashMap, VecDeque};

use keywheel_core::effect::{Effect, Key, Work};
use keywheel_core::id::SecretId;
use keywheel_core::name::StoreName;
use keywheel_core::time::Timestamp;

use crate::effect::outside;

/// Effects that wait or run; more stay on the bus.
pub const MAX_QUEUED: usize = 1024;
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
    pub(crate) traceparent: Option<String>,
}

/// All work that was taken and is not finished.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Per secret, what waits behind what runs.
    waiting: HashMap<SecretId, VecDeque<Job>>,
    /// Secrets whose next job can run.
    ready: VecDeque<SecretId>,
    /// What runs, and at which store outside.
    running: HashMap<SecretId, Option<StoreName>>,
    /// The bus's numbers of every copy of an effect.
    copies: HashMap<Key, Vec<u64>>,
}

/// The secret an effect is about.
pub(crate) const fn secret_of(effect: &Effect) -> SecretId {
    match &effect.work {
        Work::Step(step) => step.secret,
        Work::Revoke(revoke) => revoke.secret,
    }
}

fn store_of(job: &Job) -> Option<&StoreName> {
    outside(&job.effect).map(|outside| &outside.store.name)
}

impl Backlog {
    /// Whether more may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.copies.len() < MAX_QUEUED
    }

    /// How many effects wait or run.
    pub(crate) fn len(&self) -> usize {
        self.copies.len()
    }

    /// Takes a job, or one more copy of a job it has.
    pub(crate) fn admit(&mut self, job: Job, sequence: u64) {
        let key = job.effect.key();
        if let Some(copies) = self.copies.get_mut(&key) {
            if !copies.contains(&sequence) {
                copies.push(sequence);
            }
            let waiting = self.waiting.get_mut(&secret_of(&job.effect));
            let same = |waits: &&mut Job| waits.effect == job.effect;
            if let Some(waits) = waiting.and_then(|queue| queue.iter_mut().find(same)) {
                waits.deadline = waits.deadline.max(job.deadline);
            }
            return;
        }
        self.copies.insert(key, vec![sequence]);
        let secret = secret_of(&job.effect);
        self.waiting.entry(secret).or_default().push_back(job);
        self.prepare(secret);
    }

    /// The next job that may run: a revocation before others, else the one that waits longest.
    pub(crate) fn start(&mut self) -> Option<Job> {
        let may_run = |secret: &SecretId| {
            let next = self.next_of(secret);
            next.is_some_and(|job| self.has_place(job))
        };
        let revokes = |secret: &SecretId| {
            let next = self.next_of(secret);
            next.is_some_and(|job| matches!(job.effect.work, Work::Revoke(_)))
        };
        let mut ready = self.ready.iter();
        let first = ready.position(|secret| revokes(secret) && may_run(secret));
        let at = first.or_else(|| self.ready.iter().position(may_run))?;
        let secret = self.ready.remove(at)?;
        let queue = self.waiting.get_mut(&secret)?;
        let job = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&secret);
        }
        self.running.insert(secret, store_of(&job).cloned());
        Some(job)
    }

    fn next_of(&self, secret: &SecretId) -> Option<&Job> {
        self.waiting.get(secret)?.front()
    }

    fn has_place(&self, job: &Job) -> bool {
        let Some(store) = store_of(job) else {
            return true;
        };
        let outside = || self.running.values().flatten();
        outside().count() < MAX_RUNNING_OUTSIDE
            && outside().filter(|other| *other == store).count() < MAX_RUNNING_PER_STORE
    }

    /// A job ended, well or not; gives the bus's numbers of all its copies.
    pub(crate) fn finish(&mut self, effect: &Effect) -> Vec<u64> {
        let secret = secret_of(effect);
        self.running.remove(&secret);
        self.prepare(secret);
        self.copies.remove(&effect.key()).unwrap_or_default()
    }

    fn prepare(&mut self, secret: SecretId) {
        let waits = self.waiting.contains_key(&secret);
        if waits && !self.running.contains_key(&secret) && !self.ready.contains(&secret) {
            self.ready.push_back(secret);
        }
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::effect::{Outside, RevokeWork, StepWork};
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
        };
        Job {
            effect: Effect {
                work: Work::Revoke(work),
            },
            deadline: Timestamp::default(),
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
    fn the_latest_deadline_of_what_waits_counts() {
        let mut backlog = Backlog::default();
        let until = |micros| Job {
            deadline: Timestamp::from_micros(micros),
            ..job(1, 1)
        };
        for (sequence, micros) in [(1, 5), (2, 9), (3, 7)] {
            backlog.admit(until(micros), sequence);
        }
        assert_eq!(backlog.start(), Some(until(9)));
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
