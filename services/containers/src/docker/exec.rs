//! Running a program in a container: begun detached, attached to nothing, ended when the engine says so.
//!
//! Invariants: no output of it is asked for, so none can be kept; the engine's id is noted as ours before
//! it begins; once its start was sent, nothing but the exec's own state says that it did not begin, so
//! that nobody begins it twice unawares. Its time begins with its start. A program whose time is over is
//! left alone: the engine has no call that ends one.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::ExecOutcome;

use super::{DockerHost, READ_TIMEOUT, bounded, parse};
use crate::form::ExecState;
use crate::wire;

/// How often it is looked at, should no event say that it has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Programs that are being begun at once, on the whole host; all that run may be more.
pub(super) const PARALLEL_BEGINS: usize = 8;

impl DockerHost {
    pub(super) async fn run_in(
        &self,
        id: &ContainerId,
        argv: &[String],
        timeout: Duration,
    ) -> Result<ExecOutcome, PortError> {
        let client = self.client().await?;
        let permit = self.begins.acquire().await;
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
        self.own.note(id, &made.id);
        let mut is_running = false;
        let run = async {
            let refusal = start(client, &made.id).await;
            drop(permit);
            let hints = hints.into_body();
            let ended = self.end_of(&made.id, refusal.is_some(), hints, &mut is_running);
            match (ended.await, refusal) {
                (Some(outcome), _) => Ok(outcome),
                (None, Some(error)) => Err(self.failed(&words(id), error)),
                (None, None) => Ok(ExecOutcome::Lost),
            }
        };
        let ended = tokio::time::timeout(timeout, run).await;
        ended.unwrap_or(Ok(if is_running {
            ExecOutcome::TimedOut
        } else {
            ExecOutcome::Lost
        }))
    }

    /// What became of an exec whose start was sent; `None`: `is_refused`, and it never began. Only the
    /// exec's state says so; one that cannot be had is asked for again.
    async fn end_of(
        &self,
        exec: &str,
        is_refused: bool,
        mut hints: Incoming,
        is_running: &mut bool,
    ) -> Option<ExecOutcome> {
        loop {
            match self.state_of(exec).await {
                Ok(Some(state)) => {
                    *is_running = state.running;
                    match (state.running, state.exit_code) {
                        // One that could not be begun has an exit code too, but not this one.
                        (false, Some(0) | None) if is_refused => return None,
                        (false, Some(code)) => return Some(ExecOutcome::Exited(code)),
                        (true, _) | (false, None) => {}
                    }
                }
                Ok(None) => return Some(ExecOutcome::Lost),
                // Looked at again.
                Err(_) => {}
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

/// Sends the start; gives the engine's word that it did not begin it. No answer says nothing: it may begin
/// late.
async fn start(client: &Docker, exec: &str) -> Option<Error> {
    let detached = StartExecOptions {
        detach: true,
        ..StartExecOptions::default()
    };
    let started = client.start_exec(exec, Some(detached));
    match tokio::time::timeout(READ_TIMEOUT, started).await {
        Ok(Err(error @ Error::DockerResponseServerError { .. })) => Some(error),
        Ok(_) | Err(_) => None,
    }
}

fn words(id: &ContainerId) -> String {
    format!("run the command in container {}", id.short())
}
