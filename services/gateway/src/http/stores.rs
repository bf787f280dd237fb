//! Stores outside: looking at them, trying one before it is declared, and looking there now.
//!
//! Invariant: nothing here waits for a store without a bound.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::Response;
use keywheel_core::command::{Command, Declaration};
use keywheel_core::id::SecretId;
use keywheel_core::name::{SecretName, StoreName};
use keywheel_core::secret;
use keywheel_core::store::{
    CredentialNow, CredentialRef, Found, Looked, NamedStore, PlannedUse, Rejection, StoreSpec,
};
use keywheel_core::world::World;
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::unseal::is_sealed;
use keywheel_policy::{Resource, Verb};
use keywheel_schemas::api::{
    Applied, ApplyAnswer, Component, RefreshAnswer, RefreshRequest, Refreshed, StorePage,
    StoreSecret, StoreView,
};

use super::deed::{self, Ended, FAILED, Task, UNKNOWN};
use super::pages::{self, Order, Paged};
use super::payload::{Object, Payload};
use super::{Api, Caller, Failure, Named};
use crate::admission::Demand;
use crate::deeds::Deed;
use crate::views;

/// How long store-sync may take to try a store: a request to it is bounded by less.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(20);
/// Most places in one store whose rights are asked for in one apply; others are met by the first look.
pub(super) const MAX_TRIED_PLACES: usize = 100;
/// How long store-sync may take to look where a person asked for.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(40);

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let health = api.store_health();
    let views = views::stores::list(&api.view.read().world, &health);
    let of = |view: &StoreView| [Resource::Store(view.name.clone())];
    let views = api.rows_for(&caller, views, of);
    let by_name = (Order::ByKey, |view: &StoreView| view.name.clone());
    pages::answer("/v1/stores", views, by_name, &page)
}

