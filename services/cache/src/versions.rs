//! Rows of secret versions.
//!
//! Invariants: (secret, version) and (secret, token) are unique for ever; a destroyed row keeps its
//! place and nothing else. Version numbers are the caller's and are not checked for order.

use keywheel_core::id::{RotationId, SecretId};
use keywheel_engine::port::vault::Inserted;
use keywheel_seal::SecretBytes;
use keywheel_seal::envelope::{
    self, AAD_FORMAT, Aad, KekId, OpenError, Purpose, SealError, SealedVersion,
};

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row as _};

use crate::cache::State;
use crate::error::Error;
use crate::file;

/// The columns of a sealed value, as they lie in a row of either table.
pub(crate) struct SealedRow {
    suite: Option<i64>,
    key_id: Option<Vec<u8>>,
    wrapped_dek: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    ciphertext: Option<Vec<u8>>,
    commitment: Option<Vec<u8>>,
}

impl FromRow<'_, SqliteRow> for SealedRow {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            suite: row.try_get("suite")?,
            key_id: row.try_get("key_id")?,
            wrapped_dek: row.try_get("wrapped_dek")?,
            nonce: row.try_get("nonce")?,
            ciphertext: row.try_get("ciphertext")?,
            commitment: row.try_get("commitment")?,
        })
    }
}

/// Stores a value, or finds the one stored under the same token.
pub(crate) async fn insert(
    state: &mut State,
    secret: SecretId,
    version: u64,
    token: RotationId,
    value: &SecretBytes,
) -> Result<Inserted, Error> {
    if let Some(answer) = existing(state, secret, version, token).await? {
        return answer;
    }
    let sealed = seal(
        state,
        place(*secret.bytes(), version, Purpose::Version),
        value,
    )
    .await?;
    sqlx::query(
        "INSERT INTO version (secret, version, token, state, suite, key_id, wrapped_dek, nonce, \
         ciphertext, commitment) VALUES ($1, $2, $3, 'live', $4, $5, $6, $7, $8, $9)",
    )
    .bind(secret.bytes().to_vec())
    .bind(number(version))
    .bind(token.bytes().to_vec())
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

/// What an earlier insert or destroy left at this place or under this token.
async fn existing(
    state: &mut State,
    secret: SecretId,
    version: u64,
    token: RotationId,
) -> Result<Option<Result<Inserted, Error>>, Error> {
    let rows: Vec<(i64, Option<Vec<u8>>, String)> = sqlx::query_as(
        "SELECT version, token, state FROM version WHERE secret = $1 AND (version = $2 OR token = $3)",
    )
    .bind(secret.bytes().to_vec())
    .bind(number(version))
    .bind(token.bytes().to_vec())
    .fetch_all(&mut state.connection)
    .await
    .map_err(|source| Error::sqlite(&state.path, source))?;
    let here = rows.iter().find(|row| row.0 == number(version));
    Ok(match here {
        None if rows.is_empty() => None,
        Some((_, _, life)) if life == "destroyed" => {
            Some(Err(Error::Destroyed { secret, version }))
        }
        Some((_, holder, _)) if holder.as_deref() == Some(&token.bytes()[..]) => {
            Some(Ok(Inserted::Existing))
        }
        _ => Some(Err(Error::TokenConflict { secret, version })),
    })
}

/// Opens a version.
pub(crate) async fn open(
    state: &mut State,
    secret: SecretId,
    version: u64,
) -> Result<SecretBytes, Error> {
    let row: Option<(String, SealedRow)> = read(state, secret, version).await?;
    match row {
        None => Err(Error::NotFound { secret, version }),
        Some((life, _)) if life == "destroyed" => Err(Error::Destroyed { secret, version }),
        Some((_, row)) => unseal(
            state,
            place(*secret.bytes(), version, Purpose::Version),
            row,
        )
        .map_err(|source| Error::CorruptRow {
            secret,
            version,
            source,
        }),
    }
}

/// State and sealed columns of a row.
async fn read(
    state: &mut State,
    secret: SecretId,
    version: u64,
) -> Result<Option<(String, SealedRow)>, Error> {
    let row = sqlx::query(
        "SELECT state, suite, key_id, wrapped_dek, nonce, ciphertext, commitment FROM version \
         WHERE secret = $1 AND version = $2",
    )
    .bind(secret.bytes().to_vec())
    .bind(number(version))
    .fetch_optional(&mut state.connection)
    .await
    .map_err(|source| Error::sqlite(&state.path, source))?;
    row.map(|row| Ok((row.try_get("state")?, SealedRow::from_row(&row)?)))
        .transpose()
        .map_err(|source| Error::sqlite(&state.path, source))
}

/// Overwrites key and ciphertext, bars the version, and empties the log.
pub(crate) async fn destroy(
    state: &mut State,
    secret: SecretId,
    version: u64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO version (secret, version, state) VALUES ($1, $2, 'destroyed') \
         ON CONFLICT (secret, version) DO UPDATE SET state = 'destroyed', suite = NULL, key_id = NULL, \
         wrapped_dek = NULL, nonce = NULL, ciphertext = NULL, commitment = NULL",
    )
    .bind(secret.bytes().to_vec())
    .bind(number(version))
    .execute(&mut state.connection)
    .await
    .map_err(|source| Error::sqlite(&state.path, source))?;
    sqlx::query(
        "DELETE FROM stash WHERE token = (SELECT token FROM version WHERE secret = $1 AND version = $2)",
    )
    .bind(secret.bytes().to_vec())
    .bind(number(version))
    .execute(&mut state.connection)
    .await
    .map_err(|source| Error::sqlite(&state.path, source))?;
    file::empty_log(&mut state.connection, &state.path).await
}

