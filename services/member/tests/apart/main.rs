//! Members of a deployment over a real bus server with TLS, whose credentials live for seconds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests may stop at once"
)]

mod deployment;
mod renewal;
mod rollover;
