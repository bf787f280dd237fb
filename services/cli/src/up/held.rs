//! What is served while an older log waits to be accepted: one verb, for whoever may use the API, and to everything
//! else why there is no more.
//!
//! Invariants: nothing of the log is read to anybody; the policies that it has say who may accept it, as with
//! everything else (`grant` of the environment, since with it come back the rights of then); an acceptance is on record
//! before it counts; one principal counts once; a flood of people who may not fills no log, and is counted in it, as is
//! whatever else is asked for meanwhile but health (`asked`). Whatever is counted only is put on record at the end of the
//! wait, whether it was accepted or is to stop; a crash before that loses the count.

mod asked;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::IncomingStream;
use axum::{Json, Router};
use keywheel_core::audit::{Outcome, Principal};
use keywheel_core::event::Event;
use keywheel_core::policy::{self, Applied};
use keywheel_daemon::Shutdown;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::journal::{Journal, MAX_READ};
use keywheel_gateway::access::{Access, Peer};
use keywheel_gateway::admission::{Admission, Demand, InForce, person};
use keywheel_gateway::http::recorded_verb;
use keywheel_policy::Verb;
use keywheel_schemas::api::Problem;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::asked::{Asked, MANY, Tally};
use super::Opened;
use super::error::{Error, Kind};
use super::restored::{self, ACCEPTANCES, Accepted, Note, Person};
use crate::wiring::listen;

/// The verb of records about it.
const VERB: &str = "accept-restore";
/// That of records about all other requests, as where the gateway counts some.
const COUNTED: &str = "request";
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
/// Why nothing is served.
const HELD: &str =
    "nothing is served: this log was put back to a time before the newest that is known of it";
/// What to do about that.
const HELD_NEXT: &str = "Two different people have to accept that, each with `keywheel restore accept --reason \"…\"`; \
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

/// Where requests come in.
#[derive(Clone)]
struct Porch {
    asks: mpsc::Sender<Ask>,
    /// How many accepted by now.
    accepted: Arc<AtomicUsize>,
    /// What nobody decides.
    asked: Arc<Mutex<Asked>>,
    clock: Arc<dyn Clock>,
}

impl Porch {
    /// Counts what nobody decides.
    fn note(&self, peer: &Peer, verb: &str) {
        let now = self.clock.now();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.note(peer, verb, now);
    }
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
    let accepted = Arc::new(AtomicUsize::new(note.accepted.len()));
    let asked = Arc::new(Mutex::new(Asked::default()));
    let router = router(Porch {
        asks: sender,
        accepted: Arc::clone(&accepted),
        asked: Arc::clone(&asked),
        clock: opened.clock.clone(),
    });
    let router = router.into_make_service_with_connect_info::<Caller>();
    let end = CancellationToken::new();
    let ended = end.clone().cancelled_owned();
    let serving = axum::serve(listener, router).with_graceful_shutdown(ended);
    let mut serving = std::pin::pin!(std::future::IntoFuture::into_future(serving));
    tracing::error!("the log waits to be accepted by two people: keywheel restore accept");
    keywheel_daemon::readiness::ready();
    let mut door = Door {
        access: Access::of_machine(rustix::process::geteuid().as_raw()),
        in_force: policies_of(&*opened.journal).await?,
        denials: 0,
    };
    let stop = shutdown.token();
    let is_accepted = loop {
        if note.is_accepted() {
            break true;
        }
        tokio::select! {
            () = stop.cancelled() => break false,
            ended = &mut serving => return Err(not_served(ended)),
            ask = asks.recv() => {
                let Some(ask) = ask else { break false };
                let decided = decide(opened, note, &mut door, (&ask.peer, &ask.reason)).await?;
                accepted.store(note.accepted.len(), Ordering::Relaxed);
                // Who asked may be gone.
                let _ = ask.answer.send(decided);
            }
        }
    };
    // Who waits for a decision hears that there is none.
    drop(asks);
    end.cancel();
    let _late = tokio::time::timeout(END, serving).await;
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).take();
    note_rest(opened, &door, asked).await?;
    if is_accepted {
        tracing::warn!("the older log was accepted by two people");
    }
    Ok(is_accepted)
}

fn router(porch: Porch) -> Router {
    Router::new()
        .route(ACCEPT, post(accept))
        .fallback(held)
        .method_not_allowed_fallback(held)
        .with_state(porch)
}

fn not_served(ended: std::io::Result<()>) -> Error {
    let why = ended
        .err()
        .map_or_else(|| "it ended".to_owned(), |error| error.to_string());
    let what = format!("the socket cannot be served: {why}");
    Error::new(Kind::Broken, what, "start again")
}

/// Puts on record what was counted only.
async fn note_rest(
    opened: &Opened,
    door: &Door,
    asked: Vec<(Option<Peer>, Tally)>,
) -> Result<(), Error> {
    for (principal, verb, why) in door.rest(asked) {
        let record = restored::record(opened, principal, verb, why);
        restored::append(opened, record).await?;
    }
    Ok(())
}

