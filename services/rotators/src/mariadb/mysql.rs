//! What a MySQL server, 8.0.22 or newer, is asked otherwise than a MariaDB one: an account has a primary and a
//! secondary password (`RETAIN CURRENT PASSWORD`, `DISCARD OLD PASSWORD`).
//!
//! Invariants as beside it: what an account accepts is read before it is changed. An account is never made here:
//! both that take turns have to be there, with their rights. A server that is read-only is left as it is: its
//! `CONNECTION_ADMIN`, with which sessions are ended, would let the admin change accounts there, at that server alone.

mod account;
mod sha2;

use keywheel_engine::port::accounts::Keep;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;

use self::account::{Account, MAX_SHA2_PASSWORD};
use self::sha2::SALT_BYTES;
use super::account::Who;
use super::session::Session;
use super::{MariaDbAccounts, first};

/// In the order in which [`Account::read`] takes it.
const KEPT: &str = "SELECT CAST(plugin AS CHAR), CAST(authentication_string AS CHAR), \
     CAST(account_locked AS CHAR), \
     COALESCE(JSON_UNQUOTE(JSON_EXTRACT(User_attributes, '$.additional_password')), ''), \
     CAST(COALESCE(JSON_CONTAINS_PATH(User_attributes, 'one', '$.multi_factor_authentication'), 0) \
     AS CHAR), CAST(ssl_type AS CHAR), COALESCE((SELECT CAST(VARIABLE_VALUE AS CHAR) \
     FROM performance_schema.global_variables \
     WHERE VARIABLE_NAME = 'caching_sha2_password_digest_rounds'), '') \
     FROM mysql.user WHERE User = ? AND Host = ?";
const IS_READ_ONLY: &str = "SELECT CAST(@@GLOBAL.read_only AS CHAR)";
const AROUND_SET: [&str; 2] = ["rotator.mariadb.before_set", "rotator.mariadb.after_set"];
const AROUND_REFUSE: [&str; 2] = [
    "rotator.mariadb.before_refuse",
    "rotator.mariadb.after_refuse",
];

impl MariaDbAccounts {
    /// The account as the server keeps it; nothing when it is not there.
    async fn mysql_account(
        &self,
        session: &mut Session<'_>,
        who: &Who,
    ) -> Result<Option<Account>, PortError> {
        let rows = session.rows(KEPT, &[&who.user, &who.host]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let account = Account::read(row).ok_or_else(|| {
            let text = format!(
                "{}: what it keeps of {who} is not understood",
                self.address.name
            );
            PortError::new(ErrorKind::Corrupt, text)
        })?;
        Ok(Some(account))
    }

    pub(super) async fn mysql_keeps(
        &self,
        session: &mut Session<'_>,
        who: &Who,
        password: &SecretBytes,
    ) -> Result<bool, PortError> {
        let account = self.mysql_account(session, who).await?;
        Ok(account.is_some_and(|account| account.keeps(password)))
    }

    pub(super) async fn mysql_accept(
        &self,
        session: &mut Session<'_>,
        who: &Who,
        password: &SecretBytes,
        keep: Keep,
    ) -> Result<(), PortError> {
        let Some(account) = self.mysql_account(session, who).await? else {
            let text = format!(
                "{} has no account {who}; make it with its rights, for at MySQL Keywheel makes none, or correct the rotator's account",
                self.address.name
            );
            return Err(PortError::new(ErrorKind::NotFound, text));
        };
        self.mysql_check(who, &account)?;
        if account.is_too_long(password) {
            let text = format!(
                "{who} at {} would never be let in with so long a password: {} takes {MAX_SHA2_PASSWORD} bytes at most; give it a shorter one, or the generator a smaller length",
                self.address.name, account.way
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        let mut salt = [0; SALT_BYTES];
        self.entropy.fill(&mut salt);
        let statements = account.accept(who, (password, &salt), keep);
        let statements = statements.map_err(|_full| self.full(who))?;
        self.mysql_change(session, statements, AROUND_SET).await
    }

    /// Runs statements in their order, each between two failpoints.
    async fn mysql_change(
        &self,
        session: &mut Session<'_>,
        statements: Vec<String>,
        [before, after]: [&'static str; 2],
    ) -> Result<(), PortError> {
        if statements.is_empty() {
            return Ok(());
        }
        let told = first(session.rows(IS_READ_ONLY, &[]).await?);
        if told.as_deref() != Some("0") {
            let text = format!(
                "{} is read-only, so an account would be changed there alone; name the primary, or have it SET GLOBAL read_only = OFF",
                self.address.name
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        for statement in statements {
            self.points.pass(before).await?;
            self.run(session, statement).await?;
            self.points.pass(after).await?;
        }
        Ok(())
    }

    pub(super) async fn mysql_refuse(
        &self,
        session: &mut Session<'_>,
        who: &Who,
        password: Option<&SecretBytes>,
    ) -> Result<(), PortError> {
        let Some(account) = self.mysql_account(session, who).await? else {
            return Ok(());
        };
        let statements = match password {
            None if account.is_dead() => Vec::new(),
            None => account.lock(who),
            Some(old) => account.without(who, old),
        };
        if statements.is_empty() {
            return Ok(());
        }
        self.mysql_change(session, statements, AROUND_REFUSE)
            .await?;
        let left = self.mysql_account(session, who).await?;
        if left.is_some_and(|left| password.is_some_and(|old| left.keeps(old))) {
            return Err(self.back_again(who));
        }
        Ok(())
    }

    /// Refuses an account that lets in by what we cannot take back, or by more than a password.
    fn mysql_check(&self, who: &Who, account: &Account) -> Result<(), PortError> {
        if account.asks_certificate {
            return Err(self.certificate_asked(who));
        }
        if account.is_ours() {
            return Ok(());
        }
        let text = format!(
            "{who} at {} lets in by {}{}; make it IDENTIFIED WITH caching_sha2_password alone",
            self.address.name,
            account.way,
            if account.asks_more {
                " and a second factor"
            } else {
                ""
            }
        );
        Err(PortError::new(ErrorKind::Denied, text))
    }
}
