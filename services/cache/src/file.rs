//! The file itself: where it may lie, how it is opened, its tables.
//!
//! Invariants: directory 0700 and file 0600 of our own user; write-ahead log with full sync; freed
//! pages are overwritten; no memory map; nothing is written before the key was proven right.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::error::Error;

/// Older releases can corrupt a database in WAL mode.
pub const MIN_SQLITE_VERSION: &str = "3.51.3";
/// User id of root.
const ROOT: u32 = 0;
/// Format of the tables.
pub(crate) const FORMAT: i64 = 3;
/// The format before KEKs had a time of making; it and all later ones are upgraded when the cache is
/// opened.
const FORMAT_WITHOUT_KEK_TIME: i64 = 1;
/// How long another owner may take to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Every table. A destroyed version keeps its row, without key and ciphertext, so that it can never
/// be inserted again.
pub(crate) const SCHEMA: &str = "
CREATE TABLE deployment (id BLOB NOT NULL) STRICT;
CREATE TABLE kek (
    id BLOB PRIMARY KEY,
    sealed BLOB NOT NULL,
    wraps INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('current', 'old')),
    created INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX kek_one_current ON kek (state) WHERE state = 'current';
CREATE TABLE version (
    secret BLOB NOT NULL,
    version INTEGER NOT NULL,
    token BLOB,
    state TEXT NOT NULL CHECK (state IN ('live', 'destroyed')),
    suite INTEGER,
    key_id BLOB,
    wrapped_dek BLOB,
    nonce BLOB,
    ciphertext BLOB,
    commitment BLOB,
    PRIMARY KEY (secret, version),
    UNIQUE (secret, token)
) STRICT;
CREATE TABLE stash (
    token BLOB PRIMARY KEY,
    put_at INTEGER NOT NULL,
    suite INTEGER NOT NULL,
    key_id BLOB NOT NULL,
    wrapped_dek BLOB NOT NULL,
    nonce BLOB NOT NULL,
    ciphertext BLOB NOT NULL,
    commitment BLOB NOT NULL
) STRICT;
CREATE TABLE store_key (
    generation INTEGER PRIMARY KEY,
    made_at INTEGER NOT NULL,
    suite INTEGER NOT NULL,
    key_id BLOB NOT NULL,
    wrapped_dek BLOB NOT NULL,
    nonce BLOB NOT NULL,
    ciphertext BLOB NOT NULL,
    commitment BLOB NOT NULL
) STRICT;
PRAGMA user_version = 3;
";

/// From format 1 to 2. The time of making is not known; the caller sets it.
const ADD_KEK_TIME: &str = "
ALTER TABLE kek ADD COLUMN created INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;
";

/// From format 2 to 3.
const ADD_STORE_KEY: &str = "
CREATE TABLE store_key (
    generation INTEGER PRIMARY KEY,
    made_at INTEGER NOT NULL,
    suite INTEGER NOT NULL,
    key_id BLOB NOT NULL,
    wrapped_dek BLOB NOT NULL,
    nonce BLOB NOT NULL,
    ciphertext BLOB NOT NULL,
    commitment BLOB NOT NULL
) STRICT;
PRAGMA user_version = 3;
";

/// Opens the file and checks library, file and format; `true` when the file is new.
pub(crate) async fn open(path: &Path) -> Result<(SqliteConnection, bool), Error> {
    secure_location(path)?;
    let sqlite = |source| Error::sqlite(path, source);
    let options = SqliteConnectOptions::new()
        .filename(path)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("secure_delete", "ON")
        .pragma("temp_store", "MEMORY")
        .pragma("mmap_size", "0")
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options)
        .await
        .map_err(sqlite)?;
    check_library(&mut connection, path).await?;
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut connection)
        .await
        .map_err(sqlite)?;
    if verdict != "ok" {
        return Err(Error::CorruptFile {
            path: path.to_owned(),
            source: None,
        });
    }
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut connection)
        .await
        .map_err(sqlite)?;
    match found {
        0 => Ok((connection, true)),
        FORMAT_WITHOUT_KEK_TIME..=FORMAT => Ok((connection, false)),
        _ => Err(Error::UnknownFormat {
            path: path.to_owned(),
            found,
            known: FORMAT,
        }),
    }
}

