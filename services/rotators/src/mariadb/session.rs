//! One connection to a MariaDB server, and what its failures mean.
//!
//! Invariants: no call begins after its `Until`, and none lasts longer than [`CALL_TIMEOUT`]; no text of
//! an error quotes what was sent, which holds hashes of passwords.

use std::time::Duration;

use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::dialect::Dialect;
use crate::trust::is_distrusted;

/// Longest time for one statement, or for a login.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Codes with which a server turns a login away: wrong password or no such user, a plugin that takes
/// no password, a locked account (MariaDB's code, and MySQL's).
const TURNED_AWAY: [u16; 4] = [1045, 1698, 4151, 3118];
/// The thread to kill is gone.
pub(super) const UNKNOWN_THREAD: u16 = 1094;

/// Why a statement or a login failed.
pub(super) enum Failure {
    /// The server answered with a code.
    Code(u16),
    /// Anything else, as an error of the port.
    Other(PortError),
}

/// One connection, and until when it may be used.
pub(super) struct Session<'a> {
    connection: MySqlConnection,
    name: &'a str,
    until: &'a Until,
    dialect: Dialect,
}

impl<'a> Session<'a> {
    /// Logs in.
    pub(super) async fn open(
        options: &MySqlConnectOptions,
        name: &'a str,
        until: &'a Until,
    ) -> Result<Self, Failure> {
        until.check().map_err(Failure::Other)?;
        let connection = bounded(name, options.connect()).await?;
        Ok(Self {
            connection,
            name,
            until,
            dialect: Dialect::MariaDb,
        })
    }

    /// The kind of server that answers, once it is known; a login alone asks nothing of either kind.
    pub(super) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(super) fn speaks(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// Runs a statement.
    pub(super) async fn run(&mut self, sql: String) -> Result<(), Failure> {
        self.until.check().map_err(Failure::Other)?;
        // Safe: made of quoted names, numbers and hashes.
        let statement = sqlx::raw_sql(AssertSqlSafe(sql));
        let _changed = bounded(self.name, statement.execute(&mut self.connection)).await?;
        Ok(())
    }

    /// The rows of a query; every column of it is text.
    pub(super) async fn rows(
        &mut self,
        sql: &'static str,
        values: &[&str],
    ) -> Result<Vec<Vec<String>>, PortError> {
        self.until.check()?;
        let mut query = sqlx::query::<sqlx::MySql>(sql);
        for value in values {
            query = query.bind((*value).to_owned());
        }
        let rows = bounded(self.name, query.fetch_all(&mut self.connection)).await;
        let rows = rows.map_err(|failure| explain(failure, self.name))?;
        let mut read = Vec::with_capacity(rows.len());
        for row in &rows {
            let columns = (0..row.len()).map(|at| row.try_get_unchecked::<Option<String>, _>(at));
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|_| {
                let text = format!("{}: the server answered with what is no text", self.name);
                PortError::new(ErrorKind::Corrupt, text)
            })?;
            read.push(columns.into_iter().map(Option::unwrap_or_default).collect());
        }
        Ok(read)
    }

    /// The texts of a statement that cannot be prepared and gives one column.
    pub(super) async fn texts(&mut self, sql: String) -> Result<Vec<String>, Failure> {
        self.until.check().map_err(Failure::Other)?;
        // Safe: made of quoted names.
        let statement = sqlx::raw_sql(AssertSqlSafe(sql));
        let rows = bounded(self.name, statement.fetch_all(&mut self.connection)).await?;
        let texts = rows.iter().map(|row| row.try_get_unchecked::<String, _>(0));
        let texts = texts.collect::<Result<Vec<_>, _>>();
        texts.map_err(|error| failure(self.name, error))
    }

    /// Says goodbye, so that the server counts no aborted client.
    pub(super) async fn close(self) {
        let _closed = tokio::time::timeout(CALL_TIMEOUT, self.connection.close()).await;
    }
}

/// Whether a login was turned away, rather than that something failed.
pub(super) fn is_turned_away(failure: &Failure) -> bool {
    matches!(failure, Failure::Code(code) if TURNED_AWAY.contains(code))
}

async fn bounded<T>(
    name: &str,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    let Ok(answer) = tokio::time::timeout(CALL_TIMEOUT, call).await else {
        let text = format!("{name} does not answer; try again in a moment");
        return Err(Failure::Other(PortError::new(ErrorKind::Unavailable, text)));
    };
    answer.map_err(|error| failure(name, error))
}

