//! Plain reads from the engine's unix socket: one connection a request, bounded in size and time.
//!
//! bollard's typed reads refuse a whole list for one word they do not know, and its event stream
//! begins only when it is first polled; so lists, inspects and events are read here.

use std::path::Path;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::net::UnixStream;

use crate::choice::Kind;
use crate::form::Complaint;

/// Largest answer that is read.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Sends a GET and returns once the head of the answer is there.
pub(crate) async fn get(socket: &Path, target: &str) -> Result<Response<Incoming>, PortError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable(socket, error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(socket, error))?;
    // Ends by itself when the answer is dropped or read.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let request = Request::get(target)
        .header("Host", "docker")
        .body(Empty::<Bytes>::new())
        .map_err(|error| {
            PortError::caused(
                ErrorKind::Unavailable,
                "the request to the engine was not built",
                error,
            )
        })?;
    sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(socket, error))
}

/// Sends a GET and reads the whole answer; `None` for "no such container".
pub(crate) async fn read(socket: &Path, target: &str) -> Result<Option<Bytes>, PortError> {
    let response = get(socket, target).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| {
            PortError::caused(
                ErrorKind::Unavailable,
                "the engine's answer broke off",
                error,
            )
        })?
        .to_bytes();
    match status {
        StatusCode::OK => Ok(Some(body)),
        StatusCode::NOT_FOUND => Ok(None),
        other => {
            let said = serde_json::from_slice::<Complaint>(&body)
                .unwrap_or_default()
                .message;
            Err(PortError::new(
                ErrorKind::Unavailable,
                format!("{} answered {other}: {said}", Kind::of(socket).daemon()),
            ))
        }
    }
}

/// The engine cannot be reached: what, and what to do.
pub(crate) fn unreachable(
    socket: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> PortError {
    let kind = Kind::of(socket);
    let text = format!(
        "cannot reach {} at {}: is it running? start it ({}), or set DOCKER_HOST",
        kind.daemon(),
        socket.display(),
        kind.start()
    );
    PortError::caused(ErrorKind::Unavailable, text, source)
}
