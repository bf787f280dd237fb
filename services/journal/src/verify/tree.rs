//! Checks the audit tree: every leaf against its hash, every tile against its root, every stored
//! checkpoint against its signature and the tree of its size, and the head against all of it. Where records were
//! removed by their age their hashes stand for them, and a record of the audit has to say so.

use keywheel_engine::port::PortError;
use keywheel_seal::sign::VerifyingKey;

use super::{Faults, PAGE};
use crate::batch::Tail;
use crate::checkpoint::Checkpoint;
use crate::merkle::{self, Frontier, Hash};
use crate::place::Place;
use crate::retention;
use crate::rows::Rows;
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
    /// The number behind the last record that is gone, and whose hash stayed.
    removed: u64,
    /// Up to where the audit itself says that records left.
    claimed: u64,
}

/// What was read of the audit.
pub(super) struct Read {
    /// Records.
    pub(super) records: u64,
    /// Records that are gone, and whose hashes stayed.
    pub(super) removed: u64,
}

/// Checks all audit records, and the hashes of those that were removed.
pub(super) async fn check(
    rows: &mut impl Rows,
    place: &Place,
    owner: Owner<'_>,
    tail: &Tail,
    faults: &mut Faults,
) -> Result<Read, PortError> {
    let mut walk = Walk {
        next: 0,
        tile: Frontier::new(),
        whole: Frontier::new(),
        named: false,
        removed: 0,
        claimed: 0,
    };
    let mut count = 0;
    let size = signed_size(owner, tail);
    'pages: loop {
        let page = rows.leaves(to_sql(walk.next), to_sql(PAGE as u64)).await;
        let page = page.map_err(|source| place.failed(source))?;
        if page.is_empty() {
            break;
        }
        count += page.len() as u64;
        for (at, bytes, stored) in page {
            let at = from_sql(at);
            if at > walk.next && at >= size {
                break 'pages;
            }
            walk.fill_gap(rows, place, owner, at, faults).await?;
            let hash = merkle::leaf_hash(&bytes);
            if stored != hash {
                faults.add(format!(
                    "audit record {}: its bytes are not those of its leaf",
                    walk.next
                ));
                walk.named = true;
            }
            if walk.removed > 0 {
                walk.claimed = retention::let_go(walk.claimed, &bytes);
            }
            // The stored hash keeps the tree whole when only the bytes were edited.
            let leaf = Hash::try_from(stored).unwrap_or(hash);
            walk.push(rows, place, owner, leaf, faults).await?;
        }
    }
    walk.check_head(owner, tail, faults);
    walk.check_removed(faults);
    let outside = rows.leaf_outside(to_sql(walk.next)).await;
    if let Some(at) = outside.map_err(|source| place.failed(source))? {
        faults.add(format!("audit record {at}: it stands outside of the tree"));
    }
    Ok(Read {
        records: count,
        removed: walk.removed,
    })
}

/// Size of the tree, if the head's checkpoint really says so. Gaps are filled up to it only, so that
/// a row moved far away does not keep the check busy for ever.
fn signed_size((origin, key): Owner<'_>, tail: &Tail) -> u64 {
    let signed = Checkpoint::verify(&tail.checkpoint, origin, key);
    signed.map_or(0, |signed| signed.size)
}

impl Walk {
    /// Goes through the hashes of tiles whose records were removed.
    async fn take_removed(
        &mut self,
        rows: &mut impl Rows,
        place: &Place,
        owner: Owner<'_>,
        to: u64,
        faults: &mut Faults,
    ) -> Result<(), PortError> {
        while self.tile.size() == 0 && self.next.saturating_add(TILE_LEAVES) <= to {
            let tile = self.next / TILE_LEAVES;
            let Some(hashes) = retention::tile(rows, place, tile).await? else {
                return Ok(());
            };
            for leaf in hashes {
                self.push(rows, place, owner, leaf, faults).await?;
            }
            self.removed = self.next;
        }
        Ok(())
    }

    fn check_removed(&self, faults: &mut Faults) {
        if self.removed > self.claimed {
            faults.add(format!(
                "audit records {} to {}: they are gone, and no record of the audit says that they leave",
                self.claimed,
                self.removed - 1
            ));
        }
    }

    /// Names missing leaves and puts something in their place, so that tiles stay aligned.
    async fn fill_gap(
        &mut self,
        rows: &mut impl Rows,
        place: &Place,
        owner: Owner<'_>,
        to: u64,
        faults: &mut Faults,
    ) -> Result<(), PortError> {
        self.take_removed(rows, place, owner, to, faults).await?;
        let Some(last) = to.checked_sub(1).filter(|last| *last >= self.next) else {
            return Ok(());
        };
        faults.add(missing(self.next, last));
        while self.next < to {
            self.named = true;
            if self.tile.size() == 0 && to - self.next > TILE_LEAVES {
                // Whole tiles are gone: their stored roots still stand for them.
                let skipped = (to - self.next) / TILE_LEAVES;
                for _ in 0..skipped {
                    self.next += TILE_LEAVES;
                    self.named = true;
                    self.close_tile(rows, place, owner, None, faults).await?;
                }
                continue;
            }
            self.push(rows, place, owner, [0; 32], faults).await?;
        }
        Ok(())
    }

    async fn push(
        &mut self,
        rows: &mut impl Rows,
        place: &Place,
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
        self.close_tile(rows, place, owner, Some(root), faults)
            .await
    }

    /// Compares a full tile with its stored root and signed checkpoint.
    async fn close_tile(
        &mut self,
        rows: &mut impl Rows,
        place: &Place,
        owner: Owner<'_>,
        computed: Option<Hash>,
        faults: &mut Faults,
    ) -> Result<(), PortError> {
        let size = self.next;
        let number = (size / TILE_LEAVES).saturating_sub(1);
        let row = rows.tile(to_sql(number)).await;
        let row = row.map_err(|source| place.failed(source))?;
        let stored = row
            .as_ref()
            .and_then(|(root, _)| Hash::try_from(root.as_slice()).ok());
        if !self.named && row.is_some() && computed != stored {
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
