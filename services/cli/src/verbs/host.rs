//! `host …`: the hosts, the tokens with which machines join, and eviction.
//!
//! Invariant: a join token goes to stdout alone, once, on a person's or program's demand.

use keywheel_schemas::api::{EvictAnswer, EvictRequest, HostPage, HostView, JoinTokenAnswer};
use serde_json::json;

use super::Desk;
use super::revoke::{confirm, require_person, rotate_all};
use crate::args::{EvictArgs, HostVerb};
use crate::exit::Failure;
use crate::http::escape;
use crate::output::hosts as views;

pub(super) async fn run(desk: &Desk, verb: &HostVerb) -> Result<(), Failure> {
    match verb {
        HostVerb::List => list(desk).await,
        HostVerb::Describe { name } => describe(desk, name).await,
        HostVerb::JoinToken { name } => join_token(desk, name).await,
        HostVerb::Evict(args) => evict(desk, args).await,
    }
}

pub(super) async fn list(desk: &Desk) -> Result<(), Failure> {
    let hosts: Vec<HostView> = desk.client.read_all("/v1/hosts").await?;
    desk.screen
        .show(&hosts, |hosts| views::hosts(hosts, desk.screen.color))
}

pub(super) async fn page(desk: &Desk, name: &str) -> Result<HostPage, Failure> {
    desk.client
        .read(&format!("/v1/hosts/{}", escape(name)))
        .await
}

/// One host as a line of the list.
pub(super) async fn one(desk: &Desk, name: &str) -> Result<(), Failure> {
    let found = page(desk, name).await?.host;
    desk.screen.show(&found, |found| {
        views::hosts(std::slice::from_ref(found), desk.screen.color)
    })
}

pub(super) async fn describe(desk: &Desk, name: &str) -> Result<(), Failure> {
    let page = page(desk, name).await?;
    desk.screen
        .show(&page, |page| views::host(page, desk.screen.color))
}

async fn join_token(desk: &Desk, name: &str) -> Result<(), Failure> {
    let path = format!("/v1/hosts/{}/join-token", escape(name));
    let answer: JoinTokenAnswer = desk.client.change(&path, &json!({})).await?;
    if !desk.screen.is_json() {
        desk.screen.note(&views::token_note(&answer));
    }
    desk.screen.show(&answer, |answer| answer.token.clone())
}

async fn evict(desk: &Desk, args: &EvictArgs) -> Result<(), Failure> {
    if !args.yes {
        require_person(desk.screen, "host evict")?;
        let page = page(desk, &args.name).await?;
        desk.screen.note(&views::warning(&page));
        confirm(desk.screen, &args.name)?;
    }
    let path = format!("/v1/hosts/{}/evict", escape(&args.name));
    let request = EvictRequest {
        reason: args.reason.clone(),
    };
    let answer: EvictAnswer = desk.client.change(&path, &request).await?;
    desk.screen
        .show(&answer, |answer| views::evicted(answer, desk.screen.color))?;
    if !args.rotate {
        return Ok(());
    }
    let held = answer.held.iter().map(|held| held.secret.as_str());
    let next = "the host is evicted all the same; `keywheel secret put`, or `keywheel revoke` when it cannot wait";
    rotate_all(desk, &Vec::from_iter(held), next).await
}
