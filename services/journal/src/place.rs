//! Where a journal is kept, and how what fails there becomes a failure at the port.

use std::fmt;
use std::path::{Path, PathBuf};

use keywheel_engine::port::PortError;

use crate::{fault, postgres};

/// A file, or a database of a server.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// An SQLite file.
    File(PathBuf),
    /// A PostgreSQL database, as `database at host`.
    Server(String),
}

impl Place {
    /// The file at a path.
    pub(crate) fn file(path: &Path) -> Self {
        Self::File(path.to_owned())
    }

    /// A failure of the database.
    pub(crate) fn failed(&self, source: sqlx::Error) -> PortError {
        match self {
            Self::File(path) => fault::port(path, source),
            Self::Server(name) => postgres::fault::port(name, source),
        }
    }

    /// Bytes that are not what was written.
    pub(crate) fn damaged(&self, what: &str) -> PortError {
        fault::damaged(self, what)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server(name) => f.write_str(name),
        }
    }
}
