//! The HTTP API on the unix socket: who asks, what, and the record of both.
//!
//! Invariant: a request of someone who may not is answered only after its denial is durable in the
//! audit, but for a flood of them, whose first are and whose rest is counted into one record; no
//! answer holds a value.

mod approvals;
mod backup;
pub(crate) mod bearer;
mod caller;
mod change;
mod consistency;
mod deed;
mod entitlement;
mod export;
mod gates;
mod history;
mod hosts;
mod interventions;
mod lasting;
mod login;
mod looked;
mod named;
mod outward;
mod pages;
mod payload;
mod playbooks;
mod policies;
mod problem;
mod read;
mod refused;
mod reports;
mod retention;
mod revocations;
mod rows;
mod scans;
mod seal;
mod standing;
pub(crate) mod status;
mod stores;
mod stream;
mod subscriptions;
mod tags;
mod tokens;
mod trace;
mod unanswered;
mod under_way;
mod waits;
pub(crate) mod whoami;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use keywheel_core::audit::{Category, Outcome, Principal, Record};
use keywheel_core::id::{CommandId, DeploymentId};
use keywheel_core::name::HostName;
use keywheel_engine::command_bus::Handle;
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::Bus;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::deliveries::Deliveries;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::Journal;
use keywheel_engine::port::outside::Outside;
use keywheel_engine::state::View;
use keywheel_schemas::api::MAX_BODY_BYTES;

use crate::access::{Access, Peer};
use crate::admission::Admission;
use crate::denials::{Attempt, Denials, Ruling};
use crate::login::Logins;
use crate::presence::Presences;
use crate::tokens::Tokens;
use crate::views::status::Part;
use crate::views::{NextFires, Outlook};

pub use backup::BackupMaker;
use bearer::Came;
pub use caller::Caller;
pub use hosts::{NewToken, TokenMaker};
use looked::Look;
use named::Named;
pub use problem::Failure;
pub use scans::{COME_AGAIN_AFTER, MAX_FOLDS, MAX_SCANS, Scans};
use standing::Standing;
pub use stream::KEEP_ALIVE_AFTER;
pub use tags::MAX_TAGGED_BYTES;
use unanswered::{Change, Spoken};
pub use under_way::{MAX_OF_A_KIND, MAX_OF_A_PERSON, UnderWay};
pub use waits::Waits;

/// How long store-sync may take to keep a provided value.
pub const STASH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long store-sync may take to look at what may unseal it: a passphrase takes its time, and the cache is opened.
pub const UNSEAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the body of a request may take.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait one request may ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// What has verbs at the end of its paths.
const SPEAKING_PATHS: [&str; 10] = [
    "hosts",
    "revocations",
    "rotations",
    "subscriptions",
    "notifications",
    "letters",
    "playbooks",
    "playbook-runs",
    "quarantines",
    "approvals",
];

/// Longest object of a record that a person's words are put into, in characters.
const MAX_OBJECT_CHARS: usize = 300;

/// Checks a cron line and a zone; the text names the fault.
pub type CheckSchedule = fn(&str, &str) -> Result<(), String>;

/// What the handlers need.
#[derive(Clone)]
pub struct Api {
    /// Submits commands.
    pub commands: Handle,
    /// Committed state.
    pub view: View,
    /// The log of record.
    pub journal: Arc<dyn Journal>,
    /// Places of receivers, and letters.
    pub deliveries: Arc<dyn Deliveries>,
    /// Speaks with others outside.
    pub outside: Arc<dyn Outside>,
    /// This service's end of the bus.
    pub bus: Arc<dyn Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// Who may.
    pub access: Access,
    /// This installation.
    pub deployment: DeploymentId,
    /// This machine.
    pub host: HostName,
    /// Directory of the journal, for status.
    pub data_dir: String,
    /// Origin line of the audit's checkpoints.
    pub origin: String,
    /// Public key of checkpoints and events.
    pub public_key: [u8; 32],
    /// Checks a cron line and a zone.
    pub check_schedule: CheckSchedule,
    /// Computes next fires.
    pub next_fires: NextFires,
    /// Says a policy and its next fires in words.
    pub outlook: Outlook,
    /// Makes join tokens; `None` where hosts cannot join.
    pub join_tokens: Option<Arc<dyn TokenMaker>>,
    /// Counts who was denied.
    pub denials: Arc<Denials>,
    /// Waits that are on record.
    pub waits: Arc<Waits>,
    /// Readings of the whole log that run.
    pub scans: Scans,
    /// What was heard of every instance.
    pub presences: Presences,
    /// Bus and journal as this gateway sees them, asked anew for each status.
    pub parts: Arc<dyn Fn() -> Vec<Part> + Send + Sync>,
    /// Reads the policies in force.
    pub admission: Arc<Admission>,
    /// Makes tokens and counts their uses.
    pub tokens: Arc<Tokens>,
    /// Makes backups; `None` where journal and cache are not this process's.
    pub backups: Option<Arc<dyn BackupMaker>>,
    /// Where people log in; `None` where nobody does.
    pub logins: Option<Arc<Logins>>,
    /// What goes on in tasks of its own.
    pub under_way: UnderWay,
    /// Looks that leave no record each, counted.
    pub health_looks: Arc<AtomicU64>,
}

