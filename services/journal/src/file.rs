//! Opening the file: its mode, its pragmas, its tables, and whether its end is whole.
//!
//! Invariants (E1): write-ahead log with full sync, no memory map, a SQLite without the log bug, a
//! quick check and a look at the tail before anything is served. The file is 0600 and belongs to one
//! deployment and one signing key for ever.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use keywheel_core::id::DeploymentId;
use keywheel_engine::port::journal::MAX_READ;
use keywheel_engine::port::{ErrorKind, PortError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::batch::{Signer, Tail};
use crate::fault;
use crate::place::Place;
use crate::subscriptions;
use crate::tables::{FORMAT, TABLES};
use crate::{deliveries, opening, read, retention};

/// Older releases can corrupt a database in WAL mode.
pub const MIN_SQLITE_VERSION: &str = "3.51.3";
/// How long a program beside us may hold the file.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Has a connection wait for such a program again, as long as [`BUSY_TIMEOUT`].
pub(crate) const WAIT_WHEN_BUSY: &str = "PRAGMA busy_timeout = 5000";
/// Has what goes from a page overwritten there, and writes no page more for it: what lay in the first page before the
/// tables grew out of it, above all.
pub(crate) const OVERWRITE_WITHIN_PAGES: &str = "PRAGMA secure_delete = FAST";
/// Pages in the write-ahead log before they are moved into the file: 16 MiB.
pub(crate) const CHECKPOINT_PAGES: &str = "4000";

/// Opens the connection that writes, makes or checks the tables, and reads the tail.
pub(crate) async fn open_writer(
    path: &Path,
    deployment: DeploymentId,
    signer: &Signer,
) -> Result<(SqliteConnection, Tail), PortError> {
    secure_file(path)?;
    let mut connection = connect(path).await?;
    check_library(&mut connection, path).await?;
    check_pragmas(&mut connection, path).await?;
    let verdict: String = scalar(&mut connection, path, "PRAGMA quick_check(1)").await?;
    if verdict != "ok" {
        return Err(fault::damaged(
            &path.display(),
            "its pages do not fit together",
        ));
    }
    let place = Place::file(path);
    match scalar::<i64>(&mut connection, path, "PRAGMA user_version").await? {
        0 => create(&mut connection, path, deployment, signer).await?,
        FORMAT => opening::check_owner(&mut connection, &place, deployment, signer).await?,
        found => return Err(unknown_format(path, found)),
    }
    make_subscriptions(&mut connection, path).await?;
    let made = sqlx::raw_sql(deliveries::TABLES).execute(&mut connection);
    made.await.map_err(|source| fault::port(path, source))?;
    let made = sqlx::raw_sql(retention::TABLE).execute(&mut connection);
    made.await.map_err(|source| fault::port(path, source))?;
    let tail = read::tail(&mut connection, &place).await?;
    opening::check_tail(&mut connection, &place, signer, &tail).await?;
    Ok((connection, tail))
}

async fn make_subscriptions(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), PortError> {
    let failed = |source| fault::port(path, source);
    let made = sqlx::raw_sql(subscriptions::TABLE);
    made.execute(&mut *connection).await.map_err(failed)?;
    if scalar::<i64>(connection, path, subscriptions::HAS_IDS).await? == 0 {
        let added = sqlx::raw_sql(subscriptions::ADD_IDS);
        added.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

/// Opens a connection that can only read.
pub(crate) async fn open_reader(path: &Path) -> Result<SqliteConnection, PortError> {
    let mut connection = connect(path).await?;
    let done = sqlx::query("PRAGMA query_only = 1")
        .execute(&mut connection)
        .await;
    done.map_err(|source| fault::port(path, source))?;
    Ok(connection)
}

/// Ends a connection and waits until its thread is done with the file.
pub(crate) async fn close(path: &Path, connection: SqliteConnection) -> Result<(), PortError> {
    connection
        .close()
        .await
        .map_err(|source| fault::port(path, source))
}

async fn connect(path: &Path) -> Result<SqliteConnection, PortError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("mmap_size", "0")
        .pragma("secure_delete", "FAST")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        // A whole page of events: its thread and the reader do not wait for each other row by row.
        .row_buffer_size(MAX_READ.saturating_add(1))
        .disable_statement_logging();
    SqliteConnection::connect_with(&options)
        .await
        .map_err(|source| fault::port(path, source))
}

/// Makes a directory for our user only, if it is not there.
pub(crate) fn secure_directory(directory: &Path) -> Result<(), PortError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|source| fault::place(directory, "the directory cannot be made", source))
}

/// Makes the file for our user only, or closes it to others.
pub(crate) fn secure_file(path: &Path) -> Result<(), PortError> {
    let refuse = |what| move |source| fault::place(path, what, source);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    let file = file.map_err(refuse("the file cannot be opened for writing"))?;
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(refuse("its mode cannot be set"))
}

