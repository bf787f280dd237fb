//! One request to the server and its answer: bounded in time, in size and in repeats.
//!
//! Invariants: no redirect is followed; an answer has at most [`MAX_ANSWER_BYTES`]; what is read is
//! overwritten when it is dropped; a request that may be repeated is, after a broken connection, 429
//! and 5xx, with a growing wait and `Retry-After`, and never beyond the call's own end. Every
//! request begins before the work's deadline. It knows no meaning of an answer but its status.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::{Entropy, SecretBytes};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::tls::Endpoint;

/// Largest answer. A value of the largest size, every byte escaped, fits.
pub(super) const MAX_ANSWER_BYTES: usize = 8 << 20;
/// How often a request is sent at most.
const ATTEMPTS: u32 = 4;
/// The wait before the first repeat; it doubles, and half of it is drawn.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Connections kept for the next request.
const MAX_IDLE: usize = 4;

/// Until when one call of the port lasts.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    /// No request begins after it.
    pub(super) until: &'a Until,
    /// The whole call ends then, by the monotonic clock.
    pub(super) ends: Duration,
}

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

/// What was answered.
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Zeroizing<Vec<u8>>,
    retry_after: Option<Duration>,
}

#[cfg(test)]
impl Answer {
    /// One that no server gave.
    pub(super) fn of(status: u16, body: Zeroizing<Vec<u8>>) -> Self {
        Self {
            status,
            body,
            retry_after: None,
        }
    }
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// The way to one server.
pub(super) struct Http {
    pub(super) endpoint: Endpoint,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    idle: Mutex<VecDeque<Connection>>,
}

impl Http {
    pub(super) fn new(
        endpoint: Endpoint,
        credentials: Arc<dyn Credentials>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            endpoint,
            credentials,
            clock,
            entropy,
            idle: Mutex::default(),
        }
    }

    /// Ends the connections that wait, so that the next request shows today's certificate.
    pub(super) fn forget_connections(&self) {
        self.idle().clear();
    }

    /// Asks, and again where that helps. An answer that says no is an answer.
    pub(super) async fn ask(&self, ask: Ask<'_>, call: Call<'_>) -> Result<Answer, PortError> {
        let body = ask.body.map_or_else(Bytes::new, Bytes::from_owner);
        if !ask.may_repeat {
            // One that waits may have ended meanwhile, and that is seen only when it was asked.
            self.forget_connections();
        }
        let mut attempt = 1;
        loop {
            call.until.check()?;
            let request = request(&self.endpoint.authority, &ask.method, &ask.path, &body)
                .map(|request| with_headers(request, ask.token, ask.namespace))
                .map_err(|()| {
                    let text = format!(
                        "`{}` cannot be asked for; correct the secret's path",
                        ask.path
                    );
                    PortError::new(ErrorKind::Denied, text)
                })?;
            let answered = self.once(request).await;
            let wait = match &answered {
                Ok(answer) if is_passing(answer.status, ask.may_repeat) => answer.retry_after,
                Err(error) if error.kind == ErrorKind::Unavailable && ask.may_repeat => None,
                _ => return answered,
            };
            let pause = wait.unwrap_or_else(|| self.backoff(attempt));
            let left = call.ends.saturating_sub(self.clock.monotonic());
            if attempt >= ATTEMPTS || pause >= left.min(call.until.remaining()) {
                return answered.and_then(|answer| Err(self.busy(&answer)));
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    fn backoff(&self, attempt: u32) -> Duration {
        let longest = FIRST_WAIT.saturating_mul(1 << attempt.min(16).saturating_sub(1));
        let mut drawn = [0; 1];
        self.entropy.fill(&mut drawn);
        longest / 2 + longest.saturating_mul(u32::from(drawn[0])) / 512
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

    async fn once(&self, request: Request<Full<Bytes>>) -> Result<Answer, PortError> {
        let mut connection = self.connection().await?;
        let lost = |error: hyper::Error| {
            let text = format!("{} did not answer to the end", self.endpoint.authority);
            PortError::caused(ErrorKind::Unavailable, text, error)
        };
        let response = connection
            .sender
            .send_request(request)
            .await
            .map_err(lost)?;
        let (status, headers) = (response.status().as_u16(), response.headers());
        let retry_after = headers.get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = self.read(response).await?;
        self.keep(connection);
        Ok(Answer {
            status,
            body,
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Zeroizing<Vec<u8>>, PortError> {
        let failed = |why: &str| {
            let text = format!("{} {why}", self.endpoint.authority);
            PortError::new(ErrorKind::Unavailable, text)
        };
        let too_large = "answers more than a store's answer may have";
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > MAX_ANSWER_BYTES) {
            return Err(failed(too_large));
        }
        // The room is taken at once where the length is told: a grown buffer leaves a copy behind.
        let mut whole = Zeroizing::new(Vec::with_capacity(length.unwrap_or_default()));
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let text = format!("{} did not answer to the end", self.endpoint.authority);
                PortError::caused(ErrorKind::Unavailable, text, error)
            })?;
            let Ok(part) = frame.into_data() else {
                continue;
            };
            if whole.len() + part.len() > MAX_ANSWER_BYTES {
                return Err(failed(too_large));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that waits and still stands, or a new one.
    async fn connection(&self) -> Result<Connection, PortError> {
        loop {
            let Some(mut kept) = self.idle().pop_back() else {
                break;
            };
            if kept.sender.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = self.endpoint.connect(&*self.credentials).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| {
                let text = format!("{} speaks no HTTP", self.endpoint.authority);
                PortError::caused(ErrorKind::Unavailable, text, error)
            })?;
        // What it ends with is told by the request that was under way.
        let driver = tokio::spawn(async move { driver.await.unwrap_or_default() });
        Ok(Connection {
            sender,
            _driver: AbortOnDropHandle::new(driver),
        })
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if !connection.sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push_back(connection);
        }
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
