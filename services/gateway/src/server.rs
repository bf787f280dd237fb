//! Serves connections of the API: takes connections within bounds, ends slow ones, and keeps count of denials.
//!
//! Invariants: who may use no verb keeps no operator out, neither by many connections nor by slow
//! ones; a request's head comes in time or its connection ends, and so does one that idles; a
//! stranger's connection ends soon, whatever it does; what is no request is counted as what is denied; what was counted
//! is written when a window ends, and before this ends. An operator's stream stays open as long as it is read.

mod heard;

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use futures_util::future;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use keywheel_core::audit::Outcome;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_identity::tls::Binding;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::Peer;
use crate::denials::{Attempt, Counted, WINDOW};
use crate::http::bearer::Stay;
use crate::http::whoami::Until;
use crate::http::{self, Api};
use crate::places::{Holder, Place, Places, Standing};
use heard::{Heard, Said};

/// How long the head of a request may take, and how long a connection may idle between two.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection of someone who may use no verb lasts at most.
pub const STRANGER_LIFETIME: Duration = Duration::from_secs(20);
/// Most bytes of a request's head.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;
/// How long answers under way may take when the service stops.
pub const STOP_GRACE: Duration = Duration::from_secs(1);
/// How long writing the last counts may take.
const LAST_FLUSH: Duration = Duration::from_secs(3);
/// Wait after a connection could not be taken, such as when no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What who finds no place is told.
pub(crate) const NO_PLACE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: 180\r\nconnection: close\r\n\r\n{\"type\":\"about:blank#unavailable\",\"title\":\"not available now\",\"status\":503,\"detail\":\"this user has too many connections; close some, or try again in a moment\",\"code\":\"unavailable\"}";

/// Spans of time, for tests to shorten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spans {
    /// Default [`HEAD_TIMEOUT`].
    pub head: Duration,
    /// Default [`STRANGER_LIFETIME`].
    pub stranger: Duration,
    /// Default [`WINDOW`].
    pub window: Duration,
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            head: HEAD_TIMEOUT,
            stranger: STRANGER_LIFETIME,
            window: WINDOW,
        }
    }
}

/// The socket's server.
pub struct Server {
    api: Api,
    router: Router,
    spans: Spans,
    places: Places,
    peer_of: fn(&UnixStream) -> Peer,
}

impl Server {
    /// A server of the API.
    #[must_use]
    pub fn new(api: Api, spans: Spans) -> Self {
        Self {
            router: http::router(api.clone()),
            api,
            spans,
            places: Places::default(),
            peer_of,
        }
    }

    /// Serves until told to stop; then lets answers under way end and writes the last counts. The
    /// command bus must still run then.
    pub async fn run(self, listener: UnixListener, stop: CancellationToken) {
        let counting = tokio::spawn(flush_every(
            self.api.clone(),
            self.spans.window,
            stop.clone(),
        ));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &mut connections, &stop),
                    Err(error) => pause(&error).await,
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
        let _ended = counting.await;
        if tokio::time::timeout(LAST_FLUSH, flush(&self.api))
            .await
            .is_err()
        {
            tracing::warn!("counts of denied requests not written in time");
        }
    }

    fn admit(&self, stream: UnixStream, connections: &mut JoinSet<()>, stop: &CancellationToken) {
        let peer = (self.peer_of)(&stream);
        let holder = match &peer {
            Peer::User { uid, .. } => Holder::User(*uid),
            Peer::Operator(name) => Holder::Operator(name.clone()),
            Peer::Stranger(address) => Holder::Address(*address),
        };
        let standing = match self.api.access.allows(&peer) {
            Some(_) => Standing::Operator,
            None => Standing::Stranger,
        };
        let Some(place) = self.places.take(standing, holder) else {
            if standing == Standing::Stranger {
                let principal = self.api.access.principal(&peer);
                let attempt = Attempt::new(self.api.clock.now(), "connect");
                self.api.denials.count(&principal, attempt);
            }
            // As much as fits; who does not read it sees a closed connection.
            let _told = stream.try_write(NO_PLACE.as_bytes());
            return;
        };
        let lifetime = (standing == Standing::Stranger).then_some(self.spans.stranger);
        let connection = Connection {
            api: self.api.clone(),
            router: self.router.clone(),
            peer,
            head: self.spans.head,
            binding: None,
            lifetime,
            place,
            until: None,
            may_stay: standing == Standing::Stranger,
        };
        connections.spawn(connection.serve(stream, stop.clone()));
    }
}

