//! The engine's event stream: hints, with reconnects. Docker's words, and Podman's where they differ.
//!
//! Invariant: every connection but the first is announced by a resync, sent after the connection
//! stands, so that what happened in between is looked at; that the engine is away is said once. Hints are bounded; a slow reader slows
//! the stream, it loses nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::{EngineEvent, EngineEvents, ExecCommand};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::form::EventLine;
use crate::own::OwnExecs;
use crate::wire;

/// Hints kept for a slow reader.
const HINTS: usize = 1024;
/// Longest line of the stream; a longer one is passed over by a reconnect.
const MAX_LINE_BYTES: usize = 1 << 20;
/// First wait before a reconnect.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
/// Longest wait before a reconnect.
const RECONNECT_MOST: Duration = Duration::from_secs(2);
/// Longest id of an exec that is taken; an engine's have 64.
const MAX_EXEC_ID: usize = 128;
/// `{"type":["container"]}`
const TARGET: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";

/// The stream's reading end.
pub(crate) struct Stream {
    hints: mpsc::Receiver<EngineEvent>,
    task: AbortHandle,
}

impl Stream {
    /// Connects; fails when the engine cannot be reached now. Of `own` execs nothing is said.
    pub(crate) async fn open(socket: PathBuf, own: Arc<OwnExecs>) -> Result<Self, PortError> {
        let first = wire::get(&socket, TARGET).await?;
        let (sender, hints) = mpsc::channel(HINTS);
        let task = tokio::spawn(forward(socket, own, first, sender)).abort_handle();
        Ok(Self { hints, task })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl EngineEvents for Stream {
    async fn next(&mut self) -> EngineEvent {
        match self.hints.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

async fn forward(
    socket: PathBuf,
    own: Arc<OwnExecs>,
    first: Response<Incoming>,
    hints: mpsc::Sender<EngineEvent>,
) {
    let mut response = first;
    loop {
        if !read_lines(response, &own, &hints).await {
            return;
        }
        tracing::warn!("the engine's event stream ended");
        let Some(next) = reconnect(&socket, &hints).await else {
            return;
        };
        response = next;
        if hints.send(EngineEvent::Resync).await.is_err() {
            return;
        }
    }
}

/// Tries until the engine answers, and says once that it does not; `None` when nobody listens any
/// more.
async fn reconnect(socket: &Path, hints: &mpsc::Sender<EngineEvent>) -> Option<Response<Incoming>> {
    let mut wait = RECONNECT_FIRST;
    let mut is_told = false;
    loop {
        tokio::time::sleep(wait).await;
        let error = match wire::get(socket, TARGET).await {
            Ok(response) => return Some(response),
            Err(error) => error,
        };
        if !is_told {
            hints.send(EngineEvent::Away(error.text)).await.ok()?;
            is_told = true;
        }
        wait = (wait * 2).min(RECONNECT_MOST);
    }
}

/// Hands on what the stream says until it ends; `false` when nobody listens any more.
async fn read_lines(
    response: Response<Incoming>,
    own: &OwnExecs,
    hints: &mpsc::Sender<EngineEvent>,
) -> bool {
    let mut body = response.into_body();
    let mut pending = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        pending.extend_from_slice(&bytes);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Some(event) = parse(&line, own)
                && hints.send(event).await.is_err()
            {
                return false;
            }
        }
        if pending.len() > MAX_LINE_BYTES {
            return true;
        }
    }
    true
}

fn parse(line: &[u8], own: &OwnExecs) -> Option<EngineEvent> {
    let line: EventLine = serde_json::from_slice(line).ok()?;
    if line.kind != "container" {
        return None;
    }
    let id = ContainerId::parse(&line.actor.id).ok()?;
    let (action, rest) = line
        .action
        .split_once(':')
        .unwrap_or((line.action.as_str(), ""));
    match action.trim() {
        "start" => Some(EngineEvent::Started(id)),
        "die" | "died" => Some(EngineEvent::Stopped(id)),
        "destroy" | "remove" => Some(EngineEvent::Removed(id)),
        "health_status" => Some(EngineEvent::HealthChanged(id)),
        "exec_start" if own.has(&id, &line.actor.attributes.exec_id) => None,
        "exec_start" => {
            let exec = line.actor.attributes.exec_id;
            let is_id =
                exec.len() <= MAX_EXEC_ID && exec.bytes().all(|byte| byte.is_ascii_hexdigit());
            Some(EngineEvent::Executed {
                id,
                exec: if is_id { exec } else { String::new() },
                command: ExecCommand::new(rest.trim_start()),
            })
        }
        // Podman's word for an exec: neither which it is nor what it runs.
        "exec" if own.take(&id) => None,
        "exec" => Some(EngineEvent::Executed {
            id,
            exec: String::new(),
            command: ExecCommand::new(""),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(action: &str) -> Vec<u8> {
        let id = "d".repeat(64);
        format!(r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{id}"}}}}"#)
            .into_bytes()
    }

    #[test]
    fn no_line_of_the_engine_makes_it_panic() {
        keywheel_testkit::hostile(&line("start"), |bytes| {
            drop(parse(bytes, &OwnExecs::default()))
        });
    }

    #[test]
    fn actions_become_hints_and_others_are_passed_over() {
        let id = ContainerId::parse(&"d".repeat(64)).unwrap();
        let parse = |line: &[u8]| parse(line, &OwnExecs::default());
        assert_eq!(
            parse(&line("start")),
            Some(EngineEvent::Started(id.clone()))
        );
        assert_eq!(parse(&line("die")), Some(EngineEvent::Stopped(id.clone())));
        assert_eq!(
            parse(&line("destroy")),
            Some(EngineEvent::Removed(id.clone()))
        );
        assert_eq!(
            parse(&line("health_status: healthy")),
            Some(EngineEvent::HealthChanged(id.clone()))
        );
        let executed = |exec: &str, text: &str| {
            let (id, exec, command) = (id.clone(), exec.to_owned(), ExecCommand::new(text));
            Some(EngineEvent::Executed { id, exec, command })
        };
        assert_eq!(
            parse(&line("exec_start: sh -c x: y")),
            executed("", "sh -c x: y")
        );
        let with_id = |exec: &str| {
            let actor = serde_json::json!({ "ID": id.as_str(), "Attributes": { "execID": exec, "image": "i" } });
            serde_json::json!({ "Type": "container", "Action": "exec_start: sh", "Actor": actor })
                .to_string()
        };
        for (exec, taken) in [
            ("5d".repeat(64), true),
            ("5d".repeat(64) + "5", false),
            ("not hex".to_owned(), false),
        ] {
            let expected = if taken { exec.as_str() } else { "" };
            assert_eq!(parse(with_id(&exec).as_bytes()), executed(expected, "sh"));
        }
        for other in ["attach", "kill", "exec_die"] {
            assert_eq!(parse(&line(other)), None, "{other}");
        }
        assert_eq!(parse(b"not json"), None);
        // Podman's words.
        assert_eq!(parse(&line("died")), Some(EngineEvent::Stopped(id.clone())));
        assert_eq!(
            parse(&line("remove")),
            Some(EngineEvent::Removed(id.clone()))
        );
        assert_eq!(parse(&line("exec")), executed("", ""));
    }

    #[test]
    fn of_podmans_events_without_ids_as_many_are_ours_as_began() {
        let id = ContainerId::parse(&"d".repeat(64)).unwrap();
        let own = OwnExecs::default();
        own.note(&id, "5d");
        assert_eq!(parse(&line("exec"), &own), None);
        let theirs = parse(&line("exec"), &own);
        assert!(matches!(theirs, Some(EngineEvent::Executed { .. })));
    }

    #[test]
    fn a_program_that_we_run_ourselves_is_no_hint_and_a_label_makes_none_ours() {
        let (ours, labelled) = ("d".repeat(64), "e".repeat(64));
        let said = |id: &str, exec: &str| {
            format!(
                r#"{{"Type":"container","Action":"exec_start: /bin/reload","Actor":{{"ID":"{id}","Attributes":{{"execID":"{exec}","image":"app"}}}}}}"#
            )
        };
        let own = OwnExecs::default();
        own.note(&ContainerId::parse(&ours).unwrap(), "5d");
        assert_eq!(parse(said(&ours, "5d").as_bytes(), &own), None);
        // The second: its label `execID` overlays the id with one of ours elsewhere.
        for theirs in [said(&ours, "6d"), said(&labelled, "5d")] {
            let theirs = parse(theirs.as_bytes(), &own);
            assert!(matches!(theirs, Some(EngineEvent::Executed { .. })));
        }
    }
}
