//! HTTP/1.1 with one server: a request and its answer, bounded in time, in size and in repeats.
//!
//! Invariants: no redirect is followed; an answer has at most as many bytes as was said; what is read is
//! overwritten when it is dropped; a request that may be repeated is, after a broken connection and
//! after what its asker calls passing, with a growing wait or the server's `Retry-After`, and never
//! beyond the call's own end; each request begins before the work's deadline. How a connection is opened
//! is its [`Door`]'s; what an answer means is its asker's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::Entropy;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

/// How often a request is sent at most.
pub const ATTEMPTS: u32 = 4;
/// The wait before the first repeat; it doubles, and half of it is drawn.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Connections kept for the next request.
const MAX_IDLE: usize = 4;
/// How long an answer's body may take that nobody reads for what it says.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// A byte stream to the server.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes what is sent, each time anew.
pub type Make<'a> = dyn Fn() -> Result<Request<Full<Bytes>>, PortError> + Sync + 'a;

/// Opens connections to one server.
#[async_trait]
pub trait Door: Send + Sync {
    /// The server, for people.
    fn name(&self) -> &str;
    /// Opens one.
    async fn open(&self) -> Result<Box<dyn Stream>, PortError>;
}

/// Until when one call of a port lasts.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// No request begins after it.
    pub until: &'a Until,
    /// The whole call ends then, by the monotonic clock.
    pub ends: Duration,
}

/// When a request is sent once more.
#[derive(Clone, Copy)]
pub struct Again {
    /// Whether a repeat does no harm when the first one was done.
    pub may_repeat: bool,
    /// Of a status, and whether a repeat does no harm: whether the same question may get another answer
    /// soon.
    pub is_passing: fn(u16, bool) -> bool,
}

/// What was answered.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// When the server asks to come again.
    pub retry_after: Option<Duration>,
}

#[cfg(test)]
impl Answer {
    /// One that no server gave.
    pub(crate) fn of(status: u16, body: Zeroizing<Vec<u8>>) -> Self {
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

/// Sends requests to one server and keeps a few connections open.
pub struct Client {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    max_answer: usize,
    /// Whether an answer is its status, however its body ends.
    by_status: bool,
    idle: Mutex<VecDeque<Connection>>,
}

impl Client {
    /// One that reads answers of so many bytes at most.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, max_answer: usize) -> Self {
        Self {
            clock,
            entropy,
            max_answer,
            by_status: false,
            idle: Mutex::default(),
        }
    }

    /// The same for whom the status says all: a body that is too large, breaks off or never ends makes no answer
    /// undone.
    #[must_use]
    pub fn by_status(self) -> Self {
        Self {
            by_status: true,
            ..self
        }
    }

    /// Ends the connections that wait, so that the next request opens one.
    pub fn forget_connections(&self) {
        self.idle().clear();
    }

    /// Asks, and again where that helps; each time what is sent is made anew. An answer that says no is an
    /// answer, and so is the last passing one.
    ///
    /// # Errors
    /// When there is no answer, or no request could be made.
    pub async fn send(
        &self,
        door: &dyn Door,
        make: &Make<'_>,
        again: Again,
        call: Call<'_>,
    ) -> Result<Answer, PortError> {
        if !again.may_repeat {
            // One that waits may have ended meanwhile, and that is seen only when it was asked.
            self.forget_connections();
        }
        let mut attempt = 1;
        loop {
            call.until.check()?;
            let answered = self.once(door, make()?).await;
            let wait = match &answered {
                Ok(answer) if (again.is_passing)(answer.status, again.may_repeat) => {
                    answer.retry_after
                }
                Err(error) if error.kind == ErrorKind::Unavailable && again.may_repeat => None,
                _ => return answered,
            };
            let pause = wait.unwrap_or_else(|| self.backoff(attempt));
            let left = call.ends.saturating_sub(self.clock.monotonic());
            if attempt >= ATTEMPTS || pause >= left.min(call.until.remaining()) {
                return answered;
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

    async fn once(
        &self,
        door: &dyn Door,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, PortError> {
        let mut connection = self.connection(door).await?;
        let lost = |error: hyper::Error| {
            let text = format!("{} did not answer to the end", door.name());
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
        let reading = self.read(door.name(), response);
        let body = match self.by_status {
            false => Some(reading.await?),
            true => match tokio::time::timeout(BODY_PATIENCE, reading).await {
                Ok(read) => read.ok(),
                Err(_) => None,
            },
        };
        if body.is_some() {
            self.keep(connection);
        }
        Ok(Answer {
            status,
            body: body.unwrap_or_default(),
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    async fn read(
        &self,
        name: &str,
        response: Response<Incoming>,
    ) -> Result<Zeroizing<Vec<u8>>, PortError> {
        let too_large = || {
            let text = format!(
                "{name} answers more than the {} bytes that an answer may have",
                self.max_answer
            );
            PortError::new(ErrorKind::Unavailable, text)
        };
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > self.max_answer) {
            return Err(too_large());
        }
        // The room is taken at once where the length is told: a grown buffer leaves a copy behind.
        let mut whole = Zeroizing::new(Vec::with_capacity(length.unwrap_or_default()));
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let text = format!("{name} did not answer to the end");
                PortError::caused(ErrorKind::Unavailable, text, error)
            })?;
            let Ok(part) = frame.into_data() else {
                continue;
            };
            if whole.len() + part.len() > self.max_answer {
                return Err(too_large());
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that waits and still stands, or a new one.
    async fn connection(&self, door: &dyn Door) -> Result<Connection, PortError> {
        loop {
            let Some(mut kept) = self.idle().pop_back() else {
                break;
            };
            if kept.sender.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = door.open().await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| {
                let text = format!("{} speaks no HTTP", door.name());
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

/// JSON in memory that is overwritten, in one piece: a grown buffer would leave a copy behind.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn json(body: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, PortError> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let failed = |_| PortError::new(ErrorKind::Denied, "the request cannot be written as JSON");
    let mut count = Count(0);
    serde_json::to_writer(&mut count, body).map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(count.0));
    serde_json::to_writer(&mut *bytes, body).map_err(failed)?;
    Ok(bytes)
}
