//! containerd's event stream: hints, with reconnects. As `events`, over gRPC.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::{EngineEvent, EngineEvents, ExecCommand};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::form::{Envelope, Exit, Nothing, TaskId};
use super::grpc::{self, PREFIX, Streaming};

/// Hints kept for a slow reader.
const HINTS: usize = 1024;
/// Longest event; a longer one is passed over by a reconnect.
const MAX_EVENT_BYTES: usize = 1 << 20;
/// First wait before a reconnect, and the longest.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_MOST: Duration = Duration::from_secs(2);
const SUBSCRIBE: &str = "containerd.services.events.v1.Events/Subscribe";

/// The stream's reading end.
pub(super) struct Stream {
    hints: mpsc::Receiver<EngineEvent>,
    task: AbortHandle,
}

impl Stream {
    /// Connects; fails when containerd cannot be reached now.
    pub(super) async fn open(socket: PathBuf) -> Result<Self, PortError> {
        let first = subscribe(&socket).await?;
        let (sender, hints) = mpsc::channel(HINTS);
        let task = tokio::spawn(forward(socket, first, sender)).abort_handle();
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

async fn subscribe(socket: &Path) -> Result<Streaming, PortError> {
    grpc::send(socket, "", SUBSCRIBE, &Nothing {}).await
}

async fn forward(socket: PathBuf, first: Streaming, hints: mpsc::Sender<EngineEvent>) {
    let mut stream = first;
    loop {
        if !read(stream, &hints).await {
            return;
        }
        tracing::warn!("the engine's event stream ended");
        let Some(next) = reconnect(&socket, &hints).await else {
            return;
        };
        stream = next;
        if hints.send(EngineEvent::Resync).await.is_err() {
            return;
        }
    }
}

/// Tries until containerd answers, and says once that it does not; `None` when nobody listens any more.
async fn reconnect(socket: &Path, hints: &mpsc::Sender<EngineEvent>) -> Option<Streaming> {
    let mut wait = RECONNECT_FIRST;
    let mut is_told = false;
    loop {
        tokio::time::sleep(wait).await;
        let error = match subscribe(socket).await {
            Ok(stream) => return Some(stream),
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
async fn read(stream: Streaming, hints: &mpsc::Sender<EngineEvent>) -> bool {
    let Streaming { mut response, .. } = stream;
    let mut pending = Vec::new();
    while let Some(Ok(frame)) = response.body_mut().frame().await {
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        pending.extend_from_slice(&bytes);
        while let Some(message) = take(&mut pending) {
            let event = Envelope::decode(message.as_slice()).ok().and_then(parse);
            if let Some(event) = event
                && hints.send(event).await.is_err()
            {
                return false;
            }
        }
        if pending.len() > MAX_EVENT_BYTES {
            return true;
        }
    }
    true
}

/// The first message that is there whole.
fn take(pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = pending.get(1..PREFIX)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let end = PREFIX.checked_add(usize::try_from(length).ok()?)?;
    let message = pending.get(PREFIX..end)?.to_vec();
    pending.drain(..end);
    Some(message)
}

fn parse(envelope: Envelope) -> Option<EngineEvent> {
    let value = envelope.event?.value;
    let said = TaskId::decode(value.as_slice()).ok()?;
    let id = ContainerId::parse(&said.container_id).ok()?;
    match envelope.topic.as_str() {
        "/tasks/start" => Some(EngineEvent::Started(id)),
        "/tasks/exit" => {
            // Of an exec it has the exec's id.
            let exit = Exit::decode(value.as_slice()).ok()?;
            (exit.id == said.container_id).then_some(EngineEvent::Stopped(id))
        }
        "/containers/delete" => Some(EngineEvent::Removed(id)),
        "/tasks/exec-started" => Some(EngineEvent::Executed {
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
    use crate::containerd::form::Any;

    /// A container's id in field 1, and in field 2 the id of a process, or a number as at a start.
    fn envelope(topic: &str, process: &str) -> Envelope {
        let container_id = "d".repeat(64);
        let mut value = TaskId { container_id }.encode_to_vec();
        match process {
            "" => value.extend([0x10, 7]),
            id => value.extend(Exit { id: id.to_owned() }.encode_to_vec()),
        }
        Envelope {
            topic: topic.to_owned(),
            event: Some(Any { value }),
        }
    }

    #[test]
    fn events_become_hints_and_others_are_passed_over() {
        let id = ContainerId::parse(&"d".repeat(64)).unwrap();
        let own = id.to_string();
        let started = EngineEvent::Started(id.clone());
        assert_eq!(parse(envelope("/tasks/start", "")), Some(started));
        let stopped = EngineEvent::Stopped(id.clone());
        assert_eq!(parse(envelope("/tasks/exit", &own)), Some(stopped));
        assert_eq!(parse(envelope("/tasks/exit", "exec-1")), None);
        let removed = EngineEvent::Removed(id);
        assert_eq!(parse(envelope("/containers/delete", "")), Some(removed));
        let executed = parse(envelope("/tasks/exec-started", "exec-1"));
        assert!(matches!(executed, Some(EngineEvent::Executed { .. })));
        assert_eq!(parse(envelope("/tasks/oom", "")), None);
        assert_eq!(parse(Envelope::default()), None);
    }

    #[test]
    fn messages_are_taken_whole_and_in_order() {
        let mut pending = vec![0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 1, 9, 0, 0];
        assert_eq!(take(&mut pending), Some(vec![7, 8]));
        assert_eq!(take(&mut pending), Some(vec![9]));
        assert_eq!(take(&mut pending), None);
        pending.extend([0, 255, 255, 1]);
        assert_eq!(take(&mut pending), None);
    }
}
