//! Running a program in a container: begun detached, attached to nothing, ended when the engine says so.
//!
//! Invariants: no output of it is asked for, so none can be kept; the engine's id is noted as ours before
//! it begins; once its start was sent, nothing but the exec's own state says that it did not begin, so
//! that nobody begins it twice unawares. Its time begins with its start. A program whose time is over is
//! left alone: the engine has no call that ends one.

use std::time::Duration;

use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::ExecOutcome;
use keywheel_engine::port::PortError;
use tokio::time::Instant;

use super::{DockerHost, READ_TIMEOUT, bounded, parse};
use crate::form::ExecState;
use crate::wire;

/// How often it is looked at, should no event say that it has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Programs that are being begun at once, on the whole host; all that run may be more.
pub(super) const PARALLEL_BEGINS: usize = 8;

/// An exec whose start was sent.
struct Begun {
    exec: String,
    /// The engine's word that it did not begin it.
    refusal: Option<Error>,
    hints: Incoming,
    /// When its time is over.
    until: Instant,
}

impl DockerHost {
    pub(super) async fn run_in(
        &self,
        id: &ContainerId,
        argv: &[String],
        timeout: Duration,
    ) -> Result<ExecOutcome, PortError> {
        let begun = {
            let _permit = self.begins.acquire().await;
            self.begin_in(id, argv, timeout).await?
        };
        self.end_of(id, begun).await
    }

    /// Makes an exec and sends its start. An error: it was not sent.
    async fn begin_in(
        &self,
        id: &ContainerId,
        argv: &[String],
        timeout: Duration,
    ) -> Result<Begun, PortError> {
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
        self.own.note(id, &made.id);
        let detached = StartExecOptions {
            detach: true,
            ..StartExecOptions::default()
        };
        let until = Instant::now() + timeout;
        let start = client.start_exec(&made.id, Some(detached));
        let refusal = match tokio::time::timeout(READ_TIMEOUT.min(timeout), start).await {
            Ok(Err(error @ Error::DockerResponseServerError { .. })) => Some(error),
            // No answer says nothing: the engine may begin it late.
            Ok(Ok(_) | Err(_)) | Err(_) => None,
        };
        Ok(Begun {
            exec: made.id,
            refusal,
            hints: hints.into_body(),
            until,
        })
    }

    /// What became of it. Only the exec's state says so; one that cannot be had is asked for again.
    async fn end_of(&self, id: &ContainerId, begun: Begun) -> Result<ExecOutcome, PortError> {
        let Begun {
            exec,
            mut refusal,
            mut hints,
            until,
        } = begun;
        let mut is_running = false;
        loop {
            match tokio::time::timeout_at(until, self.state_of(&exec)).await {
                Ok(Ok(Some(state))) => {
                    let refused = refusal.take().filter(|_| !state.running);
                    match (state.running, state.exit_code, refused) {
                        // One that could not be begun has an exit code too, but not this one.
                        (false, Some(0) | None, Some(error)) => {
                            return Err(self.failed(&words(id), error));
                        }
                        (false, Some(code), _) => return Ok(ExecOutcome::Exited(code)),
                        (running, ..) => is_running = running,
                    }
                }
                Ok(Ok(None)) => return Ok(ExecOutcome::Lost),
                // Looked at again.
                Ok(Err(_)) | Err(_) => {}
            }
            let now = Instant::now();
            if now >= until {
                return Ok(if is_running {
                    ExecOutcome::TimedOut
                } else {
                    ExecOutcome::Lost
                });
            }
            // What an event says is not looked at: it is the sign to ask.
            let again = until.min(now + LOOK_AGAIN);
            match tokio::time::timeout_at(again, hints.frame()).await {
                Ok(Some(Ok(_))) | Err(_) => {}
                Ok(Some(Err(_)) | None) => tokio::time::sleep_until(again).await,
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
