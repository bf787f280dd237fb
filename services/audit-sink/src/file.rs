//! The file: one table of records by index.
//!
//! Invariants: indices are 0, 1, 2, … without a gap; an append is one durable transaction; a kept
//! record is never overwritten.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_engine::port::journal::AuditLeaf;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::error::AuditSinkError;

const FORMAT: i64 = 1;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const SCHEMA: &str = "
CREATE TABLE leaf (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
PRAGMA user_version = 1;
";

/// The open file.
pub(crate) struct File {
    path: PathBuf,
    connection: SqliteConnection,
    size: u64,
}

/// What became of a record that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is there, as given.
    Same,
    /// Another one is there.
    Different,
}

impl File {
    /// Opens the file, or makes it.
    pub(crate) async fn open(path: &Path) -> Result<Self, AuditSinkError> {
        create(path)?;
        let opened = |source| AuditSinkError::Open {
            path: path.to_owned(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options)
            .await
            .map_err(opened)?;
        let found: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut connection)
            .await
            .map_err(opened)?;
        match found {
            0 => make_tables(&mut connection).await.map_err(opened)?,
            FORMAT => {}
            _ => {
                let path = path.to_owned();
                let known = FORMAT;
                return Err(AuditSinkError::UnknownFormat { path, found, known });
            }
        }
        let size = count(&mut connection, path).await?;
        Ok(Self {
            path: path.to_owned(),
            connection,
            size,
        })
    }

    /// How many records are kept; the next one has this index.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Keeps records that begin where the file ends.
    pub(crate) async fn append(&mut self, leaves: &[AuditLeaf]) -> Result<(), AuditSinkError> {
        let done = self.insert(leaves).await;
        done.map_err(|source| AuditSinkError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.size += leaves.len() as u64;
        Ok(())
    }

    async fn insert(&mut self, leaves: &[AuditLeaf]) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        for leaf in leaves {
            sqlx::query("INSERT INTO leaf (idx, bytes) VALUES ($1, $2)")
                .bind(leaf.index.cast_signed())
                .bind(&*leaf.bytes)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }

    /// Compares a record with the kept one of its index.
    pub(crate) async fn compare(&mut self, leaf: &AuditLeaf) -> Result<Kept, AuditSinkError> {
        let kept: Option<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM leaf WHERE idx = $1")
            .bind(leaf.index.cast_signed())
            .fetch_optional(&mut self.connection)
            .await
            .map_err(|source| AuditSinkError::Io {
                path: self.path.clone(),
                source,
            })?;
        Ok(match kept {
            Some(bytes) if *bytes == *leaf.bytes => Kept::Same,
            _ => Kept::Different,
        })
    }
}

/// Makes an empty file that only its owner can read.
fn create(path: &Path) -> Result<(), AuditSinkError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|source| AuditSinkError::Create {
            path: path.to_owned(),
            source,
        })
}

async fn make_tables(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
    transaction.commit().await
}

async fn count(connection: &mut SqliteConnection, path: &Path) -> Result<u64, AuditSinkError> {
    let row: (i64, Option<i64>) = sqlx::query_as("SELECT COUNT(*), MAX(idx) FROM leaf")
        .fetch_one(connection)
        .await
        .map_err(|source| AuditSinkError::Open {
            path: path.to_owned(),
            source,
        })?;
    let found = row.0.cast_unsigned();
    let expected = row.1.map_or(0, |last| last.cast_unsigned() + 1);
    if found == expected {
        return Ok(found);
    }
    Err(AuditSinkError::Hole {
        path: path.to_owned(),
        found,
        expected,
    })
}
