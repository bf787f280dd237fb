//! How a failure beneath becomes a failure at the port: its kind, and words for a person.
//!
//! Invariant: a full disk and a taken name leave the journal usable; any other failure of a write
//! is `Corrupt`, after which the process has to end (rule E9). No text quotes what was written.

use std::fmt;
use std::path::Path;

use keywheel_engine::port::{ErrorKind, PortError};

/// Base codes of SQLite that decide the kind.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READ_ONLY: i32 = 8;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANNOT_OPEN: i32 = 14;
    pub(super) const CONSTRAINT: i32 = 19;
    /// Extended: the index of the write-ahead log could not grow; nothing was written yet.
    pub(super) const IO_SHM_SIZE: i32 = 10 | (19 << 8);
}

/// What went wrong beneath, as far as the caller's next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beneath {
    /// No room on the disk.
    Full,
    /// Another program holds the file.
    Busy,
    /// A row of that name exists.
    Taken,
    /// The file cannot be opened or written at all.
    Unwritable,
    /// Anything else.
    Unknown,
}

/// Sorts a failure of SQLite.
pub(crate) fn classify(error: &sqlx::Error) -> Beneath {
    let extended = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<i32>().ok());
    let Some(extended) = extended else {
        return Beneath::Unknown;
    };
    match (extended, extended & 0xff) {
        (code::IO_SHM_SIZE, _) | (_, code::FULL) => Beneath::Full,
        (_, code::BUSY | code::LOCKED) => Beneath::Busy,
        (_, code::CONSTRAINT) => Beneath::Taken,
        (_, code::READ_ONLY | code::CANNOT_OPEN) => Beneath::Unwritable,
        _ => Beneath::Unknown,
    }
}

/// New work is refused: what room there is, is kept for revocations and audit records.
pub(crate) fn full(path: &Path) -> PortError {
    PortError::new(ErrorKind::Unavailable, full_text(path))
}

/// Whether a failure of the port is a full disk as SQLite met it.
pub(crate) fn is_full(error: &PortError) -> bool {
    let source = error.source.as_deref();
    let source = source.and_then(|source| source.downcast_ref::<sqlx::Error>());
    source.is_some_and(|source| classify(source) == Beneath::Full)
}

fn full_text(path: &Path) -> String {
    let path = path.display();
    format!("the disk that holds {path} is full; free space, then repeat the command")
}

/// A failure of SQLite as one of the port.
pub(crate) fn port(path: &Path, source: sqlx::Error) -> PortError {
    let full = full_text(path);
    let path = path.display();
    let (kind, text) = match classify(&source) {
        Beneath::Full => (ErrorKind::Unavailable, full),
        Beneath::Busy => (
            ErrorKind::Unavailable,
            format!("another program holds the journal {path}; end it, then repeat the command"),
        ),
        Beneath::Taken => (ErrorKind::Conflict, taken(&source)),
        Beneath::Unwritable => (
            ErrorKind::Unavailable,
            format!("the journal {path} cannot be written; check its owner, its mode and its disk"),
        ),
        Beneath::Unknown => (
            ErrorKind::Corrupt,
            format!("the journal {path} failed; restart, and run `keywheel journal verify`"),
        ),
    };
    PortError::caused(kind, text, source)
}

/// What was there already, in words, by what the database calls it: SQLite names columns, PostgreSQL
/// the constraints of our tables.
pub(crate) fn taken(source: &sqlx::Error) -> String {
    let error = source.as_database_error();
    let name = error.map(|e| e.constraint().unwrap_or_else(|| e.message()));
    let name = name.unwrap_or_default().to_owned();
    let what = [
        (
            ["command.", "command_id"],
            "a command of this batch was answered already",
        ),
        (
            ["event.id", "event_id"],
            "an event of this batch is in the log already",
        ),
        (
            ["event.aggregate", "event_aggregate"],
            "somebody else appended to an aggregate of this batch",
        ),
        (
            ["effect.", "effect_key"],
            "an effect of this batch was asked for already",
        ),
    ];
    let known = what
        .iter()
        .find(|(names, _)| names.iter().any(|known| name.contains(known)));
    known.map_or_else(
        || "the log moved on; read again".to_owned(),
        |(_, text)| (*text).to_owned(),
    )
}

/// A place of the file system that cannot be used.
pub(crate) fn place(path: &Path, what: &str, source: std::io::Error) -> PortError {
    let text = format!("the journal cannot be kept at {}: {what}", path.display());
    PortError::caused(ErrorKind::Unavailable, text, source)
}

/// Bytes that are not what was written.
pub(crate) fn damaged(place: &impl fmt::Display, what: &str) -> PortError {
    let text = format!("the journal {place} is damaged: {what}; restore it from a backup");
    PortError::new(ErrorKind::Corrupt, text)
}
