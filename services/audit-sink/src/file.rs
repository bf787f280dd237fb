//! The file: one table of records by index, and how far each sink has been told.
//!
//! Invariants: indices go up by one from the first, which is 0, or the first that the log had when the file was begun
//! (those before it had been removed there by their age); an append is one durable transaction; a kept
//! record is never overwritten; a sink's place moves on only after it was told. Clones are one file.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keywheel_engine::port::journal::AuditLeaf;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{Mutex, watch};

use crate::error::AuditSinkError;

const FORMAT: i64 = 1;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const SCHEMA: &str = "
CREATE TABLE leaf (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
PRAGMA user_version = 1;
";
/// Builds before there were sinks, or before a log could begin later, do not know these tables and need not.
const PLACES: &str =
    "CREATE TABLE IF NOT EXISTS place (sink TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS beginning (id INTEGER PRIMARY KEY CHECK (id = 1), idx INTEGER NOT NULL) STRICT;";

/// The open file.
#[derive(Clone)]
pub(crate) struct File {
    path: PathBuf,
    connection: Arc<Mutex<SqliteConnection>>,
    size: watch::Sender<u64>,
    begins: Arc<AtomicU64>,
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
        sqlx::raw_sql(PLACES)
            .execute(&mut connection)
            .await
            .map_err(opened)?;
        let begins: Option<i64> = sqlx::query_scalar("SELECT idx FROM beginning")
            .fetch_optional(&mut connection)
            .await
            .map_err(opened)?;
        let begins = begins.map_or(0, i64::cast_unsigned);
        let size = count(&mut connection, path, begins).await?;
        Ok(Self {
            path: path.to_owned(),
            connection: Arc::new(Mutex::new(connection)),
            size: watch::Sender::new(size),
            begins: Arc::new(AtomicU64::new(begins)),
        })
    }

    /// Index of the first record that is kept, or would be.
    pub(crate) fn begins(&self) -> u64 {
        self.begins.load(Ordering::Relaxed)
    }

    /// The same, for whoever has to know it later.
    pub(crate) fn beginning(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.begins)
    }

    /// Begins at this record: those before it are nowhere any more. Only while nothing is kept.
    pub(crate) async fn begin_at(&self, index: u64) -> Result<(), AuditSinkError> {
        let mut connection = self.connection.lock().await;
        let begun = sqlx::query(
            "INSERT INTO beginning (id, idx) SELECT 1, $1 WHERE NOT EXISTS (SELECT 1 FROM leaf) \
             ON CONFLICT (id) DO UPDATE SET idx = excluded.idx",
        )
        .bind(index.cast_signed())
        .execute(&mut *connection)
        .await
        .map_err(|error| self.failed(error))?;
        if begun.rows_affected() == 0 {
            return Ok(());
        }
        self.begins.store(index, Ordering::Relaxed);
        self.size.send_replace(index);
        Ok(())
    }

    /// The index of the next record: as many are kept, where the first is 0.
    pub(crate) fn size(&self) -> u64 {
        *self.size.borrow()
    }

    /// The same, for whoever waits for more.
    pub(crate) fn grown(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    /// Keeps records that begin where the file ends.
    pub(crate) async fn append(&self, leaves: &[AuditLeaf]) -> Result<(), AuditSinkError> {
        self.insert(leaves).await.map_err(|e| self.failed(e))?;
        self.size.send_modify(|size| *size += leaves.len() as u64);
        Ok(())
    }

    /// Records from an index on, oldest first.
    pub(crate) async fn read(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<AuditLeaf>, AuditSinkError> {
        let mut connection = self.connection.lock().await;
        let rows: Result<Vec<(i64, Vec<u8>)>, _> =
            sqlx::query_as("SELECT idx, bytes FROM leaf WHERE idx >= $1 ORDER BY idx LIMIT $2")
                .bind(from.cast_signed())
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await;
        let leaf = |(index, bytes): (i64, Vec<u8>)| AuditLeaf {
            index: index.cast_unsigned(),
            bytes: Arc::from(bytes),
        };
        let rows = rows.map_err(|error| self.failed(error))?;
        Ok(rows.into_iter().map(leaf).collect())
    }

    /// The first record that a sink was not told yet.
    pub(crate) async fn place(&self, sink: &str) -> Result<u64, AuditSinkError> {
        let mut connection = self.connection.lock().await;
        let next: Result<Option<i64>, _> =
            sqlx::query_scalar("SELECT next FROM place WHERE sink = $1")
                .bind(sink)
                .fetch_optional(&mut *connection)
                .await;
        let next = next.map_err(|error| self.failed(error))?;
        Ok(next.map_or(0, i64::cast_unsigned))
    }

    /// Moves a sink's place on.
    pub(crate) async fn advance(&self, sink: &str, next: u64) -> Result<(), AuditSinkError> {
        let mut connection = self.connection.lock().await;
        sqlx::query(
            "INSERT INTO place (sink, next) VALUES ($1, $2) ON CONFLICT (sink) DO UPDATE SET next = excluded.next",
        )
        .bind(sink)
        .bind(next.cast_signed())
        .execute(&mut *connection)
        .await
        .map(drop)
        .map_err(|error| self.failed(error))
    }

    fn failed(&self, source: sqlx::Error) -> AuditSinkError {
        AuditSinkError::Io {
            path: self.path.clone(),
            source,
        }
    }

    async fn insert(&self, leaves: &[AuditLeaf]) -> Result<(), sqlx::Error> {
        let mut connection = self.connection.lock().await;
        let mut transaction = connection.begin().await?;
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
    pub(crate) async fn compare(&self, leaf: &AuditLeaf) -> Result<Kept, AuditSinkError> {
        let mut connection = self.connection.lock().await;
        let kept: Result<Option<Vec<u8>>, _> =
            sqlx::query_scalar("SELECT bytes FROM leaf WHERE idx = $1")
                .bind(leaf.index.cast_signed())
                .fetch_optional(&mut *connection)
                .await;
        Ok(match kept.map_err(|error| self.failed(error))? {
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

async fn count(
    connection: &mut SqliteConnection,
    path: &Path,
    begins: u64,
) -> Result<u64, AuditSinkError> {
    let row: (i64, Option<i64>) = sqlx::query_as("SELECT COUNT(*), MAX(idx) FROM leaf")
        .fetch_one(connection)
        .await
        .map_err(|source| AuditSinkError::Open {
            path: path.to_owned(),
            source,
        })?;
    let found = row.0.cast_unsigned();
    let size = row.1.map_or(begins, |last| last.cast_unsigned() + 1);
    let expected = size.saturating_sub(begins);
    if found == expected {
        return Ok(size);
    }
    Err(AuditSinkError::Hole {
        path: path.to_owned(),
        found,
        expected,
    })
}
