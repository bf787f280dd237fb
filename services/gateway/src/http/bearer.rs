//! Who comes in: by the kernel's word, by a certificate, by a login, or with a token that stands for a person.
//!
//! Invariants: whatever is wrong with a token, its bearer hears the same, after the reason is on record or counted; who
//! shows a token comes with that and nothing else, whoever the connection belongs to; a token is worth what its owner
//! is here and now, and nothing once the owner may not come in; its text goes no further than this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use keywheel_core::audit::{Outcome, Principal};
use keywheel_core::id::TokenId;
use keywheel_core::token::{Gone, Token, TokenHash};
use keywheel_engine::port::PortError;
use keywheel_policy::{OIDC, Resource, TOKEN, Verb};

use super::{Api, Failure, deny, login};
use crate::access::Peer;
use crate::admission::scope::Scope;
use crate::denials::{Attempt, Ruling};
use crate::tokens::hash_of;

/// What comes before a token in its header.
const SCHEME: &[u8] = b"Bearer ";
/// The rule of who may do no more than log in: none.
const VISITOR: &str = "";

/// A connection of somebody who may use no verb by themselves: it ends soon unless a token counted on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stay(Arc<AtomicBool>);

impl Stay {
    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a token counted.
    pub(crate) fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A token that counts.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) token: TokenId,
    /// Its owner, as they are here.
    pub(super) owner: Principal,
    pub(super) scope: Scope,
}

/// A login that counts.
#[derive(Debug, Clone)]
pub(super) struct LoggedIn {
    pub(super) token: TokenId,
    /// Groups that the provider says they are in.
    pub(super) groups: Vec<String>,
}

/// Somebody who came in.
#[derive(Debug, Clone)]
pub(super) struct Came {
    pub(super) principal: Principal,
    /// By which rule; of a token the rule by which its owner would come in.
    pub(super) rule: &'static str,
    pub(super) held: Option<Held>,
    pub(super) login: Option<LoggedIn>,
}

impl Came {
    /// Somebody who showed nothing, and may do no more than log in.
    pub(super) const fn is_visitor(&self) -> bool {
        self.rule.is_empty()
    }

    /// What ends them, whatever their connection does: a token, or a login.
    pub(super) fn token(&self) -> Option<TokenId> {
        let login = self.login.as_ref().map(|login| login.token);
        login.or_else(|| self.held.as_ref().map(|held| held.token))
    }

    /// What the record of a look says where no policies were applied.
    pub(super) const fn proof(&self) -> &'static str {
        match self.held {
            Some(_) => TOKEN,
            None => self.rule,
        }
    }
}

/// What is wrong with a token; for the record alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Flaw {
    #[error("what came with `Authorization` is no token of ours")]
    Malformed,
    #[error("no token that is known has this text")]
    Unknown,
    #[error("token `{0}` was revoked")]
    Revoked(String),
    #[error("token `{0}` is over")]
    Over(String),
    #[error("token `{0}`: its owner `{1}` may not come in here")]
    Owner(String, String),
    #[error("token `{0}`: its scope cannot be read")]
    Scope(String),
    #[error("token `{0}`: its uses are used up")]
    UsedUp(String),
}

/// Why somebody did not come in.
enum No {
    Flaw(Flaw),
    /// Nobody can tell now.
    Failure(Failure),
}

impl From<PortError> for No {
    fn from(error: PortError) -> Self {
        Self::Failure(error.into())
    }
}

/// Lets in who may, by whatever they came; everybody else gets an answer.
pub(super) async fn came_in(
    api: &Api,
    peer: &Peer,
    request: &mut Request,
    (verb, object): (&str, &str),
) -> Result<Came, Box<Response>> {
    let principal = api.access.principal(peer);
    let shown = shown(request.headers());
    request.headers_mut().remove(header::AUTHORIZATION);
    let accepted = match shown {
        Ok(None) => {
            let rule = api.access.allows(peer);
            let Some(rule) = rule.or_else(|| login::may_try(api, request).then_some(VISITOR))
            else {
                return Err(Box::new(deny(api, &principal, verb, object).await));
            };
            return Ok(Came {
                principal,
                rule,
                held: None,
                login: None,
            });
        }
        Ok(Some(hash)) => accept(api, &principal, &hash).await,
        Err(flaw) => Err(No::Flaw(flaw)),
    };
    match accepted {
        Ok(came) => {
            if let Some(stay) = request.extensions().get::<Stay>() {
                stay.note();
            }
            Ok(came)
        }
        Err(No::Flaw(flaw)) => {
            let answer = refuse(api, &principal, (verb, object), &flaw).await;
            Err(Box::new(answer))
        }
        Err(No::Failure(failure)) => Err(Box::new(failure.into_response())),
    }
}

