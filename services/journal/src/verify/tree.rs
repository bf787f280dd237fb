//! Checks the audit tree: every leaf against its hash, every tile against its root, every stored
//! checkpoint against its signature and the tree of its size, and the head against all of it.

use std::path::Path;

use keywheel_engine::port::PortError;
use keywheel_seal::sign::VerifyingKey;
use sqlx::SqliteConnection;

use super::{Faults, PAGE};
use crate::batch::Tail;
use crate::checkpoint::Checkpoint;
use crate::fault;
use crate::merkle::{self, Frontier, Hash};
use crate::tables::{TILE_LEAVES, TILE_LEVEL, from_sql, to_sql};

/// The log's name and key.
type Owner<'a> = (&'a str, &'a VerifyingKey);

/// Where the check stands.
struct Walk {
    next: u64,
    /// Leaves since the last full tile.
    tile: Frontier,
    /// Full tiles, by their stored roots: a damaged tile does not taint those behind it.
    whole: Frontier,
    /// Whether the open tile has a fault already.
    named: bool,
}

/// Checks all audit records; gives their count.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    path: &Path,
    owner: Owner<'_>,
    tail: &Tail,
    faults: &mut Faults,
) -> Result<u64, PortError> {
    let mut walk = Walk {
        next: 0,
        tile: Frontier::new(),
        whole: Frontier::new(),
        named: false,
    };
    let mut count = 0;
    let size = signed_size(owner, tail);
    'pages: loop {
        let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "SELECT place, bytes, leaf_hash FROM audit WHERE place >= ? ORDER BY place LIMIT ?",
        )
        .bind(to_sql(walk.next))
        .bind(to_sql(PAGE as u64))
        .fetch_all(&mut *connection)
        .await
        .map_err(|source| fault::port(path, source))?;
        if rows.is_empty() {
            break;
        }
        count += rows.len() as u64;
        for (place, bytes, stored) in rows {
            if from_sql(place) > walk.next && from_sql(place) >= size {
                break 'pages;
            }
            walk.fill_gap(connection, path, owner, from_sql(place), faults)
                .await?;
            let hash = merkle::leaf_hash(&bytes);
            if stored != hash {
                faults.add(format!(
                    "audit record {}: its bytes are not those of its leaf",
                    walk.next
                ));
                walk.named = true;
            }
            // The stored hash keeps the tree whole when only the bytes were edited.
            walk.push(
                connection,
                path,
                owner,
                Hash::try_from(stored).unwrap_or(hash),
                faults,
            )
            .await?;
        }
    }
    walk.check_head(owner, tail, faults);
    let sql = "SELECT place FROM audit WHERE place < 0 OR place >= ? ORDER BY place LIMIT 1";
    let outside: Option<i64> = sqlx::query_scalar(sql)
        .bind(to_sql(walk.next))
        .fetch_optional(connection)
        .await
        .map_err(|source| fault::port(path, source))?;
    if let Some(place) = outside {
        faults.add(format!(
            "audit record {place}: it stands outside of the tree"
        ));
    }
    Ok(count)
}

/// Size of the tree, if the head's checkpoint really says so. Gaps are filled up to it only, so that
/// a row moved far away does not keep the check busy for ever.
fn signed_size((origin, key): Owner<'_>, tail: &Tail) -> u64 {
    let signed = Checkpoint::verify(&tail.checkpoint, origin, key);
    signed.map_or(0, |signed| signed.size)
}

impl Walk {
    /// Names missing leaves and puts something in their place, so that tiles stay aligned.
    async fn fill_gap(
        &mut self,
        connection: &mut SqliteConnection,
        path: &Path,
        owner: Owner<'_>,
        place: u64,
        faults: &mut Faults,
    ) -> Result<(), PortError> {
        let Some(last) = place.checked_sub(1).filter(|last| *last >= self.next) else {
            return Ok(());
        };
        faults.add(missing(self.next, last));
        while self.next < place {
            self.named = true;
            if self.tile.size() == 0 && place - self.next > TILE_LEAVES {
                // Whole tiles are gone: their stored roots still stand for them.
                let skipped = (place - self.next) / TILE_LEAVES;
                for _ in 0..skipped {
                    self.next += TILE_LEAVES;
                    self.named = true;
                    self.close_tile(connection, path, owner, None, faults)
                        .await?;
                }
                continue;
            }
            self.push(connection, path, owner, [0; 32], faults).await?;
        }
        Ok(())
    }

    async fn push(
        &mut self,
        connection: &mut SqliteConnection,
        path: &Path,
        owner: Owner<'_>,
        leaf: Hash,
        faults: &mut Faults,
    ) -> Result<(), PortError> {
        self.tile.push(leaf);
        self.next += 1;
        if self.tile.size() < TILE_LEAVES {
            return Ok(());
        }
        let root = self.tile.root();
        self.tile = Frontier::new();
        self.close_tile(connection, path, owner, Some(root), faults)
            .await
    }

    /// Compares a full tile with its stored root and signed checkpoint.
    async fn close_tile(
        &mut self,
        connection: &mut SqliteConnection,
        path: &Path,
        owner: Owner<'_>,
        computed: Option<Hash>,
        faults: &mut Faults,
    ) -> Result<(), PortError> {
        let size = self.next;
        let row: Option<(Vec<u8>, String)> =
            sqlx::query_as("SELECT root, checkpoint FROM tile WHERE place = ?")
                .bind(to_sql((size / TILE_LEAVES).saturating_sub(1)))
                .fetch_optional(connection)
                .await
                .map_err(|source| fault::port(path, source))?;
        let stored = row
            .as_ref()
            .and_then(|(root, _)| Hash::try_from(root.as_slice()).ok());
        if !self.named && stored.is_some() && computed != stored {
            faults.add(format!(
                "audit records {} to {}: they do not give their tile's root",
                size - TILE_LEAVES,
                size - 1
            ));
        }
        self.named = false;
        if !self
            .whole
            .push_subtree(TILE_LEVEL, stored.or(computed).unwrap_or_default())
        {
            faults.add(format!(
                "checkpoint of size {size}: the tree has a hole before it"
            ));
        }
        match row {
            None => faults.add(format!("checkpoint of size {size} is missing")),
            Some((_, note)) => check_note(owner, &note, size, &self.whole.root(), faults),
        }
        Ok(())
    }

    fn check_head(&self, owner: Owner<'_>, tail: &Tail, faults: &mut Faults) {
        let size = tail.frontier.size();
        if self.next < size {
            faults.add(missing(self.next, size - 1));
        } else if self.next > size {
            faults.add(format!("audit record {size}: the head ends before it"));
        }
        check_note(owner, &tail.checkpoint, size, &tail.frontier.root(), faults);
        if self.next != size || self.named {
            return;
        }
        if self.tile != tail.frontier.beyond(TILE_LEVEL) {
            let from = size - self.tile.size();
            faults.add(format!(
                "audit records {from} to {}: they do not give the root of the head",
                size - 1
            ));
        }
    }
}

fn missing(first: u64, last: u64) -> String {
    if first == last {
        format!("audit record {first} is missing")
    } else {
        format!("audit records {first} to {last} are missing")
    }
}

fn check_note((origin, key): Owner<'_>, note: &str, size: u64, root: &Hash, faults: &mut Faults) {
    match Checkpoint::verify(note, origin, key) {
        Err(error) => faults.add(format!("checkpoint of size {size}: {error}")),
        Ok(signed) if signed.size != size || signed.root != *root => {
            faults.add(format!("checkpoint of size {size}: it signs another tree"));
        }
        Ok(_) => {}
    }
}
