//! The cache as callers see it: one open file or database, one caller of this process at a time.
//!
//! Each call is one transaction or less; when it returns `Ok`, the change is on disk.

use std::path::Path;
use std::sync::Arc;

use keywheel_core::id::{RotationId, SecretId};
use keywheel_engine::port::clock::Clock;
pub use keywheel_engine::port::vault::Inserted;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::hpke::HostKeyPair;
use keywheel_seal::{Entropy, SecretBytes};
use sqlx::Connection as _;
use tokio::sync::Mutex;

use crate::copy::Still;
use crate::error::Error;
use crate::keys::{KeyRing, Ring};
use crate::rekey::{self, Pass, Rekeying, Stepped};
use crate::sqlite::SqliteTable;
use crate::table::Table;
use crate::{stash, store_keys, versions};

/// store-sync's encrypted cache.
pub struct Cache<T = SqliteTable> {
    state: Mutex<State<T>>,
}

/// Everything behind the lock.
pub(crate) struct State<T> {
    pub(crate) table: T,
    pub(crate) keys: KeyRing,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where replacing the KEK is.
    pub(crate) pass: Pass,
}

impl Cache<SqliteTable> {
    /// Opens the cache at `path`, or makes it with a fresh KEK when there is none.
    ///
    /// # Errors
    /// [`Error::WrongUnsealKey`] without any change when the key is another one; otherwise when place,
    /// library, format or file are not usable.
    pub async fn open(
        path: &Path,
        deployment: [u8; 16],
        unseal: UnsealKey,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let (table, new) = SqliteTable::open(path).await?;
        let ring = Ring {
            deployment,
            unseal,
            entropy,
        };
        Self::over(table, new, ring, clock).await
    }

    /// Closes the file in order. Dropping the cache is safe too.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn close(self) -> Result<(), Error> {
        let SqliteTable { path, connection } = self.into_table();
        connection
            .close()
            .await
            .map_err(|source| Error::sqlite(&path, source))
    }
}

impl Cache<SqliteTable> {
    /// Waits until nobody reads or writes, and lets nobody begin.
    pub async fn stand_still(&self) -> Still<'_> {
        Still(self.state.lock().await)
    }
}

impl<T: Table> Cache<T> {
    /// Makes what is `new`, and opens what is there.
    pub(crate) async fn over(
        mut table: T,
        new: bool,
        ring: Ring,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let now = clock.now();
        if new {
            let kek = ring.make(0, now)?.1;
            let begun = table.begin(ring.deployment.to_vec(), kek).await;
            begun.map_err(|source| table.failed(source))?;
        }
        let stored = table.deployment().await;
        if stored.map_err(|source| table.failed(source))? != ring.deployment {
            return Err(table.wrong_deployment());
        }
        let keys = KeyRing::open(&mut table, ring, now).await?;
        stash::drop_expired(&mut table, now.micros()).await?;
        table.forget().await?;
        Ok(Self {
            state: Mutex::new(State {
                table,
                keys,
                clock,
                pass: Pass::default(),
            }),
        })
    }

    pub(crate) async fn lock(&self) -> tokio::sync::MutexGuard<'_, State<T>> {
        self.state.lock().await
    }

    pub(crate) fn into_table(self) -> T {
        self.state.into_inner().table
    }

    /// Stores the value of a new version. Under one token the first value wins.
    ///
    /// # Errors
    /// When the version was destroyed or made under another token, or the file cannot be written.
    pub async fn insert_pending(
        &self,
        secret: SecretId,
        version: u64,
        token: RotationId,
        value: &SecretBytes,
    ) -> Result<Inserted, Error> {
        versions::insert(&mut *self.state.lock().await, secret, version, token, value).await
    }

    /// Opens a version.
    ///
    /// # Errors
    /// When it is not there, was destroyed, or the row was changed or moved.
    pub async fn open_version(&self, secret: SecretId, version: u64) -> Result<SecretBytes, Error> {
        versions::open(&mut *self.state.lock().await, secret, version).await
    }

    /// Overwrites key and ciphertext of a version for good, and a provided value its rotation left; a
    /// version never seen is barred too.
    /// Repeating it is harmless and finishes what a crash interrupted.
    ///
    /// # Errors
    /// When the file cannot be written; the version counts as destroyed only after `Ok`.
    pub async fn destroy(&self, secret: SecretId, version: u64) -> Result<(), Error> {
        versions::destroy(&mut *self.state.lock().await, secret, version).await
    }

    /// Whether the version is there and was not destroyed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn has(&self, secret: SecretId, version: u64) -> Result<bool, Error> {
        versions::has(&mut *self.state.lock().await, secret, version).await
    }

    /// The live versions of a secret, ascending.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn list(&self, secret: SecretId) -> Result<Vec<u64>, Error> {
        versions::list(&mut *self.state.lock().await, secret).await
    }

    /// Keeps a provided value, sealed, until its rotation creates the version. Under one token the
    /// first value wins.
    ///
    /// # Errors
    /// When too many wait or the file cannot be written.
    pub async fn stash(&self, token: RotationId, value: &SecretBytes) -> Result<Inserted, Error> {
        stash::put(&mut *self.state.lock().await, token, value).await
    }

    /// Opens a provided value and leaves it where it is.
    ///
    /// # Errors
    /// When the row was changed or the file cannot be read.
    pub async fn stashed(&self, token: RotationId) -> Result<Option<SecretBytes>, Error> {
        stash::open(&mut *self.state.lock().await, token).await
    }

    /// Removes a provided value, once its version is stored or the rotation ended; idempotent.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn drop_stashed(&self, token: RotationId) -> Result<(), Error> {
        stash::remove(&mut *self.state.lock().await, token).await
    }

    /// The key pairs to which provided values are sealed, newest first: that one is told, and all of
    /// them open. Made, and replaced when old, by whoever asks.
    ///
    /// # Errors
    /// When a row was changed or the file cannot be read or written.
    pub async fn store_keys(&self) -> Result<Vec<HostKeyPair>, Error> {
        store_keys::all(&mut *self.state.lock().await).await
    }

    /// Makes a fresh KEK current, from which [`Self::rekey_step`] wraps everything anew.
    ///
    /// # Errors
    /// When the tables cannot be written.
    pub async fn begin_rekey(&self) -> Result<Rekeying, Error> {
        rekey::begin(&mut *self.state.lock().await).await
    }

    /// How far that is; also of KEKs that were replaced by age or use, or by a process that was killed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn rekeying(&self) -> Result<Rekeying, Error> {
        rekey::progress(&mut *self.state.lock().await).await
    }

    /// Wraps some rows anew, [`REKEY_STEP`] or so at a time, so that others get their turn in between.
    ///
    /// [`REKEY_STEP`]: crate::REKEY_STEP
    ///
    /// # Errors
    /// [`Error::UnverifiedKek`] when a row does not open at the end, or when the file cannot be written.
    pub async fn rekey_step(&self, rows: u32) -> Result<Stepped, Error> {
        rekey::step(&mut *self.state.lock().await, rows).await
    }

    /// The state itself, for tests that harm it.
    #[cfg(test)]
    pub(crate) async fn state(&self) -> tokio::sync::MutexGuard<'_, State<T>> {
        self.state.lock().await
    }
}
