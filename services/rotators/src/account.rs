//! The steps of a rotation over accounts: the new password is kept in the vault first, then the server
//! learns it, then a real login proves it, and at the end the server refuses the old one.
//!
//! Which account a version opens stands in its value, so that whoever performs a step after a crash
//! finds it there. Invariants: an account is chosen only when no other version that is kept opens it, and
//! given a new password only when no session of it is left ([`sessions`]); what is kept in the vault is fit to be a
//! password; a server that lets everybody in fails the test. How passwords die is in [`ending`], what shows
//! that they are dead in [`proving`], what an unclear cut-over came to in [`cutting_over`]. It talks to no
//! server itself.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::effect::{AtResource, Outside, StepWork};
use keywheel_core::id::SecretId;
use keywheel_core::resource::Strategy;
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::{Sessions, Step};
use keywheel_core::secret::Generator;
use keywheel_core::store::RemoteVersion;
use keywheel_engine::generator;
use keywheel_engine::port::accounts::{Accounts, Keep, Login};
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::{Entropy, SecretBytes};

use crate::{barring, form, password};

mod cutting_over;
mod ending;
pub(crate) mod proving;
mod sessions;
#[cfg(test)]
mod tests;

/// Characters of the password with which it is tried whether a server lets everybody in.
const NONSENSE_LENGTH: u32 = 32;

/// Rotates the password of an account, or of two that alternate.
pub struct AccountRotator {
    accounts: Arc<dyn Accounts>,
    plan: AtResource,
    vault: Arc<dyn VersionVault>,
    entropy: Arc<dyn Entropy>,
}

/// A version's account and its password.
pub(crate) struct Credential {
    pub(crate) login: Login,
    pub(crate) password: SecretBytes,
}

