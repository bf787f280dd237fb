//! The full check: every hash, signature, sequence, leaf, tile and checkpoint, from the first row.
//!
//! Invariants: it reads one snapshot over a connection of its own and changes nothing; every fault
//! names the event number or the index of the audit record; one damaged row is one fault, not a
//! fault for every row behind it. Work is done in pages, so memory stays bounded.

mod chain;
mod tree;

use std::path::Path;

use keywheel_engine::port::journal::Verification;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::wire::{effect_key_to_string, stored_effect_from_json};
use keywheel_seal::sign::VerifyingKey;

use crate::batch::Tail;
use crate::place::Place;
use crate::rows::{OwnerColumns, Rows};
use crate::tables::{from_sql, to_sql};
use crate::{checkpoint, fault, file, read, verdict};

/// Rows per page.
const PAGE: usize = 1000;
/// Most faults that are listed; one more says that there are more.
pub(crate) const MAX_FAULTS: usize = 100;

/// What is wrong, first first.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, fault: String) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(fault);
        } else if self.0.len() == MAX_FAULTS {
            self.0.push(format!(
                "more than {MAX_FAULTS} faults; the rest is not listed"
            ));
        }
    }
}

/// Checks everything over one connection, which the caller has begun a snapshot on.
pub(crate) async fn over(
    rows: &mut impl Rows,
    place: &Place,
    origin: &str,
    key: &VerifyingKey,
) -> Result<Verification, PortError> {
    let tail = read::tail(rows, place).await?;
    let mut faults = Faults::default();
    let events = chain::check(rows, place, key, &tail, &mut faults).await?;
    let tree = tree::check(rows, place, (origin, key), &tail, &mut faults).await?;
    check_answers(rows, place, &mut faults).await?;
    check_effects(rows, place, &mut faults).await?;
    check_process_checkpoints(rows, place, &tail, &mut faults).await?;
    Ok(Verification {
        events,
        audit_records: tree.records,
        faults: faults.0,
        removed_records: tree.removed,
    })
}

/// Checks everything in a file.
pub(crate) async fn run(
    path: &Path,
    origin: &str,
    key: VerifyingKey,
) -> Result<Verification, PortError> {
    let mut connection = file::open_reader(path).await?;
    let begun = sqlx::query("BEGIN").execute(&mut connection).await;
    begun.map_err(|source| fault::port(path, source))?;
    let verification = over(&mut connection, &Place::file(path), origin, &key).await?;
    file::close(path, connection).await?;
    Ok(verification)
}

/// Checks a journal that nobody needs to have opened, by the name and the key written in it. Whose
/// key that is, the caller compares with what he got elsewhere.
///
/// # Errors
/// When the file is no journal or cannot be read.
pub async fn verify_file(path: &Path) -> Result<(Verification, String), PortError> {
    if !path.is_file() {
        let text = format!("there is no journal at {}", path.display());
        return Err(PortError::new(ErrorKind::NotFound, text));
    }
    let mut connection = file::open_reader(path).await?;
    let owner = connection.owner().await;
    file::close(path, connection).await?;
    let place = Place::file(path);
    let owner = owner.map_err(|source| place.failed(source))?;
    let (origin, key, verifier_key) = named_owner(owner, &place)?;
    let verification = run(path, &origin, key).await?;
    Ok((verification, verifier_key))
}

/// The name and key written in a log, and the key as tools take it.
pub(crate) fn named_owner(
    owner: Option<OwnerColumns>,
    place: &Place,
) -> Result<(String, VerifyingKey, String), PortError> {
    let (_, origin, key) = owner.ok_or_else(|| place.damaged("it names no owner"))?;
    let key = <[u8; 32]>::try_from(key).ok();
    let key = key.and_then(|key| VerifyingKey::from_bytes(key).ok());
    let key = key.ok_or_else(|| place.damaged("it names no signing key"))?;
    let verifier_key = checkpoint::verifier_key(&origin, &key);
    Ok((origin, key, verifier_key))
}

async fn check_answers(
    rows: &mut impl Rows,
    place: &Place,
    faults: &mut Faults,
) -> Result<(), PortError> {
    let mut after: Vec<u8> = Vec::new();
    loop {
        let page = rows.answers(&after, to_sql(PAGE as u64)).await;
        let page = page.map_err(|source| place.failed(source))?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after.clone_from(last);
        for (id, text) in &page {
            let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            if verdict::decode(text).is_err() {
                faults.add(format!("command {id}: its answer cannot be read"));
            }
        }
    }
}

async fn check_effects(
    rows: &mut impl Rows,
    place: &Place,
    faults: &mut Faults,
) -> Result<(), PortError> {
    let mut after = 0;
    loop {
        let page = rows.effects(after, to_sql(PAGE as u64)).await;
        let page = page.map_err(|source| place.failed(source))?;
        let Some((last, _, _)) = page.last() else {
            return Ok(());
        };
        after = *last;
        for (_, key, bytes) in &page {
            let read = stored_effect_from_json(bytes);
            let read = read.map(|(effect, _)| effect_key_to_string(&effect.key()));
            if read.ok().as_ref() != Some(key) {
                faults.add(format!(
                    "effect {key}: its bytes are not the effect of that key"
                ));
            }
        }
    }
}

async fn check_process_checkpoints(
    rows: &mut impl Rows,
    place: &Place,
    tail: &Tail,
    faults: &mut Faults,
) -> Result<(), PortError> {
    let checkpoints = rows.process_checkpoints().await;
    let checkpoints = checkpoints.map_err(|source| place.failed(source))?;
    for (name, number) in checkpoints {
        if from_sql(number) != tail.number {
            let (number, head) = (from_sql(number), tail.number);
            faults.add(format!(
                "process {name}: its checkpoint is {number}, the log ends at {head}"
            ));
        }
    }
    Ok(())
}
