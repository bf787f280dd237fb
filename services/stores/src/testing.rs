//! What tests of several rotators share: a cache in memory that loses calls, and deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;
use keywheel_seal::hpke::HostKeyPair;

pub(crate) const SECRET: SecretId = SecretId::from_bytes([1; 16]);
pub(crate) const TOKEN: RotationId = RotationId::from_bytes([2; 16]);
pub(crate) const VERSION: u64 = 4;

/// When a call to the fake is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Before,
    After,
}

/// A vault in memory that keeps the port's laws and can lose the n-th call or its answer.
#[derive(Default)]
pub(crate) struct FakeVault {
    pub(crate) calls: AtomicU32,
    pub(crate) kept: Mutex<Kept>,
    pub(crate) cut: Mutex<Option<(u32, Cut)>>,
}

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) versions: BTreeMap<(SecretId, u64), (RotationId, Vec<u8>)>,
    pub(crate) destroyed: BTreeSet<(SecretId, u64)>,
    pub(crate) stash: BTreeMap<RotationId, Vec<u8>>,
    pub(crate) inserts: u32,
}

impl FakeVault {
    pub(crate) fn cut_off(&self, call: u32, cut: Cut) {
        *self.cut.lock().unwrap() = Some((call, cut));
    }

    pub(crate) fn step<T>(
        &self,
        act: impl FnOnce(&mut Kept) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut cut = self.cut.lock().unwrap();
        let due = match &mut *cut {
            Some((0, when)) => Some(*when),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if due.is_some() {
            *cut = None;
        }
        drop(cut);
        let gone = || PortError::new(ErrorKind::Unavailable, "crashed");
        if due == Some(Cut::Before) {
            return Err(gone());
        }
        let answer = act(&mut self.kept.lock().unwrap());
        if due == Some(Cut::After) {
            Err(gone())
        } else {
            answer
        }
    }

    pub(crate) fn value(&self) -> Option<Vec<u8>> {
        self.kept
            .lock()
            .unwrap()
            .versions
            .get(&(SECRET, VERSION))
            .map(|row| row.1.clone())
    }
}

fn bytes(value: &SecretBytes) -> Vec<u8> {
    // EXPOSE: the fake keeps values in the clear.
    value.expose().to_vec()
}

#[async_trait]
impl VersionVault for FakeVault {
    async fn insert(
        &self,
        secret: SecretId,
        version: u64,
        token: RotationId,
        value: &SecretBytes,
    ) -> Result<Inserted, PortError> {
        self.step(|kept| {
            if kept.destroyed.contains(&(secret, version)) {
                return Err(PortError::new(ErrorKind::Denied, "destroyed"));
            }
            match kept.versions.get(&(secret, version)) {
                Some((holder, _)) if *holder == token => Ok(Inserted::Existing),
                Some(_) => Err(PortError::new(ErrorKind::Conflict, "another token")),
                None => {
                    kept.inserts += 1;
                    kept.versions
                        .insert((secret, version), (token, bytes(value)));
                    Ok(Inserted::New)
                }
            }
        })
    }

    async fn open(&self, secret: SecretId, version: u64) -> Result<SecretBytes, PortError> {
        self.step(|kept| match kept.versions.get(&(secret, version)) {
            Some((_, value)) => Ok(SecretBytes::from(value.clone())),
            None => Err(PortError::new(ErrorKind::NotFound, "no such version")),
        })
    }

    async fn has(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        self.step(|kept| Ok(kept.versions.contains_key(&(secret, version))))
    }

    async fn destroy(&self, secret: SecretId, version: u64) -> Result<(), PortError> {
        self.step(|kept| {
            kept.versions.remove(&(secret, version));
            kept.destroyed.insert((secret, version));
            Ok(())
        })
    }

    async fn stash(&self, token: RotationId, value: &SecretBytes) -> Result<Inserted, PortError> {
        self.step(|kept| {
            if kept.stash.contains_key(&token) {
                return Ok(Inserted::Existing);
            }
            kept.stash.insert(token, bytes(value));
            Ok(Inserted::New)
        })
    }

    async fn stashed(&self, token: RotationId) -> Result<Option<SecretBytes>, PortError> {
        self.step(|kept| Ok(kept.stash.get(&token).cloned().map(SecretBytes::from)))
    }

    async fn store_keys(&self) -> Result<Vec<HostKeyPair>, PortError> {
        Ok(Vec::new())
    }

    async fn drop_stashed(&self, token: RotationId) -> Result<(), PortError> {
        self.step(|kept| {
            kept.stash.remove(&token);
            Ok(())
        })
    }
}

/// A clock that goes on by a microsecond at every look.
#[derive(Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1, Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// In time for so many calls.
pub(crate) fn for_calls(calls: i64) -> Until {
    let deadline = Timestamp::from_micros(calls);
    Until::new(deadline, Arc::<Ticking>::default())
}

pub(crate) fn always() -> Until {
    for_calls(i64::MAX)
}
