//! Docker on this machine, over its unix socket.
//!
//! Owns the connection. Invariants: a call that only reads is bounded in time; nothing is cached
//! but where the engine keeps its files. An engine that is away is an error of kind `Unavailable`
//! whose text says what to do.

mod exec;
mod networks;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::{
    RestartContainerOptions, StartContainerOptions, StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::{
    ContainerHost, ContainerRecord, CreateFacts, EngineEvents, ExecDetails, ExecOutcome,
};
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::sync::{OnceCell, Semaphore};

use crate::choice::{self, Kind};
use crate::form::{Inspected, Listed};
use crate::look::ExecLook;
use crate::own::OwnExecs;
use crate::{creates, disk, events, listing, wire};

/// Where Docker keeps its files unless it says otherwise.
const DEFAULT_DATA_ROOT: &str = "/var/lib/docker";
/// How long a read may take before the engine counts as away.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one inspect of a list may take; an engine at work on a container lets it wait.
pub(crate) const INSPECT_IN_LIST: Duration = Duration::from_secs(2);
/// How long a stop or restart may take, in seconds: a container's own stop timeout is within.
const ACTION_SECONDS: u64 = 900;
/// Podman's words for an action that does not fit how a container is.
const IMPROPER_STATE: &str = "container state improper";
/// Containers that do not run and are looked at for a refused start, newest first.
pub(crate) const MAX_DOWN: usize = 1000;

/// How to reach the engine.
#[derive(Debug, Clone, Default)]
pub struct DockerOptions {
    /// What `DOCKER_HOST` says: `unix:///…`; `None` for this machine's usual socket.
    pub host: Option<String>,
}

/// Why the options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Not a unix socket.
    #[error(
        "DOCKER_HOST is `{0}`, but only an engine on this machine can be served; use unix:///path/to/docker.sock (of Podman: podman.sock) or unset it"
    )]
    NotUnix(String),
}

/// Docker on this machine.
pub struct DockerHost {
    pub(crate) socket: PathBuf,
    client: OnceCell<Docker>,
    data_root: OnceCell<PathBuf>,
    pub(crate) own: Arc<OwnExecs>,
    /// Who may begin a program in a container.
    pub(crate) begins: Semaphore,
}

impl DockerHost {
    /// Takes the options; connects at the first call, so the engine need not run yet.
    ///
    /// # Errors
    /// When the host is not a unix socket.
    pub fn new(options: &DockerOptions) -> Result<Self, OptionsError> {
        let socket = match options.host.as_deref() {
            None | Some("") => choice::usual(),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) if path.starts_with('/') => PathBuf::from(path),
                _ => return Err(OptionsError::NotUnix(host.chars().take(120).collect())),
            },
        };
        Ok(Self {
            socket,
            client: OnceCell::new(),
            data_root: OnceCell::new(),
            own: Arc::new(OwnExecs::default()),
            begins: Semaphore::new(exec::PARALLEL_BEGINS),
        })
    }

    /// Names of the OCI runtimes the engine knows, for `setup` and `status`.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn runtimes(&self) -> Result<Vec<String>, PortError> {
        let found = self
            .client()
            .await?
            .info()
            .await
            .map_err(|error| self.failed("read its runtimes", error))?;
        Ok(found.runtimes.unwrap_or_default().into_keys().collect())
    }

    pub(crate) async fn client(&self) -> Result<&Docker, PortError> {
        let connect = || async {
            let path = self.socket.to_string_lossy();
            let client = Docker::connect_with_unix(&path, ACTION_SECONDS, API_DEFAULT_VERSION)
                .map_err(|error| wire::unreachable(&self.socket, error))?;
            bounded(READ_TIMEOUT, &self.socket, async {
                client
                    .negotiate_version()
                    .await
                    .map_err(|error| self.failed("agree on a version", error))
            })
            .await
        };
        self.client.get_or_try_init(connect).await
    }

    async fn data_root(&self) -> &Path {
        let ask = || async {
            let found = self
                .client()
                .await?
                .info()
                .await
                .map_err(|error| self.failed("read its data root", error))?;
            found.docker_root_dir.map(PathBuf::from).ok_or_else(|| {
                PortError::new(
                    ErrorKind::Unavailable,
                    "the engine does not name its data root",
                )
            })
        };
        let known = match self.data_root.get() {
            Some(known) => Ok(known),
            // Never waits long: during a create the engine may answer nothing at all.
            None => match tokio::time::timeout(
                Duration::from_millis(100),
                self.data_root.get_or_try_init(ask),
            )
            .await
            {
                Ok(answer) => answer,
                Err(_) => Err(PortError::new(
                    ErrorKind::Unavailable,
                    "the engine does not answer",
                )),
            },
        };
        known.map_or(Path::new(DEFAULT_DATA_ROOT), PathBuf::as_path)
    }

    async fn read_disk(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        let root = self.data_root().await.to_owned();
        let id = id.clone();
        tokio::task::spawn_blocking(move || disk::read(&root, &id))
            .await
            .map_err(|error| {
                PortError::caused(
                    ErrorKind::Unavailable,
                    "the engine's files were not read",
                    error,
                )
            })?
    }

    async fn inspect_now(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        let Some(body) = wire::read(&self.socket, &format!("/containers/{id}/json")).await? else {
            return Ok(None);
        };
        let inspected: Inspected = parse(&body)?;
        Ok(inspected.into_record())
    }

    pub(crate) async fn rows(&self, target: &str) -> Result<Vec<Listed>, PortError> {
        let body = wire::read(&self.socket, target).await?.unwrap_or_default();
        parse(&body)
    }

    /// One container of a list; an inspect that hangs gives way to the engine's files.
    async fn inspect_listed(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        match tokio::time::timeout(INSPECT_IN_LIST, self.inspect_now(id)).await {
            Ok(answer) => answer,
            Err(_) => self.read_disk(id).await,
        }
    }

    pub(crate) fn failed(&self, what: &str, error: bollard::errors::Error) -> PortError {
        use bollard::errors::Error;
        match &error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => {
                let kind = match status_code {
                    404 => ErrorKind::NotFound,
                    409 => ErrorKind::Conflict,
                    // Podman says so of a container that does not run, for example.
                    500 if message.contains(IMPROPER_STATE) => ErrorKind::Conflict,
                    _ => ErrorKind::Unavailable,
                };
                let daemon = Kind::of(&self.socket).daemon();
                PortError::new(kind, format!("{daemon} did not {what}: {message}"))
            }
            _ => wire::unreachable(&self.socket, error),
        }
    }
}

