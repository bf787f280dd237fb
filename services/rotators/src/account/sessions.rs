//! Sessions that are open from before a line: of what dies at the end of a rotation, and of an account that
//! stands by.
//!
//! Invariants: where the server does not tell them, or it is not known which account a version opens, nobody
//! guesses; nothing is changed here.

use std::collections::BTreeSet;

use keywheel_core::effect::StepWork;
use keywheel_core::resource::Strategy;
use keywheel_core::rotation::Sessions;
use keywheel_engine::port::accounts::{Login, Mark};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;

use super::AccountRotator;

impl AccountRotator {
    /// How many sessions of these versions' accounts are from before the line that the work names, or from
    /// before now. Where two accounts alternate every session counts, whenever it began: whoever connects to
    /// the one that dies still uses what dies.
    pub(super) async fn open_on(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<Sessions>, PortError> {
        let mut logins = BTreeSet::new();
        for version in &work.versions {
            if let Some(opened) = self.credential(work.secret, *version, until).await? {
                logins.insert(opened.login);
                continue;
            }
            until.check()?;
            if !self.vault.is_destroyed(work.secret, *version).await? {
                return Ok(None);
            }
        }
        let line = match self.strategy() {
            Strategy::AlternatingUsers => None,
            Strategy::DualPassword | Strategy::SingleUser => work.mark.map(Mark),
        };
        match self.opened_before(&logins, line, until).await? {
            // Another server process gives numbers of its own: all that is open there counts, by a new line.
            None if line.is_some() => self.opened_before(&logins, None, until).await,
            told => Ok(told),
        }
    }

    /// A standby account is not reused before its sessions are gone: they would be taken for new ones.
    pub(super) async fn check_drained(
        &self,
        login: &Login,
        until: &Until,
    ) -> Result<(), PortError> {
        let logins = BTreeSet::from([login.clone()]);
        match self.opened_before(&logins, None, until).await? {
            Some(Sessions { left: 0, .. }) => Ok(()),
            Some(Sessions { left, .. }) => {
                let text = format!(
                    "account {login} at {} still has {left} sessions from before, so it is not given a new password; end them there, or restart what holds them",
                    self.plan.resource
                );
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
            None => {
                tracing::warn!(
                    account = login.name,
                    "the server does not tell the sessions of a standby account; it is reused"
                );
                Ok(())
            }
        }
    }

    async fn opened_before(
        &self,
        logins: &BTreeSet<Login>,
        mark: Option<Mark>,
        until: &Until,
    ) -> Result<Option<Sessions>, PortError> {
        let mark = match mark {
            Some(mark) => mark,
            None => self.accounts.mark(until).await?,
        };
        let mut left = 0_u64;
        for login in logins {
            let Some(older) = self.accounts.older(login, &mark, until).await? else {
                return Ok(None);
            };
            left = left.saturating_add(older);
        }
        let mark = mark.0;
        Ok(Some(Sessions { mark, left }))
    }
}
