//! Turns decisions into rows: numbers, chain, signatures, leaves, checkpoints.
//!
//! Invariant: pure but for the key; the tail it starts from is not touched, the tail it ends at is
//! taken over by the caller only after the commit.

use std::collections::HashMap;
use std::sync::Arc;

use keywheel_core::event::Event;
use keywheel_core::id::EventId;
use keywheel_engine::port::journal::{Decision, RecordedEvent};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::event::{EventMeta, MAX_EVENT_BYTES, encode, subject, type_name};
use keywheel_schemas::wire::{audit_record_to_json, effect_key_to_string, effect_to_json};
use keywheel_seal::sign::SigningKey;
use sha2::{Digest as _, Sha256};

use crate::checkpoint::Checkpoint;
use crate::merkle::{self, Frontier, Hash};
use crate::script::Script;
use crate::tables::{TILE_LEAVES, TILE_LEVEL, to_sql};
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

/// A batch ready to be written.
pub(crate) struct Batch {
    /// Everything to run, from BEGIN to COMMIT.
    pub(crate) script: Script,
    /// Where the log ends after it.
    pub(crate) tail: Tail,
    /// Last sequence of every aggregate it touched.
    pub(crate) sequences: HashMap<String, u64>,
    /// What the caller gets.
    pub(crate) recorded: Vec<RecordedEvent>,
}

/// One event with the names its row needs.
struct EventRow {
    recorded: RecordedEvent,
    aggregate: String,
    sequence: u64,
}

struct LeafRow {
    place: u64,
    bytes: Vec<u8>,
    hash: Hash,
}

struct TileRow {
    place: u64,
    root: Hash,
    checkpoint: String,
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
        let recorded = events.iter().map(|row| row.recorded.clone()).collect();
        let mut script = Script::default();
        script.statement("BEGIN IMMEDIATE");
        write_answers(&mut script, decisions)?;
        write_events(&mut script, events);
        write_effects(&mut script, decisions, tail.number);
        write_tree(&mut script, leaves, tiles);
        write_tail(&mut script, &tail);
        script.statement("COMMIT");
        Ok(Batch {
            script,
            tail,
            sequences,
            recorded,
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

fn write_answers(script: &mut Script, decisions: &[Decision]) -> Result<(), PortError> {
    let broken = |source| {
        PortError::caused(
            ErrorKind::Denied,
            "the answer to a command cannot be written",
            source,
        )
    };
    let answers = decisions
        .iter()
        .map(|d| verdict::encode(&d.verdict).map(|text| (d.command, text)));
    let answers = answers.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    script.insert(
        "INSERT INTO command (id, verdict)",
        "(?, ?)",
        answers.into_iter(),
        |script, (id, text)| {
            script.bind(id.bytes().to_vec()).bind(text);
        },
    );
    Ok(())
}

fn write_events(script: &mut Script, rows: Vec<EventRow>) {
    let into = "INSERT INTO event \
        (number, id, aggregate, aggregate_sequence, type, time, bytes, hash, signature)";
    script.insert(
        into,
        "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows.into_iter(),
        |script, row| {
            let event = row.recorded;
            script
                .bind(to_sql(event.number))
                .bind(event.id.bytes().to_vec())
                .bind(row.aggregate)
                .bind(to_sql(row.sequence))
                .bind(type_name(&event.event))
                .bind(event.time.micros())
                .bind(event.bytes)
                .bind(event.hash.to_vec())
                .bind(event.signature.to_vec());
        },
    );
}

fn write_effects(script: &mut Script, decisions: &[Decision], number: u64) {
    let effects: Vec<_> = decisions
        .iter()
        .flat_map(|decision| &decision.effects)
        .collect();
    let into = "INSERT INTO effect (key, number, bytes, state)";
    script.insert(
        into,
        "(?, ?, ?, 'open')",
        effects.into_iter(),
        |script, effect| {
            let key = effect_key_to_string(&effect.key());
            script
                .bind(key)
                .bind(to_sql(number))
                .bind(effect_to_json(effect));
        },
    );
    for key in decisions.iter().flat_map(|decision| &decision.closes) {
        script
            .statement("UPDATE effect SET state = 'closed' WHERE key = ?")
            .bind(effect_key_to_string(key));
    }
}

fn write_tree(script: &mut Script, leaves: Vec<LeafRow>, tiles: Vec<TileRow>) {
    let into = "INSERT INTO audit (place, bytes, leaf_hash)";
    script.insert(into, "(?, ?, ?)", leaves.into_iter(), |script, leaf| {
        script
            .bind(to_sql(leaf.place))
            .bind(leaf.bytes)
            .bind(leaf.hash.to_vec());
    });
    let into = "INSERT INTO tile (place, root, checkpoint)";
    script.insert(into, "(?, ?, ?)", tiles.into_iter(), |script, tile| {
        script
            .bind(to_sql(tile.place))
            .bind(tile.root.to_vec())
            .bind(tile.checkpoint);
    });
}

fn write_tail(script: &mut Script, tail: &Tail) {
    script
        .statement("UPDATE head SET number = ?, hash = ?, audit_size = ?, frontier = ?, checkpoint = ? WHERE id = 1")
        .bind(to_sql(tail.number))
        .bind(tail.hash.to_vec())
        .bind(to_sql(tail.frontier.size()))
        .bind(tail.frontier.to_bytes())
        .bind(tail.checkpoint.clone());
    script
        .statement("UPDATE process_checkpoint SET number = ?")
        .bind(to_sql(tail.number));
}
