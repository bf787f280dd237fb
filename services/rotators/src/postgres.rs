//! Accounts of a PostgreSQL server: roles with LOGIN.
//!
//! A role has one password, so the old and the new one overlap only by two roles that alternate, both
//! members of one owner role. Invariants: the server is told a SCRAM-SHA-256 verifier, never a password,
//! so none is in its log; whether a password is good is asked by a login, without the admin's rights;
//! names and texts in a statement are quoted here and nowhere else; beyond this machine every connection
//! is TLS with the server's name checked. Sessions are seen of the server that is asked: those of its standbys, and behind a pooler, are not.

mod grants;
mod role;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::resource::Resource;
use keywheel_core::revocation::Answer;
use keywheel_core::store::CredentialRef;
use keywheel_engine::port::accounts::{Accounts, Keep, Keeps, Login, Mark};
use keywheel_engine::port::failpoint::Points;
use keywheel_engine::port::rotator::TellsNothing;
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_postgres::fault::{self, Fault};
use keywheel_postgres::verifier::{SALT_BYTES, is_of, scram_verifier};
use keywheel_postgres::{Address, session};
use keywheel_seal::{Entropy, SecretBytes};
use sqlx::{PgConnection, Postgres, Transaction};

use self::turn::Holder;
use crate::password;

/// The password is not this role's, or it has none.
const INVALID_PASSWORD: &str = "28P01";
/// The server does not let this role in, whatever its password.
const INVALID_AUTHORIZATION: &str = "28000";
/// No such role.
const UNDEFINED_OBJECT: &str = "42704";
/// A role of that name is there already.
const DUPLICATE_OBJECT: &str = "42710";
/// A module that judges passwords refuses this one.
const INVALID_PARAMETER_VALUE: &str = "22023";
/// The admin may not do this; of a login, that the role may not connect to that database.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// No such database.
const UNDEFINED_DATABASE: &str = "3D000";
/// How often it is looked whether sessions that were told to end are gone, and the time between.
const END_ROUNDS: u32 = 100;
const END_PAUSE: Duration = Duration::from_millis(20);
/// Whom the admin may not see has no start; it counts, and cannot be told to end.
const END: &str = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) \
     FROM pg_stat_activity WHERE usename::text = $1 AND pid <> pg_backend_pid() \
     AND coalesce((extract(epoch FROM backend_start) * 1000000)::bigint <= $2, true)";

/// How the server answers a login.
enum Door {
    /// It lets in.
    Open,
    /// It says that the password is wrong; so it does of a role that is not there.
    WrongPassword,
    /// It turned the login away for another reason, or did not answer.
    Shut(sqlx::Error),
}

/// Roles of one server.
pub struct PostgresAccounts {
    resource: Resource,
    address: Address,
    credentials: Arc<dyn Credentials>,
    entropy: Arc<dyn Entropy>,
    points: Points,
}