/// One method of one path.
type Route = (Method, &'static str, MethodRouter<Api>);

/// Every route, one method each.
fn routes() -> Vec<Route> {
    let mut all = own_routes();
    all.extend(outward::routes());
    all.extend(reports::routes());
    all.extend(policies::routes());
    all.extend(tokens::routes());
    all.extend(entitlement::routes());
    all.extend(approvals::routes());
    all.extend(login::routes());
    all
}

fn own_routes() -> Vec<Route> {
    let look = |path, handler| (Method::GET, path, handler);
    let change = |path, handler| (Method::POST, path, handler);
    let mut routes = vec![
        look("/v1/openapi.json", get(openapi)),
        look("/v1/status", get(status::status)),
        look("/v1/store-key", get(read::store_key)),
        look("/v1/whoami", get(whoami::whoami)),
        look("/v1/secrets", get(read::secrets)),
        look("/v1/secrets/{*name}", get(read::secret)),
        look("/v1/schedules/{*name}", get(read::schedule)),
        look("/v1/versions/{*name}", get(read::versions)),
        look("/v1/bindings", get(read::bindings)),
        look("/v1/bindings/{*name}", get(read::binding)),
        (
            Method::DELETE,
            "/v1/bindings/{*name}",
            delete(change::unbind),
        ),
        look("/v1/rotations", get(read::rotations)),
        look("/v1/rotations/{id}", get(read::rotation)),
        look("/v1/revocations", get(read::revocations)),
        look("/v1/revocations/{id}", get(read::revocation)),
        change("/v1/revocations/{id}/forget", post(revocations::forget)),
        look("/v1/revoke-plan", get(revocations::plan)),
        change("/v1/revoke-by", post(revocations::revoke_by)),
        look("/v1/hosts", get(hosts::list)),
        look("/v1/hosts/{name}", get(hosts::describe)),
        change("/v1/hosts/{name}/evict", post(hosts::evict)),
        change("/v1/hosts/{name}/join-token", post(hosts::join_token)),
        look("/v1/consumers", get(read::consumers)),
        look("/v1/stores", get(stores::list)),
        look("/v1/stores/{name}", get(stores::describe)),
        (Method::DELETE, "/v1/stores/{name}", delete(stores::remove)),
        change("/v1/refresh", post(stores::refresh)),
        look("/v1/history/{*name}", get(history::history)),
        look("/v1/events", get(stream::events)),
        look("/v1/subscriptions", get(subscriptions::list)),
        change("/v1/subscriptions", post(subscriptions::subscribe)),
        look("/v1/subscriptions/{name}", get(subscriptions::describe)),
        (
            Method::DELETE,
            "/v1/subscriptions/{name}",
            delete(subscriptions::unsubscribe),
        ),
        change(
            "/v1/subscriptions/{name}/acknowledge",
            post(subscriptions::acknowledge),
        ),
        look("/v1/audit", get(stream::audit)),
        look("/v1/audit/export", get(export::export)),
        look("/v1/audit/proofs/{index}", get(stream::proof)),
        look("/v1/audit/consistency/{size}", get(consistency::look)),
        look("/v1/audit/retention", get(retention::look)),
        look("/v1/journal/verify", get(read::verify)),
        change("/v1/apply", post(change::apply)),
        change("/v1/put", post(change::put)),
        change("/v1/rotate", post(change::rotate)),
        change("/v1/revoke", post(change::revoke)),
        change("/v1/backup", post(backup::backup)),
    ];
    routes.extend(interventions::routes());
    routes.extend(playbooks::routes());
    routes.extend(seal::routes());
    routes
}

/// The document that describes this API.
async fn openapi() -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, keywheel_schemas::openapi::document().text).into_response()
}

/// The API.
pub fn router(api: Api) -> Router {
    let mut router = Router::new();
    for (_, path, handler) in routes() {
        router = router.route(path, handler);
    }
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(api.clone(), guard))
        .with_state(api)
}

