//! Rotating a container's leases: each version is a login that a store made, and ends there.
//!
//! `create` mints one, keeps what it is called together with its value in one record, extends it, and only then
//! keeps the value as the version; so a repeat finds either nothing, and what was minted ends by itself, or all
//! of it. The end of a version ends its lease at the store first, then here. Invariants: a version has one lease,
//! however often `create` is repeated or cut off; a lease that is on record here is ended before that record
//! goes. The record lies under ids of its own, which no host can be granted.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::revocation::{Answer, Evidence, Proof};
use keywheel_core::rotation::Step;
use keywheel_core::store::RemoteVersion;
use keywheel_engine::port::failpoint::{Failpoint, Points};
use keywheel_engine::port::leases::{Extended, Leases, Minted};
use keywheel_engine::port::rotator::{Probed, Rotator, TellsNothing};
use keywheel_engine::port::store::Store;
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::{SecretBytes, digest};

use crate::local::new_version;

/// Why a store's word about a lease is no proof.
const ONLY_ITS_WORD: &str = "that its lease is gone is the word of the store that made it, and no login was tried: the secret's manifest names no server for that (`probe`)";
/// Between what a lease is called and its value.
const BREAK: u8 = b'\n';

/// Performs the steps for leases of a store.
pub struct LeaseRotator {
    store: Arc<dyn Store>,
    vault: Arc<dyn VersionVault>,
    points: Points,
    place: Option<Outside>,
}

/// A lease on record, and its value.
type Recorded = (RemoteVersion, SecretBytes);

impl LeaseRotator {
    /// At this store, with this cache.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, vault: Arc<dyn VersionVault>) -> Self {
        Self {
            store,
            vault,
            points: Points::default(),
            place: None,
        }
    }

    /// What it does passes these failpoints; what its store does passes those of the store.
    #[must_use]
    pub fn passing(self, failpoint: Arc<dyn Failpoint>) -> Self {
        let points = Points::watched(failpoint);
        Self { points, ..self }
    }

    /// A proof asks there.
    #[must_use]
    pub fn at(self, outside: &Outside) -> Self {
        let place = Some(outside.clone());
        Self { place, ..self }
    }

    fn leases(&self) -> Result<&dyn Leases, PortError> {
        self.store.leases().ok_or_else(|| {
            let text = "this kind of store gives no logins by lease; name a Vault or an OpenBao";
            PortError::new(ErrorKind::Denied, text)
        })
    }

    async fn recorded(
        &self,
        secret: SecretId,
        version: u64,
    ) -> Result<Option<Recorded>, PortError> {
        let record = match self.vault.open(record_id(secret), version).await {
            Ok(record) => record,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // EXPOSE: taken apart into the lease's name and the value, which is secret again at once.
        let bytes = record.expose();
        let parts = bytes.iter().position(|byte| *byte == BREAK);
        let parts = parts.and_then(|at| bytes.split_at_checked(at));
        let name = parts.and_then(|(name, _)| std::str::from_utf8(name).ok());
        let (Some(name), Some((_, value))) = (name, parts) else {
            let text = format!("the record of version {version} of secret {secret} is no lease");
            return Err(PortError::new(ErrorKind::Corrupt, text));
        };
        let value = value.get(1..).unwrap_or_default().to_vec();
        Ok(Some((
            RemoteVersion(name.to_owned()),
            SecretBytes::from(value),
        )))
    }

    /// Makes a login and puts it on record; what another one put there first counts.
    async fn mint(
        &self,
        work: &StepWork,
        version: u64,
        until: &Until,
    ) -> Result<Recorded, PortError> {
        let role = &place(work)?.source;
        let leases = self.leases()?;
        let minted = leases.mint(role, until).await?;
        let (id, token) = (record_id(work.secret), record_token(work.rotation));
        let kept = self
            .vault
            .insert(id, version, token, &record(&minted))
            .await;
        match kept {
            Ok(Inserted::New) => {
                self.points.pass("store.lease.after_record").await?;
                Ok((minted.lease, minted.value))
            }
            Ok(Inserted::Existing) => {
                leases.end(role, &minted.lease, until).await?;
                let recorded = self.recorded(work.secret, version).await?;
                recorded.ok_or_else(|| lost(work, version))
            }
            Err(error) => {
                // Where nobody knows whether it is on record, a repeat finds it there, or it ends by itself.
                if matches!(error.kind, ErrorKind::Denied | ErrorKind::Conflict) {
                    let _ended = leases.end(role, &minted.lease, until).await;
                }
                Err(error)
            }
        }
    }

    /// What the store says of a version's lease; `None` where its record is gone or damaged.
    async fn word_about(
        &self,
        (secret, version): (SecretId, u64),
        outside: &Outside,
        until: &Until,
    ) -> Result<Option<Evidence>, PortError> {
        let recorded = match self.recorded(secret, version).await {
            Err(error) if error.kind == ErrorKind::Corrupt => None,
            recorded => recorded?,
        };
        let Some((lease, _)) = recorded else {
            return Ok(None);
        };
        let role = &outside.source;
        let is_gone = self.leases()?.is_gone(role, &lease, until).await?;
        Ok(Some(Evidence {
            version,
            at: until.now(),
            place: format!("a lease of {} at store {}", role.path, outside.store.name),
            answer: match is_gone {
                true => Answer::LeaseGone,
                false => Answer::LeaseAlive,
            },
        }))
    }

    /// Ends leases at the store, then here. Every one is tried, also after one failed; the first failure
    /// is told, and what is on record stays there then.
    async fn end(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let outside = outside.ok_or_else(|| nowhere(secret))?;
        let leases = self.leases()?;
        let mut first = Ok(());
        let mut ending = outside.retire.clone();
        for version in versions {
            until.check()?;
            first = first.and(self.vault.destroy(secret, *version).await);
            match self.recorded(secret, *version).await {
                Ok(recorded) => ending.extend(recorded.map(|(lease, _)| lease)),
                Err(error) => first = first.and(Err(error)),
            }
        }
        first = first.and(end_all(leases, ending, outside, until).await);
        if first.is_ok() {
            for version in versions {
                until.check()?;
                first = first.and(self.vault.destroy(record_id(secret), *version).await);
            }
        }
        first
    }
}

