//! The injector with an engine and a bus, each file an aim of its own, in one program: it is linked once, and what waits
//! for containers in one file waits beside the others.
//!
//! Needs what `support` asks for. Labels of containers at the machine's engine are no two files' own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::await_holding_lock,
    unreachable_pub,
    dead_code
)]

mod away;
mod comeback;
mod containers;
mod engine_away;
mod late_list;
mod lost;
mod orders;
mod refused;
mod restarts;
mod runtime;
mod several;
mod staged;
mod stale;
mod support;
