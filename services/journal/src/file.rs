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
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::sign::VerifyingKey;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::batch::{Signer, Tail};
use crate::fault;
use crate::merkle::Frontier;
use crate::read;
use crate::tables::{FORMAT, PROCESS_MANAGERS, TABLES};

/// Older releases can corrupt a database in WAL mode.
pub const MIN_SQLITE_VERSION: &str = "3.51.3";
/// How long a program beside us may hold the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
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
        return Err(fault::damaged(path, "its pages do not fit together"));
    }
    match scalar::<i64>(&mut connection, path, "PRAGMA user_version").await? {
        0 => create(&mut connection, path, deployment, signer).await?,
        FORMAT => check_owner(&mut connection, path, deployment, signer).await?,
        found => return Err(unknown_format(path, found)),
    }
    let tail = read::tail(&mut connection, path).await?;
    check_tail(&mut connection, path, signer, &tail).await?;
    Ok((connection, tail))
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
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
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
fn secure_file(path: &Path) -> Result<(), PortError> {
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
    let frontier = Frontier::new();
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    sqlx::raw_sql(TABLES)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    sqlx::query("INSERT INTO log (id, deployment, origin, public_key) VALUES (1, ?, ?, ?)")
        .bind(deployment.bytes().to_vec())
        .bind(&signer.origin)
        .bind(signer.key.verifying_key().to_bytes().to_vec())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    sqlx::query("INSERT INTO head (id, number, hash, audit_size, frontier, checkpoint) VALUES (1, 0, ?, 0, ?, ?)")
        .bind(vec![0; 32])
        .bind(frontier.to_bytes())
        .bind(signer.checkpoint(&frontier))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    for name in PROCESS_MANAGERS {
        let insert =
            sqlx::query("INSERT INTO process_checkpoint (name, number) VALUES (?, 0)").bind(name);
        insert.execute(&mut *transaction).await.map_err(failed)?;
    }
    sqlx::query("PRAGMA user_version = 1")
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

async fn check_owner(
    connection: &mut SqliteConnection,
    path: &Path,
    deployment: DeploymentId,
    signer: &Signer,
) -> Result<(), PortError> {
    let row: Option<(Vec<u8>, String, Vec<u8>)> =
        sqlx::query_as("SELECT deployment, origin, public_key FROM log WHERE id = 1")
            .fetch_optional(connection)
            .await
            .map_err(|source| fault::port(path, source))?;
    let (owner, origin, public_key) =
        row.ok_or_else(|| fault::damaged(path, "it names no owner"))?;
    let refuse = |what: &str| {
        let text = format!("the journal {} {what}", path.display());
        Err(PortError::new(ErrorKind::Denied, text))
    };
    if owner != deployment.bytes() {
        return refuse(
            "belongs to another deployment; give each deployment its own data directory",
        );
    }
    if public_key != signer.key.verifying_key().to_bytes() {
        return refuse(
            "is signed with another key; give the key this data directory was made with",
        );
    }
    if origin != signer.origin {
        return refuse(&format!(
            "is the log `{origin}`, not `{}`; give it its own name",
            signer.origin
        ));
    }
    Ok(())
}

/// Re-reads the end of chain and tree: what was written last before a crash is looked at first.
async fn check_tail(
    connection: &mut SqliteConnection,
    path: &Path,
    signer: &Signer,
    tail: &Tail,
) -> Result<(), PortError> {
    let last = read::last_event(connection, path).await?;
    let key: VerifyingKey = signer.key.verifying_key();
    if last.as_ref().map_or(0, |last| last.number) != tail.number {
        return Err(fault::damaged(
            path,
            "its last event is not the one its head names",
        ));
    }
    if last.is_some_and(|last| last.hash != tail.hash || !last.is_signed_by(&key)) {
        return Err(fault::damaged(
            path,
            "its last event does not fit its head or its signature",
        ));
    }
    let leaves: i64 = scalar(
        connection,
        path,
        "SELECT COALESCE(MAX(place) + 1, 0) FROM audit",
    )
    .await?;
    if u64::try_from(leaves) != Ok(tail.frontier.size()) {
        return Err(fault::damaged(
            path,
            "its last audit record is not the one its head names",
        ));
    }
    let signed = crate::checkpoint::Checkpoint::verify(&tail.checkpoint, &signer.origin, &key);
    if !signed.is_ok_and(|c| c.size == tail.frontier.size() && c.root == tail.frontier.root()) {
        return Err(fault::damaged(
            path,
            "its checkpoint does not fit its audit tree",
        ));
    }
    Ok(())
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
}
