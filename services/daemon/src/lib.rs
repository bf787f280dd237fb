//! What every service shares when it runs: the real clock and ids, settings, logging, orderly stopping, lock
//! files, named failpoints.
//!
//! Invariant: this crate holds the only calls of the wall clock, the random source for ids, the
//! environment and the unbounded world of signals; everyone else is handed ports. It decides
//! nothing about secrets and logs no value. Hardening of the running program is `keywheel-sys`'s.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod clock;
pub mod env;
pub mod failpoint;
mod ids;
mod journald;
pub mod lines;
mod lock;
mod logging;
pub mod names;
pub mod panics;
pub mod readiness;
mod runtime;
pub mod settings;
mod shutdown;

pub use clock::SystemClock;
pub use ids::SystemIds;
pub use journald::lines_lost;
pub use lock::take_lock;
pub use logging::{LogFormat, LoggingError, chain, init_logging};
pub use runtime::{THREADS_GRACE, run_to_end};
pub use shutdown::{DEFAULT_GRACE, Shutdown, SignalError};