impl PostgresAccounts {
    /// The accounts of a resource; the admin's password is read each time one is needed. Opens no
    /// connection.
    ///
    /// # Errors
    /// When `connection` is no address of a database, or holds a password or a parameter.
    pub fn new(
        resource: Resource,
        credentials: Arc<dyn Credentials>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, PortError> {
        let address = address_of(&resource)?;
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

    /// The server, with the authority that it has to come from.
    async fn place(&self) -> Result<Address, PortError> {
        let Some(ca) = &self.resource.ca else {
            return Ok(self.address.clone());
        };
        let file = CredentialRef::File(ca.clone());
        let authorities = self.credentials.read(&file).await?;
        // EXPOSE: the client checks the server with it; certificates are no secret.
        Ok(self.address.trusting(authorities.expose().to_vec()))
    }

    async fn admin(&self, until: &Until) -> Result<PgConnection, PortError> {
        let place = self.place().await?;
        let secret = CredentialRef::Secret(self.resource.admin.clone());
        let password = self.credentials.read(&secret).await?;
        let address = place
            .for_user(place.user(), &password)
            .map_err(|error| PortError::new(ErrorKind::Denied, error.to_string()))?;
        until.check()?;
        let opened = session::single(&address).await;
        opened.map_err(|error| match fault::sort(&error) {
            Fault::Refused => {
                let text = format!(
                    "{} refuses the admin {}; put the right password into secret `{}`, or let the admin connect to that database",
                    self.resource,
                    place.user(),
                    self.resource.admin
                );
                LoginRefused::beneath(PortError::new(ErrorKind::Denied, text))
            }
            _ => self.failed("connecting", error),
        })
    }

    /// What a failure means, and the next step.
    fn failed(&self, what: &str, error: sqlx::Error) -> PortError {
        let sort = fault::sort(&error);
        let kind = match sort {
            Fault::Taken | Fault::Race => ErrorKind::Conflict,
            Fault::Full | Fault::Busy | Fault::Gone | Fault::Standby => ErrorKind::Unavailable,
            Fault::Refused | Fault::Unknown => ErrorKind::Denied,
            Fault::Damaged => ErrorKind::Corrupt,
        };
        let text = match code(&error).as_deref() {
            Some(INSUFFICIENT_PRIVILEGE) => format!(
                "{what}: the admin {} may not do that at {}; `keywheel rotator grants NAME` prints what it needs",
                self.address.user(),
                self.resource
            ),
            Some(INVALID_PARAMETER_VALUE) => format!(
                "{what}: a check of the server refuses that password (a module such as passwordcheck at {}); give its generator another `alphabet` or `length`, or put another value",
                self.address.name()
            ),
            _ => format!(
                "{what}: {}",
                fault::text(sort, "account", self.address.name())
            ),
        };
        PortError::caused(kind, text, error)
    }

    /// Whether a role may sign in at all; `None` when it is not there.
    async fn can_login(&self, login: &Login, until: &Until) -> Result<Option<bool>, PortError> {
        let mut admin = self.admin(until).await?;
        until.check()?;
        role::can_login(&mut admin, &login.name)
            .await
            .map_err(|error| self.failed("looking for an account", error))
    }

    /// Tries to sign in.
    async fn knock(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Door, PortError> {
        let place = self.place().await?;
        let address = place
            .for_user(&login.name, password)
            .map_err(|error| PortError::new(ErrorKind::Denied, error.to_string()))?;
        self.points.pass("rotator.postgres.before_login").await?;
        until.check()?;
        let door = match session::login(&address).await {
            Ok(()) => Door::Open,
            Err(error) if code(&error).as_deref() == Some(INVALID_PASSWORD) => Door::WrongPassword,
            Err(error) => Door::Shut(error),
        };
        self.points.pass("rotator.postgres.after_login").await?;
        Ok(door)
    }

    /// Why the server turned a login away that has no wrong password: a role that may not sign in is an answer.
    async fn shut(
        &self,
        login: &Login,
        error: sqlx::Error,
        until: &Until,
    ) -> Result<Answer, PortError> {
        let next = match code(&error).as_deref() {
            Some(INVALID_AUTHORIZATION) => {
                // A locked role is told so by its words only, and they differ by language.
                if self.can_login(login, until).await? != Some(true) {
                    return Ok(Answer::NoLogin);
                }
                "add a line for it to pg_hba.conf there"
            }
            Some(INSUFFICIENT_PRIVILEGE) => "grant it CONNECT on that database there",
            _ => return Err(self.failed("signing in", error)),
        };
        let text = format!(
            "{} does not let account {login} in, whatever its password; {next}",
            self.resource
        );
        Err(TellsNothing::caused(text, error))
    }

    /// Whether a password is still this role's, for all that the server lets us know: only where it is
    /// told to be wrong, it is not. Of a role that is locked, full or kept out by `pg_hba.conf` the
    /// password would be good again once that ends.
    async fn may_have(
        &self,
        admin: &mut PgConnection,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<bool, PortError> {
        match self.knock(login, password, until).await? {
            Door::Open => Ok(true),
            Door::Shut(error) if is_away(&error) => Err(self.failed("signing in", error)),
            Door::Shut(_) => Ok(true),
            Door::WrongPassword => {
                until.check()?;
                let expired = role::is_expired(admin, &login.name).await;
                expired.map_err(|error| self.failed("looking for an account", error))
            }
        }
    }

    /// One of us at a time works on an account. Who comes second waits, but a revocation only for one of
    /// us.
    async fn turn<'c>(
        &self,
        admin: &'c mut PgConnection,
        login: &Login,
        is_revocation: bool,
        until: &Until,
    ) -> Result<Transaction<'c, Postgres>, PortError> {
        until.check()?;
        let begun = turn::begin(admin, login).await;
        let (turn, holder) = begun.map_err(|error| self.failed("locking an account", error))?;
        self.points.pass("rotator.postgres.after_turn").await?;
        until.check()?;
        let who = match holder {
            Holder::Us => return Ok(turn),
            Holder::Other if is_revocation => {
                tracing::warn!(
                    account = login.name,
                    "another login holds the lock of an account at its server; it is revoked all the same"
                );
                return Ok(turn);
            }
            Holder::Admin => "another store-sync is at work on it",
            Holder::Other => "another login holds its advisory lock; end that session",
        };
        let text = format!(
            "account {login} at {} cannot be changed now: {who}; it is tried again",
            self.resource
        );
        Err(PortError::new(ErrorKind::Unavailable, text))
    }

    async fn now(&self, admin: &mut PgConnection) -> Result<Mark, PortError> {
        let now: Result<i64, sqlx::Error> =
            sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
                .fetch_one(admin)
                .await;
        now.map(Mark)
            .map_err(|error| self.failed("asking the time", error))
    }

    fn verifier(&self, login: &Login, password: &SecretBytes) -> Result<String, PortError> {
        password::check(login, password)?;
        let mut salt = [0; SALT_BYTES];
        self.entropy.fill(&mut salt);
        Ok(scram_verifier(password, salt))
    }

    /// A role that is missing, with all that its sibling has.
    async fn make(
        &self,
        admin: &mut PgConnection,
        login: &Login,
        verifier: &str,
    ) -> Result<(), PortError> {
        let Some(sibling) = &login.sibling else {
            let text = format!("account {login} is not there at {}; make it", self.resource);
            return Err(PortError::new(ErrorKind::NotFound, text));
        };
        let read = role::read(admin, sibling).await;
        let read = read.map_err(|error| self.failed("looking at an account", error))?;
        let Some(model) = read else {
            let text = format!(
                "neither account {login} nor {sibling} is there at {}; make one of them",
                self.resource
            );
            return Err(PortError::new(ErrorKind::NotFound, text));
        };
        if let Some(reason) = model.refusal(sibling) {
            let text = format!("account {login} is missing and cannot be made: {reason}");
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        self.points.pass("rotator.postgres.before_make").await?;
        let made = role::make(admin, &login.name, &model, verifier).await;
        made.map_err(|error| match code(&error).as_deref() {
            Some(DUPLICATE_OBJECT) => {
                let text = format!("account {login} was made by somebody meanwhile; try again");
                PortError::caused(ErrorKind::Conflict, text, error)
            }
            _ => self.failed("making an account", error),
        })?;
        self.points.pass("rotator.postgres.after_make").await
    }
}

/// What the admin needs there, as statements for a person.
///
/// # Errors
/// As of [`PostgresAccounts::new`].
pub fn grants(resource: &Resource) -> Result<String, PortError> {
    let address = address_of(resource)?;
    Ok(grants::text(resource, address.user()))
}

fn address_of(resource: &Resource) -> Result<Address, PortError> {
    let refuse = |reason: String| {
        let text = format!("`connection` of a PostgreSQL rotator cannot be used: {reason}");
        PortError::new(ErrorKind::Denied, text)
    };
    if resource.connection.contains('?') {
        let reason = "it has a `?`; leave that out, and name the authority with `caFile`";
        return Err(refuse(reason.to_owned()));
    }
    // They are printed as statements, and a part of those as comments.
    let mut names = resource.accounts.iter();
    if names.any(|name| name.chars().any(char::is_control)) {
        let text = "an account's name holds a control character; correct it";
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    let address = Address::parse(&resource.connection, None);
    address.map_err(|error| refuse(error.to_string()))
}

/// Whether nobody answered, so that nothing is known.
fn is_away(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)
}

/// Whether a login failed after its password was found right.
fn is_let_in(error: &sqlx::Error) -> bool {
    let code = code(error);
    [INSUFFICIENT_PRIVILEGE, UNDEFINED_DATABASE].contains(&code.as_deref().unwrap_or_default())
}

/// The server's code for a failure.
fn code(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    error.code().map(|code| code.into_owned())
}

#[async_trait]
impl Accounts for PostgresAccounts {
    async fn accept(
        &self,
        login: &Login,
        password: &SecretBytes,
        keep: Keep,
        until: &Until,
    ) -> Result<(), PortError> {
        if keep == Keep::Old {
            until.check()?;
            let text = format!(
                "PostgreSQL keeps one password for account {login}; choose the strategy alternatingUsers or singleUser"
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        let verifier = self.verifier(login, password)?;
        if self.admits(login, password, until).await? {
            return Ok(());
        }
        let mut admin = self.admin(until).await?;
        let mut turn = self.turn(&mut admin, login, false, until).await?;
        let there = role::can_login(&mut turn, &login.name).await;
        let there = there.map_err(|error| self.failed("looking for an account", error))?;
        until.check()?;
        match there {
            None => self.make(&mut turn, login, &verifier).await?,
            Some(_) => {
                self.points.pass("rotator.postgres.before_set").await?;
                let set = role::set_password(&mut turn, &login.name, &verifier).await;
                set.map_err(|error| self.failed("setting a password", error))?;
                self.points.pass("rotator.postgres.after_set").await?;
            }
        }
        let kept = turn.commit().await;
        kept.map_err(|error| self.failed("setting a password", error))?;
        self.points.pass("rotator.postgres.after_accept").await
    }

    async fn admits(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<bool, PortError> {
        match self.knock(login, password, until).await? {
            Door::Open => Ok(true),
            Door::WrongPassword => Ok(false),
            Door::Shut(error) => Ok(self.shut(login, error, until).await? == Answer::Accepted),
        }
    }

    async fn answer(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Answer, PortError> {
        match self.knock(login, password, until).await? {
            Door::Open => Ok(Answer::Accepted),
            Door::WrongPassword => Ok(Answer::WrongPassword),
            // The server looks for the database and the right to it once the password was right.
            Door::Shut(error) if is_let_in(&error) => Ok(Answer::Accepted),
            Door::Shut(error) => self.shut(login, error, until).await,
        }
    }

    /// The server's verifier where the admin may read it, which takes a superuser; else by a login.
    async fn keeps(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Keeps, PortError> {
        let mut admin = self.admin(until).await?;
        until.check()?;
        match role::verifier(&mut admin, &login.name).await {
            Ok(None) => return Ok(Keeps::No),
            Ok(Some(kept)) => match is_of(&kept, password) {
                Some(true) => return Ok(Keeps::Yes),
                Some(false) => return Ok(Keeps::No),
                None => {}
            },
            Err(error) if code(&error).as_deref() == Some(INSUFFICIENT_PRIVILEGE) => {}
            Err(error) => return Err(self.failed("looking at an account", error)),
        }
        match self.knock(login, password, until).await? {
            Door::Open => Ok(Keeps::Yes),
            Door::Shut(error) if is_away(&error) => Err(self.failed("signing in", error)),
            Door::Shut(_) => Ok(Keeps::Unclear),
            Door::WrongPassword => {
                until.check()?;
                let expired = role::is_expired(&mut admin, &login.name).await;
                let expired = expired.map_err(|error| self.failed("looking for an account", error));
                Ok(if expired? { Keeps::Unclear } else { Keeps::No })
            }
        }
    }

    async fn refuse(
        &self,
        login: &Login,
        password: Option<&SecretBytes>,
        until: &Until,
    ) -> Result<(), PortError> {
        let mut admin = self.admin(until).await?;
        let mut turn = self.turn(&mut admin, login, true, until).await?;
        if let Some(password) = password
            && !self.may_have(&mut turn, login, password, until).await?
        {
            return Ok(());
        }
        self.points.pass("rotator.postgres.before_refuse").await?;
        until.check()?;
        match role::lock(&mut turn, &login.name).await {
            Err(error) if code(&error).as_deref() == Some(UNDEFINED_OBJECT) => return Ok(()),
            locked => locked.map_err(|error| self.failed("locking an account", error))?,
        }
        self.points.pass("rotator.postgres.after_lock").await?;
        let kept = turn.commit().await;
        kept.map_err(|error| self.failed("locking an account", error))?;
        self.points.pass("rotator.postgres.after_refuse").await
    }

    /// Those that are open now; who comes later was let in with what is good now.
    async fn end_sessions(&self, login: &Login, until: &Until) -> Result<u64, PortError> {
        let mut admin = self.admin(until).await?;
        until.check()?;
        let now = self.now(&mut admin).await?;
        self.points.pass("rotator.postgres.before_end").await?;
        let mut ended = 0;
        for _ in 0..END_ROUNDS {
            until.check()?;
            let told: Result<i64, sqlx::Error> = sqlx::query_scalar(END)
                .bind(&login.name)
                .bind(now.0)
                .fetch_one(&mut admin)
                .await;
            let told = told.map_err(|error| self.failed("ending sessions", error))?;
            if told == 0 {
                self.points.pass("rotator.postgres.after_end").await?;
                return Ok(ended);
            }
            ended = ended.max(u64::try_from(told).unwrap_or(0));
            tokio::time::sleep(END_PAUSE).await;
        }
        let text = format!(
            "sessions of account {login} at {} were told to end and are still there; it is tried again",
            self.resource
        );
        Err(PortError::new(ErrorKind::Unavailable, text))
    }

    async fn mark(&self, until: &Until) -> Result<Mark, PortError> {
        let mut admin = self.admin(until).await?;
        until.check()?;
        self.now(&mut admin).await
    }

    async fn older(
        &self,
        login: &Login,
        mark: &Mark,
        until: &Until,
    ) -> Result<Option<u64>, PortError> {
        let mut admin = self.admin(until).await?;
        until.check()?;
        // Whom the admin may not see has no start. Logins of ours end by themselves.
        let counted: Result<(i64, i64), sqlx::Error> = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE (extract(epoch FROM backend_start) * 1000000)::bigint <= $2), \
             count(*) FILTER (WHERE backend_start IS NULL) \
             FROM pg_stat_activity WHERE usename::text = $1 AND pid <> pg_backend_pid() \
             AND application_name IS DISTINCT FROM $3",
        )
        .bind(&login.name)
        .bind(mark.0)
        .bind(session::LOGIN_NAME)
        .fetch_one(&mut admin)
        .await;
        let (older, hidden) = counted.map_err(|error| self.failed("counting sessions", error))?;
        Ok(match hidden {
            0 => Some(u64::try_from(older).unwrap_or(0)),
            _ => None,
        })
    }

    fn grants(&self) -> String {
        grants::text(&self.resource, self.address.user())
    }
}
