//! Accounts of a MariaDB server, 10.4 or newer: an account accepts two passwords beside each other
//! (`IDENTIFIED VIA … OR …`). A MySQL server, 8.0.22 or newer, is told by what it says of itself: it keeps two
//! passwords in another way (`mysql`).
//!
//! Invariants: a statement holds a password's hash, never the password; what an account accepts is read
//! before it is changed, and what is not understood is left alone; sessions are told apart by
//! connection ids, and only of the very server process that gave them. The server knows sessions by
//! user and not by the account's host part: accounts that share a user's name count as one there.

mod account;
mod dialect;
mod grants;
mod mysql;
mod session;
mod sessions;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::resource::Resource;
use keywheel_core::store::CredentialRef;
use keywheel_engine::port::accounts::{Accounts, Keep, Keeps, Login, Mark};
use keywheel_engine::port::failpoint::Points;
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::{Entropy, SecretBytes};
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

pub use self::account::MAX_PASSWORDS;
use self::account::{Account, Hash, Who, quoted};
use self::dialect::{Dialect, OLDER};
pub use self::session::CALL_TIMEOUT;
use self::session::{Failure, Session, explain, is_turned_away};
use self::turn::Purpose;
use crate::address::{Address, Form, Target};
use crate::password;

const FORM: Form = Form {
    schemes: &[("mariadb://", false), ("mysql://", false)],
    port: 3306,
    example: "mariadb://admin@host:port",
};
/// A connection's number has this many bits; the server's start stands above them in a mark.
const ID_BITS: u32 = 32;
/// One more than the greatest number of a connection, and than the latest start.
const IDS: i64 = 1 << ID_BITS;
const STARTS: i64 = 1 << (i64::BITS - 1 - ID_BITS);

const VERSION: &str = "SELECT CAST(VERSION() AS CHAR)";
const KEPT: &str = "SELECT CAST(Priv AS CHAR) FROM mysql.global_priv WHERE User = ? AND Host = ?";
const ROLES: &str =
    "SELECT CAST(Role AS CHAR) FROM mysql.roles_mapping WHERE User = ? AND Host = ?";
const OWN_GRANTS: &str = "SHOW GRANTS";
/// Accounts of one MariaDB or MySQL server.
pub struct MariaDbAccounts {
    resource: Resource,
    address: Address,
    credentials: Arc<dyn Credentials>,
    entropy: Arc<dyn Entropy>,
    points: Points,
}

