//! Who held which version of a secret at a time: the log, folded up to then.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use keywheel_core::name::SecretName;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::journal::MAX_READ;
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
    let at = match query?.0.at {
        Some(words) => read_time(&words)?,
        None => api.clock.now(),
    };
    let then = fold(&api, at).await?;
    let secret = then.world.secret_named(&name).ok_or_else(|| {
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
        consumers: views::consumers(&then, Some(secret)),
    }))
}

/// The state as it was: every event decided at or before a time. The log is in order of its numbers,
/// and times may go back by what gateways' clocks differ; the first event that is later ends it.
async fn fold(api: &Api, at: Timestamp) -> Result<Committed, Failure> {
    let mut then = Committed::default();
    loop {
        let page = api.journal.read(then.number, MAX_READ).await?;
        if page.is_empty() {
            return Ok(then);
        }
        for event in &page {
            if event.time > at {
                return Ok(then);
            }
            then.apply(event, event.time);
        }
        tokio::task::yield_now().await;
    }
}
