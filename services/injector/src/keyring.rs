//! The host's keys for what is sealed to it: the newest, and older ones while something sealed to them
//! is still under way.
//!
//! Invariants: whoever asks for a value says so first, so that a key that its answer may be sealed to
//! lives until it came; a key that was destroyed is overwritten and opens nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keywheel_seal::hpke::{Envelope, HostKeyPair, PublicKey};
use keywheel_seal::{Entropy, SecretBytes};
use tokio::sync::Notify;

/// One key.
struct Held {
    pair: HostKeyPair,
    /// Questions whose answers may be sealed to it.
    open: usize,
    /// The gateway knows a newer one: nothing more is sealed to it.
    is_superseded: bool,
}

#[derive(Default)]
struct Inner {
    held: BTreeMap<u64, Held>,
}

/// All keys of the host.
#[derive(Default)]
pub(crate) struct Keyring {
    inner: Arc<Mutex<Inner>>,
    /// A question was answered.
    answered: Arc<Notify>,
}

/// A question under way; ends when dropped.
pub(crate) struct Flight {
    generations: Vec<u64>,
    inner: Arc<Mutex<Inner>>,
    answered: Arc<Notify>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut inner = lock(&self.inner);
        for generation in &self.generations {
            if let Some(held) = inner.held.get_mut(generation) {
                held.open = held.open.saturating_sub(1);
            }
        }
        drop(inner);
        self.answered.notify_waiters();
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keyring {
    /// With one key.
    pub(crate) fn of(generation: u64, pair: HostKeyPair) -> Self {
        let keyring = Self::default();
        keyring.add(generation, pair);
        keyring
    }

    /// Takes a key, unless it is there.
    pub(crate) fn add(&self, generation: u64, pair: HostKeyPair) {
        lock(&self.inner).held.entry(generation).or_insert(Held {
            pair,
            open: 0,
            is_superseded: false,
        });
    }

    /// The public half of the newest.
    pub(crate) fn public(&self) -> Option<PublicKey> {
        let inner = lock(&self.inner);
        let (_, newest) = inner.held.last_key_value()?;
        Some(newest.pair.public().clone())
    }

    /// Says that a value is being asked for.
    pub(crate) fn begin(&self) -> Flight {
        let mut inner = lock(&self.inner);
        let mut generations = Vec::with_capacity(inner.held.len());
        for (generation, held) in &mut inner.held {
            if !held.is_superseded {
                held.open += 1;
                generations.push(*generation);
            }
        }
        Flight {
            generations,
            inner: Arc::clone(&self.inner),
            answered: Arc::clone(&self.answered),
        }
    }

    /// Opens with whichever key it was sealed to.
    pub(crate) fn open(&self, info: &[u8], aad: &[u8], envelope: &Envelope) -> Option<SecretBytes> {
        let inner = lock(&self.inner);
        let mut newest_first = inner.held.values().rev();
        newest_first.find_map(|held| held.pair.open(info, aad, envelope).ok())
    }

    /// The same value sealed to the newest key; `None` when it is already, or does not open.
    pub(crate) fn reseal(
        &self,
        info: &[u8],
        aad: &[u8],
        envelope: &Envelope,
        entropy: &dyn Entropy,
    ) -> Option<Envelope> {
        let inner = lock(&self.inner);
        let (_, newest) = inner.held.last_key_value()?;
        if newest.pair.open(info, aad, envelope).is_ok() {
            return None;
        }
        let mut older = inner.held.values().rev().skip(1);
        let value = older.find_map(|held| held.pair.open(info, aad, envelope).ok())?;
        keywheel_seal::hpke::seal(newest.pair.public(), info, aad, &value, entropy).ok()
    }

    /// Nothing more is sealed to keys older than this one.
    pub(crate) fn supersede(&self, known: u64) {
        let mut inner = lock(&self.inner);
        for held in inner.held.range_mut(..known).map(|(_, held)| held) {
            held.is_superseded = true;
        }
    }

    /// The keys before this one.
    pub(crate) fn older_than(&self, generation: u64) -> Vec<u64> {
        let inner = lock(&self.inner);
        inner
            .held
            .range(..generation)
            .map(|(one, _)| *one)
            .collect()
    }

    /// Questions whose answers may be sealed to this key.
    pub(crate) fn open_questions(&self, generation: u64) -> usize {
        lock(&self.inner)
            .held
            .get(&generation)
            .map_or(0, |held| held.open)
    }

    /// Waits until none is.
    pub(crate) async fn settled(&self, generation: u64) {
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            // Registered before the look, so that no end is missed.
            answered.as_mut().enable();
            if self.open_questions(generation) == 0 {
                return;
            }
            answered.await;
        }
    }

    /// Overwrites a key, unless it is the only one.
    pub(crate) fn destroy(&self, generation: u64) {
        let mut inner = lock(&self.inner);
        if inner.held.len() > 1 {
            // The private half is overwritten when it is dropped.
            drop(inner.held.remove(&generation));
        }
    }
}

#[cfg(test)]
mod tests {
    use keywheel_seal::OsEntropy;
    use keywheel_seal::hpke::seal;

    use super::*;

    const INFO: &[u8] = b"info";
    const AAD: &[u8] = b"aad";

    fn sealed_to(keyring: &Keyring) -> Envelope {
        let value = SecretBytes::from(b"value".to_vec());
        seal(&keyring.public().unwrap(), INFO, AAD, &value, &OsEntropy).unwrap()
    }

    #[test]
    fn what_was_sealed_to_a_destroyed_key_opens_nowhere_and_what_was_kept_was_resealed() {
        let keyring = Keyring::of(1, HostKeyPair::generate(&OsEntropy));
        let (kept, lost) = (sealed_to(&keyring), sealed_to(&keyring));
        keyring.add(2, HostKeyPair::generate(&OsEntropy));
        assert!(keyring.open(INFO, AAD, &kept).is_some(), "still under way");
        let resealed = keyring.reseal(INFO, AAD, &kept, &OsEntropy).unwrap();
        assert!(keyring.reseal(INFO, AAD, &resealed, &OsEntropy).is_none());
        keyring.supersede(2);
        keyring.destroy(1);
        assert!(keyring.open(INFO, AAD, &lost).is_none());
        assert!(keyring.open(INFO, AAD, &kept).is_none());
        assert!(keyring.open(INFO, AAD, &resealed).is_some());
        keyring.destroy(2);
        assert!(
            keyring.open(INFO, AAD, &resealed).is_some(),
            "the only one stays"
        );
    }

    #[tokio::test]
    async fn a_key_waits_for_the_questions_that_began_before_it_was_superseded() {
        let keyring = Arc::new(Keyring::of(1, HostKeyPair::generate(&OsEntropy)));
        let before = keyring.begin();
        keyring.add(2, HostKeyPair::generate(&OsEntropy));
        keyring.supersede(2);
        let after = keyring.begin();
        assert_eq!(keyring.open_questions(1), 1);
        assert_eq!(keyring.open_questions(2), 1);
        let waiting = tokio::spawn({
            let keyring = keyring.clone();
            async move { keyring.settled(1).await }
        });
        drop(before);
        waiting.await.unwrap();
        drop(after);
        keyring.settled(2).await;
    }
}