#[async_trait]
impl Rotator for LeaseRotator {
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let version = new_version(work)?;
        until.check()?;
        let (lease, value) = match self.recorded(work.secret, version).await? {
            Some(recorded) => recorded,
            None => self.mint(work, version, until).await?,
        };
        let (role, leases) = (&place(work)?.source, self.leases()?);
        if leases.extend(role, &lease, until).await? == Extended::Gone {
            return Err(lost(work, version));
        }
        until.check()?;
        let kept = self
            .vault
            .insert(work.secret, version, work.rotation, &value);
        let kept = kept.await;
        // A revocation elsewhere that looked before the lease was on record does not end it, and it has its whole time.
        if let Err(error) = &kept
            && matches!(error.kind, ErrorKind::Denied | ErrorKind::Conflict)
        {
            let _ended = leases.end(role, &lease, until).await;
        }
        kept.map(drop)
    }

    async fn lease(&self, work: &StepWork) -> Result<Option<RemoteVersion>, PortError> {
        let recorded = self.recorded(work.secret, new_version(work)?).await?;
        Ok(recorded.map(|(lease, _)| lease))
    }

    /// The store accepts it from the moment it made it.
    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        until.check()?;
        new_version(work).map(drop)
    }

    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let version = new_version(work)?;
        until.check()?;
        let value = self.vault.open(work.secret, version).await?;
        match value.is_empty() {
            true => Err(lost(work, version)),
            false => Ok(()),
        }
    }

    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let version = new_version(work)?;
        until.check()?;
        match self.vault.has(work.secret, version).await? {
            true => Ok(None),
            false => Err(lost(work, version)),
        }
    }

    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.end(secret, versions, outside, until).await
    }

    /// Ends them at the store. What is on record stays, and with it what the lease is called.
    async fn disable(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let outside = outside.ok_or_else(|| nowhere(secret))?;
        let mut first = Ok(());
        let mut ending = outside.retire.clone();
        for version in versions {
            until.check()?;
            match self.recorded(secret, *version).await {
                Ok(recorded) => ending.extend(recorded.map(|(lease, _)| lease)),
                Err(error) => first = first.and(Err(error)),
            }
        }
        let ended = end_all(self.leases()?, ending, outside, until).await;
        first.and(ended)
    }

    /// Asks the store: that is its word, and no login. Whoever knows the server that the login is for tries one beside it.
    async fn prove(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<Proof, PortError> {
        let outside = self.place.as_ref().ok_or_else(|| nowhere(secret))?;
        let mut proof = Proof::lacking(ONLY_ITS_WORD);
        for version in versions {
            until.check()?;
            match self.word_about((secret, *version), outside, until).await {
                Ok(Some(evidence)) => proof.evidence.push(evidence),
                Ok(None) => {
                    let text = format!(
                        "nobody knows any more what the lease of version {version} is called"
                    );
                    proof.lacking = Some(text);
                }
                Err(error) if TellsNothing::is_beneath(&error) => proof.lacking = Some(error.text),
                Err(error) => return Err(error),
            }
        }
        Ok(proof)
    }

    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError> {
        until.check()?;
        if work.step != Step::Create {
            return Ok(Probed::NotDone);
        }
        let version = new_version(work)?;
        // Kept last: then all before it is done.
        if !self.vault.has(work.secret, version).await? {
            return Ok(Probed::NotDone);
        }
        self.lease(work).await.map(Probed::Done)
    }
}

