//! What is served while an older log waits to be accepted: one verb, for whoever may use the API, and to everything
//! else why there is no more.
//!
//! Invariants: nothing of the log is read to anybody; an acceptance is on record before it counts; one principal counts
//! once; a flood of people who may not fills no log.

use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::IncomingStream;
use axum::{Json, Router};
use keywheel_core::audit::{Outcome, Principal};
use keywheel_daemon::Shutdown;
use keywheel_gateway::access::{Access, Peer};
use keywheel_schemas::api::Problem;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Opened;
use super::error::{Error, Kind};
use super::restored::{self, ACCEPTANCES, Accepted, Note, Person};
use crate::wiring::listen;

/// The verb of records about it.
const VERB: &str = "accept-restore";
/// The one path.
pub(crate) const ACCEPT: &str = "/v1/restore/accept";
/// Longest reason, in characters.
pub(crate) const MAX_REASON_CHARS: usize = 500;
/// Requests that wait.
const MAX_WAITING: usize = 16;
/// Denials of one run that get a record each.
const MAX_DENIALS: u32 = 32;
/// How long answers under way may take at the end.
const END: Duration = Duration::from_secs(2);
/// What everybody is told who asks for something else.
const HELD: &str = "nothing is served: this log was put back to a time before the newest that is known of it. \
    Two different people have to accept that, each with `keywheel restore accept --reason \"…\"`; \
    deploy/docs/backup.md says what it means. If nobody meant to put it back: stop, keep the data directory, \
    and compare it with your backup";

/// `POST /v1/restore/accept`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptRequest {
    /// Why, in a person's words.
    pub(crate) reason: String,
}

/// Its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AcceptAnswer {
    /// Who accepted by now.
    pub(crate) accepted_by: Vec<String>,
    /// How many have to.
    pub(crate) needed: usize,
    /// Whether it is served now.
    pub(crate) is_accepted: bool,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
struct Caller(Peer);

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        // A peer the kernel does not name is nobody.
        let unknown = Peer::User {
            uid: u32::MAX,
            gid: u32::MAX,
        };
        let named = stream.io().peer_cred();
        Self(named.map_or(unknown, |named| Peer::User {
            uid: named.uid(),
            gid: named.gid(),
        }))
    }
}

/// One acceptance that waits.
struct Ask {
    peer: Peer,
    reason: String,
    answer: oneshot::Sender<Answer>,
}

/// What is answered.
type Answer = Result<AcceptAnswer, (StatusCode, &'static str, String)>;

/// Serves until enough people accepted; `false` when it is to stop before.
pub(super) async fn until_accepted(
    opened: &Opened,
    note: &mut Note,
    shutdown: &Shutdown,
) -> Result<bool, Error> {
    let listener = listen(&opened.config)?;
    let (sender, mut asks) = mpsc::channel(MAX_WAITING);
    let router = Router::new()
        .route(ACCEPT, post(accept))
        .fallback(held)
        .with_state(sender)
        .into_make_service_with_connect_info::<Caller>();
    let end = CancellationToken::new();
    let ended = end.clone().cancelled_owned();
    let serving = axum::serve(listener, router).with_graceful_shutdown(ended);
    let mut serving = std::pin::pin!(std::future::IntoFuture::into_future(serving));
    tracing::error!("the log waits to be accepted by two people: keywheel restore accept");
    keywheel_daemon::readiness::ready();
    let access = Access::of_machine(rustix::process::geteuid().as_raw());
    let (stop, mut denials) = (shutdown.token(), 0);
    while !note.is_accepted() {
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            ended = &mut serving => return Err(not_served(ended)),
            ask = asks.recv() => {
                let Some(ask) = ask else { return Ok(false) };
                let decided = decide(opened, note, (&access, &mut denials), (&ask.peer, &ask.reason)).await?;
                // Who asked may be gone.
                let _ = ask.answer.send(decided);
            }
        }
    }
    end.cancel();
    let _late = tokio::time::timeout(END, serving).await;
    tracing::warn!("the older log was accepted by two people");
    Ok(true)
}

fn not_served(ended: std::io::Result<()>) -> Error {
    let why = ended
        .err()
        .map_or_else(|| "it ended".to_owned(), |error| error.to_string());
    let what = format!("the socket cannot be served: {why}");
    Error::new(Kind::Broken, what, "start again")
}

async fn decide(
    opened: &Opened,
    note: &mut Note,
    (access, denials): (&Access, &mut u32),
    (peer, reason): (&Peer, &str),
) -> Result<Answer, Error> {
    let principal = access.principal(peer);
    let Principal::User { uid, name } = principal.clone() else {
        return Ok(refused(
            StatusCode::FORBIDDEN,
            "denied",
            "only users of this machine may",
        ));
    };
    let put = |outcome, why: &str| {
        let why = (outcome, why.to_owned());
        restored::append(
            opened,
            restored::record(opened, principal.clone(), VERB, why),
        )
    };
    if access.allows(peer).is_none() {
        *denials = denials.saturating_add(1);
        let why = "peer is neither root, nor the daemon's user, nor in group keywheel";
        match *denials <= MAX_DENIALS {
            true => put(Outcome::Denied, why).await?,
            false => tracing::warn!(uid, count = *denials, "denied too often to be on record"),
        }
        return Ok(refused(StatusCode::FORBIDDEN, "denied", why));
    }
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS {
        let why = format!(
            "a reason of 1 to {MAX_REASON_CHARS} characters is needed; give one with --reason"
        );
        put(Outcome::Malformed, &why).await?;
        return Ok(refused(StatusCode::BAD_REQUEST, "invalid", &why));
    }
    if note.accepted.iter().any(|known| known.by.uid == uid) {
        let why = format!("`{name}` accepted it already; another person has to, too");
        put(Outcome::Rejected, &why).await?;
        return Ok(refused(StatusCode::CONFLICT, "conflict", &why));
    }
    put(Outcome::Allowed, reason).await?;
    note.accept(Accepted {
        by: Person { uid, name },
        reason: reason.to_owned(),
        at: restored::now(opened),
    });
    restored::save(note, &opened.config.data_dir)?;
    Ok(Ok(AcceptAnswer {
        accepted_by: note
            .accepted
            .iter()
            .map(|one| one.by.name.clone())
            .collect(),
        needed: ACCEPTANCES,
        is_accepted: note.is_accepted(),
    }))
}

fn refused(status: StatusCode, code: &'static str, why: &str) -> Answer {
    Err((status, code, why.to_owned()))
}

async fn accept(
    State(asks): State<mpsc::Sender<Ask>>,
    ConnectInfo(Caller(peer)): ConnectInfo<Caller>,
    body: Result<Json<AcceptRequest>, axum::extract::rejection::JsonRejection>,
) -> Response {
    // What is no such request has no reason, and is told so after who may was asked.
    let reason = body.map(|Json(asked)| asked.reason).unwrap_or_default();
    let (answer, answered) = oneshot::channel();
    let ask = Ask {
        peer,
        reason,
        answer,
    };
    if asks.try_send(ask).is_err() {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "too many ask; try again",
        );
    }
    match answered.await {
        Ok(Ok(accepted)) => Json(accepted).into_response(),
        Ok(Err((status, code, why))) => problem(status, code, &why),
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "it is stopping",
        ),
    }
}

async fn held() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", HELD)
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let problem = Problem {
        kind: format!("about:blank#{code}"),
        title: code.to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
        code: code.to_owned(),
    };
    let kind = [(axum::http::header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, Json(problem)).into_response()
}
