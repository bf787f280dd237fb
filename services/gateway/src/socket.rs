//! The unix socket: taken over from a dead process, never from a living one.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody serves it.
    #[error("another process serves the socket {path}; stop it, or give another --socket")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket lies there.
    #[error("{path} exists and is not a socket; move it away, or give another --socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system said no.
    #[error(
        "cannot serve the socket {path}: {source}; check that its directory exists and may be written"
    )]
    Io {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Binds the socket. Anyone can connect, and is told no by the access check, which records it.
///
/// # Errors
/// When a living process serves it, something else lies there, or the system says no.
pub fn bind(path: &Path) -> Result<UnixListener, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            return Err(Error::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(Error::Taken {
                path: path.to_owned(),
            });
        }
        Ok(_) => std::fs::remove_file(path).map_err(io)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(io)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("keywheel-socket-{}-{name}", std::process::id()))
    }

    #[tokio::test]
    async fn a_living_socket_is_left_alone_and_a_stale_one_is_taken_over() {
        let path = path("takeover");
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(Error::Taken { .. })));
        drop(first);
        assert!(path.exists(), "a dead process leaves its socket behind");
        bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_named_and_kept() {
        let path = path("file");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path), Err(Error::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        std::fs::remove_file(&path).unwrap();
    }
}
