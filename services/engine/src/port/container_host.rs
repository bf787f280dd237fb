//! The container engine of one host, as a port.
//!
//! Laws: `list` is complete for running containers; an event is a hint and may be missed; a
//! container is named by its full id; a start of one that runs changes nothing; no call carries or
//! returns a value or an env variable's content other than placeholders. A program run by `exec` is
//! hinted at as no [`EngineEvent::Executed`], and what it prints is read by nobody.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_core::time::Timestamp;

use super::{ErrorKind, PortError};

/// Health as the engine reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The container has no health check.
    None,
    /// Not known yet.
    Starting,
    /// The check passes.
    Healthy,
    /// The check fails.
    Unhealthy,
}

/// What the engine says about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// Facts that selectors match.
    pub facts: ContainerFacts,
    /// Process id of its first program on the host; 0 when not running.
    pub pid: i32,
    /// Whether it runs (a paused one runs).
    pub running: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// When it was started, as the engine prints it; changes with every start.
    pub started_at: String,
    /// Name of its OCI runtime, for example `runc` or `keywheel`.
    pub runtime: String,
    /// Health.
    pub health: Health,
    /// Env entries that hold a placeholder, as `NAME=…{keywheel:…}…`; no others.
    pub placeholders: Vec<String>,
    /// Set when it does not run because our OCI runtime refused its last start, by what the engine
    /// keeps of that; `None` as soon as it ran since.
    pub refused: Option<StartRefusal>,
    /// The arguments with which the engine runs its health check; empty when it has none.
    pub health_command: Vec<String>,
    /// The user that its programs run as unless told otherwise, as it was configured.
    pub user: String,
}

impl ContainerRecord {
    /// Whether this is how the engine runs its health check, and nobody could tell it from that.
    #[must_use]
    pub fn is_health_check(&self, exec: &ExecDetails) -> bool {
        !exec.is_special && exec.args == self.health_command && exec.user == self.user
    }
}

/// What the engine knows of an exec. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecDetails {
    /// What it runs.
    pub args: Vec<String>,
    /// As whom.
    pub user: String,
    /// With a terminal, or with more rights than its container.
    pub is_special: bool,
}

impl fmt::Debug for ExecDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExecDetails(..)")
    }
}

/// What the engine keeps of a start that our OCI runtime refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartRefusal {
    /// The socket at which no injector answered, when that was why.
    pub nobody_at: Option<PathBuf>,
    /// Whether the engine is to start it again by itself, by its restart policy.
    pub has_policy: bool,
    /// When it was made, or last ended: the start was refused after that. `None` when not told.
    pub after: Option<Timestamp>,
}

/// How an engine tells what a container is while it creates it, and what it hands on to its OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateFacts {
    /// The engine and its version, for people.
    pub engine: String,
    /// Where image, name and labels of a container under creation are read, in words.
    pub source: String,
    /// What of that this host lacks; `None` when nothing.
    pub lack: Option<Lack>,
    /// Whether annotations that a container is given are in the configuration that its OCI runtime reads.
    pub passes_annotations: bool,
}

/// Something that a host's engine lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Whether every start under our OCI runtime is refused for it.
    pub is_total: bool,
    /// What, and what follows from that.
    pub note: String,
    /// The next step.
    pub next: String,
}

/// What an exec runs, as the engine tells it: compared with a health check, and told nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecCommand(String);

impl ExecCommand {
    /// The engine's words.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether these arguments are told so: an engine joins them by blanks.
    #[must_use]
    pub fn is_of(&self, args: &[String]) -> bool {
        !args.is_empty() && self.0.trim_end() == args.join(" ").trim_end()
    }
}

impl fmt::Debug for ExecCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExecCommand(..)")
    }
}

/// A hint that something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    /// It was started.
    Started(ContainerId),
    /// It stopped.
    Stopped(ContainerId),
    /// It was removed.
    Removed(ContainerId),
    /// Its health changed.
    HealthChanged(ContainerId),
    /// A program was run in it beside its first, by someone else than us or by the engine's health check.
    Executed {
        /// The container.
        id: ContainerId,
        /// The engine's id of the exec; empty when it tells none.
        exec: String,
        /// What was run.
        command: ExecCommand,
    },
    /// The connection was lost, and why, with the next step: the engine does not answer.
    Away(String),
    /// The connection was lost and is back: anything may have happened.
    Resync,
}

