//! The join port: a machine comes with a token and goes with the credentials of a host; a host that
//! was away for longer than its credentials live comes with its pinned key.
//!
//! Invariants: who connects shows no certificate and gets two paths, and whatever else is asked is on record or counted;
//! the token is spent by a command before anything about it is checked, and its record is durable before the answer; what
//! is asked is bounded in bytes, time, connections and attempts. No answer says more than the reason; no secret half of a
//! token is in a text, record or log line.

mod returning;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use keywheel_core::audit::{Outcome, Principal};
use keywheel_core::command::Command;
use keywheel_core::host::PermitRequest;
use keywheel_core::id::CommandId;
use keywheel_engine::command_bus::Submission;
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_identity::enrol::{CheckedAsk, JoinAnswer, JoinAsk, MAX_ASK_BYTES};
use keywheel_identity::tls::{TlsError, TlsIdentity};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::access::Peer;
use crate::bus_server::note_permit;
use crate::denials::{Attempt, Ruling};
use crate::door::{Door, Spans};
use crate::http::{Api, BODY_TIMEOUT, Failure};
use crate::places::{Places, network_of};
use crate::registry::Registry;

/// Where a machine comes with a token.
pub const PATH: &str = "/v1/join";
/// Where a host comes whose credentials have ended.
pub const RETURN_PATH: &str = "/v1/renew";
/// Attempts are counted anew this often.
pub const ATTEMPT_WINDOW: Duration = Duration::from_secs(60);
/// Attempts of one address in a window.
pub const MAX_ATTEMPTS_PER_ADDRESS: u32 = 20;
/// Attempts of all addresses in a window.
pub const MAX_ATTEMPTS: u32 = 300;
/// Hosts that come back in a window, from all addresses: each asks at most every thirty seconds, and a
/// thousand may do so at once, also from one network of IPv6, which has half of them.
pub const MAX_RETURNS: u32 = 4_000;

/// The port's server.
pub struct JoinServer(Door);

#[derive(Clone)]
struct Joins {
    api: Api,
    registry: Arc<Registry>,
    attempts: Arc<Attempts>,
    returns: Arc<Attempts>,
}

impl JoinServer {
    /// A server that lets machines join; `tls` is the gateway's identity.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        api: Api,
        registry: Arc<Registry>,
        tls: &Arc<TlsIdentity>,
        spans: Spans,
    ) -> Result<Self, TlsError> {
        let config = tls.join_server_config()?;
        let joins = Joins {
            api: api.clone(),
            registry,
            attempts: Arc::new(Attempts::of(MAX_ATTEMPTS)),
            returns: Arc::new(Attempts::of(MAX_RETURNS)),
        };
        Ok(Self(Door {
            api,
            router: router(joins),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            members: None,
            spans,
            places: Places::default(),
            takes_tokens: false,
            object: "join-port",
        }))
    }

    /// Serves until told to stop; answers under way end first. The command bus must still run then.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        self.0.run(listener, stop).await;
    }
}

fn router(joins: Joins) -> Router {
    Router::new()
        .route(PATH, post(join))
        .route(RETURN_PATH, post(returning::renew))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(joins)
}

async fn unknown_path(State(joins): State<Joins>, ConnectInfo(peer): ConnectInfo<Peer>) -> Failure {
    joins.elsewhere(&peer).await
}

async fn unknown_method(
    State(joins): State<Joins>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Failure {
    let failure = Failure::wrong_method(hint());
    joins
        .misdirected(&peer, failure, "the method is not POST")
        .await
}

/// What there is to ask here.
fn hint() -> String {
    format!("machines join here, with POST {PATH}; `keywheel-injector join` does it")
}

async fn join(
    State(joins): State<Joins>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let Peer::Stranger(from) = peer else {
        return joins.elsewhere(&peer).await.into_response();
    };
    let principal = joins.api.access.principal(&peer);
    if !joins.attempts.admit(from, joins.api.clock.monotonic()) {
        joins.count(&principal, "join: too many attempts");
        let text = "too many attempts to join; wait a minute and try again";
        return Failure::too_often(text).into_response();
    }
    let asked = match read(request.into_body()).await {
        Ok(asked) => asked,
        Err(why) => {
            return joins
                .malformed(&principal, "join", why)
                .await
                .into_response();
        }
    };
    match joins.answer(&principal, asked).await {
        Ok(answer) => Json(answer).into_response(),
        Err(failure) => failure.into_response(),
    }
}

/// Reads and checks a request; the fault's text says nothing of what is there.
async fn read(body: Body) -> Result<CheckedAsk, String> {
    let ask: JoinAsk = read_json(body, "to join").await?;
    ask.check().map_err(|error| error.to_string())
}

/// Reads a request of bounded size in bounded time.
async fn read_json<T: DeserializeOwned>(body: Body, wish: &str) -> Result<T, String> {
    let reading = axum::body::to_bytes(body, MAX_ASK_BYTES);
    let bytes = tokio::time::timeout(BODY_TIMEOUT, reading)
        .await
        .map_err(|_| "the request did not come in time; try again".to_owned())?
        .map_err(|_| {
            format!("the request broke off or has more than {MAX_ASK_BYTES} bytes; try again")
        })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        format!(
            "the request is not one {wish} (line {}, column {}); use the `keywheel-injector` of the gateway's version",
            error.line(),
            error.column()
        )
    })
}

