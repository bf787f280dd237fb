//! Rotating a secret whose home is a store outside, over the cache that containers are served from.
//!
//! A secret's new version is either ours, made here and written there, or taken from there as
//! somebody else made it. Ours: `create` makes the value and keeps it, `set` stages it there where
//! the store has a stage, `test` checks what is kept, `finish` makes it current there, over the
//! version we know and nothing else. Taken: `create` fetches exactly that version, and nothing is
//! done outside. Where the store makes the values itself (a static role), `set` has it make one and
//! keeps that, and `test` sees that it is current there. Invariants: each step may be repeated or interrupted
//! anywhere; the cache has a value before the store does, and loses it before the store does, but one that a
//! store made and we have to end there is known by its value alone until then. Where it works is in the work
//! itself, as it was decided.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::rotation::Step;
use keywheel_core::store::RemoteVersion;
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::store::Store;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::Entropy;
use keywheel_seal::SecretBytes;

use crate::LocalStore;
use crate::local::{new_version, probed};

/// Performs the steps at a store outside.
pub struct RemoteRotator {
    store: Arc<dyn Store>,
    vault: Arc<dyn VersionVault>,
    local: LocalStore,
}

impl RemoteRotator {
    /// At this store, with this cache.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        vault: Arc<dyn VersionVault>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            store,
            local: LocalStore::new(Arc::clone(&vault), entropy),
            vault,
        }
    }

    /// The store makes the value, at `set`; there is nothing to be done before it, and none is taken.
    async fn leave_making(
        &self,
        work: &StepWork,
        outside: &Outside,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()?;
        if !work.provided {
            return Ok(());
        }
        // Nothing can use the value. If dropping fails, the roll-back drops it.
        let _ = self.vault.drop_stashed(work.rotation).await;
        let text = format!(
            "the value at {} is made by its store and cannot be put; say `keywheel rotate` to have another one made",
            outside.source.path
        );
        Err(PortError::new(ErrorKind::Denied, text))
    }

    /// The store makes the value, and we keep it; a repeat keeps the first one.
    async fn have_made(
        &self,
        work: &StepWork,
        outside: &Outside,
        until: &Until,
    ) -> Result<(), PortError> {
        let version = new_version(work)?;
        let (source, known) = (&outside.source, outside.known.as_ref());
        let value = self.store.make(source, known, until).await?;
        until.check()?;
        let (secret, token) = (work.secret, work.rotation);
        let kept = self.vault.insert(secret, version, token, &value).await;
        kept.map(drop)
    }

    /// What the store made is what is current there.
    async fn check_made(
        &self,
        work: &StepWork,
        outside: &Outside,
        until: &Until,
    ) -> Result<(), PortError> {
        if self.probe_finish(work, outside, until).await? != Probed::NotDone {
            return Ok(());
        }
        let text = format!(
            "{} has another value by now than the one that was made; it is taken over at the next look",
            outside.source.path
        );
        Err(PortError::new(ErrorKind::Conflict, text))
    }

    /// The value that this rotation made.
    async fn ours(&self, work: &StepWork, until: &Until) -> Result<SecretBytes, PortError> {
        let version = new_version(work)?;
        until.check()?;
        self.vault.open(work.secret, version).await
    }

    /// Whether our value is current there over the version we know.
    async fn probe_finish(
        &self,
        work: &StepWork,
        outside: &Outside,
        until: &Until,
    ) -> Result<Probed, PortError> {
        let value = self.ours(work, until).await?;
        let (source, known) = (&outside.source, outside.known.as_ref());
        let found = self
            .store
            .probe_promote(source, work.rotation, &value, known, until);
        let found = found.await?;
        Ok(found.map_or(Probed::NotDone, |made| Probed::Done(Some(made))))
    }

    /// Nobody gets a version from us any more, whatever the store says. Every version is tried, here
    /// and there, also after one failed; the first failure is told.
    async fn end(
        &self,
        (secret, versions, outside): (SecretId, &[u64], Option<&Outside>),
        ending: Ending,
        until: &Until,
    ) -> Result<(), PortError> {
        let made = outside.filter(|outside| {
            let is_for_good = matches!(ending, Ending::ForGood);
            is_for_good && self.store.makes(&outside.source)
        });
        let (ended, made) = match made {
            Some(outside) => self.end_made((secret, versions), outside, until).await,
            None => (versions.to_vec(), Ok(())),
        };
        let destroyed = self.local.revoke(secret, &ended, None, until).await;
        let first = made.and(destroyed);
        match outside {
            Some(outside) => {
                let there = end_there(&*self.store, outside, ending, until).await;
                telling(first, there)
            }
            None => first,
        }
    }

    /// Ends at the store what it made for these versions: after `set` one may be current there that was never
    /// promoted here. Gives those whose values are not needed for that any more.
    async fn end_made(
        &self,
        (secret, versions): (SecretId, &[u64]),
        outside: &Outside,
        until: &Until,
    ) -> (Vec<u64>, Result<(), PortError>) {
        let (mut ended, mut first) = (Vec::new(), Ok(()));
        for version in versions {
            let done = self.end_value((secret, *version), outside, until).await;
            if done.is_ok() {
                ended.push(*version);
            }
            first = first.and(done);
        }
        (ended, first)
    }

    /// Ends whatever is current at the store with a version's value.
    async fn end_value(
        &self,
        (secret, version): (SecretId, u64),
        outside: &Outside,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()?;
        let value = match self.vault.open(secret, version).await {
            Ok(value) => value,
            // What cannot be read says nothing about what is there.
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Corrupt) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (source, nobody) = (&outside.source, RotationId::default());
        let found = self
            .store
            .probe_promote(source, nobody, &value, None, until);
        match found.await? {
            Some(remote) => self.store.revoke(source, &remote, until).await,
            None => Ok(()),
        }
    }

    /// Makes our value current there, over the version we know.
    async fn promote(
        &self,
        work: &StepWork,
        outside: &Outside,
        until: &Until,
    ) -> Result<RemoteVersion, PortError> {
        let value = self.ours(work, until).await?;
        let (source, known) = (&outside.source, outside.known.as_ref());
        let made = self
            .store
            .promote(source, work.rotation, &value, known, until);
        made.await
    }
}

