//! Notifications to receivers that listen, hang, fail and refuse, and signals from senders that sign, forge,
//! repeat and flood: a command bus over a journal in memory, and real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

mod bench;
mod compared;
mod crashes;
mod hook;
mod incoming;
mod mail;
mod misread;
mod nats;
mod outgoing;
mod store_sync;