impl MariaDbAccounts {
    /// The accounts of a resource at `mariadb://admin@host:port`, or at a unix socket whose path, with
    /// `%2F` for each slash, stands for the host. Beyond this machine, and wherever authorities are
    /// named, TLS is asked for and the server's name checked. The admin's password is read each time one
    /// is needed. Opens no connection.
    ///
    /// # Errors
    /// When `connection` is no such URL.
    pub fn new(
        resource: Resource,
        credentials: Arc<dyn Credentials>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, PortError> {
        let address = Address::parse(&resource.connection, &FORM)?;
        Ok(Self {
            resource,
            address,
            credentials,
            entropy,
            points: Points::default(),
        })
    }

    /// The same, passing these failpoints.
    pub(crate) fn with(self, points: Points) -> Self {
        Self { points, ..self }
    }

    /// How this user logs in.
    async fn options(
        &self,
        user: &str,
        password: &SecretBytes,
    ) -> Result<MySqlConnectOptions, PortError> {
        // EXPOSE: the client proves with it who it is, and takes it as text.
        let text = std::str::from_utf8(password.expose()).map_err(|_| {
            let text =
                format!("the password of `{user}` is no text; give one of printable characters");
            PortError::new(ErrorKind::Denied, text)
        })?;
        let options = MySqlConnectOptions::new().username(user).password(text);
        let options = match &self.address.target {
            Target::Socket(path) => options.socket(path),
            Target::Tcp(host, port) => options.host(host).port(*port),
        };
        let options = match &self.resource.ca {
            Some(ca) => {
                let file = CredentialRef::File(ca.clone());
                let authorities = self.credentials.read(&file).await?;
                // EXPOSE: the client checks the server with it; certificates are no secret.
                let options = options.ssl_ca_from_pem(authorities.expose().to_vec());
                options.ssl_mode(MySqlSslMode::VerifyIdentity)
            }
            None if self.address.is_near => options.ssl_mode(MySqlSslMode::Preferred),
            None => options.ssl_mode(MySqlSslMode::VerifyIdentity),
        };
        Ok(options.disable_statement_logging())
    }

    /// A session of the admin.
    async fn open<'a>(&'a self, until: &'a Until) -> Result<Session<'a>, PortError> {
        until.check()?;
        let secret = CredentialRef::Secret(self.resource.admin.clone());
        let password = self.credentials.read(&secret).await?;
        let options = self.options(&self.address.user, &password).await?;
        let name = self.address.name.as_str();
        let opened = Session::open(&options, name, until).await;
        let mut session = opened.map_err(|failure| match is_turned_away(&failure) {
            true => LoginRefused::beneath(self.turned_away()),
            false => explain(failure, name),
        })?;
        let version = first(session.rows(VERSION, &[]).await?).unwrap_or_default();
        let Some(dialect) = Dialect::of(&version) else {
            let text = format!(
                "{name} is no MariaDB server and no MySQL from 8.0.22 on, but `{version}`; name one"
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        };
        session.speaks(dialect);
        Ok(session)
    }

    fn turned_away(&self) -> PortError {
        let text = format!(
            "{} refuses the admin {}; put the right password into secret `{}`, or let the admin connect from this machine",
            self.resource, self.address.user, self.resource.admin
        );
        PortError::new(ErrorKind::Denied, text)
    }

    async fn run(&self, session: &mut Session<'_>, sql: String) -> Result<(), PortError> {
        let ran = session.run(sql).await;
        ran.map_err(|failure| explain(failure, &self.address.name))
    }

    /// A session of the admin, and no other one of us at work on this account until it ends.
    async fn turn<'a>(
        &'a self,
        who: &Who,
        purpose: Purpose,
        until: &'a Until,
    ) -> Result<Session<'a>, PortError> {
        let mut session = self.open(until).await?;
        let names = (self.address.user.as_str(), self.address.name.as_str());
        turn::take(&mut session, who, names, purpose).await?;
        self.points.pass("rotator.mariadb.after_turn").await?;
        Ok(session)
    }

    /// The account as the server keeps it; nothing when it is not there.
    async fn account(
        &self,
        session: &mut Session<'_>,
        who: &Who,
    ) -> Result<Option<Account>, PortError> {
        let rows = session.rows(KEPT, &[&who.user, &who.host]).await?;
        let Some(json) = first(rows) else {
            return Ok(None);
        };
        let account = Account::parse(&json).ok_or_else(|| {
            let text = format!(
                "{}: what it keeps of {who} is not understood",
                self.address.name
            );
            PortError::new(ErrorKind::Corrupt, text)
        })?;
        Ok(Some(account))
    }

    /// Makes a missing account, with what its sibling has behind its password.
    async fn create(
        &self,
        session: &mut Session<'_>,
        who: &Who,
        sibling: Option<&Who>,
        password: &Hash,
    ) -> Result<(), PortError> {
        let missing = |who: &Who, next: &str| {
            let text = format!("{} has no account {who}; {next}", self.address.name);
            Err(PortError::new(ErrorKind::NotFound, text))
        };
        let Some(sibling) = sibling else {
            return missing(who, "make it, or correct the rotator's account");
        };
        let Some(model) = self.account(session, sibling).await? else {
            return missing(sibling, "make it, or correct the rotator's account");
        };
        let refuse = |why: &str| {
            let text = format!("{who} cannot be made like {sibling}: {why}");
            Err(PortError::new(ErrorKind::Denied, text))
        };
        let Some(clauses) = model.clauses else {
            return refuse(
                "that one asks for a client's certificate, which Keywheel has none of; have it REQUIRE SSL instead",
            );
        };
        let grants = format!("SHOW GRANTS FOR {sibling}");
        if self.has_own_rights(session, grants).await? {
            return refuse(
                "that one has rights of its own; give them to a role and both accounts that role",
            );
        }
        self.points.pass("rotator.mariadb.before_make").await?;
        let made = account::create(who, password, &clauses);
        self.run(session, made).await?;
        self.points.pass("rotator.mariadb.after_make").await
    }

