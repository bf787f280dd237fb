//! Revocations of more than one secret, what each would do, and a person's step into one that runs.
//!
//! Each secret is revoked by a command of its own: one that is refused holds up no other. A repeat under the same
//! `Idempotency-Key` is told what the first one began, and hits secrets alone that that did not get to.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use futures_util::{StreamExt as _, stream};
use keywheel_core::command::{Command, Replacing};
use keywheel_core::decision::scope::{Hit, Scope, hits, is_known_service, reached_by_bindings};
use keywheel_core::id::{CommandId, HostId, RevocationId, RotationId};
use keywheel_core::name::{SecretName, StoreName};
use keywheel_core::revocation::Revocation;
use keywheel_core::secret::Secret;
use keywheel_core::world::World;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_policy::{Principal, Resource, Verb};
use keywheel_schemas::api::{
    ForgetRequest, RefusedRevocation, RevocationView, RevokeByAnswer, RevokeByRequest, RevokePlan,
    RevokeScope,
};
use serde::Deserialize;

use super::payload::{Object, Payload};
use super::read::revocation_told;
use super::under_way::Kind;
use super::{Api, Caller, Failure, Named, deed, gates};
use crate::admission::{Demand, demands};
use crate::views;

/// Secrets that one request revokes.
const MAX_SECRETS: usize = 20_000;
/// Revocations of one request that are decided at once; others' have places beside them.
pub(super) const AT_ONCE: usize = 64;
/// A service that is none: what policies let it have, they let every service have.
const NOBODY: &str = "-";

/// A scope, as it stands in a query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeQuery {
    secret: Option<String>,
    version: Option<u64>,
    prefix: Option<String>,
    store: Option<String>,
    container: Option<String>,
    image: Option<String>,
    service: Option<String>,
    emergency: Option<bool>,
    replace: Option<bool>,
    principal: Option<String>,
}

/// The one thing that a scope names, and what whoever asks should look at first.
async fn scope_of(api: &Api, wish: RevokeScope) -> Result<(Scope, Option<String>), Failure> {
    let RevokeScope {
        secret,
        version,
        prefix,
        store,
        container,
        image,
        service,
        principal,
    } = wish;
    if version.is_some() && secret.is_none() {
        let text = "`version` is of one secret; name that with `secret`";
        return Err(Failure::invalid(text));
    }
    let mut note = None;
    let principal = match principal {
        Some(text) => Some(reach_of(api, &text).await.map(|(scope, said)| {
            note = said;
            scope
        })),
        None => None,
    };
    let named: Vec<Result<Scope, Failure>> = [
        secret.map(|name| secret_scope(&name, version)),
        prefix.map(|path| prefix_scope(&path)),
        store.map(|name| store_scope(&name)),
        container.map(|name| Ok(Scope::Container(name))),
        image.map(|digest| Ok(Scope::Image(digest))),
        service.map(|name| Ok(Scope::Service(name))),
        principal,
    ]
    .into_iter()
    .flatten()
    .collect();
    match <[_; 1]>::try_from(named) {
        Ok([one]) => one.map(|scope| (scope, note)),
        Err(_) => Err(Failure::invalid(
            "name exactly one of `secret`, `prefix`, `store`, `container`, `image`, `service` and `principal`",
        )),
    }
}

/// What was meant, as it was asked for.
fn meant(wish: &RevokeScope) -> String {
    let named = [
        ("secret", &wish.secret),
        ("path", &wish.prefix),
        ("store", &wish.store),
        ("container", &wish.container),
        ("image", &wish.image),
        ("service", &wish.service),
        ("principal", &wish.principal),
    ];
    let one = named.into_iter().find_map(|(kind, name)| {
        let name = name.as_deref()?;
        Some(format!("{kind} `{}`", super::bounded(name)))
    });
    let one = one.unwrap_or_default();
    match wish.version {
        Some(version) => format!("version {version} of {one}"),
        None => one,
    }
}

