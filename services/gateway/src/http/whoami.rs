//! Who somebody is taken for, by which proof, until when, and what they may do.

use axum::Json;
use axum::extract::{Extension, State};
use keywheel_core::audit::Principal;
use keywheel_core::time::Timestamp;
use keywheel_policy::{Resource, TOKEN, Verb};
use keywheel_schemas::api::{MayView, WhoamiView};
use keywheel_schemas::mirror::TextForm as _;

use super::{Api, Caller, policies, tokens};
use crate::admission::{Demand, identity};

/// Things that are asked about for each verb.
const MAX_LOOKED_AT: usize = 200;

/// Until when the proof of a connection counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until(pub(crate) Timestamp);

pub(super) async fn whoami(
    State(api): State<Api>,
    until: Option<Extension<Until>>,
    Extension(caller): Extension<Caller>,
) -> Json<WhoamiView> {
    let Caller {
        principal,
        standing,
        ..
    } = &caller;
    let owner = standing.held().map_or(principal, |held| &held.owner);
    let name = match owner {
        Principal::User { name, .. } | Principal::Operator { name } | Principal::Login { name } => {
            name.clone()
        }
        _ => String::new(),
    };
    let (token, expires_at) = {
        let committed = api.view.read();
        let held = standing.held().map(|held| held.token);
        let id = held.or_else(|| standing.login().map(|login| login.token));
        let known = id.and_then(|id| committed.world.tokens.by_id(id));
        let seen = known.map(|known| tokens::view(known, api.clock.now()));
        (seen, known.map(|known| known.expires_at))
    };
    // A token ends by itself, whatever the connection is worth.
    let until = expires_at.or_else(|| until.map(|Extension(Until(until))| until));
    let may = may(&api, &caller).await;
    Json(WhoamiView {
        principal: identity(principal),
        name,
        proof: match standing.held() {
            Some(_) => TOKEN.to_owned(),
            None => standing.rule().to_owned(),
        },
        came_by: standing.rule().to_owned(),
        until: until.map(|until| until.text()),
        token,
        policies: api.in_force().version.unwrap_or(0),
        may,
    })
}

async fn may(api: &Api, caller: &Caller) -> Vec<MayView> {
    let mut known: Vec<Resource> = {
        let committed = api.view.read();
        let all = policies::estate(&committed.world).known;
        all.into_iter().take(MAX_LOOKED_AT + 1).collect()
    };
    let is_cut = known.len() > MAX_LOOKED_AT;
    known.truncate(MAX_LOOKED_AT);
    // What else they may do to it does not tell them that it is there.
    let known = api.rows_for(caller, known, |one| [one.clone()]);
    let mut told = Vec::new();
    // No person ever reads a value.
    for verb in Verb::ALL.into_iter().filter(|verb| *verb != Verb::Read) {
        told.extend(by(api, caller, verb, (&known, is_cut)));
        // Many decisions in a row; others have their turn between them.
        tokio::task::yield_now().await;
    }
    told
}

/// What one verb may be done to; `None` for nothing.
fn by(
    api: &Api,
    caller: &Caller,
    verb: Verb,
    (known, is_cut): (&[Resource], bool),
) -> Option<MayView> {
    if api.may(caller, &[Demand::of_all(verb)]) {
        return Some(MayView {
            verb: verb.word().to_owned(),
            of: vec![Resource::Environment.to_string()],
            is_cut: false,
        });
    }
    let known = known.iter();
    let theirs = known.filter(|one| api.may(caller, &[Demand::new(verb, (*one).clone())]));
    let of: Vec<String> = theirs.map(ToString::to_string).collect();
    (!of.is_empty() || is_cut).then(|| MayView {
        verb: verb.word().to_owned(),
        of,
        is_cut,
    })
}
