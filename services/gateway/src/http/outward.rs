//! Notifications, sources of signals and letters: looking at them, testing, replaying, retrying, removing.
//!
//! Invariant: a removal of what was declared is an event, and every other change a deed with both its records.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::{delete, get, post};
use keywheel_core::command::{Command, Outward};
use keywheel_core::id::{LetterId, NotificationId};
use keywheel_core::name::{NotificationName, SignalSourceName};
use keywheel_core::notification::{self, Declared};
use keywheel_core::signal::{Format, Proof, Source};
use keywheel_engine::port::deliveries::Letter;
use keywheel_engine::port::outside::Trouble;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_policy::Resource;
use keywheel_schemas::api::{
    Applied, ApplyAnswer, LetterView, NotificationView, ReplayRequest, SignalSourceView,
};
use keywheel_schemas::mirror::TextForm as _;

use super::deed::{self, Ended, Task};
use super::pages::{self, Order, Paged};
use super::payload::{Object, Payload};
use super::subscriptions::{head, is_there};
use super::{Api, Caller, Failure, Named, Route};
use crate::deeds::Deed;

/// What there is to ask here.
pub(super) fn routes() -> Vec<Route> {
    let look = |path, handler| (Method::GET, path, handler);
    let change = |path, handler| (Method::POST, path, handler);
    let removal = |path, handler| (Method::DELETE, path, handler);
    vec![
        look("/v1/notifications", get(notifications)),
        look("/v1/notifications/{name}", get(notification)),
        removal("/v1/notifications/{name}", delete(remove_notification)),
        change("/v1/notifications/{name}/test", post(test)),
        change("/v1/notifications/{name}/replay", post(replay)),
        look("/v1/signal-sources", get(sources)),
        removal("/v1/signal-sources/{name}", delete(remove_source)),
        look("/v1/letters", get(letters)),
        change("/v1/letters/{id}/retry", post(retry)),
        removal("/v1/letters/{id}", delete(discard)),
    ]
}

/// What views of notifications are made of, beside what is declared.
struct Standing {
    head: u64,
    places: BTreeMap<NotificationId, u64>,
    troubles: BTreeMap<NotificationId, Trouble>,
    letters: Vec<Letter>,
}

impl Standing {
    async fn now(api: &Api) -> Result<Self, PortError> {
        Ok(Self {
            head: head(api).await?,
            places: api.deliveries.places().await?,
            troubles: api.outside.troubles(),
            letters: api.deliveries.letters().await?,
        })
    }

    fn letters_of(&self, owner: &str) -> u64 {
        let own = self.letters.iter().filter(|letter| letter.owner == owner);
        u64::try_from(own.count()).unwrap_or(u64::MAX)
    }

    fn view(&self, known: &Declared) -> NotificationView {
        let (receiver, when) = (&known.spec.receiver, &known.spec.when);
        let place = self.places.get(&known.id).copied();
        let delivered = place.unwrap_or(known.since);
        let trouble = self.troubles.get(&known.id);
        NotificationView {
            name: known.name.to_string(),
            id: known.id.to_string(),
            kind: receiver.word().to_owned(),
            receiver: receiver.place().to_owned(),
            when: Some(when.clone()).filter(|when| !when.is_empty()),
            delivered,
            behind: self.head.saturating_sub(delivered),
            letters: self.letters_of(&format!("notification/{}", known.name)),
            trouble: trouble.map(|trouble| {
                format!(
                    "{} (tried {} times since {})",
                    trouble.reason,
                    trouble.attempts,
                    trouble.since.text()
                )
            }),
        }
    }
}

pub(super) async fn notifications(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let standing = Standing::now(&api).await?;
    let views: Vec<NotificationView> = {
        let committed = api.view.read();
        let all = committed.world.notifications.values();
        all.map(|known| standing.view(known)).collect()
    };
    let of = |view: &NotificationView| [Resource::Notification(view.name.clone())];
    let mut views = api.rows_for(&caller, views, of);
    views.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let by_name = (Order::ByKey, |view: &NotificationView| view.name.clone());
    pages::answer("/v1/notifications", views, by_name, &page)
}

pub(super) async fn notification(
    State(api): State<Api>,
    Named(name): Named,
) -> Result<Json<NotificationView>, Failure> {
    let known = find(&api, &name)?;
    Ok(Json(Standing::now(&api).await?.view(&known)))
}

