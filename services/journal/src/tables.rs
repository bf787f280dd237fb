//! The tables, and the one place that turns numbers into SQLite's and back.
//!
//! Invariant: every table is STRICT, so that no edit can change a column's type. A later format
//! gets a higher `user_version` and an upgrade; older builds refuse it.

use keywheel_engine::port::journal::REMOVAL_UNIT;

/// Format of the tables.
pub(crate) const FORMAT: i64 = 1;

/// Leaves per tile of the audit tree; a signed checkpoint is kept for every full one, and records are removed by tiles.
pub(crate) const TILE_LEAVES: u64 = REMOVAL_UNIT;
/// Level of a tile's root in the tree.
pub(crate) const TILE_LEVEL: u32 = 8;

/// Names of the process managers whose checkpoints move with every append.
pub(crate) const PROCESS_MANAGERS: [&str; 2] = ["revocation", "rotation"];

/// Every table. `aggregate` is the event's subject; `tile` holds the roots of full tiles, so that a
/// proof reads a few hundred rows and not the whole tree.
pub(crate) const TABLES: &str = "
CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    deployment BLOB NOT NULL,
    origin TEXT NOT NULL,
    public_key BLOB NOT NULL
) STRICT;
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,
    hash BLOB NOT NULL,
    audit_size INTEGER NOT NULL,
    frontier BLOB NOT NULL,
    checkpoint TEXT NOT NULL
) STRICT;
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    aggregate TEXT NOT NULL,
    aggregate_sequence INTEGER NOT NULL,
    type TEXT NOT NULL,
    time INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    hash BLOB NOT NULL,
    signature BLOB NOT NULL,
    UNIQUE (aggregate, aggregate_sequence)
) STRICT;
CREATE TABLE command (
    id BLOB PRIMARY KEY,
    verdict TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE effect (
    place INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    number INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed'))
) STRICT;
CREATE INDEX effect_open ON effect (place) WHERE state = 'open';
CREATE TABLE audit (
    place INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
) STRICT;
CREATE TABLE tile (
    place INTEGER PRIMARY KEY,
    root BLOB NOT NULL,
    checkpoint TEXT NOT NULL
) STRICT;
CREATE TABLE process_checkpoint (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// A number for SQLite; beyond its range there is no row anyway.
pub(crate) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number from SQLite; a negative one is no number of ours and reads as one that does not exist.
pub(crate) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_a_subtree_of_its_level() {
        assert_eq!(TILE_LEAVES, 1 << TILE_LEVEL);
    }
}