/// The hash of the token in a request's head, if there is one.
fn shown(headers: &HeaderMap) -> Result<Option<TokenHash>, Flaw> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(Flaw::Malformed);
    }
    let cut = value.as_bytes().split_at_checked(SCHEME.len());
    let cut = cut.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
    let hash = cut.and_then(|(_, text)| hash_of(text));
    hash.map(Some).ok_or(Flaw::Malformed)
}

/// Asks at the log's head, so that what was revoked anywhere opens nothing anywhere. Whose attempts are only counted by
/// now has guesses looked up in what is known here.
async fn accept(api: &Api, from: &Principal, hash: &TokenHash) -> Result<Came, No> {
    if api.denials.is_over(from) {
        known(api, hash).map_err(No::Flaw)?;
    }
    api.commands.look_at_head().await?;
    let known = known(api, hash).map_err(No::Flaw)?;
    let name = known.name.to_string();
    if !known.is_alive(api.clock.now()) {
        return Err(No::Flaw(Flaw::Over(name)));
    }
    if let Some(login) = &known.login {
        return logged_in(api, &known, &login.groups).map_err(No::Flaw);
    }
    let Some((owner, rule)) = api.access.owner(&known.owner) else {
        return Err(No::Flaw(Flaw::Owner(name, known.owner)));
    };
    let Ok(scope) = Scope::parse(&known.scope) else {
        return Err(No::Flaw(Flaw::Scope(name)));
    };
    if !api.tokens.take_use(api, &known).await? {
        return Err(No::Flaw(Flaw::UsedUp(name)));
    }
    Ok(Came {
        principal: Principal::Token {
            name,
            owner: known.owner,
        },
        rule,
        held: Some(Held {
            token: known.id,
            owner,
            scope,
        }),
        login: None,
    })
}

/// The token with this hash; of one that is gone the record says which it was.
fn known(api: &Api, hash: &TokenHash) -> Result<Token, Flaw> {
    let committed = api.view.read();
    let tokens = &committed.world.tokens;
    if let Some(known) = tokens.by_hash(hash) {
        return Ok(known.clone());
    }
    Err(match tokens.gone(hash) {
        Some((name, Gone::Revoked)) => Flaw::Revoked(name.to_string()),
        Some((name, Gone::Over)) => Flaw::Over(name.to_string()),
        None => Flaw::Unknown,
    })
}

/// A person, by a login that the provider stood behind; where nobody logs in any more none counts.
fn logged_in(api: &Api, known: &Token, groups: &[String]) -> Result<Came, Flaw> {
    let issuer = known.login.as_ref().map(|login| login.issuer.as_str());
    let is_ours = api.logins.as_ref().map(|logins| logins.issuer()) == issuer;
    let person = known.owner.strip_prefix("oidc:").filter(|_| is_ours);
    let Some(person) = person else {
        let (name, owner) = (known.name.to_string(), known.owner.clone());
        return Err(Flaw::Owner(name, owner));
    };
    Ok(Came {
        principal: Principal::Login {
            name: person.to_owned(),
        },
        rule: OIDC,
        held: None,
        login: Some(LoggedIn {
            token: known.id,
            groups: groups.to_vec(),
        }),
    })
}

/// Answers who came with a token that does not count: always the same.
async fn refuse(
    api: &Api,
    principal: &Principal,
    (verb, object): (&str, &str),
    flaw: &Flaw,
) -> Response {
    let attempt = Attempt::new(api.clock.now(), &format!("{verb} {object}: {flaw}"));
    if api.denials.note(principal, attempt.clone()) == Ruling::Count {
        return Failure::too_often(TOO_OFTEN).into_response();
    }
    let outcome = match flaw {
        Flaw::Malformed => Outcome::Malformed,
        _ => Outcome::Denied,
    };
    let record = api.record(principal, verb, object, outcome, &flaw.to_string());
    match api.commands.record(record).await {
        Ok(()) => Failure::refused(NOT_ACCEPTED).into_response(),
        Err(error) => {
            // It is not durable; it comes with the next count.
            api.denials.put_back(principal, attempt);
            Failure::from(error).into_response()
        }
    }
}

const NOT_ACCEPTED: &str = "this token opens nothing here, and the attempt is on record; whoever may `audit` finds the reason there, and its owner can issue another one with `keywheel token issue`, or log in again with `keywheel login`";
const TOO_OFTEN: &str =
    "this token opens nothing here; too many attempts: further ones are counted";

impl Held {
    /// Whether a row of a list may be shown to it.
    pub(super) fn shows(&self, resource: &Resource) -> bool {
        self.scope.covers(Verb::List, resource)
    }
}
