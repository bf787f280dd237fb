//! Turns decisions into rows: numbers, chain, signatures, leaves, checkpoints.
//!
//! Invariant: pure but for the key; the tail it starts from is not touched, the tail it ends at
//! counts only after the commit. It knows no database: every adapter writes the same rows.

use std::collections::HashMap;
use std::sync::Arc;

use keywheel_core::effect::Effect;
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, EventId};
use keywheel_engine::port::journal::{Decision, RecordedEvent};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::event::{EventMeta, MAX_EVENT_BYTES, encode, subject};
use keywheel_schemas::wire::{audit_record_to_json, effect_key_to_string, stored_effect_to_json};
use keywheel_seal::sign::SigningKey;
use sha2::{Digest as _, Sha256};

use crate::checkpoint::Checkpoint;
use crate::merkle::{self, Frontier, Hash};
use crate::tables::{TILE_LEAVES, TILE_LEVEL};
use crate::verdict;

/// Context of the signature over an event's chain hash.
pub(crate) const EVENT_CONTEXT: &str = "keywheel/journal/event/v1";

/// What signs, and under which names.
pub(crate) struct Signer {
    /// The gateway's key.
    pub(crate) key: SigningKey,
    /// Name of the audit log.
    pub(crate) origin: String,
    /// `source` of every event.
    pub(crate) source: String,
}

/// Where the log ends.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    pub(crate) number: u64,
    pub(crate) hash: Hash,
    pub(crate) frontier: Frontier,
    pub(crate) checkpoint: String,
}

/// A batch ready to be written, all of it in one transaction.
pub(crate) struct Batch {
    /// Commands and the stored form of their answers.
    pub(crate) answers: Vec<(CommandId, String)>,
    /// New events.
    pub(crate) events: Vec<EventRow>,
    /// Keys and stored forms of what is asked of workers, from the tail's number on.
    pub(crate) effects: Vec<(String, Vec<u8>)>,
    /// Keys of what was answered.
    pub(crate) closes: Vec<String>,
    /// New audit records.
    pub(crate) leaves: Vec<LeafRow>,
    /// Tiles they completed.
    pub(crate) tiles: Vec<TileRow>,
    /// Where the log ends after it.
    pub(crate) tail: Tail,
    /// Last sequence of every aggregate it touched.
    pub(crate) sequences: HashMap<String, u64>,
}

/// One event with the names its row needs.
pub(crate) struct EventRow {
    pub(crate) recorded: RecordedEvent,
    pub(crate) aggregate: String,
    pub(crate) sequence: u64,
}

/// One leaf of the audit tree.
pub(crate) struct LeafRow {
    pub(crate) place: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: Hash,
}

/// One full tile of the audit tree.
pub(crate) struct TileRow {
    pub(crate) place: u64,
    pub(crate) root: Hash,
    pub(crate) checkpoint: String,
}

impl Batch {
    /// What the caller gets.
    pub(crate) fn recorded(&self) -> Vec<RecordedEvent> {
        self.events.iter().map(|row| row.recorded.clone()).collect()
    }
}

/// Chain hash of an event.
pub(crate) fn chain_hash(previous: &Hash, bytes: &[u8]) -> Hash {
    Sha256::new()
        .chain_update(previous)
        .chain_update(bytes)
        .finalize()
        .into()
}

impl Signer {
    /// Signs a tree.
    pub(crate) fn checkpoint(&self, frontier: &Frontier) -> String {
        let (size, root) = (frontier.size(), frontier.root());
        Checkpoint {
            origin: self.origin.clone(),
            size,
            root,
        }
        .sign(&self.key)
    }

