//! Verbs that only look.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::id::{HostId, RevocationId, RotationId};
use keywheel_core::name::{BindingName, SecretName};
use keywheel_core::rotation::Rotation;
use keywheel_core::world::World;
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::replay::replay;
use keywheel_engine::state::Committed;
use keywheel_engine::unseal::is_sealed;
use keywheel_policy::Resource;
use keywheel_schemas::api::{
    BindingView, ConsumerView, RevocationView, RotationView, ScheduleView, SecretView, StoreKey,
    VerifyReport, VersionView,
};
use serde::Deserialize;

use super::pages::{self, Order, PageQuery, Paged};
use super::status::copy_faults;
use super::{Api, Caller, Failure, MAX_WAIT, Named, STASH_TIMEOUT, refused};
use crate::views;

/// Fires of a schedule that are told when nobody says how many.
const DEFAULT_FIRES: usize = 5;
/// Most fires that are told at once.
const MAX_FIRES: usize = 100;

pub(super) async fn store_key(State(api): State<Api>) -> Result<Json<StoreKey>, Failure> {
    let answer = api
        .bus
        .request(Address::StoreSync, None, Body::ReadStoreKey, STASH_TIMEOUT)
        .await?;
    let key = match answer {
        Body::StoreKey(key) => key,
        Body::Failed { kind, text } if is_sealed(kind, &text) => {
            return Err(PortError::new(kind, text).into());
        }
        _ => return Err(Failure::not_found("store-sync gave no key; see its log")),
    };
    Ok(Json(StoreKey {
        public_key: STANDARD.encode(key),
        deployment: api.deployment.to_string(),
    }))
}

pub(super) async fn secrets(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let now = api.clock.now();
    let drafts: Vec<views::SecretDraft> = {
        let committed = api.view.read();
        // A container's lease is shown with the secret that a person declared.
        let secrets = committed.world.declared_secrets();
        secrets
            .map(|secret| views::secret(&committed, secret, now))
            .collect()
    };
    let drafts = drafts.into_iter();
    let views = drafts.map(|draft| draft.finish(api.next_fires)).collect();
    let of = |view: &SecretView| [Resource::Secret(view.name.clone())];
    let mut views = api.rows_for(&caller, views, of);
    views.sort_by(|a, b| a.name.cmp(&b.name));
    let by_name = (Order::ByKey, |view: &SecretView| view.name.clone());
    pages::answer("/v1/secrets", views, by_name, &page)
}

pub(super) fn with_secret<T>(
    api: &Api,
    name: &str,
    view: impl FnOnce(&Committed, &keywheel_core::secret::Secret) -> T,
) -> Result<T, Failure> {
    let name = SecretName::parse(name).map_err(|e| Failure::invalid(e.to_string()))?;
    let committed = api.view.read();
    let secret = committed.world.secret_named(&name).ok_or_else(|| {
        Failure::not_found(format!(
            "no secret is named `{name}`; `keywheel get secrets` lists them"
        ))
    })?;
    Ok(view(&committed, secret))
}

/// What to tell of a secret besides.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretQuery {
    #[serde(default)]
    refused_starts: bool,
}

pub(super) async fn secret(
    State(api): State<Api>,
    Named(name): Named,
    query: Result<Query<SecretQuery>, QueryRejection>,
) -> Result<Json<SecretView>, Failure> {
    let Query(SecretQuery { refused_starts }) = query?;
    let now = api.clock.now();
    let draft = with_secret(&api, &name, |committed, s| views::secret(committed, s, now))?;
    let mut view = draft.finish(api.next_fires);
    if refused_starts {
        view.refused_starts = refused::recent(&api, &view.name).await?;
    }
    Ok(Json(view))
}

/// How many fires.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FiresQuery {
    count: Option<usize>,
}

pub(super) async fn schedule(
    State(api): State<Api>,
    Named(name): Named,
    query: Result<Query<FiresQuery>, QueryRejection>,
) -> Result<Json<ScheduleView>, Failure> {
    let Query(FiresQuery { count }) = query?;
    let count = count.unwrap_or(DEFAULT_FIRES);
    if !(1..=MAX_FIRES).contains(&count) {
        return Err(Failure::invalid(format!(
            "`count` is {count}; ask for 1 to {MAX_FIRES} fires"
        )));
    }
    let now = api.clock.now();
    let draft = with_secret(&api, &name, |committed, s| {
        views::schedule(committed, s, (now, count))
    })?;
    Ok(Json(draft.finish(api.outlook)))
}