#[async_trait]
impl ContainerHost for DockerHost {
    fn name(&self) -> &'static str {
        Kind::of(&self.socket).name()
    }

    async fn list(&self) -> Result<Vec<ContainerRecord>, PortError> {
        let rows = bounded(READ_TIMEOUT, &self.socket, self.rows("/containers/json")).await?;
        let look = |id: ContainerId| async move { self.inspect_listed(&id).await };
        let mut records = listing::records(&rows, look).await?;
        records.retain(|record| record.running);
        // Learnt while the engine answers, for the moments when it does not.
        self.data_root().await;
        Ok(records)
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError> {
        bounded(READ_TIMEOUT, &self.socket, self.inspect_now(id)).await
    }

    async fn inspect_during_create(
        &self,
        id: &ContainerId,
        budget: Duration,
    ) -> Result<Option<ContainerRecord>, PortError> {
        let target = format!("/containers/json?all=1&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D");
        if let Ok(Ok(rows)) = tokio::time::timeout(budget, self.rows(&target)).await
            && let Some(mut record) = rows
                .into_iter()
                .filter_map(Listed::into_record)
                .find(|record| record.facts.id == *id)
        {
            // A row does not tell the user. Without the engine's file nobody knows it, and what asks for one is refused.
            let kept = self.read_disk(id).await.ok().flatten();
            record.facts.user = kept.and_then(|kept| kept.facts.user);
            return Ok(Some(record));
        }
        self.read_disk(id).await
    }

    async fn restart(&self, id: &ContainerId) -> Result<(), PortError> {
        let client = self.client().await?;
        let done = client
            .restart_container(id.as_str(), None::<RestartContainerOptions>)
            .await;
        done.map_err(|error| self.failed(&format!("restart container {}", id.short()), error))
    }

    async fn stop(&self, id: &ContainerId) -> Result<(), PortError> {
        let client = self.client().await?;
        match client
            .stop_container(id.as_str(), None::<StopContainerOptions>)
            .await
        {
            // 304: it does not run.
            Ok(())
            | Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 304, ..
            }) => Ok(()),
            Err(error) => Err(self.failed(&format!("stop container {}", id.short()), error)),
        }
    }

    async fn pause(&self, id: &ContainerId) -> Result<(), PortError> {
        let client = self.client().await?;
        let Err(error) = client.pause_container(id.as_str()).await else {
            return Ok(());
        };
        // It is an error where it is paused already.
        match self.inspect(id).await {
            Ok(Some(record)) if record.paused => Ok(()),
            _ => Err(self.failed(&format!("pause container {}", id.short()), error)),
        }
    }

    async fn disconnect(&self, id: &ContainerId) -> Result<(), PortError> {
        self.cut_off(id).await
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
        let target = format!("/exec/{exec}/json");
        let read = wire::read(&self.socket, &target);
        let body = bounded(READ_TIMEOUT, &self.socket, read).await?;
        let look: Option<ExecLook> = body.map(|body| parse(&body)).transpose()?;
        Ok(look.map(ExecLook::into_details))
    }

    async fn start(&self, id: &ContainerId) -> Result<(), PortError> {
        let client = self.client().await?;
        match client
            .start_container(id.as_str(), None::<StartContainerOptions>)
            .await
        {
            // 304: it runs.
            Ok(())
            | Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 304, ..
            }) => Ok(()),
            Err(error) => Err(self.failed(&format!("start container {}", id.short()), error)),
        }
    }

    async fn refused(&self) -> Result<Vec<ContainerRecord>, PortError> {
        let rows = bounded(READ_TIMEOUT, &self.socket, self.rows(&down_target())).await?;
        let look = |id: ContainerId| async move { self.inspect_listed(&id).await };
        listing::refused(&rows, look).await
    }

    async fn events(&self) -> Result<Box<dyn EngineEvents>, PortError> {
        let open = events::Stream::open(self.socket.clone(), Arc::clone(&self.own));
        Ok(Box::new(bounded(READ_TIMEOUT, &self.socket, open).await?))
    }

    async fn ping(&self) -> Result<(), PortError> {
        bounded(
            READ_TIMEOUT,
            &self.socket,
            wire::read(&self.socket, "/_ping"),
        )
        .await
        .map(|_| ())
    }

    async fn create_facts(&self) -> Result<Option<CreateFacts>, PortError> {
        let asked = creates::Version::ask(&self.socket);
        let version = bounded(creates::ASK_TIMEOUT, &self.socket, asked).await?;
        let containers = disk::folder(self.data_root().await);
        let is_there = creates::is_there(containers.clone()).await?;
        Ok(Some(creates::of_docker(&version, &containers, is_there)))
    }
}

