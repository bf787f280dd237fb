//! Stores outside: which there are, what lies in them, and looking there for changes.
//!
//! Owns the live stores, made from what the gateway tells; nothing of it is on a disk. Invariants:
//! versions are compared before a value is asked for; a slow or dead store delays no other; one
//! observation leads to at most one rotation, and a value that did not change to none. It decides
//! nothing: what is seen is told to the gateway.

mod credentials;
mod health;
mod look;
mod now;
mod registry;
mod sweep;
mod trial;
mod watch;

#[cfg(test)]
pub(crate) use credentials::Book;
pub use health::{MAX_STORE_FACTS, STALE_AFTER_POLLS};
pub use look::{BEHIND_POLLS, BEHIND_SPAN, FETCH_RETRY_LIMIT, LOOK_SPAN};
pub(crate) use now::look_now;
pub(crate) use registry::{Parts, Registry};
pub use sweep::{MAX_LOOKS, MAX_SILENT};
pub(crate) use trial::check;
pub use watch::{BACKOFF_LIMIT, NEWS_TIMEOUT};
pub(crate) use watch::{hear_of, watch};
