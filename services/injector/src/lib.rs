//! The injector: one per host, it owns the last metre between a sealed value and a container.
//!
//! Invariants: it reconciles what is towards the host plan and never goes back to an older
//! generation; entitlement is decided here, from the engine's facts and the plan's bindings, never
//! from a label or placeholder alone; a value is open only while it is written; nothing of ours is
//! held while the engine works; without the control plane it serves what the last verified plan
//! grants, from the encrypted host cache, until the lease is over. It speaks to no store, keeps no journal and decides no rotation.

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

pub mod apart;
mod attach;
mod begun;
mod contact;
mod decide;
mod enrolment;
mod error;
mod executed;
mod few;
mod form;
mod gate;
mod granted;
mod host_cache;
pub mod join;
mod kept;
mod keyring;
mod lease;
mod leases;
mod metrics;
mod model;
mod options;
mod origin;
mod places;
mod presence;
mod reconcile;
mod refused;
mod reload;
mod report;
mod returning;
mod runtime;
mod service;
mod shared;
mod spool;
mod stale;
mod state;
mod swap;
mod turns;
mod uses;

pub use contact::{FRESH_WAIT, HEAD_AGE_LIMIT, HEARTBEAT};
pub use error::InjectorError;
pub use metrics::HostMetrics;
pub use options::{
    HOST_LEASE, HostCache, HostSettings, InjectorOptions, LeasePolicy, RUNTIME_PREFIX,
};
pub use presence::HostLook;
pub use returning::Returning;
pub use runtime::wire::{MAX_ENV_VALUE_BYTES, MAX_LINE_BYTES};
pub use service::{Handle, Injector, Status};
