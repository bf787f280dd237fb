//! What is served while an older log waits to be accepted: one verb, for whoever may use the API, and to everything
//! else why there is no more.
//!
//! Invariants: nothing of the log is read to anybody; the policies that it has say who may accept it, as with
//! everything else (`grant` of the environment, since with it come back the rights of then); an acceptance is on record
//! before it counts; one principal counts once; a flood of people who may not fills no log, and is counted in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::IncomingStream;
use axum::{Json, Router};
use keywheel_core::audit::{Outcome, Principal};
use keywheel_core::event::Event;
use keywheel_core::policy::{self, Applied};
use keywheel_daemon::Shutdown;
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::journal::{Journal, MAX_READ};
use keywheel_gateway::access::{Access, Peer};
use keywheel_gateway::admission::{Admission, Demand, InForce, person};
use keywheel_policy::Verb;
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
#[derive(Debug, Clone)]
struct Porch {
    asks: mpsc::Sender<Ask>,
    /// How many accepted by now.
    accepted: Arc<AtomicUsize>,
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
    let porch = Porch {
        asks: sender,
        accepted: Arc::clone(&accepted),
    };
    let router = Router::new()
        .route(ACCEPT, post(accept))
        .fallback(held)
        .with_state(porch)
        .into_make_service_with_connect_info::<Caller>();
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
    note_rest(opened, &door).await?;
    if !is_accepted {
        return Ok(false);
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

/// Puts on record how many were denied beside those that have a record each.
async fn note_rest(opened: &Opened, door: &Door) -> Result<(), Error> {
    let Some(words) = door.rest() else {
        return Ok(());
    };
    let many = Principal::User {
        uid: u32::MAX,
        name: "(many users)".to_owned(),
    };
    let record = restored::record(opened, many, VERB, (Outcome::Denied, words));
    restored::append(opened, record).await
}

/// Who may accept.
struct Door {
    access: Access,
    in_force: InForce,
    /// Of who may not.
    denials: u32,
}

impl Door {
    /// Of whom the log has no record of their own.
    fn rest(&self) -> Option<String> {
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
    State(Porch { asks, .. }): State<Porch>,
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

/// What everybody is told who asks for something else.
async fn held(State(Porch { accepted, .. }): State<Porch>) -> Response {
    let told = held_words(accepted.load(Ordering::Relaxed));
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
mod tests {
    use keywheel_core::id::PolicySetId;
    use keywheel_core::policy::Policies;

    use super::*;

    fn door(folder: &std::path::Path, text: Option<&str>) -> Door {
        std::fs::write(folder.join("group"), "keywheel:x:990:ann,bob\n").unwrap();
        let users = "ann:x:1001:1001::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n";
        std::fs::write(folder.join("passwd"), users).unwrap();
        let applied = text.map(|text| Applied {
            id: PolicySetId::default(),
            version: 3,
            policies: Policies {
                text: text.to_owned(),
                groups: Vec::new(),
            },
            by: "unix:0".to_owned(),
            number: 9,
        });
        Door {
            access: Access {
                own_uid: 77,
                group_file: folder.join("group"),
                user_file: folder.join("passwd"),
            },
            in_force: Admission::new().unwrap().in_force(applied.as_ref()),
            denials: 0,
        }
    }

    fn user(uid: u32) -> Peer {
        Peer::User { uid, gid: uid }
    }

    #[test]
    fn who_may_accept_an_older_log_is_said_by_the_policies_that_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let refuses = |text: Option<&str>, uid| door(folder.path(), text).refuses(&user(uid), 0);
        // Without a set whoever may come in may.
        for uid in [0, 77, 1001, 1002] {
            assert_eq!(refuses(None, uid), None, "{uid}");
        }
        assert!(refuses(None, 1003).unwrap().contains("nor in group"));
        let ann = "@id(\"ann\") permit (principal == User::\"unix:1001\", action == Action::\"grant\", resource);";
        assert_eq!(refuses(Some(ann), 1001), None);
        let why = refuses(Some(ann), 1002).unwrap();
        assert_eq!(
            why,
            "default deny: needs `grant` of the environment (policies version 3)"
        );
        // Root and the daemon's own user always, also where the set cannot be read.
        for uid in [0, 77] {
            assert_eq!(refuses(Some("this is no policy"), uid), None, "{uid}");
        }
        assert!(refuses(Some("this is no policy"), 1001).is_some());
    }

    #[test]
    fn denials_beyond_those_with_a_record_of_their_own_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut door = door(folder.path(), None);
        for (denials, said) in [
            (0, None),
            (MAX_DENIALS, None),
            (MAX_DENIALS + 7, Some("7 more requests denied")),
        ] {
            door.denials = denials;
            assert_eq!(door.rest().as_deref(), said, "{denials}");
        }
    }

    #[test]
    fn whoever_asks_is_told_what_is_waited_for_and_how_far_that_is() {
        let told = held_words(1);
        for part in ["nothing is served", "`keywheel restore accept", "1 of 2"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[tokio::test]
    async fn the_last_set_of_a_log_counts() {
        use keywheel_core::command::Command;
        use keywheel_core::id::CommandId;
        use keywheel_engine::command_bus::{CommandBus, Parts, Submission};
        use keywheel_testkit::fake::{FakeClock, FakeIds, MemoryJournal};
        let journal = std::sync::Arc::new(MemoryJournal::new());
        assert_eq!(policies_of(&*journal).await.unwrap().version, None);
        let parts = Parts {
            journal: journal.clone(),
            clock: std::sync::Arc::new(FakeClock::default()),
            ids: std::sync::Arc::new(FakeIds::of_source(1)),
            failpoint: |_| (),
        };
        let mut started = CommandBus::start(parts).await.unwrap();
        tokio::spawn(started.bus.run());
        tokio::spawn(async move { while started.commits.recv().await.is_some() {} });
        for (n, text) in (1..).zip(["", "@id(\"a\") permit (principal, action, resource);"]) {
            let command = Command::ApplyPolicies(policy::Request {
                id: PolicySetId::default(),
                expected: None,
                policies: Policies {
                    text: text.to_owned(),
                    groups: Vec::new(),
                },
                by: "unix:0".to_owned(),
            });
            let submission = Submission {
                id: CommandId::from_bytes([n; 16]),
                principal: Principal::Service(keywheel_core::audit::Role::Gateway),
                traceparent: None,
                command,
            };
            started.handle.submit(submission).await.unwrap();
        }
        let in_force = policies_of(&*journal).await.unwrap();
        assert_eq!((in_force.version, in_force.set.len()), (Some(2), 1));
    }
}
