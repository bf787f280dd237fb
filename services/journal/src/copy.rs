//! A copy of the log while it is written: the file as it was at one moment, made without stopping who writes.
//!
//! Invariants: nothing is appended between [`SqliteJournal::stand_still`] and the beginning of the copy, so that
//! others may be brought to the same moment; the copy is of that moment, whatever is appended while it is made; it is
//! a journal like any other, and nothing in the one that is copied changes. It says nothing about other files.

use std::path::{Path, PathBuf};

use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::{AuditLeaf, Head};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, SqliteConnection};
use tokio::sync::MutexGuard;

use crate::merkle::Hash;
use crate::place::Place;
use crate::sqlite::Writer;
use crate::{SqliteJournal, file, read, retention};

/// What the journal that is copied is called in statements.
const ATTACH: &str = "ATTACH DATABASE ? AS live";
/// Tables before what is over them.
const SCHEMA: &str = "SELECT type, name, sql FROM live.sqlite_schema \
    WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type <> 'table', name";

/// A journal to which nothing is appended as long as this lives.
pub struct Still<'j> {
    journal: &'j SqliteJournal,
    _writer: MutexGuard<'j, Writer>,
}

/// A copy that has begun: what it will hold is settled.
pub struct Copying {
    place: Place,
    connection: SqliteConnection,
    to: PathBuf,
    head: Head,
}

impl SqliteJournal {
    /// Waits until no append runs, and lets none begin.
    pub async fn stand_still(&self) -> Still<'_> {
        Still {
            journal: self,
            _writer: self.writer().await,
        }
    }
}

impl Still<'_> {
    /// Begins a copy of the log as it is now, in a file that is not there yet. Others may append as soon as
    /// this returned.
    ///
    /// # Errors
    /// When the file cannot be made or the log cannot be read.
    pub async fn begin_copy(self, to: &Path) -> Result<Copying, PortError> {
        let place = Place::file(self.journal.path());
        file::secure_file(to)?;
        let options = SqliteConnectOptions::new()
            .filename(to)
            // Whoever keeps the copy writes it through to the disk.
            .journal_mode(SqliteJournalMode::Memory)
            .synchronous(SqliteSynchronous::Off)
            .busy_timeout(file::BUSY_TIMEOUT)
            .foreign_keys(false)
            .disable_statement_logging();
        let failed = |source| place.failed(source);
        let mut connection = options.connect().await.map_err(failed)?;
        let live = self.journal.path().to_string_lossy().into_owned();
        let attached = sqlx::query(ATTACH).bind(live).execute(&mut connection);
        attached.await.map_err(failed)?;
        let begun = sqlx::query("BEGIN").execute(&mut connection);
        begun.await.map_err(failed)?;
        // The first read settles what this transaction sees; the copy has no table of that name yet.
        let head = read::head(&mut connection, &place).await?;
        Ok(Copying {
            place,
            connection,
            to: to.to_owned(),
            head,
        })
    }
}

impl Copying {
    /// Where the copy ends.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Copies every table.
    ///
    /// # Errors
    /// When the log cannot be read or the copy cannot be written.
    pub async fn finish(mut self) -> Result<Head, PortError> {
        let copied = copy_tables(&mut self.connection).await;
        copied.map_err(|source| self.place.failed(source))?;
        file::close(&self.to, self.connection).await?;
        Ok(self.head)
    }
}

/// Audit records of a journal that nobody needs to have opened, from an index on, at most `limit`.
///
/// # Errors
/// When the file cannot be read, or lacks one.
pub async fn records_of_file(
    path: &Path,
    from: u64,
    limit: usize,
) -> Result<Vec<AuditLeaf>, PortError> {
    let mut connection = file::open_reader(path).await?;
    let records = read::leaves(&mut connection, &Place::file(path), from, limit).await;
    file::close(path, connection).await?;
    records
}

/// Leaf hashes of records that were removed from such a journal by their age, from an index on, at most `limit`.
///
/// # Errors
/// When the file cannot be read.
pub async fn removed_hashes_of_file(
    path: &Path,
    from: u64,
    limit: usize,
) -> Result<Vec<Hash>, PortError> {
    let mut connection = file::open_reader(path).await?;
    let hashes = retention::hashes(&mut connection, &Place::file(path), (from, limit)).await;
    file::close(path, connection).await?;
    hashes
}

async fn copy_tables(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let format: i64 = sqlx::query_scalar("PRAGMA live.user_version")
        .fetch_one(&mut *connection)
        .await?;
    let parts: Vec<(String, String, String)> =
        sqlx::query_as(SCHEMA).fetch_all(&mut *connection).await?;
    for (kind, name, sql) in parts {
        // Without a schema's name a statement makes its part in the copy.
        run(connection, sql).await?;
        if kind == "table" {
            let name = name.replace('"', "\"\"");
            let fill = format!("INSERT INTO main.\"{name}\" SELECT * FROM live.\"{name}\"");
            run(connection, fill).await?;
        }
    }
    run(connection, format!("PRAGMA main.user_version = {format}")).await?;
    sqlx::query("COMMIT").execute(connection).await.map(drop)
}

/// Runs a statement that was made of the journal's own schema.
async fn run(connection: &mut SqliteConnection, sql: String) -> Result<(), sqlx::Error> {
    let statement = sqlx::raw_sql(AssertSqlSafe(sql));
    statement.execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use keywheel_engine::port::journal::Journal as _;
    use keywheel_testkit::conformance::journal::decision;

    use super::*;
    use crate::tests::{ORIGIN, open, options};
    use crate::{checkpoint::Checkpoint, verify_file};

    #[tokio::test]
    async fn a_copy_is_the_journal_of_the_moment_whatever_is_appended_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(&directory.path().join("journal.db")).await;
        let first: Vec<_> = (1..=300).map(decision).collect();
        journal.append(1, &first).await.unwrap();
        let still = journal.stand_still().await;
        let to = directory.path().join("copy.db");
        let copying = still.begin_copy(&to).await.unwrap();
        // The log goes on while the copy is made.
        journal.append(301, &[decision(301)]).await.unwrap();
        assert_eq!(copying.head().number, 300);
        let head = copying.finish().await.unwrap();
        journal.append(302, &[decision(302)]).await.unwrap();
        assert_eq!(journal.head().await.unwrap().number, 302);

        let (verified, _) = verify_file(&to).await.unwrap();
        assert_eq!(verified.faults, Vec::<String>::new());
        assert_eq!(
            (verified.events, verified.audit_records),
            (300, head.audit_size)
        );
        let key = journal.public_key();
        let signed = Checkpoint::verify(&head.checkpoint, ORIGIN, &key).unwrap();
        assert_eq!(signed.size, head.audit_size);
        // It goes on where it ended, as the same log.
        let copy = SqliteJournal::open(&to, options(1)).await.unwrap();
        copy.append(301, &[decision(301)]).await.unwrap();
        assert_eq!(copy.verify().await.unwrap().faults, Vec::<String>::new());
        assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
    }

    #[tokio::test]
    async fn nothing_is_appended_while_it_stands_still() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(&directory.path().join("journal.db")).await;
        let still = journal.stand_still().await;
        let one = [decision(1)];
        let mut appending = std::pin::pin!(journal.append(1, &one));
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        for _ in 0..3 {
            let polled = std::future::Future::poll(appending.as_mut(), &mut context);
            assert!(polled.is_pending());
        }
        drop(still);
        appending.await.unwrap();
    }
}