    /// Whether an account has rights that come from no role.
    async fn has_own_rights(
        &self,
        session: &mut Session<'_>,
        grants: String,
    ) -> Result<bool, PortError> {
        let rows = session.texts(grants).await;
        let rows = rows.map_err(|failure| explain(failure, &self.address.name))?;
        Ok(rows.iter().any(|grant| grants::is_own_right(grant)))
    }

    /// Gives an account the roles of its sibling, and the role it begins with.
    async fn align(
        &self,
        session: &mut Session<'_>,
        who: &Who,
        sibling: &Who,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<(), PortError> {
        let wanted = session.rows(ROLES, &[&sibling.user, &sibling.host]).await?;
        let there = session.rows(ROLES, &[&who.user, &who.host]).await?;
        let missing: Vec<_> = wanted
            .into_iter()
            .filter(|role| !there.contains(role))
            .collect();
        for role in missing.into_iter().flatten() {
            self.points.pass("rotator.mariadb.before_grant").await?;
            let grant = format!("GRANT {} TO {who}", quoted(&role));
            self.run(session, grant).await?;
            self.points.pass("rotator.mariadb.after_grant").await?;
        }
        let wanted = self.account(session, sibling).await?;
        let there = self.account(session, who).await?;
        let Some(role) = wanted.and_then(|account| account.default_role) else {
            return Ok(());
        };
        if there.is_some_and(|account| account.default_role.as_ref() == Some(&role)) {
            return Ok(());
        }
        // Only an account itself may choose that without a right to write the server's own tables.
        let (name, options) = (&self.address.name, self.options(&who.user, password).await?);
        let chosen = format!("SET DEFAULT ROLE {}", quoted(&role));
        let points = &self.points;
        points.pass("rotator.mariadb.before_default_role").await?;
        let opened = Session::open(&options, name, until).await;
        let done = match opened {
            Err(failure) => Err(failure),
            Ok(mut own) => {
                let ran = own.run(chosen.clone()).await;
                own.close().await;
                ran
            }
        };
        done.map_err(|failure| match failure {
            Failure::Code(code) => {
                let text = format!("{who} cannot choose its role at {name} (error {code}); run {chosen} FOR {who} there");
                PortError::new(ErrorKind::Denied, text)
            }
            Failure::Other(error) => error,
        })?;
        points.pass("rotator.mariadb.after_default_role").await
    }

    /// Whether the admin sees sessions of others; else none would look like no session.
    async fn sees_all(&self, session: &mut Session<'_>) -> Result<bool, PortError> {
        let rows = session.texts(OWN_GRANTS.to_owned()).await;
        let rows = rows.map_err(|failure| explain(failure, &self.address.name))?;
        Ok(rows.iter().any(|grant| grants::shows_sessions(grant)))
    }

    /// The last connection's number, and the server's start in seconds.
    async fn now(&self, session: &mut Session<'_>) -> Result<Mark, PortError> {
        let rows = session.rows(session.dialect().now(), &[]).await?;
        let numbers: Vec<i64> = rows
            .into_iter()
            .flatten()
            .filter_map(|text| text.parse().ok())
            .collect();
        let packed = match numbers.as_slice() {
            [id, start] => packed(*start, *id),
            _ => None,
        };
        packed.map(Mark).ok_or_else(|| {
            let text = format!("{} does not tell its connections apart", self.address.name);
            PortError::new(ErrorKind::Corrupt, text)
        })
    }

    /// What `accept` leaves an account with; nothing when it has that already.
    fn plan(
        &self,
        who: &Who,
        account: &Account,
        new: &Hash,
        keep: Keep,
    ) -> Result<Option<Vec<Hash>>, PortError> {
        self.check_ways(who, account)?;
        if account.asks_certificate {
            return Err(self.certificate_asked(who));
        }
        let accepted = account.accepted();
        let has = accepted.contains(new);
        match keep {
            Keep::Old if has => Ok(None),
            Keep::Old if accepted.len() >= MAX_PASSWORDS => Err(self.full(who)),
            Keep::Old => {
                let kept = accepted.iter().cloned();
                Ok(Some(std::iter::once(new.clone()).chain(kept).collect()))
            }
            Keep::Nothing if has && accepted.len() == 1 => Ok(None),
            Keep::Nothing => Ok(Some(vec![new.clone()])),
        }
    }

    fn full(&self, who: &Who) -> PortError {
        let text = format!(
            "{who} at {} accepts {MAX_PASSWORDS} passwords already; revoke the older version, then try again",
            self.address.name
        );
        PortError::new(ErrorKind::Conflict, text)
    }

    fn certificate_asked(&self, who: &Who) -> PortError {
        let text = format!(
            "{who} at {} asks for a client's certificate (REQUIRE X509, SUBJECT or ISSUER), which Keywheel has none of, so no login could prove a password; have it REQUIRE SSL instead",
            self.address.name
        );
        PortError::new(ErrorKind::Denied, text)
    }

    fn back_again(&self, who: &Who) -> PortError {
        let text = format!(
            "{who} at {} has a password again that was just taken from it; it is tried again",
            self.address.name
        );
        PortError::new(ErrorKind::Unavailable, text)
    }

    /// Refuses an account that lets in by what we cannot take back.
    fn check_ways(&self, who: &Who, account: &Account) -> Result<(), PortError> {
        let Some(way) = &account.other else {
            return Ok(());
        };
        let text = format!(
            "{who} at {} lets in by {way}, too; make it IDENTIFIED VIA mysql_native_password alone",
            self.address.name
        );
        Err(PortError::new(ErrorKind::Denied, text))
    }
}

#[async_trait]
impl Accounts for MariaDbAccounts {
    async fn accept(
        &self,
        login: &Login,
        password: &SecretBytes,
        keep: Keep,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()?;
        password::check(login, password)?;
        let (who, new) = (Who::parse(&login.name), Hash::of(password));
        let sibling = login.sibling.as_deref().map(Who::parse);
        let mut session = self.turn(&who, Purpose::Accept, until).await?;
        if session.dialect() == Dialect::MySql {
            self.mysql_accept(&mut session, &who, password, keep)
                .await?;
            session.close().await;
            return Ok(());
        }
        match self.account(&mut session, &who).await? {
            None => {
                self.create(&mut session, &who, sibling.as_ref(), &new)
                    .await?
            }
            Some(account) => {
                if let Some(passwords) = self.plan(&who, &account, &new, keep)? {
                    self.points.pass("rotator.mariadb.before_set").await?;
                    self.run(&mut session, account::accept(&who, &passwords))
                        .await?;
                    self.points.pass("rotator.mariadb.after_set").await?;
                }
            }
        }
        if let Some(sibling) = &sibling {
            self.align(&mut session, &who, sibling, password, until)
                .await?;
        }
        session.close().await;
        Ok(())
    }

