//! The `local` store: our own sealed vault is the backend.
//!
//! Steps: `create` keeps a generated or provided value under the rotation's token; `set` has no
//! backend to tell; `test` opens the value and checks it; `finish` checks it is still there; `revoke`
//! destroys. Invariants: each step may be repeated or interrupted anywhere; a provided value leaves
//! the stash only after its version is kept, or when it can never be; no call after the deadline. Stages are the journal's, not ours.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::SecretId;
use keywheel_core::rotation::Step;
use keywheel_core::store::RemoteVersion;
use keywheel_engine::generator;
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::{Entropy, SecretBytes};

/// Rotates secrets whose values live with us.
pub struct LocalStore {
    vault: Arc<dyn VersionVault>,
    entropy: Arc<dyn Entropy>,
}

impl LocalStore {
    /// A store over this vault.
    #[must_use]
    pub fn new(vault: Arc<dyn VersionVault>, entropy: Arc<dyn Entropy>) -> Self {
        Self { vault, entropy }
    }

    /// Keeps the stashed value.
    async fn create_provided(
        &self,
        work: &StepWork,
        version: u64,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()?;
        if let Some(value) = self.vault.stashed(work.rotation).await? {
            until.check()?;
            let kept = self
                .vault
                .insert(work.secret, version, work.rotation, &value)
                .await;
            return match kept {
                Ok(_) => {
                    until.check()?;
                    self.vault.drop_stashed(work.rotation).await
                }
                Err(error) if error.kind == ErrorKind::Denied => {
                    // Nothing can use the value any more. If dropping fails, the roll-back drops it.
                    let _ = self.vault.drop_stashed(work.rotation).await;
                    Err(error)
                }
                Err(error) => Err(error),
            };
        }
        Err(refused(
            work,
            version,
            "its provided value is gone; put the value again",
        ))
    }

    async fn create_generated(
        &self,
        work: &StepWork,
        version: u64,
        until: &Until,
    ) -> Result<(), PortError> {
        let Some(spec) = &work.generator else {
            return Err(refused(
                work,
                version,
                "no value was provided and the secret has no generator",
            ));
        };
        let value = generator::generate(spec, &*self.entropy)
            .map_err(|error| PortError::new(ErrorKind::Denied, error.to_string()))?;
        until.check()?;
        self.vault
            .insert(work.secret, version, work.rotation, &value)
            .await
            .map(drop)
    }
}

#[async_trait]
impl Rotator for LocalStore {
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let version = new_version(work)?;
        if work.provided {
            self.create_provided(work, version, until).await
        } else {
            self.create_generated(work, version, until).await
        }
    }

    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        until.check()?;
        new_version(work).map(drop)
    }

    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let version = new_version(work)?;
        until.check()?;
        let value = self.vault.open(work.secret, version).await?;
        if is_acceptable(work, &value) {
            return Ok(());
        }
        Err(refused(
            work,
            version,
            "its value does not fit the secret's rules; put or rotate it again",
        ))
    }

    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let version = new_version(work)?;
        until.check()?;
        if self.vault.has(work.secret, version).await? {
            return Ok(None);
        }
        let text = format!(
            "version {version} of secret {} is not in the cache; rotate again",
            work.secret
        );
        Err(PortError::new(ErrorKind::NotFound, text))
    }

    /// Every version is tried, also after one failed; the first failure is told.
    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        _: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        let mut first = Ok(());
        for version in versions {
            until.check()?;
            let done = self.vault.destroy(secret, *version).await;
            first = first.and(done);
        }
        first
    }

    /// A value that is still in the stash has to be taken out of it, also when it is kept.
    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError> {
        until.check()?;
        if work.step != Step::Create {
            return Ok(Probed::NotDone);
        }
        let version = new_version(work)?;
        if work.provided && self.vault.stashed(work.rotation).await?.is_some() {
            return Ok(Probed::NotDone);
        }
        until.check()?;
        Ok(probed(self.vault.has(work.secret, version).await?))
    }
}

/// Of a step that gives nothing.
pub(crate) const fn probed(is_done: bool) -> Probed {
    match is_done {
        true => Probed::Done(None),
        false => Probed::NotDone,
    }
}

/// The one version a step before the promotion works on.
pub(crate) fn new_version(work: &StepWork) -> Result<u64, PortError> {
    match work.versions[..] {
        [version] => Ok(version),
        _ => {
            let text = format!(
                "rotation {} names {} new versions instead of one",
                work.rotation,
                work.versions.len()
            );
            Err(PortError::new(ErrorKind::Denied, text))
        }
    }
}

/// A provided value is not empty; a generated one looks as its generator makes them.
fn is_acceptable(work: &StepWork, value: &SecretBytes) -> bool {
    match &work.generator {
        Some(spec) if !work.provided => generator::satisfies(value, spec),
        _ => !value.is_empty(),
    }
}

fn refused(work: &StepWork, version: u64, reason: &str) -> PortError {
    let text = format!(
        "version {version} of secret {} cannot be used: {reason}",
        work.secret
    );
    PortError::new(ErrorKind::Denied, text)
}

#[cfg(test)]
mod tests;
