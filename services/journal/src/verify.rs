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
use keywheel_schemas::wire::{effect_from_json, effect_key_to_string};
use keywheel_seal::sign::VerifyingKey;
use sqlx::SqliteConnection;

use crate::batch::Tail;
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

/// Checks everything.
pub(crate) async fn run(
    path: &Path,
    origin: &str,
    key: VerifyingKey,
) -> Result<Verification, PortError> {
    let mut connection = file::open_reader(path).await?;
    let begun = sqlx::query("BEGIN").execute(&mut connection).await;
    begun.map_err(|source| fault::port(path, source))?;
    let tail = read::tail(&mut connection, path).await?;
    let mut faults = Faults::default();
    let events = chain::check(&mut connection, path, &key, &tail, &mut faults).await?;
    let audit_records =
        tree::check(&mut connection, path, (origin, &key), &tail, &mut faults).await?;
    check_answers(&mut connection, path, &mut faults).await?;
    check_effects(&mut connection, path, &mut faults).await?;
    check_process_checkpoints(&mut connection, path, &tail, &mut faults).await?;
    file::close(path, connection).await?;
    Ok(Verification {
        events,
        audit_records,
        faults: faults.0,
    })
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
    let owner: Result<(String, Vec<u8>), _> =
        sqlx::query_as("SELECT origin, public_key FROM log WHERE id = 1")
            .fetch_one(&mut connection)
            .await;
    file::close(path, connection).await?;
    let (origin, key) = owner.map_err(|source| fault::port(path, source))?;
    let key = <[u8; 32]>::try_from(key)
        .ok()
        .and_then(|key| VerifyingKey::from_bytes(key).ok());
    let key = key.ok_or_else(|| fault::damaged(path, "it names no signing key"))?;
    let verifier_key = checkpoint::verifier_key(&origin, &key);
    run(path, &origin, key)
        .await
        .map(|verification| (verification, verifier_key))
}

async fn check_answers(
    connection: &mut SqliteConnection,
    path: &Path,
    faults: &mut Faults,
) -> Result<(), PortError> {
    let mut after: Vec<u8> = Vec::new();
    loop {
        let rows: Vec<(Vec<u8>, String)> =
            sqlx::query_as("SELECT id, verdict FROM command WHERE id > ? ORDER BY id LIMIT ?")
                .bind(after.clone())
                .bind(to_sql(PAGE as u64))
                .fetch_all(&mut *connection)
                .await
                .map_err(|source| fault::port(path, source))?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        after.clone_from(last);
        for (id, text) in &rows {
            let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            if verdict::decode(text).is_err() {
                faults.add(format!("command {id}: its answer cannot be read"));
            }
        }
    }
}

async fn check_effects(
    connection: &mut SqliteConnection,
    path: &Path,
    faults: &mut Faults,
) -> Result<(), PortError> {
    let mut after = 0;
    loop {
        let rows: Vec<(i64, String, Vec<u8>)> = sqlx::query_as(
            "SELECT place, key, bytes FROM effect WHERE place > ? ORDER BY place LIMIT ?",
        )
        .bind(after)
        .bind(to_sql(PAGE as u64))
        .fetch_all(&mut *connection)
        .await
        .map_err(|source| fault::port(path, source))?;
        let Some((last, _, _)) = rows.last() else {
            return Ok(());
        };
        after = *last;
        for (_, key, bytes) in &rows {
            let read = effect_from_json(bytes).map(|effect| effect_key_to_string(&effect.key()));
            if read.ok().as_ref() != Some(key) {
                faults.add(format!(
                    "effect {key}: its bytes are not the effect of that key"
                ));
            }
        }
    }
}

async fn check_process_checkpoints(
    connection: &mut SqliteConnection,
    path: &Path,
    tail: &Tail,
    faults: &mut Faults,
) -> Result<(), PortError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT name, number FROM process_checkpoint ORDER BY name")
            .fetch_all(connection)
            .await
            .map_err(|source| fault::port(path, source))?;
    for (name, number) in rows {
        if from_sql(number) != tail.number {
            let (number, head) = (from_sql(number), tail.number);
            faults.add(format!(
                "process {name}: its checkpoint is {number}, the log ends at {head}"
            ));
        }
    }
    Ok(())
}