/// Every secret that policies let a service have, that a binding grants it, or that its containers have; and a word to
/// whoever named one that nothing here knows.
async fn reach_of(api: &Api, text: &str) -> Result<(Scope, Option<String>), Failure> {
    let principal = Principal::parse(text).map_err(|e| Failure::invalid(e.to_string()))?;
    let Principal::Service { name: service, .. } = &principal else {
        return Err(Failure::invalid(format!(
            "`{text}` has no values, only services do (`service:NAME`): a person's tokens are revoked with `keywheel token revoke --owner`, and a host is evicted"
        )));
    };
    api.commands.look_at_head().await?;
    let (names, bound, is_known) = {
        let committed = api.view.read();
        let world = &committed.world;
        let all = world.declared_secrets();
        let names: Vec<SecretName> = all.map(|secret| secret.name.clone()).collect();
        // Without a set of one's own a binding gives by itself, and what was given before one lies there yet.
        let bound = reached_by_bindings(world, service);
        (names, bound, is_known_service(world, service))
    };
    let (in_force, now) = (api.in_force(), gates::seconds(api.clock.now()));
    // A decision for each secret takes a while; other requests go on meanwhile.
    let asking = tokio::task::spawn_blocking(move || {
        let may = |who: &Principal, name: &SecretName| {
            let need = Demand::new(Verb::Read, Resource::Secret(name.to_string()));
            in_force.admit(who, &[need], now).is_ok()
        };
        let names = names.into_iter().filter(|name| may(&principal, name));
        let reached: BTreeSet<SecretName> = names.collect();
        let nobody = Principal::Service {
            name: NOBODY.to_owned(),
            path: NOBODY.to_owned(),
        };
        let is_strange = !is_known && reached.iter().all(|name| may(&nobody, name));
        (reached, is_strange)
    });
    let (mut reached, is_strange) = asking.await.map_err(|_| {
        let text = "the policies were not asked to the end; try again";
        PortError::new(ErrorKind::Unavailable, text)
    })?;
    reached.extend(bound);
    let note = is_strange.then(|| {
        format!(
            "no binding names `{}` and no container of it is known: this is what policies let every service have; `keywheel get bindings` shows whether the name is right",
            super::bounded(text)
        )
    });
    Ok((Scope::Each(reached), note))
}

fn secret_scope(name: &str, version: Option<u64>) -> Result<Scope, Failure> {
    SecretName::parse(name)
        .map(|name| Scope::Secret(name, version))
        .map_err(|error| Failure::invalid(error.to_string()))
}

fn prefix_scope(path: &str) -> Result<Scope, Failure> {
    SecretName::parse(path.trim_end_matches('/'))
        .map(|path| Scope::Prefix(path.to_string()))
        .map_err(|error| Failure::invalid(format!("`prefix` is no path: {error}")))
}

fn store_scope(name: &str) -> Result<Scope, Failure> {
    StoreName::parse(name)
        .map(Scope::Store)
        .map_err(|error| Failure::invalid(error.to_string()))
}

/// What it hits now. In an emergency all of a secret dies, whatever of it was named.
fn hit_by(
    world: &World,
    (scope, meant): (&Scope, &str),
    emergency: bool,
) -> Result<Vec<Hit>, Failure> {
    let mut hit = hits(world, scope);
    if emergency {
        for one in &mut hit {
            let known = world.secrets.get(&one.secret);
            one.versions = known.map_or_else(Vec::new, Secret::alive);
            one.is_whole = true;
        }
    }
    if hit.is_empty() {
        let look = match scope {
            Scope::Container(_) | Scope::Image(_) | Scope::Service(_) => {
                ", and what a container had that is stopped or removed is not known here any more: look in `keywheel history` and in the audit, and revoke it by the secrets' names"
            }
            _ => "; `keywheel get secrets` and `keywheel consumers` list what there is",
        };
        return Err(Failure::not_found(format!(
            "nothing that is alive is meant by {meant}{look}"
        )));
    }
    bounded(hit.len(), MAX_SECRETS)?;
    Ok(hit)
}

fn bounded(hit: usize, most: usize) -> Result<(), Failure> {
    if hit <= most {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "it means {hit} secrets, and one request revokes at most {most}; name a longer path"
    )))
}

