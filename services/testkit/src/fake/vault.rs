//! A cache in memory, in the clear: it counts its calls, and loses one, or its answer, when told to. One in a
//! file is shared by several programs of a test.

mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::hpke::HostKeyPair;
use keywheel_seal::{OsEntropy, SecretBytes};

/// When a call is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Before anything was done.
    Before,
    /// After it was done.
    After,
}

/// A cache in memory.
#[derive(Default)]
pub struct FakeVault {
    state: Mutex<State>,
    file: Option<PathBuf>,
}

#[derive(Default)]
struct State {
    kept: Kept,
    calls: u32,
    cut: Option<(u32, Cut)>,
}

#[derive(Default)]
struct Kept {
    versions: BTreeMap<(SecretId, u64), (RotationId, Vec<u8>)>,
    destroyed: BTreeSet<(SecretId, u64)>,
    damaged: BTreeSet<(SecretId, u64)>,
    stash: BTreeMap<RotationId, Vec<u8>>,
    store_key: Option<SecretBytes>,
    inserts: u32,
}

impl FakeVault {
    /// One that keeps what it has in this file, which is made where it is missing. Programs that share it take
    /// turns: none writes while another one does.
    ///
    /// # Panics
    /// When the file cannot be made.
    #[must_use]
    pub fn in_file(file: &Path) -> Self {
        if !file.exists() {
            shared::write(file, &Kept::default());
        }
        Self {
            state: Mutex::default(),
            file: Some(file.to_owned()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file {
            shared::read(file, &mut state.kept);
        }
        state
    }

    /// After so many more calls one is cut off.
    pub fn cut_off(&self, call: u32, cut: Cut) {
        self.state().cut = Some((call, cut));
    }

    /// No call is cut off any more.
    pub fn heal(&self) {
        self.state().cut = None;
    }

    /// How many calls were begun since [`Self::forget_calls`].
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.state().calls
    }

    /// Counts from nothing again.
    pub fn forget_calls(&self) {
        self.state().calls = 0;
    }

    /// How often a version was made.
    #[must_use]
    pub fn inserts(&self) -> u32 {
        self.state().kept.inserts
    }

    /// How many provided values wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().kept.stash.len()
    }

    /// A version's value.
    #[must_use]
    pub fn value(&self, secret: SecretId, version: u64) -> Option<Vec<u8>> {
        let state = self.state();
        let row = state.kept.versions.get(&(secret, version));
        row.map(|(_, value)| value.clone())
    }

    /// The value is gone, though nobody destroyed it.
    pub fn lose(&self, secret: SecretId, version: u64) {
        self.state().kept.versions.remove(&(secret, version));
    }

    /// The value is there, and cannot be read.
    pub fn damage(&self, secret: SecretId, version: u64) {
        self.state().kept.damaged.insert((secret, version));
    }

    fn call<T>(&self, act: impl FnOnce(&mut Kept) -> Result<T, PortError>) -> Result<T, PortError> {
        let mut state = self.state();
        state.calls += 1;
        let due = match &mut state.cut {
            Some((0, when)) => Some(*when),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if due.is_some() {
            state.cut = None;
        }
        let gone = || PortError::new(ErrorKind::Unavailable, "crashed");
        if due == Some(Cut::Before) {
            return Err(gone());
        }
        let answer = act(&mut state.kept);
        if let Some(file) = &self.file {
            shared::write(file, &state.kept);
        }
        match due {
            Some(Cut::After) => Err(gone()),
            _ => answer,
        }
    }
}

fn bytes(value: &SecretBytes) -> Vec<u8> {
    // EXPOSE: the fake keeps values in the clear.
    value.expose().to_vec()
}

fn insert(
    kept: &mut Kept,
    at: (SecretId, u64),
    token: RotationId,
    value: &SecretBytes,
) -> Result<Inserted, PortError> {
    if kept.destroyed.contains(&at) {
        return Err(PortError::new(ErrorKind::Denied, "destroyed"));
    }
    let conflict = || PortError::new(ErrorKind::Conflict, "another token");
    match kept.versions.get(&at) {
        Some((holder, _)) if *holder == token => return Ok(Inserted::Existing),
        Some(_) => return Err(conflict()),
        None => {}
    }
    let mut rows = kept.versions.iter();
    if rows.any(|((secret, _), (holder, _))| (*secret, *holder) == (at.0, token)) {
        return Err(conflict());
    }
    kept.inserts += 1;
    kept.versions.insert(at, (token, bytes(value)));
    Ok(Inserted::New)
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
        self.call(|kept| insert(kept, (secret, version), token, value))
    }