/// Every one is tried, also after one failed; the first failure is told.
async fn end_all(
    leases: &dyn Leases,
    mut ending: Vec<RemoteVersion>,
    outside: &Outside,
    until: &Until,
) -> Result<(), PortError> {
    ending.sort_unstable();
    ending.dedup();
    let mut first = Ok(());
    for lease in &ending {
        let ended = leases.end(&outside.source, lease, until).await;
        first = first.and(ended);
    }
    first
}

/// Drops what is on record of leases whose end is proven, or will not be. Of other versions nothing is there.
///
/// # Errors
/// When the cache cannot.
pub async fn forget_leases(
    vault: &dyn VersionVault,
    (secret, versions): (SecretId, &[u64]),
    until: &Until,
) -> Result<(), PortError> {
    let record = record_id(secret);
    for version in versions {
        until.check()?;
        if vault.has(record, *version).await? {
            vault.destroy(record, *version).await?;
        }
    }
    Ok(())
}

fn record(minted: &Minted) -> SecretBytes {
    let name = minted.lease.0.as_bytes();
    // EXPOSE: kept sealed beside what its lease is called.
    let value = minted.value.expose();
    // The room is taken at once: a grown buffer would leave a copy behind.
    let mut bytes = Vec::with_capacity(name.len() + 1 + value.len());
    bytes.extend_from_slice(name);
    bytes.push(BREAK);
    bytes.extend_from_slice(value);
    SecretBytes::from(bytes)
}

/// Under which id a secret's records lie.
fn record_id(secret: SecretId) -> SecretId {
    SecretId::from_bytes(derived(secret.bytes()))
}

/// A token keeps one value, so a record has one of its own.
fn record_token(rotation: RotationId) -> RotationId {
    RotationId::from_bytes(derived(rotation.bytes()))
}

fn derived(id: &[u8; 16]) -> [u8; 16] {
    let digest = digest::sha256(&[b"keywheel lease record".as_slice(), id].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

fn place(work: &StepWork) -> Result<&Outside, PortError> {
    let outside = work.outside.as_deref();
    outside.ok_or_else(|| nowhere(work.secret))
}

fn nowhere(secret: SecretId) -> PortError {
    let text =
        format!("the work on secret {secret} names no store; apply the secret's manifest again");
    PortError::new(ErrorKind::Denied, text)
}

fn lost(work: &StepWork, version: u64) -> PortError {
    let text = format!(
        "the lease of version {version} of secret {} ended before the container had it; the container gets another one",
        work.secret
    );
    PortError::new(ErrorKind::Denied, text)
}

#[cfg(test)]
mod tests;
