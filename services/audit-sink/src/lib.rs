//! audit-sink: the audit's second copy, in a file of its own, and the sinks that are told from it.
//!
//! Owns the file `audit-sink.db`. Invariants: records are kept in tree order without a gap, each
//! once; what was kept is never changed, and a record that differs from the kept one is an alarm; a
//! message is acknowledged only when its record is on disk. It trusts no transport to be complete:
//! what is missing is read from the gateway's log. It verifies no proof. Where records go onward is
//! the configuration's alone ([`OnwardOptions`]): no request, message or record names a place.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
mod file;
mod kept;
mod onward;
mod presence;
mod sink;

pub use error::AuditSinkError;
pub use kept::KeptRecords;
pub use onward::{LONGEST_PAUSE, MAX_BATCH, OnwardOptions, SEND_TIMEOUT, Standing};
pub use sink::{AuditSink, AuditSinkOptions, CONSUMER, Handle, MAX_HELD};