pub(super) async fn versions(
    State(api): State<Api>,
    Named(name): Named,
) -> Result<Json<Vec<VersionView>>, Failure> {
    with_secret(&api, &name, |committed, s| {
        views::versions(&committed.world, s)
    })
    .map(Json)
}

pub(super) async fn bindings(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let views: Vec<BindingView> = {
        let committed = api.view.read();
        let world = &committed.world;
        let all = world.bindings.values();
        all.filter_map(|b| views::binding(world, b)).collect()
    };
    let of = |view: &BindingView| {
        let names = std::iter::once(&view.secret).chain(&view.also);
        let names = names.cloned().map(Resource::Secret);
        names.collect::<Vec<_>>()
    };
    let mut views = api.rows_for(&caller, views, of);
    views.sort_by(|a, b| a.name.cmp(&b.name));
    let by_name = (Order::ByKey, |view: &BindingView| view.name.clone());
    pages::answer("/v1/bindings", views, by_name, &page)
}

pub(super) async fn binding(
    State(api): State<Api>,
    Named(name): Named,
) -> Result<Json<BindingView>, Failure> {
    let name = BindingName::parse(&name).map_err(|e| Failure::invalid(e.to_string()))?;
    let committed = api.view.read();
    let world = &committed.world;
    world
        .binding_named(&name)
        .and_then(|b| views::binding(world, b))
        .map(Json)
        .ok_or_else(|| {
            Failure::not_found(format!(
                "no binding is named `{name}`; `keywheel get bindings` lists them"
            ))
        })
}

/// Which consumers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsumersQuery {
    secret: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

pub(super) async fn consumers(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ConsumersQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(ConsumersQuery {
        secret,
        limit,
        after,
    }) = query?;
    let (path, views) = match secret {
        Some(name) => {
            let views = with_secret(&api, &name, |committed, s| {
                views::consumers(committed, Some(s))
            })?;
            (
                format!("/v1/consumers?secret={}", pages::escape(&name)),
                views,
            )
        }
        None => (
            "/v1/consumers".to_owned(),
            views::consumers(&api.view.read(), None),
        ),
    };
    let of = |view: &ConsumerView| [Resource::Secret(view.secret.clone())];
    let mut views = api.rows_for(&caller, views, of);
    let key = |view: &ConsumerView| {
        let ConsumerView {
            host,
            container,
            binding,
            secret,
            ..
        } = view;
        format!("{host}/{container}/{binding}/{secret}")
    };
    // Consumers come and go: the next page begins after a key, whether its row is still there or not.
    views.sort_by_cached_key(key);
    let page = PageQuery { limit, after };
    pages::answer(&path, views, (Order::ByKey, key), &page)
}

pub(super) async fn rotations(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let is_sealed = api.presences.says_sealed();
    let views = {
        let committed = api.view.read();
        let ids = committed.rotations_newest_first().into_iter();
        let views = ids.filter_map(|id| rotation_told(&committed, id, is_sealed));
        views.collect()
    };
    let of = |view: &RotationView| [Resource::Secret(view.secret.clone())];
    let views = api.rows_for(&caller, views, of);
    let by_id = (Order::Other, |view: &RotationView| view.rotation_id.clone());
    pages::answer("/v1/rotations", views, by_id, &page)
}

pub(super) async fn revocations(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    let is_sealed = api.presences.says_sealed();
    let views = {
        let committed = api.view.read();
        let ids = committed.revocations_newest_first().into_iter();
        let views = ids.filter_map(|id| told_of(&api, &committed, id, is_sealed));
        views.collect()
    };
    let of = |view: &RevocationView| [Resource::Secret(view.secret.clone())];
    let views = api.rows_for(&caller, views, of);
    let by_id = (Order::Other, |view: &RevocationView| {
        view.revocation_id.clone()
    });
    pages::answer("/v1/revocations", views, by_id, &page)
}

/// How long to wait for the end, in seconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    pub(super) wait: Option<u64>,
}

/// How long a request waits: as asked, and never longer than [`MAX_WAIT`].
fn patience(wait: Option<u64>) -> Duration {
    Duration::from_secs(wait.unwrap_or(0)).min(MAX_WAIT)
}

