//! The ports: what the application layer asks of the outside world. One file each, laws in its docs.
//!
//! Adapters implement them in crates of their own; a fake and every adapter pass the same
//! conformance suite.

pub mod accounts;
pub mod bus;
pub mod clock;
pub mod container_host;
pub mod deliveries;
pub mod failpoint;
pub mod ids;
pub mod journal;
pub mod key_service;
pub mod leases;
pub mod outside;
pub mod provider;
pub mod rotator;
pub mod store;
pub mod subscriptions;
pub mod vault;

/// What sort of failure it was. Retrying follows this and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Somebody else was first; read again and decide anew.
    Conflict,
    /// The thing does not exist.
    NotFound,
    /// The other side knows us and says no.
    Denied,
    /// It may work later: down, slow, full.
    Unavailable,
    /// What was read is not what was written; a person has to look.
    Corrupt,
}

impl ErrorKind {
    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
        }
    }
}

/// A failure at a port: its kind, the operation in words, and what lay beneath.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct PortError {
    /// What sort of failure.
    pub kind: ErrorKind,
    /// What was tried on what, lower case, without the source.
    pub text: String,
    /// What lay beneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl PortError {
    /// A failure with nothing beneath it.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
    }

    /// A failure with what lay beneath it.
    pub fn caused(
        kind: ErrorKind,
        text: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            text: text.into(),
            source: Some(source.into()),
        }
    }
}
