//! Tokens over HTTP: issuing one for oneself, listing and revoking.
//!
//! Invariants: a token is shown once, to the person who asked for it; nobody gives a token more than they may
//! themselves, and no token makes another one; a person's own tokens are theirs to see and to revoke.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use keywheel_core::command::Command;
use keywheel_core::id::{CommandId, TokenId};
use keywheel_core::name::TokenName;
use keywheel_core::time::Timestamp;
use keywheel_core::token::{self, Issue, Request, Token, Which};
use keywheel_engine::command_bus::{Decided, Submission};
use keywheel_engine::port::journal::Verdict;
use keywheel_policy::{Principal, Verb};
use keywheel_schemas::api::{
    IssueTokenAnswer, IssueTokenRequest, RevokeTokenRequest, RevokeTokensAnswer,
    RevokeTokensRequest, TokenView,
};
use keywheel_schemas::mirror::TextForm as _;

use super::change::COMMAND;
use super::pages::{self, Order, Paged};
use super::payload::{Object, Payload};
use super::{Api, Caller, Failure, Named, Route, trace, unanswered};
use crate::admission::scope::Scope;
use crate::admission::{Demand, identity};
use crate::tokens::hash_of;

/// What decides about one's own tokens, instead of a policy.
const ONE_S_OWN: &str = "one's own";

/// What there is to ask here.
pub(super) fn routes() -> Vec<Route> {
    vec![
        (Method::GET, "/v1/tokens", get(list)),
        (Method::POST, "/v1/tokens", post(issue)),
        (Method::POST, "/v1/tokens/{name}/revoke", post(revoke)),
        (Method::POST, "/v1/revoke-tokens", post(revoke_all)),
    ]
}

/// A token as it is shown.
pub(super) fn view(known: &Token, now: Timestamp) -> TokenView {
    let left = known.left();
    let state = match known.is_alive(now) {
        false => "expired",
        true if left == Some(0) => "used-up",
        true => "alive",
    };
    TokenView {
        name: known.name.to_string(),
        owner: known.owner.clone(),
        verbs: known.scope.verbs.clone(),
        resources: known.scope.resources.clone(),
        issued_at: known.issued_at.text(),
        expires_at: known.expires_at.text(),
        limit: known.limit,
        left,
        state: state.to_owned(),
        issuer: known.login.as_ref().map(|login| login.issuer.clone()),
        groups: known
            .login
            .as_ref()
            .map(|login| login.groups.clone())
            .unwrap_or_default(),
    }
}

/// The right to see and to end tokens of others.
fn over_others() -> Demand {
    Demand {
        or: Some(Verb::Revoke),
        ..Demand::of_all(Verb::Grant)
    }
}

/// Whether a token is a caller's own: a person's by its owner, a program's the one that it came with.
fn is_own(caller: &Caller, known: &Token) -> bool {
    match caller.standing.held() {
        Some(held) => held.token == known.id,
        None => known.owner == identity(&caller.principal),
    }
}

async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    Api::each_by_itself(&caller);
    api.commands.look_at_head().await?;
    let auditor = Demand {
        or: Some(Verb::Audit),
        ..Demand::of_all(Verb::Grant)
    };
    let sees_all = api.may(&caller, &[auditor]) || api.may(&caller, &[over_others()]);
    let now = api.clock.now();
    let mut views: Vec<TokenView> = {
        let committed = api.view.read();
        let all = committed.world.tokens.iter();
        let seen = all.filter(|known| sees_all || is_own(&caller, known));
        seen.map(|known| view(known, now)).collect()
    };
    // Two may have one name, of which one is over.
    let key = |view: &TokenView| format!("{}\u{0}{}", view.name, view.issued_at);
    views.sort_by_cached_key(key);
    pages::answer("/v1/tokens", views, (Order::Other, key), &page)
}

