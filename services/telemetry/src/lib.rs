//! What a deployment looks like from outside: every metric by name, and the page that Prometheus reads;
//! every span by name, and the exporter that tells them to a collector.

//!
//! Services hand in numbers; names, units, labels and their bounds are this crate's. Invariants: no
//! metric is shown that [`names`] does not have; a label has no more values than its bound says,
//! whatever is handed in; pages are plain HTTP, so only on loopback or a unix socket. It keeps no
//! number of its own and sees no secret value.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod deploy;
mod endpoint;
mod instance;
pub mod names;
mod page;
pub mod traces;

pub use endpoint::{
    Endpoint, EndpointError, HEAD_TIMEOUT, Listen, MAX_CONNECTIONS, READ_TIMEOUT, Source,
};
pub use instance::{Instance, LogLines};
pub use page::{OTHER, Page};
