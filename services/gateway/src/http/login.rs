//! Logging in and out over HTTP. A login is a token of a short life that a provider of identities stands behind.
//!
//! Invariants: whoever comes without any right may try, as often as denials are recorded and no more; each login and
//! each refusal is on record or counted, with the reason, also where who asked left while the provider was asked; a login
//! is shown once, to who proved who they are; it never lives longer than the provider's word counts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::Method;
use axum::routing::{get, post};
use keywheel_core::audit::{Outcome, Principal, Record};
use keywheel_core::command::Command;
use keywheel_core::id::{CommandId, TokenId};
use keywheel_core::name::TokenName;
use keywheel_core::token::{self, Issue, Login, Which};
use keywheel_engine::command_bus::{Decided, Submission};
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::Verdict;
use keywheel_policy::{OIDC, Resource, Verb};
use keywheel_schemas::api::{
    DeviceLogin, LoginAnswer, LoginRequest, LoginSettings, LogoutAnswer, LogoutRequest,
};
use keywheel_seal::SecretBytes;

use super::payload::{Object, Payload};
use super::under_way::Kind;
use super::{Api, Caller, Failure, Route, deed, tokens, trace, unanswered};
use crate::admission::identity;
use crate::denials::{Attempt, Ruling};
use crate::login::{Identity, LoginError, Logins, Outcome as Asked, Refusal};
use crate::tokens::hash_of;

/// The path of a login.
const LOGIN: &str = "/v1/login";
/// The path of a code for a browser anywhere.
const DEVICE: &str = "/v1/login/device";
/// Largest body of somebody who may do no more than log in, in bytes.
pub(super) const MAX_VISITOR_BODY_BYTES: usize = 64 << 10;
/// When to come again while too many ask, in seconds.
const COME_AGAIN_AFTER: u64 = 2;
const NOWHERE: &str = "nobody logs in at this gateway: no provider is configured; its administrator names one with `login.provider_file`";
const TOO_OFTEN: &str =
    "too many logins were refused; further ones are counted and not tried, try again in a minute";

/// What there is to ask here.
pub(super) fn routes() -> Vec<Route> {
    vec![
        (Method::GET, LOGIN, get(settings)),
        (Method::POST, LOGIN, post(login)),
        (Method::POST, DEVICE, post(device)),
        (Method::POST, "/v1/logout", post(logout)),
    ]
}

/// Whether somebody without any right may ask for this: to log in, where there is a provider.
pub(super) fn may_try(api: &Api, request: &Request) -> bool {
    let path = request.uri().path();
    api.logins.is_some()
        && match *request.method() {
            Method::GET | Method::HEAD => path == LOGIN,
            Method::POST => [LOGIN, DEVICE].contains(&path),
            _ => false,
        }
}

/// Puts on record what somebody without any right did, or counts it when much came before.
pub(super) async fn record(
    api: &Api,
    principal: &Principal,
    record: Record,
) -> Result<(), PortError> {
    let what = format!("{} {}: {}", record.verb, record.object, record.reason);
    let attempt = Attempt::new(api.clock.now(), &what);
    if api.denials.note(principal, attempt.clone()) == Ruling::Count {
        return Ok(());
    }
    let recorded = api.commands.record(record).await;
    if recorded.is_err() {
        // It is not durable; it comes with the next count.
        api.denials.put_back(principal, attempt);
    }
    recorded
}

fn logins(api: &Api) -> Result<&Arc<Logins>, Failure> {
    let logins = api.logins.as_ref();
    logins.ok_or_else(|| Failure::conflict(NOWHERE))
}

async fn settings(State(api): State<Api>) -> Result<Json<LoginSettings>, Failure> {
    let logins = api.logins.as_ref();
    let logins = logins.ok_or_else(|| Failure::not_found(NOWHERE))?;
    let told = logins.settings().await;
    told.map(Json).map_err(|error| told_of(error).1)
}

