//! Which work waits and which runs: in order per secret, at once across secrets, bounded.
//!
//! Pure. Invariant: of one effect at most one copy waits or runs, however often it came; all its
//! copies are finished together.

use std::collections::{HashMap, HashSet, VecDeque};

use keywheel_core::effect::{Effect, Key, Work};
use keywheel_core::id::SecretId;
use keywheel_core::time::Timestamp;

/// Effects that wait or run; more stay on the bus.
pub const MAX_QUEUED: usize = 1024;

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
    running: HashSet<SecretId>,
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

    /// The next job that may run.
    pub(crate) fn start(&mut self) -> Option<Job> {
        let secret = self.ready.pop_front()?;
        let queue = self.waiting.get_mut(&secret)?;
        let job = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&secret);
        }
        self.running.insert(secret);
        Some(job)
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
        if waits && !self.running.contains(&secret) && !self.ready.contains(&secret) {
            self.ready.push_back(secret);
        }
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::effect::RevokeWork;
    use keywheel_core::id::RevocationId;

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
