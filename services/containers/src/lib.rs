//! The Docker engine behind the engine's container port.
//!
//! Owns every word spoken on the engine's socket. Invariants: no call carries or returns a value of
//! a secret; of a container's env only entries with a placeholder are kept; a container is named by
//! its full id. It decides nothing: who is served, restarted or stopped is the injector's matter.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod disk;
mod docker;
mod events;
mod form;
mod look;
mod own;
mod when;
mod wire;

pub use docker::{DockerHost, DockerOptions, OptionsError};
