//! The rules of Keywheel, pure: which command leads to which events, what events mean, and what
//! they ask of the shell.
//!
//! Invariant: nothing here waits, reads a clock, draws randomness, serialises or does IO. Secret
//! values do not appear, not even sealed. Folding is total.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod approval;
pub mod assignment;
pub mod audit;
pub mod binding;
pub mod command;
pub mod decision;
pub mod effect;
pub mod event;
pub mod host;
pub mod id;
pub mod lease;
pub mod name;
pub mod notification;
pub mod plan;
pub mod playbook;
pub mod playbook_run;
pub mod policy;
pub mod report;
pub mod resource;
pub mod revocation;
pub mod rollout;
pub mod rotation;
pub mod schedule;
pub mod secret;
pub mod signal;
pub mod store;
#[cfg(test)]
mod testing;
pub mod time;
pub mod token;
pub mod world;
