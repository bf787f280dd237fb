//! How a failure of the server becomes a failure at the port.
//!
//! A lost connection is `Unavailable`, not the end: the server keeps its own promise about what it
//! acknowledged, and stops by itself when its disk breaks it.

use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_postgres::fault::{Fault, sort, text};

use crate::fault::taken;

/// A failure of a statement.
pub(crate) fn port(name: &str, source: sqlx::Error) -> PortError {
    let fault = sort(&source);
    let words = match fault {
        Fault::Taken => taken(&source),
        _ => text(fault, "journal", name),
    };
    PortError::caused(kind(fault), words, source)
}

/// A failure before the journal was open.
pub(super) fn opening(error: keywheel_postgres::Error) -> PortError {
    use keywheel_postgres::Error;
    let kind = match error {
        Error::Gone { .. } => ErrorKind::Unavailable,
        Error::Failed { .. } => ErrorKind::Corrupt,
        _ => ErrorKind::Denied,
    };
    let text = format!("the journal cannot be opened: {error}");
    PortError::caused(kind, text, error)
}

fn kind(fault: Fault) -> ErrorKind {
    match fault {
        Fault::Taken | Fault::Race => ErrorKind::Conflict,
        Fault::Full | Fault::Busy | Fault::Gone | Fault::Standby => ErrorKind::Unavailable,
        Fault::Refused => ErrorKind::Denied,
        Fault::Damaged | Fault::Unknown => ErrorKind::Corrupt,
    }
}
