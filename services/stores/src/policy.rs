//! The least rights that we need at a store, as a policy in that store's own language.
//!
//! Pure text from what was declared; it asks nobody. An administrator of the store reads it, and puts
//! it there.

use keywheel_core::store::{Backend, Source, StoreSpec};

use crate::{aws, vault};

/// What we do at one place in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Values come from there.
    Read,
    /// We rotate what lies there, or a person puts it by us; includes reading.
    Write,
}

/// A place, and what we do there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where.
    pub source: Source,
    /// What.
    pub access: Access,
}

/// The policy for these places at this store.
#[must_use]
pub fn policy(spec: &StoreSpec, grants: &[Grant]) -> String {
    match &spec.backend {
        Backend::Vault(spec) => vault::policy::text(spec, grants),
        Backend::Aws(spec) => aws::policy::text(spec, grants),
    }
}