pub(crate) async fn pause(error: &io::Error) {
    tracing::warn!(error = %error, "connection not taken");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn peer_of(stream: &UnixStream) -> Peer {
    // A peer the kernel does not name is nobody.
    let unknown = Peer::User {
        uid: u32::MAX,
        gid: u32::MAX,
    };
    stream.peer_cred().map_or(unknown, |cred| Peer::User {
        uid: cred.uid(),
        gid: cred.gid(),
    })
}

/// A request's connection, for who signs over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound(pub(crate) Binding);

/// One connection that has a place.
pub(crate) struct Connection {
    pub(crate) api: Api,
    pub(crate) router: Router,
    pub(crate) peer: Peer,
    pub(crate) head: Duration,
    /// What only its two ends know, where it has TLS.
    pub(crate) binding: Option<Binding>,
    /// How long it lasts at most.
    pub(crate) lifetime: Option<Duration>,
    /// Free again when the connection ends.
    pub(crate) place: Place,
    /// Until when the proof of who it is counts, where that has an end.
    pub(crate) until: Option<Timestamp>,
    /// Whether a token may keep it open longer than `lifetime`.
    pub(crate) may_stay: bool,
}

impl Connection {
    pub(crate) async fn serve<S>(self, stream: S, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let _place = self.place;
        let (peer, binding, until) = (self.peer.clone(), self.binding, self.until);
        let stay = self.may_stay.then(Stay::default);
        let offered = stay.clone();
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
            if let Some(binding) = binding {
                request.extensions_mut().insert(Bound(binding));
            }
            if let Some(until) = until {
                request.extensions_mut().insert(Until(until));
            }
            if let Some(stay) = offered.clone() {
                request.extensions_mut().insert(stay);
            }
            router.call(request)
        });
        let said = Said::default();
        let stream = Heard {
            stream,
            said: said.clone(),
        };
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let over = async {
            match self.lifetime {
                Some(lifetime) => tokio::time::sleep(lifetime).await,
                None => future::pending().await,
            }
            // Each of its requests shows the token; one that idles ends as any connection does.
            if stay.is_some_and(|stay| stay.is_noted()) {
                future::pending().await
            }
        };
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    said.count(&self.api, &self.peer, &error);
                    tracing::debug!(peer = ?self.peer, error = %error, "connection ended badly");
                }
                return;
            }
            () = over => return,
            () = stop.cancelled() => {}
        }
        serving.as_mut().graceful_shutdown();
        let _late = tokio::time::timeout(STOP_GRACE, serving).await;
    }
}

async fn flush_every(api: Api, window: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(window) => {}
        }
        flush(&api).await;
    }
}

/// Writes what was counted since the last time; what cannot be written stays counted.
async fn flush(api: &Api) {
    let counted = api.denials.turn();
    let written = future::join_all(counted.into_iter().map(|counted| write(api, counted))).await;
    if let Some(error) = written.into_iter().find_map(Result::err) {
        tracing::warn!(error = %error, "counts of denied requests not written; they are kept");
    }
}

async fn write(api: &Api, counted: Counted) -> Result<(), PortError> {
    let reason = counted.reason();
    let record = api.record(&counted.principal, "request", "", Outcome::Denied, &reason);
    let written = api.commands.record(record).await;
    if written.is_err() {
        api.denials.restore(counted);
    }
    written
}

#[cfg(test)]
mod tests;
