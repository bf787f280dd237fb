//! Kernel access for the host injector: secret file systems, joining a container's mount namespace, procfs, keyring.
//!
//! Owns the only `unsafe` of the workspace (module `raw`). Everything works on file descriptors; no function resolves
//! the same path string twice, and no path is built by joining strings. All calls block: an async caller runs them on
//! a blocking thread. This crate decides nothing about secrets: it neither knows who may have one nor keeps a value;
//! it gives memory that is fit for one (module `locked`).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod boot;
mod error;
pub mod filter;
pub mod first_use;
pub mod harden;
pub mod keyring;
pub mod locked;
pub mod memory;
#[doc(hidden)]
pub mod mountinfo;
pub mod nsjoin;
pub mod procfs;
#[doc(hidden)]
pub mod raw;
pub mod scrub;
pub mod secretfs;
#[doc(hidden)]
pub mod wire;

pub use error::Error;
