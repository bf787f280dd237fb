//! Running a program in a container: begun detached, attached to nothing, ended when the engine says so.
//!
//! Invariants: no output of it is asked for, so none can be kept; the engine's id is noted as ours before
//! it begins. A program whose time is over is left alone: the engine has no call that ends one.

use std::time::Duration;

use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::ExecOutcome;
use keywheel_engine::port::{ErrorKind, PortError};

use super::{DockerHost, READ_TIMEOUT, bounded, parse};
use crate::form::ExecState;
use crate::wire;

/// How often it is looked at, should no event say that it has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl DockerHost {
    pub(super) async fn run_in(
        &self,
        id: &ContainerId,
        argv: &[String],
        timeout: Duration,
    ) -> Result<ExecOutcome, PortError> {
        let client = self.client().await?;
        // Open before it begins, so that its end is not missed.
        let filter = format!("%7B%22container%22%3A%5B%22{id}%22%5D%7D");
        let target = format!("/events?filters={filter}");
        let hints = bounded(READ_TIMEOUT, &self.socket, wire::get(&self.socket, &target)).await?;
        let options = CreateExecOptions {
            cmd: Some(argv.to_vec()),
            attach_stdin: Some(false),
            attach_stdout: Some(false),
            attach_stderr: Some(false),
            ..CreateExecOptions::default()
        };
        let made = bounded(READ_TIMEOUT, &self.socket, async {
            let made = client.create_exec(id.as_str(), options).await;
            made.map_err(|error| self.failed(&words(id), error))
        })
        .await?;
        self.own.note(&made.id);
        let detached = StartExecOptions {
            detach: true,
            ..StartExecOptions::default()
        };
        let started = bounded(READ_TIMEOUT, &self.socket, async {
            Ok(client.start_exec(&made.id, Some(detached)).await)
        })
        .await?;
        if let Err(error) = started {
            return self.not_begun(id, &made.id, error).await;
        }
        let end = self.end_of(id, &made.id, hints.into_body());
        match tokio::time::timeout(timeout, end).await {
            Ok(code) => code.map(ExecOutcome::Exited),
            Err(_) => Ok(ExecOutcome::TimedOut),
        }
    }

    /// A program that could not be begun has an exit code too; anything else is the engine's failure.
    async fn not_begun(
        &self,
        id: &ContainerId,
        exec: &str,
        error: Error,
    ) -> Result<ExecOutcome, PortError> {
        match self.state_of(exec).await {
            Ok(Some(ExecState {
                running: false,
                exit_code: Some(code),
            })) if code != 0 => Ok(ExecOutcome::Exited(code)),
            _ => Err(self.failed(&words(id), error)),
        }
    }

    async fn end_of(
        &self,
        id: &ContainerId,
        exec: &str,
        mut hints: Incoming,
    ) -> Result<i64, PortError> {
        loop {
            let Some(state) = self.state_of(exec).await? else {
                let text = format!(
                    "the command in container {} was not seen to end: the engine does not know it any more",
                    id.short()
                );
                return Err(PortError::new(ErrorKind::NotFound, text));
            };
            if let (false, Some(code)) = (state.running, state.exit_code) {
                return Ok(code);
            }
            // What an event says is not looked at: it is the sign to ask.
            match tokio::time::timeout(LOOK_AGAIN, hints.frame()).await {
                Ok(Some(Ok(_))) | Err(_) => {}
                Ok(Some(Err(_)) | None) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn state_of(&self, exec: &str) -> Result<Option<ExecState>, PortError> {
        let target = format!("/exec/{exec}/json");
        let read = wire::read(&self.socket, &target);
        let body = bounded(READ_TIMEOUT, &self.socket, read).await?;
        body.map(|body| parse(&body)).transpose()
    }
}

fn words(id: &ContainerId) -> String {
    format!("run the command in container {}", id.short())
}