async fn scalar<T>(
    connection: &mut SqliteConnection,
    path: &Path,
    sql: &'static str,
) -> Result<T, PortError>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
{
    let value = sqlx::query_scalar(sql).fetch_one(connection).await;
    value.map_err(|source| fault::port(path, source))
}

async fn check_library(connection: &mut SqliteConnection, path: &Path) -> Result<(), PortError> {
    let found: String = scalar(connection, path, "SELECT sqlite_version()").await?;
    if is_recent(&found) {
        return Ok(());
    }
    let text = format!(
        "SQLite {found} is too old, {MIN_SQLITE_VERSION} or newer is needed; build keywheel with its bundled SQLite"
    );
    Err(PortError::new(ErrorKind::Unavailable, text))
}

/// Whether a version like `3.51.3` is at least [`MIN_SQLITE_VERSION`].
fn is_recent(found: &str) -> bool {
    let parse = |text: &str| {
        text.split('.')
            .map(|part| part.parse::<u32>().ok())
            .collect::<Option<Vec<_>>>()
    };
    parse(found)
        .zip(parse(MIN_SQLITE_VERSION))
        .is_some_and(|(found, wanted)| found >= wanted)
}

/// Asks SQLite what it really does, whatever it was told.
async fn check_pragmas(connection: &mut SqliteConnection, path: &Path) -> Result<(), PortError> {
    let mode: String = scalar(connection, path, "PRAGMA journal_mode").await?;
    let synchronous: i64 = scalar(connection, path, "PRAGMA synchronous").await?;
    // A build without memory maps gives no row at all.
    let map: Option<i64> = sqlx::query_scalar("PRAGMA mmap_size")
        .fetch_optional(&mut *connection)
        .await
        .map_err(|source| fault::port(path, source))?;
    if mode == "wal" && synchronous == 2 && map.unwrap_or(0) == 0 {
        return Ok(());
    }
    let text = format!(
        "the journal {} cannot be kept durably (journal_mode {mode}, synchronous {synchronous}); put it on a local disk",
        path.display()
    );
    Err(PortError::new(ErrorKind::Unavailable, text))
}

fn unknown_format(path: &Path, found: i64) -> PortError {
    let text = format!(
        "the journal {} has format {found}, this build reads format {FORMAT}; use a newer keywheel",
        path.display()
    );
    PortError::new(ErrorKind::Denied, text)
}

/// Makes the tables and the first rows, all or nothing.
async fn create(
    connection: &mut SqliteConnection,
    path: &Path,
    deployment: DeploymentId,
    signer: &Signer,
) -> Result<(), PortError> {
    let failed = |source| fault::port(path, source);
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    sqlx::raw_sql(TABLES)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    opening::begin(&mut *transaction, &Place::file(path), deployment, signer).await?;
    sqlx::query("PRAGMA user_version = 1")
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_with_the_log_bug_are_refused() {
        for bad in ["3.7.0", "3.40.1", "3.51.2", "3.9.99", "", "x"] {
            assert!(!is_recent(bad), "{bad}");
        }
        for good in ["3.51.3", "3.54.1", "4.0.0"] {
            assert!(is_recent(good), "{good}");
        }
    }

    #[test]
    fn a_connection_waits_again_as_long_as_before() {
        let millis = BUSY_TIMEOUT.as_millis();
        assert_eq!(
            WAIT_WHEN_BUSY,
            format!("PRAGMA busy_timeout = {millis}").as_str()
        );
    }

    #[tokio::test]
    async fn a_file_that_is_not_kept_durably_is_refused_with_what_is_wrong() {
        for (pragma, part) in [
            ("PRAGMA journal_mode = DELETE", "journal_mode delete"),
            ("PRAGMA journal_mode = MEMORY", "journal_mode memory"),
            ("PRAGMA synchronous = NORMAL", "synchronous 1"),
            ("PRAGMA synchronous = OFF", "synchronous 0"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("journal.db");
            secure_file(&path).unwrap();
            let mut connection = connect(&path).await.unwrap();
            check_pragmas(&mut connection, &path).await.unwrap();
            sqlx::raw_sql(pragma)
                .execute(&mut connection)
                .await
                .unwrap();
            let refused = check_pragmas(&mut connection, &path).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Unavailable);
            assert!(refused.text.contains(part), "{pragma}: {}", refused.text);
            assert!(refused.text.contains("put it on a local disk"));
        }
        // A database in memory cannot have a write-ahead log, whatever it is told.
        let path = Path::new(":memory:");
        let mut connection = connect(path).await.unwrap();
        let refused = check_pragmas(&mut connection, path).await.unwrap_err();
        assert!(
            refused.text.contains("journal_mode memory"),
            "{}",
            refused.text
        );
    }
}
