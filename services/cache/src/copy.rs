//! A copy of the cache while it is used: the file as it is at one moment, sealed as it is.
//!
//! Invariants: nobody reads or writes the cache as long as [`Still`] lives, so that others may be brought to the same
//! moment; the copy has live rows alone, and of overwritten ones no byte; nothing here opens a value.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tokio::sync::MutexGuard;

use crate::cache::State;
use crate::error::Error;
use crate::file;
use crate::sqlite::SqliteTable;

/// A cache that nobody changes as long as this lives.
pub struct Still<'c>(pub(crate) MutexGuard<'c, State<SqliteTable>>);

/// What a cache's file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Versions with a value.
    pub live: u64,
    /// Versions that were destroyed.
    pub destroyed: u64,
}

impl Still<'_> {
    /// Copies it into a file that is not there yet, in a directory of our own.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub async fn copy_to(mut self, to: &Path) -> Result<(), Error> {
        let refuse = |reason: String| Error::Location {
            path: to.to_owned(),
            reason,
        };
        let name = to
            .to_str()
            .ok_or_else(|| refuse("its path is no UTF-8".to_owned()))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let made = options.open(to);
        made.map_err(|error| refuse(format!("the file cannot be made ({error})")))?;
        // An empty file counts as one that is not there.
        sqlx::query("VACUUM INTO $1")
            .bind(name)
            .execute(&mut self.0.table.connection)
            .await
            .map(drop)
            .map_err(|source| Error::sqlite(to, source))
    }
}

/// Looks at a cache that nobody has open: its pages, its format, whose it is, and how many versions it has. Opens no
/// key and no value.
///
/// # Errors
/// When it is damaged, of a newer build, or another deployment's.
pub async fn check_file(path: &Path, deployment: [u8; 16]) -> Result<Found, Error> {
    let (mut connection, is_new) = file::open(path).await?;
    let damaged = || Error::CorruptFile {
        path: path.to_owned(),
        source: None,
    };
    if is_new {
        return Err(damaged());
    }
    let sqlite = |source| Error::sqlite(path, source);
    let owner: Option<Vec<u8>> = sqlx::query_scalar("SELECT id FROM deployment")
        .fetch_optional(&mut connection)
        .await
        .map_err(sqlite)?;
    if owner.ok_or_else(damaged)? != deployment {
        return Err(Error::WrongDeployment {
            path: path.to_owned(),
        });
    }
    let sql = "SELECT COUNT(*) FILTER (WHERE state = 'live'), \
        COUNT(*) FILTER (WHERE state = 'destroyed') FROM version";
    let (live, destroyed): (i64, i64) = sqlx::query_as(sql)
        .fetch_one(&mut connection)
        .await
        .map_err(sqlite)?;
    sqlx::Connection::close(connection).await.map_err(sqlite)?;
    Ok(Found {
        live: live.unsigned_abs(),
        destroyed: destroyed.unsigned_abs(),
    })
}
