//! Rotating the password of an account that lies at a store outside, too: a server checks it, and others read it
//! there.
//!
//! Each step is the account's and the store's. `create` makes the value as the account's rotator does; `set` stages
//! it at the store where that has a stage, then has the server accept it; `test` logs in; `finish` makes it current
//! at the store, over the version we know. What somebody else put there is taken over once the server lets it in,
//! and is never told to the server. At the end the password dies at its server first, then its version at the
//! store. Invariants: each half is tried also when the other one failed; the roll-back of what somebody else put
//! touches no account; who proves that a password is dead asks its server, never the store.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::SecretId;
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::{Sessions, Step};
use keywheel_core::store::RemoteVersion;
use keywheel_engine::port::PortError;
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::store::Store;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::until::Until;

use crate::local::{new_version, probed};
use crate::remote::{Ending, end_there, place, take_over, telling};

/// Performs the steps at a server that checks passwords, and at the store outside where they lie.
pub struct KeptRotator {
    accounts: Arc<dyn Rotator>,
    store: Arc<dyn Store>,
    vault: Arc<dyn VersionVault>,
}

impl KeptRotator {
    /// Over whoever rotates the accounts, at this store, with this cache.
    #[must_use]
    pub fn new(
        accounts: Arc<dyn Rotator>,
        store: Arc<dyn Store>,
        vault: Arc<dyn VersionVault>,
    ) -> Self {
        Self {
            accounts,
            store,
            vault,
        }
    }

    /// Takes what somebody else put there. What is no account with its password is not kept: nobody would know
    /// what dies with it.
    async fn take(
        &self,
        work: &StepWork,
        (outside, seen): (&Outside, &RemoteVersion),
        until: &Until,
    ) -> Result<(), PortError> {
        take_over((&*self.store, &*self.vault), work, (outside, seen), until).await?;
        let Err(fault) = self.accounts.finish(work, until).await else {
            return Ok(());
        };
        until.check()?;
        let version = new_version(work)?;
        self.vault.destroy(work.secret, version).await?;
        Err(fault)
    }

    /// Ends versions at the store, after their passwords; the failure that says more is told.
    async fn end_after(
        &self,
        dead: Result<(), PortError>,
        (outside, ending): (Option<&Outside>, Ending),
        until: &Until,
    ) -> Result<(), PortError> {
        match outside {
            Some(outside) => {
                let there = end_there(&*self.store, outside, ending, until).await;
                telling(dead, there)
            }
            None => dead,
        }
    }
}

#[async_trait]
impl Rotator for KeptRotator {
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let outside = place(work)?;
        match &outside.fetch {
            Some(seen) => self.take(work, (outside, seen), until).await,
            None => self.accounts.create(work, until).await,
        }
    }

    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let (version, outside) = (new_version(work)?, place(work)?);
        until.check()?;
        if outside.fetch.is_some() {
            return Ok(());
        }
        let value = self.vault.open(work.secret, version).await?;
        let (source, token) = (&outside.source, work.rotation);
        self.store.stage(source, token, &value, until).await?;
        self.accounts.set(work, until).await
    }

    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.accounts.test(work, until).await
    }

    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let (version, outside) = (new_version(work)?, place(work)?);
        self.accounts.finish(work, until).await?;
        if let Some(seen) = &outside.fetch {
            return Ok(Some(seen.clone()));
        }
        until.check()?;
        let value = self.vault.open(work.secret, version).await?;
        let (source, known) = (&outside.source, outside.known.as_ref());
        let made = self
            .store
            .promote(source, work.rotation, &value, known, until);
        made.await.map(Some)
    }

    async fn roll_back(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let (version, outside) = (new_version(work)?, place(work)?);
        if outside.fetch.is_some() {
            until.check()?;
            return self.vault.destroy(work.secret, version).await;
        }
        let dead = self.accounts.roll_back(work, until).await;
        let (source, token) = (&outside.source, work.rotation);
        let unstaged = self.store.unstage(source, token, until).await;
        telling(dead, unstaged)
    }

    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let dead = self.accounts.revoke(secret, versions, outside, until).await;
        self.end_after(dead, (outside, Ending::ForGood), until)
            .await
    }

    async fn disable(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let dead = self
            .accounts
            .disable(secret, versions, outside, until)
            .await;
        self.end_after(dead, (outside, Ending::ForGood), until)
            .await
    }

    async fn prove(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<Proof, PortError> {
        self.accounts.prove(secret, versions, until).await
    }

    async fn retire(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let dead = self.accounts.retire(secret, versions, outside, until).await;
        self.end_after(dead, (outside, Ending::AsDeclared), until)
            .await
    }

    /// What the server accepts was staged before, so of `set` the account tells.
    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError> {
        let outside = place(work)?;
        until.check()?;
        match (work.step, &outside.fetch) {
            (Step::Create, Some(_)) => {
                let version = new_version(work)?;
                Ok(probed(self.vault.has(work.secret, version).await?))
            }
            (_, Some(_)) => Ok(Probed::NotDone),
            (Step::Finish, None) => {
                let value = self.vault.open(work.secret, new_version(work)?).await?;
                let (source, known) = (&outside.source, outside.known.as_ref());
                let found = self
                    .store
                    .probe_promote(source, work.rotation, &value, known, until);
                let found = found.await?;
                Ok(found.map_or(Probed::NotDone, |made| Probed::Done(Some(made))))
            }
            (_, None) => self.accounts.probe(work, until).await,
        }
    }

    async fn sessions(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<Sessions>, PortError> {
        self.accounts.sessions(work, until).await
    }
}
