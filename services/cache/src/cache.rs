//! The cache as callers see it: one open file, one connection, one caller at a time.
//!
//! Each call is one transaction or less; when it returns `Ok`, the change is on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
pub use keywheel_engine::port::vault::Inserted;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::{Entropy, SecretBytes};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::Mutex;

use crate::error::Error;
use crate::keys::{KeyRing, Ring};
use crate::{file, stash, versions};

/// store-sync's encrypted cache.
pub struct Cache {
    state: Mutex<State>,
}

/// Everything behind the lock.
pub(crate) struct State {
    pub(crate) path: PathBuf,
    pub(crate) connection: SqliteConnection,
    pub(crate) keys: KeyRing,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Cache {
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
        let (mut connection, new) = file::open(path).await?;
        let now = clock.now();
        let ring = Ring {
            deployment,
            unseal,
            entropy,
        };
        let keys = if new {
            create(&mut connection, path, ring, now).await?
        } else {
            check_deployment(&mut connection, path, deployment).await?;
            KeyRing::open(&mut connection, path, ring, now).await?
        };
        stash::drop_expired(&mut connection, path, now.micros()).await?;
        file::empty_log(&mut connection, path).await?;
        Ok(Self {
            state: Mutex::new(State {
                path: path.to_owned(),
                connection,
                keys,
                clock,
            }),
        })
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

    /// Closes the file in order. Dropping the cache is safe too.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn close(self) -> Result<(), Error> {
        let State {
            path, connection, ..
        } = self.state.into_inner();
        connection
            .close()
            .await
            .map_err(|source| Error::sqlite(&path, source))
    }

    /// The state itself, for tests that harm it.
    #[cfg(test)]
    pub(crate) async fn state(&self) -> tokio::sync::MutexGuard<'_, State> {
        self.state.lock().await
    }
}

/// Tables, deployment and first KEK, all or nothing.
async fn create(
    connection: &mut SqliteConnection,
    path: &Path,
    ring: Ring,
    now: Timestamp,
) -> Result<KeyRing, Error> {
    let sqlite = |source| Error::sqlite(path, source);
    let mut transaction = connection.begin().await.map_err(sqlite)?;
    file::create_tables(&mut transaction)
        .await
        .map_err(sqlite)?;
    sqlx::query("INSERT INTO deployment (id) VALUES ($1)")
        .bind(ring.deployment.to_vec())
        .execute(&mut *transaction)
        .await
        .map_err(sqlite)?;
    let keys = KeyRing::create(&mut transaction, path, ring, now).await?;
    transaction.commit().await.map_err(sqlite)?;
    Ok(keys)
}

async fn check_deployment(
    connection: &mut SqliteConnection,
    path: &Path,
    deployment: [u8; 16],
) -> Result<(), Error> {
    let stored: Vec<u8> = sqlx::query_scalar("SELECT id FROM deployment")
        .fetch_one(connection)
        .await
        .map_err(|source| Error::sqlite(path, source))?;
    if stored == deployment {
        Ok(())
    } else {
        Err(Error::WrongDeployment {
            path: path.to_owned(),
        })
    }
}
