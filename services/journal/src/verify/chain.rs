//! Checks the events: numbers without a gap, the hash chain, signatures, and that every column says
//! what the signed bytes say.

use keywheel_engine::port::PortError;
use keywheel_schemas::event::{decode, subject, type_name};
use keywheel_seal::sign::VerifyingKey;

use super::{Faults, PAGE};
use crate::batch::{Tail, chain_hash};
use crate::merkle::Hash;
use crate::place::Place;
use crate::read::ProvenRow;
use crate::rows::{EventColumns, Rows};
use crate::tables::{from_sql, to_sql};

/// One row, whole.
struct Row {
    number: i64,
    id: Vec<u8>,
    aggregate: String,
    aggregate_sequence: i64,
    type_name: String,
    time: i64,
    bytes: Vec<u8>,
    hash: Vec<u8>,
    signature: Vec<u8>,
}

impl From<EventColumns> for Row {
    fn from(columns: EventColumns) -> Self {
        Self {
            number: columns.0,
            id: columns.1,
            aggregate: columns.2,
            aggregate_sequence: columns.3,
            type_name: columns.4,
            time: columns.5,
            bytes: columns.6,
            hash: columns.7,
            signature: columns.8,
        }
    }
}

/// Where the check stands.
struct Walk {
    next: u64,
    /// `None` behind a gap: what came before is not known.
    previous: Option<Vec<u8>>,
}

/// Checks all events; gives their count.
pub(super) async fn check(
    rows: &mut impl Rows,
    place: &Place,
    key: &VerifyingKey,
    tail: &Tail,
    faults: &mut Faults,
) -> Result<u64, PortError> {
    let mut walk = Walk {
        next: 1,
        previous: Some(vec![0; 32]),
    };
    let mut count = 0;
    loop {
        let after = to_sql(walk.next.saturating_sub(1));
        let page = rows.whole_events(after, to_sql(PAGE as u64)).await;
        let page = page.map_err(|source| place.failed(source))?;
        if page.is_empty() {
            break;
        }
        let page: Vec<Row> = page.into_iter().map(Row::from).collect();
        count += page.len() as u64;
        let signatures = page.iter().map(proven).collect();
        let page_faults: Vec<Option<String>> = page.iter().map(|row| walk.step(row)).collect();
        let signed = check_signatures(signatures, key.clone()).await;
        for ((row, fault), signed) in page.iter().zip(page_faults).zip(signed) {
            let unsigned = || {
                format!(
                    "event {}: its signature does not match",
                    from_sql(row.number)
                )
            };
            let fault = fault.or_else(|| (!signed).then(unsigned));
            fault.into_iter().for_each(|fault| faults.add(fault));
        }
    }
    check_head(&walk, tail, faults);
    let hidden = rows.unnumbered_event().await;
    if let Some(number) = hidden.map_err(|source| place.failed(source))? {
        faults.add(format!("event {number}: it stands outside of the log"));
    }
    // Behind a fault named by number, gaps of aggregates are only its shadow.
    if faults.is_empty() {
        check_sequences(rows, place, faults).await?;
    }
    Ok(count)
}

impl Walk {
    /// The first thing wrong with a row, if any; the walk goes on behind it.
    fn step(&mut self, row: &Row) -> Option<String> {
        let number = from_sql(row.number);
        let gap = self.gap_before(number);
        let previous = self.previous.replace(row.hash.clone());
        let chained = previous.is_none_or(|previous| is_chained(&previous, row));
        self.next = number.saturating_add(1);
        if gap.is_some() {
            return gap;
        }
        if !chained {
            let text = "its hash does not follow from its bytes and the event before it";
            return Some(format!("event {number}: {text}"));
        }
        differing_column(row).map(|column| format!("event {number}: {column}"))
    }

    fn gap_before(&mut self, number: u64) -> Option<String> {
        let last = number.saturating_sub(1);
        let gap = match last.saturating_add(1).checked_sub(self.next) {
            None | Some(0) => return None,
            Some(1) => format!("event {last} is missing"),
            Some(_) => format!("events {} to {last} are missing", self.next),
        };
        self.previous = None;
        Some(gap)
    }
}

fn proven(row: &Row) -> ProvenRow {
    ProvenRow {
        number: from_sql(row.number),
        bytes: Vec::new(),
        hash: row.hash.clone(),
        signature: row.signature.clone(),
    }
}

fn is_chained(previous: &[u8], row: &Row) -> bool {
    Hash::try_from(previous)
        .is_ok_and(|previous| chain_hash(&previous, &row.bytes).as_slice() == row.hash)
}

/// What a column says that the bytes do not, or why they cannot be read.
fn differing_column(row: &Row) -> Option<String> {
    let (meta, event) = match decode(&row.bytes) {
        Ok(read) => read,
        Err(error) => return Some(format!("its bytes cannot be read: {error}")),
    };
    let columns = [
        ("number", meta.number == from_sql(row.number)),
        ("id", meta.id.bytes().as_slice() == row.id),
        ("aggregate", subject(&event) == row.aggregate),
        (
            "aggregate_sequence",
            meta.aggregate_sequence == from_sql(row.aggregate_sequence),
        ),
        ("type", type_name(&event) == row.type_name),
        ("time", meta.time.micros() == row.time),
    ];
    let (name, _) = columns.iter().find(|(_, same)| !same)?;
    Some(format!(
        "its column `{name}` is not what its signed bytes say"
    ))
}

/// Checks signatures on all cores, away from the runtime's own threads.
async fn check_signatures(rows: Vec<ProvenRow>, key: VerifyingKey) -> Vec<bool> {
    let count = rows.len();
    let work = move || {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = rows.len().div_ceil(cores).max(1);
        let mut signed = vec![false; rows.len()];
        std::thread::scope(|scope| {
            for (rows, signed) in rows.chunks(share).zip(signed.chunks_mut(share)) {
                let key = &key;
                scope.spawn(move || {
                    for (row, signed) in rows.iter().zip(signed) {
                        *signed = row.is_signed_by(key);
                    }
                });
            }
        });
        signed
    };
    // A check that did not end counts as failed.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| vec![false; count])
}

fn check_head(walk: &Walk, tail: &Tail, faults: &mut Faults) {
    let last = walk.next.saturating_sub(1);
    if last < tail.number {
        faults.add(match tail.number - last {
            1 => format!("event {} is missing: the head names it", tail.number),
            _ => format!(
                "events {} to {} are missing: the head names them",
                walk.next, tail.number
            ),
        });
    } else if last > tail.number {
        faults.add(format!(
            "event {}: the head ends before it, at {}",
            walk.next - 1,
            tail.number
        ));
    } else if walk
        .previous
        .as_deref()
        .is_some_and(|hash| hash != tail.hash)
    {
        faults.add(format!("head: its hash is not that of event {last}"));
    }
}

/// Every aggregate's sequences are 1, 2, 3, …: they are unique, so their largest is their count.
async fn check_sequences(
    rows: &mut impl Rows,
    place: &Place,
    faults: &mut Faults,
) -> Result<(), PortError> {
    let aggregates = rows.gapped_aggregates(to_sql(PAGE as u64)).await;
    let aggregates = aggregates.map_err(|source| place.failed(source))?;
    for aggregate in aggregates {
        faults.add(format!("aggregate {aggregate}: its sequence has a gap"));
    }
    Ok(())
}
