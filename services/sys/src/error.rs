//! The one error of this crate. It names the thing and the reason, never a secret value or its length.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a kernel-level step was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {step}")]
    Os {
        /// What was being done, as an infinitive.
        step: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file name is outside `[A-Za-z0-9._-]{1,128}` or begins with a dot.
    #[error(
        "{name:?} is not a secret file name: use up to 128 of A-Z a-z 0-9 . _ - and no leading dot"
    )]
    BadName {
        /// The refused name.
        name: String,
    },
    /// A directory inside a container is not a plain absolute path.
    #[error(
        "{dir:?} is not a directory for secrets: use an absolute path of at most 240 bytes without . or .."
    )]
    BadDirectory {
        /// The refused path.
        dir: String,
    },
    /// The directory is not one of ours any more.
    #[error("not a secret file system of keywheel: {reason}")]
    NotSecretFs {
        /// What differs.
        reason: &'static str,
    },
    /// The file system is too small for the new content beside the old one.
    #[error("the secret file system is full; the old content is intact")]
    Full,
    /// A file is larger than the caller allows.
    #[error("file {name:?} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The file.
        name: String,
        /// The caller's limit.
        limit: usize,
    },
    /// The process ended, or its pid now belongs to another one.
    #[error("process {pid} is gone")]
    Gone {
        /// The pid that was asked for.
        pid: i32,
    },
    /// A text file of procfs did not have the documented shape.
    #[error("cannot read {file} of process {pid}: unexpected content")]
    Procfs {
        /// File below `/proc/PID`.
        file: &'static str,
        /// The process.
        pid: i32,
    },
    /// An id of the container has no counterpart on the host.
    #[error("id {id} of the container is not mapped to the host")]
    Unmapped {
        /// The uid or gid inside the container.
        id: u32,
    },
    /// The process shares this program's mount namespace, so it is not a container with its own files.
    #[error("process {pid} runs in the mount namespace of the host")]
    HostNamespace {
        /// The process.
        pid: i32,
    },
    /// Somebody else's mount is at or below the directory.
    #[error("{mount} is already mounted in the container, at or below {dir}")]
    ForeignMount {
        /// The directory asked for.
        dir: String,
        /// The other mount point.
        mount: String,
    },
    /// A secret file system of ours is already at the directory.
    #[error("a secret file system of keywheel is already mounted at {dir}")]
    AlreadyAttached {
        /// The directory asked for.
        dir: String,
    },
    /// The directory lies on a mount that is shared with other namespaces.
    #[error("{dir} lies on the mount {mount}, which is shared with the host")]
    SharedMount {
        /// The directory asked for.
        dir: String,
        /// The shared mount point.
        mount: String,
    },
    /// The namespace helper refused or failed.
    #[error("{dir}: {reason}")]
    Helper {
        /// The directory asked for.
        dir: String,
        /// The failed step.
        reason: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The namespace helper could not be started.
    #[error("cannot start the namespace helper {}", path.display())]
    HelperStart {
        /// The helper binary.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The namespace helper did not answer in time and was killed.
    #[error("the namespace helper did not answer within {timeout:?} and was stopped")]
    HelperTimeout {
        /// The limit.
        timeout: Duration,
    },
    /// The namespace helper ended without an answer.
    #[error("the namespace helper ended without an answer ({status})")]
    HelperDied {
        /// Its exit status, as text.
        status: String,
    },
    /// A path for a private mount is unfit.
    #[error("{}: {reason}", path.display())]
    BadMountPoint {
        /// The path.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
}

impl Error {
    /// Turns a kernel error into [`Error::Os`]; for use in `map_err`.
    pub(crate) fn os<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Os {
            step,
            source: source.into(),
        }
    }
}
