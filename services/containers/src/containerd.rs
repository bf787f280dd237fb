//! containerd on this machine, over its gRPC socket: enough to serve containers that `ctr`, nerdctl or another client
//! makes under our runtime.
//!
//! containerd keeps what a container is and its task; restarting, health checks and images' digests are its clients'
//! matters. So this looks, hears and stops, and says no to the rest with the next step. Invariants: Docker's own
//! namespace is left to Docker; a container is known by its full id of 64 digits, which `ctr` takes and others make.

mod events;
mod form;
mod grpc;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::{
    ContainerHost, ContainerRecord, CreateFacts, EngineEvents, ExecOutcome,
};
use keywheel_engine::port::{ErrorKind, PortError};

use self::form::{
    ContainerAnswer, Id, Kill, Namespaces, Nothing, Task, TaskAnswer, TaskId, Tasks, record,
};
use crate::choice::Kind;
use crate::creates;
use crate::docker::{READ_TIMEOUT, bounded};

/// Docker's namespace, in which Docker's own adapter sees more.
const DOCKERS: &str = "moby";
/// How long a container may take to end when asked, and when killed.
const STOP: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const SIGTERM: u32 = 15;
const SIGKILL: u32 = 9;

/// containerd on this machine.
pub struct ContainerdHost {
    socket: PathBuf,
}

impl ContainerdHost {
    /// At its socket; nothing is asked before the first call.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn namespaces(&self) -> Result<Vec<String>, PortError> {
        const LIST: &str = "containerd.services.namespaces.v1.Namespaces/List";
        let found = grpc::call::<_, Namespaces>(&self.socket, "", LIST, &Nothing {}).await?;
        let names = found.unwrap_or_default().namespaces;
        let names = names.into_iter().map(|one| one.name);
        Ok(names.filter(|name| name != DOCKERS).collect())
    }

    async fn task(&self, namespace: &str, id: &ContainerId) -> Result<Option<Task>, PortError> {
        const GET: &str = "containerd.services.tasks.v1.Tasks/Get";
        let container_id = id.to_string();
        let question = TaskId { container_id };
        let found = grpc::call::<_, TaskAnswer>(&self.socket, namespace, GET, &question).await?;
        Ok(found.and_then(|found| found.process))
    }

    /// A container with its task, and where it is.
    async fn find(&self, id: &ContainerId) -> Result<Option<(String, ContainerRecord)>, PortError> {
        const GET: &str = "containerd.services.containers.v1.Containers/Get";
        let question = Id { id: id.to_string() };
        let mut only = None;
        for namespace in self.namespaces().await? {
            let found = grpc::call::<_, ContainerAnswer>(&self.socket, &namespace, GET, &question);
            let Some(container) = found.await?.and_then(|found| found.container) else {
                continue;
            };
            if only.is_some() {
                // Nobody says in which of them a call is meant.
                return Err(PortError::new(
                    ErrorKind::Denied,
                    format!(
                        "container {} is in two of containerd's namespaces; remove one of them",
                        id.short()
                    ),
                ));
            }
            let task = self.task(&namespace, id).await?;
            only = record(container, task).map(|record| (namespace, record));
        }
        Ok(only)
    }

    /// The ids of all tasks that run.
    async fn running(&self) -> Result<Vec<ContainerId>, PortError> {
        const LIST: &str = "containerd.services.tasks.v1.Tasks/List";
        let mut ids = Vec::new();
        for namespace in self.namespaces().await? {
            let found = grpc::call::<_, Tasks>(&self.socket, &namespace, LIST, &Nothing {}).await?;
            let tasks = found.unwrap_or_default().tasks;
            let running = tasks.iter().filter(|task| task.is_running());
            ids.extend(running.filter_map(|task| ContainerId::parse(&task.id).ok()));
        }
        Ok(ids)
    }

    /// Sends a signal; whether the container has ended by then or within [`STOP`].
    async fn ends_by(
        &self,
        namespace: &str,
        id: &ContainerId,
        signal: u32,
    ) -> Result<bool, PortError> {
        const KILL: &str = "containerd.services.tasks.v1.Tasks/Kill";
        let container_id = id.to_string();
        let question = Kill {
            container_id,
            signal,
        };
        let sent = grpc::call::<_, Nothing>(&self.socket, namespace, KILL, &question).await?;
        if sent.is_none() {
            return Ok(true);
        }
        let ended = async {
            while self
                .task(namespace, id)
                .await?
                .is_some_and(|task| task.is_running())
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok::<bool, PortError>(true)
        };
        tokio::time::timeout(STOP, ended).await.unwrap_or(Ok(false))
    }
}

