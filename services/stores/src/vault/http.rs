//! One request to the server and its answer, as Vault and OpenBao speak HTTP.
//!
//! Invariants: an answer has at most [`MAX_ANSWER_BYTES`]; a request that may be repeated is, after a
//! broken connection, 412, 429 and 5xx. How it is sent and bounded is in [`crate::http`]. It knows no
//! meaning of an answer but its status.

use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::{Entropy, SecretBytes};
use zeroize::Zeroizing;

use super::tls::Endpoint;
use crate::http::{Again, Client, Door, Stream};
pub(super) use crate::http::{Answer, Call};

/// Largest answer. A value of the largest size, every byte escaped, fits.
pub(super) const MAX_ANSWER_BYTES: usize = 8 << 20;

/// What tells of a static role.
const ROLE_KINDS: [&str; 2] = ["/static-creds/", "/static-roles/"];

/// What is asked.
pub(super) struct Ask<'a> {
    /// The method.
    pub(super) method: Method,
    /// Path and query below `/v1/`, encoded.
    pub(super) path: String,
    /// Who asks.
    pub(super) token: Option<&'a SecretBytes>,
    /// The namespace; empty for the root one.
    pub(super) namespace: &'a str,
    /// JSON, overwritten when it is dropped.
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
    /// Whether a repeat does no harm when the first one was done.
    pub(super) may_repeat: bool,
}

/// The way to one server.
pub(super) struct Http {
    pub(super) endpoint: Endpoint,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    client: Client,
}

impl Http {
    pub(super) fn new(
        endpoint: Endpoint,
        credentials: Arc<dyn Credentials>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let client = Client::new(Arc::clone(&clock), Arc::clone(&entropy), MAX_ANSWER_BYTES);
        Self {
            endpoint,
            credentials,
            clock,
            entropy,
            client,
        }
    }

    /// Ends the connections that wait, so that the next request shows today's certificate.
    pub(super) fn forget_connections(&self) {
        self.client.forget_connections();
    }

    /// Asks, and again where that helps. An answer that says no is an answer.
    pub(super) async fn ask(&self, ask: Ask<'_>, call: Call<'_>) -> Result<Answer, PortError> {
        let Ask {
            method,
            path,
            token,
            namespace,
            body,
            may_repeat,
        } = ask;
        let body = body.map_or_else(Bytes::new, Bytes::from_owner);
        let make = || {
            request(&self.endpoint.authority, &method, &path, &body)
                .map(|request| with_headers(request, token, namespace))
                .map(|request| by_the_active_node(request, &path))
                .map_err(|()| {
                    let text = format!("`{path}` cannot be asked for; correct the secret's path");
                    PortError::new(ErrorKind::Denied, text)
                })
        };
        let again = Again {
            may_repeat,
            is_passing,
        };
        let answer = self.client.send(self, &make, again, call).await?;
        match is_passing(answer.status, may_repeat) {
            true => Err(self.busy(&answer)),
            false => Ok(answer),
        }
    }

    /// What is told of an answer that another one may follow soon.
    pub(super) fn busy(&self, answer: &Answer) -> PortError {
        let (place, status) = (&self.endpoint.authority, answer.status);
        let when = answer.retry_after.map_or_else(String::new, |wait| {
            format!(" and asks to come again in {} s", wait.as_secs())
        });
        let why = match status {
            429 => "has too many requests; lower the poll rate or raise its quota",
            503 => "is sealed or in maintenance; unseal it",
            _ => "fails; see its log",
        };
        let text = format!("{place} answers {status}{when}: it {why}");
        PortError::new(ErrorKind::Unavailable, text)
    }
}

#[async_trait]
impl Door for Http {
    fn name(&self) -> &str {
        &self.endpoint.authority
    }

    async fn open(&self) -> Result<Box<dyn Stream>, PortError> {
        self.endpoint.connect(&*self.credentials).await
    }
}

/// Whether the same question may get another answer soon; what was not done may always be asked again.
const fn is_passing(status: u16, may_repeat: bool) -> bool {
    matches!(status, 412 | 429 | 503) || (may_repeat && matches!(status, 500 | 502 | 504))
}

fn request(
    authority: &str,
    method: &Method,
    path: &str,
    body: &Bytes,
) -> Result<Request<Full<Bytes>>, ()> {
    let content = if *method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    Request::builder()
        .method(method)
        .uri(format!("/v1/{path}"))
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, content)
        .header("x-vault-request", "true")
        .body(Full::new(body.clone()))
        .map_err(|_| ())
}

fn with_headers(
    mut request: Request<Full<Bytes>>,
    token: Option<&SecretBytes>,
    namespace: &str,
) -> Request<Full<Bytes>> {
    let headers = request.headers_mut();
    // EXPOSE: the token is what the server knows us by.
    let token = token.and_then(|token| HeaderValue::from_bytes(token.expose()).ok());
    if let Some(mut token) = token {
        token.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-vault-token"), token);
    }
    if let Ok(namespace) = HeaderValue::from_str(namespace)
        && !namespace.is_empty()
    {
        headers.insert(HeaderName::from_static("x-vault-namespace"), namespace);
    }
    request
}

/// A standby may be behind a rotation that was just answered: it asks the active node about a role.
fn by_the_active_node(mut request: Request<Full<Bytes>>, path: &str) -> Request<Full<Bytes>> {
    if ROLE_KINDS.iter().any(|kind| path.contains(kind)) {
        let (name, forward) = ("x-vault-inconsistent", "forward-active-node");
        let forward = HeaderValue::from_static(forward);
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static(name), forward);
    }
    request
}
