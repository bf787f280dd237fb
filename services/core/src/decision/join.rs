//! Decisions of how a host becomes known: join tokens, joining with one, the keys afterwards, and
//! the enrolment of the gateway's own machine.

use super::{Context, Enrolment, Refusal, Rejection};
use crate::event::Event;
use crate::host::{
    Event as Fact, Host, JOIN_TOKEN_LIFETIME, JoinRequest, JoinToken, KeyRequest,
    MAX_OPEN_JOIN_TOKENS, PermitRequest, Rejection as No, SealingKey, TokenRequest, permit_of,
};
use crate::id::{DeliveryId, HostId};
use crate::name::HostName;
use crate::world::World;

pub(super) fn issue_token(
    world: &World,
    wish: &TokenRequest,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let host = world.host_to_be(&wish.name).unwrap_or(wish.host);
    let is_other = |known: &Host| known.is_evicted() || known.name != wish.name;
    let is_promised = |open: &JoinToken| open.host == host && open.name != wish.name;
    if world.hosts.get(&host).is_some_and(is_other)
        || world.join_tokens.values().any(is_promised)
        || world.join_tokens.contains_key(&wish.token)
    {
        return Err(No::IdTaken(host).into());
    }
    let mut events = Vec::new();
    for (token, open) in &world.join_tokens {
        if open.is_expired(ctx.now) {
            events.push(Event::Host(
                open.host,
                Fact::JoinTokenSpent { token: *token },
            ));
        }
    }
    if world.join_tokens.len() - events.len() >= MAX_OPEN_JOIN_TOKENS {
        return Err(No::TooManyTokens.into());
    }
    let issued = Fact::JoinTokenIssued {
        name: wish.name.clone(),
        token: wish.token,
        secret_hash: wish.secret_hash,
        expires_at: wish.expires_at.min(ctx.now.plus(JOIN_TOKEN_LIFETIME)),
    };
    events.push(Event::Host(host, issued));
    Ok(events)
}

/// Spends the token, and only then looks at it (rule Z4).
pub(super) fn join(
    world: &World,
    joining: &JoinRequest,
    ctx: &Context,
) -> Result<Vec<Event>, Refusal> {
    let Some(open) = world.join_tokens.get(&joining.token) else {
        return Err(Rejection::from(No::TokenUnknown).into());
    };
    let spent = Fact::JoinTokenSpent {
        token: joining.token,
    };
    let spent = Event::Host(open.host, spent);
    match admit(world, open, joining, ctx) {
        Ok(admitted) => {
            let mut events = vec![spent];
            events.extend(admitted);
            Ok(events)
        }
        Err(reason) => Err(Refusal {
            reason,
            events: vec![spent],
        }),
    }
}

fn admit(
    world: &World,
    open: &JoinToken,
    joining: &JoinRequest,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    open.check(joining, ctx.now)?;
    if let Some(known) = world.hosts.get(&open.host) {
        let keys = known.decide_join(joining.signing_key, joining.sealing_key)?;
        return Ok(vec![Event::Host(open.host, keys)]);
    }
    let enrolled = Fact::Enrolled {
        name: open.name.clone(),
        sealing_key: joining.sealing_key,
        signing_key: Some(joining.signing_key),
    };
    welcome(world, open.host, &open.name, enrolled, ctx)
}

pub(super) fn rotate_keys(world: &World, next: &KeyRequest) -> Result<Vec<Event>, Rejection> {
    let host = next.host;
    let known = world.hosts.get(&host).ok_or(No::NotEnrolled(host))?;
    let rotated = known.decide_rotate_keys(next)?;
    let event = rotated.map(|event| Event::Host(host, event));
    Ok(event.into_iter().collect())
}

pub(super) fn note_permit(
    world: &World,
    wish: &PermitRequest,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let noted = permit_of(world, wish, ctx.now)?;
    Ok(vec![Event::Host(wish.host, noted)])
}

pub(super) fn enrol(
    world: &World,
    id: HostId,
    name: &HostName,
    sealing_key: SealingKey,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    if ctx.enrolment == Enrolment::ByToken {
        if let Some(known) = world.hosts.get(&id) {
            known.refuse_evicted()?;
        }
        return Err(No::NotJoined(name.clone()).into());
    }
    if let Some(host) = world.hosts.get(&id) {
        let replaced = host.decide_replace_key(sealing_key)?;
        let event = replaced.map(|event| Event::Host(id, event));
        return Ok(event.into_iter().collect());
    }
    let enrolled = Fact::Enrolled {
        name: name.clone(),
        sealing_key,
        signing_key: None,
    };
    welcome(world, id, name, enrolled, ctx)
}

/// Refuses what a host says that may not speak.
pub(super) fn refuse_silent(
    world: &World,
    host: HostId,
    enrolment: Enrolment,
) -> Result<(), Rejection> {
    let known = world.hosts.get(&host).ok_or(No::NotEnrolled(host))?;
    known.refuse_evicted()?;
    if enrolment == Enrolment::ByToken && known.signing_key.is_none() {
        return Err(No::NotJoined(known.name.clone()).into());
    }
    Ok(())
}

/// Makes a new host known and grants it what bindings give it.
fn welcome(
    world: &World,
    id: HostId,
    name: &HostName,
    enrolled: Fact,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    if world.host_named(name).is_some() {
        return Err(No::NameTaken(name.clone()).into());
    }
    let mut events = vec![Event::Host(id, enrolled)];
    let mut count = 0;
    for secret in world.secrets.values() {
        let specs = world
            .bindings
            .values()
            .filter_map(|binding| binding.spec.as_ref());
        let own: Vec<_> = specs
            .filter(|spec| spec.names(secret.id) && spec.selector.means_host(name))
            .collect();
        let is_named = own.iter().any(|spec| spec.previous.contains(&secret.id));
        let current = secret.current.filter(|_| !own.is_empty());
        let previous = secret.given_beside().filter(|_| is_named);
        for version in current.into_iter().chain(previous) {
            let delivery = DeliveryId::from_bytes(ctx.id(1000 + count));
            count += 1;
            let event = secret.decide_deliver(id, version, delivery)?;
            events.extend(event.map(|event| Event::Secret(secret.id, event)));
        }
    }
    Ok(events)
}
