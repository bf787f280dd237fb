//! The bus: the signed wire form of a message, and the transport inside one process.
//!
//! Invariants: nothing is handed on that does not carry a trusted role's signature over its id,
//! sender, receiver, trace context and body, and that this role may send there; every refusal has a
//! type and is counted. A transport is never the only copy of anything. It decides nothing.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod body;
pub mod envelope;
mod in_process;
mod refusal;
mod word;

pub use envelope::{Identity, MAX_MESSAGE_BYTES, Trust};
pub use in_process::{ACK_TIMEOUT, InProcess, MAX_WAITING_REQUESTS};
pub use refusal::{Refusal, RefusalCounts};