async fn unknown_route(request: Request) -> Failure {
    Failure::not_found(format!(
        "no such resource: {} {}; `/v1/openapi.json` describes what there is",
        request.method(),
        bounded(request.uri().path())
    ))
}

async fn unknown_method(request: Request) -> Failure {
    Failure::wrong_method(format!(
        "{} does not take {}; the header `Allow` says what it takes",
        bounded(request.uri().path()),
        request.method()
    ))
}

/// Lets in who may, and records who may not, every look at what is there, and what came of every other request that no
/// command speaks of. Who leaves before the answer is on record, too; of a look that is only counted that is counted.
async fn guard(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let (verb, object) = verb_of(&request);
    let came = match bearer::came_in(&api, &peer, &mut request, (&verb, &object)).await {
        Ok(came) => came,
        Err(answer) => return *answer,
    };
    let principal = came.principal.clone();
    let standing = Arc::new(Standing::of(&came, verb.clone()));
    let (mut parts, body) = request.into_parts();
    if let Err(failure) = gates::pass(&api, (&principal, &standing), &mut parts).await {
        return failure.into_response();
    }
    let request = Request::from_parts(parts, body);
    let is_get = is_reading(request.method());
    let looked = is_look(&request);
    if is_get && !looked {
        api.health_looks.fetch_add(1, Ordering::Relaxed);
    }
    let what = (verb.as_str(), object.as_str());
    let look = looked.then(|| Look::begin(&api, (&came, &standing), what, &request));
    let spoken = Spoken::default();
    let change = (!is_get).then(|| Change::begin(&api, (&came, &standing), what, &spoken));
    let asked_tag = request.headers().get(header::IF_NONE_MATCH).cloned();
    let most = match came.is_visitor() {
        true => login::MAX_VISITOR_BODY_BYTES,
        false => MAX_BODY_BYTES,
    };
    let response = match with_whole_body((&principal, &standing), request, most).await {
        Ok(request) => spoken.within(trace::traced(&api, request, next)).await,
        Err(failure) => failure.into_response(),
    };
    let response = match response.status().is_success() && !standing.is_judged() {
        true => gates::unjudged(&verb).into_response(),
        false => response,
    };
    let response = match is_get {
        true => tags::tag(asked_tag, response).await,
        false => response,
    };
    let answered = Answered::of(&response);
    if let Some(change) = change {
        change.over();
    }
    let recorded = match look {
        Some(look) => look.end(answered).await,
        None => record_failure(&api, (&came, &*standing), what, answered).await,
    };
    if let Err(error) = recorded {
        return Failure::from(error).into_response();
    }
    let token = came.token();
    let asked = lasting::Asked {
        peer,
        principal,
        standing,
        token,
        object,
    };
    lasting::ended_with(&api, asked, response)
}

/// Puts on record what an answer says that nobody recorded yet.
async fn record_failure(
    api: &Api,
    (came, standing): (&Came, &Standing),
    (verb, object): (&str, &str),
    answered: Answered,
) -> Result<(), PortError> {
    if !answered.gave_nothing() || answered.is_recorded {
        return Ok(());
    }
    let reason = standing.words(&answered.words());
    let outcome = answered.outcome();
    let record = api.record(&came.principal, verb, object, outcome, &reason);
    keep_record(api, standing, record).await
}

/// Makes a record durable; what somebody without any right did is counted when much came before it.
async fn keep_record(api: &Api, standing: &Standing, record: Record) -> Result<(), PortError> {
    if !standing.is_visitor() {
        return api.commands.record(record).await;
    }
    let principal = record.principal.clone();
    login::record(api, &principal, record).await
}

/// Answers someone who may not: after the denial is on record, or counted when many came before it.
async fn deny(api: &Api, principal: &Principal, verb: &str, object: &str) -> Response {
    let attempt = Attempt::new(api.clock.now(), &format!("{verb} {object}"));
    if api.denials.note(principal, attempt.clone()) == Ruling::Count {
        return Failure::denied_too_often(principal).into_response();
    }
    let reason = "peer is neither root, nor the daemon's user, nor in group keywheel";
    let record = api.record(principal, verb, object, Outcome::Denied, reason);
    match api.commands.record(record).await {
        Ok(()) => Failure::denied(principal).into_response(),
        Err(error) => {
            // It is not durable; it comes with the next count.
            api.denials.put_back(principal, attempt);
            Failure::from(error).into_response()
        }
    }
}

