//! The seal of store-sync: how it is, offering what opens it, closing it; and the keys below its root key.
//!
//! Invariants: an offer passes unopened; that it was made is on record before store-sync hears of it, and that
//! it was refused before its sender does; no record and no answer says more of it.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::routing::{MethodRouter, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::audit::Outcome;
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::unseal::SealState;
use keywheel_schemas::api::{SealRequest, SealView, UnsealRequest};

use super::payload::{Object, Payload};
use super::{Api, Caller, Failure, UNSEAL_TIMEOUT, approvals, bounded};

/// What records of it are about.
const OBJECT: &str = "store-sync";

/// Every route of it.
pub(super) fn routes() -> Vec<(Method, &'static str, MethodRouter<Api>)> {
    vec![
        (Method::GET, "/v1/seal", get(describe)),
        (Method::POST, "/v1/unseal", post(unseal)),
        (Method::POST, "/v1/seal", post(seal)),
        (Method::POST, "/v1/rotate-kek", post(rotate_kek)),
    ]
}

async fn describe(State(api): State<Api>) -> Result<Json<SealView>, Failure> {
    ask(&api, Body::ReadSeal).await
}

async fn unseal(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<UnsealRequest>,
) -> Result<Json<SealView>, Failure> {
    let Object(request) = body?;
    let offered = STANDARD
        .decode(&request.offer)
        .map_err(|e| Failure::invalid(format!("field `offer` is not base64: {e}")))?;
    note(&api, &caller, "unseal", None).await?;
    let given = approvals::note_share(&api, &caller).await?;
    let asking = api.bus.request(
        Address::StoreSync,
        None,
        Body::Unseal { offered },
        UNSEAL_TIMEOUT,
    );
    // Without an answer it may have been taken.
    let answer = asking.await?;
    let is_kept = !matches!(answer, Body::Failed { .. });
    if let Some(given) = given.filter(|_| !is_kept) {
        approvals::take_share_back(&api, &caller, &given).await?;
    }
    Ok(Json(view(&api, understood(answer)?)))
}

async fn seal(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<SealRequest>,
) -> Result<Json<SealView>, Failure> {
    let Object(SealRequest { reason }) = body?;
    note(&api, &caller, "seal", reason.as_deref()).await?;
    ask(&api, Body::Seal).await
}

async fn rotate_kek(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<SealRequest>,
) -> Result<Json<SealView>, Failure> {
    let Object(SealRequest { reason }) = body?;
    note(&api, &caller, "rotate-kek", reason.as_deref()).await?;
    ask(&api, Body::RotateKek).await
}

/// The intent; a failure is recorded with its answer.
async fn note(api: &Api, caller: &Caller, verb: &str, reason: Option<&str>) -> Result<(), Failure> {
    let reason = caller.standing.words(&bounded(reason.unwrap_or_default()));
    let record = api.record(&caller.principal, verb, OBJECT, Outcome::Allowed, &reason);
    Ok(api.commands.record(record).await?)
}

async fn ask(api: &Api, body: Body) -> Result<Json<SealView>, Failure> {
    let state = asked(api, body).await?;
    Ok(Json(view(api, state)))
}

/// What store-sync says of its seal.
pub(super) async fn asked(api: &Api, body: Body) -> Result<SealState, Failure> {
    let asking = api
        .bus
        .request(Address::StoreSync, None, body, UNSEAL_TIMEOUT);
    understood(asking.await?)
}

fn understood(answer: Body) -> Result<SealState, Failure> {
    match answer {
        Body::SealState(state) => Ok(state),
        // Why it was not taken nobody learns, so there is nothing to correct either.
        Body::Failed {
            kind: ErrorKind::Denied,
            text,
        } => Err(Failure::refused(text)),
        Body::Failed { kind, text } => Err(PortError::new(kind, text).into()),
        _ => {
            let text = "store-sync did not understand; run the same version everywhere";
            Err(PortError::new(ErrorKind::Unavailable, text).into())
        }
    }
}

fn view(api: &Api, state: SealState) -> SealView {
    SealView {
        sealed: state.sealed,
        provider: state.provider,
        public_key: STANDARD.encode(state.key),
        deployment: api.deployment.to_string(),
        shares: state.shares.map(|shares| shares.have),
        shares_needed: state.shares.map(|shares| shares.need),
        kek_rows_left: state.kek_rows_left,
    }
}
