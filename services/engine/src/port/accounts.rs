//! Accounts of one resource: what a rotation needs of the server that checks the passwords.
//!
//! Laws: every call may be repeated after a lost answer and changes nothing more; what is gone
//! already succeeds; a call begins only before its `Until`. Where an account keeps one password, [`Keep::Old`]
//! is refused as `Denied`, and nothing is changed; so is a third password beside two, as `Conflict`. After
//! `accept` with [`Keep::Nothing`] the account accepts this password and no other. An `accept` that was
//! cut off while it made an account finishes that when it is repeated. `refuse` with a password leaves
//! alone an account that does not accept that one: somebody gave it another. No text of an error holds a
//! password; it names the next step.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::resource::Resource;
use keywheel_core::revocation::Answer;
use keywheel_seal::SecretBytes;

use super::PortError;
use super::store::Credentials;
use crate::until::Until;

/// One account at the resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Login {
    /// As the manifest names it: `app`; where the server keeps accounts per host, `app@10.0.0.%`.
    pub name: String,
    /// The account that a missing one is made like; `None` where a missing one is an error.
    pub sibling: Option<String>,
}

impl Login {
    /// An account that has to be there.
    pub fn of(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            sibling: None,
        }
    }

    /// An account that is made like this one when it is missing.
    #[must_use]
    pub fn like(self, sibling: impl Into<String>) -> Self {
        Self {
            sibling: Some(sibling.into()),
            ..self
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What an account accepts beside a new password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The one before, where the resource can.
    Old,
    /// Nothing.
    Nothing,
}

/// Whether an account has a password, as far as that can be told without changing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// It has this one, whether or not anybody is let in now.
    Yes,
    /// It has another one or none, or is not there.
    No,
    /// Nobody can tell: the admin may not read it, and its login is turned away for another reason than its
    /// password (locked, expired, blocked).
    Unclear,
}

/// What sessions there are now: the server's time, or the last number it gave to a connection. It
/// means something only to the resource that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub i64);

/// Accounts of one resource.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Makes `login` accept `password`, beside what it accepts where `keep` says so and the resource
    /// can; an account that is missing is made like its sibling. Done twice it changes nothing more.
    async fn accept(
        &self,
        login: &Login,
        password: &SecretBytes,
        keep: Keep,
        until: &Until,
    ) -> Result<(), PortError>;
    /// Whether the server lets this login in with this password: a real login over a connection of its
    /// own. An account that is not there, or is locked, is `false`.
    async fn admits(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<bool, PortError>;
    /// How the server answers a login with a password that was revoked: the same login, and the class of the
    /// answer as far as the server tells.
    async fn answer(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Answer, PortError> {
        Ok(match self.admits(login, password, until).await? {
            true => Answer::Accepted,
            false => Answer::Refused,
        })
    }
    /// Whether the account has this password: what the server keeps of it, as the admin reads it; a login only
    /// where the admin may not. A login that fails counts at some servers, and keeps a block alive.
    async fn keeps(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Keeps, PortError> {
        Ok(match self.admits(login, password, until).await? {
            true => Keeps::Yes,
            false => Keeps::No,
        })
    }
    /// The password dies: where the account accepts two, the other one stays; else the account is
    /// locked and keeps no password. Without a password the account is locked whatever it accepts.
    async fn refuse(
        &self,
        login: &Login,
        password: Option<&SecretBytes>,
        until: &Until,
    ) -> Result<(), PortError>;
    /// Ends sessions of this login; gives how many.
    async fn end_sessions(&self, login: &Login, until: &Until) -> Result<u64, PortError>;
    /// What sessions there are now: compared by [`Accounts::older`].
    async fn mark(&self, until: &Until) -> Result<Mark, PortError>;
    /// How many sessions of this login are older than the mark; `None` when the server cannot tell, as of a mark
    /// that another server process made.
    async fn older(
        &self,
        login: &Login,
        mark: &Mark,
        until: &Until,
    ) -> Result<Option<u64>, PortError>;
    /// Least privileges of the admin login, as statements for a person (`keywheel rotator grants NAME`).
    fn grants(&self) -> String;
}

/// Makes accounts from what was declared.
pub trait ConnectAccounts: Send + Sync {
    /// The accounts of this resource. Opens no connection: that is done when they are asked.
    ///
    /// # Errors
    /// When this build has no such kind, or the declaration cannot be used.
    fn connect(
        &self,
        resource: &Resource,
        credentials: Arc<dyn Credentials>,
    ) -> Result<Arc<dyn Accounts>, PortError>;
}
