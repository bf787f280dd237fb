//! Playbooks: looking at them, planning and starting a run, and a person's steps into one.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::{delete, get, post};
use keywheel_core::command::Command;
use keywheel_core::decision::{self, Context, Enrolment};
use keywheel_core::id::RunId;
use keywheel_core::name::PlaybookName;
use keywheel_core::playbook::Rejection;
use keywheel_core::playbook_run::{Cause, Intervention, Request, Run};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::state::Committed;
use keywheel_policy::Resource;
use keywheel_schemas::api::{
    Applied, ApplyAnswer, ApproveRequest, InterveneRequest, PlaybookPlan, PlaybookRunView,
    PlaybookView, QuarantineView, RunPlaybookRequest,
};
use serde::Deserialize;

use super::pages::{self, Order, Paged};
use super::payload::{Object, Payload};
use super::read::{WaitQuery, wait_for};
use super::{Api, Caller, Failure, Named, Route};
use crate::admission::{identity, steps};
use crate::views::playbooks as views;

/// Every route of playbooks and their runs.
pub(super) fn routes() -> Vec<Route> {
    let look = |path, handler| (Method::GET, path, handler);
    let change = |path, handler| (Method::POST, path, handler);
    vec![
        look("/v1/playbooks", get(list)),
        look("/v1/playbooks/{name}", get(describe)),
        (Method::DELETE, "/v1/playbooks/{name}", delete(remove)),
        change("/v1/playbooks/{name}/run", post(run)),
        look("/v1/playbook-plan/{name}", get(plan)),
        look("/v1/playbook-runs", get(runs)),
        look("/v1/playbook-runs/{id}", get(describe_run)),
        change("/v1/playbook-runs/{id}/approve", post(approve)),
        step("/v1/playbook-runs/{id}/pause", Intervention::Pause),
        step("/v1/playbook-runs/{id}/resume", Intervention::Resume),
        step("/v1/playbook-runs/{id}/cancel", Intervention::Cancel),
        look("/v1/quarantines", get(quarantines)),
        change("/v1/quarantines/{name}/lift", post(lift)),
    ]
}

/// A person's step into a run.
fn step(path: &'static str, intervention: Intervention) -> Route {
    let handler = move |api, caller, id, body| intervene(api, caller, id, body, intervention);
    (Method::POST, path, post(handler))
}

async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let views = views::list(&api.view.read().world);
    let of = |view: &PlaybookView| [Resource::Playbook(view.name.clone())];
    let views = api.rows_for(&caller, views, of);
    let by_name = (Order::ByKey, |view: &PlaybookView| view.name.clone());
    pages::answer("/v1/playbooks", views, by_name, &page)
}

async fn describe(
    State(api): State<Api>,
    Named(name): Named,
) -> Result<Json<PlaybookView>, Failure> {
    let name = playbook_name(&name)?;
    let committed = api.view.read();
    let view = views::one(&committed.world, &name);
    view.map(Json)
        .ok_or_else(|| Failure::not_found(Rejection::Unknown(name).to_string()))
}

async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<ApplyAnswer>, Failure> {
    let name = playbook_name(&name)?;
    let request = Request::Remove { name: name.clone() };
    api.submit(&caller, Command::Playbook(request)).await?;
    let gone = Applied {
        kind: "Playbook".to_owned(),
        name: name.to_string(),
        action: "removed".to_owned(),
        note: None,
    };
    Ok(Json(ApplyAnswer {
        results: vec![gone],
    }))
}

/// What a run is told, as one object of texts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanQuery {
    arguments: Option<String>,
}

/// What a run would do; decided on the log's head, and nothing is appended.
async fn plan(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    query: Result<Query<PlanQuery>, QueryRejection>,
) -> Result<Json<PlaybookPlan>, Failure> {
    let name = playbook_name(&name)?;
    let told: BTreeMap<String, String> = match query?.0.arguments {
        None => BTreeMap::new(),
        Some(text) => serde_json::from_str(&text).map_err(|error| {
            Failure::invalid(format!(
                "`arguments` has to be an object of texts like {{\"secret\": \"prod/db\"}}: {error}"
            ))
        })?,
    };
    api.commands.look_at_head().await?;
    let ctx = Context {
        now: api.clock.now(),
        seed: api.ids.draw(),
        enrolment: Enrolment::default(),
    };
    let (mut plan, needs) = {
        let committed = api.view.read();
        let world = &committed.world;
        let planned = decision::plan_playbook(world, &name, &told, &ctx);
        let planned = planned.map_err(|no| match world.playbook_named(&name) {
            None => Failure::not_found(no.to_string()),
            Some(_) => Failure::invalid(no.to_string()),
        })?;
        let needs = steps::of_start(world, &name, &told, ctx.now);
        (views::plan(world, &name, &planned), needs)
    };
    plan.blockers.extend(api.missing_grants(&caller, &needs));
    Ok(Json(plan))
}

