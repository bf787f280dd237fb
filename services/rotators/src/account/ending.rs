//! How the password of a version dies: at the end of a rotation, when one is rolled back, and in an
//! incident.
//!
//! Invariants: a password that was to die is tried once more, and what still lets it in is an error; a
//! version's value is destroyed after its password died, never before; a password that another version
//! that is kept has, too, dies with the last of them, but for a revocation, which insists; an account
//! that was only to be taken over is left as it is.

use keywheel_core::effect::StepWork;
use keywheel_core::id::SecretId;
use keywheel_core::resource::Strategy;
use keywheel_engine::port::accounts::{Keep, Keeps, Login};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;

use super::{AccountRotator, Credential};
use crate::{barring, password};

impl AccountRotator {
    /// One version ends in the course of a rotation. What somebody gave back to its account is left there
    /// and told; the value goes all the same.
    pub(super) async fn retire_one(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<(), PortError> {
        let mut left = Ok(());
        if let Some(old) = self.credential(secret, version, until).await? {
            let ended = self.end(secret, version, &old, until).await;
            let is_cut_over = self.strategy() == Strategy::SingleUser;
            match ended {
                Err(error) if error.kind == ErrorKind::Conflict && is_cut_over => left = Err(error),
                // Who calls takes a conflict for what was left on purpose; this one is tried again.
                Err(error) if error.kind == ErrorKind::Conflict => {
                    let kind = ErrorKind::Unavailable;
                    return Err(PortError { kind, ..error });
                }
                ended => ended?,
            }
        }
        until.check()?;
        self.vault.destroy(secret, version).await?;
        left
    }

    async fn end(
        &self,
        secret: SecretId,
        version: u64,
        old: &Credential,
        until: &Until,
    ) -> Result<(), PortError> {
        if self.is_shared(secret, version, old, until).await? {
            return Ok(());
        }
        match self.strategy() {
            Strategy::AlternatingUsers => self.withdraw(old, until).await,
            Strategy::DualPassword => self.leave_current(secret, old, until).await,
            Strategy::SingleUser => self.check_ended(old, until).await,
        }
    }

    /// What `set` did is undone. An account that was to be taken over with a value that somebody gave is
    /// left alone: nobody here knows another password that is good for it, and who gave this one has it.
    pub(super) async fn take_back(
        &self,
        work: &StepWork,
        new: &Credential,
        until: &Until,
    ) -> Result<(), PortError> {
        let version = work.versions.first().copied().unwrap_or_default();
        if self.is_shared(work.secret, version, new, until).await? {
            return Ok(());
        }
        if work.provided && self.usable_current(work.secret, until).await?.is_none() {
            tracing::warn!(
                account = new.login.name,
                "account was not taken over and is left as it is; it may accept the provided password"
            );
            return Ok(());
        }
        match self.strategy() {
            Strategy::AlternatingUsers => self.withdraw(new, until).await,
            Strategy::DualPassword | Strategy::SingleUser => {
                self.leave_current(work.secret, new, until).await
            }
        }
    }

    /// One version is revoked: its password dies, and so do all sessions of its account, for nobody can
    /// tell which of them were opened with it.
    pub(super) async fn revoke_one(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<(), PortError> {
        self.disable_one(secret, version, until).await?;
        until.check()?;
        self.vault.destroy(secret, version).await
    }

    /// The same, and its value stays: a login with it has to be refused first. A `set` that comes after this finds that
    /// it was revoked.
    pub(super) async fn disable_one(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()?;
        barring::bar(&*self.vault, secret, version).await?;
        match self.credential(secret, version, until).await? {
            Some(leaked) => {
                // A revocation waits for no answer about other versions.
                if let Ok(true) = self.is_shared(secret, version, &leaked, until).await {
                    tracing::warn!(
                        account = leaked.login.name,
                        "another version has the password that is revoked; it dies for that one, too"
                    );
                }
                self.cut_off(&leaked, until).await?;
            }
            None => {
                until.check()?;
                if !self.vault.is_destroyed(secret, version).await? {
                    self.cut_off_unknown(secret, version, until).await?;
                }
            }
        }
        Ok(())
    }

    /// Its password dies, then its sessions end; they do so also where it is not known whether the
    /// password is dead: that is tried again, and a thief is not left in meanwhile.
    async fn cut_off(&self, leaked: &Credential, until: &Until) -> Result<(), PortError> {
        if !password::is_possible(&leaked.password) {
            // Nobody ever signed in with it.
            return until.check();
        }
        let withdrawn = self.withdraw(leaked, until).await;
        let ended = self.end_sessions(&leaked.login, until).await;
        withdrawn.and(ended)
    }

    /// The version's value is gone though nobody destroyed it: its password, and with it which account it
    /// opens, is not known. Everything dies that it may be.
    async fn cut_off_unknown(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<(), PortError> {
        let mut first = Ok(());
        for login in self.perhaps_opened(secret, version, until).await? {
            tracing::warn!(
                account = login.name,
                "the value that is revoked is gone; whatever its account accepts beside the current password ends"
            );
            let done = self.end_all_but_current(secret, &login, until).await;
            let ended = self.end_sessions(&login, until).await;
            first = first.and(done).and(ended);
        }
        first
    }

    async fn end_all_but_current(
        &self,
        secret: SecretId,
        login: &Login,
        until: &Until,
    ) -> Result<(), PortError> {
        let is_alone = self.strategy() == Strategy::AlternatingUsers || self.plan.current.is_none();
        if is_alone {
            return self.accounts.refuse(login, None, until).await;
        }
        let Some(Credential { login, password }) = self.usable_current(secret, until).await? else {
            return Err(self.unknown(login.name.as_str()));
        };
        self.accounts
            .accept(&login, &password, Keep::Nothing, until)
            .await
    }

    /// The accounts that a version may open whose value is gone: where they alternate, all that no other
    /// version opens, for what one opens got a password of its own.
    async fn perhaps_opened(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<Vec<Login>, PortError> {
        let mut names = self.plan.resource.accounts.clone();
        if self.strategy() == Strategy::AlternatingUsers {
            for other in self.others(&[version]) {
                let Some(other) = self.credential(secret, other, until).await? else {
                    return Err(self.unknown(&names.join(" or ")));
                };
                names.retain(|name| *name != other.login.name);
            }
        }
        Ok(names.iter().map(|name| self.login(name)).collect())
    }

    fn unknown(&self, accounts: &str) -> PortError {
        let text = format!(
            "the revoked value is gone from the cache, and so is another one, so nobody knows which password of account {accounts} at {} has to die; revoke the secret's other versions, too, then all of them do",
            self.plan.resource
        );
        PortError::new(ErrorKind::Denied, text)
    }

    async fn end_sessions(&self, login: &Login, until: &Until) -> Result<(), PortError> {
        let ended = self.accounts.end_sessions(login, until).await?;
        tracing::info!(account = login.name, ended, "sessions ended");
        Ok(())
    }

    /// What the current version opens, if its account can be given that: a value from before the secret
    /// had a rotator may be none that we would set.
    pub(super) async fn usable_current(
        &self,
        secret: SecretId,
        until: &Until,
    ) -> Result<Option<Credential>, PortError> {
        let current = self.current(secret, until).await?;
        Ok(current.filter(|current| password::fault(&current.password).is_none()))
    }

    /// Whether another version whose value is kept opens the very same. No two versions share one of the
    /// accounts that alternate.
    async fn is_shared(
        &self,
        secret: SecretId,
        version: u64,
        of: &Credential,
        until: &Until,
    ) -> Result<bool, PortError> {
        if self.strategy() == Strategy::AlternatingUsers {
            return Ok(false);
        }
        for other in self.others(&[version]) {
            let other = self.credential(secret, other, until).await?;
            if other.is_some_and(|other| other.password.ct_eq(&of.password)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The server refuses this credential from now on; it is tried once more to be sure.
    async fn withdraw(&self, old: &Credential, until: &Until) -> Result<(), PortError> {
        let Credential { login, password } = old;
        if !password::is_possible(password) {
            return until.check();
        }
        self.accounts.refuse(login, Some(password), until).await?;
        self.check_refused(old, until).await
    }

    async fn check_refused(&self, old: &Credential, until: &Until) -> Result<(), PortError> {
        if !self.admits(old, until).await? {
            return Ok(());
        }
        let text = format!(
            "{} still lets account {} in with a password that was withdrawn; lock the account there",
            self.plan.resource, old.login
        );
        Err(PortError::new(ErrorKind::Denied, text))
    }

    /// `set` ended the old password of a cut-over. Where it is good, somebody gave it back: the account
    /// is in use with it.
    async fn check_ended(&self, old: &Credential, until: &Until) -> Result<(), PortError> {
        if !self.admits(old, until).await? {
            return Ok(());
        }
        let text = format!(
            "account {} at {} has its old password again, which somebody gave it; rotate again",
            old.login, self.plan.resource
        );
        Err(PortError::new(ErrorKind::Conflict, text))
    }

    /// The one password of an account that lets in with neither. A lock or an expiry turns every login away and
    /// says nothing of it; what somebody gave it meanwhile is left alone. Where the current one is good, a statement
    /// that nobody heard the end of may still be under way: whoever sets it again waits for that.
    async fn give_back(
        &self,
        current: &Credential,
        dying: &Credential,
        is_current_good: bool,
        until: &Until,
    ) -> Result<(), PortError> {
        if !is_current_good && self.kept(dying, until).await? == Keeps::No {
            return Ok(());
        }
        let Credential { login, password } = current;
        self.accounts
            .accept(login, password, Keep::Nothing, until)
            .await?;
        self.check_refused(dying, until).await
    }

    /// Whether the version was revoked that was current when this was asked for.
    async fn is_current_barred(&self, secret: SecretId, until: &Until) -> Result<bool, PortError> {
        until.check()?;
        match self.plan.current {
            Some(current) => barring::is_barred(&*self.vault, secret, current).await,
            None => Ok(false),
        }
    }

    /// One of the passwords of an account that stays dies. Where the account accepts the current
    /// version's beside it, only this one is taken away: the server looks at what it keeps, for a login
    /// that fails proves nothing of that. Else the account is given the current version's back, unless that was revoked.
    async fn leave_current(
        &self,
        secret: SecretId,
        dying: &Credential,
        until: &Until,
    ) -> Result<(), PortError> {
        let current = self.usable_current(secret, until).await?;
        let is_revoked = self.is_current_barred(secret, until).await?;
        let Some(current) = current.filter(|_| !is_revoked) else {
            return self.withdraw(dying, until).await;
        };
        let is_current_good = self.admits(&current, until).await?;
        if is_current_good && self.strategy() == Strategy::DualPassword {
            return self.withdraw(dying, until).await;
        }
        if !self.admits(dying, until).await? {
            return match self.strategy() {
                Strategy::DualPassword => self.withdraw(dying, until).await,
                Strategy::AlternatingUsers => Ok(()),
                Strategy::SingleUser => {
                    self.give_back(&current, dying, is_current_good, until)
                        .await
                }
            };
        }
        let Credential { login, password } = &current;
        self.accounts
            .accept(login, password, Keep::Nothing, until)
            .await?;
        self.check_refused(dying, until).await
    }
}
