//! The cache's rows in a PostgreSQL database that several store-syncs share.
//!
//! Invariants: the first value under a token wins whoever writes it; a destroyed version never comes
//! back, also for a store-sync that was paused; the wrap counter is one counter for all; no row is written
//! under a KEK that is gone, and no KEK goes while a row names it, whichever store-sync does either. What the
//! server can not promise: a destroyed row's sealed key, and a KEK that went, lie in dead pages until the
//! server's own clean-up, and in its write-ahead log and backups for as long as those are kept. They stay
//! sealed there, by the KEK and by the unseal key.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use keywheel_engine::port::clock::Clock;
use keywheel_postgres::fault::{Fault, sort, text};
use keywheel_postgres::{Address, session};
use keywheel_seal::Entropy;
use keywheel_seal::envelope::UnsealKey;
use sqlx::PgPool;

use crate::cache::Cache;
use crate::error::Error;
use crate::keys::Ring;
use crate::table::Store;

/// Where the tables are.
const SCHEMA: &str = "keywheel_cache";
/// One text per format of the tables.
const UPGRADES: [&str; 3] = [
    include_str!("0001_tables.sql"),
    include_str!("0002_store_key.sql"),
    include_str!("0003_kek_named.sql"),
];

/// The cache in a database that several store-syncs share.
pub type PostgresCache = Cache<PostgresTable>;

/// One database.
pub struct PostgresTable {
    name: String,
    pub(crate) pool: PgPool,
}

impl PostgresTable {
    fn place(&self) -> PathBuf {
        PathBuf::from(&self.name)
    }
}

impl Cache<PostgresTable> {
    /// Opens the cache in a database, or makes it with a fresh KEK in an empty one. Others may have it
    /// open too, with the same unseal key.
    ///
    /// # Errors
    /// [`Error::WrongUnsealKey`] when the key is another one; otherwise when the server is away, not fit
    /// or says no.
    pub async fn open_shared(
        address: &Address,
        deployment: [u8; 16],
        unseal: UnsealKey,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let pool = session::open(address, SCHEMA, &UPGRADES).await?;
        let table = PostgresTable {
            name: address.name().to_owned(),
            pool,
        };
        let ring = Ring {
            deployment,
            unseal,
            entropy,
        };
        Self::over(table, true, ring, clock).await
    }

    /// Ends every connection in order. Dropping the cache is safe too.
    pub async fn close_shared(self) {
        self.into_table().pool.close().await;
    }
}

#[async_trait]
impl Store for PostgresTable {
    fn failed(&self, source: sqlx::Error) -> Error {
        let path = self.place();
        match sort(&source) {
            Fault::Full => Error::DiskFull { path, source },
            Fault::Damaged => Error::CorruptFile {
                path,
                source: Some(source),
            },
            fault @ (Fault::Refused | Fault::Standby) => Error::Location {
                reason: text(fault, "cache", &self.name),
                path,
            },
            _ => Error::Io { path, source },
        }
    }

    fn wrong_unseal_key(&self) -> Error {
        Error::WrongUnsealKey { path: self.place() }
    }

    fn wrong_deployment(&self) -> Error {
        Error::WrongDeployment { path: self.place() }
    }

    fn damaged(&self) -> Error {
        Error::CorruptFile {
            path: self.place(),
            source: None,
        }
    }

    async fn upgrade(&mut self, _now: i64) -> Result<(), Error> {
        // The session did it.
        Ok(())
    }

    async fn forget(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }
}
