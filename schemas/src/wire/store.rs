//! Stores outside on the wire: what store-sync is told, and what its looks gave.

use keywheel_core::id::{SecretId, StoreId};
use keywheel_core::name::{SecretName, StoreName};
use keywheel_core::secret;
use keywheel_core::store::{self, RemoteVersion};

use crate::event::store::{NamedStore, Source};
use crate::mirror::{Text, mirror_enum, mirror_struct};

mirror_struct! {
    /// What changed about stores after an event's number.
    News = store::News {
        /// Up to which event this is all.
        through: u64,
        /// Whether there is more, after that event.
        more: bool,
        /// Stores.
        stores: Vec<StoreNow>,
        /// Secrets that lie outside, or did.
        secrets: Vec<SecretNow>,
    }
}

mirror_struct! {
    /// A store as it is now.
    StoreNow = store::StoreNow {
        /// The store.
        id: Text<StoreId>,
        /// As it is declared; absent when it was removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        store: Option<NamedStore>,
        /// Whether the log says that it does not answer.
        is_stale: bool,
        /// Secrets that hold its credentials.
        credentials: Vec<CredentialNow>,
    }
}

mirror_struct! {
    /// A secret of the store `local` that holds a credential of a store.
    CredentialNow = store::CredentialNow {
        /// Its name.
        name: Text<SecretName>,
        /// The secret.
        secret: Text<SecretId>,
        /// Its current version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
    }
}

mirror_struct! {
    /// Where outside.
    Place = secret::Place {
        /// The store.
        store: Text<StoreName>,
        /// Where in it.
        source: Source,
    }
}

mirror_struct! {
    /// A secret that lies outside, as it is now.
    SecretNow = store::SecretNow {
        /// The secret.
        secret: Text<SecretId>,
        /// Its name.
        name: Text<SecretName>,
        /// Where it lies; absent when it is in the store `local` now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
        /// The version there that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<Text<RemoteVersion>>,
        /// Our current version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<u64>,
        /// Whether Keywheel makes its values.
        is_generated: bool,
        /// Whether a rotation is under way.
        is_rotating: bool,
        /// Whether a person aborted that the known version is taken over: only a person's look does it again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_passed_over: bool,
        /// Leases of a container that are alive.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        leases: Vec<Text<RemoteVersion>>,
    }
}

mirror_struct! {
    /// A place that a secret is about to have.
    PlannedUse = store::PlannedUse {
        /// Where.
        source: Source,
        /// Whether Keywheel writes there.
        writes: bool,
    }
}

mirror_struct! {
    /// What a look at one secret's place gave.
    Looked = store::Looked {
        /// The secret.
        secret: Text<SecretId>,
        /// What was found.
        found: Found,
    }
}

mirror_enum! {
    /// What a look found.
    Found = store::Found {
        /// The version that is known, or another one with the same value.
        Unchanged {},
        /// Another value; a rotation takes it over.
        Changed {},
        /// Another value; it is looked at again when the rotation under way has ended.
        Busy {},
        /// Nothing.
        Absent {},
        /// The look failed.
        Failed {
            /// Why, and what to do about it.
            reason: String,
        },
    }
}