/// The list of containers that were made or ended and do not run: `{"status":["created","exited"]}`.
fn down_target() -> String {
    format!(
        "/containers/json?all=1&limit={MAX_DOWN}&filters=%7B%22status%22%3A%5B%22created%22%2C%22exited%22%5D%7D"
    )
}

pub(crate) fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, PortError> {
    serde_json::from_slice(body).map_err(|error| {
        PortError::caused(
            ErrorKind::Unavailable,
            "the engine's answer is not understood",
            error,
        )
    })
}

pub(crate) async fn bounded<T>(
    limit: Duration,
    socket: &Path,
    work: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    match tokio::time::timeout(limit, work).await {
        Ok(answer) => answer,
        Err(_) => Err(PortError::new(
            ErrorKind::Unavailable,
            format!(
                "{} at {} did not answer within {} s; look at its log, and restart it if it hangs",
                Kind::of(socket).daemon(),
                socket.display(),
                limit.as_secs()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets_are_taken() {
        let with = |host: &str| {
            DockerHost::new(&DockerOptions {
                host: Some(host.to_owned()),
            })
        };
        assert!(
            with("unix:///run/docker.sock")
                .is_ok_and(|host| host.socket == Path::new("/run/docker.sock"))
        );
        assert!(with("").is_ok_and(|host| host.socket == choice::usual()));
        for host in ["tcp://10.0.0.1:2375", "unix://relative"] {
            assert!(
                with(host)
                    .err()
                    .is_some_and(|error| error.to_string().contains("unix:///")),
                "{host}"
            );
        }
    }

    #[test]
    fn as_many_that_do_not_run_are_looked_at_as_the_limit_says() {
        assert_eq!(MAX_DOWN, 1000);
        assert!(down_target().contains("all=1&limit=1000&"));
    }

    #[tokio::test]
    async fn a_stopped_daemon_is_unavailable_and_the_text_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let host = format!("unix://{}/docker.sock", folder.path().display());
        let host = DockerHost::new(&DockerOptions { host: Some(host) }).unwrap();
        for error in [
            host.ping().await.unwrap_err(),
            host.list().await.unwrap_err(),
            host.events().await.err().unwrap(),
            host.refused().await.unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Unavailable);
            assert!(error.text.contains("is it running?"), "{}", error.text);
        }
        let id = ContainerId::parse(&"e".repeat(64)).unwrap();
        assert!(
            host.restart(&id)
                .await
                .unwrap_err()
                .text
                .contains("systemctl start docker")
        );
    }
}
