//! Decisions about tokens.

use super::{Context, Rejection};
use crate::event::Event;
use crate::id::TokenId;
use crate::time::Timestamp;
use crate::token::{
    self, Issue, MAX_TOKEN_REASON_CHARS, MAX_TOKENS, MAX_TOKENS_PER_OWNER, Request, Token, Which,
};
use crate::world::World;

pub(super) fn decide(
    world: &World,
    request: &Request,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    match request {
        Request::Issue(wish) => issue(world, wish, ctx.now),
        Request::Take { token, uses } => take(world, *token, *uses, ctx.now),
        Request::Revoke { which, by, reason } => revoke(world, which, by, reason),
    }
}

fn issue(world: &World, wish: &Issue, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    wish.check()?;
    let alive = || world.tokens.iter().filter(move |known| known.is_alive(now));
    if alive().any(|known| known.name == wish.name) {
        return Err(token::Rejection::NameTaken(wish.name.clone()).into());
    }
    if alive().filter(|known| known.owner == wish.owner).count() >= MAX_TOKENS_PER_OWNER {
        return Err(token::Rejection::TooManyOf(wish.owner.clone()).into());
    }
    if alive().count() >= MAX_TOKENS {
        return Err(token::Rejection::TooMany.into());
    }
    let until = wish.login.as_ref().map(|login| login.until);
    if until.is_some_and(|until| until <= now) {
        return Err(token::Rejection::Over.into());
    }
    let end = now.plus(wish.lifetime);
    let issued = token::Event::Issued {
        name: wish.name.clone(),
        hash: wish.hash,
        owner: wish.owner.clone(),
        scope: wish.scope.clone(),
        issued_at: now,
        expires_at: until.map_or(end, |until| until.min(end)),
        limit: wish.limit,
        login: wish.login.clone(),
    };
    Ok(vec![Event::Token(wish.id, issued)])
}

fn take(world: &World, id: TokenId, uses: u64, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    let known = world.tokens.by_id(id);
    let known = known.filter(|known| known.is_alive(now));
    let known = known.ok_or(token::Rejection::Over)?;
    match known.left() {
        None => Ok(Vec::new()),
        Some(left) if uses == 0 || uses > left => Err(token::Rejection::UsedUp(left).into()),
        Some(_) => Ok(vec![Event::Token(id, token::Event::UsesTaken { uses })]),
    }
}

fn revoke(world: &World, which: &Which, by: &str, reason: &str) -> Result<Vec<Event>, Rejection> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(token::Rejection::ReasonMissing.into());
    }
    if reason.chars().count() > MAX_TOKEN_REASON_CHARS {
        return Err(token::Rejection::ReasonTooLong.into());
    }
    let is_meant = |known: &&Token| match which {
        Which::Named(name) => known.name == *name,
        Which::Of(owner) => known.owner == *owner,
    };
    let meant = world.tokens.iter().filter(is_meant);
    let revoked = |known: &Token| {
        let revoked = token::Event::Revoked {
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        Event::Token(known.id, revoked)
    };
    let events: Vec<Event> = meant.map(revoked).collect();
    if !events.is_empty() {
        return Ok(events);
    }
    Err(match which {
        Which::Named(name) => token::Rejection::Unknown(name.clone()),
        Which::Of(owner) => token::Rejection::NoneOf(owner.clone()),
    }
    .into())
}
