//! The KEKs of a cache and their wrap counters.
//!
//! Invariants: a counter is durable before the wrap it counts (reserved in blocks of
//! [`RESERVED_WRAPS`], so a crash skips numbers and never repeats one); a KEK at [`MAX_WRAPS`] wraps
//! no more and a fresh one takes over; old KEKs stay readable. A KEK lies in the file only sealed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use keywheel_seal::Entropy;
use keywheel_seal::envelope::{Kek, KekId, MAX_WRAPS, SealedKey, UnsealKey};
use sqlx::{Connection as _, SqliteConnection};

use crate::error::Error;

/// Wraps taken from the persistent counter at once.
pub(crate) const RESERVED_WRAPS: u64 = 64;

/// The open keys of one cache.
pub(crate) struct KeyRing {
    unseal: UnsealKey,
    deployment: [u8; 16],
    entropy: Arc<dyn Entropy>,
    keys: HashMap<KekId, Kek>,
    current: KekId,
    /// Wraps still covered by the persistent counter.
    reserved: u64,
}

impl KeyRing {
    /// Makes the first KEK of a new file; part of the caller's transaction.
    pub(crate) async fn create(
        connection: &mut SqliteConnection,
        path: &Path,
        deployment: [u8; 16],
        unseal: UnsealKey,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Error> {
        let kek = Kek::generate(&*entropy);
        let sealed = unseal
            .seal_kek(&deployment, &kek, &*entropy)
            .map_err(Error::SealKey)?;
        insert(connection, path, kek.id(), &sealed).await?;
        let current = kek.id();
        Ok(Self {
            unseal,
            deployment,
            entropy,
            keys: HashMap::from([(current, kek)]),
            current,
            reserved: 0,
        })
    }

    /// Opens the KEKs of an existing file and writes nothing.
    pub(crate) async fn open(
        connection: &mut SqliteConnection,
        path: &Path,
        deployment: [u8; 16],
        unseal: UnsealKey,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Error> {
        let rows: Vec<(Vec<u8>, Vec<u8>, String)> =
            sqlx::query_as("SELECT id, sealed, state FROM kek")
                .fetch_all(connection)
                .await
                .map_err(|source| Error::sqlite(path, source))?;
        let damaged = || Error::CorruptFile {
            path: path.to_owned(),
            source: None,
        };
        let (mut keys, mut current) = (HashMap::new(), None);
        for (id, sealed, state) in rows {
            let id = KekId::from_bytes(id.try_into().map_err(|_| damaged())?);
            let sealed = SealedKey::from_bytes(&sealed).ok_or_else(damaged)?;
            let kek =
                unseal
                    .open_kek(&deployment, id, &sealed)
                    .map_err(|_| Error::WrongUnsealKey {
                        path: path.to_owned(),
                    })?;
            if state == "current" {
                current = Some(id);
            }
            keys.insert(id, kek);
        }
        let current = current.ok_or_else(damaged)?;
        Ok(Self {
            unseal,
            deployment,
            entropy,
            keys,
            current,
            reserved: 0,
        })
    }

    /// The deployment everything here is bound to.
    pub(crate) fn deployment(&self) -> [u8; 16] {
        self.deployment
    }

    /// A KEK by its id.
    pub(crate) fn kek(&self, id: KekId) -> Option<&Kek> {
        self.keys.get(&id)
    }

    /// The source of randomness.
    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    /// Counts one wrap durably and names the KEK to use for it, replacing a used-up one.
    pub(crate) async fn count_wrap(
        &mut self,
        connection: &mut SqliteConnection,
        path: &Path,
    ) -> Result<KekId, Error> {
        if self.reserved == 0 {
            if !self.reserve(connection, path).await? {
                self.replace(connection, path).await?;
            }
            self.reserved = RESERVED_WRAPS;
        }
        self.reserved -= 1;
        Ok(self.current)
    }

    /// Takes a block from the counter of the current KEK; `false` when it is used up.
    async fn reserve(&self, connection: &mut SqliteConnection, path: &Path) -> Result<bool, Error> {
        let block = to_i64(RESERVED_WRAPS);
        let taken =
            sqlx::query("UPDATE kek SET wraps = wraps + $1 WHERE id = $2 AND wraps + $1 <= $3")
                .bind(block)
                .bind(self.current.bytes().to_vec())
                .bind(to_i64(MAX_WRAPS))
                .execute(connection)
                .await
                .map_err(|source| Error::sqlite(path, source))?;
        Ok(taken.rows_affected() == 1)
    }

    /// Makes a fresh KEK current, with its first block taken.
    async fn replace(
        &mut self,
        connection: &mut SqliteConnection,
        path: &Path,
    ) -> Result<(), Error> {
        let sqlite = |source| Error::sqlite(path, source);
        let kek = Kek::generate(&*self.entropy);
        let sealed = self
            .unseal
            .seal_kek(&self.deployment, &kek, &*self.entropy)
            .map_err(Error::SealKey)?;
        let mut transaction = connection.begin().await.map_err(sqlite)?;
        sqlx::query("UPDATE kek SET state = 'old' WHERE state = 'current'")
            .execute(&mut *transaction)
            .await
            .map_err(sqlite)?;
        insert(&mut transaction, path, kek.id(), &sealed).await?;
        sqlx::query("UPDATE kek SET wraps = $1 WHERE id = $2")
            .bind(to_i64(RESERVED_WRAPS))
            .bind(kek.id().bytes().to_vec())
            .execute(&mut *transaction)
            .await
            .map_err(sqlite)?;
        transaction.commit().await.map_err(sqlite)?;
        self.current = kek.id();
        self.keys.insert(kek.id(), kek);
        Ok(())
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    path: &Path,
    id: KekId,
    sealed: &SealedKey,
) -> Result<(), Error> {
    sqlx::query("INSERT INTO kek (id, sealed, wraps, state) VALUES ($1, $2, 0, 'current')")
        .bind(id.bytes().to_vec())
        .bind(sealed.to_bytes())
        .execute(connection)
        .await
        .map(drop)
        .map_err(|source| Error::sqlite(path, source))
}

fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
