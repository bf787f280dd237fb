//! store-sync's encrypted cache: sealed secret versions in one SQLite file, or in a PostgreSQL
//! database that several store-syncs share.
//!
//! Owns the file `cache.db`, the tables and the persistent wrap counter. Invariants: no plaintext
//! and no key in the clear ever reaches the file or its log (WAL); a row opens only at its own place
//! (deployment, secret, version, purpose); the first value under a token wins; a destroyed version
//! never comes back; the wrap counter is durable before it is used; a KEK wraps for at most
//! [`MAX_KEK_AGE`]; one open cache per file. It does not decide which version is wanted, and it keeps no
//! value in memory between calls.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod cache;
mod copy;
mod error;
mod file;
mod keys;
mod postgres;
mod rekey;
mod reseal;
mod sqlite;
mod stash;
mod store_keys;
mod table;
#[cfg(test)]
mod tests;
mod vault;
mod versions;

pub use cache::{Cache, Inserted};
pub use copy::{Found, Still, check_file};
pub use error::{Error, Kind};
pub use file::MIN_SQLITE_VERSION;
pub use keys::MAX_KEK_AGE;
pub use keywheel_postgres::Address;
pub use postgres::PostgresCache;
pub use rekey::{REKEY_STEP, Rekeying, Stepped};
pub use reseal::RootMark;
pub use stash::{MAX_STASH_AGE, MAX_STASHED};
pub use store_keys::MAX_STORE_KEY_AGE;
