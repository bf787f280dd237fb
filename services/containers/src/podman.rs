//! Podman on this machine, over its service's unix socket.
//!
//! What Podman answers as Docker does is asked as there; owned here is where it does not: the inspect (its own has the
//! OCI runtime), containers under creation (its API waits for the container's lock, so its database is read), an
//! exec's end (Podman 4.3 tells of it five minutes late, so conmon's exit file is read), and what it keeps of a
//! refused start. Invariants as in `docker`.

mod exec;
mod form;
mod kept;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::{
    ContainerHost, ContainerRecord, CreateFacts, EngineEvents, ExecDetails, ExecOutcome,
};
use tokio::sync::OnceCell;

use self::form::{Inspected, Installation};
use crate::docker::{INSPECT_IN_LIST, MAX_DOWN, READ_TIMEOUT, bounded, parse};
use crate::{DockerHost, creates, listing, wire};

/// Where Podman keeps its storage unless it says otherwise.
const DEFAULT_GRAPH_ROOT: &str = "/var/lib/containers/storage";
/// How long a container that is created waits for the storage's root, when the first list is still on its way.
const LEARN_BUDGET: Duration = Duration::from_secs(2);
/// Podman's own calls, in the version that Podman 4 and 5 serve.
const LIBPOD: &str = "/v4.0.0/libpod";

/// Podman on this machine.
pub struct PodmanHost {
    /// What is asked as of Docker, and the connection.
    docker: DockerHost,
    graph_root: OnceCell<PathBuf>,
}

impl PodmanHost {
    /// Over a connection; nothing is asked before the first call.
    #[must_use]
    pub fn over(docker: DockerHost) -> Self {
        Self {
            docker,
            graph_root: OnceCell::new(),
        }
    }

    /// Learns once where the storage is. While a container is created Podman does not say it.
    async fn learn_graph_root(&self) {
        let ask = || async {
            let target = format!("{LIBPOD}/info");
            let read = wire::read(&self.docker.socket, &target);
            let body = bounded(READ_TIMEOUT, &self.docker.socket, read).await?;
            let info: Installation = parse(&body.unwrap_or_default())?;
            let root = info
                .graph_root()
                .ok_or_else(|| unknown("Podman does not name its storage's root"))?;
            tracing::info!(path = %root.display(), "Podman's storage found");
            Ok::<_, PortError>(root)
        };
        // Asked again at the next list; until then the usual place counts.
        let _ = self.graph_root.get_or_try_init(ask).await;
    }

    fn graph_root(&self) -> &Path {
        let known = self.graph_root.get();
        known.map_or(Path::new(DEFAULT_GRAPH_ROOT), PathBuf::as_path)
    }

    async fn look(&self, id: &ContainerId) -> Result<Option<Inspected>, PortError> {
        let target = format!("{LIBPOD}/containers/{id}/json");
        let body = wire::read(&self.docker.socket, &target).await?;
        body.map(|body| parse(&body)).transpose()
    }

    async fn inspect_now(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        let found = self.look(id).await?;
        Ok(found.and_then(Inspected::into_record))
    }

    /// One container of a list. While somebody holds its lock that is an error: a list without it would say that it
    /// is gone.
    async fn inspect_listed(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        match tokio::time::timeout(INSPECT_IN_LIST, self.inspect_now(id)).await {
            Ok(answer) => answer,
            Err(_) => Err(unknown(&format!(
                "Podman does not tell of container {} now",
                id.short()
            ))),
        }
    }

    /// What Podman's database says of it: who and what it is, not how it is.
    async fn read_kept(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        let (root, id) = (self.graph_root().to_owned(), id.clone());
        let read = tokio::task::spawn_blocking(move || kept::read(&root, &id)).await;
        read.map_err(|error| {
            PortError::caused(
                ErrorKind::Unavailable,
                "Podman's database was not read",
                error,
            )
        })?
    }
}

fn unknown(text: &str) -> PortError {
    PortError::new(ErrorKind::Unavailable, text)
}

