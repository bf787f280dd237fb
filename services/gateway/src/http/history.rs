//! Who held which version of a secret at a time: the log, folded up to then.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use keywheel_core::id::CommandId;
use keywheel_core::name::SecretName;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::{MAX_READ, RecordedEvent};
use keywheel_engine::state::Committed;
use keywheel_schemas::api::HistoryView;
use keywheel_schemas::mirror::TextForm as _;
use serde::Deserialize;

use super::stream::read_time;
use super::{Api, Failure, Named};
use crate::views;

/// Which time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    at: Option<String>,
}

pub(super) async fn history(
    State(api): State<Api>,
    Named(name): Named,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<HistoryView>, Failure> {
    let name = SecretName::parse(&name).map_err(|error| Failure::invalid(error.to_string()))?;
    let Some(words) = query?.0.at else {
        return answer(&api.view.read(), &name, api.clock.now());
    };
    let at = read_time(&words)?;
    let _place = api.scans.fold()?;
    let last = last_before(&api, at).await?;
    answer(&fold(&api, last).await?, &name, at)
}

fn answer(
    then: &Committed,
    name: &SecretName,
    at: Timestamp,
) -> Result<Json<HistoryView>, Failure> {
    let secret = then.world.secret_named(name).ok_or_else(|| {
        let at = at.text();
        Failure::not_found(format!(
            "no secret was named `{name}` at {at}; `keywheel events list --secret {name}` tells since when it is"
        ))
    })?;
    Ok(Json(HistoryView {
        secret: name.to_string(),
        at: at.text(),
        number: then.number,
        versions: views::versions(&then.world, secret),
        consumers: views::consumers(then, Some(secret)),
    }))
}

/// Number of the last event that was decided at or before a time. The log is in order of its numbers;
/// times in it go back where a clock was set, or gateways' clocks differ.
async fn last_before(api: &Api, at: Timestamp) -> Result<u64, PortError> {
    let (mut read, mut last) = (0, 0);
    loop {
        let page = api.journal.read(read, MAX_READ).await?;
        let Some(end) = page.last() else {
            return Ok(last);
        };
        read = end.number;
        let before = page.iter().rev().find(|event| event.time <= at);
        last = before.map_or(last, |event| event.number);
        tokio::task::yield_now().await;
    }
}

/// The state as it was after an event.
pub(super) async fn fold(api: &Api, last: u64) -> Result<Committed, PortError> {
    let mut then = Committed::default();
    while then.number < last {
        let page = api.journal.read(then.number, MAX_READ).await?;
        if page.is_empty() {
            break;
        }
        for event in page.iter().take_while(|event| event.number <= last) {
            then.apply(event, event.time);
        }
        tokio::task::yield_now().await;
    }
    Ok(then)
}

/// Number of the first event of a command whose last one, if it has any, is `last`. A command's events
/// stand together.
pub(super) async fn first_of(api: &Api, command: CommandId, last: u64) -> Result<u64, PortError> {
    let mut first = last + 1;
    while first > 1 {
        let before = usize::try_from(first - 1).unwrap_or(MAX_READ);
        let many = before.min(MAX_READ);
        let after = first - 1 - u64::try_from(many).unwrap_or(first - 1);
        let page = api.journal.read(after, many).await?;
        if page.is_empty() {
            break;
        }
        for event in page.iter().rev() {
            if !is_of(event, command) {
                return Ok(first);
            }
            first = event.number;
        }
    }
    Ok(first)
}

fn is_of(event: &RecordedEvent, command: CommandId) -> bool {
    let read = keywheel_schemas::event::decode(&event.bytes);
    read.is_ok_and(|(meta, _)| meta.causation == command)
}