async fn device(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<DeviceLogin>, Failure> {
    logins(&api)?;
    not_too_often(&api, &caller)?;
    let place = api.under_way.place(Kind::Login, &caller.principal)?;
    let own = api.clone();
    let beginning = async move {
        let begun = begin(&own, &caller).await;
        unanswered::ended(&own, &caller, "login/device", begun).await
    };
    deed::to_its_end(&api, place, beginning).await.map(Json)
}

/// Has the provider make a code, which is on record before anybody has it.
async fn begin(api: &Api, caller: &Caller) -> Result<DeviceLogin, Failure> {
    match logins(api)?.begin_device().await {
        Ok(begun) => {
            let reason = "a code for a browser was begun";
            let who = &caller.principal;
            let record = api.record(who, "login", "login/device", Outcome::Allowed, reason);
            api.commands.record(record).await?;
            Ok(begun)
        }
        Err(error) => Err(refuse(api, caller, "device", error).await),
    }
}

async fn login(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<LoginRequest>,
) -> Result<Json<LoginAnswer>, Failure> {
    logins(&api)?;
    not_too_often(&api, &caller)?;
    let Object(request) = body?;
    let place = api.under_way.place(Kind::Login, &caller.principal)?;
    let own = api.clone();
    let asking = async move {
        let answered = ask(&own, &caller, &request).await;
        unanswered::ended(&own, &caller, "login", answered).await
    };
    deed::to_its_end(&api, place, asking).await.map(Json)
}

/// Asks the provider who it is, and gives whom it names a login.
async fn ask(api: &Api, caller: &Caller, request: &LoginRequest) -> Result<LoginAnswer, Failure> {
    let logins = logins(api)?;
    let way = request.way();
    match logins.ask(request).await {
        // A question is no deed: nothing is on record of it.
        Ok(Asked::Pending { interval }) => Ok(LoginAnswer {
            state: "pending".to_owned(),
            interval_seconds: interval,
            token: None,
            login: None,
            refresh_token: None,
        }),
        Ok(Asked::Named { identity, refresh }) => {
            let from = self::identity(&caller.principal);
            let how = format!("{OIDC} by {way}, from {from}");
            issue(api, logins, (identity, how), refresh).await
        }
        Err(error) => Err(refuse(api, caller, way, error).await),
    }
}

/// Who was refused many times is not tried any more in this window.
fn not_too_often(api: &Api, caller: &Caller) -> Result<(), Failure> {
    if !api.denials.is_over(&caller.principal) {
        return Ok(());
    }
    let attempt = Attempt::new(api.clock.now(), "login");
    api.denials.count(&caller.principal, attempt);
    Err(Failure::too_often(TOO_OFTEN).on_record())
}

/// Gives somebody whom the provider named a login; how they came by it is on record.
async fn issue(
    api: &Api,
    logins: &Logins,
    (named, how): (Identity, String),
    refresh: Option<SecretBytes>,
) -> Result<LoginAnswer, Failure> {
    let principal = Principal::Login {
        name: named.name.clone(),
    };
    let text = api.tokens.make();
    let id = TokenId::from_bytes(api.ids.draw());
    let name = TokenName::parse(&format!("login-{id}"));
    let wish = Issue {
        id,
        name: name.map_err(|error| Failure::invalid(error.to_string()))?,
        // EXPOSE: only the hash is kept.
        hash: hash_of(text.expose()).unwrap_or_default(),
        owner: identity(&principal),
        scope: everything(),
        lifetime: logins.max_lifetime(),
        limit: None,
        login: Some(Login {
            issuer: logins.issuer().to_owned(),
            subject: named.subject,
            groups: named.groups,
            until: named.ends_at,
        }),
    };
    submit(api, principal, token::Request::Issue(wish), Some(how)).await?;
    let issued = {
        let committed = api.view.read();
        let known = committed.world.tokens.by_id(id);
        known.map(|known| tokens::view(known, api.clock.now()))
    };
    let issued = issued.ok_or_else(|| Failure::conflict("the login was revoked meanwhile"))?;
    // EXPOSE: the one answer that carries them to who proved who they are.
    let shown = |secret: &SecretBytes| String::from_utf8_lossy(secret.expose()).into_owned();
    Ok(LoginAnswer {
        state: "done".to_owned(),
        interval_seconds: None,
        token: Some(shown(&text)),
        login: Some(issued),
        refresh_token: refresh.as_ref().map(shown),
    })
}

/// What a list shows of a login: a person may what policies let them.
fn everything() -> token::Scope {
    let verbs = Verb::ALL.into_iter().filter(|verb| *verb != Verb::Read);
    token::Scope {
        verbs: verbs.map(|verb| verb.word().to_owned()).collect(),
        resources: vec![Resource::Environment.to_string()],
    }
}

async fn submit(
    api: &Api,
    principal: Principal,
    request: token::Request,
    how: Option<String>,
) -> Result<(), Failure> {
    let submission = Submission {
        id: CommandId::from_bytes(api.ids.draw()),
        principal,
        traceparent: Some(trace::current(&*api.ids).to_string()),
        command: Command::Token(request),
    };
    let Decided { verdict, .. } = api.commands.decide_admitted(submission, how).await?;
    match verdict {
        Verdict::Accepted { .. } => Ok(()),
        Verdict::Rejected { kind, text } => Err(Failure::rejected(kind, text)),
    }
}

async fn logout(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<LogoutRequest>,
) -> Result<Json<LogoutAnswer>, Failure> {
    let known = {
        let committed = api.view.read();
        let login = caller.standing.login();
        let known = login.and_then(|login| committed.world.tokens.by_id(login.token));
        known.map(|known| known.name.clone())
    };
    let Some(name) = known else {
        return Err(Failure::conflict(
            "this request came by no login, so there is none to end; `keywheel token list` names those that are alive",
        ));
    };
    let Object(LogoutRequest { refresh_token }) = body?;
    let place = api.under_way.place(Kind::Logout, &caller.principal)?;
    let own = api.clone();
    let ending = async move {
        let ended = end(&own, &caller, name, refresh_token).await;
        unanswered::ended(&own, &caller, "logout", ended).await
    };
    deed::to_its_end(&api, place, ending).await.map(Json)
}

/// Ends a login, and has the provider take back what the next one would be asked for with.
async fn end(
    api: &Api,
    caller: &Caller,
    name: TokenName,
    refresh_token: Option<String>,
) -> Result<LogoutAnswer, Failure> {
    let revoke = token::Request::Revoke {
        which: Which::Named(name.clone()),
        by: identity(&caller.principal),
        reason: "logged out".to_owned(),
    };
    submit(api, caller.principal.clone(), revoke, None).await?;
    let is_taken_back = match (&api.logins, &refresh_token) {
        (Some(logins), Some(refresh)) => Some(logins.take_back(refresh).await),
        _ => None,
    };
    Ok(LogoutAnswer {
        revoked: name.to_string(),
        is_taken_back,
    })
}

/// Answers who got no login, after the reason is on record or counted.
async fn refuse(api: &Api, caller: &Caller, way: &str, error: LoginError) -> Failure {
    let who = &caller.principal;
    let reason = keywheel_daemon::chain(&error);
    let (outcome, failure) = told_of(error);
    let object = format!("login/{way}");
    let entry = api.record(who, "login", &object, outcome, &reason);
    match record(api, who, entry).await {
        Ok(()) => failure.on_record(),
        Err(error) => error.into(),
    }
}

/// How a refusal is recorded, and what is told of it: what a person can do, and nothing of what was sent.
fn told_of(error: LoginError) -> (Outcome, Failure) {
    let denied = |text: &str| (Outcome::Denied, Failure::refused(text));
    match error {
        LoginError::Malformed(text) => (Outcome::Malformed, Failure::invalid(text)),
        LoginError::Refused(Refusal::AccessDenied) => denied(
            "the provider was told to refuse this login, and the attempt is on record; begin again with `keywheel login` if that was a mistake",
        ),
        LoginError::Refused(Refusal::ExpiredToken) => {
            denied("nobody typed the code in time; begin again with `keywheel login --device`")
        }
        LoginError::Refused(Refusal::InvalidClient) => denied(
            "the provider does not take this gateway for its client; its administrator compares `client_id` and the secret in the file of the provider with what the provider has",
        ),
        LoginError::Refused(_) => denied(
            "the provider does not confirm who this is: the code was used, is over, or the person is gone there; the attempt is on record; log in again with `keywheel login`",
        ),
        LoginError::NoIdentity | LoginError::Token(_) | LoginError::Claim(_) => denied(
            "what the provider says of this person does not count here, and the attempt is on record; whoever may `audit` finds the reason there",
        ),
        LoginError::NoDevice => (
            Outcome::Rejected,
            Failure::conflict(
                "the provider makes no codes for browsers anywhere; log in with a browser on this machine, without `--device`",
            ),
        ),
        LoginError::Busy => (
            Outcome::Rejected,
            Failure::busy(
                "too many log in at once; try again in a moment",
                COME_AGAIN_AFTER,
            ),
        ),
        LoginError::Away(error) => (Outcome::Rejected, Failure::from(error)),
    }
}