    /// Prepares a batch. `sequences` holds the last sequence of every aggregate of the batch.
    pub(crate) fn prepare(
        &self,
        tail: &Tail,
        mut sequences: HashMap<String, u64>,
        decisions: &[Decision],
    ) -> Result<Batch, PortError> {
        let mut tail = tail.clone();
        let mut events = Vec::new();
        let (mut leaves, mut tiles) = (Vec::new(), Vec::new());
        for decision in decisions {
            for (id, event) in &decision.events {
                events.push(self.event_row(&mut tail, &mut sequences, decision, *id, event)?);
            }
            for record in &decision.audit {
                let (leaf, tile) = leaf_row(&mut tail.frontier, audit_record_to_json(record));
                leaves.push(leaf);
                tiles.extend(tile.map(|root| self.tile_row(&tail.frontier, root)));
            }
        }
        if !leaves.is_empty() {
            tail.checkpoint = self.checkpoint(&tail.frontier);
        }
        let effects = decisions.iter().flat_map(|decision| {
            let trace = decision.traceparent.as_deref();
            let row = move |effect: &Effect| {
                let key = effect_key_to_string(&effect.key());
                (key, stored_effect_to_json(effect, trace))
            };
            decision.effects.iter().map(row)
        });
        let closes = decisions.iter().flat_map(|decision| &decision.closes);
        Ok(Batch {
            answers: answers(decisions)?,
            events,
            effects: effects.collect(),
            closes: closes.map(effect_key_to_string).collect(),
            leaves,
            tiles,
            tail,
            sequences,
        })
    }

    fn event_row(
        &self,
        tail: &mut Tail,
        sequences: &mut HashMap<String, u64>,
        decision: &Decision,
        id: EventId,
        event: &Event,
    ) -> Result<EventRow, PortError> {
        let number = tail.number.saturating_add(1);
        let aggregate = subject(event);
        let last = sequences.entry(aggregate.clone()).or_insert(0);
        let sequence = last.saturating_add(1);
        let meta = EventMeta {
            id,
            number,
            aggregate_sequence: sequence,
            time: decision.time,
            source: self.source.clone(),
            traceparent: decision.traceparent.clone(),
            causation: decision.command,
            previous_hash: tail.hash,
        };
        let bytes: Arc<[u8]> = encode(&meta, event).into();
        if bytes.len() > MAX_EVENT_BYTES {
            let text = format!(
                "an event of {aggregate} has {} bytes; at most {MAX_EVENT_BYTES} are kept",
                bytes.len()
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        let hash = chain_hash(&tail.hash, &bytes);
        let signature = self.key.sign(EVENT_CONTEXT, &hash).to_bytes();
        *last = sequence;
        tail.number = number;
        tail.hash = hash;
        let event = event.clone();
        let recorded = RecordedEvent {
            number,
            id,
            time: decision.time,
            traceparent: decision.traceparent.clone(),
            event,
            bytes,
            hash,
            signature,
        };
        Ok(EventRow {
            recorded,
            aggregate,
            sequence,
        })
    }

    /// The row of the tile that the newest leaf completed.
    fn tile_row(&self, frontier: &Frontier, root: Hash) -> TileRow {
        let place = (frontier.size() / TILE_LEAVES).saturating_sub(1);
        TileRow {
            place,
            root,
            checkpoint: self.checkpoint(frontier),
        }
    }
}

/// Appends a leaf; also gives the root of its tile when it is the tile's last.
fn leaf_row(frontier: &mut Frontier, bytes: Vec<u8>) -> (LeafRow, Option<Hash>) {
    let hash = merkle::leaf_hash(&bytes);
    let place = frontier.size();
    let mut tile = frontier.beyond(TILE_LEVEL);
    tile.push(hash);
    let root = (tile.size() == TILE_LEAVES).then(|| tile.root());
    frontier.push(hash);
    (LeafRow { place, bytes, hash }, root)
}

/// Stored forms of the answers.
fn answers(decisions: &[Decision]) -> Result<Vec<(CommandId, String)>, PortError> {
    let broken = |source| {
        PortError::caused(
            ErrorKind::Denied,
            "the answer to a command cannot be written",
            source,
        )
    };
    let answer = |d: &Decision| verdict::encode(&d.verdict).map(|text| (d.command, text));
    let answers = decisions.iter().map(answer);
    answers.collect::<Result<_, _>>().map_err(broken)
}