pub(super) async fn remove_notification(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<ApplyAnswer>, Failure> {
    let name = notification_name(&name)?;
    let wish = Outward::RemoveNotification(name.clone());
    api.submit(&caller, Command::Outward(wish)).await?;
    Ok(Json(removed("Notification", name.as_str())))
}

pub(super) async fn test(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<NotificationView>, Failure> {
    let known = find(&api, &name)?;
    let task = Task::new(
        Deed::TestNotification,
        format!("notification/{}", known.name),
    );
    let (outside, name) = (api.outside.clone(), known.name.clone());
    let telling = async move {
        match outside.test(&name).await {
            Ok(()) => Ended::done((), "its receiver took it"),
            Err(error) => Ended::kept(error),
        }
    };
    deed::done(&api, &caller, task, telling).await?;
    Ok(Json(Standing::now(&api).await?.view(&known)))
}

pub(super) async fn replay(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    body: Payload<ReplayRequest>,
) -> Result<Json<NotificationView>, Failure> {
    let Object(request) = body?;
    let known = find(&api, &name)?;
    let after = is_there(request.after, head(&api).await?)?;
    let task = Task::new(
        Deed::ReplayNotification,
        format!("notification/{}", known.name),
    )
    .saying(format!("after event {after}"));
    let (own, name, id) = (api.clone(), known.name.clone(), known.id);
    let going_back = async move {
        match own.deliveries.rewind(id, after).await {
            Ok(true) => {
                own.outside.call();
                Ended::done((), "what came after it is told again")
            }
            Ok(false) => Ended::failed(Failure::conflict(format!(
                "notification `{name}` has not come to event {after} yet, so there is nothing to tell again; give the number of an earlier one"
            ))),
            Err(error) => Ended::kept(error),
        }
    };
    deed::done(&api, &caller, task, going_back).await?;
    Ok(Json(Standing::now(&api).await?.view(&known)))
}

pub(super) async fn sources(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let standing = Standing::now(&api).await?;
    let views: Vec<SignalSourceView> = {
        let committed = api.view.read();
        let all = committed.world.signal_sources.values();
        all.map(|known| source_view(known, &standing)).collect()
    };
    let of = |view: &SignalSourceView| [Resource::SignalSource(view.name.clone())];
    let mut views = api.rows_for(&caller, views, of);
    views.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let by_name = (Order::ByKey, |view: &SignalSourceView| view.name.clone());
    pages::answer("/v1/signal-sources", views, by_name, &page)
}

fn source_view(known: &Source, standing: &Standing) -> SignalSourceView {
    let format = match known.spec.format {
        Format::CloudEvents => "cloudEvents",
        Format::GithubAlert => "githubAlert",
        Format::GithubPartner => "githubPartner",
        Format::Webhook => "webhook",
    };
    let proof = match known.spec.proof {
        Proof::StandardWebhooks => "standardWebhooks",
        Proof::HubSignature => "hubSignature",
        Proof::Bearer => "bearer",
        Proof::GithubPartner => "githubPartner",
    };
    SignalSourceView {
        name: known.name.to_string(),
        id: known.id.to_string(),
        format: format.to_owned(),
        proof: proof.to_owned(),
        path: format!("/signals/{}", known.name),
        letters: standing.letters_of(&format!("signal-source/{}", known.name)),
    }
}

pub(super) async fn remove_source(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<ApplyAnswer>, Failure> {
    let name = SignalSourceName::parse(&name).map_err(|error| {
        let text = error.to_string();
        Failure::invalid(text)
    })?;
    let wish = Outward::RemoveSignalSource(name.clone());
    api.submit(&caller, Command::Outward(wish)).await?;
    Ok(Json(removed("SignalSource", name.as_str())))
}

pub(super) async fn letters(State(api): State<Api>, page: Paged) -> Result<Response, Failure> {
    let page = page?.0;
    let all = api.deliveries.letters().await?;
    let views: Vec<LetterView> = all.iter().map(letter_view).collect();
    // By time, and an id tells those of one instant apart.
    let by_time = (Order::ByKey, |view: &LetterView| {
        format!("{} {}", view.time, view.id)
    });
    pages::answer("/v1/letters", views, by_time, &page)
}

pub(super) async fn retry(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Json<LetterView>, Failure> {
    let letter = find_letter(&api, &id).await?;
    let task = task_with(Deed::RetryLetter, &letter);
    let (own, by) = (api.clone(), caller.principal.clone());
    let retrying = async move {
        if let Err(error) = own.outside.retry(&letter, &by).await {
            return Ended::kept(error);
        }
        match own.deliveries.discard(letter.id).await {
            Ok(_) => Ended::done(Json(letter_view(&letter)), "it was taken"),
            Err(error) => {
                let words = format!("it was taken, and the letter may stay: {}", error.text);
                Ended::not(error.into(), words)
            }
        }
    };
    deed::done(&api, &caller, task, retrying).await
}

pub(super) async fn discard(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Json<LetterView>, Failure> {
    let letter = find_letter(&api, &id).await?;
    let task = task_with(Deed::DiscardLetter, &letter);
    let own = api.clone();
    let discarding = async move {
        match own.deliveries.discard(letter.id).await {
            Ok(_) => Ended::done(Json(letter_view(&letter)), ""),
            Err(error) => Ended::kept(error),
        }
    };
    deed::done(&api, &caller, task, discarding).await
}

fn task_with(deed: Deed, letter: &Letter) -> Task {
    let about = format!("about {}, {}", letter.owner, letter.heading);
    Task::new(deed, format!("letter/{}", letter.id)).saying(about)
}

fn letter_view(letter: &Letter) -> LetterView {
    LetterView {
        id: letter.id.to_string(),
        owner: letter.owner.clone(),
        heading: letter.heading.clone(),
        time: letter.time.text(),
        reason: letter.reason.clone(),
    }
}

fn removed(kind: &str, name: &str) -> ApplyAnswer {
    let gone = Applied {
        kind: kind.to_owned(),
        name: name.to_owned(),
        action: "removed".to_owned(),
        note: None,
    };
    ApplyAnswer {
        results: vec![gone],
    }
}

fn notification_name(name: &str) -> Result<NotificationName, Failure> {
    NotificationName::parse(name).map_err(|error| Failure::invalid(error.to_string()))
}

fn find(api: &Api, name: &str) -> Result<Declared, Failure> {
    let name = notification_name(name)?;
    let committed = api.view.read();
    let known = committed.world.notification_named(&name).cloned();
    known.ok_or_else(|| Failure::not_found(notification::Rejection::Unknown(name).to_string()))
}

async fn find_letter(api: &Api, id: &str) -> Result<Letter, Failure> {
    let id = LetterId::parse(id).map_err(|error| Failure::invalid(error.to_string()))?;
    let found = api.deliveries.letter(id).await?;
    let unknown = || {
        let text = format!("there is no letter {id}; `keywheel letter list` shows those that are");
        PortError::new(ErrorKind::NotFound, text)
    };
    Ok(found.ok_or_else(unknown)?)
}
