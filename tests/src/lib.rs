//! The harness of the system suites: real binaries, real Docker, one scratch
//! directory per test.
//!
//! Owns: starting and killing `keywheel up` or the same as many processes over
//! NATS, running its client, images and containers without a registry, and the
//! canary search of rule C1.
//! Invariant: everything a value of this crate made is removed when it is
//! dropped, also after a failure. It knows the product only by its binaries.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

pub mod apart;
pub mod audited;
pub mod canary;
pub mod census;
pub mod database;
pub mod docker;
pub mod engine;
pub mod engine_tap;
pub mod fleet;
pub mod incident;
pub mod keywheel;
pub mod lan;
pub mod manifest;
pub mod memory;
pub mod metrics;
pub mod ocsf;
pub mod output;
pub mod places;
pub mod planted;
pub mod process;
pub mod programs;
pub mod reader;
pub mod receiver;
pub mod scratch;
#[cfg(test)]
mod scripts;
pub mod shares;
pub mod spans;
pub mod stage;
pub mod tap;
pub mod terminal;
pub mod testapp;
pub mod wait;
