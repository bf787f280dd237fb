//! The seal of store-sync: how it is, offering what opens it, closing it; and the keys below its root key.
//!
//! Invariants: an offer passes unopened; whatever is asked for is on record before store-sync hears of it, and what came
//! of it before its sender does, by a record of the same command; that is so also where who asked does not wait for it;
//! no record and no answer says why an offer was refused.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::routing::{MethodRouter, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::audit::{Outcome, Record};
use keywheel_core::id::CommandId;
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::unseal::SealState;
use keywheel_schemas::api::{SealRequest, SealView, UnsealRequest};

use super::payload::{Object, Payload};
use super::{Api, Caller, Failure, UNSEAL_TIMEOUT, approvals, bounded, trace};
use crate::deeds::{ASKED, OBJECT};
use crate::dual;

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
    let ids = api.ids.clone();
    to_its_end(&*ids, async move { offer(&api, &caller, offered).await }).await
}

async fn offer(api: &Api, caller: &Caller, offered: Vec<u8>) -> Result<Json<SealView>, Failure> {
    let deed = begin(api, caller, ("unseal", None)).await?;
    let given = match approvals::note_share(api, caller).await {
        Ok(given) => given,
        Err(no) => {
            let words = format!("not offered: {}", bounded(no.detail()));
            deed.note(api, caller, (Outcome::Rejected, &words)).await?;
            return Err(no.on_record());
        }
    };
    let answer = ask_store_sync(api, Body::Unseal { offered }).await;
    // Without an answer it may have been taken.
    let is_refused = matches!(answer, Ok(Body::Failed { .. }));
    let came = end(api, caller, &deed, answer).await;
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
    done(api, caller, ("seal", reason), Body::Seal).await
}

async fn rotate_kek(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<SealRequest>,
) -> Result<Json<SealView>, Failure> {
    let Object(SealRequest { reason }) = body?;
    // New work, as commands are that begin something. What opens or shuts the cache is none: a revocation may need it.
    let few = api.presences.held_back();
    let why = few.or_else(|| dual::unconfirmed(&api.admission, &api.view, &api.presences));
    if let Some(why) = why {
        return Err(PortError::new(ErrorKind::Unavailable, why).into());
    }
    done(api, caller, ("rotate-kek", reason), Body::RotateKek).await
}

async fn done(
    api: Api,
    caller: Caller,
    (verb, reason): (&'static str, Option<String>),
    body: Body,
) -> Result<Json<SealView>, Failure> {
    let ids = api.ids.clone();
    let doing = async move {
        let deed = begin(&api, &caller, (verb, reason.as_deref())).await?;
        let answer = ask_store_sync(&api, body).await;
        let state = end(&api, &caller, &deed, answer).await?;
        Ok(Json(view(&api, state)))
    };
    to_its_end(&*ids, doing).await
}

/// A handler ends with its connection; what was begun comes to its end, and on record, all the same.
async fn to_its_end(
    ids: &dyn Ids,
    doing: impl Future<Output = Result<Json<SealView>, Failure>> + Send + 'static,
) -> Result<Json<SealView>, Failure> {
    let doing = tokio::spawn(trace::kept(ids, doing));
    doing.await.unwrap_or_else(|error| {
        let text = "what was asked of store-sync did not come to its end; `keywheel unseal` without an offer shows how the seal is";
        Err(PortError::caused(ErrorKind::Unavailable, text, error).into())
    })
}

/// What is on record that it was begun.
struct Deed {
    verb: &'static str,
    command: CommandId,
}

impl Deed {
    fn record(&self, api: &Api, caller: &Caller, (outcome, words): (Outcome, &str)) -> Record {
        let reason = caller.standing.words(words);
        Record {
            command: self.command,
            ..api.record(&caller.principal, self.verb, OBJECT, outcome, &reason)
        }
    }

    /// Puts on record what came of it.
    async fn note(&self, api: &Api, caller: &Caller, came: (Outcome, &str)) -> Result<(), Failure> {
        let own = CommandId::from_bytes(api.ids.draw());
        let record = self.record(api, caller, came);
        Ok(api.commands.record_as(own, record).await?)
    }
}

/// The intent.
async fn begin(
    api: &Api,
    caller: &Caller,
    (verb, reason): (&'static str, Option<&str>),
) -> Result<Deed, Failure> {
    let command = CommandId::from_bytes(api.ids.draw());
    let words = match reason {
        None | Some("") => ASKED.to_owned(),
        Some(why) => format!("{ASKED} because: {}", bounded(why)),
    };
    let deed = Deed { verb, command };
    let record = deed.record(api, caller, (Outcome::Allowed, &words));
    api.commands.record(record).await?;
    Ok(deed)
}

/// What came of it, by store-sync's answer: on record before anybody hears of it.
async fn end(
    api: &Api,
    caller: &Caller,
    deed: &Deed,
    answer: Result<Body, PortError>,
) -> Result<SealState, Failure> {
    let (outcome, words) = match &answer {
        Ok(Body::SealState(state)) => (Outcome::Allowed, format!("done: {}", how_it_is(state))),
        // Why, nobody learns.
        Ok(Body::Failed {
            kind: ErrorKind::Denied,
            ..
        }) => (Outcome::Rejected, "refused by store-sync".to_owned()),
        Ok(Body::Failed { text, .. }) => (Outcome::Rejected, format!("failed: {}", bounded(text))),
        Ok(_) => {
            let words = "failed: store-sync did not understand";
            (Outcome::Rejected, words.to_owned())
        }
        Err(error) => {
            let words = format!("not known whether it was done: {}", bounded(&error.text));
            (Outcome::Rejected, words)
        }
    };
    deed.note(api, caller, (outcome, &words)).await?;
    let came = answer.map_err(Failure::from).and_then(understood);
    came.map_err(Failure::on_record)
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
