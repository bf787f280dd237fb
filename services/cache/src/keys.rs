//! The KEKs of a cache and their wrap counters.
//!
//! Invariants: a counter is durable before the wrap it counts (reserved in blocks of
//! [`RESERVED_WRAPS`], so a crash skips numbers and never repeats one); a KEK at [`MAX_WRAPS`], or as
//! old as [`MAX_KEK_AGE`], wraps no more and a fresh one takes over; old KEKs stay readable. A KEK lies
//! in the file only sealed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_seal::Entropy;
use keywheel_seal::envelope::{Kek, KekId, MAX_WRAPS, SealedKey, UnsealKey};
use sqlx::{Connection as _, SqliteConnection};

use crate::error::Error;
use crate::file;

/// Wraps taken from the persistent counter at once.
pub(crate) const RESERVED_WRAPS: u64 = 64;

/// How old a KEK may be that wraps; looked at before every wrap (rule K1: 90 days).
pub const MAX_KEK_AGE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What opens and makes KEKs.
pub(crate) struct Ring {
    /// Everything is bound to it.
    pub(crate) deployment: [u8; 16],
    /// Seals the KEKs.
    pub(crate) unseal: UnsealKey,
    /// Makes fresh ones.
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// The open keys of one cache.
pub(crate) struct KeyRing {
    ring: Ring,
    keys: HashMap<KekId, Kek>,
    current: KekId,
    /// When the current KEK was made.
    created: Timestamp,
    /// Wraps still covered by the persistent counter.
    reserved: u64,
}

impl Ring {
    /// A fresh KEK, also sealed.
    fn make(&self) -> Result<(Kek, SealedKey), Error> {
        let kek = Kek::generate(&*self.entropy);
        let sealed = self
            .unseal
            .seal_kek(&self.deployment, &kek, &*self.entropy)
            .map_err(Error::SealKey)?;
        Ok((kek, sealed))
    }
}

impl KeyRing {
    /// Makes the first KEK of a new file; part of the caller's transaction.
    pub(crate) async fn create(
        connection: &mut SqliteConnection,
        path: &Path,
        ring: Ring,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let (kek, sealed) = ring.make()?;
        insert(connection, path, (kek.id(), &sealed), 0, now).await?;
        let current = kek.id();
        Ok(Self {
            ring,
            keys: HashMap::from([(current, kek)]),
            current,
            created: now,
            reserved: 0,
        })
    }

    /// Opens the KEKs of an existing file. Nothing is written before all of them opened; then tables
    /// of an older build are upgraded.
    pub(crate) async fn open(
        connection: &mut SqliteConnection,
        path: &Path,
        ring: Ring,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let rows: Vec<(Vec<u8>, Vec<u8>, String)> =
            sqlx::query_as("SELECT id, sealed, state FROM kek")
                .fetch_all(&mut *connection)
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
            let kek = ring.unseal.open_kek(&ring.deployment, id, &sealed);
            let kek = kek.map_err(|_| Error::WrongUnsealKey {
                path: path.to_owned(),
            })?;
            if state == "current" {
                current = Some(id);
            }
            keys.insert(id, kek);
        }
        let current = current.ok_or_else(damaged)?;
        file::upgrade(connection, path, now.micros()).await?;
        let created: i64 = sqlx::query_scalar("SELECT created FROM kek WHERE state = 'current'")
            .fetch_one(connection)
            .await
            .map_err(|source| Error::sqlite(path, source))?;
        Ok(Self {
            ring,
            keys,
            current,
            created: Timestamp::from_micros(created),
            reserved: 0,
        })
    }

    /// The deployment everything here is bound to.
    pub(crate) fn deployment(&self) -> [u8; 16] {
        self.ring.deployment
    }

    /// A KEK by its id.
    pub(crate) fn kek(&self, id: KekId) -> Option<&Kek> {
        self.keys.get(&id)
    }

    /// The source of randomness.
    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &*self.ring.entropy
    }

    /// Counts one wrap durably and names the KEK to use for it, replacing one that is used up or too
    /// old. A clock that went back makes no KEK older.
    pub(crate) async fn count_wrap(
        &mut self,
        connection: &mut SqliteConnection,
        path: &Path,
        now: Timestamp,
    ) -> Result<KekId, Error> {
        if now.since(self.created) >= MAX_KEK_AGE {
            self.replace(connection, path, now).await?;
        } else if self.reserved == 0 {
            if self.reserve(connection, path).await? {
                self.reserved = RESERVED_WRAPS;
            } else {
                self.replace(connection, path, now).await?;
            }
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
        now: Timestamp,
    ) -> Result<(), Error> {
        let sqlite = |source| Error::sqlite(path, source);
        let (kek, sealed) = self.ring.make()?;
        let mut transaction = connection.begin().await.map_err(sqlite)?;
        sqlx::query("UPDATE kek SET state = 'old' WHERE state = 'current'")
            .execute(&mut *transaction)
            .await
            .map_err(sqlite)?;
        let id = (kek.id(), &sealed);
        insert(&mut transaction, path, id, RESERVED_WRAPS, now).await?;
        transaction.commit().await.map_err(sqlite)?;
        self.current = kek.id();
        self.created = now;
        self.reserved = RESERVED_WRAPS;
        self.keys.insert(kek.id(), kek);
        Ok(())
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    path: &Path,
    (id, sealed): (KekId, &SealedKey),
    wraps: u64,
    now: Timestamp,
) -> Result<(), Error> {
    let into =
        "INSERT INTO kek (id, sealed, wraps, state, created) VALUES ($1, $2, $3, 'current', $4)";
    sqlx::query(into)
        .bind(id.bytes().to_vec())
        .bind(sealed.to_bytes())
        .bind(to_i64(wraps))
        .bind(now.micros())
        .execute(connection)
        .await
        .map(drop)
        .map_err(|source| Error::sqlite(path, source))
}

fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
