//! The cache's rows in a file of our own.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sqlx::SqliteConnection;

use crate::error::Error;
use crate::file;
use crate::table::Store;

/// One open file.
pub struct SqliteTable {
    pub(crate) path: PathBuf,
    pub(crate) connection: SqliteConnection,
}

impl SqliteTable {
    /// Opens the file; `true` when it is new and without tables.
    pub(crate) async fn open(path: &Path) -> Result<(Self, bool), Error> {
        let (connection, new) = file::open(path).await?;
        let path = path.to_owned();
        Ok((Self { path, connection }, new))
    }
}

#[async_trait]
impl Store for SqliteTable {
    fn failed(&self, source: sqlx::Error) -> Error {
        Error::sqlite(&self.path, source)
    }

    fn wrong_unseal_key(&self) -> Error {
        Error::WrongUnsealKey {
            path: self.path.clone(),
        }
    }

    fn wrong_deployment(&self) -> Error {
        Error::WrongDeployment {
            path: self.path.clone(),
        }
    }

    fn damaged(&self) -> Error {
        Error::CorruptFile {
            path: self.path.clone(),
            source: None,
        }
    }

    async fn upgrade(&mut self, now: i64) -> Result<(), Error> {
        file::upgrade(&mut self.connection, &self.path, now).await
    }

    async fn forget(&mut self) -> Result<(), Error> {
        file::empty_log(&mut self.connection, &self.path).await
    }

    fn is_shared(&self) -> bool {
        false
    }
}
