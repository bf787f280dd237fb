//! Calls of containerd: gRPC over HTTP/2 on a unix socket, one connection a call, bounded in size.
//!
//! Owns the framing and the status. What does not exist is `None`; everything else that is not success is an error
//! with containerd's own words.

use std::path::Path;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keywheel_engine::port::{ErrorKind, PortError};
use prost::Message;
use tokio::net::UnixStream;

use crate::wire::{MAX_ANSWER_BYTES, unreachable};

/// Bytes before a message: whether it is compressed, and its length.
pub(super) const PREFIX: usize = 5;
/// The header that names the namespace.
const NAMESPACE: &str = "containerd-namespace";
/// What a call needs that belongs to no namespace.
const NO_NAMESPACE: &str = "default";
/// gRPC's numbers for success and for what does not exist.
const OK: &str = "0";
const NOT_FOUND: &str = "5";

/// An answer that comes in parts, and the connection it comes over.
pub(super) struct Streaming {
    pub(super) response: Response<Incoming>,
    _connection: SendRequest<Full<Bytes>>,
}

/// Sends a question and returns once the head of the answer is there.
pub(super) async fn send(
    socket: &Path,
    namespace: &str,
    method: &str,
    question: &impl Message,
) -> Result<Streaming, PortError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable(socket, error))?;
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(socket, error))?;
    // Ends by itself when the answer is dropped or read.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let request = request(namespace, method, &question.encode_to_vec())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(socket, error))?;
    Ok(Streaming {
        response,
        _connection: sender,
    })
}

fn request(
    namespace: &str,
    method: &str,
    message: &[u8],
) -> Result<Request<Full<Bytes>>, PortError> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let body = [&[0_u8][..], &length.to_be_bytes(), message].concat();
    let namespace = match namespace {
        "" => NO_NAMESPACE,
        named => named,
    };
    Request::post(format!("http://localhost/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header(NAMESPACE, namespace)
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| {
            PortError::caused(
                ErrorKind::Unavailable,
                "the request to containerd was not built",
                error,
            )
        })
}

/// One question, one answer; `None`: it does not exist.
pub(super) async fn call<Q: Message, A: Message + Default>(
    socket: &Path,
    namespace: &str,
    method: &str,
    question: &Q,
) -> Result<Option<A>, PortError> {
    let Streaming {
        response,
        _connection,
    } = send(socket, namespace, method, question).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| {
            PortError::caused(
                ErrorKind::Unavailable,
                "containerd's answer broke off",
                error,
            )
        })?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    match status(&head.headers, &trailers) {
        (OK, _) => {}
        (NOT_FOUND, _) => return Ok(None),
        (status, said) => {
            let text = format!("containerd did not answer {method}: {said} (status {status})");
            return Err(PortError::new(ErrorKind::Unavailable, text));
        }
    }
    let bytes = body.to_bytes();
    let answer = bytes.get(PREFIX..).map(A::decode);
    match answer {
        Some(Ok(answer)) => Ok(Some(answer)),
        _ => Err(PortError::new(
            ErrorKind::Unavailable,
            format!("containerd's answer to {method} is not understood"),
        )),
    }
}

/// In the trailers, or in the head of an answer that has nothing else.
fn status<'a>(head: &'a HeaderMap, trailers: &'a HeaderMap) -> (&'a str, &'a str) {
    let find = |name: &str| {
        let found = trailers.get(name).or_else(|| head.get(name));
        found.and_then(|value| value.to_str().ok())
    };
    let said = find("grpc-message").unwrap_or_default();
    (find("grpc-status").unwrap_or("none"), said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_where_it_is() {
        let (mut head, mut trailers) = (HeaderMap::new(), HeaderMap::new());
        assert_eq!(status(&head, &trailers), ("none", ""));
        head.insert("grpc-status", "5".parse().unwrap());
        assert_eq!(status(&head, &trailers), (NOT_FOUND, ""));
        trailers.insert("grpc-status", "0".parse().unwrap());
        assert_eq!(status(&head, &trailers), (OK, ""));
    }
}
