//! What store-sync is told about stores outside, and what it says when it was asked to look.

use super::{NamedStore, RemoteVersion, Source};
use crate::id::{SecretId, StoreId};
use crate::name::SecretName;
use crate::secret::Place;

/// Most changes in one answer; events that belong together are never parted.
pub const MAX_NEWS: usize = 1000;

/// What changed about stores after an event's number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// Up to which event this is all.
    pub through: u64,
    /// Whether there is more, after that event.
    pub more: bool,
    /// Stores.
    pub stores: Vec<StoreNow>,
    /// Secrets that lie outside, or did.
    pub secrets: Vec<SecretNow>,
}

/// A store as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreNow {
    /// The store.
    pub id: StoreId,
    /// As it is declared; `None` when it was removed.
    pub store: Option<NamedStore>,
    /// Whether the log says that it does not answer: whichever store-sync reaches it says otherwise.
    pub is_stale: bool,
    /// Secrets that hold its credentials.
    pub credentials: Vec<CredentialNow>,
}

/// A secret of the store `local` that holds a credential of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialNow {
    /// Its name.
    pub name: SecretName,
    /// The secret.
    pub secret: SecretId,
    /// Its current version.
    pub version: Option<u64>,
}

/// A secret that lies outside, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretNow {
    /// The secret.
    pub secret: SecretId,
    /// Its name.
    pub name: SecretName,
    /// Where it lies; `None` when it is in the store `local` now.
    pub place: Option<Place>,
    /// The version there that is known.
    pub known: Option<RemoteVersion>,
    /// Our current version.
    pub current: Option<u64>,
    /// Whether Keywheel makes its values.
    pub is_generated: bool,
    /// Whether a rotation is under way. One that waits for nothing but the end of a lease before is over for that.
    pub is_rotating: bool,
    /// Whether a person aborted that the known version is taken over: only a person's look does it again.
    pub is_passed_over: bool,
    /// Leases of a container that are alive: each is renewed, also the one that another takes the place of.
    pub leases: Vec<RemoteVersion>,
}

/// A place that a secret is about to have: its rights are asked for before it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedUse {
    /// Where.
    pub source: Source,
    /// Whether Keywheel writes there.
    pub writes: bool,
}

/// What a look at one secret's place gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The secret.
    pub secret: SecretId,
    /// What was found.
    pub found: Found,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The version that is known, or another one with the same value.
    Unchanged,
    /// Another value; a rotation takes it over.
    Changed,
    /// Another value; it is looked at again when the rotation that is under way has ended.
    Busy,
    /// Nothing.
    Absent,
    /// The look failed.
    Failed {
        /// Why, and what to do about it.
        reason: String,
    },
}
