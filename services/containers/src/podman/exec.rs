//! Running a program in a container by Podman: begun detached, attached to nothing.
//!
//! As `docker::exec`, but its end is read from the file that conmon writes at it, because Podman 4.3 goes on saying
//! `Running` for five minutes; a session that was made and never begun says exit code 0 there, and counts as no end.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions};
use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::ExecOutcome;
use keywheel_engine::port::{ErrorKind, PortError};
use serde::Deserialize;

use super::PodmanHost;
use crate::docker::{READ_TIMEOUT, bounded, parse};
use crate::wire;

/// How often it is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Longest exit file.
const MAX_CODE_BYTES: u64 = 16;
/// Podman's words for a program that is not there and for one that may not be run, and a shell's exit codes for them.
const NOT_BEGUN: [(&str, i64); 2] = [
    (
        "OCI runtime attempted to invoke a command that was not found",
        127,
    ),
    ("OCI permission denied", 126),
];

/// A session, as Podman keeps it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Session {
    #[serde(default)]
    running: bool,
    /// Set once it has ended.
    #[serde(default)]
    can_remove: bool,
    #[serde(default)]
    exit_code: i64,
}

/// What became of a start that was sent.
enum Begun {
    /// Podman's word that it did not begin.
    Refused(Error),
    /// It began, or nobody knows.
    Perhaps,
}

impl PodmanHost {
    pub(super) async fn run_in(
        &self,
        id: &ContainerId,
        argv: &[String],
        timeout: Duration,
    ) -> Result<ExecOutcome, PortError> {
        let client = self.docker.client().await?;
        let permit = self.docker.begins.acquire().await;
        let directory = self.directory(id).await?;
        let options = CreateExecOptions {
            cmd: Some(argv.to_vec()),
            attach_stdin: Some(false),
            attach_stdout: Some(false),
            attach_stderr: Some(false),
            ..CreateExecOptions::default()
        };
        let made = bounded(READ_TIMEOUT, &self.docker.socket, async {
            let made = client.create_exec(id.as_str(), options).await;
            made.map_err(|error| self.docker.failed(&words(id), error))
        })
        .await?;
        self.docker.own.note(id, &made.id);
        let mut is_running = false;
        let run = async {
            let begun = start(client, &made.id).await;
            drop(permit);
            if let Begun::Refused(error) = begun {
                self.docker.own.forget(id, &made.id);
                return not_begun(&error).ok_or_else(|| self.docker.failed(&words(id), error));
            }
            let file = directory.join(&made.id).join("exit").join(id.as_str());
            Ok(self.end_of(&made.id, &file, &mut is_running).await)
        };
        let ended = tokio::time::timeout(timeout, run).await;
        ended.unwrap_or(Ok(if is_running {
            ExecOutcome::TimedOut
        } else {
            ExecOutcome::Lost
        }))
    }

    /// Where conmon writes what belongs to the container.
    async fn directory(&self, id: &ContainerId) -> Result<PathBuf, PortError> {
        let socket = &self.docker.socket;
        let found = bounded(READ_TIMEOUT, socket, self.look(id)).await?;
        let Some(found) = found else {
            let text = format!("Podman has no container {}", id.short());
            return Err(PortError::new(ErrorKind::NotFound, text));
        };
        found.directory().ok_or_else(|| {
            let text = "Podman does not name the container's directory";
            PortError::new(ErrorKind::Unavailable, text)
        })
    }

    /// What became of a session whose start was sent; asked until it is known.
    async fn end_of(&self, exec: &str, file: &Path, is_running: &mut bool) -> ExecOutcome {
        loop {
            match self.session(exec).await {
                Ok(Some(session)) if session.can_remove => {
                    return ExecOutcome::Exited(session.exit_code);
                }
                Ok(Some(session)) => *is_running = session.running,
                Ok(None) => return read_code(file).map_or(ExecOutcome::Lost, ExecOutcome::Exited),
                // Looked at again.
                Err(_) => {}
            }
            if let Some(code) = read_code(file) {
                return ExecOutcome::Exited(code);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn session(&self, exec: &str) -> Result<Option<Session>, PortError> {
        let target = format!("/exec/{exec}/json");
        let read = wire::read(&self.docker.socket, &target);
        let body = bounded(READ_TIMEOUT, &self.docker.socket, read).await?;
        body.map(|body| parse(&body)).transpose()
    }
}

/// What conmon wrote; `None` while it did not, or did not yet write all of it.
fn read_code(file: &Path) -> Option<i64> {
    let mut text = String::new();
    let file = std::fs::File::open(file).ok()?;
    file.take(MAX_CODE_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Sends the start. No answer says nothing: it may begin late.
async fn start(client: &Docker, exec: &str) -> Begun {
    let detached = StartExecOptions {
        detach: true,
        ..StartExecOptions::default()
    };
    let started = client.start_exec(exec, Some(detached));
    match tokio::time::timeout(READ_TIMEOUT, started).await {
        Ok(Err(error @ Error::DockerResponseServerError { .. })) => Begun::Refused(error),
        Ok(_) | Err(_) => Begun::Perhaps,
    }
}

/// How a shell would tell that a program could not be begun.
fn not_begun(error: &Error) -> Option<ExecOutcome> {
    let Error::DockerResponseServerError { message, .. } = error else {
        return None;
    };
    let mut known = NOT_BEGUN.iter();
    let found = known.find(|(words, _)| message.contains(words));
    found.map(|(_, code)| ExecOutcome::Exited(*code))
}

fn words(id: &ContainerId) -> String {
    format!("run the command in container {}", id.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_file_is_a_number_or_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("code");
        assert_eq!(read_code(&file), None);
        for (text, code) in [
            ("", None),
            ("0", Some(0)),
            ("137\n", Some(137)),
            ("x", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read_code(&file), code, "{text:?}");
        }
    }

    #[test]
    fn a_program_that_cannot_be_begun_ends_as_in_a_shell() {
        let said = |message: &str| {
            not_begun(&Error::DockerResponseServerError {
                status_code: 500,
                message: message.to_owned(),
            })
        };
        let absent = "crun: executable file `x` not found: OCI runtime attempted to invoke a command that was not found";
        assert_eq!(said(absent), Some(ExecOutcome::Exited(127)));
        assert_eq!(
            said("runc: x: OCI permission denied"),
            Some(ExecOutcome::Exited(126))
        );
        assert_eq!(said("container state improper"), None);
    }
}