/// What `POST /v1/revoke-by` would do; looked at on the log's head, and nothing is appended.
pub(super) async fn plan(
    State(api): State<Api>,
    query: Result<Query<ScopeQuery>, QueryRejection>,
) -> Result<Json<RevokePlan>, Failure> {
    let Query(asked) = query?;
    let wish = RevokeScope {
        secret: asked.secret,
        version: asked.version,
        prefix: asked.prefix,
        store: asked.store,
        container: asked.container,
        image: asked.image,
        service: asked.service,
        principal: asked.principal,
    };
    let meant = meant(&wish);
    let (scope, note) = scope_of(&api, wish).await?;
    api.commands.look_at_head().await?;
    let committed = api.view.read();
    let is_emergency = asked.emergency.unwrap_or(false);
    let hit = hit_by(&committed.world, (&scope, &meant), is_emergency)?;
    let replace = asked.replace.filter(|replaces| *replaces);
    let replace = replace.map(|_| is_emergency);
    let contact = |host: HostId| api.view.contact(host);
    let now = api.clock.now();
    let plan = views::radius::revoke_plan(&committed.world, &hit, &contact, (now, replace));
    Ok(Json(RevokePlan { note, ..plan }))
}

/// One command of a request that leads to many.
pub(super) struct One {
    pub(super) name: SecretName,
    pub(super) version: Option<u64>,
}

/// How it is revoked, each like the others.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    /// Why, in a person's words.
    pub(super) reason: &'a str,
    /// Whether it goes before other revocations, too.
    pub(super) is_emergency: bool,
    /// Whether another version is made first.
    pub(super) replace: bool,
}

pub(super) async fn revoke_by(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<RevokeByRequest>,
) -> Result<Json<RevokeByAnswer>, Failure> {
    let Object(request) = body?;
    let meant = meant(&request.scope);
    let (scope, note) = scope_of(&api, request.scope).await?;
    api.commands.look_at_head().await?;
    let earlier = begun_before(&api, &caller);
    match earlier.is_empty() {
        true => admit(&api, &caller, &scope).await?,
        // They were admitted then, and what is left is asked for one by one.
        false => Api::each_by_itself(&caller),
    }
    let wanted = match commands_of(&api, (&scope, &meant), request.emergency) {
        // It is a repeat, and all of it is dead by now.
        Err(_) if !earlier.is_empty() => Vec::new(),
        wanted => wanted?,
    };
    let place = api.under_way.place(Kind::Revoke, &caller.principal)?;
    let (own, reason) = (api.clone(), request.reason);
    let (is_emergency, replace) = (request.emergency, request.replace);
    let left = by_secret(not_begun(wanted, &earlier));
    // Each leaves its record, and each is begun, also where who asked is gone.
    let revoking = async move {
        let how = How {
            reason: &reason,
            is_emergency,
            replace,
        };
        let works = left.into_iter();
        let works = works.map(|versions| revoke_in_turn(&own, &caller, versions, how));
        let works: Vec<_> = works.collect();
        Ok(stream::iter(works)
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await)
    };
    let begun = deed::to_its_end(&api, place, revoking).await?;
    let (mut revocations, mut refused) = (earlier, Vec::new());
    for one in begun.into_iter().flatten() {
        match one {
            Ok(view) => revocations.push(view),
            Err(no) => refused.push(no),
        }
    }
    Ok(Json(RevokeByAnswer {
        note,
        revocations,
        refused,
    }))
}

/// Whether all that is meant is theirs to revoke. What a store, container, image or service has, or may have, can be anybody's: where
/// it is not theirs, it takes the right to all there is, and nobody is told what it has.
async fn admit(api: &Api, caller: &Caller, scope: &Scope) -> Result<(), Failure> {
    let needs = {
        let committed = api.view.read();
        let world = &committed.world;
        match scope {
            Scope::Secret(name, _) => {
                vec![Demand::new(
                    Verb::Revoke,
                    Resource::Secret(name.to_string()),
                )]
            }
            Scope::Prefix(path) => demands::of_path(world, Verb::Revoke, path),
            Scope::Store(_)
            | Scope::Container(_)
            | Scope::Image(_)
            | Scope::Service(_)
            | Scope::Each(_) => demands::of_hits(world, Verb::Revoke, &hits(world, scope)),
        }
    };
    let is_theirs = !needs.is_empty() && api.may(caller, &needs);
    let needs = match scope {
        Scope::Secret(..) | Scope::Prefix(_) => needs,
        _ if is_theirs => needs,
        _ => vec![Demand::of_all(Verb::Revoke)],
    };
    api.admit_caller(caller, &needs).await?;
    Ok(())
}

