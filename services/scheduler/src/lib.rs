//! The scheduler: when a secret's slot, a deadline or a retry is due, it submits the command.
//!
//! It folds events into a queue of timers and keeps nothing else: no file, no decision of its own.
//! Two schedulers are harmless, since a slot's id and its command's id follow from secret and
//! instant, and the core takes everything else once.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

mod presence;
pub mod schedule;
mod service;
pub mod timer;

pub use presence::Handle;
pub use service::{Error, Options, Scheduler};
