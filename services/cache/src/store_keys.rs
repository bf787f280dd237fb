//! Key pairs to which provided values are sealed on their way here.
//!
//! Sealed like a version, for a purpose of their own, under their generation; so every store-sync of
//! one cache opens what was sealed to a key that another one told. Invariants: of two that make a
//! generation one does, and the other takes what that one made; a pair is told for
//! [`MAX_STORE_KEY_AGE`] and opens for [`MAX_STASH_AGE`] more, then its row is gone. A pair is in memory
//! only while it is used.

use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_seal::envelope::Purpose;
use keywheel_seal::hpke::HostKeyPair;

use crate::cache::State;
use crate::error::Error;
use crate::keys::MAX_REPLACED;
use crate::stash::MAX_STASH_AGE;
use crate::table::{StoreKeyColumns, Table};
use crate::versions;

/// How long a key pair is told; looked at before each use.
pub const MAX_STORE_KEY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Key pairs belong to no secret.
pub(crate) const OWNER: [u8; 16] = [0; 16];

/// Every pair that opens, newest first; makes the first one, and the next one when that is due.
pub(crate) async fn all(state: &mut State<impl Table>) -> Result<Vec<HostKeyPair>, Error> {
    let now = state.clock.now();
    let mut rows = rows(state).await?;
    let newest = rows.first().map(|row| (row.0, made_at(row)));
    match newest {
        Some((generation, made)) if now.since(made) < MAX_STORE_KEY_AGE => {
            if rows.len() > 1 && now.since(made) >= MAX_STASH_AGE {
                retire(state, generation).await?;
                rows.truncate(1);
            }
        }
        _ => {
            let next = newest.map_or(1, |(generation, _)| generation.saturating_add(1));
            make(state, next, now).await?;
            rows = self::rows(state).await?;
        }
    }
    match open_all(state, rows).await {
        // Another process may have wrapped one anew, between a look at it and one at the KEKs.
        Err(Error::CorruptStoreKey) if state.table.is_shared() => {
            let rows = self::rows(state).await?;
            open_all(state, rows).await
        }
        opened => opened,
    }
}

async fn open_all(
    state: &mut State<impl Table>,
    rows: Vec<StoreKeyColumns>,
) -> Result<Vec<HostKeyPair>, Error> {
    let mut pairs = Vec::with_capacity(rows.len());
    for (generation, _, sealed) in rows {
        pairs.push(open(state, generation, sealed).await?);
    }
    Ok(pairs)
}

async fn rows(state: &mut State<impl Table>) -> Result<Vec<StoreKeyColumns>, Error> {
    let rows = state.table.store_keys().await;
    rows.map_err(|source| state.table.failed(source))
}

const fn made_at(row: &StoreKeyColumns) -> Timestamp {
    Timestamp::from_micros(row.1)
}

/// Makes a generation, unless another process is first.
async fn make(state: &mut State<impl Table>, generation: i64, now: Timestamp) -> Result<(), Error> {
    let pair = HostKeyPair::generate(state.keys.entropy());
    for _ in 0..MAX_REPLACED {
        let place = versions::place(OWNER, generation.unsigned_abs(), Purpose::StoreKey);
        let sealed = versions::seal(state, place, &pair.private_bytes()).await?;
        let made = state
            .table
            .insert_store_key(generation, now.micros(), sealed)
            .await;
        if versions::written(state, made).await?.is_some() {
            return Ok(());
        }
    }
    Err(Error::KekUnsteady)
}

/// Removes what is older than a generation and makes it unreadable.
async fn retire(state: &mut State<impl Table>, generation: i64) -> Result<(), Error> {
    let gone = state.table.drop_store_keys(generation).await;
    match gone.map_err(|source| state.table.failed(source))? {
        true => state.table.forget().await,
        false => Ok(()),
    }
}

async fn open(
    state: &mut State<impl Table>,
    generation: i64,
    sealed: crate::table::SealedColumns,
) -> Result<HostKeyPair, Error> {
    let place = versions::place(OWNER, generation.unsigned_abs(), Purpose::StoreKey);
    let opened = versions::unseal(state, place, sealed).await?;
    let bytes = opened.map_err(|_| Error::CorruptStoreKey)?;
    HostKeyPair::from_private_bytes(&bytes).map_err(|_| Error::CorruptStoreKey)
}
