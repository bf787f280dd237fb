//! Docker, Podman and containerd behind the engine's container port.
//!
//! Owns every word spoken on the engine's socket; which engine it is, the socket's name says. Invariants: no call carries or returns a value of
//! a secret; of a container's env only entries with a placeholder are kept; a container is named by
//! its full id. It decides nothing: who is served, restarted or stopped is the injector's matter.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bolt;
mod choice;
mod containerd;
mod creates;
mod disk;
mod docker;
mod events;
mod form;
mod listing;
mod look;
mod own;
mod podman;
mod when;
mod wire;

use std::sync::Arc;

use keywheel_engine::port::container_host::ContainerHost;

pub use containerd::ContainerdHost;
pub use docker::{DockerHost, DockerOptions, OptionsError};
pub use podman::PodmanHost;

/// The engine that the options name: Podman's service where the socket is called `podman.sock`, containerd where it is
/// called `containerd.sock`, else Docker.
/// Without a name it is this machine's Docker, or its Podman where only that listens. Connects at the first call.
///
/// # Errors
/// When the host is not a unix socket.
pub fn connect(options: &DockerOptions) -> Result<Arc<dyn ContainerHost>, OptionsError> {
    let docker = DockerHost::new(options)?;
    let host: Arc<dyn ContainerHost> = match choice::Kind::of(&docker.socket) {
        choice::Kind::Docker => Arc::new(docker),
        choice::Kind::Podman => Arc::new(PodmanHost::over(docker)),
        choice::Kind::Containerd => Arc::new(ContainerdHost::at(docker.socket)),
    };
    Ok(host)
}