/// Shows something once it is final or the wait is over. Every commit wakes every wait, so what is looked at
/// then is only whether it goes on.
pub(super) async fn wait_for<T>(
    api: &Api,
    wait: Option<u64>,
    goes_on: impl Fn(&World) -> bool,
    show: impl Fn(&Committed) -> Result<T, Failure>,
) -> Result<Json<T>, Failure> {
    let mut bell = api.view.bell();
    let span = patience(wait);
    let over = tokio::time::sleep(span);
    tokio::pin!(over);
    loop {
        bell.borrow_and_update();
        {
            let committed = api.view.read();
            if span.is_zero() || !goes_on(&committed.world) {
                return show(&committed).map(Json);
            }
        }
        tokio::select! {
            () = &mut over => break,
            changed = bell.changed() => if changed.is_err() { break },
        }
    }
    show(&api.view.read()).map(Json)
}

pub(super) async fn rotation(
    State(api): State<Api>,
    Named(id): Named,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Json<RotationView>, Failure> {
    let id = RotationId::parse(&id).map_err(|e| Failure::invalid(e.to_string()))?;
    let is_open = |world: &World| world.rotations.get(&id).is_some_and(Rotation::is_open);
    wait_for(&api, query?.0.wait, is_open, |committed| {
        rotation_told(committed, id, api.presences.says_sealed()).ok_or_else(|| {
            Failure::not_found(format!(
                "no rotation {id}, or it ended long ago; `keywheel events list` has all of them"
            ))
        })
    })
    .await
}

pub(super) async fn revocation(
    State(api): State<Api>,
    Named(id): Named,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Json<RevocationView>, Failure> {
    let id = RevocationId::parse(&id).map_err(|e| Failure::invalid(e.to_string()))?;
    let is_open = |world: &World| world.revocations.get(&id).is_some_and(|open| !open.closed);
    wait_for(&api, query?.0.wait, is_open, |committed| {
        told_of(&api, committed, id, api.presences.says_sealed()).ok_or_else(|| {
            Failure::not_found(format!(
                "no revocation {id}, or it ended long ago; `keywheel events list` has all of them"
            ))
        })
    })
    .await
}

/// One rotation, with what is in no log: whether store-sync, which does its steps, is sealed.
pub(super) fn rotation_told(
    committed: &Committed,
    id: RotationId,
    is_sealed: bool,
) -> Option<RotationView> {
    let view = views::rotation(committed, id)?;
    Some(match is_sealed {
        true => views::while_sealed(&committed.world, id, view),
        false => view,
    })
}

/// One revocation, with what is in no log: whether store-sync, which does its store's half, is sealed.
pub(super) fn revocation_told(
    committed: &Committed,
    id: RevocationId,
    is_sealed: bool,
) -> Option<RevocationView> {
    let view = views::revocation(committed, id)?;
    Some(match is_sealed {
        true => views::revocation_while_sealed(&committed.world, id, view),
        false => view,
    })
}

/// The same, with what this gateway heard of the hosts that it waits for.
fn told_of(
    api: &Api,
    committed: &Committed,
    id: RevocationId,
    is_sealed: bool,
) -> Option<RevocationView> {
    let mut view = revocation_told(committed, id, is_sealed)?;
    let open = committed.world.revocations.get(&id)?;
    let contact = |host: HostId| api.view.contact(host);
    let now = api.clock.now();
    view.states.away = views::radius::away(&committed.world, &open.waiting, &contact, now);
    Some(view)
}

pub(super) async fn verify(State(api): State<Api>) -> Result<Json<VerifyReport>, Failure> {
    let _place = api.scans.fold()?;
    let mut found = api.journal.verify().await?;
    let replayed = replay(&*api.journal, &api.view).await?;
    let differs = |what| format!("replay: {what}");
    found.faults.extend(replayed.difference.map(differs));
    // A journal that was cut or put back is whole in itself; only the copy elsewhere knows better.
    found.faults.extend(copy_faults(&api));
    Ok(Json(VerifyReport {
        verified: found.faults.is_empty(),
        events: found.events,
        audit_records: found.audit_records,
        replayed: replayed.events,
        faults: found.faults,
        removed_records: found.removed_records,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(patience(None), Duration::ZERO);
        assert_eq!(patience(Some(7)), Duration::from_secs(7));
        assert_eq!(patience(Some(u64::MAX)), MAX_WAIT);
    }
}
