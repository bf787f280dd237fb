//! Backups of what one `keywheel up` keeps: made while it runs, verified without it, restored into an empty directory.
//!
//! A backup has the identity, the cache and the journal of one moment (`make`), in a file that only the deployment's
//! unseal key opens (`pack`). Invariants: no value is opened to make, verify or restore one; nothing that opens it lies
//! in it; what is not exactly what was written is refused whole (`open`); a directory that has something is never
//! restored into, and one that is older than what others remember is served only once two people said so (`restore`,
//! `up::restored`).

pub(crate) mod fetch;
pub(crate) mod make;
pub(crate) mod older;
pub(crate) mod open;
pub(crate) mod pack;
pub(crate) mod restore;
