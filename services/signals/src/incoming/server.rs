//! The door at which signals come: `POST /signals/NAME`, plain HTTP on loopback, behind a proxy with TLS.
//!
//! Invariants: nothing is read of who names no declared source; nothing is taken, or kept, before its sender is
//! proven; a refusal is on record, a body that never came whole and what is no HTTP among them, and of a flood of them
//! how many more there were, and the last; connections, bodies, time and signals a minute are bounded, what one source
//! sends slowly leaves places to the others, and who waits is told when to come again; what is answered as taken is
//! durable.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use keywheel_core::audit::{Category, Outcome, Principal, Record};
use keywheel_core::id::CommandId;
use keywheel_core::name::SignalSourceName;
use keywheel_core::signal::{Signal, Source};
use keywheel_engine::port::deliveries::MAX_LETTER_BYTES;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::heard::{misread, says_something};
use super::limit::{BURST, Bucket};
use super::proof::{NoProof, verify};
use super::reading::{Arrived, MAX_BATCH, Unread, may_be_kept, read};
use super::refusals::{FLUSH_INTERVAL, Refusal, Refusals};
use crate::AFTER_TAKE;
use crate::desk::{Desk, Inner, letter, letter_of_request, source_owner};

/// Connections at a time; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 64;
/// Largest body, in bytes.
pub const MAX_SIGNAL_BODY_BYTES: usize = 1 << 20;
/// Bodies of one source that are read at a time: who sends slowly to one leaves places to the others.
pub const MAX_READING_PER_SOURCE: usize = 16;
/// How long a body may take. What is in front of this sends it whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request may take, its body and its answer included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait after a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// After how many seconds to come again when something is away here.
const COME_AGAIN: u64 = 5;
const PATH: &str = "/signals/";
/// What the audit calls a source whose name cannot be one.
const UNKNOWN: &str = "unknown";

const _: () = assert!(
    MAX_READING_PER_SOURCE * 2 <= MAX_CONNECTIONS,
    "one source has to leave places to others"
);
const _: () = assert!(
    MAX_BATCH <= BURST as usize,
    "a whole batch has to be taken at some time"
);

/// Takes signals.
pub struct Intake {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<Inner>,
    buckets: Mutex<BTreeMap<SignalSourceName, Bucket>>,
    /// How many bodies of a source are being read.
    reading: Mutex<BTreeMap<SignalSourceName, usize>>,
    refusals: Mutex<Refusals>,
}

/// A place for one body of a source. Given up before its end, as when the connection is cut, it is a refusal.
struct Place<'a> {
    shared: &'a Shared,
    source: SignalSourceName,
    principal: &'a Principal,
    is_over: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut reading = self.shared.reading();
        if let Some(count) = reading.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                reading.remove(&self.source);
            }
        }
        drop(reading);
        if !self.is_over {
            let refusal = Refusal {
                time: self.shared.inner.parts.clock.now(),
                principal: self.principal.clone(),
                source: self.source.to_string(),
                fault: "the connection was cut before the body was whole".to_owned(),
            };
            // Who has a place is declared, or was a moment ago.
            let pot = self.source.to_string();
            self.shared.refusals().count(&pot, refusal, 1);
        }
    }
}

/// An answer that is no success, and when to come again.
struct No {
    status: StatusCode,
    detail: String,
    come_again: Option<u64>,
}

impl No {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            come_again: None,
        }
    }

    fn away(detail: impl Into<String>) -> Self {
        Self {
            come_again: Some(COME_AGAIN),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }
}