#[async_trait]
impl ContainerHost for PodmanHost {
    fn name(&self) -> &'static str {
        self.docker.name()
    }

    async fn list(&self) -> Result<Vec<ContainerRecord>, PortError> {
        self.learn_graph_root().await;
        let target = format!(
            "{LIBPOD}/containers/json?filters=%7B%22status%22%3A%5B%22running%22%2C%22paused%22%5D%7D"
        );
        let rows = self.docker.rows(&target);
        let rows = bounded(READ_TIMEOUT, &self.docker.socket, rows).await?;
        let look = |id: ContainerId| async move { self.inspect_listed(&id).await };
        let mut records = listing::records(&rows, look).await?;
        records.retain(|record| record.running);
        Ok(records)
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        bounded(READ_TIMEOUT, &self.docker.socket, self.inspect_now(id)).await
    }

    async fn inspect_during_create(
        &self,
        id: &ContainerId,
        budget: Duration,
    ) -> Result<Option<ContainerRecord>, PortError> {
        // Podman's API waits for the lock that the create holds, so its database comes first.
        let mut kept = self.read_kept(id).await;
        if kept.is_err() && self.graph_root.get().is_none() {
            // A service that just came up answers this within its first moments; later it is known.
            let _ = tokio::time::timeout(LEARN_BUDGET, self.learn_graph_root()).await;
            kept = self.read_kept(id).await;
        }
        match kept {
            Ok(found) => Ok(found),
            Err(error) => match tokio::time::timeout(budget, self.inspect_now(id)).await {
                Ok(Ok(found)) => Ok(found),
                Ok(Err(_)) | Err(_) => Err(error),
            },
        }
    }

    async fn restart(&self, id: &ContainerId) -> Result<(), PortError> {
        self.docker.restart(id).await
    }

    async fn stop(&self, id: &ContainerId) -> Result<(), PortError> {
        self.docker.stop(id).await
    }

    async fn pause(&self, id: &ContainerId) -> Result<(), PortError> {
        self.docker.pause(id).await
    }

    async fn disconnect(&self, id: &ContainerId) -> Result<(), PortError> {
        self.docker.disconnect(id).await
    }

    async fn exec(
        &self,
        id: &ContainerId,
        argv: &[String],
        timeout: Duration,
    ) -> Result<ExecOutcome, PortError> {
        self.run_in(id, argv, timeout).await
    }

    async fn exec_details(&self, exec: &str) -> Result<Option<ExecDetails>, PortError> {
        self.docker.exec_details(exec).await
    }

    async fn start(&self, id: &ContainerId) -> Result<(), PortError> {
        self.docker.start(id).await
    }

    async fn refused(&self) -> Result<Vec<ContainerRecord>, PortError> {
        let target = down_target();
        let rows = self.docker.rows(&target);
        let rows = bounded(READ_TIMEOUT, &self.docker.socket, rows).await?;
        let look = |id: ContainerId| async move { self.inspect_listed(&id).await };
        listing::refused(&rows, look).await
    }

    async fn events(&self) -> Result<Box<dyn EngineEvents>, PortError> {
        self.docker.events().await
    }

    async fn ping(&self) -> Result<(), PortError> {
        self.docker.ping().await
    }

    async fn create_facts(&self) -> Result<Option<CreateFacts>, PortError> {
        let socket = &self.docker.socket;
        let asked = creates::Version::ask(socket);
        let version = bounded(creates::ASK_TIMEOUT, socket, asked).await?;
        let _ = tokio::time::timeout(LEARN_BUDGET, self.learn_graph_root()).await;
        let database = self.graph_root().join(kept::FILE);
        let is_there = creates::is_there(database.clone()).await?;
        Ok(Some(creates::of_podman(&version, &database, is_there)))
    }
}

/// The containers that never ran: of others Podman does not say which start it was that failed.
fn down_target() -> String {
    format!(
        "{LIBPOD}/containers/json?all=true&limit={MAX_DOWN}&filters=%7B%22status%22%3A%5B%22created%22%5D%7D"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DockerOptions;

    #[tokio::test]
    async fn a_service_that_is_not_there_is_unavailable_and_the_text_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let host = format!("unix://{}/podman.sock", folder.path().display());
        let host = crate::connect(&DockerOptions { host: Some(host) }).unwrap();
        assert_eq!(host.name(), "Podman");
        for error in [
            host.ping().await.unwrap_err(),
            host.list().await.unwrap_err(),
            host.events().await.err().unwrap(),
            host.refused().await.unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Unavailable);
            assert!(error.text.contains("podman.socket"), "{}", error.text);
        }
    }

    #[test]
    fn as_many_that_do_not_run_are_looked_at_as_the_limit_says() {
        assert!(down_target().contains("all=true&limit=1000&"));
    }
}