    async fn open(&self, secret: SecretId, version: u64) -> Result<SecretBytes, PortError> {
        self.call(|kept| match kept.versions.get(&(secret, version)) {
            Some(_) if kept.damaged.contains(&(secret, version)) => {
                Err(PortError::new(ErrorKind::Corrupt, "damaged"))
            }
            Some((_, value)) => Ok(SecretBytes::from(value.clone())),
            None => Err(PortError::new(ErrorKind::NotFound, "no such version")),
        })
    }

    async fn has(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        self.call(|kept| Ok(kept.versions.contains_key(&(secret, version))))
    }

    async fn is_destroyed(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        self.call(|kept| Ok(kept.destroyed.contains(&(secret, version))))
    }

    async fn destroy(&self, secret: SecretId, version: u64) -> Result<(), PortError> {
        self.call(|kept| {
            kept.versions.remove(&(secret, version));
            kept.destroyed.insert((secret, version));
            Ok(())
        })
    }

    async fn stash(&self, token: RotationId, value: &SecretBytes) -> Result<Inserted, PortError> {
        self.call(|kept| {
            if kept.stash.contains_key(&token) {
                return Ok(Inserted::Existing);
            }
            kept.stash.insert(token, bytes(value));
            Ok(Inserted::New)
        })
    }

    async fn stashed(&self, token: RotationId) -> Result<Option<SecretBytes>, PortError> {
        self.call(|kept| Ok(kept.stash.get(&token).cloned().map(SecretBytes::from)))
    }

    async fn store_keys(&self) -> Result<Vec<HostKeyPair>, PortError> {
        self.call(|kept| {
            let made = || HostKeyPair::generate(&OsEntropy).private_bytes();
            let key = kept.store_key.get_or_insert_with(made);
            let pair = HostKeyPair::from_private_bytes(key);
            Ok(vec![pair.expect("it is the key of a pair")])
        })
    }

    async fn drop_stashed(&self, token: RotationId) -> Result<(), PortError> {
        self.call(|kept| {
            kept.stash.remove(&token);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conformance::vault;

    #[tokio::test]
    async fn it_keeps_the_laws_of_the_port() {
        let fresh = || async {
            let one: Arc<dyn VersionVault> = Arc::<FakeVault>::default();
            [Arc::clone(&one), one]
        };
        vault::check(fresh).await;
    }

    #[tokio::test]
    async fn one_in_a_file_keeps_them_too_and_another_one_has_what_it_has() {
        let file = std::env::temp_dir().join(format!("kw-fake-vault-{}", std::process::id()));
        let fresh = || async {
            let _gone = std::fs::remove_file(&file);
            let one: Arc<dyn VersionVault> = Arc::new(FakeVault::in_file(&file));
            [Arc::clone(&one), one]
        };
        vault::check(fresh).await;
        let [one, other] = [FakeVault::in_file(&file), FakeVault::in_file(&file)];
        let (secret, token) = (
            SecretId::from_bytes([9; 16]),
            RotationId::from_bytes([9; 16]),
        );
        let value = SecretBytes::from(b"a b\n".to_vec());
        one.insert(secret, 1, token, &value).await.unwrap();
        assert!(other.open(secret, 1).await.unwrap().ct_eq(&value));
        other.destroy(secret, 1).await.unwrap();
        assert!(one.is_destroyed(secret, 1).await.unwrap());
        std::fs::remove_file(file).unwrap();
    }

    #[tokio::test]
    async fn one_call_is_lost_before_or_after_it_was_done() {
        let (secret, token) = (
            SecretId::from_bytes([1; 16]),
            RotationId::from_bytes([2; 16]),
        );
        for (cut, is_done) in [(Cut::Before, false), (Cut::After, true)] {
            let fake = FakeVault::default();
            fake.cut_off(1, cut);
            assert!(!fake.has(secret, 1).await.unwrap());
            let value = SecretBytes::from(b"a".to_vec());
            let lost = fake.insert(secret, 1, token, &value).await;
            assert_eq!(lost.unwrap_err().kind, ErrorKind::Unavailable);
            assert_eq!(fake.has(secret, 1).await.unwrap(), is_done);
            assert_eq!((fake.calls(), fake.inserts()), (3, u32::from(is_done)));
        }
    }
}
