//! Replacing the KEK of everything that is kept, while it is used (rule K5).
//!
//! A fresh KEK becomes current; then every row's data key is wrapped anew, some rows at a time; and when none is
//! left and every row was shown to open, the other KEKs go, for good. Values are not touched. Invariants: which
//! rows are left is in the rows themselves, so that it goes on after a kill at any of them; between two rows
//! every one opens, with exactly one KEK that is there; a row that was destroyed meanwhile stays destroyed; a KEK
//! goes only while no row names it. A row that does not open under its own KEK is damaged: it is left as it is,
//! and its KEK with it.
//!
//! Where several processes have the tables open, each may do any part of it at any time: a row that another one wrapped
//! anew, replaced or destroyed since it was read is left alone; whoever knows only a KEK that is gone reads them again
//! before it writes; and who begins is followed by all.

use keywheel_seal::envelope::{self, Aad, Kek, Purpose, SealedVersion};

use crate::cache::State;
use crate::error::Error;
use crate::store_keys::OWNER;
use crate::table::{Place, Rewrapped, SealedColumns, Table};
use crate::versions;

/// Rows that are looked at in one step, and wrapped anew in one transaction.
pub const REKEY_STEP: u32 = 128;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rekeying {
    /// KEKs beside the current one.
    pub old_keks: u64,
    /// Rows under these.
    pub left: u64,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// There is more.
    More,
    /// One KEK is all there is.
    Done,
    /// So many rows do not open under the KEK they name, which is kept for them.
    Damaged(u64),
}

/// Where a pass over all rows is; lost with the process, and then it begins again.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// The last version that was looked at.
    after: Option<(Vec<u8>, i64)>,
    /// Whether what is no version was looked at.
    others: bool,
    damaged: u64,
    /// What the pass before found damaged, in shared tables: another process may have wrapped it anew meanwhile.
    doubted: u64,
}

/// Makes a fresh KEK current, from which everything is wrapped anew.
pub(crate) async fn begin(state: &mut State<impl Table>) -> Result<Rekeying, Error> {
    follow(state).await?;
    let State {
        table, keys, clock, ..
    } = state;
    keys.renew(table, clock.now()).await?;
    state.pass = Pass::default();
    progress(state).await
}

/// Takes what other processes made of the KEKs; a pass to one that is not current any more begins anew.
async fn follow(state: &mut State<impl Table>) -> Result<(), Error> {
    let State {
        table, keys, pass, ..
    } = state;
    if !table.is_shared() {
        return Ok(());
    }
    let before = keys.current();
    keys.read_again(table).await?;
    if keys.current() != before {
        *pass = Pass::default();
    }
    Ok(())
}

/// How far it is.
pub(crate) async fn progress(state: &mut State<impl Table>) -> Result<Rekeying, Error> {
    follow(state).await?;
    let current = state.keys.current().bytes().to_vec();
    let left = state.table.count_stale(current).await;
    let left = left.map_err(|source| state.table.failed(source))?;
    Ok(Rekeying {
        old_keks: old_keks(state).await?,
        left: u64::try_from(left).unwrap_or_default(),
    })
}

