//! The bus over real servers, each file an aim of its own, in one program: it is linked once, and what waits for a
//! server in one file waits beside the others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod at_rest;
mod backlog;
mod conformance;
mod faults;
mod start;
mod support;
mod tls;
mod turns;
