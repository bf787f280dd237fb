//! Stores: where the values of secrets live, each behind the engine's `Rotator` port.
//!
//! Owns the `local` store, whose only backend is our own sealed vault, and the
//! stores outside behind the port `Store`; and the keys of key services outside, which share their way there (port
//! `KeyService`). Invariants: every step is idempotent under the rotation's
//! token; no text of an error holds a value. It keeps nothing itself and decides nothing: the core says
//! which step comes when.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod aws;
mod connector;
mod failpoint;
pub mod file;
pub mod http;
mod kept;
mod lease;
mod local;
pub mod policy;
mod remote;
#[cfg(test)]
mod testing;
pub mod vault;

pub use connector::Connector;
pub use failpoint::FAILPOINTS;
pub use kept::KeptRotator;
pub use lease::{LeaseRotator, forget_leases};
pub use local::LocalStore;
pub use remote::RemoteRotator;
pub use vault::VaultStore;