/// What a request under the same `Idempotency-Key` began before, as far as it is known.
fn begun_before(api: &Api, caller: &Caller) -> Vec<RevocationView> {
    if !caller.has_key() {
        return Vec::new();
    }
    let is_sealed = api.presences.says_sealed();
    let committed = api.view.read();
    let world = &committed.world;
    let is_ours = |open: &&Revocation| {
        let Some(secret) = world.secrets.get(&open.secret) else {
            return false;
        };
        let drawn = |version| caller.draw(api, &drawn_for(&secret.name, version));
        // One of them is what was asked for; what died with it was not.
        let mut asked = std::iter::once(None).chain(open.versions.iter().copied().map(Some));
        asked.any(|version| RevocationId::from_bytes(drawn(version)) == open.id)
    };
    let ours = world.revocations.values().filter(is_ours);
    ours.filter_map(|open| revocation_told(&committed, open.id, is_sealed))
        .collect()
}

/// What the request did not get to before: what came since is none of its business. Of one secret it begins with the
/// newest version.
fn not_begun(mut wanted: Vec<One>, earlier: &[RevocationView]) -> Vec<One> {
    let mut begun: BTreeMap<&str, u64> = BTreeMap::new();
    for view in earlier {
        let newest = begun.entry(view.secret.as_str()).or_default();
        let versions = view.versions.iter().copied();
        *newest = versions.max().unwrap_or(0).max(*newest);
    }
    wanted.retain(|one| match begun.get(one.name.as_str()) {
        Some(newest) => one.version.is_some_and(|version| version < *newest),
        None => true,
    });
    wanted
}

/// What the id of a revocation is drawn for.
fn drawn_for(name: &SecretName, version: Option<u64>) -> String {
    let which = version.map_or_else(|| "all".to_owned(), |version| version.to_string());
    format!("revocation/{name}/{which}")
}

fn commands_of(api: &Api, meant: (&Scope, &str), emergency: bool) -> Result<Vec<One>, Failure> {
    let committed = api.view.read();
    let world = &committed.world;
    let mut wanted = Vec::new();
    for hit in hit_by(world, meant, emergency)? {
        let Some(secret) = world.secrets.get(&hit.secret) else {
            continue;
        };
        let versions = match hit.is_whole {
            true => vec![None],
            false => hit.versions.into_iter().rev().map(Some).collect(),
        };
        wanted.extend(versions.into_iter().map(|version| One {
            name: secret.name.clone(),
            version,
        }));
    }
    Ok(wanted)
}

/// What is wanted of each secret, in the order in which it was.
fn by_secret(wanted: Vec<One>) -> Vec<Vec<One>> {
    let mut all: Vec<Vec<One>> = Vec::new();
    for one in wanted {
        match all.last_mut() {
            Some(same) if same.iter().all(|other| other.name == one.name) => same.push(one),
            _ => all.push(vec![one]),
        }
    }
    all
}

/// Versions of one secret, the newest first. Where one lives on, those before it are not asked for: a repeat goes on
/// with what is older than what began, so it would take that one for what came since.
pub(super) async fn revoke_in_turn(
    api: &Api,
    caller: &Caller,
    versions: Vec<One>,
    how: How<'_>,
) -> Vec<Result<RevocationView, RefusedRevocation>> {
    let mut all = Vec::new();
    let mut left = versions.into_iter();
    while let Some(one) = left.next() {
        let (name, version) = (one.name.clone(), one.version);
        let mut begun = revoke_one(api, caller, one, how).await;
        let lives_on = begun.is_err() && is_alive(api, &name, version);
        if let (Err(no), true, 1..) = (&mut begun, lives_on, left.len()) {
            no.reason
                .push_str("; its older versions were not revoked either, repeat it");
        }
        all.push(begun);
        if lives_on {
            break;
        }
    }
    all
}

