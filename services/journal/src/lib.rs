//! The journal: the log of record and its audit tree, in SQLite or PostgreSQL.
//!
//! Owns the file, its tables, the hash chain, the signatures and the Merkle tree. Invariants: an
//! append is one durable transaction or nothing; one process owns a journal at a time; the tail in
//! memory moves only after the commit. It decides nothing and knows no secret value. The modules
//! `merkle`, `checkpoint`, `offline` and `evidence` are pure and need no database.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods,
        reason = "tests may stop at once"
    )
)]

mod batch;
pub mod checkpoint;
mod copy;
mod deliveries;
pub mod evidence;
mod fault;
mod file;
mod lock;
pub mod merkle;
pub mod offline;
mod opening;
mod place;
mod postgres;
mod read;
mod reserve;
pub mod retention;
mod rows;
mod script;
mod sqlite;
mod subscriptions;
mod tables;
mod verdict;
mod verify;

pub use copy::{Copying, Still, records_of_file, removed_hashes_of_file};
pub use file::MIN_SQLITE_VERSION;
pub use postgres::{PostgresJournal, verify_database};
pub use reserve::{RECORD_FLOOR, RESERVE_BYTES, RESTORE_HEADROOM, REVOCATION_ROOM};
pub use sqlite::{JournalOptions, SqliteJournal};
pub use verify::verify_file;

#[cfg(test)]
mod tests;
