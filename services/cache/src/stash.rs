//! Values that were provided and wait for their version number.
//!
//! Sealed like a version, for a purpose of its own, under the rotation's token. Invariants: at most
//! [`MAX_STASHED`] wait; one older than [`MAX_STASH_AGE`] is dropped at the next put and when the cache
//! is opened; the first value under a token stays. When the rotation that uses a value has stored it or
//! ended, the caller removes it; destroying a version removes what its rotation left here.

use std::time::Duration;

use keywheel_core::id::RotationId;
use keywheel_engine::port::vault::Inserted;
use keywheel_seal::SecretBytes;
use keywheel_seal::envelope::Purpose;

use crate::cache::State;
use crate::error::Error;
use crate::keys::MAX_REPLACED;
use crate::table::Table;
use crate::versions;

/// How many provided values may wait.
pub const MAX_STASHED: u32 = 256;
/// How long a provided value may wait for its rotation, whose first step takes it.
pub const MAX_STASH_AGE: Duration = Duration::from_secs(10 * 60);

/// Keeps a value under its token.
pub(crate) async fn put(
    state: &mut State<impl Table>,
    token: RotationId,
    value: &SecretBytes,
) -> Result<Inserted, Error> {
    let now = state.clock.now().micros();
    drop_expired(&mut state.table, now).await?;
    let waiting = state.table.waiting(token.bytes().to_vec()).await;
    let (waiting, held) = waiting.map_err(|source| state.table.failed(source))?;
    if held {
        return Ok(Inserted::Existing);
    }
    if waiting >= i64::from(MAX_STASHED) {
        return Err(Error::StashFull { limit: MAX_STASHED });
    }
    for _ in 0..MAX_REPLACED {
        let place = versions::place(*token.bytes(), 0, Purpose::Stash);
        let sealed = versions::seal(state, place, value).await?;
        let first = state.table.stash(token.bytes().to_vec(), now, sealed).await;
        match versions::written(state, first).await? {
            None => {}
            Some(true) => return Ok(Inserted::New),
            Some(false) => return Ok(Inserted::Existing),
        }
    }
    Err(Error::KekUnsteady)
}

/// Opens a value and leaves it; one that was wrapped anew meanwhile is looked at again.
pub(crate) async fn open(
    state: &mut State<impl Table>,
    token: RotationId,
) -> Result<Option<SecretBytes>, Error> {
    match open_once(state, token).await {
        Err(Error::CorruptStash(_)) if state.table.is_shared() => open_once(state, token).await,
        opened => opened,
    }
}

async fn open_once(
    state: &mut State<impl Table>,
    token: RotationId,
) -> Result<Option<SecretBytes>, Error> {
    let row = state.table.stashed(token.bytes().to_vec()).await;
    let Some(row) = row.map_err(|source| state.table.failed(source))? else {
        return Ok(None);
    };
    let place = versions::place(*token.bytes(), 0, Purpose::Stash);
    let opened = versions::unseal(state, place, row).await?;
    opened.map(Some).map_err(Error::CorruptStash)
}

/// Removes a value and makes it unreadable; nothing there is fine.
pub(crate) async fn remove(state: &mut State<impl Table>, token: RotationId) -> Result<(), Error> {
    let gone = state.table.unstash(token.bytes().to_vec()).await;
    match gone.map_err(|source| state.table.failed(source))? {
        true => state.table.forget().await,
        false => Ok(()),
    }
}

/// Removes what waited too long, as seen at `now`.
pub(crate) async fn drop_expired(table: &mut impl Table, now: i64) -> Result<(), Error> {
    let age = i64::try_from(MAX_STASH_AGE.as_micros()).unwrap_or(i64::MAX);
    let gone = table.expire(now.saturating_sub(age)).await;
    match gone.map_err(|source| table.failed(source))? {
        true => table.forget().await,
        false => Ok(()),
    }
}