/// How a version ends at its store.
#[derive(Clone, Copy)]
pub(crate) enum Ending {
    /// In an incident.
    ForGood,
    /// At the end of a rotation.
    AsDeclared,
}

/// Ends what the work names at its store, and takes back what is staged there. Every one is tried, also after one
/// failed.
pub(crate) async fn end_there(
    store: &dyn Store,
    outside: &Outside,
    ending: Ending,
    until: &Until,
) -> Result<(), PortError> {
    let mut first = Ok(());
    for version in &outside.retire {
        let ended = match ending {
            Ending::ForGood => store.revoke(&outside.source, version, until).await,
            Ending::AsDeclared => store.retire(&outside.source, version, until).await,
        };
        first = telling(first, ended);
    }
    if let Some(token) = outside.unstage {
        let unstaged = store.unstage(&outside.source, token, until).await;
        first = telling(first, unstaged);
    }
    first
}

/// The first failure of two, but a conflict says that one of them is in use there, and would hide that another failed.
pub(crate) fn telling(
    first: Result<(), PortError>,
    second: Result<(), PortError>,
) -> Result<(), PortError> {
    let is_conflict = |error: &PortError| error.kind == ErrorKind::Conflict;
    match (first, second) {
        (Err(before), Err(error)) if is_conflict(&before) => Err(error),
        (first, second) => first.and(second),
    }
}

