//! A TCP port: handshakes within bounds, refusals on record, connections handed to the router.
//!
//! Invariants: before its handshake is done everyone is a stranger, of whom there are so many at
//! once, in all and from one address, and each has so long; a refused handshake is on record or
//! counted, with the reason in a person's words, and its client learns the same; a connection ends
//! when its certificate does.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use keywheel_core::audit::Outcome;
use keywheel_identity::authority::validity;
use keywheel_identity::name::PeerName;
use keywheel_identity::tls::{Refusal, TlsIdentity, binding, explain};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::access::Peer;
use crate::denials::{Attempt, Ruling};
use crate::http::Api;
use crate::places::{Holder, Place, Places, Standing};
use crate::server::{Connection, HEAD_TIMEOUT, NO_PLACE, STRANGER_LIFETIME, pause};

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that was refused may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is read of such a client at most, so that our last word is not cut off.
const MAX_UNHEARD_BYTES: u64 = 64 * 1024;

/// Spans of time, for tests to shorten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spans {
    /// Default [`HANDSHAKE_TIMEOUT`].
    pub handshake: Duration,
    /// Default [`HEAD_TIMEOUT`].
    pub head: Duration,
    /// Default [`STRANGER_LIFETIME`]; counts where clients show no certificate.
    pub stranger: Duration,
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            handshake: HANDSHAKE_TIMEOUT,
            head: HEAD_TIMEOUT,
            stranger: STRANGER_LIFETIME,
        }
    }
}

/// One port.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) api: Api,
    pub(crate) router: Router,
    pub(crate) acceptor: TlsAcceptor,
    /// Whose authority clients' certificates come from; `None` where they show none.
    pub(crate) members: Option<Arc<TlsIdentity>>,
    pub(crate) spans: Spans,
    pub(crate) places: Places,
    /// What the audit calls it.
    pub(crate) object: &'static str,
    /// Whether somebody without a certificate may come with a token.
    pub(crate) takes_tokens: bool,
}

impl Door {
    /// Serves until told to stop; answers under way end first.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        let from = from.ip().to_canonical();
                        self.admit(stream, from, &mut connections, &stop);
                    }
                    Err(error) => pause(&error).await,
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    fn admit(
        &self,
        stream: TcpStream,
        from: IpAddr,
        connections: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let holder = Holder::Address(from);
        let Some(place) = self.places.take(Standing::Stranger, holder) else {
            self.count(from, "too many connections");
            return;
        };
        let (door, stop) = (self.clone(), stop.clone());
        connections.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                greeted = door.greet(stream, from) => {
                    if let Some(stream) = greeted {
                        door.serve(stream, from, place, stop.clone()).await;
                    }
                }
            }
        });
    }

    /// The handshake.
    async fn greet(&self, stream: TcpStream, from: IpAddr) -> Option<TlsStream<TcpStream>> {
        let _slower = stream.set_nodelay(true);
        let accepting = self.acceptor.accept(stream).into_fallible();
        match tokio::time::timeout(self.spans.handshake, accepting).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err((error, stream))) => {
                self.refuse(&error, from).await;
                part(stream).await;
                None
            }
            Err(_) => {
                self.count(from, "a handshake that did not end");
                None
            }
        }
    }

    async fn serve(
        &self,
        mut stream: TlsStream<TcpStream>,
        from: IpAddr,
        place: Place,
        stop: CancellationToken,
    ) {
        let (peer, lifetime) = match self.identify(&stream, from) {
            Ok(identified) => identified,
            Err(refusal) => return self.record(&refusal.to_string(), from).await,
        };
        let is_stranger = matches!(peer, Peer::Stranger(_));
        let until = (!is_stranger).then(|| self.api.clock.now().plus(lifetime));
        let place = match &peer {
            Peer::Operator(name) => {
                let holder = Holder::Operator(name.clone());
                self.places.take(Standing::Operator, holder)
            }
            _ => Some(place),
        };
        let Some(place) = place else {
            let telling = async {
                stream.write_all(NO_PLACE.as_bytes()).await?;
                stream.shutdown().await
            };
            let _told = tokio::time::timeout(FAREWELL, telling).await;
            return;
        };
        let connection = Connection {
            api: self.api.clone(),
            router: self.router.clone(),
            peer,
            head: self.spans.head,
            binding: binding(stream.get_ref().1).ok(),
            lifetime: Some(lifetime),
            place,
            until,
            may_stay: is_stranger && self.takes_tokens,
        };
        connection.serve(stream, stop).await;
    }

    /// Who it is, and how long it may stay.
    fn identify(
        &self,
        stream: &TlsStream<TcpStream>,
        from: IpAddr,
    ) -> Result<(Peer, Duration), Refusal> {
        let Some(members) = &self.members else {
            return Ok((Peer::Stranger(from), self.spans.stranger));
        };
        let shown = stream.get_ref().1.peer_certificates();
        if self.takes_tokens && shown.is_none() {
            return Ok((Peer::Stranger(from), self.spans.stranger));
        }
        let PeerName::Operator(name) = members.peer(shown)? else {
            return Err(Refusal::NoCertificate);
        };
        let leaf = shown.and_then(<[_]>::first).ok_or(Refusal::NoCertificate)?;
        let (_, end) = validity(leaf).map_err(|error| Refusal::Other(error.to_string()))?;
        let lifetime = end.since(self.api.clock.now());
        Ok((Peer::Operator(name), lifetime))
    }

    async fn refuse(&self, error: &io::Error, from: IpAddr) {
        match explain(error) {
            Some(refusal) => self.record(&refusal.to_string(), from).await,
            None => tracing::debug!(%from, error = %error, "handshake broke off"),
        }
    }

    /// Puts a refusal on record, or counts it when many came before.
    async fn record(&self, reason: &str, from: IpAddr) {
        let api = &self.api;
        let principal = api.access.principal(&Peer::Stranger(from));
        let attempt = Attempt::new(api.clock.now(), &format!("connect: {reason}"));
        if api.denials.note(&principal, attempt.clone()) == Ruling::Count {
            return;
        }
        tracing::warn!(%from, port = self.object, reason, "connection refused");
        let record = api.record(&principal, "connect", self.object, Outcome::Denied, reason);
        if let Err(error) = api.commands.record(record).await {
            tracing::warn!(error = %error, "refusal not recorded; it is counted");
            api.denials.put_back(&principal, attempt);
        }
    }

    fn count(&self, from: IpAddr, what: &str) {
        let principal = self.api.access.principal(&Peer::Stranger(from));
        let attempt = Attempt::new(self.api.clock.now(), &format!("connect: {what}"));
        self.api.denials.count(&principal, attempt);
    }
}

/// Lets who was refused hear it: closing with bytes unread would cut our last word off.
async fn part(mut stream: TcpStream) {
    let hearing = async {
        stream.shutdown().await?;
        let mut rest = stream.take(MAX_UNHEARD_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    let _gone = tokio::time::timeout(FAREWELL, hearing).await;
}