/// What containerd leaves to its clients.
fn not_here(what: &str) -> PortError {
    let text = format!(
        "containerd does not {what}: do it with the client that made the container (ctr, nerdctl)"
    );
    PortError::new(ErrorKind::Denied, text)
}

#[async_trait]
impl ContainerHost for ContainerdHost {
    fn name(&self) -> &'static str {
        Kind::Containerd.name()
    }

    async fn list(&self) -> Result<Vec<ContainerRecord>, PortError> {
        let ids = bounded(READ_TIMEOUT, &self.socket, self.running()).await?;
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            records.extend(self.inspect(&id).await?);
        }
        records.retain(|record| record.running);
        Ok(records)
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        let found = bounded(READ_TIMEOUT, &self.socket, self.find(id)).await?;
        Ok(found.map(|(_, record)| record))
    }

    async fn inspect_during_create(
        &self,
        id: &ContainerId,
        _budget: Duration,
    ) -> Result<Option<ContainerRecord>, PortError> {
        // containerd has the container before its task is created, and answers meanwhile.
        self.inspect(id).await
    }

    async fn restart(&self, _id: &ContainerId) -> Result<(), PortError> {
        Err(not_here("restart a container"))
    }

    async fn stop(&self, id: &ContainerId) -> Result<(), PortError> {
        let found = bounded(READ_TIMEOUT, &self.socket, self.find(id)).await?;
        let Some((namespace, record)) = found else {
            let text = format!("containerd has no container {}", id.short());
            return Err(PortError::new(ErrorKind::NotFound, text));
        };
        if !record.running
            || self.ends_by(&namespace, id, SIGTERM).await?
            || self.ends_by(&namespace, id, SIGKILL).await?
        {
            return Ok(());
        }
        let text = format!("container {} does not end", id.short());
        Err(PortError::new(ErrorKind::Unavailable, text))
    }

    async fn exec(
        &self,
        _id: &ContainerId,
        _argv: &[String],
        _timeout: Duration,
    ) -> Result<ExecOutcome, PortError> {
        Err(not_here("run a reload command"))
    }

    async fn start(&self, _id: &ContainerId) -> Result<(), PortError> {
        Err(not_here("start a container again"))
    }

    async fn refused(&self) -> Result<Vec<ContainerRecord>, PortError> {
        // A container whose task was refused has no trace of that.
        Ok(Vec::new())
    }

    async fn events(&self) -> Result<Box<dyn EngineEvents>, PortError> {
        let open = events::Stream::open(self.socket.clone());
        Ok(Box::new(bounded(READ_TIMEOUT, &self.socket, open).await?))
    }

    async fn ping(&self) -> Result<(), PortError> {
        bounded(READ_TIMEOUT, &self.socket, self.namespaces()).await?;
        Ok(())
    }

    async fn create_facts(&self) -> Result<Option<CreateFacts>, PortError> {
        Ok(Some(creates::of_containerd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_containerd_that_is_not_there_is_unavailable_and_the_text_says_what_to_do() {
        let host = ContainerdHost::at(PathBuf::from("/nonexistent/containerd.sock"));
        assert_eq!(host.name(), "containerd");
        for error in [
            host.ping().await.unwrap_err(),
            host.list().await.unwrap_err(),
            host.events().await.err().unwrap(),
        ] {
            assert_eq!(error.kind, ErrorKind::Unavailable);
            assert!(
                error.text.contains("systemctl start containerd"),
                "{}",
                error.text
            );
        }
        let id = ContainerId::parse(&"a".repeat(64)).unwrap();
        let denied = host.restart(&id).await.unwrap_err();
        assert_eq!(denied.kind, ErrorKind::Denied);
        assert!(denied.text.contains("ctr"), "{}", denied.text);
    }
}