/// Keeps the version that was seen at a store, as it is there.
pub(crate) async fn take_over(
    (store, vault): (&dyn Store, &dyn VersionVault),
    work: &StepWork,
    (outside, seen): (&Outside, &RemoteVersion),
    until: &Until,
) -> Result<(), PortError> {
    let version = new_version(work)?;
    let value = store.fetch(&outside.source, seen, until).await?;
    if value.is_empty() {
        let text = format!(
            "version {} of {} is empty there; put a value there",
            seen.0, outside.source.path
        );
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    until.check()?;
    let kept = vault.insert(work.secret, version, work.rotation, &value);
    kept.await.map(drop)
}

#[async_trait]
impl Rotator for RemoteRotator {
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let outside = place(work)?;
        match &outside.fetch {
            Some(seen) => {
                let here = (&*self.store, &*self.vault);
                take_over(here, work, (outside, seen), until).await
            }
            None if self.store.makes(&outside.source) => {
                self.leave_making(work, outside, until).await
            }
            None => self.local.create(work, until).await,
        }
    }

    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let (version, outside) = (new_version(work)?, place(work)?);
        until.check()?;
        if outside.fetch.is_some() {
            return Ok(());
        }
        if self.store.makes(&outside.source) {
            return self.have_made(work, outside, until).await;
        }
        let value = self.vault.open(work.secret, version).await?;
        let (source, token) = (&outside.source, work.rotation);
        self.store.stage(source, token, &value, until).await
    }

    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let outside = place(work)?;
        if outside.fetch.is_none() && self.store.makes(&outside.source) {
            return self.check_made(work, outside, until).await;
        }
        if outside.fetch.is_some() {
            // Somebody else made it: our rules for making values say nothing about it.
            return self.local.finish(work, until).await.map(drop);
        }
        self.local.test(work, until).await
    }

    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let outside = place(work)?;
        self.local.finish(work, until).await?;
        match &outside.fetch {
            Some(seen) => Ok(Some(seen.clone())),
            None => self.promote(work, outside, until).await.map(Some),
        }
    }

    /// Both are tried, also when one fails; the first failure is told.
    async fn roll_back(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let outside = place(work)?;
        let dead = self.local.revoke(work.secret, &work.versions, None, until);
        let dead = dead.await;
        if outside.fetch.is_some() {
            return dead;
        }
        let (source, token) = (&outside.source, work.rotation);
        let unstaged = self.store.unstage(source, token, until).await;
        dead.and(unstaged)
    }

    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let all = (secret, versions, outside);
        self.end(all, Ending::ForGood, until).await
    }

    async fn retire(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let all = (secret, versions, outside);
        self.end(all, Ending::AsDeclared, until).await
    }

    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError> {
        let outside = place(work)?;
        until.check()?;
        match (work.step, &outside.fetch) {
            (Step::Create, Some(_)) => {
                let version = new_version(work)?;
                Ok(probed(self.vault.has(work.secret, version).await?))
            }
            (Step::Create, None) if self.store.makes(&outside.source) => Ok(Probed::NotDone),
            (Step::Create, None) => self.local.probe(work, until).await,
            (Step::Set, None) if self.store.makes(&outside.source) => {
                let version = new_version(work)?;
                Ok(probed(self.vault.has(work.secret, version).await?))
            }
            (Step::Set, None) => {
                let (source, token) = (&outside.source, work.rotation);
                let staged = self.store.probe_stage(source, token, until);
                Ok(probed(staged.await?))
            }
            (Step::Finish, None) => self.probe_finish(work, outside, until).await,
            _ => Ok(Probed::NotDone),
        }
    }
}

/// Where the work is to be done.
pub(crate) fn place(work: &StepWork) -> Result<&Outside, PortError> {
    work.outside.as_deref().ok_or_else(|| {
        let text = format!(
            "rotation {} names no place at a store; apply the secret's manifest again",
            work.rotation
        );
        PortError::new(ErrorKind::Denied, text)
    })
}

#[cfg(test)]
mod tests;
