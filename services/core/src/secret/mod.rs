//! The secret: its versions and stages, the dead set, and which hosts may hold what.
//!
//! Invariants: version numbers only grow; at most one `pending`, `current` and `previous`; a dead
//! version has no stage and is never delivered; what is kept for templates is older than what is current. No
//! value is here, not even sealed.

mod event;
mod lease;
mod remotes;
mod retained;
mod state;
#[cfg(test)]
mod tests;

pub use event::Event;
pub use state::{Rejection, Secret};

use crate::lease::Lease;
use crate::name::StoreName;
use crate::resource::Resource;
use crate::schedule::RotationPolicy;
use crate::store::{RemoteVersion, Source};

/// Fewest characters of a generated value.
pub const MIN_LENGTH: u32 = 1;
/// Most characters of a generated value.
pub const MAX_LENGTH: u32 = 4096;
/// Most characters in an alphabet or an exclusion list.
pub const MAX_ALPHABET: usize = 256;
/// Characters of a generated value when none are named: printable, without quotes, `/`, `\\` and backtick.
pub const DEFAULT_ALPHABET: &str =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&()*+,-.:;<=>?@[]^_{|}~";

/// Name of the store that is always there.
pub const LOCAL_STORE: &str = "local";
/// Versions of the store outside that are kept in mind per secret; the oldest that are not ours go
/// first.
pub const KEPT_REMOTES: usize = 64;

/// Where the values live.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Store {
    /// Our sealed store.
    #[default]
    Local,
    /// A declared store.
    Outside(Place),
}

/// Where outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The store.
    pub store: StoreName,
    /// Where in it.
    pub source: Source,
}

/// A version outside that holds one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// What the store calls it.
    pub remote: RemoteVersion,
    /// Our version.
    pub version: u64,
    /// Whether Keywheel wrote it.
    pub written: bool,
}

/// How a new value is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generator {
    /// Characters in a value.
    pub length: u32,
    /// Characters to draw from; empty means the default alphabet.
    pub alphabet: String,
    /// Characters never drawn.
    pub exclude: String,
}

impl Default for Generator {
    fn default() -> Self {
        Self {
            length: 32,
            alphabet: String::new(),
            exclude: String::new(),
        }
    }
}

/// What a person asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spec {
    /// Where the values live.
    pub store: Store,
    /// How a new value is made; `None` for a secret whose values are always provided.
    pub generator: Option<Generator>,
    /// When it rotates by itself.
    pub rotation: RotationPolicy,
    /// The server at which it is a credential of Keywheel's own, as [`Backend::server`] says it. Fixed
    /// before the first value comes: no value that was given for something else is sent to a store.
    ///
    /// [`Backend::server`]: crate::store::Backend::server
    pub credential_for: Option<String>,
    /// The resource whose accounts its versions open; `None` for a value that opens none.
    pub rotator: Option<Box<Resource>>,
    /// How it has to do with leases; `None` for a secret that has a value of its own.
    pub lease: Option<Box<Lease>>,
}
