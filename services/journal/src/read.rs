//! Reads: events with their chain, answers, open effects, leaves, subtree roots.
//!
//! Invariant: an event is handed out only when it decodes and its hash follows from the one before
//! (E5: never skip). Every read is bounded. Nothing here writes.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use keywheel_core::effect::Effect;
use keywheel_core::id::CommandId;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::{AuditLeaf, MAX_READ, RecordedEvent, Verdict};
use keywheel_schemas::event::decode;
use keywheel_schemas::wire::effect_from_json;
use keywheel_seal::sign::{Signature, VerifyingKey};
use sqlx::SqliteConnection;

use crate::batch::{EVENT_CONTEXT, Tail, chain_hash};
use crate::fault;
use crate::merkle::{Frontier, Hash};
use crate::tables::{TILE_LEAVES, TILE_LEVEL, from_sql, to_sql};
use crate::verdict;

/// What proves an event: its row without the names made from its bytes.
pub(crate) struct ProvenRow {
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// number, hash, audit_size, frontier, checkpoint
type HeadColumns = (i64, Vec<u8>, i64, Vec<u8>, String);
/// number, bytes, hash, signature
type Columns = (i64, Vec<u8>, Vec<u8>, Vec<u8>);

impl From<Columns> for ProvenRow {
    fn from((number, bytes, hash, signature): Columns) -> Self {
        Self {
            number: from_sql(number),
            bytes,
            hash,
            signature,
        }
    }
}

impl ProvenRow {
    /// Whether the signature is the key's, over this hash.
    pub(crate) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let signature = <[u8; 64]>::try_from(self.signature.as_slice());
        signature.is_ok_and(|s| {
            key.verify(EVENT_CONTEXT, &self.hash, &Signature::from_bytes(s))
                .is_ok()
        })
    }
}