/// How a program that was run in a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecOutcome {
    /// With this exit code; as a shell does, the engine says 126 or 127 when it could not be begun.
    Exited(i64),
    /// It still ran when its time was over. It is left alone.
    TimedOut,
    /// It was begun, or may have been, and nobody knows how it ended: the engine forgot it, or did not
    /// tell until its time was over.
    Lost,
}

/// Hints from the engine.
#[async_trait]
pub trait EngineEvents: Send {
    /// The next hint. Reconnects by itself and then says [`EngineEvent::Resync`], after
    /// [`EngineEvent::Away`] when that took more than one try; ends never.
    async fn next(&mut self) -> EngineEvent;
}

/// The container engine of one host.
#[async_trait]
pub trait ContainerHost: Send + Sync {
    /// What people call the engine.
    fn name(&self) -> &'static str {
        "the engine"
    }
    /// All running containers.
    async fn list(&self) -> Result<Vec<ContainerRecord>, PortError>;
    /// One container, running or not; `None` when it is gone.
    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerRecord>, PortError>;
    /// One container while its engine is creating it, when `inspect` would wait for ever: from the
    /// list endpoint within `budget`, else from the engine's own files.
    async fn inspect_during_create(
        &self,
        id: &ContainerId,
        budget: Duration,
    ) -> Result<Option<ContainerRecord>, PortError>;
    /// Stops and starts it in place; returns once the new first program runs.
    async fn restart(&self, id: &ContainerId) -> Result<(), PortError>;
    /// Stops it.
    async fn stop(&self, id: &ContainerId) -> Result<(), PortError>;
    /// Freezes its processes; one that is paused is left as it is.
    async fn pause(&self, _id: &ContainerId) -> Result<(), PortError> {
        let text = format!("{} does not pause containers; choose `stop`", self.name());
        Err(PortError::new(ErrorKind::Denied, text))
    }
    /// Cuts it off all its networks; one that has none is left as it is.
    async fn disconnect(&self, _id: &ContainerId) -> Result<(), PortError> {
        let text = format!(
            "{} does not cut containers off their networks; choose `stop`",
            self.name()
        );
        Err(PortError::new(ErrorKind::Denied, text))
    }
    /// Runs a program in a running container, as the container's own user and with what the engine
    /// knows as its env, and waits for its end, `timeout` at most from its start on. Its output goes
    /// nowhere. An error says that it was not begun.
    async fn exec(
        &self,
        id: &ContainerId,
        argv: &[String],
        timeout: Duration,
    ) -> Result<ExecOutcome, PortError>;
    /// What an exec of this id is; `None` when the engine does not know it, or does not tell.
    async fn exec_details(&self, _exec: &str) -> Result<Option<ExecDetails>, PortError> {
        Ok(None)
    }
    /// Starts it as its person would; returns once its first program runs. One that runs is left as
    /// it is.
    async fn start(&self, id: &ContainerId) -> Result<(), PortError>;
    /// Containers whose last start our OCI runtime refused, among the newest of those that do not
    /// run.
    async fn refused(&self) -> Result<Vec<ContainerRecord>, PortError>;
    /// Hints, from now on.
    async fn events(&self) -> Result<Box<dyn EngineEvents>, PortError>;
    /// Whether the engine answers; the text says what to do when not.
    async fn ping(&self) -> Result<(), PortError>;
    /// How it tells what a container is while it creates it; `None` when the adapter does not know.
    async fn create_facts(&self) -> Result<Option<CreateFacts>, PortError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_compared_as_the_engine_tells_it_and_never_printed() {
        let args = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let command = ExecCommand::new("/bin/sh -c test -f /x");
        assert!(command.is_of(&args(&["/bin/sh", "-c", "test -f /x"])));
        assert!(!command.is_of(&args(&["/bin/sh", "-c", "test -f /y"])));
        // One without arguments has a blank behind it.
        assert!(ExecCommand::new("check ").is_of(&args(&["check"])));
        assert!(!ExecCommand::new("").is_of(&[]));
        assert_eq!(format!("{command:?}"), "ExecCommand(..)");
    }
}
