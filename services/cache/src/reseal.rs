//! Giving a cache another root key: its KEKs are sealed anew, all or none.
//!
//! Which root that is, the file says in the clear by a mark, changed in the same transaction: so whoever keeps
//! the sealed root keys beside the file knows after a crash which of two belongs to it. KEKs stay what they are;
//! a copy from before opens with the root key of its time.

use std::path::Path;

use keywheel_seal::envelope::UnsealKey;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::cache::Cache;
use crate::error::Error;
use crate::file;
use crate::sqlite::SqliteTable;

/// Which root key a cache belongs to; 0 is the one it was made with.
pub type RootMark = u32;

impl Cache<SqliteTable> {
    /// Seals every KEK by another root key, under which alone the cache opens from then on.
    ///
    /// # Errors
    /// When a key cannot be sealed or the file cannot be written; then nothing was changed.
    pub async fn reseal(&self, root: UnsealKey, mark: RootMark) -> Result<(), Error> {
        let mut state = self.lock().await;
        let keks = state.keys.sealed_by(&root)?;
        let path = state.table.path.clone();
        let failed = |source| Error::sqlite(&path, source);
        let mut transaction = state.table.connection.begin().await.map_err(failed)?;
        for (id, sealed) in keks {
            let query = sqlx::query("UPDATE kek SET sealed = $1 WHERE id = $2");
            let query = query.bind(sealed).bind(id);
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        let pragma = format!("PRAGMA application_id = {}", mark.cast_signed());
        sqlx::raw_sql(AssertSqlSafe(pragma))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        state.keys.belong_to(root);
        file::empty_log(&mut state.table.connection, &path).await
    }

    /// The mark of the root key that this cache belongs to.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn own_mark(&self) -> Result<RootMark, Error> {
        let mut state = self.lock().await;
        let path = state.table.path.clone();
        let mark: i32 = sqlx::query_scalar("PRAGMA application_id")
            .fetch_one(&mut state.table.connection)
            .await
            .map_err(|source| Error::sqlite(&path, source))?;
        Ok(mark.cast_unsigned())
    }

    /// The mark of the root key that a file belongs to; nobody may have it open. None where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn root_mark(path: &Path) -> Result<Option<RootMark>, Error> {
        if !path.exists() {
            return Ok(None);
        }
        let failed = |source| Error::sqlite(path, source);
        let (mut connection, _) = file::open(path).await?;
        let mark: i32 = sqlx::query_scalar("PRAGMA application_id")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        connection.close().await.map_err(failed)?;
        Ok(Some(mark.cast_unsigned()))
    }
}