async fn issue(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<IssueTokenRequest>,
) -> Result<Json<IssueTokenAnswer>, Failure> {
    if caller.standing.held().is_some() {
        // No scope has this right, so it is denied and on record.
        api.admit_caller(&caller, &[Demand::of_all(Verb::Grant)])
            .await?;
        return Err(Failure::refused("a token issues no token"));
    }
    if caller.standing.login().is_some() {
        Api::each_by_itself(&caller);
        let text = "who logged in issues no token, for it would outlive the login; ask somebody with a client certificate, or root, for one";
        return Err(Failure::refused(text));
    }
    // A body that is none says nothing of policies.
    Api::each_by_itself(&caller);
    let Object(request) = body?;
    let scope = token::Scope {
        verbs: request.verbs,
        resources: request.resources,
    };
    let name = TokenName::parse(&request.name).map_err(|e| Failure::invalid(e.to_string()))?;
    let text = api.tokens.make();
    let wish = Issue {
        id: TokenId::from_bytes(caller.draw(&api, "token")),
        name,
        // EXPOSE: only the hash is kept.
        hash: hash_of(text.expose()).unwrap_or_default(),
        owner: identity(&caller.principal),
        scope,
        lifetime: Duration::from_secs(request.lifetime_seconds),
        limit: request.limit,
        login: None,
    };
    wish.check().map_err(|e| Failure::invalid(e.to_string()))?;
    let scope = Scope::parse(&wish.scope).map_err(|e| Failure::invalid(e.to_string()))?;
    let needs: Vec<Demand> = scope.demands().collect();
    let by = api.admit_caller(&caller, &needs).await?;
    let id = wish.id;
    if submit(&api, &caller, Request::Issue(wish), by).await? {
        let text = "a token was given under this `Idempotency-Key`, and is kept nowhere; ask under another key for a new one, and revoke what was given: `keywheel token list` names it";
        return Err(Failure::conflict(text).on_record());
    }
    let issued = {
        let committed = api.view.read();
        let known = committed.world.tokens.by_id(id);
        known.map(|known| view(known, api.clock.now()))
    };
    let issued = issued.ok_or_else(|| Failure::conflict("the token was revoked meanwhile"))?;
    // EXPOSE: the one answer that carries the token to who asked for it.
    let token = String::from_utf8_lossy(text.expose()).into_owned();
    Ok(Json(IssueTokenAnswer { token, issued }))
}

async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    body: Payload<RevokeTokenRequest>,
) -> Result<Json<RevokeTokensAnswer>, Failure> {
    Api::each_by_itself(&caller);
    let name = TokenName::parse(&name).map_err(|e| Failure::invalid(e.to_string()))?;
    api.commands.look_at_head().await?;
    let is_own = {
        let committed = api.view.read();
        let mut named = committed.world.tokens.iter();
        // All of that name end, so all have to be theirs; of one that is not there nobody says so to strangers.
        let is_there = committed.world.tokens.named(&name).is_some();
        is_there && named.all(|known| known.name != name || is_own(&caller, known))
    };
    let by = match is_own {
        true => api.in_force().decided(ONE_S_OWN),
        false => api.admit_caller(&caller, &[over_others()]).await?,
    };
    let Object(RevokeTokenRequest { reason }) = body?;
    let meant = Which::Named(name);
    end(&api, &caller, (meant, reason), by).await
}

async fn revoke_all(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<RevokeTokensRequest>,
) -> Result<Json<RevokeTokensAnswer>, Failure> {
    Api::each_by_itself(&caller);
    let Object(RevokeTokensRequest { owner, reason }) = body?;
    let read = Principal::parse(&owner).map_err(|e| Failure::invalid(e.to_string()))?;
    if !matches!(read, Principal::User { .. }) {
        return Err(Failure::invalid(format!(
            "`{owner}` is no person, and people alone have tokens; write `certificate:NAME`, `unix:UID` or `oidc:NAME`"
        )));
    }
    let is_own = caller.standing.held().is_none() && owner == identity(&caller.principal);
    let by = match is_own {
        true => api.in_force().decided(ONE_S_OWN),
        false => api.admit_caller(&caller, &[over_others()]).await?,
    };
    end(&api, &caller, (Which::Of(owner), reason), by).await
}

/// Revokes, and tells which there were.
async fn end(
    api: &Api,
    caller: &Caller,
    (which, reason): (Which, String),
    by: Option<String>,
) -> Result<Json<RevokeTokensAnswer>, Failure> {
    let is_meant = |known: &&Token| match &which {
        Which::Named(name) => known.name == *name,
        Which::Of(owner) => known.owner == *owner,
    };
    api.commands.look_at_head().await?;
    let mut meant: Vec<(String, TokenId)> = {
        let committed = api.view.read();
        let all = committed.world.tokens.iter().filter(is_meant);
        all.map(|known| (known.name.to_string(), known.id))
            .collect()
    };
    meant.sort();
    let request = Request::Revoke {
        which: which.clone(),
        by: identity(&caller.principal),
        reason,
    };
    submit(api, caller, request, by).await?;
    // A repeat revokes nothing, and what has the name by now is another one.
    let committed = api.view.read();
    meant.retain(|(_, id)| committed.world.tokens.by_id(*id).is_none());
    let revoked = meant.into_iter().map(|(name, _)| name).collect();
    Ok(Json(RevokeTokensAnswer { revoked }))
}

/// Submits what was admitted; whether it is a repeat.
async fn submit(
    api: &Api,
    caller: &Caller,
    request: Request,
    by: Option<String>,
) -> Result<bool, Failure> {
    let submission = Submission {
        id: CommandId::from_bytes(caller.draw(api, COMMAND)),
        principal: caller.principal.clone(),
        traceparent: Some(trace::current(&*api.ids).to_string()),
        command: Command::Token(request),
    };
    let deciding = api.commands.decide_admitted(submission, by);
    let Decided { verdict, is_repeat } = unanswered::by(deciding).await?;
    match verdict {
        Verdict::Accepted { .. } => Ok(is_repeat),
        Verdict::Rejected { kind, text } => Err(Failure::rejected(kind, text)),
    }
}
