//! Why an injector cannot run. Everything that may pass by itself is retried instead.

use std::path::PathBuf;

/// An injector did not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum InjectorError {
    /// A directory of ours cannot be made.
    #[error("cannot prepare {}; run as root and check that its parent exists", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The private mount for bundles cannot be made.
    #[error("cannot mount private memory for container bundles at {}; run as root, on a kernel with fsopen (5.2)", path.display())]
    Bundles {
        /// The mount point.
        path: PathBuf,
        /// What failed.
        #[source]
        source: keywheel_sys::Error,
    },
    /// The kernel lacks what every container under the runtime needs.
    #[error(
        "the kernel does not know {missing}, without which no private memory is mounted; use Linux 5.12 or newer, and no system call filter that takes that away"
    )]
    Kernel {
        /// The calls that are missing.
        missing: String,
    },
    /// Another injector uses the same run directory.
    #[error("another `keywheel up` uses the run directory {}; stop it, or give this one another --socket", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// The runtime's socket cannot be opened.
    #[error("cannot listen on {}; another injector may own it, or its directory is not writable", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The spool of unanswered reports cannot be read.
    #[error("cannot read the report spool {}; move it away to start without it", path.display())]
    Spool {
        /// Its directory.
        path: PathBuf,
        /// What failed.
        #[source]
        source: std::io::Error,
    },
    /// The host cache cannot be used as it is set.
    #[error("the host cache's key cannot be used: {reason}; {next}")]
    HostCacheKey {
        /// What and why.
        reason: String,
        /// What to do.
        next: String,
    },
    /// The gateway does not take this host.
    #[error("the gateway refused to enrol host `{host}`: {reason}")]
    Enrol {
        /// The host's name.
        host: String,
        /// Why.
        reason: String,
    },
}