/// Reads the body to its end, which has to come in time, and says who asks.
async fn with_whole_body(
    (principal, standing): (&Principal, &Arc<Standing>),
    request: Request,
    most: usize,
) -> Result<Request, Failure> {
    let (parts, body) = request.into_parts();
    let reading = axum::body::to_bytes(body, most);
    let bytes = tokio::time::timeout(BODY_TIMEOUT, reading)
        .await
        .map_err(|_| Failure::slow())?
        .map_err(|_| {
            Failure::invalid(format!(
                "the request body broke off or is larger than {most} bytes; send less at once"
            ))
        })?;
    let head = (&parts.method, &parts.uri, &parts.headers);
    let mut caller = Caller::of(principal.clone(), head, &bytes)?;
    caller.standing = standing.clone();
    let mut request = Request::from_parts(parts, bytes.into());
    request.extensions_mut().insert(caller);
    Ok(request)
}

/// What people wrote, cut to what a record holds of it.
fn bounded(words: &str) -> String {
    words.chars().take(MAX_OBJECT_CHARS).collect()
}

/// Verb and object of a request, for the audit: of people's making, so cut to a bound.
fn verb_of(request: &Request) -> (String, String) {
    let path = request
        .uri()
        .path()
        .strip_prefix("/v1/")
        .unwrap_or("unknown");
    let object = bounded(path);
    let first = path.split('/').next().unwrap_or_default();
    let verb = match *request.method() {
        Method::GET | Method::HEAD if path == first => "list",
        Method::GET | Method::HEAD => "describe",
        Method::DELETE if first == "stores" => "remove-store",
        Method::DELETE if first == "subscriptions" => "unsubscribe",
        Method::DELETE if first == "notifications" => "remove-notification",
        Method::DELETE if first == "signal-sources" => "remove-signal-source",
        Method::DELETE if first == "letters" => "discard-letter",
        Method::DELETE if first == "playbooks" => "remove-playbook",
        Method::DELETE => "unbind",
        _ if path == "subscriptions" => "subscribe",
        _ if path == "policies" => "apply-policies",
        _ if path == "audit/confirm-sinks" => "confirm-sinks",
        _ if path == "tokens" => "issue-token",
        _ if first == "tokens" => "revoke-token",
        _ if SPEAKING_PATHS.contains(&first) => path.rsplit('/').next().unwrap_or(first),
        _ => first,
    };
    (verb.chars().take(40).collect(), object)
}

/// The verb that a record of a request has; `None` for what no record is made of but counted: health and the like.
#[must_use]
pub fn recorded_verb(request: &Request) -> Option<String> {
    let is_recorded = !is_reading(request.method()) || is_look(request);
    is_recorded.then(|| verb_of(request).0)
}

/// Whether a request looks: `HEAD` is served as `GET` is, without the body.
fn is_reading(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// Looks that are recorded: all but health, the public key, where people log in and the description of the API, which are
/// counted.
fn is_look(request: &Request) -> bool {
    let path = request.uri().path();
    is_reading(request.method())
        && ![
            "/v1/status",
            "/v1/store-key",
            "/v1/openapi.json",
            "/v1/login",
        ]
        .contains(&path)
}

/// Put into a response whose request left a record already: as a command, decided and refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recorded;

/// What a record says of an answer.
#[derive(Debug, Clone, Copy)]
struct Answered {
    status: StatusCode,
    /// Whether it is on record already.
    is_recorded: bool,
}

impl Answered {
    fn of(response: &Response) -> Self {
        Self {
            status: response.status(),
            is_recorded: response.extensions().get::<Recorded>().is_some(),
        }
    }

    fn is_failure(self) -> bool {
        self.status.is_client_error() || self.status.is_server_error()
    }

    /// Whether nothing was given: it failed, or waits for others.
    fn gave_nothing(self) -> bool {
        self.is_failure() || self.status == StatusCode::ACCEPTED
    }

    fn outcome(self) -> Outcome {
        match self.status.as_u16() {
            400 | 405 | 408 | 413 | 415 | 422 => Outcome::Malformed,
            _ if self.gave_nothing() => Outcome::Rejected,
            _ => Outcome::Allowed,
        }
    }

    fn words(self) -> String {
        format!("answered with status {}", self.status.as_u16())
    }
}

impl Api {
    pub(crate) fn record(
        &self,
        principal: &Principal,
        verb: &str,
        object: &str,
        outcome: Outcome,
        reason: &str,
    ) -> Record {
        Record {
            time: self.clock.now(),
            category: Category::Administration,
            principal: principal.clone(),
            verb: verb.to_owned(),
            object: object.to_owned(),
            version: None,
            outcome,
            reason: reason.to_owned(),
            container: None,
            command: CommandId::from_bytes(self.ids.draw()),
            trace: String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
