//! The copy as somebody reads it who does not run it: how much it kept, and what.
//!
//! Nothing is written. It asks only for the table of records, so it reads what newer builds keep as well.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keywheel_engine::port::journal::{AuditLeaf, MAX_READ};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::error::AuditSinkError;

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Records that a sink kept.
pub struct KeptRecords {
    path: PathBuf,
    connection: SqliteConnection,
    size: u64,
    begins: u64,
}

impl KeptRecords {
    /// Opens the file of a sink that does not run.
    ///
    /// # Errors
    /// When there is none, or it is another file.
    pub async fn open(path: &Path) -> Result<Self, AuditSinkError> {
        let opened = |source| AuditSinkError::Open {
            path: path.to_owned(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("query_only", "1")
            .disable_statement_logging();
        let mut connection = options.connect().await.map_err(opened)?;
        let ends: (Option<i64>, Option<i64>) =
            sqlx::query_as("SELECT MIN(idx), MAX(idx) FROM leaf WHERE idx >= 0")
                .fetch_one(&mut connection)
                .await
                .map_err(opened)?;
        let (first, last) = ends;
        Ok(Self {
            path: path.to_owned(),
            connection,
            size: last.map_or(0, |last| last.cast_unsigned().saturating_add(1)),
            begins: first.map_or(0, i64::cast_unsigned),
        })
    }

    /// Index of its first record: not 0 where it was begun when the log had removed older ones.
    #[must_use]
    pub const fn begins(&self) -> u64 {
        self.begins
    }

    /// The index behind its last record: they follow one another without a gap, which the sink itself looks at.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Records from an index on, at most `limit` and [`MAX_READ`].
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read(
        &mut self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<AuditLeaf>, AuditSinkError> {
        // Behind the last number that a file can have there is nothing; as a signed one it would be the first again.
        let Ok(from) = i64::try_from(from) else {
            return Ok(Vec::new());
        };
        let sql = "SELECT idx, bytes FROM leaf WHERE idx >= $1 ORDER BY idx LIMIT $2";
        let limit = i64::try_from(limit.min(MAX_READ)).unwrap_or(i64::MAX);
        let rows: Result<Vec<(i64, Vec<u8>)>, _> = sqlx::query_as(sql)
            .bind(from)
            .bind(limit)
            .fetch_all(&mut self.connection)
            .await;
        let leaf = |(index, bytes): (i64, Vec<u8>)| AuditLeaf {
            index: index.cast_unsigned(),
            bytes: Arc::from(bytes),
        };
        let rows = rows.map_err(|source| AuditSinkError::Io {
            path: self.path.clone(),
            source,
        })?;
        Ok(rows.into_iter().map(leaf).collect())
    }

    /// Lets go of the file.
    ///
    /// # Errors
    /// When it cannot be closed in order.
    pub async fn close(self) -> Result<(), AuditSinkError> {
        let Self {
            path, connection, ..
        } = self;
        let closed = connection.close().await;
        closed.map_err(|source| AuditSinkError::Io { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::File;

    fn leaf(index: u64) -> AuditLeaf {
        AuditLeaf {
            index,
            bytes: Arc::from(format!("{{\"n\":{index}}}").as_bytes()),
        }
    }

    #[tokio::test]
    async fn a_file_in_which_nothing_was_made_yet_is_told_from_one_that_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit-sink.db");
        let why = |opened: Result<KeptRecords, AuditSinkError>| opened.err().unwrap();
        assert!(!why(KeptRecords::open(&path).await).is_unmade());
        std::fs::write(&path, "").unwrap();
        assert!(why(KeptRecords::open(&path).await).is_unmade());
        std::fs::write(&path, "x".repeat(4096)).unwrap();
        assert!(!why(KeptRecords::open(&path).await).is_unmade());
    }

    #[tokio::test]
    async fn a_record_of_the_last_number_that_there_is_does_not_begin_the_reading_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit-sink.db");
        let file = File::open(&path).await.unwrap();
        file.append(&[leaf(0), leaf(1)]).await.unwrap();
        drop(file);
        let options = SqliteConnectOptions::new().filename(&path);
        let mut connection = options.connect().await.unwrap();
        // Whoever may write the file can put in any number.
        for index in [i64::MAX, -1] {
            sqlx::query("INSERT INTO leaf (idx, bytes) VALUES ($1, $2)")
                .bind(index)
                .bind(b"{}".to_vec())
                .execute(&mut connection)
                .await
                .unwrap();
        }
        connection.close().await.unwrap();
        let mut kept = KeptRecords::open(&path).await.unwrap();
        assert_eq!((kept.begins(), kept.size()), (0, 1 << 63));
        let last = i64::MAX.cast_unsigned();
        let read = kept.read(2, 10).await.unwrap();
        assert_eq!(
            read.iter().map(|leaf| leaf.index).collect::<Vec<_>>(),
            [last]
        );
        assert!(kept.read(last + 1, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_sink_kept_is_read_in_order_and_no_file_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit-sink.db");
        assert!(KeptRecords::open(&path).await.is_err());
        assert!(!path.exists());
        let file = File::open(&path).await.unwrap();
        let all: Vec<AuditLeaf> = (0..5).map(leaf).collect();
        file.append(&all).await.unwrap();
        drop(file);
        let mut kept = KeptRecords::open(&path).await.unwrap();
        assert_eq!(kept.size(), 5);
        assert_eq!(kept.read(3, 10).await.unwrap(), all[3..]);
        assert_eq!(kept.read(0, 2).await.unwrap(), all[..2]);
        assert!(kept.read(5, 2).await.unwrap().is_empty());
        kept.close().await.unwrap();
    }
}