impl Joins {
    async fn answer(
        &self,
        principal: &Principal,
        asked: CheckedAsk,
    ) -> Result<JoinAnswer, Failure> {
        let submission = Submission {
            id: CommandId::from_bytes(self.api.ids.draw()),
            principal: principal.clone(),
            traceparent: None,
            command: Command::JoinHost(asked.request.clone()),
        };
        let verdict = self.api.commands.submit(submission).await?;
        if let Verdict::Rejected { kind, text } = verdict {
            return Err(Failure::rejected(kind, text));
        }
        let name = asked.request.name.clone();
        match self.make_credentials(asked).await {
            Ok(answer) => Ok(answer),
            Err(why) => {
                tracing::error!(host = %name, error = why, "a host joined and got no credentials");
                let object = format!("host/{name}");
                let record = self.api.record(
                    principal,
                    "issue-credentials",
                    &object,
                    Outcome::Rejected,
                    &why,
                );
                self.api.commands.record(record).await?;
                let text = format!(
                    "the token is used up, but no credentials can be made: {why}; when that is mended, `keywheel host join-token {name}` gives a new token"
                );
                Err(PortError::new(ErrorKind::Unavailable, text).into())
            }
        }
    }

    async fn make_credentials(&self, asked: CheckedAsk) -> Result<JoinAnswer, String> {
        let now = self.api.clock.now();
        let (key, expires_at) = self.registry.permit_of(asked.bus_key(), now)?;
        let wish = PermitRequest {
            host: asked.request.host,
            key,
            expires_at,
        };
        let id = CommandId::from_bytes(self.api.ids.draw());
        note_permit(&self.api.commands, id, wish)
            .await
            .map_err(|error| keywheel_daemon::chain(&error))?;
        let registry = Arc::clone(&self.registry);
        let making = tokio::task::spawn_blocking(move || registry.answer_join(&asked, now));
        let made = making.await.map_err(|error| error.to_string());
        made.and_then(|made| made.map_err(|error| keywheel_daemon::chain(&error)))
    }

    /// Answers who asks for what is not here.
    async fn elsewhere(&self, peer: &Peer) -> Failure {
        let failure = Failure::not_found(hint());
        let why = "the path is none of this port";
        self.misdirected(peer, failure, why).await
    }

    /// The same of any request that is none of this port's, with its own answer.
    async fn misdirected(&self, peer: &Peer, failure: Failure, why: &str) -> Failure {
        let principal = self.api.access.principal(peer);
        let noted = self.note_malformed(&principal, "join", why).await;
        noted.map_or_else(Failure::from, |()| failure)
    }

    /// Answers what makes no sense, after it is on record or counted.
    async fn malformed(&self, principal: &Principal, verb: &str, why: String) -> Failure {
        let noted = self.note_malformed(principal, verb, &why).await;
        noted.map_or_else(Failure::from, |()| Failure::invalid(why))
    }

    async fn note_malformed(
        &self,
        principal: &Principal,
        verb: &str,
        why: &str,
    ) -> Result<(), PortError> {
        let what = format!("{verb}: not a request to {verb}");
        let attempt = Attempt::new(self.api.clock.now(), &what);
        if self.api.denials.note(principal, attempt.clone()) == Ruling::Record {
            let record = self
                .api
                .record(principal, verb, "", Outcome::Malformed, why);
            if let Err(error) = self.api.commands.record(record).await {
                self.api.denials.put_back(principal, attempt);
                return Err(error);
            }
        }
        Ok(())
    }

    fn count(&self, principal: &Principal, what: &str) {
        let attempt = Attempt::new(self.api.clock.now(), what);
        self.api.denials.count(principal, attempt);
    }
}

/// Who tried how often in the window that runs. As many addresses as attempts at most. A network of IPv6, of which one
/// machine has as many addresses as it likes, has half of all.
#[derive(Debug)]
struct Attempts {
    most: u32,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Duration,
    all: u32,
    by_address: BTreeMap<IpAddr, u32>,
    by_network: BTreeMap<Ipv6Addr, u32>,
}

impl Attempts {
    fn of(most: u32) -> Self {
        Self {
            most,
            window: Mutex::default(),
        }
    }

    fn admit(&self, from: IpAddr, now: Duration) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(window.began) >= ATTEMPT_WINDOW {
            *window = Window {
                began: now,
                ..Window::default()
            };
        }
        if window.all >= self.most {
            return false;
        }
        let network = network_of(from);
        let beside = network.and_then(|network| window.by_network.get(&network).copied());
        let beside = beside.unwrap_or(0);
        // Before its address is remembered: of these there is no end.
        if beside >= self.most / 2 {
            return false;
        }
        let own = window.by_address.entry(from).or_default();
        if *own >= MAX_ATTEMPTS_PER_ADDRESS {
            return false;
        }
        *own += 1;
        window.all += 1;
        if let Some(network) = network {
            window.by_network.insert(network, beside + 1);
        }
        true
    }
}

#[cfg(test)]
mod tests;
