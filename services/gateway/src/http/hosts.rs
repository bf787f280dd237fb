//! Hosts: looking at them, letting machines join, evicting.
//!
//! Invariant: a join token is in one answer and nowhere else; the journal has its hash. So a repeat
//! under one `Idempotency-Key` is told that the token was given, and not the token.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::Response;
use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::host::{self, Host, TokenRequest};
use keywheel_core::id::{CommandId, HostId, JoinTokenId};
use keywheel_core::name::HostName;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_policy::{Resource, Verb};
use keywheel_schemas::api::{
    EvictAnswer, EvictRequest, HeldView, HostPage, HostView, JoinTokenAnswer,
};
use keywheel_schemas::mirror::TextForm as _;
use keywheel_seal::SecretBytes;

use super::change::{Accepted, COMMAND};
use super::pages::{self, Order, Paged};
use super::payload::{Object, Payload};
use super::{Api, Caller, Failure, Named, history};
use crate::admission::Demand;
use crate::views;

/// How often a token is made anew when somebody else asked for the same new name meanwhile.
const MAX_TRIES: usize = 3;

/// A join token that was made.
pub struct NewToken {
    /// What the journal gets.
    pub request: TokenRequest,
    /// What the machine gets: one line of text.
    pub text: SecretBytes,
}

/// Makes join tokens; where hosts cannot join there is none.
pub trait TokenMaker: Send + Sync {
    /// Makes one, with a fresh secret.
    ///
    /// # Errors
    /// With a person's words when it cannot.
    fn make(
        &self,
        host: HostId,
        token: JoinTokenId,
        name: &HostName,
        now: Timestamp,
    ) -> Result<NewToken, String>;
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let views = views::hosts(&api.view, api.clock.now());
    let of = |view: &HostView| [Resource::Host(view.name.clone())];
    let views = api.rows_for(&caller, views, of);
    // In the order of the list, so that an eviction between two pages moves no page.
    let key = |view: &HostView| {
        let evicted = u8::from(view.state == "evicted");
        // A space comes before all that a name has in it.
        format!("{evicted} {} {}", view.name, view.id)
    };
    pages::answer("/v1/hosts", views, (Order::ByKey, key), &page)
}

/// A host by name or id; of a name that only evicted hosts had, the one evicted last by its plan.
fn find<'w>(world: &'w World, name: &str) -> Result<&'w Host, Failure> {
    if let Some(host) = HostId::parse(name).ok().and_then(|id| world.hosts.get(&id)) {
        return Ok(host);
    }
    let name = HostName::parse(name).map_err(|e| Failure::invalid(e.to_string()))?;
    let evicted = || {
        let of_name = world.hosts.values().filter(|host| host.name == name);
        of_name.max_by_key(|host| world.host_generation(host.id))
    };
    world.host_named(&name).or_else(evicted).ok_or_else(|| {
        Failure::not_found(format!(
            "no host is named `{name}`; `keywheel host list` lists them"
        ))
    })
}

pub(super) async fn describe(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<HostPage>, Failure> {
    let now = api.clock.now();
    let mut page = {
        let committed = api.view.read();
        let host = find(&committed.world, &name)?;
        let contact = api.view.contact(host.id);
        views::host_page(&committed.world, host, contact, now)
    };
    let of = |held: &HeldView| [Resource::Secret(held.secret.clone())];
    page.held = api.rows_for(&caller, page.held, of);
    Ok(Json(page))
}

/// The name of a host that was asked for by name or id.
fn named(api: &Api, asked: &str) -> String {
    let committed = api.view.read();
    let known = find(&committed.world, asked);
    known.map_or_else(|_| asked.to_owned(), |host| host.name.to_string())
}

/// The id of the host that has this name at the log's head: another gateway may have given it anew.
async fn id_of(api: &Api, name: &str) -> Result<HostId, Failure> {
    api.commands.look_at_head().await?;
    find(&api.view.read().world, name).map(|known| known.id)
}

/// Which host a command evicted, by the log.
async fn evicted_by(api: &Api, accepted: Accepted) -> Result<Option<HostId>, Failure> {
    let first = history::first_of(api, accepted.command, accepted.number).await?;
    if first > accepted.number {
        return Ok(None);
    }
    let event = api.journal.read(first - 1, 1).await?.into_iter().next();
    Ok(match event.map(|recorded| recorded.event) {
        Some(Event::Host(host, host::Event::Evicted { .. })) => Some(host),
        _ => None,
    })
}

pub(super) async fn evict(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    body: Payload<EvictRequest>,
) -> Result<Json<EvictAnswer>, Failure> {
    let Object(EvictRequest { reason }) = body?;
    // Before it is said whether there is such a host.
    let meant = named(&api, &name);
    let needs = Demand::new(Verb::Revoke, Resource::Host(meant));
    api.admit_caller(&caller, &[needs]).await?;
    let asked = id_of(&api, &name).await?;
    let command = Command::EvictHost {
        host: asked,
        reason,
    };
    let accepted = api.submit(&caller, command).await?;
    // Another machine may have the name by now.
    let host = match accepted.is_repeat {
        true => evicted_by(&api, accepted).await?.unwrap_or(asked),
        false => asked,
    };
    let now = api.clock.now();
    let committed = api.view.read();
    let world = &committed.world;
    let evicted = find(world, &host.to_string())?;
    Ok(Json(EvictAnswer {
        host: views::host(world, evicted, None, now),
        held: views::held(world, host),
    }))
}

pub(super) async fn join_token(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<JoinTokenAnswer>, Failure> {
    let name = HostName::parse(&name).map_err(|e| Failure::invalid(e.to_string()))?;
    // Before a token is made, which would be for nobody.
    let needs = Demand::new(Verb::Grant, Resource::Host(name.to_string()));
    api.admit_caller(&caller, &[needs]).await?;
    let Some(maker) = &api.join_tokens else {
        return Err(Failure::conflict(
            "this deployment runs in one process and has no TCP port at which hosts could join; its own machine is its one host. To serve more hosts, run the services apart: deploy/README.md shows how",
        ));
    };
    for attempt in 0..MAX_TRIES {
        let fresh = HostId::from_bytes(api.ids.draw());
        let token = JoinTokenId::from_bytes(api.ids.draw());
        let host = api.view.read().world.host_to_be(&name).unwrap_or(fresh);
        let made = maker.make(host, token, &name, api.clock.now());
        let NewToken { request, text } = made.map_err(Failure::invalid)?;
        let id = CommandId::from_bytes(caller.draw(&api, &format!("{COMMAND}/{attempt}")));
        let command = Command::IssueJoinToken(request);
        if api.submit_as(&caller, id, command).await?.is_repeat {
            let text = format!(
                "a join token for `{name}` was given under this `Idempotency-Key`, and is kept nowhere; ask under another key for a new one: what was given and is not used ends by itself within ten minutes"
            );
            return Err(Failure::conflict(text).on_record());
        }
        let committed = api.view.read();
        let issued = committed.world.join_tokens.get(&token);
        if let Some(issued) = issued.filter(|issued| issued.host == host) {
            // EXPOSE: the one answer that carries the token to whoever may ask for it.
            let token = String::from_utf8_lossy(text.expose()).into_owned();
            return Ok(Json(JoinTokenAnswer {
                name: name.to_string(),
                host: host.to_string(),
                token,
                expires_at: issued.expires_at.text(),
            }));
        }
    }
    Err(Failure::conflict(format!(
        "others ask for tokens for `{name}` at the same time; try again"
    )))
}

#[cfg(test)]
mod tests;