/// Who may accept.
struct Door {
    access: Access,
    in_force: InForce,
    /// Of who may not.
    denials: u32,
}

impl Door {
    /// What has no record of its own: who, the verb, and the words.
    fn rest(
        &self,
        asked: Vec<(Option<Peer>, Tally)>,
    ) -> Vec<(Principal, &'static str, (Outcome, String))> {
        let many = || Principal::User {
            uid: MANY,
            name: "(many users)".to_owned(),
        };
        let denied = self
            .denied()
            .map(|words| (many(), VERB, (Outcome::Denied, words)));
        let asked = asked.into_iter().map(|(peer, tally)| {
            let who = peer.as_ref().map(|peer| self.access.principal(peer));
            let may = peer.is_none_or(|peer| self.access.allows(&peer).is_some());
            let outcome = match may {
                true => Outcome::Rejected,
                false => Outcome::Denied,
            };
            (who.unwrap_or_else(many), COUNTED, (outcome, tally.words()))
        });
        denied.into_iter().chain(asked).collect()
    }

    /// Of whom the log has no record of their own.
    fn denied(&self) -> Option<String> {
        let more = self.denials.checked_sub(MAX_DENIALS)?;
        (more > 0).then(|| format!("{more} more requests denied"))
    }

    /// Why somebody may not.
    fn refuses(&self, peer: &Peer, now: i64) -> Option<String> {
        let Some(rule) = self.access.allows(peer) else {
            let why = "peer is neither root, nor the daemon's user, nor in group keywheel";
            return Some(why.to_owned());
        };
        let who = person(&self.access.principal(peer), rule);
        let needs = [Demand::of_all(Verb::Grant)];
        let refused = self.in_force.admit(&who, &needs, now).err()?;
        let set = self.in_force.words();
        Some(format!(
            "{}: needs `grant` of the environment ({set})",
            refused.reason
        ))
    }
}

/// The policies that a log has.
async fn policies_of(journal: &dyn Journal) -> Result<InForce, Error> {
    let admission = Admission::new()
        .map_err(|fault| Error::new(Kind::Broken, fault.to_string(), "report this"))?;
    let (mut last, mut after): (Option<Applied>, u64) = (None, 0);
    loop {
        let page = journal.read(after, MAX_READ).await?;
        let Some(end) = page.last() else {
            return Ok(admission.in_force(last.as_ref()));
        };
        after = end.number;
        for recorded in page {
            let Event::Policy(id, event) = recorded.event else {
                continue;
            };
            let policy::Event::Applied {
                version,
                policies,
                by,
            } = event;
            last = Some(Applied {
                id,
                version,
                policies,
                by,
                number: recorded.number,
            });
        }
    }
}

async fn decide(
    opened: &Opened,
    note: &mut Note,
    door: &mut Door,
    (peer, reason): (&Peer, &str),
) -> Result<Answer, Error> {
    let principal = door.access.principal(peer);
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
    let now = opened.clock.now().micros().div_euclid(1_000_000);
    if let Some(why) = door.refuses(peer, now) {
        door.denials = door.denials.saturating_add(1);
        let count = door.denials;
        match count <= MAX_DENIALS {
            true => put(Outcome::Denied, &why).await?,
            false => tracing::warn!(uid, count, "denied too often to be on record by itself"),
        }
        return Ok(refused(StatusCode::FORBIDDEN, "denied", &why));
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
    State(porch): State<Porch>,
    ConnectInfo(Caller(peer)): ConnectInfo<Caller>,
    body: Result<Json<AcceptRequest>, axum::extract::rejection::JsonRejection>,
) -> Response {
    // What is no such request has no reason, and is told so after who may was asked.
    let reason = body.map(|Json(asked)| asked.reason).unwrap_or_default();
    let (answer, answered) = oneshot::channel();
    let ask = Ask {
        peer: peer.clone(),
        reason,
        answer,
    };
    if porch.asks.try_send(ask).is_err() {
        porch.note(&peer, VERB);
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "too many ask; try again",
        );
    }
    match answered.await {
        Ok(Ok(accepted)) => Json(accepted).into_response(),
        Ok(Err((status, code, why))) => problem(status, code, &why),
        Err(_) => {
            porch.note(&peer, VERB);
            problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "it is stopping",
            )
        }
    }
}

/// What everybody is told who asks for something else.
async fn held(
    State(porch): State<Porch>,
    ConnectInfo(Caller(peer)): ConnectInfo<Caller>,
    request: Request,
) -> Response {
    if let Some(verb) = recorded_verb(&request) {
        porch.note(&peer, &verb);
    }
    let told = held_words(porch.accepted.load(Ordering::Relaxed));
    problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &told)
}

fn held_words(accepted: usize) -> String {
    format!("{HELD}. {HELD_NEXT}. {accepted} of {ACCEPTANCES} accepted it by now")
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

#[cfg(test)]
mod tests;
