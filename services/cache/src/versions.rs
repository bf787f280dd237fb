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

use crate::cache::State;
use crate::error::Error;
use crate::keys::MAX_REPLACED;
use crate::table::{SealedColumns, Table, is_kek_gone};

/// Stores a value, or finds the one stored under the same token.
pub(crate) async fn insert(
    state: &mut State<impl Table>,
    secret: SecretId,
    version: u64,
    token: RotationId,
    value: &SecretBytes,
) -> Result<Inserted, Error> {
    if let Some(answer) = existing(state, secret, version, token).await? {
        return answer;
    }
    for _ in 0..MAX_REPLACED {
        let place = place(*secret.bytes(), version, Purpose::Version);
        let sealed = seal(state, place, value).await?;
        let (owner, holder) = (secret.bytes().to_vec(), token.bytes().to_vec());
        let first = state
            .table
            .insert(owner, number(version), holder, sealed)
            .await;
        match written(state, first).await? {
            None => {}
            Some(true) => return Ok(Inserted::New),
            Some(false) => {
                // Another process was first, between our look and our insert.
                let answer = existing(state, secret, version, token).await?;
                return answer.unwrap_or(Err(Error::TokenConflict { secret, version }));
            }
        }
    }
    Err(Error::KekUnsteady)
}

/// Whether a sealed row was the first; none when the tables did not let it be, since rows and KEKs would not belong
/// together: another process let its KEK go. Then the KEKs were read again, and it is to be sealed again.
pub(crate) async fn written(
    state: &mut State<impl Table>,
    answer: Result<bool, sqlx::Error>,
) -> Result<Option<bool>, Error> {
    match answer {
        Ok(first) => Ok(Some(first)),
        Err(source) if is_kek_gone(&source) => {
            let State { table, keys, .. } = state;
            keys.read_again(table).await?;
            Ok(None)
        }
        Err(source) => Err(state.table.failed(source)),
    }
}

/// What an earlier insert or destroy left at this place or under this token.
async fn existing(
    state: &mut State<impl Table>,
    secret: SecretId,
    version: u64,
    token: RotationId,
) -> Result<Option<Result<Inserted, Error>>, Error> {
    let (owner, holder) = (secret.bytes().to_vec(), token.bytes().to_vec());
    let rows = state.table.places(owner, number(version), holder).await;
    let rows = rows.map_err(|source| state.table.failed(source))?;
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

/// Opens a version. One that another process wrapped anew, between a look at it and one at the KEKs, is looked at again.
pub(crate) async fn open(
    state: &mut State<impl Table>,
    secret: SecretId,
    version: u64,
) -> Result<SecretBytes, Error> {
    match open_once(state, secret, version).await {
        Err(Error::CorruptRow { .. }) if state.table.is_shared() => {
            open_once(state, secret, version).await
        }
        opened => opened,
    }
}

async fn open_once(
    state: &mut State<impl Table>,
    secret: SecretId,
    version: u64,
) -> Result<SecretBytes, Error> {
    let owner = secret.bytes().to_vec();
    let row = state.table.version(owner, number(version)).await;
    let (life, row) = match row.map_err(|source| state.table.failed(source))? {
        None => return Err(Error::NotFound { secret, version }),
        Some(row) => row,
    };
    if life == "destroyed" {
        return Err(Error::Destroyed { secret, version });
    }
    let place = place(*secret.bytes(), version, Purpose::Version);
    let opened = unseal(state, place, row).await?;
    opened.map_err(|source| Error::CorruptRow {
        secret,
        version,
        source,
    })
}

/// Overwrites key and ciphertext, bars the version, and makes what was there unreadable.
pub(crate) async fn destroy(
    state: &mut State<impl Table>,
    secret: SecretId,
    version: u64,
) -> Result<(), Error> {
    let owner = secret.bytes().to_vec();
    let done = state.table.destroy(owner, number(version)).await;
    done.map_err(|source| state.table.failed(source))?;
    state.table.forget().await
}

/// Whether a live row is there.
pub(crate) async fn has(
    state: &mut State<impl Table>,
    secret: SecretId,
    version: u64,
) -> Result<bool, Error> {
    let owner = secret.bytes().to_vec();
    let live = state.table.is_live(owner, number(version)).await;
    live.map_err(|source| state.table.failed(source))
}

/// Live versions, ascending.
pub(crate) async fn list(
    state: &mut State<impl Table>,
    secret: SecretId,
) -> Result<Vec<u64>, Error> {
    let rows = state.table.live(secret.bytes().to_vec()).await;
    let rows = rows.map_err(|source| state.table.failed(source))?;
    Ok(rows
        .into_iter()
        .filter_map(|version| u64::try_from(version).ok())
        .collect())
}

/// Counts a wrap, then seals a value for a place.
pub(crate) async fn seal(
    state: &mut State<impl Table>,
    place: impl FnOnce([u8; 16], KekId) -> Aad,
    value: &SecretBytes,
) -> Result<SealedVersion, Error> {
    let State {
        table, keys, clock, ..
    } = state;
    let id = keys.count_wrap(table, clock.now()).await?;
    let aad = place(keys.deployment(), id);
    let kek = keys.kek(id).ok_or(Error::Seal(SealError::WrongAad))?;
    envelope::seal_version(kek, &aad, value, keys.entropy()).map_err(|error| match error {
        SealError::TooLarge(limit) => Error::TooLarge(limit),
        SealError::WrongAad => Error::Seal(error),
    })
}

/// Opens a sealed row at a place. A KEK that another process made is read first.
pub(crate) async fn unseal(
    state: &mut State<impl Table>,
    place: impl FnOnce([u8; 16], KekId) -> Aad,
    row: SealedColumns,
) -> Result<Result<SecretBytes, OpenError>, Error> {
    let Some(sealed) = sealed(row) else {
        return Ok(Err(OpenError::Rejected));
    };
    let State { table, keys, .. } = state;
    if keys.kek(sealed.key_id).is_none() {
        keys.read_again(table).await?;
    }
    let Some(kek) = keys.kek(sealed.key_id) else {
        return Ok(Err(OpenError::Rejected));
    };
    let aad = place(keys.deployment(), sealed.key_id);
    Ok(envelope::open_version(kek, &aad, &sealed))
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
pub(crate) fn sealed(row: SealedColumns) -> Option<SealedVersion> {
    let (suite, key_id, wrapped_dek, nonce, ciphertext, commitment) = row;
    Some(SealedVersion {
        suite: u16::try_from(suite?).ok()?,
        key_id: KekId::from_bytes(key_id?.try_into().ok()?),
        wrapped_dek: wrapped_dek?,
        nonce: nonce?.try_into().ok()?,
        ciphertext: ciphertext?,
        commitment: commitment?.try_into().ok()?,
    })
}

/// A version number as the tables hold it; numbers over 2⁶³ do not occur and would collide harmlessly
/// at the top, where the associated data still tells them apart.
fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
