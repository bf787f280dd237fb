//! Why `keywheel up` does not start, or stops. Each text names the thing, the reason and the next
//! step; the kind decides the exit code.

use std::path::Path;

use crate::exit::{Exit, Failure};

/// What sort of failure; exit codes follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A path that was given cannot be used.
    CannotCreate,
    /// Another process runs on the same directory or socket.
    AlreadyRunning,
    /// The unseal key or the configuration is refused.
    Refused,
    /// The configuration is wrong.
    BadConfiguration,
    /// A file that was named is not there.
    MissingInput,
    /// The disk is full or a file cannot be written now.
    Unavailable,
    /// What was read is not what was written, or a bug.
    Broken,
}

/// Why `keywheel up` does not start, or stops.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Error {
    /// What sort of failure.
    pub(crate) kind: Kind,
    /// The thing and the reason.
    pub(crate) what: String,
    /// The next step.
    pub(crate) next: String,
}

impl Error {
    pub(crate) fn new(kind: Kind, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            next: next.into(),
        }
    }

    /// A path that cannot be made or used.
    pub(crate) fn path(path: &Path, source: &std::io::Error) -> Self {
        let (kind, next) = match source.kind() {
            std::io::ErrorKind::StorageFull => (
                Kind::Unavailable,
                "free space on that disk and start again; nothing was lost".to_owned(),
            ),
            std::io::ErrorKind::PermissionDenied => (
                Kind::CannotCreate,
                "run it as root (sudo), or give a path you may write".to_owned(),
            ),
            std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => (
                Kind::CannotCreate,
                format!(
                    "move the file that is in the way, or give another path than {}",
                    path.display()
                ),
            ),
            _ => (
                Kind::CannotCreate,
                "check the path and its permissions".to_owned(),
            ),
        };
        Self::new(
            kind,
            format!("cannot use {}: {source}", path.display()),
            next,
        )
    }

    /// A file where a directory should be.
    pub(crate) fn not_a_directory(path: &Path) -> Self {
        Self::new(
            Kind::CannotCreate,
            format!(
                "{} is a file, but a directory is needed there",
                path.display()
            ),
            "move the file away, or give another directory",
        )
    }

    /// The data directory belongs to a living process.
    pub(crate) fn already_running(data_dir: &Path, holder: &str) -> Self {
        Self::new(
            Kind::AlreadyRunning,
            format!(
                "another `keywheel up`{holder} runs on the data directory {}",
                data_dir.display()
            ),
            "use that one (`keywheel status`), stop it first, or give another --data-dir",
        )
    }

    /// The key does not open what is there.
    pub(crate) fn wrong_unseal_key(key: &Path, data_dir: &Path) -> Self {
        Self::new(
            Kind::Refused,
            format!(
                "the unseal key {} does not open the data directory {}",
                key.display(),
                data_dir.display()
            ),
            "give the key this directory was created with (--unseal-key-file); nothing was changed",
        )
    }

    /// The key is missing though there is something to open.
    pub(crate) fn unseal_key_missing(key: &Path, data_dir: &Path) -> Self {
        Self::new(
            Kind::Refused,
            format!(
                "the unseal key {} is missing, and the data directory {} is not empty",
                key.display(),
                data_dir.display()
            ),
            "restore the key from your backup, or give its path with --unseal-key-file; a new key could not open what is there",
        )
    }

    /// The key lies beside what it protects.
    pub(crate) fn unseal_key_inside(key: &Path, data_dir: &Path) -> Self {
        Self::new(
            Kind::Refused,
            format!(
                "the unseal key {} lies inside the data directory {}",
                key.display(),
                data_dir.display()
            ),
            "keep the key elsewhere, best on another disk: whoever copies the directory must not get the key too",
        )
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind {
            Kind::CannotCreate => Exit::CannotCreate,
            Kind::AlreadyRunning => Exit::Busy,
            Kind::Refused => Exit::Config,
            Kind::BadConfiguration => Exit::Usage,
            Kind::MissingInput => Exit::NoInput,
            Kind::Unavailable => Exit::Unavailable,
            Kind::Broken => Exit::Unexpected,
        };
        Self::new(exit, error.what, error.next)
    }
}

impl From<keywheel_engine::port::PortError> for Error {
    fn from(error: keywheel_engine::port::PortError) -> Self {
        use keywheel_engine::port::ErrorKind;
        let (kind, next) = match error.kind {
            ErrorKind::Conflict => (
                Kind::AlreadyRunning,
                "stop the other process, or give another --data-dir",
            ),
            ErrorKind::Denied => (
                Kind::Refused,
                "check the unseal key and the permissions of the data directory",
            ),
            ErrorKind::Unavailable => (
                Kind::Unavailable,
                "free what is named above and start again; nothing was lost",
            ),
            ErrorKind::NotFound | ErrorKind::Corrupt => (
                Kind::Broken,
                "keep the data directory as it is, and compare with your backup and the audit sink",
            ),
        };
        Self::new(kind, keywheel_daemon::chain(&error), next)
    }
}
