//! Test code that several crates share: fakes of the ports, one conformance suite per port, real servers, small disks,
//! and programs that a test makes and runs.
//!
//! A fake and every adapter pass the same suite. Nothing here is shipped.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of it is test code"
)]

pub mod conformance;
pub mod disk;
pub mod executable;
pub mod fake;
mod hostile;
pub mod server;

pub use hostile::hostile;
