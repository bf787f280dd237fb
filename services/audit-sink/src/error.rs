//! What can go wrong with the copy.

use std::path::PathBuf;

use keywheel_engine::port::PortError;

/// The copy cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditSinkError {
    /// The file cannot be made or opened.
    #[error("the audit copy {path} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The file cannot be made.
    #[error("the audit copy {path} cannot be made")]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be read or written now.
    #[error("the audit copy {path} cannot be read or written")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// It was written by a newer build, or by something else.
    #[error(
        "the audit copy {path} has format {found}, this build reads format {known}; use a newer keywheel"
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: i64,
        /// What this build knows.
        known: i64,
    },
    /// Records are missing between the first and the last.
    #[error(
        "the audit copy {path} has {found} records where {expected} belong; keep the file as evidence and start with a new one"
    )]
    Hole {
        /// The file.
        path: PathBuf,
        /// How many there are.
        found: u64,
        /// How many there should be.
        expected: u64,
    },
    /// Audit records cannot be read from the bus.
    #[error("audit records cannot be read from the bus")]
    Subscribe(#[source] PortError),
}

impl AuditSinkError {
    /// Whether the file was read in order and has no records' table yet: its sink's first start did not come so far.
    #[must_use]
    pub fn is_unmade(&self) -> bool {
        let Self::Open {
            source: sqlx::Error::Database(error),
            ..
        } = self
        else {
            return false;
        };
        error.message().starts_with("no such table")
    }
}