/// Whether a live row is there.
pub(crate) async fn has(state: &mut State, secret: SecretId, version: u64) -> Result<bool, Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM version WHERE secret = $1 AND version = $2 AND state = 'live'",
    )
    .bind(secret.bytes().to_vec())
    .bind(number(version))
    .fetch_one(&mut state.connection)
    .await
    .map_err(|source| Error::sqlite(&state.path, source))?;
    Ok(count == 1)
}

/// Live versions, ascending.
pub(crate) async fn list(state: &mut State, secret: SecretId) -> Result<Vec<u64>, Error> {
    let rows: Vec<i64> = sqlx::query_scalar(
        "SELECT version FROM version WHERE secret = $1 AND state = 'live' ORDER BY version",
    )
    .bind(secret.bytes().to_vec())
    .fetch_all(&mut state.connection)
    .await
    .map_err(|source| Error::sqlite(&state.path, source))?;
    Ok(rows
        .into_iter()
        .filter_map(|version| u64::try_from(version).ok())
        .collect())
}

/// Counts a wrap, then seals a value for a place.
pub(crate) async fn seal(
    state: &mut State,
    place: impl FnOnce([u8; 16], KekId) -> Aad,
    value: &SecretBytes,
) -> Result<SealedVersion, Error> {
    let State {
        path,
        connection,
        keys,
        clock,
    } = state;
    let id = keys.count_wrap(connection, path, clock.now()).await?;
    let aad = place(keys.deployment(), id);
    let kek = keys.kek(id).ok_or(Error::Seal(SealError::WrongAad))?;
    envelope::seal_version(kek, &aad, value, keys.entropy()).map_err(|error| match error {
        SealError::TooLarge(limit) => Error::TooLarge(limit),
        SealError::WrongAad => Error::Seal(error),
    })
}

/// Opens a sealed row at a place.
pub(crate) fn unseal(
    state: &State,
    place: impl FnOnce([u8; 16], KekId) -> Aad,
    row: SealedRow,
) -> Result<SecretBytes, OpenError> {
    let sealed = sealed(row).ok_or(OpenError::Rejected)?;
    let kek = state.keys.kek(sealed.key_id).ok_or(OpenError::Rejected)?;
    let aad = place(state.keys.deployment(), sealed.key_id);
    envelope::open_version(kek, &aad, &sealed)
}

/// The place of a sealed value, once deployment and KEK are known.
pub(crate) fn place(
    owner: [u8; 16],
    version: u64,
    purpose: Purpose,
) -> impl FnOnce([u8; 16], KekId) -> Aad {
    move |deployment, key_id| Aad {
        format: AAD_FORMAT,
        deployment,
        secret: owner,
        version,
        key_id,
        purpose,
    }
}

/// The row as the sealing crate knows it; none when a column is missing or misshapen.
fn sealed(row: SealedRow) -> Option<SealedVersion> {
    Some(SealedVersion {
        suite: u16::try_from(row.suite?).ok()?,
        key_id: KekId::from_bytes(row.key_id?.try_into().ok()?),
        wrapped_dek: row.wrapped_dek?,
        nonce: row.nonce?.try_into().ok()?,
        ciphertext: row.ciphertext?,
        commitment: row.commitment?.try_into().ok()?,
    })
}

/// A version number as SQLite holds it; numbers over 2⁶³ do not occur and would collide harmlessly
/// at the top, where the associated data still tells them apart.
fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
