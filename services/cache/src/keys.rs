//! The KEKs of a cache and their wrap counters.
//!
//! Invariants: a counter is durable before the wrap it counts (reserved in blocks of
//! [`RESERVED_WRAPS`], so a crash skips numbers and never repeats one); a KEK at [`MAX_WRAPS`], or as
//! old as [`MAX_KEK_AGE`], wraps no more and a fresh one takes over; old KEKs stay readable. A KEK lies
//! in the tables only sealed. Several processes may share the tables: of two that replace a KEK one does,
//! and the other takes what that one made.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_seal::Entropy;
use keywheel_seal::envelope::{Kek, KekId, MAX_WRAPS, SealedKey, UnsealKey};

use crate::error::Error;
use crate::table::{NewKek, Table};

/// Wraps taken from the persistent counter at once.
pub(crate) const RESERVED_WRAPS: u64 = 64;

/// How old a KEK may be that wraps; looked at before every wrap (rule K1: 90 days).
pub const MAX_KEK_AGE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How often one wrap, or one write of what it wrapped, follows other processes to a fresh KEK.
pub(crate) const MAX_REPLACED: u32 = 8;

/// A KEK's id, and the KEK sealed by a root key.
type SealedKek = (Vec<u8>, Vec<u8>);

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
    /// A fresh KEK, also as its row.
    pub(crate) fn make(&self, wraps: u64, now: Timestamp) -> Result<(Kek, NewKek), Error> {
        let kek = Kek::generate(&*self.entropy);
        let sealed = self
            .unseal
            .seal_kek(&self.deployment, &kek, &*self.entropy)
            .map_err(Error::SealKey)?;
        let row = NewKek {
            id: kek.id().bytes().to_vec(),
            sealed: sealed.to_bytes(),
            wraps: to_i64(wraps),
            created: now.micros(),
        };
        Ok((kek, row))
    }

    /// Opens every KEK of a cache and names the current one. Nothing is written.
    async fn read(&self, table: &mut impl Table) -> Result<(HashMap<KekId, Kek>, KekId), Error> {
        let rows = table.keks().await;
        let rows = rows.map_err(|source| table.failed(source))?;
        let (mut keys, mut current) = (HashMap::new(), None);
        for (id, sealed, state) in rows {
            let id = KekId::from_bytes(id.try_into().map_err(|_| table.damaged())?);
            let sealed = SealedKey::from_bytes(&sealed).ok_or_else(|| table.damaged())?;
            let kek = self.unseal.open_kek(&self.deployment, id, &sealed);
            let kek = kek.map_err(|_| table.wrong_unseal_key())?;
            if state == "current" {
                current = Some(id);
            }
            keys.insert(id, kek);
        }
        Ok((keys, current.ok_or_else(|| table.damaged())?))
    }
}

impl KeyRing {
    /// Opens the KEKs of a cache. Nothing is written before all of them opened; then tables of an
    /// older build are upgraded.
    pub(crate) async fn open(
        table: &mut impl Table,
        ring: Ring,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let (keys, current) = ring.read(table).await?;
        table.upgrade(now.micros()).await?;
        let created = table.current_created().await;
        let created = created.map_err(|source| table.failed(source))?;
        Ok(Self {
            ring,
            keys,
            current,
            created: Timestamp::from_micros(created),
            reserved: 0,
        })
    }

    /// Reads the KEKs again: another process may have made one.
    pub(crate) async fn read_again(&mut self, table: &mut impl Table) -> Result<(), Error> {
        let (keys, current) = self.ring.read(table).await?;
        let created = table.current_created().await;
        self.created = Timestamp::from_micros(created.map_err(|source| table.failed(source))?);
        self.keys = keys;
        if self.current != current {
            self.reserved = 0;
        }
        self.current = current;
        Ok(())
    }

    /// The deployment everything here is bound to.
    pub(crate) fn deployment(&self) -> [u8; 16] {
        self.ring.deployment
    }

    /// The KEK that wraps.
    pub(crate) fn current(&self) -> KekId {
        self.current
    }

    /// Makes a fresh KEK current though the one before is neither used up nor old.
    pub(crate) async fn renew(
        &mut self,
        table: &mut impl Table,
        now: Timestamp,
    ) -> Result<(), Error> {
        match self.replace(table, now).await? {
            true => Ok(()),
            false => self.read_again(table).await,
        }
    }

    /// Every KEK, id and sealed by another root key.
    pub(crate) fn sealed_by(&self, root: &UnsealKey) -> Result<Vec<SealedKek>, Error> {
        let entropy = &*self.ring.entropy;
        let seal = |kek: &Kek| {
            let sealed = root.seal_kek(&self.ring.deployment, kek, entropy);
            let sealed = sealed.map_err(Error::SealKey)?;
            Ok((kek.id().bytes().to_vec(), sealed.to_bytes()))
        };
        self.keys.values().map(seal).collect()
    }

    /// From now on KEKs are sealed by this root key.
    pub(crate) fn belong_to(&mut self, root: UnsealKey) {
        self.ring.unseal = root;
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
        table: &mut impl Table,
        now: Timestamp,
    ) -> Result<KekId, Error> {
        for _ in 0..MAX_REPLACED {
            let old = now.since(self.created) >= MAX_KEK_AGE;
            if !old && self.reserved == 0 && self.reserve(table).await? {
                self.reserved = RESERVED_WRAPS;
            }
            if !old && self.reserved > 0 {
                self.reserved -= 1;
                return Ok(self.current);
            }
            if !self.replace(table, now).await? {
                self.read_again(table).await?;
            }
        }
        Err(Error::KekUnsteady)
    }

    /// Takes a block from the counter of the current KEK; `false` when it is used up, or was replaced by
    /// another process.
    async fn reserve(&self, table: &mut impl Table) -> Result<bool, Error> {
        let current = self.current.bytes().to_vec();
        let taken = table
            .reserve(current, to_i64(RESERVED_WRAPS), to_i64(MAX_WRAPS))
            .await;
        taken.map_err(|source| table.failed(source))
    }

    /// Makes a fresh KEK current, with its first block taken; `false` when another process was first.
    async fn replace(&mut self, table: &mut impl Table, now: Timestamp) -> Result<bool, Error> {
        let (kek, row) = self.ring.make(RESERVED_WRAPS, now)?;
        let replaced = table.replace(self.current.bytes().to_vec(), row).await;
        if !replaced.map_err(|source| table.failed(source))? {
            return Ok(false);
        }
        self.current = kek.id();
        self.created = now;
        self.reserved = RESERVED_WRAPS;
        self.keys.insert(kek.id(), kek);
        Ok(true)
    }
}

fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
