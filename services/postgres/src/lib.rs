//! How keywheel talks to a PostgreSQL server: address, session, tables, and what a failure means.
//!
//! Owns what the journal's and the cache's adapters share. Invariants: a password comes from a file
//! and never stands in an address; beyond this machine every connection is TLS with the server's
//! name checked; a commit is acknowledged only when it is on disk (E1), asked of the server itself;
//! no session holds a lock for longer than [`session::MAX_IDLE_IN_TRANSACTION`] without working, so
//! that a paused process stops nobody. It knows no table of ours.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod address;
mod error;
pub mod fault;
pub mod session;
pub mod verifier;

pub use address::Address;
pub use error::Error;
