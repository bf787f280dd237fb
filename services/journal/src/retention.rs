//! Audit records that are old enough leave; their leaf hashes stay, so that every proof can still be made.
//!
//! Invariants: records leave in whole tiles, from the first on; a tile leaves only while each of its records gives its
//! leaf hash and all of them the tile's root, so no evidence of an edit is removed; hashes come and records go in one
//! transaction. What may leave is said by a record of the audit itself ([`word`]), which stays: what is gone without
//! one, or although a later one says that it stays, was taken by somebody else. When, and whether others have them, the
//! caller decides.

use std::ops::Range;

use keywheel_core::audit::{Outcome, Principal, Role};
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::MAX_READ;
use keywheel_schemas::wire::audit_record_from_json;

use crate::merkle::{self, Frontier, Hash};
use crate::place::Place;
use crate::rows::Rows;
use crate::tables::{TILE_LEAVES, from_sql, to_sql};

/// Verb of the record that says which records leave.
pub const VERB: &str = "remove-audit-records";
/// Before the numbers of the first and the last of them, in its object.
const OBJECT: &str = "audit/";
/// Tiles of one transaction: whoever appends waits for no more.
pub(crate) const TILES_AT_ONCE: u64 = 4;
/// SQLite's table; a build that does not know it leaves it alone.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS removed_tile (
    place INTEGER PRIMARY KEY,
    hashes BLOB NOT NULL
) STRICT;";

/// Object of the record that says that these leave; nothing for none.
#[must_use]
pub fn object(range: &Range<u64>) -> Option<String> {
    let last = range
        .end
        .checked_sub(1)
        .filter(|last| *last >= range.start)?;
    Some(format!("{OBJECT}{}-{last}", range.start))
}

/// What a record says of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Those before this one leave.
    Leave(u64),
    /// Those from this one on stay, since one is not as it was logged.
    Stay(u64),
}

/// What a record says of old records; nothing where it says no such thing.
#[must_use]
pub fn word(bytes: &[u8]) -> Option<Word> {
    // Most are told by what they lack, without being read.
    if !std::str::from_utf8(bytes).is_ok_and(|text| text.contains(VERB)) {
        return None;
    }
    let record = audit_record_from_json(bytes).ok()?;
    let is_ours = record.verb == VERB && record.principal == Principal::Service(Role::Gateway);
    let (first, last) = record.object.strip_prefix(OBJECT)?.split_once('-')?;
    let first = first.parse::<u64>().ok()?;
    let end = last.parse::<u64>().ok()?.checked_add(1)?;
    let word = match record.outcome {
        Outcome::Allowed => Word::Leave(end),
        Outcome::Rejected => Word::Stay(first),
        _ => return None,
    };
    Some(word).filter(|_| is_ours)
}

/// Up to which number records may be gone once one more record of the audit was read: the later word counts.
#[must_use]
pub fn let_go(before: u64, bytes: &[u8]) -> u64 {
    match word(bytes) {
        Some(Word::Leave(end)) => before.max(end),
        Some(Word::Stay(first)) => before.min(first),
        None => before,
    }
}

/// Removes some tiles before an index, in the caller's transaction; gives the first record that is left, or what is
/// damaged. Then the caller takes all of it back.
pub(crate) async fn remove(
    rows: &mut impl Rows,
    before: u64,
) -> Result<Result<u64, String>, sqlx::Error> {
    let mut first = rows.leaf_begin().await?.map_or(0, from_sql);
    for _ in 0..TILES_AT_ONCE {
        let end = first.saturating_add(TILE_LEAVES);
        if end > before {
            break;
        }
        if !first.is_multiple_of(TILE_LEAVES) {
            return Ok(Err(format!("audit record {} is missing", first - 1)));
        }
        if let Err(damage) = remove_tile(rows, first..end).await? {
            return Ok(Err(damage));
        }
        first = end;
    }
    Ok(Ok(first))
}

async fn remove_tile(
    rows: &mut impl Rows,
    range: Range<u64>,
) -> Result<Result<(), String>, sqlx::Error> {
    let place = to_sql(range.start / TILE_LEAVES);
    let leaves = rows
        .leaves(to_sql(range.start), to_sql(TILE_LEAVES))
        .await?;
    let mut hashes = Vec::new();
    let mut tree = Frontier::new();
    for (wanted, (at, bytes, stored)) in range.clone().zip(leaves) {
        let hash = merkle::leaf_hash(&bytes);
        if from_sql(at) != wanted || stored != hash {
            return Ok(Err(format!(
                "audit record {wanted} is not as it was logged"
            )));
        }
        hashes.extend_from_slice(&hash);
        tree.push(hash);
    }
    let root = rows.tile(place).await?.map(|(root, _)| root);
    let is_whole = tree.size() == TILE_LEAVES && root.is_some_and(|root| root == tree.root());
    if !is_whole {
        return Ok(Err(format!(
            "audit records {} to {} do not give their tile's root",
            range.start,
            range.end - 1
        )));
    }
    rows.keep_tile(place, hashes).await?;
    rows.remove_leaves(to_sql(range.start), to_sql(range.end))
        .await?;
    Ok(Ok(()))
}