    async fn admits(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<bool, PortError> {
        until.check()?;
        let who = Who::parse(&login.name);
        let (name, options) = (&self.address.name, self.options(&who.user, password).await?);
        self.points.pass("rotator.mariadb.before_login").await?;
        let opened = Session::open(&options, name, until).await;
        self.points.pass("rotator.mariadb.after_login").await?;
        match opened {
            Ok(session) => {
                session.close().await;
                Ok(true)
            }
            Err(failure) if is_turned_away(&failure) => Ok(false),
            Err(failure) => Err(explain(failure, name)),
        }
    }

    async fn keeps(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Keeps, PortError> {
        let who = Who::parse(&login.name);
        let mut session = self.open(until).await?;
        let keeps = match session.dialect() {
            Dialect::MySql => self.mysql_keeps(&mut session, &who, password).await?,
            Dialect::MariaDb => {
                let account = self.account(&mut session, &who).await?;
                account.is_some_and(|account| account.keeps(&Hash::of(password)))
            }
        };
        session.close().await;
        Ok(if keeps { Keeps::Yes } else { Keeps::No })
    }

    async fn refuse(
        &self,
        login: &Login,
        password: Option<&SecretBytes>,
        until: &Until,
    ) -> Result<(), PortError> {
        let who = Who::parse(&login.name);
        let mut session = self.turn(&who, Purpose::Refuse, until).await?;
        if session.dialect() == Dialect::MySql {
            self.mysql_refuse(&mut session, &who, password).await?;
            session.close().await;
            return Ok(());
        }
        let Some(account) = self.account(&mut session, &who).await? else {
            return Ok(());
        };
        let old = password.map(Hash::of);
        let statement = match &old {
            None => (!account.is_dead()).then(|| account::lock(&who)),
            Some(old) => {
                let statement = account.without(&who, old);
                if statement.is_some() {
                    self.check_ways(&who, &account)?;
                }
                statement
            }
        };
        if let Some(statement) = statement {
            self.points.pass("rotator.mariadb.before_refuse").await?;
            self.run(&mut session, statement).await?;
            self.points.pass("rotator.mariadb.after_refuse").await?;
            let left = self.account(&mut session, &who).await?;
            if left.is_some_and(|left| old.is_some_and(|old| left.keeps(&old))) {
                return Err(self.back_again(&who));
            }
        }
        session.close().await;
        Ok(())
    }

    async fn end_sessions(&self, login: &Login, until: &Until) -> Result<u64, PortError> {
        let who = Who::parse(&login.name);
        let mut session = self.open(until).await?;
        if !self.sees_all(&mut session).await? {
            return Err(blind(&self.address.name));
        }
        let last = (self.now(&mut session).await?.0 & (IDS - 1)).to_string();
        self.points.pass("rotator.mariadb.before_end").await?;
        let ended = sessions::end(&mut session, &who, &last, &self.address.name).await?;
        self.points.pass("rotator.mariadb.after_end").await?;
        session.close().await;
        Ok(ended)
    }

    async fn mark(&self, until: &Until) -> Result<Mark, PortError> {
        let mut session = self.open(until).await?;
        let mark = self.now(&mut session).await?;
        session.close().await;
        Ok(mark)
    }

    async fn older(
        &self,
        login: &Login,
        mark: &Mark,
        until: &Until,
    ) -> Result<Option<u64>, PortError> {
        let who = Who::parse(&login.name);
        let mut session = self.open(until).await?;
        let now = self.now(&mut session).await?;
        // Another process, after a restart or a failover, gives numbers of its own.
        let is_same = now.0 >> ID_BITS == mark.0 >> ID_BITS;
        if !is_same || !self.sees_all(&mut session).await? {
            session.close().await;
            return Ok(None);
        }
        let last = (mark.0 & (IDS - 1)).to_string();
        let rows = session.rows(OLDER, &[&last, &who.user]).await?;
        session.close().await;
        Ok(first(rows).and_then(|count| count.parse().ok()))
    }

    fn grants(&self) -> String {
        grants::text(&self.resource, &self.address.user)
    }
}

/// What the admin needs there, as statements for a person.
///
/// # Errors
/// As of [`MariaDbAccounts::new`].
pub fn grants(resource: &Resource) -> Result<String, PortError> {
    let address = Address::parse(&resource.connection, &FORM)?;
    Ok(grants::text(resource, &address.user))
}

fn first(rows: Vec<Vec<String>>) -> Option<String> {
    rows.into_iter().flatten().next()
}

/// A server process and a number of its connections in one number; nothing when one does not fit.
fn packed(start: i64, id: i64) -> Option<i64> {
    let fits = (0..STARTS).contains(&start) && (0..IDS).contains(&id);
    fits.then_some((start << ID_BITS) | id)
}

fn blind(name: &str) -> PortError {
    let text = format!(
        "{name} does not show the admin sessions of others; give it what `keywheel rotator grants` prints"
    );
    PortError::new(ErrorKind::Denied, text)
}
