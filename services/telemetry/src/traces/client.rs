//! One POST to the collector: address, TCP, TLS, HTTP, compression.
//!
//! Invariants: headers of others go over `https` or to a loopback address only; over `https` the certificate is checked by the system's authorities; no redirect is
//! followed and no proxy is asked; of an answer at most [`MAX_ANSWER_BYTES`] are read, and none of it is
//! logged.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::export::Collector;
use super::headers::Headers;

/// Most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Why a collector cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("`{0}` is not `http://host:port` or `https://host:port`")]
    Address(String),
    /// Headers would be read on the way.
    #[error(
        "headers for the collector `{0}` would go in the clear; name it with https, or send them to a collector of this machine"
    )]
    Clear(String),
    /// There is no TLS.
    #[error("the system's authorities cannot be read")]
    Tls(#[source] rustls::Error),
    /// There is no connection.
    #[error("{at} cannot be reached")]
    Connect {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("{at} did not answer to the end")]
    Broken {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// It said no.
    #[error("{at} answers {status}")]
    Refused {
        /// Where.
        at: String,
        /// Its status.
        status: u16,
    },
}

impl ClientError {
    /// Whether the same may be told again soon, as OTLP has it.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            Self::Address(_) | Self::Clear(_) | Self::Tls(_) => false,
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The way to a collector.
pub(super) struct Client {
    host: String,
    port: u16,
    authority: String,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    headers: Headers,
    gzip: bool,
}

impl Client {
    /// To the address that OTLP has for traces below a base.
    pub(super) fn new(collector: Collector) -> Result<Self, ClientError> {
        let Collector {
            endpoint,
            headers,
            gzip,
        } = collector;
        let shown = || endpoint.chars().take(200).collect();
        let wrong = || ClientError::Address(shown());
        let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let (port, tls) = match uri.scheme_str() {
            Some("http") => (80, None),
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
                (443, Some((connector()?, name)))
            }
            _ => return Err(wrong()),
        };
        if tls.is_none() && !headers.is_empty() && !is_near(&host) {
            return Err(ClientError::Clear(shown()));
        }
        Ok(Self {
            port: authority.port_u16().unwrap_or(port),
            authority: authority.to_string(),
            path: format!("{}/v1/traces", uri.path().trim_end_matches('/')),
            host,
            tls,
            headers,
            gzip,
        })
    }

    /// Where it leads.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// A body as it goes on the way.
    pub(super) fn packed(&self, body: Vec<u8>) -> Bytes {
        let packed = self.gzip.then(|| gzip(&body)).and_then(Result::ok);
        Bytes::from(packed.unwrap_or(body))
    }

    /// Tells a body that was [`Self::packed`].
    pub(super) async fn post(&self, body: Bytes) -> Result<(), ClientError> {
        let at = || self.authority.clone();
        let broken = |source| ClientError::Broken { at: at(), source };
        let mut request = Request::post(&self.path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(body))
            .map_err(|_| ClientError::Address(at()))?;
        if self.gzip {
            let gzip = HeaderValue::from_static("gzip");
            request.headers_mut().insert(header::CONTENT_ENCODING, gzip);
        }
        self.headers.add_to(request.headers_mut());
        let stream = self.connect().await;
        let stream = stream.map_err(|source| ClientError::Connect { at: at(), source })?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // What it ends with is told by the request.
            driver.await.unwrap_or_default();
        }));
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        // Read to its end, so that the collector is not cut off; what it says changes nothing.
        let _said = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await;
        match status.is_success() {
            true => Ok(()),
            false => Err(ClientError::Refused {
                at: at(),
                status: status.as_u16(),
            }),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((tls, name)) => Box::new(tls.connect(name.clone(), stream).await?),
        })
    }
}

/// Whether a name is this machine's whoever is asked.
fn is_near(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}

fn connector() -> Result<TlsConnector, ClientError> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is as if it were not there; without any, no server is believed.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
