//! Values that were provided and wait for their version number.
//!
//! Sealed like a version, for a purpose of its own, under the rotation's token. Invariants: at most
//! [`MAX_STASHED`] wait; one older than [`MAX_STASH_AGE`] is dropped at the next put and when the cache
//! is opened; the first value under a token stays. When the rotation that uses a value has stored it or
//! ended, the caller removes it; destroying a version removes what its rotation left here.

use std::path::Path;
use std::time::Duration;

use keywheel_core::id::RotationId;
use keywheel_engine::port::vault::Inserted;
use keywheel_seal::SecretBytes;
use keywheel_seal::envelope::Purpose;
use sqlx::SqliteConnection;

use crate::cache::State;
use crate::error::Error;
use crate::file;
use crate::versions::{self, SealedRow};

/// How many provided values may wait.
pub const MAX_STASHED: u32 = 256;
/// How long a provided value may wait for its rotation, whose first step takes it.
pub const MAX_STASH_AGE: Duration = Duration::from_secs(10 * 60);

/// Keeps a value under its token.
pub(crate) async fn put(
    state: &mut State,
    token: RotationId,
    value: &SecretBytes,
) -> Result<Inserted, Error> {
    let now = state.clock.now().micros();
    drop_expired(&mut state.connection, &state.path, now).await?;
    let held: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM stash WHERE token = $1")
        .bind(token.bytes().to_vec())
        .fetch_one(&mut state.connection)
        .await
        .map_err(|source| Error::sqlite(&state.path, source))?;
    if held == 1 {
        return Ok(Inserted::Existing);
    }
    let waiting: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM stash")
        .fetch_one(&mut state.connection)
        .await
        .map_err(|source| Error::sqlite(&state.path, source))?;
    if waiting >= i64::from(MAX_STASHED) {
        return Err(Error::StashFull { limit: MAX_STASHED });
    }
    let sealed = versions::seal(
        state,
        versions::place(*token.bytes(), 0, Purpose::Stash),
        value,
    )
    .await?;
    sqlx::query(
        "INSERT INTO stash (token, put_at, suite, key_id, wrapped_dek, nonce, ciphertext, commitment) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(token.bytes().to_vec())
    .bind(now)
    .bind(i64::from(sealed.suite))
    .bind(sealed.key_id.bytes().to_vec())
    .bind(sealed.wrapped_dek)
    .bind(sealed.nonce.to_vec())
    .bind(sealed.ciphertext)
    .bind(sealed.commitment.to_vec())
    .execute(&mut state.connection)
    .await
    .map_err(|source| Error::sqlite(&state.path, source))?;
    Ok(Inserted::New)
}

/// Opens a value and leaves it.
pub(crate) async fn open(
    state: &mut State,
    token: RotationId,
) -> Result<Option<SecretBytes>, Error> {
    let row: Option<SealedRow> = sqlx::query_as(
        "SELECT suite, key_id, wrapped_dek, nonce, ciphertext, commitment FROM stash WHERE token = $1",
    )
    .bind(token.bytes().to_vec())
    .fetch_optional(&mut state.connection)
    .await
    .map_err(|source| Error::sqlite(&state.path, source))?;
    row.map(|row| {
        versions::unseal(
            state,
            versions::place(*token.bytes(), 0, Purpose::Stash),
            row,
        )
    })
    .transpose()
    .map_err(Error::CorruptStash)
}

/// Removes a value and empties the log; nothing there is fine.
pub(crate) async fn remove(state: &mut State, token: RotationId) -> Result<(), Error> {
    let gone = sqlx::query("DELETE FROM stash WHERE token = $1")
        .bind(token.bytes().to_vec())
        .execute(&mut state.connection)
        .await
        .map_err(|source| Error::sqlite(&state.path, source))?;
    if gone.rows_affected() == 0 {
        return Ok(());
    }
    file::empty_log(&mut state.connection, &state.path).await
}

/// Removes what waited too long, as seen at `now`.
pub(crate) async fn drop_expired(
    connection: &mut SqliteConnection,
    path: &Path,
    now: i64,
) -> Result<(), Error> {
    let age = i64::try_from(MAX_STASH_AGE.as_micros()).unwrap_or(i64::MAX);
    let gone = sqlx::query("DELETE FROM stash WHERE put_at < $1")
        .bind(now.saturating_sub(age))
        .execute(&mut *connection)
        .await
        .map_err(|source| Error::sqlite(path, source))?;
    if gone.rows_affected() == 0 {
        return Ok(());
    }
    file::empty_log(connection, path).await
}
