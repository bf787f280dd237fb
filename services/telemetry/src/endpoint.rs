//! Where Prometheus reads: `GET /metrics`, plain HTTP, on loopback or a unix socket.
//!
//! Invariants: at most [`MAX_CONNECTIONS`] at a time, each for one answer, and who is slow is let go;
//! what is asked for is read anew each time, so a page is never older than its request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::page::Page;

/// Connections at a time; a scrape needs one.
pub const MAX_CONNECTIONS: usize = 8;
/// How long the head of a request may take.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one answer may take, reading included; what hangs must not hold a connection.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Prometheus' text form.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A port on loopback.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address is not this machine's own.
    #[error("metrics are served in plain HTTP, so on loopback only, and {0} is not")]
    NotLoopback(SocketAddr),
    /// The address or path cannot be taken.
    #[error("cannot serve metrics at {at}")]
    Bind {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Gives numbers, read anew for each page.
#[async_trait]
pub trait Source: Send + Sync {
    /// Puts what there is now on the page.
    async fn read(&self, page: &mut Page);
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A place that is taken, and what it shows.
pub struct Endpoint {
    bound: Bound,
    /// [`HEAD_TIMEOUT`], but for tests.
    head: Duration,
    sources: Arc<Vec<Arc<dyn Source>>>,
}

impl Endpoint {
    /// Takes the place; a socket that nobody listens at any more is taken over.
    ///
    /// # Errors
    /// When it is not on this machine, or taken.
    pub async fn bind(
        listen: &Listen,
        sources: Vec<Arc<dyn Source>>,
    ) -> Result<Self, EndpointError> {
        let fault = |at: String| move |source| EndpointError::Bind { at, source };
        let bound = match listen {
            Listen::Tcp(address) if !address.ip().is_loopback() => {
                return Err(EndpointError::NotLoopback(*address));
            }
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await;
                Bound::Tcp(listener.map_err(fault(address.to_string()))?)
            }
            Listen::Unix(path) => {
                let listener = bind_unix(path).await;
                let listener = listener.map_err(fault(path.display().to_string()))?;
                Bound::Unix(listener, path.clone())
            }
        };
        Ok(Self {
            bound,
            head: HEAD_TIMEOUT,
            sources: Arc::new(sources),
        })
    }

    /// The port that was taken, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.bound {
            Bound::Tcp(listener) => listener.local_addr().ok(),
            Bound::Unix(..) => None,
        }
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// Never: what cannot be answered now is asked for again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return Ok(());
            };
            let serve = Serving {
                sources: Arc::clone(&self.sources),
                place,
                head: self.head,
                stop: stop.clone(),
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.bound.accept() => accepted,
            };
            match accepted {
                Ok(Stream::Tcp(stream)) => drop(tokio::spawn(serve.one(stream))),
                Ok(Stream::Unix(stream)) => drop(tokio::spawn(serve.one(stream))),
                Err(error) => {
                    tracing::warn!(error = %error, "connection for metrics not taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let Bound::Unix(_, path) = &self.bound {
            let _gone = std::fs::remove_file(path);
        }
        Ok(())
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Bound {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener, _) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, _)| Stream::Unix(stream))
            }
        }
    }
}

async fn bind_unix(path: &PathBuf) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

struct Serving {
    sources: Arc<Vec<Arc<dyn Source>>>,
    place: OwnedSemaphorePermit,
    head: Duration,
    stop: CancellationToken,
}

impl Serving {
    async fn one<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let _place = self.place;
        let sources = self.sources;
        let service = service_fn(move |request: Request<Incoming>| {
            let sources = Arc::clone(&sources);
            async move { Ok::<_, Infallible>(answer(&request, &sources).await) }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head)
            .keep_alive(false)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let most = self.head + READ_TIMEOUT;
        tokio::select! {
            () = self.stop.cancelled() => {}
            // Who asks sees a broken answer, and asks again.
            _ = tokio::time::timeout(most, serving) => {}
        }
    }
}

async fn answer(request: &Request<Incoming>, sources: &[Arc<dyn Source>]) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return reply(StatusCode::NOT_FOUND, "only /metrics is here\n".into());
    }
    if *request.method() != Method::GET {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into());
    }
    let reading = async {
        let mut page = Page::default();
        for source in sources {
            source.read(&mut page).await;
        }
        page.text()
    };
    match tokio::time::timeout(READ_TIMEOUT, reading).await {
        Ok(text) => reply(StatusCode::OK, text),
        Err(_) => reply(
            StatusCode::SERVICE_UNAVAILABLE,
            "the service did not answer its own question in time; see its log\n".into(),
        ),
    }
}

fn reply(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(TEXT);
    let headers = response.headers_mut();
    headers.insert(hyper::header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::names;

    struct One;

    #[async_trait]
    impl Source for One {
        async fn read(&self, page: &mut Page) {
            page.count(&names::SECRETS, &[], 1);
        }
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, head: &str) -> String {
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
    }

    #[tokio::test]
    async fn the_page_is_served_on_loopback_and_nothing_else_is() {
        let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        let endpoint = Endpoint::bind(&listen, vec![Arc::new(One)]).await.unwrap();
        let at = endpoint.address().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(endpoint.run(stop.clone()));
        let connect = || tokio::net::TcpStream::connect(at);
        let page = ask(connect().await.unwrap(), &get("/metrics")).await;
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        assert!(page.contains(TEXT), "{page}");
        assert!(page.contains("\nkeywheel_secrets 1\n"), "{page}");
        let other = ask(connect().await.unwrap(), &get("/v1/secrets")).await;
        assert!(other.starts_with("HTTP/1.1 404"), "{other}");
        let post = "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
        let post = ask(connect().await.unwrap(), post).await;
        assert!(post.starts_with("HTTP/1.1 405"), "{post}");
        stop.cancel();
        running.await.unwrap().unwrap();
        assert!(connect().await.is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn who_keeps_all_places_is_let_go_in_time_for_the_next() {
        let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        let mut endpoint = Endpoint::bind(&listen, vec![Arc::new(One)]).await.unwrap();
        // Long enough for all of them to come, and for the next to have asked before it is let in.
        endpoint.head = Duration::from_secs(2);
        let at = endpoint.address().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(endpoint.run(stop.clone()));
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            idle.push(tokio::net::TcpStream::connect(at).await.unwrap());
        }
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let page = ask(stream, &get("/metrics")).await;
        assert!(page.contains("keywheel_secrets 1"), "{page}");
        stop.cancel();
    }

    #[tokio::test]
    async fn a_socket_left_by_a_dead_process_is_taken_over_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listen = Listen::Unix(path.clone());
        let endpoint = Endpoint::bind(&listen, vec![Arc::new(One)]).await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(endpoint.run(stop.clone()));
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        assert!(
            ask(stream, &get("/metrics"))
                .await
                .contains("keywheel_secrets 1")
        );
        let second = Endpoint::bind(&listen, Vec::new()).await;
        assert!(matches!(second, Err(EndpointError::Bind { .. })));
        stop.cancel();
        running.await.unwrap().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn another_address_than_loopback_is_refused() {
        let listen = Listen::Tcp("0.0.0.0:0".parse().unwrap());
        let refused = Endpoint::bind(&listen, Vec::new()).await;
        assert!(matches!(refused, Err(EndpointError::NotLoopback(_))));
    }
}