/// Leaf hashes of a tile whose records were removed.
pub(crate) async fn tile(
    rows: &mut impl Rows,
    place: &Place,
    number: u64,
) -> Result<Option<Vec<Hash>>, PortError> {
    let kept = rows.removed_tile(to_sql(number)).await;
    let kept = kept.map_err(|source| place.failed(source))?;
    let read = |bytes: Vec<u8>| {
        let (hashes, rest) = bytes.as_chunks::<32>();
        let is_whole = rest.is_empty() && hashes.len() as u64 == TILE_LEAVES;
        is_whole.then(|| hashes.to_vec())
    };
    Ok(kept.and_then(read))
}

/// Whether what is before an index was removed.
pub(crate) async fn ends_before(
    rows: &mut impl Rows,
    place: &Place,
    index: u64,
) -> Result<bool, PortError> {
    let last = (index / TILE_LEAVES).checked_sub(1);
    match last.filter(|_| index.is_multiple_of(TILE_LEAVES)) {
        Some(last) => Ok(tile(rows, place, last).await?.is_some()),
        None => Ok(false),
    }
}

/// Leaf hashes of a range within one tile whose records were removed.
pub(crate) async fn hashes_of(
    rows: &mut impl Rows,
    place: &Place,
    range: &Range<u64>,
) -> Result<Option<Vec<Hash>>, PortError> {
    let number = range.start / TILE_LEAVES;
    let Some(hashes) = tile(rows, place, number).await? else {
        return Ok(None);
    };
    let at = |index: u64| usize::try_from(index.saturating_sub(number * TILE_LEAVES)).ok();
    let ends = at(range.start).zip(at(range.end));
    let own = ends.and_then(|(from, to)| hashes.get(from..to));
    Ok(own.map(<[Hash]>::to_vec))
}

/// Leaf hashes of removed records, from an index on.
pub(crate) async fn hashes(
    rows: &mut impl Rows,
    place: &Place,
    (from, limit): (u64, usize),
) -> Result<Vec<Hash>, PortError> {
    let limit = limit.min(MAX_READ);
    let mut found = Vec::new();
    let mut number = from / TILE_LEAVES;
    let mut skipped = usize::try_from(from % TILE_LEAVES).unwrap_or(usize::MAX);
    while found.len() < limit {
        let Some(hashes) = tile(rows, place, number).await? else {
            break;
        };
        let left = limit - found.len();
        found.extend(hashes.into_iter().skip(skipped).take(left));
        skipped = 0;
        number = number.saturating_add(1);
    }
    Ok(found)
}

/// Where the records begin that are still there.
pub(crate) async fn begins(rows: &mut impl Rows, place: &Place) -> Result<u64, PortError> {
    let first = rows.leaf_begin().await;
    let first = first.map_err(|source| place.failed(source))?;
    Ok(first.map_or(0, from_sql))
}

#[cfg(test)]
mod tests {
    use keywheel_core::audit::{Category, Record};
    use keywheel_core::id::CommandId;
    use keywheel_core::time::Timestamp;
    use keywheel_schemas::wire::audit_record_to_json;

    use super::*;

    fn record(object: &str, change: impl FnOnce(&mut Record)) -> Vec<u8> {
        let mut record = Record {
            time: Timestamp::from_micros(1),
            category: Category::System,
            principal: Principal::Service(Role::Gateway),
            verb: VERB.to_owned(),
            object: object.to_owned(),
            version: None,
            outcome: Outcome::Allowed,
            reason: String::new(),
            container: None,
            command: CommandId::from_bytes([1; 16]),
            trace: String::new(),
        };
        change(&mut record);
        audit_record_to_json(&record)
    }

    #[test]
    fn only_the_gateways_own_word_says_that_records_leave() {
        let own = object(&(0..512)).unwrap();
        assert_eq!(own, "audit/0-511");
        assert_eq!(word(&record(&own, |_| ())), Some(Word::Leave(512)));
        assert_eq!(object(&(3..3)), None);
        let stays = object(&(256..512)).unwrap();
        let stays = record(&stays, |record| record.outcome = Outcome::Rejected);
        assert_eq!(word(&stays), Some(Word::Stay(256)));
        // Whoever lets records go after that has looked at them anew.
        let said = [record(&own, |_| ()), stays, b"{}".to_vec()];
        let after = |said: &[Vec<u8>]| said.iter().fold(0, |before, one| let_go(before, one));
        assert_eq!(after(&said), 256);
        assert_eq!(after(&[&said[1..], &said[..1]].concat()), 512);
        let others: [fn(&mut Record); 5] = [
            |record| record.verb = "rotate".to_owned(),
            |record| record.outcome = Outcome::Denied,
            |record| record.principal = Principal::Service(Role::AuditSink),
            |record| {
                let name = "remove-audit-records".to_owned();
                record.principal = Principal::Operator { name };
            },
            |record| record.object = "audit/511".to_owned(),
        ];
        for (n, change) in others.into_iter().enumerate() {
            assert_eq!(word(&record(&own, change)), None, "{n}");
        }
        for object in [
            "audit/x-1",
            "audit/0-x",
            "audit/0-18446744073709551615",
            "secret/0-1",
        ] {
            assert_eq!(word(&record(object, |_| ())), None, "{object}");
        }
        assert_eq!(word(&[0xff]), None);
        assert_eq!(word(VERB.as_bytes()), None);
    }
}