pub(super) async fn describe(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<StorePage>, Failure> {
    let name = store_name(&name)?;
    let health = api.store_health();
    let page = views::stores::page(&api.view.read().world, &name, &health);
    let unknown = || Failure::not_found(Rejection::Unknown(name).to_string());
    let mut page = page.ok_or_else(unknown)?;
    let of = |secret: &StoreSecret| [Resource::Secret(secret.name.clone())];
    page.secrets = api.rows_for(&caller, page.secrets, of);
    Ok(Json(page))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<ApplyAnswer>, Failure> {
    let name = store_name(&name)?;
    let command = Command::RemoveStore { name: name.clone() };
    api.submit(&caller, command).await?;
    let gone = Applied {
        kind: "Store".to_owned(),
        name: name.to_string(),
        action: "removed".to_owned(),
        note: None,
    };
    Ok(Json(ApplyAnswer {
        results: vec![gone],
    }))
}

impl Api {
    /// How store-syncs find the stores.
    fn store_health(&self) -> Vec<Component> {
        views::status::stores(&self.presences.rows(), self.clock.monotonic())
    }
}

fn store_name(name: &str) -> Result<StoreName, Failure> {
    StoreName::parse(name).map_err(|error| Failure::invalid(error.to_string()))
}

/// What could not be tried before an apply, by store.
pub(super) type Untried = BTreeMap<StoreName, String>;

/// One store that is tried, and what secrets are about to need there.
struct Trial {
    store: NamedStore,
    credentials: Vec<CredentialNow>,
    places: Vec<PlannedUse>,
    /// Places beyond those.
    left_out: usize,
    /// It is declared as it is already; only secrets in it are new.
    is_known: bool,
}

/// What an apply changes about stores: each that is new or another than before, and those in which a
/// secret gets a place or is about to be written.
fn trials(world: &World, declarations: &[Declaration]) -> BTreeMap<StoreName, Trial> {
    let mut trials = BTreeMap::new();
    for declaration in declarations {
        let Declaration::Store { name, spec, .. } = declaration else {
            continue;
        };
        let known = world.store_named(name);
        if known.is_none_or(|known| known.store.spec != *spec) {
            let mut trial = trial(world, name, spec, false);
            let secrets = world.secrets_in(name);
            // A lease is at the place of the secret that was declared.
            for secret in secrets.filter(|secret| secret.lease_of().is_none()) {
                trial.add(planned(&secret.spec).map(|(_, place)| place));
            }
            trials.insert(name.clone(), trial);
        }
    }
    for declaration in declarations {
        let Declaration::Secret { name, spec, .. } = declaration else {
            continue;
        };
        let Some((store, place)) = planned(spec) else {
            continue;
        };
        let before = world.secret_named(name);
        if before.and_then(|before| planned(&before.spec)).as_ref() == Some(&(store, place.clone()))
        {
            continue;
        }
        if !trials.contains_key(store) {
            let Some(known) = world.store_named(store) else {
                continue;
            };
            let trial = trial(world, store, &known.store.spec, true);
            trials.insert(store.clone(), trial);
        }
        if let Some(trial) = trials.get_mut(store) {
            trial.add(Some(place));
        }
    }
    trials
}

fn trial(world: &World, name: &StoreName, spec: &StoreSpec, is_known: bool) -> Trial {
    Trial {
        store: NamedStore {
            name: name.clone(),
            spec: spec.clone(),
        },
        credentials: world.credentials_now(spec),
        places: Vec::new(),
        left_out: 0,
        is_known,
    }
}

impl Trial {
    fn add(&mut self, place: Option<PlannedUse>) {
        match place {
            Some(place) if self.places.len() < MAX_TRIED_PLACES => self.places.push(place),
            Some(_) => self.left_out += 1,
            None => {}
        }
    }
}

/// The store in which a secret is to lie, and what it needs there.
fn planned(spec: &secret::Spec) -> Option<(&StoreName, PlannedUse)> {
    let secret::Store::Outside(place) = &spec.store else {
        return None;
    };
    let planned = PlannedUse {
        source: place.source.clone(),
        // The password of an account is written there, also one that a person gives.
        writes: spec.generator.is_some() || spec.rotator.is_some(),
    };
    Some((&place.store, planned))
}

/// Has store-sync try every store that is new or changes, with the rights that secrets need there.
/// What does not work is refused with what is missing, so nothing is declared that cannot work. That
/// a store which is declared already does not answer just now refuses nothing.
///
/// Gives what could not be tried, by store, in words.
///
/// That credentials are about to be shown to a server is on record before they are.
pub(super) async fn check(
    api: &Api,
    caller: &Caller,
    declarations: &[Declaration],
) -> Result<Untried, Failure> {
    let trials = trials(&api.view.read().world, declarations);
    let mut untried = Untried::new();
    for (name, trial) in trials {
        let mut notes = Vec::new();
        if trial.left_out > 0 {
            notes.push(format!(
                "{} places were not checked: {MAX_TRIED_PLACES} are in one apply; what is missing there \
                 is told at their first look",
                trial.left_out
            ));
        }
        let (is_known, task) = (trial.is_known, trying(&name, &trial.store.spec));
        let own = api.clone();
        let trying = async move { tried(&own, trial).await };
        match deed::done(api, caller, task, trying).await? {
            Tried::Works(more) => notes.extend(more),
            Tried::No(error) if error.kind == ErrorKind::Unavailable && is_known => {
                notes.push(format!("no place was checked: {}", error.text));
            }
            Tried::No(error) => return Err(does_not_work(&name, error)),
            Tried::Unanswered(error) => return Err(error.into()),
        }
        if !notes.is_empty() {
            untried.insert(name, notes.join("; "));
        }
    }
    Ok(untried)
}

/// What came of a trial.
enum Tried {
    /// With what could not be tried.
    Works(Vec<String>),
    /// Store-sync could not use it.
    No(PortError),
    /// Store-sync said nothing that is understood.
    Unanswered(PortError),
}

async fn tried(api: &Api, trial: Trial) -> Ended<Tried> {
    let body = Body::CheckStore {
        store: Box::new(trial.store),
        credentials: trial.credentials,
        places: trial.places,
    };
    let asking = api
        .bus
        .request(Address::StoreSync, None, body, CHECK_TIMEOUT);
    match asking.await {
        Ok(Body::Tried(more)) => {
            let words = match more.len() {
                0 => "it works".to_owned(),
                some => format!("it works; not tried: {some}"),
            };
            Ended::done(Tried::Works(more), &words)
        }
        Ok(Body::Failed { kind, text }) => {
            let words = format!("{FAILED}{text}");
            Ended::not_done(Tried::No(PortError::new(kind, text)), words)
        }
        Ok(_) => {
            let text = "store-sync did not understand the store; run the same version everywhere";
            let words = format!("{FAILED}{text}");
            let error = PortError::new(ErrorKind::Unavailable, text);
            Ended::not_done(Tried::Unanswered(error), words)
        }
        Err(error) => {
            let words = format!("{UNKNOWN}{}", error.text);
            Ended::not_done(Tried::Unanswered(error), words)
        }
    }
}

/// Why nothing is applied, where a store was tried in vain.
fn does_not_work(name: &StoreName, error: PortError) -> Failure {
    if is_sealed(error.kind, &error.text) {
        return error.into();
    }
    let PortError { kind, text, .. } = error;
    let text = format!(
        "nothing was applied: store `{name}` was tried and does not work: {text}; mend that, or say `--no-check` to declare it all the same"
    );
    // What store-sync may not or cannot read there says nothing about who asks here.
    match kind {
        ErrorKind::Unavailable => PortError::new(kind, text).into(),
        _ => Failure::invalid(text),
    }
}

/// That credentials are about to be shown to a server.
fn trying(name: &StoreName, spec: &StoreSpec) -> Task {
    let read = spec.backend.credentials().into_iter();
    let read: Vec<String> = read
        .map(|from| match from {
            CredentialRef::File(path) => format!("file {path}"),
            CredentialRef::Secret(name) => format!("secret/{name}"),
        })
        .collect();
    let more = format!("at {} with {}", spec.backend.server(), read.join(", "));
    Task::new(Deed::TryStore, format!("store/{name}")).saying(more)
}

pub(super) async fn refresh(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<RefreshRequest>,
) -> Result<Json<RefreshAnswer>, Failure> {
    let Object(request) = body?;
    let named = request.secret.as_deref().map(SecretName::parse).transpose();
    let named = named.map_err(|error| Failure::invalid(error.to_string()))?;
    let meant = named
        .as_ref()
        .map(|name| Resource::Secret(name.to_string()));
    let meant = meant.unwrap_or(Resource::Environment);
    let needs = Demand::new(Verb::Rotate, meant);
    api.admit_caller(&caller, &[needs]).await?;
    let secret = match &named {
        Some(name) => Some(outside(&api, name)?),
        None => None,
    };
    let object = named.map_or_else(|| "stores".to_owned(), |name| format!("secret/{name}"));
    let own = api.clone();
    let looking = async move { looked(&own, secret).await };
    let looks = deed::done(&api, &caller, Task::new(Deed::Refresh, object), looking).await?;
    let world = &api.view.read().world;
    let told = |looked: &Looked| {
        let secret = world.secrets.get(&looked.secret)?;
        let open = world.open_rotation(looked.secret);
        let rotation = open.map(|open| open.id.to_string());
        let (found, reason) = words(&looked.found);
        let secret = secret.name.to_string();
        let refreshed = Refreshed {
            secret: secret.clone(),
            found: found.to_owned(),
            reason,
            rotation: rotation.filter(|_| matches!(looked.found, Found::Changed | Found::Busy)),
        };
        Some((secret, refreshed))
    };
    let results: BTreeMap<String, Refreshed> = looks.iter().filter_map(told).collect();
    let results = results.into_values().collect();
    Ok(Json(RefreshAnswer { results }))
}

/// Has store-sync look, at one secret or at all.
async fn looked(api: &Api, secret: Option<SecretId>) -> Ended<Vec<Looked>> {
    let body = Body::LookNow { secret };
    let asking = api
        .bus
        .request(Address::StoreSync, None, body, LOOK_TIMEOUT);
    match asking.await {
        Ok(Body::Looked(looks)) => {
            let words = found_words(&looks);
            Ended::done(looks, &words)
        }
        other => Ended::other(other),
    }
}

/// How many were found how.
fn found_words(looks: &[Looked]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for looked in looks {
        *counts.entry(words(&looked.found).0).or_default() += 1;
    }
    if counts.is_empty() {
        return "nothing lies outside".to_owned();
    }
    let each = counts
        .into_iter()
        .map(|(word, count)| format!("{count} {word}"));
    each.collect::<Vec<_>>().join(", ")
}

fn outside(api: &Api, name: &SecretName) -> Result<SecretId, Failure> {
    let committed = api.view.read();
    let Some(secret) = committed.world.secret_named(name) else {
        let text = format!("no secret is named `{name}`; `keywheel get secrets` lists them");
        return Err(Failure::not_found(text));
    };
    if secret.place().is_none() {
        return Err(Failure::invalid(
            Rejection::NotOutside(name.clone()).to_string(),
        ));
    }
    Ok(secret.id)
}

fn words(found: &Found) -> (&'static str, Option<String>) {
    match found {
        Found::Unchanged => ("unchanged", None),
        Found::Changed => ("changed", None),
        Found::Busy => ("busy", None),
        Found::Absent => ("absent", None),
        Found::Failed { reason } => ("failed", Some(reason.clone())),
    }
}
