//! The application layer: submits, process managers and projections, generic over ports.
//!
//! It knows no database, no broker, no engine and no wire form.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod anchors;
pub mod auditing;
pub mod authority;
pub mod command_bus;
pub mod comparison;
pub mod delivery;
pub mod generator;
pub mod late;
pub mod port;
pub mod presence;
pub mod publisher;
pub mod replay;
pub mod stash;
pub mod state;
pub mod tally;
pub mod trace;
pub mod unseal;
pub mod until;
