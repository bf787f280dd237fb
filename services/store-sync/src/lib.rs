//! store-sync: performs the steps of rotations against stores, and gives hosts the values they were
//! granted.
//!
//! Owns the order of work per secret; the key to which provided values are sealed is the cache's, so
//! that any of several store-syncs opens them. Invariants: an effect may come any number of times and has its result once; work is
//! acknowledged only after its outcome was answered; a value leaves only sealed to the key of a host
//! whose grant the gateway confirmed just before; while it is sealed it opens none and takes no work. It decides nothing and keeps no journal.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod armed;
mod backlog;
mod compare;
mod effect;
mod metrics;
mod outside;
mod presence;
pub mod seal;
mod service;
#[cfg(test)]
mod tests;
mod value;
mod vault;

pub use armed::ArmedFailpoints;
pub use backlog::{
    MAX_EMERGENCIES_PER_STORE, MAX_PARKED, MAX_QUEUED, MAX_RUNNING_OUTSIDE, MAX_RUNNING_PER_STORE,
    MAX_TAKEN_OUTSIDE, MAX_TAKEN_PER_STORE,
};
pub use compare::MAX_COMPARING;
pub use effect::{STEP_DEADLINE, SUBMIT_TIMEOUT};
pub use metrics::Metrics;
pub use outside::{
    BACKOFF_LIMIT, BEHIND_POLLS, BEHIND_SPAN, FETCH_RETRY_LIMIT, LOOK_SPAN, MAX_LOOKS, MAX_SILENT,
    MAX_STORE_FACTS, NEWS_TIMEOUT, STALE_AFTER_POLLS,
};
pub use presence::Handle;
pub use service::{
    CONSUMER, MAX_RUNNING, MAX_RUNNING_IN_EMERGENCY, Ports, RETRY_DELAY, STOP_GRACE, StoreSync,
    StoreSyncError, StoreSyncOptions,
};
pub use value::{GRANT_TIMEOUT, MAX_ANSWERING, MAX_ASKING_STORES};
pub use vault::Watched;