/// Where the log ends.
pub(crate) async fn tail(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<Tail, PortError> {
    let sql = "SELECT number, hash, audit_size, frontier, checkpoint FROM head WHERE id = 1";
    let row: Option<HeadColumns> = sqlx::query_as(sql)
        .fetch_optional(connection)
        .await
        .map_err(|source| fault::port(path, source))?;
    let damaged = || fault::damaged(path, "its head is not readable");
    let (number, hash, size, frontier, checkpoint) = row.ok_or_else(damaged)?;
    Ok(Tail {
        number: u64::try_from(number).map_err(|_| damaged())?,
        hash: Hash::try_from(hash).map_err(|_| damaged())?,
        frontier: Frontier::from_bytes(from_sql(size), &frontier).ok_or_else(damaged)?,
        checkpoint,
    })
}

/// The newest event.
pub(crate) async fn last_event(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<Option<ProvenRow>, PortError> {
    let sql = "SELECT number, bytes, hash, signature FROM event ORDER BY number DESC LIMIT 1";
    let row: Option<Columns> = sqlx::query_as(sql)
        .fetch_optional(connection)
        .await
        .map_err(|source| fault::port(path, source))?;
    Ok(row.map(ProvenRow::from))
}

/// Events after a number, with the one before them to prove the chain.
pub(crate) async fn events(
    connection: &mut SqliteConnection,
    path: &Path,
    after: u64,
    limit: usize,
) -> Result<Vec<RecordedEvent>, PortError> {
    let limit = limit.min(MAX_READ);
    if limit == 0 {
        return Ok(Vec::new());
    }
    let sql = "SELECT number, bytes, hash, signature FROM event WHERE number >= ? ORDER BY number LIMIT ?";
    let rows: Vec<Columns> = sqlx::query_as(sql)
        .bind(to_sql(after))
        .bind(to_sql(limit as u64).saturating_add(1))
        .fetch_all(connection)
        .await
        .map_err(|source| fault::port(path, source))?;
    let mut rows = rows.into_iter().map(ProvenRow::from).peekable();
    let before = rows.next_if(|row| row.number == after).map(|row| row.hash);
    let mut previous = before.unwrap_or_else(|| vec![0; 32]);
    let mut events = Vec::with_capacity(rows.len());
    // The rows come first: a range that starts at the last number cannot be asked for its next.
    for (row, wanted) in rows.take(limit).zip(after.saturating_add(1)..) {
        let event = recorded(path, &previous, wanted, row)?;
        previous = event.hash.to_vec();
        events.push(event);
    }
    Ok(events)
}

fn recorded(
    path: &Path,
    previous: &[u8],
    wanted: u64,
    row: ProvenRow,
) -> Result<RecordedEvent, PortError> {
    let damaged = |what: &str| fault::damaged(path, &format!("event {wanted} {what}"));
    if row.number != wanted {
        return Err(damaged("is missing"));
    }
    let previous =
        Hash::try_from(previous).map_err(|_| damaged("follows a hash of the wrong size"))?;
    let hash = Hash::try_from(row.hash).map_err(|_| damaged("has a hash of the wrong size"))?;
    if chain_hash(&previous, &row.bytes) != hash {
        return Err(damaged("does not follow from the one before it"));
    }
    let signature = <[u8; 64]>::try_from(row.signature);
    let signature = signature.map_err(|_| damaged("has a signature of the wrong size"))?;
    let (meta, event) = decode(&row.bytes).map_err(|source| PortError {
        source: Some(Box::new(source)),
        ..damaged("cannot be read")
    })?;
    Ok(RecordedEvent {
        number: wanted,
        id: meta.id,
        time: meta.time,
        event,
        bytes: Arc::from(row.bytes),
        hash,
        signature,
    })
}

/// The answer to a command.
pub(crate) async fn answer(
    connection: &mut SqliteConnection,
    path: &Path,
    command: CommandId,
) -> Result<Option<Verdict>, PortError> {
    let text: Option<String> = sqlx::query_scalar("SELECT verdict FROM command WHERE id = ?")
        .bind(command.bytes().to_vec())
        .fetch_optional(connection)
        .await
        .map_err(|source| fault::port(path, source))?;
    let read = text.map(|text| verdict::decode(&text)).transpose();
    read.map_err(|_| {
        fault::damaged(
            path,
            &format!("the answer to command {command} cannot be read"),
        )
    })
}

/// Effects nobody answered yet.
pub(crate) async fn open_effects(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<Vec<Effect>, PortError> {
    let sql = "SELECT key, bytes FROM effect WHERE state = 'open' ORDER BY place";
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(sql)
        .fetch_all(connection)
        .await
        .map_err(|source| fault::port(path, source))?;
    let read = |(key, bytes): (String, Vec<u8>)| {
        effect_from_json(&bytes)
            .map_err(|_| fault::damaged(path, &format!("effect {key} cannot be read")))
    };
    rows.into_iter().map(read).collect()
}

/// Leaves from an index on.
pub(crate) async fn leaves(
    connection: &mut SqliteConnection,
    path: &Path,
    from: u64,
    limit: usize,
) -> Result<Vec<AuditLeaf>, PortError> {
    let sql = "SELECT place, bytes FROM audit WHERE place >= ? ORDER BY place LIMIT ?";
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql)
        .bind(to_sql(from))
        .bind(to_sql(limit.min(MAX_READ) as u64))
        .fetch_all(connection)
        .await
        .map_err(|source| fault::port(path, source))?;
    let gap = |index: u64| fault::damaged(path, &format!("audit record {index} is missing"));
    let leaf = |((place, bytes), index): ((i64, Vec<u8>), u64)| match from_sql(place) == index {
        true => Ok(AuditLeaf {
            index,
            bytes: Arc::from(bytes),
        }),
        false => Err(gap(index)),
    };
    rows.into_iter().zip(from..).map(leaf).collect()
}

/// Roots of ranges of leaves, as proofs ask for them: full tiles by their stored roots, the rest by
/// their leaves.
pub(crate) async fn subtree_roots(
    connection: &mut SqliteConnection,
    path: &Path,
    ranges: &[Range<u64>],
) -> Result<Vec<Hash>, PortError> {
    let mut roots = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut frontier = Frontier::new();
        let mut at = range.start;
        if range.start.is_multiple_of(TILE_LEAVES) {
            let tiles = range.start / TILE_LEAVES..range.end / TILE_LEAVES;
            let sql = "SELECT root FROM tile WHERE place >= ? AND place < ? ORDER BY place";
            for root in hashes(connection, path, sql, &tiles).await? {
                if !frontier.push_subtree(TILE_LEVEL, root) {
                    return Err(fault::damaged(path, "its audit tree has a hole"));
                }
            }
            at = tiles.end.max(tiles.start) * TILE_LEAVES;
        }
        let sql = "SELECT leaf_hash FROM audit WHERE place >= ? AND place < ? ORDER BY place";
        let leaves = hashes(connection, path, sql, &(at.max(range.start)..range.end)).await?;
        leaves.into_iter().for_each(|leaf| frontier.push(leaf));
        roots.push(frontier.root());
    }
    Ok(roots)
}

async fn hashes(
    connection: &mut SqliteConnection,
    path: &Path,
    sql: &'static str,
    range: &Range<u64>,
) -> Result<Vec<Hash>, PortError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(sql)
        .bind(to_sql(range.start))
        .bind(to_sql(range.end))
        .fetch_all(connection)
        .await
        .map_err(|source| fault::port(path, source))?;
    let hole = || fault::damaged(path, "its audit tree has a hole");
    if rows.len() as u64 != range.end.saturating_sub(range.start) {
        return Err(hole());
    }
    rows.into_iter()
        .map(|row| Hash::try_from(row).map_err(|_| hole()))
        .collect()
}
