//! A person steps into a rotation, or looks at what one would do before it begins.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::routing::{get, post};
use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::decision::{self, Context, Enrolment};
use keywheel_core::id::{HostId, RotationId};
use keywheel_core::name::SecretName;
use keywheel_core::rotation::Intervention;
use keywheel_engine::presence::SILENT_AFTER;
use keywheel_schemas::api::{InterveneRequest, RotationPlan, RotationView};

use super::payload::{Object, Payload};
use super::{Api, Caller, Failure, Named, Route};
use crate::views;

/// Every step into a rotation, and the look at one before.
pub(super) fn routes() -> Vec<Route> {
    vec![
        step("/v1/rotations/{id}/abort", Intervention::Abort),
        step("/v1/rotations/{id}/retry", Intervention::Retry),
        step("/v1/rotations/{id}/force", Intervention::Force),
        (Method::GET, "/v1/rotation-plan/{*name}", get(plan)),
    ]
}

/// A person's step into a rotation.
fn step(path: &'static str, intervention: Intervention) -> Route {
    let handler = move |api, caller, id, body| intervene(api, caller, id, body, intervention);
    (Method::POST, path, post(handler))
}

async fn intervene(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    body: Payload<InterveneRequest>,
    intervention: Intervention,
) -> Result<Json<RotationView>, Failure> {
    let Object(InterveneRequest { reason }) = body?;
    let rotation = RotationId::parse(&id).map_err(|error| Failure::invalid(error.to_string()))?;
    let command = Command::Intervene {
        rotation,
        intervention,
        reason,
    };
    api.submit(&caller, command).await?;
    api.rotation_view(rotation).map(Json)
}

/// What `POST /v1/rotate` would begin; decided on the log's head, and nothing is appended.
async fn plan(State(api): State<Api>, Named(name): Named) -> Result<Json<RotationPlan>, Failure> {
    let name = SecretName::parse(&name).map_err(|error| Failure::invalid(error.to_string()))?;
    api.commands.look_at_head().await?;
    let ctx = Context {
        now: api.clock.now(),
        seed: api.ids.draw(),
        enrolment: Enrolment::default(),
    };
    let rotate = Command::Rotate {
        rotation: RotationId::from_bytes(api.ids.draw()),
        secret: name.clone(),
    };
    let rows = api.presences.rows();
    let steady = api.clock.monotonic();
    let is_listening = api.presences.listening() > SILENT_AFTER;
    let is_silent = |host: HostId| {
        let of_host = |presence: &keywheel_engine::presence::Presence| {
            presence.role == Role::Injector && presence.host == Some(host)
        };
        let mut heard = rows
            .iter()
            .filter(|row| of_host(&row.presence) && !row.is_silent(steady));
        is_listening && heard.next().is_none()
    };
    let committed = api.view.read();
    let world = &committed.world;
    let decided = decision::decide(world, &rotate, &ctx);
    let Some(secret) = world.secret_named(&name) else {
        return Err(Failure::not_found(format!(
            "no secret is named `{name}`; `keywheel get secrets` lists them"
        )));
    };
    let refusal = decided.err().map(|refusal| refusal.reason.to_string());
    let plan = views::plan::rotation_plan(world, secret, refusal, &is_silent);
    Ok(Json(plan))
}
