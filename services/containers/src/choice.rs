//! Which container engine is meant, by its socket.
//!
//! Owns the names of sockets and what people are told to start. Pure but for a look at which socket is there. It
//! speaks to nobody.

use std::path::{Path, PathBuf};

/// Where Docker listens unless told otherwise.
pub(crate) const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Where Podman's service listens for root unless told otherwise.
pub(crate) const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
/// What Podman's socket is called, wherever it lies.
const PODMAN_NAME: &str = "podman.sock";
/// What containerd's socket is called, wherever it lies.
const CONTAINERD_NAME: &str = "containerd.sock";

/// An engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Docker, or who speaks as Docker does.
    Docker,
    /// Podman's service.
    Podman,
    /// containerd itself, with whatever client makes its containers.
    Containerd,
}

impl Kind {
    /// The engine that listens at a socket of this name: `podman.sock`, `containerd.sock`, or Docker's.
    pub(crate) fn of(socket: &Path) -> Self {
        let name = socket.file_name().unwrap_or_default();
        if name == PODMAN_NAME {
            Self::Podman
        } else if name == CONTAINERD_NAME {
            Self::Containerd
        } else {
            Self::Docker
        }
    }

    /// As people say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::Containerd => "containerd",
        }
    }

    /// The program behind the socket.
    pub(crate) fn daemon(self) -> &'static str {
        match self {
            Self::Docker => "the Docker daemon",
            Self::Podman => "Podman's service",
            Self::Containerd => "containerd",
        }
    }

    /// How it is started.
    pub(crate) fn start(self) -> &'static str {
        match self {
            Self::Docker => {
                "`systemctl start docker`, or `dockerd` where there is no service manager"
            }
            Self::Podman => {
                "`systemctl start podman.socket`, or `podman system service --time 0` where there is no service manager"
            }
            Self::Containerd => {
                "`systemctl start containerd`, or `containerd` where there is no service manager"
            }
        }
    }
}

/// The socket of this machine's engine when nobody names one: Docker's, unless only Podman's is there.
pub(crate) fn usual() -> PathBuf {
    choose(Path::new(DOCKER_SOCKET), Path::new(PODMAN_SOCKET))
}

fn choose(docker: &Path, podman: &Path) -> PathBuf {
    if !docker.exists() && podman.exists() {
        podman.to_owned()
    } else {
        docker.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_socket_says_which_engine_it_is() {
        assert_eq!(Kind::of(Path::new(PODMAN_SOCKET)), Kind::Podman);
        assert_eq!(Kind::of(Path::new("/tmp/x/podman.sock")), Kind::Podman);
        assert_eq!(Kind::of(Path::new(DOCKER_SOCKET)), Kind::Docker);
        let containerd = Path::new("/run/containerd/containerd.sock");
        assert_eq!(Kind::of(containerd), Kind::Containerd);
        assert_eq!(Kind::of(Path::new("/tmp/x/other.sock")), Kind::Docker);
        assert_eq!(Kind::of(Path::new("/")), Kind::Docker);
    }

    #[test]
    fn podman_is_meant_only_where_docker_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let (docker, podman) = (folder.path().join("d.sock"), folder.path().join("p.sock"));
        assert_eq!(choose(&docker, &podman), docker);
        std::fs::write(&podman, "").unwrap();
        assert_eq!(choose(&docker, &podman), podman);
        std::fs::write(&docker, "").unwrap();
        assert_eq!(choose(&docker, &podman), docker);
    }
}