/// Brings the tables of an older build to [`FORMAT`], all or nothing; a KEK of unknown age counts as
/// made now. Call it only once the key was proven right.
pub(crate) async fn upgrade(
    connection: &mut SqliteConnection,
    path: &Path,
    now: i64,
) -> Result<(), Error> {
    let sqlite = |source| Error::sqlite(path, source);
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await
        .map_err(sqlite)?;
    if found == FORMAT {
        return Ok(());
    }
    let mut transaction = connection.begin().await.map_err(sqlite)?;
    if found == FORMAT_WITHOUT_KEK_TIME {
        sqlx::raw_sql(ADD_KEK_TIME)
            .execute(&mut *transaction)
            .await
            .map_err(sqlite)?;
        sqlx::query("UPDATE kek SET created = $1")
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(sqlite)?;
    }
    sqlx::raw_sql(ADD_STORE_KEY)
        .execute(&mut *transaction)
        .await
        .map_err(sqlite)?;
    transaction.commit().await.map_err(sqlite)
}

/// Moves the log into the file and empties it, so that overwritten rows are gone from both.
pub(crate) async fn empty_log(connection: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    let row: (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(connection)
        .await
        .map_err(|source| Error::sqlite(path, source))?;
    if row.0 == 0 {
        return Ok(());
    }
    let source = sqlx::Error::Protocol("the log could not be emptied".to_owned());
    Err(Error::InUse {
        path: path.to_owned(),
        source,
    })
}

async fn check_library(connection: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    let found: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(connection)
        .await
        .map_err(|source| Error::sqlite(path, source))?;
    if is_recent(&found) {
        return Ok(());
    }
    Err(Error::SqliteTooOld {
        found,
        wanted: MIN_SQLITE_VERSION,
    })
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

/// Makes directory and file if need be and refuses a directory that others may enter.
fn secure_location(path: &Path) -> Result<(), Error> {
    let refuse = |path: &Path, reason: String| Error::Location {
        path: path.to_owned(),
        reason,
    };
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory
        .ok_or_else(|| refuse(path, "it has no directory; give a full path".to_owned()))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| refuse(directory, format!("the directory cannot be made ({error})")))?;
    let about = directory
        .metadata()
        .map_err(|error| refuse(directory, error.to_string()))?;
    if about.mode() & 0o077 != 0 {
        let reason = format!(
            "other users may enter the directory; run `chmod 700 {}`",
            directory.display()
        );
        return Err(refuse(directory, reason));
    }
    // Root may open the cache of somebody else, who can have put a link there: nothing is made where it leads to.
    let is_theirs = ![ROOT, rustix::process::geteuid().as_raw()].contains(&about.uid());
    let mut flags = OFlags::NONBLOCK;
    flags.set(OFlags::NOFOLLOW, is_theirs);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let file =
        file.map_err(|error| refuse(path, format!("the file cannot be opened ({error})")))?;
    let found = file
        .metadata()
        .map_err(|error| refuse(path, error.to_string()))?;
    if !found.is_file() {
        return Err(refuse(path, "it is no file".to_owned()));
    }
    if found.mode() & 0o077 != 0 {
        let reason = format!(
            "other users may read the file; run `chmod 600 {}`",
            path.display()
        );
        return Err(refuse(path, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_makes_nothing_where_a_link_in_somebody_else_s_directory_leads_to() {
        use std::os::unix::fs::{chown, symlink};
        const STORE_SYNC: u32 = 4242;
        let scratch = tempfile::tempdir().unwrap();
        let (data, elsewhere) = (
            scratch.path().join("data"),
            scratch.path().join("elsewhere"),
        );
        DirBuilder::new().mode(0o700).create(&data).unwrap();
        if std::fs::metadata(&data).unwrap().uid() != ROOT {
            return;
        }
        chown(&data, Some(STORE_SYNC), Some(STORE_SYNC)).unwrap();
        let path = data.join("cache.db");
        symlink(&elsewhere, &path).unwrap();
        assert!(secure_location(&path).is_err());
        assert!(!elsewhere.exists());
        std::fs::remove_file(&path).unwrap();
        assert!(secure_location(&path).is_ok());
    }

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
