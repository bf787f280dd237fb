//! The bus server's permissions, expiry, eviction and TLS, asked of the real server.
//!
//! Needs `nats-server` of the supported versions; the message of a failing start says how to get it.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
#![allow(missing_docs, unreachable_pub, reason = "a test has no interface")]

mod client;
mod deployment;
mod eviction;
mod permissions;
mod server;
mod transport;
