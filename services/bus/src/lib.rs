//! The bus: the signed wire form of a message, the transport inside one process, and NATS.
//!
//! Invariants: nothing is handed on that does not carry a trusted role's signature over its id,
//! sender, receiver, trace context and body, and that this role may send there; every refusal has a
//! type and is counted. A transport is never the only copy of anything. It decides nothing.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod body;
mod ends;
pub mod envelope;
mod in_process;
mod nats;
pub mod outward;
mod refusal;
mod trust;
mod window;
mod word;

pub use envelope::MAX_MESSAGE_BYTES;
pub use in_process::{ACK_TIMEOUT, InProcess, MAX_WAITING_REQUESTS};
pub use nats::{
    CHECK_INTERVAL, ClaimsDesk, ConnectError, Credentials, DUPLICATE_WINDOW, MAX_AGE, MAX_PLANS,
    MAX_UNSTORED, MIN_MAX_PAYLOAD, MemberFiles, Nats, NatsHealth, NatsOptions, PLAN_STREAM_BYTES,
    SERVER_FLOOR, START_TIMEOUT, STREAM_BYTES, Tls, Unfit,
};
pub use nats::{greeting, monitor};
pub use refusal::{LOG_INTERVAL, Refusal, RefusalCounts};
pub use trust::{Identity, Trust};