async fn old_keks(state: &mut State<impl Table>) -> Result<u64, Error> {
    let count = state.table.old_keks().await;
    let count = count.map_err(|source| state.table.failed(source))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Wraps the next rows anew; after the last one looks at all of them, and lets the other KEKs go.
pub(crate) async fn step(state: &mut State<impl Table>, rows: u32) -> Result<Stepped, Error> {
    follow(state).await?;
    if old_keks(state).await? == 0 {
        return Ok(Stepped::Done);
    }
    let current = state.keys.current().bytes().to_vec();
    let after = state.pass.after.clone();
    let page = versions_after(state, Some(current.clone()), after, rows).await?;
    if let Some((Place::Version(secret, version), _)) = page.last() {
        state.pass.after = Some((secret.clone(), *version));
        return wrap_anew(state, page).await;
    }
    if state.pass.others {
        return finish(state).await;
    }
    state.pass.others = true;
    let mut others = others(state).await?;
    others.retain(|(_, row)| row.1.as_ref() != Some(&current));
    wrap_anew(state, others).await
}

type Rows = Vec<(Place, SealedColumns)>;

/// Live versions after one, by name and number; with a KEK only those under others.
async fn versions_after(
    state: &mut State<impl Table>,
    but: Option<Vec<u8>>,
    after: Option<(Vec<u8>, i64)>,
    rows: u32,
) -> Result<Rows, Error> {
    // No secret has an empty id.
    let after = after.unwrap_or((Vec::new(), i64::MIN));
    let page = state
        .table
        .versions_after(but, after, i64::from(rows))
        .await;
    page.map_err(|source| state.table.failed(source))
}

/// Everything that is sealed and no version; bounded by what may wait and by how long keys are told.
async fn others(state: &mut State<impl Table>) -> Result<Rows, Error> {
    let stashes = state.table.stashes().await;
    let mut rows = stashes.map_err(|source| state.table.failed(source))?;
    let keys = state.table.store_keys().await;
    let keys = keys.map_err(|source| state.table.failed(source))?;
    let key = |(generation, _, row)| (Place::StoreKey(generation), row);
    rows.extend(keys.into_iter().map(key));
    Ok(rows)
}

async fn wrap_anew(state: &mut State<impl Table>, rows: Rows) -> Result<Stepped, Error> {
    let mut wrapped = Vec::with_capacity(rows.len());
    for (place, row) in rows {
        let was = row.2.clone().unwrap_or_default();
        match rewrap(state, &place, row).await? {
            Some(sealed) => wrapped.push(Rewrapped { place, sealed, was }),
            None => state.pass.damaged += 1,
        }
    }
    let written = state.table.rewrap(wrapped).await.map(|()| true);
    if versions::written(state, written).await?.is_none() {
        // What it was wrapped by went meanwhile, so there is another one to wrap it by.
        state.pass = Pass::default();
    }
    Ok(Stepped::More)
}

/// A pass is over: every row opens under the current KEK, or is damaged.
async fn finish(state: &mut State<impl Table>) -> Result<Stepped, Error> {
    let Pass {
        damaged, doubted, ..
    } = std::mem::take(&mut state.pass);
    let left = progress(state).await?.left;
    if left > damaged {
        // Rows came under another KEK meanwhile; another pass finds them.
        return Ok(Stepped::More);
    }
    if damaged > 0 && damaged != doubted && state.table.is_shared() {
        state.pass.doubted = damaged;
        return Ok(Stepped::More);
    }
    if damaged > 0 {
        return Ok(Stepped::Damaged(damaged));
    }
    match verify(state).await? {
        true => {}
        // Another process wrote it, under the KEK that it knew.
        false if state.table.is_shared() => return Ok(Stepped::More),
        false => return Err(Error::UnverifiedKek),
    }
    let current = state.keys.current().bytes().to_vec();
    let gone = state.table.drop_keks(current).await.map(|()| true);
    if versions::written(state, gone).await?.is_none() {
        // A row came under one that another process replaced meanwhile.
        return Ok(Stepped::More);
    }
    state.table.forget().await?;
    let State { table, keys, .. } = state;
    keys.read_again(table).await?;
    match old_keks(state).await? {
        0 => Ok(Stepped::Done),
        _ => Ok(Stepped::More),
    }
}

/// Shows that every row opens with the current KEK, before the others go; `false` when one names another.
async fn verify(state: &mut State<impl Table>) -> Result<bool, Error> {
    let others = others(state).await?;
    if !all_open(state, &others)? {
        return Ok(false);
    }
    let mut after = None;
    loop {
        let page = versions_after(state, None, after.take(), REKEY_STEP).await?;
        let Some((Place::Version(secret, version), _)) = page.last() else {
            return Ok(true);
        };
        after = Some((secret.clone(), *version));
        if !all_open(state, &page)? {
            return Ok(false);
        }
    }
}

fn all_open<T: Table>(state: &State<T>, rows: &[(Place, SealedColumns)]) -> Result<bool, Error> {
    let current = state.keys.current();
    let named = current.bytes();
    let is_stale = |(_, row): &(Place, SealedColumns)| {
        let id = row.1.as_deref();
        id.is_some_and(|id| id != named.as_slice())
    };
    if rows.iter().any(is_stale) {
        return Ok(false);
    }
    let opens = |(place, row): &(Place, SealedColumns)| {
        let found = sealed_under(state, place, row.clone());
        found.is_some_and(|(kek, aad, sealed)| {
            kek.id() == current && envelope::check_version(kek, &aad, &sealed).is_ok()
        })
    };
    match rows.iter().all(opens) {
        true => Ok(true),
        false => Err(Error::UnverifiedKek),
    }
}

/// A row's data key, wrapped by the current KEK; none when the row does not open.
async fn rewrap(
    state: &mut State<impl Table>,
    place: &Place,
    row: SealedColumns,
) -> Result<Option<SealedVersion>, Error> {
    let State {
        table, keys, clock, ..
    } = state;
    let to = keys.count_wrap(table, clock.now()).await?;
    let Some((from, aad, sealed)) = sealed_under(state, place, row) else {
        return Ok(None);
    };
    let Some(to) = state.keys.kek(to) else {
        return Ok(None);
    };
    let entropy = state.keys.entropy();
    Ok(envelope::rewrap_version(from, to, &aad, &sealed, entropy).ok())
}

/// A row with the KEK it names and what it is bound to.
fn sealed_under<'a, T: Table>(
    state: &'a State<T>,
    place: &Place,
    row: SealedColumns,
) -> Option<(&'a Kek, Aad, SealedVersion)> {
    let sealed = versions::sealed(row)?;
    let kek = state.keys.kek(sealed.key_id)?;
    let (owner, version, purpose) = bound(place)?;
    let aad = versions::place(owner, version, purpose)(state.keys.deployment(), sealed.key_id);
    Some((kek, aad, sealed))
}

/// What a place is in the associated data.
fn bound(place: &Place) -> Option<([u8; 16], u64, Purpose)> {
    Some(match place {
        Place::Version(secret, version) => {
            let secret = secret.as_slice().try_into().ok()?;
            (secret, version.unsigned_abs(), Purpose::Version)
        }
        Place::Stash(token) => (token.as_slice().try_into().ok()?, 0, Purpose::Stash),
        Place::StoreKey(generation) => (OWNER, generation.unsigned_abs(), Purpose::StoreKey),
    })
}
