//! `set` where an account keeps one password: what was asked for and not answered is looked at, for the
//! new password and then for the old one, before anything is chosen.
//!
//! Invariants: an account that has neither is given nothing more by itself, for whose password it has then
//! nobody here knows, and nor is one of which that cannot be told; a look changes nothing, and signs in only
//! where the admin may not read what the server keeps: a login that fails would keep a block alive. It does
//! not decide when a step is tried again.

use keywheel_core::effect::StepWork;
use keywheel_core::resource::Kind;
use keywheel_engine::port::accounts::{Keep, Keeps, Login};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;

use super::{AccountRotator, Credential};
use crate::password;

/// What an account takes after `set` was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// The new password.
    New,
    /// The old one; or there is none to try, and the new one is not taken.
    Old,
    /// None of the two.
    Neither,
    /// Nobody can tell.
    Unclear,
}

impl AccountRotator {
    /// The account takes the new password and no other. When the answer is lost it is looked at once; when
    /// that cannot be done either, it is as unclear as before.
    pub(super) async fn cut_over(
        &self,
        work: &StepWork,
        new: &Credential,
        until: &Until,
    ) -> Result<(), PortError> {
        let lost = match self.accept_alone(new, until).await {
            Err(error) if error.kind == ErrorKind::Unavailable => error,
            answered => return answered,
        };
        match self.look(work, new, until).await {
            Ok(Takes::New) if self.keeps_what_it_takes() => Ok(()),
            Ok(Takes::New | Takes::Old) => self.accept_alone(new, until).await,
            Ok(Takes::Neither) => Err(self.takes_neither(&new.login)),
            Ok(Takes::Unclear) => Err(self.tells_nothing(&new.login)),
            Err(_) => Err(lost),
        }
    }

    /// Whether an earlier attempt, whose answer is not known, did it.
    pub(super) async fn is_cut_over(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<bool, PortError> {
        let new = self.made(work, until).await?;
        let is_unclear = work.attempt > 1 && self.plan.unclear;
        match self.look(work, &new, until).await? {
            Takes::New => Ok(self.keeps_what_it_takes()),
            // After attempts that all said no this one does what the first would have done.
            Takes::Neither if is_unclear => Err(self.takes_neither(&new.login)),
            Takes::Unclear if is_unclear => Err(self.tells_nothing(&new.login)),
            Takes::Old | Takes::Neither | Takes::Unclear => Ok(false),
        }
    }

    async fn accept_alone(&self, new: &Credential, until: &Until) -> Result<(), PortError> {
        let Credential { login, password } = new;
        let accounts = &self.accounts;
        accounts.accept(login, password, Keep::Nothing, until).await
    }

    /// What the account has now, the new password first. A value that somebody gave may be meant for an
    /// account that never had the current one.
    async fn look(
        &self,
        work: &StepWork,
        new: &Credential,
        until: &Until,
    ) -> Result<Takes, PortError> {
        match self.kept(new, until).await? {
            Keeps::Yes => return Ok(Takes::New),
            Keeps::Unclear => return Ok(Takes::Unclear),
            Keeps::No => {}
        }
        let old = self.usable_current(work.secret, until).await?;
        let Some(old) = old.filter(|_| !work.provided) else {
            return Ok(Takes::Old);
        };
        Ok(match self.kept(&old, until).await? {
            Keeps::Yes => Takes::Old,
            Keeps::No => Takes::Neither,
            Keeps::Unclear => Takes::Unclear,
        })
    }

    /// Whether the account has it. What nobody can sign in with is not asked about.
    pub(super) async fn kept(&self, of: &Credential, until: &Until) -> Result<Keeps, PortError> {
        let Credential { login, password } = of;
        if !password::is_possible(password) {
            until.check()?;
            return Ok(Keeps::No);
        }
        self.accounts.keeps(login, password, until).await
    }

    /// Whether a password that lets in outlives a restart of the server. Redis takes one before it is
    /// written down; `accept` sees to that, and changes nothing where it is.
    const fn keeps_what_it_takes(&self) -> bool {
        !matches!(self.plan.resource.kind, Kind::Redis)
    }

    fn takes_neither(&self, login: &Login) -> PortError {
        let text = format!(
            "account {login} at {} has neither the new password nor the one before, so somebody gave it another; give it the one before back there, or `keywheel rotation abort` this rotation and rotate again, which sets a new one whatever it has",
            self.plan.resource
        );
        PortError::new(ErrorKind::Unavailable, text)
    }

    fn tells_nothing(&self, login: &Login) -> PortError {
        let text = format!(
            "what became of `set` cannot be told: account {login} at {} is locked, expired or blocked, and the admin may not read what it has; let it sign in again there, and it is looked at once more; or `keywheel rotation abort` this rotation and rotate again",
            self.plan.resource
        );
        PortError::new(ErrorKind::Unavailable, text)
    }
}