impl AccountRotator {
    /// A rotator for the work on one secret.
    #[must_use]
    pub fn new(
        accounts: Arc<dyn Accounts>,
        plan: AtResource,
        vault: Arc<dyn VersionVault>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            accounts,
            plan,
            vault,
            entropy,
        }
    }

    fn strategy(&self) -> Strategy {
        self.plan.resource.strategy
    }

    /// The account by its name; where two alternate, a missing one is made like the other.
    fn login(&self, name: &str) -> Login {
        let login = Login::of(name);
        if self.strategy() != Strategy::AlternatingUsers {
            return login;
        }
        let mut others = self.plan.resource.accounts.iter();
        match others.find(|other| *other != name) {
            Some(sibling) => login.like(sibling.clone()),
            None => login,
        }
    }

    /// The account for a new version: one that no version opens whose value is still kept.
    async fn choose(&self, work: &StepWork, until: &Until) -> Result<Login, PortError> {
        self.check_room(work, until).await?;
        let accounts = &self.plan.resource.accounts;
        let mut free = accounts.clone();
        if self.strategy() == Strategy::AlternatingUsers {
            for version in self.others(&work.versions) {
                if let Some(credential) = self.credential(work.secret, version, until).await? {
                    free.retain(|account| *account != credential.login.name);
                }
            }
        }
        if let Some(account) = free.first() {
            return Ok(self.login(account));
        }
        let text = format!(
            "accounts {} of {} are both in use by versions that are not retired yet; wait until the older one is, or end it with `keywheel revoke NAME --version N`",
            accounts.join(" and "),
            self.plan.resource
        );
        Err(PortError::new(ErrorKind::Unavailable, text))
    }

    /// Every other version whose value may be kept, the current one among them.
    fn others(&self, versions: &[u64]) -> impl Iterator<Item = u64> {
        let kept = self.plan.kept.iter().chain(&self.plan.current).copied();
        kept.filter(|version| !versions.contains(version))
    }

    /// An account that accepts two passwords has no room for a third one: beside the current version's
    /// that of an older one is in use until it is retired.
    async fn check_room(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        if self.strategy() != Strategy::DualPassword || self.plan.current.is_none() {
            return Ok(());
        }
        for version in self.others(&work.versions) {
            if self.plan.current == Some(version) {
                continue;
            }
            until.check()?;
            if self.vault.has(work.secret, version).await? {
                let text = format!(
                    "the account at {} accepts two passwords, and that of version {version} is not retired yet; wait until it is, or end it with `keywheel revoke NAME --version {version}`",
                    self.plan.resource
                );
                return Err(PortError::new(ErrorKind::Unavailable, text));
            }
        }
        Ok(())
    }

    /// What a version opens; `None` when its value is gone or never was.
    async fn credential(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<Option<Credential>, PortError> {
        until.check()?;
        let value = match self.vault.open(secret, version).await {
            Ok(value) => value,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(opened) = form::decode(self.strategy(), &value) else {
            let text = format!(
                "version {version} of secret {secret} is no account with its password, so what it opens at {} is not known; revoke it there by hand",
                self.plan.resource
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        };
        let accounts = &self.plan.resource.accounts;
        let Some(name) = opened.account.or_else(|| accounts.first().cloned()) else {
            let text = format!("no account is named for {}; name one", self.plan.resource);
            return Err(PortError::new(ErrorKind::Denied, text));
        };
        Ok(Some(Credential {
            login: self.login(&name),
            password: opened.password,
        }))
    }

    /// What the new version opens; it is there, for `create` was done.
    async fn made(&self, work: &StepWork, until: &Until) -> Result<Credential, PortError> {
        let version = new_version(work)?;
        let found = self.credential(work.secret, version, until).await?;
        found.ok_or_else(|| {
            let text = format!(
                "version {version} of secret {} is not in the cache; rotate again",
                work.secret
            );
            PortError::new(ErrorKind::NotFound, text)
        })
    }

    /// The password of the new version: what was given, or a new one.
    async fn password(&self, work: &StepWork, until: &Until) -> Result<SecretBytes, PortError> {
        if work.provided {
            until.check()?;
            let stashed = self.vault.stashed(work.rotation).await?;
            return stashed
                .ok_or_else(|| refused(work, "its provided value is gone; put the value again"));
        }
        let Some(spec) = &work.generator else {
            let reason = "no value was provided and the secret has no generator";
            return Err(refused(work, reason));
        };
        self.generate(spec)
    }

    fn generate(&self, spec: &Generator) -> Result<SecretBytes, PortError> {
        generator::generate(spec, &*self.entropy)
            .map_err(|error| PortError::new(ErrorKind::Denied, error.to_string()))
    }

    /// Whether the server lets it in. What nobody can sign in with is not asked about: an adapter could
    /// not even say it.
    async fn admits(&self, of: &Credential, until: &Until) -> Result<bool, PortError> {
        let Credential { login, password } = of;
        if !password::is_possible(password) {
            until.check()?;
            return Ok(false);
        }
        self.accounts.admits(login, password, until).await
    }

    /// The account accepts the new password, and beside it that of the current version: not what nobody
    /// here would take back. That the current one is not accepted is believed only where another login is
    /// let in: one that fails alone may fail for any other reason.
    async fn accept_beside(
        &self,
        secret: SecretId,
        new: &Credential,
        until: &Until,
    ) -> Result<(), PortError> {
        let Credential { login, password } = new;
        let accounts = &self.accounts;
        let Some(current) = self.current(secret, until).await? else {
            let keep = Keep::Nothing;
            return accounts.accept(login, password, keep, until).await;
        };
        accounts.accept(login, password, Keep::Old, until).await?;
        if self.admits(&current, until).await? || !self.admits(new, until).await? {
            return Ok(());
        }
        let keep = Keep::Nothing;
        accounts.accept(login, password, keep, until).await
    }

    /// The server accepts the new version, by its strategy.
    async fn accept_made(
        &self,
        work: &StepWork,
        made: &Credential,
        until: &Until,
    ) -> Result<(), PortError> {
        match self.strategy() {
            Strategy::DualPassword => return self.accept_beside(work.secret, made, until).await,
            Strategy::AlternatingUsers if !self.admits(made, until).await? => {
                self.check_drained(&made.login, until).await?;
            }
            Strategy::AlternatingUsers => {}
            Strategy::SingleUser => return self.cut_over(work, made, until).await,
        }
        let Credential { login, password } = made;
        let keep = Keep::Nothing;
        self.accounts.accept(login, password, keep, until).await
    }

    /// Fails when the version was revoked. Where the server lets it in all the same, it was told of it since.
    async fn check_barred(
        &self,
        work: &StepWork,
        made: &Credential,
        until: &Until,
    ) -> Result<(), PortError> {
        let version = new_version(work)?;
        until.check()?;
        if !barring::is_barred(&*self.vault, work.secret, version).await? {
            return Ok(());
        }
        if self.admits(made, until).await? {
            self.disable_one(work.secret, version, until).await?;
        }
        Err(barring::barred(work, version))
    }

    /// What the current version opens.
    async fn current(
        &self,
        secret: SecretId,
        until: &Until,
    ) -> Result<Option<Credential>, PortError> {
        match self.plan.current {
            Some(current) => self.credential(secret, current, until).await,
            None => Ok(None),
        }
    }

    /// What somebody else put at a store outside may open no account that another version opens, where they
    /// alternate: that one's end would lock it.
    async fn refuse_taken(
        &self,
        work: &StepWork,
        made: &Credential,
        until: &Until,
    ) -> Result<(), PortError> {
        let outside = work.outside.as_deref();
        let is_taken = outside.is_some_and(|outside| outside.fetch.is_some());
        if !is_taken || self.strategy() != Strategy::AlternatingUsers {
            return Ok(());
        }
        for version in self.others(&work.versions) {
            let other = self.credential(work.secret, version, until).await?;
            if other.is_some_and(|other| other.login.name == made.login.name) {
                let text = format!(
                    "somebody put another password of account {} at its store, which version {version} opens; put back what was there, and have Keywheel rotate it",
                    made.login
                );
                return Err(PortError::new(ErrorKind::Denied, text));
            }
        }
        Ok(())
    }

    /// Fails when the server lets in who has no right password: then a login proves nothing.
    async fn check_door(&self, login: &Login, until: &Until) -> Result<(), PortError> {
        let spec = Generator {
            length: NONSENSE_LENGTH,
            ..Generator::default()
        };
        let nonsense = self.generate(&spec)?;
        if !self.accounts.admits(login, &nonsense, until).await? {
            return Ok(());
        }
        let text = format!(
            "{} lets account {login} in with any password, so none can be revoked; make it ask for one there",
            self.plan.resource
        );
        Err(PortError::new(ErrorKind::Denied, text))
    }
}

#[async_trait]
impl Rotator for AccountRotator {
    /// Keeps account and password; who comes second under the token takes what the first one chose.
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let version = new_version(work)?;
        let password = self.password(work, until).await?;
        if let Some(fault) = password::fault(&password) {
            return Err(refused(work, &fault));
        }
        let login = self.choose(work, until).await?;
        let Some(value) = form::encode(self.strategy(), &login.name, &password) else {
            let reason = "an account's password has to be text; put another one";
            return Err(refused(work, reason));
        };
        keep(&*self.vault, work, version, &value, until).await
    }

    /// What was revoked is not set, however late this comes, and what a revocation in the meantime did not see ends.
    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let made = self.made(work, until).await?;
        self.check_barred(work, &made, until).await?;
        let done = self.accept_made(work, &made, until).await;
        self.check_barred(work, &made, until).await?;
        done
    }

    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let made = self.made(work, until).await?;
        self.refuse_taken(work, &made, until).await?;
        let login = &made.login;
        if !self.admits(&made, until).await? {
            let text = format!(
                "{} does not let account {login} in with its new password; look at its log, and at what else decides there who may sign in",
                self.plan.resource
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        self.check_door(login, until).await
    }

    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        self.made(work, until).await.map(|_| None)
    }

    async fn roll_back(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let version = new_version(work)?;
        if let Some(new) = self.credential(work.secret, version, until).await? {
            self.take_back(work, &new, until).await?;
        }
        until.check()?;
        self.vault.destroy(work.secret, version).await
    }

    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        _: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        each(versions, |version| self.revoke_one(secret, version, until)).await
    }

    /// As `revoke`; their values stay.
    async fn disable(
        &self,
        secret: SecretId,
        versions: &[u64],
        _: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        each(versions, |version| self.disable_one(secret, version, until)).await
    }

    async fn prove(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<Proof, PortError> {
        self.knock_with(secret, versions, until).await
    }

    /// `revoke` at the end of a rotation: sessions go on, and end as their clients end them.
    async fn retire(
        &self,
        secret: SecretId,
        versions: &[u64],
        _: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        each(versions, |version| self.retire_one(secret, version, until)).await
    }

    /// Of `create` the vault tells, of a cut-over the account; every other step sees by itself what there is.
    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError> {
        until.check()?;
        let is_done = match work.step {
            Step::Create => {
                let version = new_version(work)?;
                // A value that is still in the stash has to be taken out of it.
                let waits = work.provided && self.vault.stashed(work.rotation).await?.is_some();
                until.check()?;
                !waits && self.vault.has(work.secret, version).await?
            }
            // An account that keeps one password has all of its rights.
            Step::Set if self.strategy() == Strategy::SingleUser => {
                let version = new_version(work)?;
                // Then `set` ends it.
                let is_barred = barring::is_barred(&*self.vault, work.secret, version).await?;
                !is_barred && self.is_cut_over(work, until).await?
            }
            // That an account lets in is not all of `set`: its rights may be missing yet. `accept` sees what
            // is, and changes nothing where nothing is.
            Step::Set
            | Step::Test
            | Step::Finish
            | Step::RevokeOld
            | Step::RollBack
            | Step::Drain => false,
        };
        Ok(match is_done {
            true => Probed::Done(None),
            false => Probed::NotDone,
        })
    }

    async fn sessions(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<Sessions>, PortError> {
        self.open_on(work, until).await
    }
}

/// Every version is tried, also after one failed; the first failure is told.
async fn each<F>(versions: &[u64], one: impl Fn(u64) -> F) -> Result<(), PortError>
where
    F: Future<Output = Result<(), PortError>>,
{
    let mut first = Ok(());
    for version in versions {
        first = first.and(one(*version).await);
    }
    first
}

/// Keeps the value of the new version under its rotation's token; a provided one waits no more then.
pub(crate) async fn keep(
    vault: &dyn VersionVault,
    work: &StepWork,
    version: u64,
    value: &SecretBytes,
    until: &Until,
) -> Result<(), PortError> {
    until.check()?;
    let (secret, token) = (work.secret, work.rotation);
    match vault.insert(secret, version, token, value).await {
        Ok(_) if work.provided => {
            until.check()?;
            vault.drop_stashed(token).await
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind == ErrorKind::Denied && work.provided => {
            // Nothing can use the value any more. If dropping fails, the roll-back drops it.
            let _ = vault.drop_stashed(token).await;
            Err(error)
        }
        Err(error) => Err(error),
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

pub(crate) fn refused(work: &StepWork, reason: &str) -> PortError {
    let text = format!(
        "the new version of secret {} cannot be made: {reason}",
        work.secret
    );
    PortError::new(ErrorKind::Denied, text)
}