fn failure(name: &str, error: sqlx::Error) -> Failure {
    let code = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .map(MySqlDatabaseError::number);
    match (code, error) {
        // What the server says may quote the statement.
        (Some(code), _) => Failure::Code(code),
        (None, sqlx::Error::Io(error)) if is_distrusted(&error) => {
            let text = format!(
                "{name}: its certificate is not trusted; name its authority in the rotator's caFile"
            );
            Failure::Other(PortError::caused(ErrorKind::Denied, text, error))
        }
        (None, error @ sqlx::Error::Tls(_)) => {
            let text = format!(
                "{name}: TLS is not possible; switch it on there, and correct the rotator's caFile"
            );
            Failure::Other(PortError::caused(ErrorKind::Denied, text, error))
        }
        (None, error @ sqlx::Error::Configuration(_)) => {
            let text = format!(
                "{name}: that login needs TLS, without which no password is sent by caching_sha2_password; switch it on there, and correct the rotator's caFile"
            );
            Failure::Other(PortError::caused(ErrorKind::Denied, text, error))
        }
        (None, sqlx::Error::Io(error)) => {
            let text = format!("{name} cannot be reached; start it, or correct the connection");
            Failure::Other(PortError::caused(ErrorKind::Unavailable, text, error))
        }
        (None, _) => {
            let text = format!("{name} broke off; try again in a moment");
            Failure::Other(PortError::new(ErrorKind::Unavailable, text))
        }
    }
}

/// A failure of our own login or of a statement, for a person.
pub(super) fn explain(failure: Failure, name: &str) -> PortError {
    let code = match failure {
        Failure::Other(error) => return error,
        Failure::Code(code) => code,
    };
    let (kind, why) = match code {
        1045 | 4151 | 3118 | 1820 | 1862 | 4150 => (
            ErrorKind::Denied,
            "does not let that login in; correct its name, its password or from where it may connect",
        ),
        1130 => (
            ErrorKind::Denied,
            "lets nobody in from this machine; allow it in the account's host part",
        ),
        1044 | 1095 | 1142 | 1227 | 1370 | 1403 | 1698 | 1959 => (
            ErrorKind::Denied,
            "does not allow the admin that; give it what `keywheel rotator grants` prints",
        ),
        1290 | 1819 | 1836 | 1792 => (
            ErrorKind::Denied,
            "forbids that by a setting: it is read-only, or strict_password_validation takes no hash; change the setting, or name the primary",
        ),
        1396 | 1133 => (
            ErrorKind::Conflict,
            "changed under our hands: the account is not as it was a moment ago; try again",
        ),
        1040 | 1203 | 1226 => (
            ErrorKind::Unavailable,
            "has no connection left; try again in a moment",
        ),
        3955 => (
            ErrorKind::Unavailable,
            "blocks that account after too many wrong passwords (FAILED_LOGIN_ATTEMPTS); wait for its PASSWORD_LOCK_TIME, or unlock it",
        ),
        4166 => (
            ErrorKind::Unavailable,
            "blocks that account after too many wrong passwords (max_password_errors); FLUSH PRIVILEGES there",
        ),
        1129 => (
            ErrorKind::Unavailable,
            "blocks this machine after too many broken connections; FLUSH HOSTS there",
        ),
        _ => (ErrorKind::Unavailable, "failed; see its log"),
    };
    PortError::new(kind, format!("{name} {why} (error {code})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_what_comes_next() {
        for (code, kind) in [
            (1045, ErrorKind::Denied),
            (1227, ErrorKind::Denied),
            (1290, ErrorKind::Denied),
            (1396, ErrorKind::Conflict),
            (1040, ErrorKind::Unavailable),
            (4166, ErrorKind::Unavailable),
            (9999, ErrorKind::Unavailable),
        ] {
            let error = explain(Failure::Code(code), "db:3306");
            assert_eq!(error.kind, kind, "{code}");
            let text = error.to_string();
            assert!(
                text.starts_with("db:3306 ") && text.contains(&code.to_string()),
                "{text}"
            );
        }
        let locked = [(4151, true), (3118, true), (3955, false)];
        for (code, away) in [(1045, true), (1698, true), (1040, false)]
            .into_iter()
            .chain(locked)
        {
            assert_eq!(is_turned_away(&Failure::Code(code)), away, "{code}");
        }
    }

    #[test]
    fn a_login_that_needs_tls_is_told_where_it_is_had_and_what_the_client_says_of_it_stays_its_cause()
     {
        let said = sqlx::Error::Configuration("no RSA here".into());
        let error = explain(failure("db", said), "db");
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.to_string().contains("needs TLS"), "{error}");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert!(cause.is_some_and(|cause| cause.contains("no RSA here")));
    }

    #[test]
    fn what_broke_off_may_work_later() {
        let lost = sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        for error in [lost, sqlx::Error::WorkerCrashed] {
            let error = explain(failure("db", error), "db");
            assert_eq!(error.kind, ErrorKind::Unavailable);
        }
    }
}
