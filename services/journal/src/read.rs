//! Reads: events with their chain, answers, open effects, leaves, subtree roots.
//!
//! Invariant: an event is handed out only when it decodes and its hash follows from the one before
//! (E5: never skip). Every read is bounded. Nothing here writes.

use std::ops::Range;
use std::sync::Arc;

use keywheel_core::id::CommandId;
use keywheel_engine::port::journal::{
    AuditLeaf, Head, MAX_READ, OpenEffect, RecordedEvent, Verdict,
};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::event::decode_proven;
use keywheel_schemas::wire::stored_effect_from_json;
use keywheel_seal::sign::{Signature, VerifyingKey};

use crate::batch::{EVENT_CONTEXT, Tail, chain_hash};
use crate::merkle::{self, Frontier, Hash};
use crate::place::Place;
use crate::rows::{HeadColumns, LeafColumns, ProvenColumns, Rows};
use crate::tables::{TILE_LEAVES, TILE_LEVEL, from_sql, to_sql};
use crate::{retention, verdict};

/// Said of a tree whose rows are not all there.
const HOLE: &str = "its audit tree has a hole";

/// What proves an event: its row without the names made from its bytes.
pub(crate) struct ProvenRow {
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl From<ProvenColumns> for ProvenRow {
    fn from((number, bytes, hash, signature): ProvenColumns) -> Self {
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
pub(crate) async fn tail(rows: &mut impl Rows, place: &Place) -> Result<Tail, PortError> {
    let row = rows.head().await.map_err(|source| place.failed(source))?;
    tail_of(row, place)
}

/// Where the log ends, by the head's row.
pub(crate) fn tail_of(row: Option<HeadColumns>, place: &Place) -> Result<Tail, PortError> {
    let damaged = || place.damaged("its head is not readable");
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
    rows: &mut impl Rows,
    place: &Place,
) -> Result<Option<ProvenRow>, PortError> {
    let row = rows.last_event().await;
    let row = row.map_err(|source| place.failed(source))?;
    Ok(row.map(ProvenRow::from))
}

/// Rows of events after a number, read and not yet looked at.
pub(crate) struct EventRows {
    after: u64,
    limit: usize,
    rows: Vec<ProvenColumns>,
}

/// Reads events after a number, with the one before them to prove the chain. Whoever holds the
/// connection gives it back before [`EventRows::prove`], which is most of the work.
pub(crate) async fn event_rows(
    rows: &mut impl Rows,
    place: &Place,
    after: u64,
    limit: usize,
) -> Result<EventRows, PortError> {
    let limit = limit.min(MAX_READ);
    let rows = match limit {
        0 => Ok(Vec::new()),
        limit => {
            let wanted = to_sql(limit as u64).saturating_add(1);
            rows.events(to_sql(after), wanted).await
        }
    };
    Ok(EventRows {
        after,
        limit,
        rows: rows.map_err(|source| place.failed(source))?,
    })
}

impl EventRows {
    /// The events, each following from the one before it.
    pub(crate) fn prove(self, place: &Place) -> Result<Vec<RecordedEvent>, PortError> {
        let mut rows = self.rows.into_iter().map(ProvenRow::from).peekable();
        let before = rows
            .next_if(|row| row.number == self.after)
            .map(|row| row.hash);
        let mut previous = before.unwrap_or_else(|| vec![0; 32]);
        let mut events = Vec::with_capacity(rows.len());
        // The rows come first: a range that starts at the last number cannot be asked for its next.
        for (row, wanted) in rows.take(self.limit).zip(self.after.saturating_add(1)..) {
            let event = recorded(place, &previous, wanted, row)?;
            previous = event.hash.to_vec();
            events.push(event);
        }
        Ok(events)
    }
}

fn recorded(
    place: &Place,
    previous: &[u8],
    wanted: u64,
    row: ProvenRow,
) -> Result<RecordedEvent, PortError> {
    let damaged = |what: &str| place.damaged(&format!("event {wanted} {what}"));
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
    let read = decode_proven(&row.bytes).map_err(|source| PortError {
        source: Some(Box::new(source)),
        ..damaged("cannot be read")
    })?;
    Ok(RecordedEvent {
        number: wanted,
        id: read.id,
        time: read.time,
        traceparent: read.traceparent,
        event: read.event,
        bytes: Arc::from(row.bytes),
        hash,
        signature,
    })
}

/// The answer to a command.
pub(crate) async fn answer(
    rows: &mut impl Rows,
    place: &Place,
    command: CommandId,
) -> Result<Option<Verdict>, PortError> {
    let text = rows.answer(command.bytes()).await;
    let text = text.map_err(|source| place.failed(source))?;
    let read = text.map(|text| verdict::decode(&text)).transpose();
    read.map_err(|_| place.damaged(&format!("the answer to command {command} cannot be read")))
}

/// Effects nobody answered yet.
pub(crate) async fn open_effects(
    rows: &mut impl Rows,
    place: &Place,
) -> Result<Vec<OpenEffect>, PortError> {
    let rows = rows.open_effects().await;
    let rows = rows.map_err(|source| place.failed(source))?;
    let read = |(key, bytes): (String, Vec<u8>)| {
        let read = stored_effect_from_json(&bytes).map(|(effect, traceparent)| OpenEffect {
            effect,
            traceparent,
        });
        read.map_err(|_| place.damaged(&format!("effect {key} cannot be read")))
    };
    rows.into_iter().map(read).collect()
}

/// Leaves from an index on; what was removed is left out.
pub(crate) async fn leaves(
    rows: &mut impl Rows,
    place: &Place,
    from: u64,
    limit: usize,
) -> Result<Vec<AuditLeaf>, PortError> {
    let limit = to_sql(limit.min(MAX_READ) as u64);
    let found = rows.leaves(to_sql(from), limit).await;
    let found = found.map_err(|source| place.failed(source))?;
    let first = found.first().map_or(from, |(at, ..)| from_sql(*at));
    let from = match first > from && retention::ends_before(rows, place, first).await? {
        true => first,
        false => from,
    };
    let gap = |index: u64| place.damaged(&format!("audit record {index} is missing"));
    let leaf = |((at, bytes, _), index): (LeafColumns, u64)| match from_sql(at) == index {
        true => Ok(AuditLeaf {
            index,
            bytes: Arc::from(bytes),
        }),
        false => Err(gap(index)),
    };
    found.into_iter().zip(from..).map(leaf).collect()
}

/// Roots of ranges of leaves, as proofs ask for them: full tiles by their stored roots, the rest by
/// their leaves.
async fn subtree_roots(
    rows: &mut impl Rows,
    place: &Place,
    ranges: &[Range<u64>],
) -> Result<Vec<Hash>, PortError> {
    let mut roots = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut frontier = Frontier::new();
        let mut at = range.start;
        if range.start.is_multiple_of(TILE_LEAVES) {
            let tiles = range.start / TILE_LEAVES..range.end / TILE_LEAVES;
            let roots = rows
                .tile_roots(to_sql(tiles.start), to_sql(tiles.end))
                .await;
            for root in whole(place, roots, &tiles)? {
                if !frontier.push_subtree(TILE_LEVEL, root) {
                    return Err(place.damaged(HOLE));
                }
            }
            at = tiles.end.max(tiles.start) * TILE_LEAVES;
        }
        let rest = at.max(range.start)..range.end;
        let leaves = rows.leaf_hashes(to_sql(rest.start), to_sql(rest.end)).await;
        let is_gone = !rest.is_empty() && leaves.as_ref().is_ok_and(Vec::is_empty);
        let removed = match is_gone {
            true => retention::hashes_of(rows, place, &rest).await?,
            false => None,
        };
        let leaves = match removed {
            Some(removed) => removed,
            None => whole(place, leaves, &rest)?,
        };
        leaves.into_iter().for_each(|leaf| frontier.push(leaf));
        roots.push(frontier.root());
    }
    Ok(roots)
}

/// The hashes of a range, when none is missing.
fn whole(
    place: &Place,
    read: Result<Vec<Vec<u8>>, sqlx::Error>,
    range: &Range<u64>,
) -> Result<Vec<Hash>, PortError> {
    let read = read.map_err(|source| place.failed(source))?;
    let hole = || place.damaged(HOLE);
    if read.len() as u64 != range.end.saturating_sub(range.start) {
        return Err(hole());
    }
    read.into_iter()
        .map(|row| Hash::try_from(row).map_err(|_| hole()))
        .collect()
}

/// Where the log ends, as the port says it.
pub(crate) async fn head(rows: &mut impl Rows, place: &Place) -> Result<Head, PortError> {
    let tail = tail(rows, place).await?;
    Ok(Head {
        number: tail.number,
        hash: tail.hash,
        audit_size: tail.frontier.size(),
        audit_root: tail.frontier.root(),
        checkpoint: tail.checkpoint,
    })
}

/// Proof that a leaf is in the tree of a size.
pub(crate) async fn inclusion_proof(
    rows: &mut impl Rows,
    place: &Place,
    (index, size): (u64, u64),
) -> Result<Vec<Hash>, PortError> {
    let whole = tail(rows, place).await?.frontier.size();
    let ranges = merkle::inclusion_ranges(index, size).filter(|_| size <= whole);
    let ranges = ranges.ok_or_else(|| {
        let text = format!("no audit record {index} in a tree of {size}; the tree has {whole}");
        PortError::new(ErrorKind::NotFound, text)
    })?;
    subtree_roots(rows, place, &ranges).await
}

/// Proof that the tree of `old` leaves is the beginning of the one of `new`.
pub(crate) async fn consistency_proof(
    rows: &mut impl Rows,
    place: &Place,
    (old, new): (u64, u64),
) -> Result<Vec<Hash>, PortError> {
    let size = tail(rows, place).await?.frontier.size();
    let ranges = merkle::consistency_ranges(old, new).filter(|_| new <= size);
    let ranges = ranges.ok_or_else(|| {
        let text = format!("no trees of {old} and then {new} audit records; there are {size}");
        PortError::new(ErrorKind::NotFound, text)
    })?;
    subtree_roots(rows, place, &ranges).await
}
