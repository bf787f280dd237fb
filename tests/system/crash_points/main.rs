//! Suite crash_points: see README.md beside this file.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

mod accounts;
#[expect(dead_code, reason = "nobody sends requests to it here")]
#[path = "../under_load/app.rs"]
mod app;
mod creates;
mod deeds;
mod keys;
mod moves;
#[expect(dead_code, reason = "the order alone is looked at here")]
#[path = "../under_load/order.rs"]
mod order;
mod playbooks;
mod revokes;
mod rotations;
mod servers;
mod walk;
