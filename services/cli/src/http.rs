//! One HTTP/1.1 exchange over a unix socket or mutual TLS, with named bounds. Used for the daemon and
//! for Docker's engine.
//!
//! It knows no resource: it sends bytes and gives bytes. No redirects, no connection kept. Whose
//! certificate counts is the caller's matter.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HeaderValue;
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use keywheel_identity::tls::{Refusal, explain};
use keywheel_seal::SecretBytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long a connection may take to stand.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read whole, in bytes.
pub(crate) const MAX_ANSWER_BYTES: usize = 512 * 1024 * 1024;

/// The name in the handshake; the other side is known by its certificate, not by this.
const SERVER_NAME: &str = "gateway.keywheel.internal";

/// Whom to speak to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A unix socket.
    Socket(PathBuf),
    /// HOST:PORT, over TLS.
    Tls {
        /// HOST:PORT.
        address: String,
        /// What we show and whom we accept.
        config: Arc<ClientConfig>,
    },
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Self::Socket(path.to_owned())
    }
}

/// Either transport.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Target {
    async fn connect(&self) -> Result<Box<dyn Stream>, Fault> {
        match self {
            Self::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(Fault::Connect)?;
                Ok(Box::new(stream))
            }
            Self::Tls { address, config } => {
                let stream = TcpStream::connect(address).await.map_err(Fault::Connect)?;
                let name = ServerName::try_from(SERVER_NAME);
                let name = name.map_err(|error| Fault::Broken(error.to_string()))?;
                let connector = TlsConnector::from(Arc::clone(config));
                let shaken = connector.connect(name, stream).await;
                let stream = shaken.map_err(|error| match explain(&error) {
                    Some(refusal) => Fault::Untrusted(refusal),
                    None => Fault::Broken(keywheel_daemon::chain(&error)),
                })?;
                Ok(Box::new(stream))
            }
        }
    }

    fn host(&self) -> &str {
        match self {
            Self::Socket(_) => "localhost",
            Self::Tls { address, .. } => address,
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody is there, or the system does not let us.
    Connect(io::Error),
    /// One side does not trust the other.
    Untrusted(Refusal),
    /// The connection broke, or what came is not HTTP.
    Broken(String),
    /// Nothing came for so long.
    Late(Duration),
    /// The answer is over [`MAX_ANSWER_BYTES`].
    TooLarge,
}

/// What to ask.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// A JSON body.
    pub(crate) body: Option<Vec<u8>>,
    /// A token, for a gateway.
    pub(crate) bearer: Option<Arc<SecretBytes>>,
}

impl Ask {
    /// A look.
    pub(crate) fn look(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: None,
            bearer: None,
        }
    }
}

/// Asks and gives the answer's head and a body that is still to be read.
pub(crate) async fn open(
    target: impl Into<Target>,
    ask: Ask,
    patience: Duration,
) -> Result<Response<Incoming>, Fault> {
    let target = target.into();
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, target.connect());
    let stream = connecting
        .await
        .map_err(|_| Fault::Late(CONNECT_TIMEOUT))??;
    let exchange = async {
        let broken = |error: hyper::Error| match Refusal::behind(&error) {
            Some(refusal) => Fault::Untrusted(refusal),
            None => Fault::Broken(keywheel_daemon::chain(&error)),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // The connection ends with its last handle; there is nobody to wait for it in a client.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(header::HOST, target.host())
            .header(
                header::USER_AGENT,
                concat!("keywheel/", env!("CARGO_PKG_VERSION")),
            );
        if ask.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(bearer) = &ask.bearer {
            request = request.header(header::AUTHORIZATION, authorization(bearer)?);
        }
        let body = Full::new(Bytes::from(ask.body.unwrap_or_default()));
        let request = request
            .body(body)
            .map_err(|error| Fault::Broken(error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    };
    tokio::time::timeout(patience, exchange)
        .await
        .map_err(|_| Fault::Late(patience))?
}

/// The header with a token; no log of the client's shows it.
fn authorization(bearer: &SecretBytes) -> Result<HeaderValue, Fault> {
    // EXPOSE: it goes to the gateway that is asked, and nowhere else.
    let text = SecretBytes::from([b"Bearer ".as_slice(), bearer.expose()].concat());
    // EXPOSE: as above.
    let value = HeaderValue::from_bytes(text.expose());
    let mut value = value.map_err(|error| Fault::Broken(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Asks and reads the whole answer.
pub(crate) async fn exchange(
    target: impl Into<Target>,
    ask: Ask,
    patience: Duration,
) -> Result<(StatusCode, Bytes), Fault> {
    let (head, body) = exchange_whole(target, ask, patience).await?;
    Ok((head.status, body))
}

/// Asks and reads the whole answer, with its headers.
pub(crate) async fn exchange_whole(
    target: impl Into<Target>,
    ask: Ask,
    patience: Duration,
) -> Result<(Parts, Bytes), Fault> {
    let response = open(target, ask, patience).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect();
    let body = tokio::time::timeout(patience, body)
        .await
        .map_err(|_| Fault::Late(patience))?;
    match body {
        Ok(body) => Ok((head, body.to_bytes())),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Fault::TooLarge),
        Err(error) => Err(Fault::Broken(error.to_string())),
    }
}

/// A part of a path or query, percent-encoded; `/` stays, as names of secrets have it.
pub(crate) fn escape(text: &str) -> String {
    let keep =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if keep(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_readable_and_everything_else_is_escaped() {
        assert_eq!(escape("prod/db-password_1.x"), "prod/db-password_1.x");
        assert_eq!(escape("a b?c#d%ä"), "a%20b%3Fc%23d%25%C3%A4");
    }
}