async fn run(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    body: Payload<RunPlaybookRequest>,
) -> Result<Json<PlaybookRunView>, Failure> {
    let Object(RunPlaybookRequest { arguments, reason }) = body?;
    let run = RunId::from_bytes(caller.draw(&api, "playbook-run"));
    let request = Request::Start {
        run,
        playbook: playbook_name(&name)?,
        arguments,
        by: identity(&caller.principal),
        reason,
        cause: Cause::Person,
    };
    api.submit(&caller, Command::Playbook(request)).await?;
    shown(&api.view.read(), run, api.clock.now()).map(Json)
}

async fn runs(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let views = views::runs(&api.view.read(), api.clock.now());
    let of = |view: &PlaybookRunView| [Resource::Playbook(view.playbook.clone())];
    let views = api.rows_for(&caller, views, of);
    let by_id = (Order::Other, |view: &PlaybookRunView| view.run_id.clone());
    pages::answer("/v1/playbook-runs", views, by_id, &page)
}

async fn describe_run(
    State(api): State<Api>,
    Named(id): Named,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Json<PlaybookRunView>, Failure> {
    let id = run_id(&id)?;
    let is_open = |world: &World| world.runs.get(&id).is_some_and(Run::is_open);
    wait_for(&api, query?.0.wait, is_open, |committed| {
        shown(committed, id, api.clock.now())
    })
    .await
}

async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    body: Payload<ApproveRequest>,
) -> Result<Json<PlaybookRunView>, Failure> {
    let Object(ApproveRequest { step, reason }) = body?;
    let run = run_id(&id)?;
    let request = Request::Approve {
        run,
        step,
        by: identity(&caller.principal),
        is_person: caller.principal.is_person(),
        reason,
    };
    api.submit(&caller, Command::Playbook(request)).await?;
    shown(&api.view.read(), run, api.clock.now()).map(Json)
}

async fn intervene(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    body: Payload<InterveneRequest>,
    intervention: Intervention,
) -> Result<Json<PlaybookRunView>, Failure> {
    let Object(InterveneRequest { reason }) = body?;
    let run = run_id(&id)?;
    let request = Request::Intervene {
        run,
        intervention,
        by: identity(&caller.principal),
        reason,
    };
    api.submit(&caller, Command::Playbook(request)).await?;
    shown(&api.view.read(), run, api.clock.now()).map(Json)
}

async fn quarantines(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let views = views::quarantines(&api.view.read().world);
    let of = |view: &QuarantineView| [Resource::Host(view.host.clone())];
    let views = api.rows_for(&caller, views, of);
    let by_id = (Order::Other, |view: &QuarantineView| view.id.clone());
    pages::answer("/v1/quarantines", views, by_id, &page)
}

/// A person's word: the container is given again what its bindings say. What was done to it, nobody undoes here.
async fn lift(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    body: Payload<InterveneRequest>,
) -> Result<Json<ApplyAnswer>, Failure> {
    let Object(InterveneRequest { reason }) = body?;
    let request = Request::Lift {
        container: name.clone(),
        by: identity(&caller.principal),
        reason,
    };
    api.submit(&caller, Command::Playbook(request)).await?;
    let lifted = Applied {
        kind: "Quarantine".to_owned(),
        name,
        action: "lifted".to_owned(),
        note: None,
    };
    Ok(Json(ApplyAnswer {
        results: vec![lifted],
    }))
}

fn shown(committed: &Committed, id: RunId, now: Timestamp) -> Result<PlaybookRunView, Failure> {
    let known = committed.world.runs.get(&id);
    let run = known.map(|run| views::run(committed, run, now));
    run.ok_or_else(|| {
        Failure::not_found(format!(
            "no playbook run {id}, or it ended long ago; `keywheel events list` has all of them"
        ))
    })
}

fn playbook_name(name: &str) -> Result<PlaybookName, Failure> {
    PlaybookName::parse(name).map_err(|error| Failure::invalid(error.to_string()))
}

fn run_id(id: &str) -> Result<RunId, Failure> {
    RunId::parse(id).map_err(|error| Failure::invalid(error.to_string()))
}