fn is_alive(api: &Api, name: &SecretName, version: Option<u64>) -> bool {
    let committed = api.view.read();
    let secret = committed.world.secret_named(name);
    secret.is_some_and(|secret| {
        let alive = secret.alive();
        version.map_or(!alive.is_empty(), |version| alive.contains(&version))
    })
}

async fn revoke_one(
    api: &Api,
    caller: &Caller,
    One { name, version }: One,
    how: How<'_>,
) -> Result<RevocationView, RefusedRevocation> {
    let what = drawn_for(&name, version);
    let revocation = RevocationId::from_bytes(caller.draw(api, &what));
    let command = caller.draw(api, &format!("command/{what}"));
    let (reason, is_emergency) = (how.reason.to_owned(), how.is_emergency);
    let secret = name.clone();
    let wish = match how.replace {
        false => Command::Revoke {
            revocation,
            secret,
            version,
            reason,
            is_emergency,
        },
        true => Command::Replace(Replacing {
            revocation,
            rotation: RotationId::from_bytes(caller.draw(api, &format!("rotation/{what}"))),
            secret,
            version,
            reason,
            is_emergency,
        }),
    };
    let refused = |failure: Failure| RefusedRevocation {
        secret: name.to_string(),
        reason: failure.detail().to_owned(),
    };
    let submitted = api.submit_as(caller, CommandId::from_bytes(command), wish);
    let _accepted = submitted.await.map_err(refused)?;
    api.revocation_view(revocation).map_err(refused)
}

/// One of the two words that it takes; whose it is the connection says, and nobody else.
pub(super) async fn forget(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    body: Payload<ForgetRequest>,
) -> Result<Json<RevocationView>, Failure> {
    let Object(ForgetRequest { reason }) = body?;
    let revocation =
        RevocationId::parse(&id).map_err(|error| Failure::invalid(error.to_string()))?;
    let command = Command::ForgetRevocation {
        revocation,
        by: caller.principal.clone(),
        reason,
    };
    api.submit(&caller, command).await?;
    api.revocation_view(revocation).map(Json)
}

#[cfg(test)]
mod tests {
    use keywheel_schemas::api::RevocationStates;

    use super::*;

    #[test]
    fn a_repeat_goes_on_with_what_the_first_one_did_not_get_to_and_spares_what_came_since() {
        let begun = RevocationView {
            revocation_id: RevocationId::from_bytes([1; 16]).to_string(),
            secret: "prod/db".to_owned(),
            versions: vec![3],
            state: "running".to_owned(),
            backend: "asked".to_owned(),
            waiting_hosts: Vec::new(),
            reason: "leaked".to_owned(),
            withdrawn_ms: None,
            states: RevocationStates::default(),
            next_step: None,
        };
        let left = |name: &str, version| {
            let name = SecretName::parse(name).unwrap();
            let left = not_begun(vec![One { name, version }], std::slice::from_ref(&begun));
            !left.is_empty()
        };
        assert!(left("prod/db", Some(2)), "older, and alive yet");
        for since in [None, Some(3), Some(4)] {
            assert!(!left("prod/db", since), "{since:?}");
        }
        assert!(left("prod/api", None) && left("prod/api", Some(1)));
    }

    #[test]
    fn what_is_wanted_of_one_secret_is_done_in_turn() {
        let one = |name: &str, version| One {
            name: SecretName::parse(name).unwrap(),
            version,
        };
        let wanted = vec![
            one("prod/api", None),
            one("prod/db", Some(3)),
            one("prod/db", Some(2)),
        ];
        let versions = by_secret(wanted).into_iter();
        let versions = versions.map(|all| all.into_iter().map(|one| one.version).collect());
        let versions: Vec<Vec<Option<u64>>> = versions.collect();
        assert_eq!(versions, [vec![None], vec![Some(3), Some(2)]]);
    }

    #[test]
    fn one_request_revokes_so_many_and_names_the_bound_beyond() {
        assert!(bounded(MAX_SECRETS, MAX_SECRETS).is_ok());
        let refused = bounded(MAX_SECRETS + 1, MAX_SECRETS).unwrap_err();
        let bound = MAX_SECRETS.to_string();
        assert!(refused.detail().contains(&bound), "{}", refused.detail());
    }
}