impl Intake {
    /// One over a desk's ports.
    #[must_use]
    pub fn new(desk: &Desk) -> Self {
        let shared = Shared {
            inner: desk.inner(),
            buckets: Mutex::default(),
            reading: Mutex::default(),
            refusals: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Serves until told to stop.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let counting = count_refusals(Arc::clone(&self.shared), stop.clone());
        tokio::join!(self.accept(listener, &connections, stop), counting);
        // What is cut off now counts, too.
        connections.close();
        connections.wait().await;
        self.shared.flush().await;
    }

    async fn accept(
        &self,
        listener: TcpListener,
        connections: &TaskTracker,
        stop: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
                    let from = from.ip().to_canonical();
                    connections.spawn(serve(shared, (stream, from), place, stop));
                }
                Err(error) => {
                    tracing::warn!(error = %error, "connection for signals not taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Puts on record what was only counted, every so often.
async fn count_refusals(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FLUSH_INTERVAL) => shared.flush().await,
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    (stream, from): (TcpStream, IpAddr),
    place: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    let _place = place;
    let answering = Arc::clone(&shared);
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&answering);
        async move { Ok::<_, Infallible>(shared.answer(request, from).await) }
    });
    let clock = Arc::clone(&shared.inner.parts.clock);
    let serving = async move {
        let begun = clock.monotonic();
        // A connection that says nothing asks for nothing.
        if !says_something(&stream, HEAD_TIMEOUT).await {
            return Ok(());
        }
        let waited = clock.monotonic().saturating_sub(begun);
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT.saturating_sub(waited))
            .keep_alive(false)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .await
    };
    let most = HEAD_TIMEOUT + REQUEST_TIMEOUT;
    tokio::select! {
        () = stop.cancelled() => {}
        // Who sends sees a broken answer, and sends again: what was taken is known by its id.
        ended = tokio::time::timeout(most, serving) => if let Ok(Err(error)) = ended {
            shared.count_misread(&error, from);
        },
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, from: IpAddr) -> Response<Full<Bytes>> {
        let name = asked(request.uri().path());
        let principal = Principal::Stranger {
            address: from.to_string(),
        };
        let handling = self.handle(request, name.as_ref(), &principal);
        let no = match tokio::time::timeout(REQUEST_TIMEOUT, handling).await {
            Ok(Ok((taken, repeated))) => {
                let body = json!({ "taken": taken, "repeated": repeated });
                return reply(StatusCode::ACCEPTED, body.to_string());
            }
            Ok(Err(no)) => no,
            Err(_) => No::away("it took too long here; send it again"),
        };
        let no = self.on_record(no, principal, name).await;
        let mut response = reply(no.status, json!({ "detail": no.detail }).to_string());
        if let Some(seconds) = no.come_again {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    /// Takes what a request says; how many signals are new, and how many came before.
    async fn handle(
        &self,
        request: Request<Incoming>,
        name: Option<&SignalSourceName>,
        principal: &Principal,
    ) -> Result<(usize, usize), No> {
        let source = name.and_then(|name| self.inner.source(name));
        let source = source.ok_or_else(|| {
            let text = "no source of signals has that name";
            No::new(StatusCode::NOT_FOUND, text)
        })?;
        if request.method() != Method::POST {
            return Err(No::new(StatusCode::METHOD_NOT_ALLOWED, "send it by POST"));
        }
        let (name, spec) = (&source.name, &source.spec);
        let (head, body) = request.into_parts();
        let body = self.read_body(name, principal, body).await?;
        let key = self.inner.keys.read(&spec.key_file).await;
        let key = key.map_err(|error| {
            tracing::warn!(source = %name, %error, "signals cannot be proven now");
            No::away("signals of this source cannot be proven now; send it again later")
        })?;
        let now = self.inner.parts.clock.now();
        match verify(spec.proof, &key, &head.headers, &body, now) {
            Ok(()) => {}
            Err(NoProof::KeyFile(fault)) => {
                tracing::warn!(source = %name, fault, "the key file of a source cannot be used");
                return Err(No::away("signals of this source cannot be proven now"));
            }
            Err(NoProof::Sender(fault)) => {
                return Err(No::new(StatusCode::UNAUTHORIZED, fault));
            }
        }
        let arrived = Arrived::of(&head.headers, &body);
        let read = read(name, spec, &arrived, &self.inner.parts.letter_key);
        // One that cannot be read has its place, too: it makes a letter.
        self.limit(name, read.as_ref().map_or(1, |heard| heard.len().max(1)))?;
        let taken = match read {
            Ok(heard) => {
                let signals = self.inner.compare(source.id, heard).await;
                let noted = self.inner.note_not_compared(&source, &signals).await;
                noted.map_err(|error| No::away(error.text))?;
                self.take(&source, principal, signals).await?
            }
            Err(unread) => Err(unread),
        };
        match taken {
            Ok(counts) => Ok(counts),
            Err(unread) => Err(self.keep(&source, &arrived, &body, unread).await),
        }
    }

    /// The body of a request to a source, in its time and its place.
    async fn read_body(
        &self,
        name: &SignalSourceName,
        principal: &Principal,
        body: Incoming,
    ) -> Result<Zeroizing<Vec<u8>>, No> {
        let mut place = self.place(name, principal)?;
        let read = tokio::time::timeout(BODY_TIMEOUT, whole(body)).await;
        place.is_over = true;
        read.unwrap_or_else(|_| {
            Err(No::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body took too long; send it again",
            ))
        })
    }

    fn place<'a>(
        &'a self,
        name: &SignalSourceName,
        principal: &'a Principal,
    ) -> Result<Place<'a>, No> {
        let mut reading = self.reading();
        let count = reading.entry(name.clone()).or_default();
        if *count >= MAX_READING_PER_SOURCE {
            return Err(No {
                come_again: Some(COME_AGAIN),
                ..No::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many requests of this source are being sent; send it again later",
                )
            });
        }
        *count += 1;
        drop(reading);
        Ok(Place {
            shared: self,
            source: name.clone(),
            principal,
            is_over: false,
        })
    }

    fn reading(&self) -> MutexGuard<'_, BTreeMap<SignalSourceName, usize>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes signals one by one; how many are new, and how many came before. Some may be taken when one is not:
    /// they are known when all are sent again.
    async fn take(
        &self,
        source: &Source,
        principal: &Principal,
        signals: Vec<Signal>,
    ) -> Result<Result<(usize, usize), Unread>, No> {
        let (count, mut repeated) = (signals.len(), 0);
        for signal in signals {
            match self.inner.take(principal, source.id, signal).await {
                Ok(is_repeat) => repeated += usize::from(is_repeat),
                Err(error) if error.kind == ErrorKind::Denied => {
                    return Ok(Err(Unread {
                        reason: error.text,
                        may_be_kept: may_be_kept(&source.spec),
                    }));
                }
                Err(error) => return Err(No::away(error.text)),
            }
            let passed = self.inner.parts.points.pass(AFTER_TAKE).await;
            passed.map_err(|error| No::away(error.text))?;
        }
        Ok(Ok((count - repeated, repeated)))
    }

    fn limit(&self, name: &SignalSourceName, signals: usize) -> Result<(), No> {
        let places = u32::try_from(signals).unwrap_or(u32::MAX);
        let now = self.inner.parts.clock.monotonic();
        let declared = |name: &SignalSourceName| self.inner.source(name).is_some();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|known, _| declared(known));
        let bucket = buckets.entry(name.clone()).or_insert_with(Bucket::full);
        bucket.take(now, places).map_err(|wait| No {
            come_again: Some(wait.as_secs() + 1),
            ..No::new(
                StatusCode::TOO_MANY_REQUESTS,
                "this source sends too many signals; send it again later",
            )
        })
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a refusal on record, by itself or counted; what fails here or takes too long is none.
    async fn on_record(&self, no: No, principal: Principal, name: Option<SignalSourceName>) -> No {
        if !no.status.is_client_error() {
            return no;
        }
        let clock = &self.inner.parts.clock;
        let refusal = Refusal {
            time: clock.now(),
            principal,
            source: name.map_or_else(|| UNKNOWN.to_owned(), |name| name.to_string()),
            fault: no.detail.clone(),
        };
        let pot = self.pot(&refusal.source);
        let has_room = self.refusals().has_room(&pot, clock.monotonic());
        if !has_room {
            self.refusals().count(&pot, refusal, 1);
            return no;
        }
        tracing::warn!(
            source = refusal.source,
            fault = refusal.fault,
            "a signal was refused"
        );
        match self.record(&refusal, refusal.fault.clone()).await {
            Ok(()) => no,
            Err(error) => {
                // It is refused all the same, and on record later.
                self.refusals().count(&pot, refusal, 1);
                No::away(error.text)
            }
        }
    }

    /// Counts what ended a connection where it was a request that is not understood: it names no source.
    fn count_misread(&self, error: &hyper::Error, from: IpAddr) {
        let Some(fault) = misread(error) else {
            return;
        };
        let refusal = Refusal {
            time: self.inner.parts.clock.now(),
            principal: Principal::Stranger {
                address: from.to_string(),
            },
            source: UNKNOWN.to_owned(),
            fault: fault.to_owned(),
        };
        self.refusals().count("", refusal, 1);
    }

    /// Under which name a refusal is counted: all that are declared by nobody are one.
    fn pot(&self, name: &str) -> String {
        let name = SignalSourceName::parse(name).ok();
        let declared = name.filter(|name| self.inner.source(name).is_some());
        declared.map_or_else(String::new, |name| name.to_string())
    }

    /// Puts on record what was counted; where that fails it is counted on.
    async fn flush(&self) {
        let counted = self
            .refusals()
            .take_counted(|name| name.is_empty() || !self.pot(name).is_empty());
        for (pot, last, count) in counted {
            let reason = format!(
                "{count} more signals were refused; the last of them: {}",
                last.fault
            );
            tracing::warn!(source = last.source, count, "signals were refused");
            if let Err(error) = self.record(&last, reason).await {
                tracing::warn!(%error, "refused signals are not on record yet");
                self.refusals().count(&pot, last, count);
            }
        }
    }

    async fn record(&self, refusal: &Refusal, reason: String) -> Result<(), PortError> {
        let parts = &self.inner.parts;
        let record = Record {
            time: refusal.time,
            category: Category::Administration,
            principal: refusal.principal.clone(),
            verb: "take-signal".to_owned(),
            object: format!("signal-source/{}", refusal.source),
            version: None,
            outcome: Outcome::Denied,
            reason,
            container: None,
            command: CommandId::from_bytes(parts.ids.draw()),
            trace: String::new(),
        };
        parts.commands.record(record).await
    }

    /// Keeps what cannot be read as a letter, for a person to mend the mapping and read it again.
    async fn keep(&self, source: &Source, arrived: &Arrived, body: &[u8], unread: Unread) -> No {
        let parts = &self.inner.parts;
        let heading = format!("a request of {} bytes", body.len());
        let bare = letter(
            letter_of_request(&parts.letter_key, source, body),
            source_owner(&source.name),
            (parts.clock.now(), heading, &unread.reason),
        );
        let kept = match small(arrived).filter(|_| unread.may_be_kept) {
            Some(written) => self.inner.with_body(bare, &written),
            None => bare,
        };
        match self.inner.keep(&kept).await {
            Ok(()) => No::new(StatusCode::UNPROCESSABLE_ENTITY, unread.reason),
            Err(error) => No::away(error.text),
        }
    }
}

/// The source that a path names.
fn asked(path: &str) -> Option<SignalSourceName> {
    SignalSourceName::parse(path.strip_prefix(PATH)?).ok()
}

/// What came, where it is small enough to be kept.
fn small(arrived: &Arrived) -> Option<SecretBytes> {
    // The room is taken at once: a grown buffer would leave a copy behind.
    let mut written = Vec::with_capacity(MAX_LETTER_BYTES);
    let is_written = serde_json::to_writer(LimitedTo(&mut written), arrived).is_ok();
    let written = SecretBytes::from(written);
    is_written.then_some(written)
}

/// Takes so much as there is room for, and fails at more.
struct LimitedTo<'a>(&'a mut Vec<u8>);

impl Write for LimitedTo<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_LETTER_BYTES {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The body, within its bound; it may hold a token, so it is overwritten when it is dropped.
async fn whole(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, No> {
    let mut all = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| No::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
        let Ok(part) = frame.into_data() else {
            continue;
        };
        if all.len() + part.len() > MAX_SIGNAL_BODY_BYTES {
            let detail = format!("the body has more than {MAX_SIGNAL_BODY_BYTES} bytes");
            return Err(No::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        all.extend_from_slice(&part);
    }
    Ok(all)
}

fn reply(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
