//! Subscriptions: places in the stream of events, kept for clients across restarts and gateways.
//!
//! Invariant: every change is a deed with both its records. None is an event: a client that acknowledges what it read
//! would else make more to read.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::Response;
use keywheel_core::id::SubscriptionId;
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::PortError;
use keywheel_engine::port::subscriptions::{self, Subscription};
use keywheel_schemas::api::{AcknowledgeRequest, SubscribeRequest, SubscriptionView};

use super::deed::{self, Ended, Task};
use super::pages::{self, Order, Paged};
use super::payload::{Object, Payload};
use super::{Api, Caller, Failure, Named};
use crate::deeds::Deed;

pub(super) async fn list(State(api): State<Api>, page: Paged) -> Result<Response, Failure> {
    let page = page?.0;
    let all = api.journal.subscriptions().await?;
    let head = head(&api).await?;
    let views: Vec<SubscriptionView> = all.iter().map(|one| view(head, one)).collect();
    let by_name = (Order::ByKey, |view: &SubscriptionView| view.name.clone());
    pages::answer("/v1/subscriptions", views, by_name, &page)
}

pub(super) async fn describe(
    State(api): State<Api>,
    Named(name): Named,
) -> Result<Json<SubscriptionView>, Failure> {
    let found = find(&api, &name).await?;
    Ok(Json(view(head(&api).await?, &found)))
}

pub(super) async fn subscribe(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<SubscribeRequest>,
) -> Result<Json<SubscriptionView>, Failure> {
    let Object(request) = body?;
    let name = parse(&request.name)?;
    let head = head(&api).await?;
    let after = request.after.unwrap_or(head);
    let after = is_there(after, head)?;
    let task = task(Deed::Subscribe, &name).saying(format!("after event {after}"));
    let (journal, id) = (
        api.journal.clone(),
        SubscriptionId::from_bytes(api.ids.draw()),
    );
    let making = async move { kept(journal.subscribe(&name, id, after).await) };
    let made = deed::done(&api, &caller, task, making).await?;
    Ok(Json(view(head, &made)))
}

pub(super) async fn acknowledge(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    body: Payload<AcknowledgeRequest>,
) -> Result<Json<SubscriptionView>, Failure> {
    let Object(request) = body?;
    let id = SubscriptionId::parse(&request.id).map_err(|error| {
        Failure::invalid(format!(
            "{error}; give the `id` that the subscription shows"
        ))
    })?;
    let known = find(&api, &name).await?;
    if known.id != id {
        return Err(subscriptions::made_again(&known.name).into());
    }
    let head = head(&api).await?;
    let number = is_there(request.number, head)?;
    let task = task(Deed::Acknowledge, &known.name).saying(format!("up to event {number}"));
    let journal = api.journal.clone();
    let moving = async move { kept(journal.acknowledge(&known.name, id, number).await) };
    let moved = deed::done(&api, &caller, task, moving).await?;
    Ok(Json(view(head, &moved)))
}

pub(super) async fn unsubscribe(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<SubscriptionView>, Failure> {
    let known = find(&api, &name).await?;
    let head = head(&api).await?;
    let more = format!("where it stood at event {}", known.acknowledged);
    let task = task(Deed::Unsubscribe, &known.name).saying(more);
    let (journal, name) = (api.journal.clone(), known.name.clone());
    let removing = async move { kept(journal.unsubscribe(&name).await) };
    deed::done(&api, &caller, task, removing).await?;
    Ok(Json(view(head, &known)))
}

/// A subscription that is there.
pub(super) async fn find(api: &Api, name: &str) -> Result<Subscription, Failure> {
    let name = parse(name)?;
    let all = api.journal.subscriptions().await?;
    let found = all.into_iter().find(|one| one.name == name);
    Ok(found.ok_or_else(|| subscriptions::unknown(&name))?)
}

fn parse(name: &str) -> Result<SubscriptionName, Failure> {
    SubscriptionName::parse(name).map_err(|error| Failure::invalid(error.to_string()))
}

/// Number of the log's last event. Events are read from the log, which may be ahead of what is folded here.
pub(super) async fn head(api: &Api) -> Result<u64, PortError> {
    Ok(api.journal.head().await?.number)
}

/// Refuses a place that the log has not come to: what happens up to there would be missed, or waited for
/// in silence.
pub(super) fn is_there(number: u64, head: u64) -> Result<u64, Failure> {
    if number <= head {
        return Ok(number);
    }
    Err(Failure::invalid(format!(
        "there is no event {number}, the last one is {head}; give the number of an event that you read. If you read it, the journal was put back to an earlier time since: begin again after an event that is there"
    )))
}

fn view(head: u64, one: &Subscription) -> SubscriptionView {
    SubscriptionView {
        id: one.id.to_string(),
        name: one.name.to_string(),
        acknowledged: one.acknowledged,
        behind: head.saturating_sub(one.acknowledged),
    }
}

fn task(deed: Deed, name: &SubscriptionName) -> Task {
    Task::new(deed, format!("subscription/{name}"))
}

/// What came of a change in the database.
fn kept<T>(changed: Result<T, PortError>) -> Ended<T> {
    match changed {
        Ok(now) => Ended::done(now, ""),
        Err(error) => Ended::kept(error),
    }
}
