//! Answers that go on and on end with the right to them: when the token or login that asked for one counts no more,
//! when whoever asked may not come in any more, and when policies say no to what they permitted.
//!
//! Invariants: what is taken away in the log is noticed by the bell that rings at each append, before more is told;
//! what ends by its time, or outside of the log, within [`LOOK_EVERY`]; whoever listens is told why by a last line, and
//! it is on record.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::header;
use axum::response::Response;
use futures_util::{StreamExt as _, future, stream};
use keywheel_core::audit::{Outcome, Principal};
use keywheel_core::id::TokenId;
use keywheel_schemas::api::{Problem, StreamEnd};
use tokio::time::MissedTickBehavior;

use super::Api;
use super::standing::Standing;
use super::stream::{FRAMES, LINES};
use crate::access::Peer;
use crate::admission::identity;

/// How often an open stream looks at what rings no bell: times that are over, and who may come in by the machine's
/// files.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What the audit calls the end of one.
const VERB: &str = "end-stream";

/// Who asked for an answer, and what for.
pub(super) struct Asked {
    pub(super) peer: Peer,
    pub(super) principal: Principal,
    pub(super) standing: Arc<Standing>,
    /// What ends them whatever policies say.
    pub(super) token: Option<TokenId>,
    pub(super) object: String,
}

/// Ends an answer with the right to it; one that is whole already is left as it is.
pub(super) fn ended_with(api: &Api, asked: Asked, response: Response) -> Response {
    let is_whole = response.body().size_hint().exact().is_some();
    if is_whole || !response.status().is_success() {
        return response;
    }
    let form = Form::of(&response);
    let (api, asked) = (api.clone(), Arc::new(asked));
    let ended: Arc<OnceLock<Ended>> = Arc::default();
    let ending = {
        let (api, asked, ended) = (api.clone(), asked.clone(), ended.clone());
        async move {
            if let Some(why) = asked.ended(&api).await {
                let _first = ended.set(why);
            }
        }
    };
    response.map(|body| {
        let frames = body.into_data_stream().take_until(Box::pin(ending));
        // Asked for only once the frames are over; nothing more is told while it is put on record.
        let last = stream::once(async move {
            let why = ended.get()?;
            asked.note(&api, &why.reason).await;
            form.last(&why.told)
        });
        let last = last.filter_map(|line| future::ready(line.map(Ok)));
        Body::from_stream(frames.chain(last))
    })
}

/// Why a right ended.
#[derive(Debug)]
struct Ended {
    /// For whoever listens.
    told: String,
    /// For the record.
    reason: String,
}

impl Ended {
    fn of(reason: &str) -> Self {
        Self {
            told: format!("this stream ends: {reason}"),
            reason: reason.to_owned(),
        }
    }
}

impl Asked {
    /// Waits for the end of the right; nothing when the gateway goes.
    async fn ended(&self, api: &Api) -> Option<Ended> {
        let mut bell = api.view.bell();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut judged = None;
        loop {
            bell.borrow_and_update();
            if self.token.is_some_and(|token| is_over(api, token)) {
                return Some(Ended::of("its token was revoked, or is over"));
            }
            // The same set says the same, but for what ends by itself.
            let set = Some(api.view.read().world.policies().map(|set| set.number));
            if judged != set {
                judged = set;
                if let Some(why) = self.denied(api) {
                    return Some(why);
                }
            }
            tokio::select! {
                rung = bell.changed() => if rung.is_err() {
                    return None;
                },
                _ = looks.tick() => {
                    if self.is_shut_out(api) {
                        return Some(Ended::of("whoever opened it may not come in any more"));
                    }
                    judged = None;
                }
            }
        }
    }

    /// Whether they would not be let in now. Whom a login let in, that ends.
    fn is_shut_out(&self, api: &Api) -> bool {
        match (&self.principal, self.token) {
            (Principal::Token { owner, .. }, _) => api.access.owner(owner).is_none(),
            (_, Some(_)) => false,
            (_, None) => api.access.allows(&self.peer).is_none(),
        }
    }

    fn denied(&self, api: &Api) -> Option<Ended> {
        let (refused, set) = api.lost(&self.principal, &self.standing)?;
        let (verb, object) = (refused.demand.verb.word(), &refused.demand.resource);
        Some(Ended {
            told: format!(
                "this stream ends: `{}` may not {verb} `{object}` any more ({}, {set})",
                identity(&self.principal),
                refused.reason
            ),
            reason: format!("{}: needs `{verb}` of {object} ({set})", refused.reason),
        })
    }

    async fn note(&self, api: &Api, reason: &str) {
        let object = format!("{} {}", self.standing.verb(), self.object);
        let record = api.record(
            &self.principal,
            VERB,
            object.trim(),
            Outcome::Denied,
            reason,
        );
        if let Err(error) = api.commands.record(record).await {
            let reason = keywheel_daemon::chain(&error);
            tracing::warn!(
                reason,
                "a stream that ended with its right is not on record"
            );
        }
    }
}

fn is_over(api: &Api, token: TokenId) -> bool {
    let committed = api.view.read();
    let known = committed.world.tokens.by_id(token);
    known.is_none_or(|known| !known.is_alive(api.clock.now()))
}

/// How a last line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Frames,
    /// Nothing can be said behind what was said.
    Other,
}

impl Form {
    fn of(response: &Response) -> Self {
        let kind = response.headers().get(header::CONTENT_TYPE);
        match kind.and_then(|kind| kind.to_str().ok()) {
            Some(LINES) => Self::Lines,
            Some(FRAMES) => Self::Frames,
            _ => Self::Other,
        }
    }

    fn last(self, why: &str) -> Option<Bytes> {
        let ended = Problem {
            kind: "about:blank#denied".to_owned(),
            title: "denied".to_owned(),
            status: 403,
            detail: why.to_owned(),
            code: "denied".to_owned(),
        };
        let text = match self {
            Self::Lines => {
                let line = serde_json::to_string(&StreamEnd { ended }).ok()?;
                format!("{line}\n")
            }
            Self::Frames => {
                let data = serde_json::to_string(&ended).ok()?;
                format!("event: ended\ndata: {data}\n\n")
            }
            Self::Other => return None,
        };
        Some(Bytes::from(text))
    }
}
