//! The seal of store-sync: how it is, offering what opens it, closing it; and the keys below its root key.
//!
//! Invariants: an offer passes unopened; whatever is asked for is a deed with both its records; no record and no answer
//! says why an offer was refused.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::routing::{MethodRouter, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::unseal::SealState;
use keywheel_schemas::api::{SealRequest, SealView, UnsealRequest};

use super::deed::{self, Begun, Ended, Task};
use super::payload::{Object, Payload};
use super::under_way::{Kind, Place};
use super::{Api, Caller, Failure, UNSEAL_TIMEOUT, approvals};
use crate::deeds::Deed;

/// What its records are about.
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
    let place = api.under_way.place(Kind::Unseal, &caller.principal)?;
    let (own, held) = (api.clone(), place.clone());
    let offering = async move { offer(&own, &caller, (offered, held)).await };
    deed::to_its_end(&api, place, offering).await
}

async fn offer(
    api: &Api,
    caller: &Caller,
    (offered, place): (Vec<u8>, Place),
) -> Result<Json<SealView>, Failure> {
    let task = Task::new(Deed::Unseal, OBJECT);
    let begun = Begun::new(api, caller, (task, place)).await?;
    let given = match approvals::note_share(api, caller).await {
        Ok(given) => given,
        Err(no) => {
            let words = format!("not offered: {}", no.detail());
            return begun.end(Ended::not(no, words)).await;
        }
    };
    let answer = ask_store_sync(api, Body::Unseal { offered }).await;
    // Without an answer it may have been taken.
    let is_refused = matches!(answer, Ok(Body::Failed { .. }));
    let came = begun.end(ended(answer)).await;
    if let Some(given) = given.filter(|_| is_refused) {
        approvals::take_share_back(api, caller, &given).await?;
    }
    Ok(Json(view(api, came?)))
}

async fn seal(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<SealRequest>,
) -> Result<Json<SealView>, Failure> {
    let Object(SealRequest { reason }) = body?;
    done(&api, &caller, (Deed::Seal, reason), Body::Seal).await
}

async fn rotate_kek(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<SealRequest>,
) -> Result<Json<SealView>, Failure> {
    let Object(SealRequest { reason }) = body?;
    done(&api, &caller, (Deed::RotateKek, reason), Body::RotateKek).await
}

async fn done(
    api: &Api,
    caller: &Caller,
    (what, reason): (Deed, Option<String>),
    body: Body,
) -> Result<Json<SealView>, Failure> {
    let reason = reason.filter(|why| !why.is_empty());
    let more = reason.map(|why| format!("because: {why}"));
    let task = Task::new(what, OBJECT).saying(more.unwrap_or_default());
    let own = api.clone();
    let asking = async move { ended(ask_store_sync(&own, body).await) };
    let state = deed::done(api, caller, task, asking).await?;
    Ok(Json(view(api, state)))
}

/// What came of it, by store-sync's answer.
fn ended(answer: Result<Body, PortError>) -> Ended<SealState> {
    match answer {
        Ok(Body::SealState(state)) => {
            let words = how_it_is(&state);
            Ended::done(state, &words)
        }
        // Why, nobody learns.
        Ok(Body::Failed {
            kind: ErrorKind::Denied,
            text,
        }) => Ended::not(Failure::refused(text), "refused by store-sync"),
        other => Ended::other(other),
    }
}

fn how_it_is(state: &SealState) -> String {
    let rows = state.kek_rows_left.unwrap_or(0);
    match (state.sealed, state.shares) {
        (true, Some(shares)) => format!("sealed, {} of {} shares", shares.have, shares.need),
        (true, None) => "sealed".to_owned(),
        (false, _) if rows > 0 => format!("open, {rows} rows still to be sealed anew"),
        (false, _) => "open".to_owned(),
    }
}

async fn ask(api: &Api, body: Body) -> Result<Json<SealView>, Failure> {
    let state = asked(api, body).await?;
    Ok(Json(view(api, state)))
}

/// What store-sync says of its seal.
pub(super) async fn asked(api: &Api, body: Body) -> Result<SealState, Failure> {
    understood(ask_store_sync(api, body).await?)
}

async fn ask_store_sync(api: &Api, body: Body) -> Result<Body, PortError> {
    let asking = api
        .bus
        .request(Address::StoreSync, None, body, UNSEAL_TIMEOUT);
    asking.await
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
