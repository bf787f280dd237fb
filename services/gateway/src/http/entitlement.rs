//! Whether a container gets a secret: asked with what its engine says of it, decided as its host would.
//!
//! Nothing follows from the facts that a request names: they are compared and told back, and no container is served
//! by them. Whoever may list the secret may ask; other secrets that a binding gives with it are named to nobody who
//! may not list those.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::Method;
use axum::routing::{MethodRouter, get};
use keywheel_core::binding::{Binding, ContainerFacts, Spec};
use keywheel_core::id::ContainerId;
use keywheel_core::name::{HostName, SecretName};
use keywheel_policy::Resource;
use keywheel_schemas::api::EntitlementView;
use serde::Deserialize;

use super::read::with_secret;
use super::{Api, Caller, Failure, Named};
use crate::views::entitlement::entitlement;

/// The route.
pub(super) fn routes() -> Vec<(Method, &'static str, MethodRouter<Api>)> {
    vec![(Method::GET, "/v1/explain/{*name}", get(explain))]
}

/// What is known of a container.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FactsQuery {
    host: Option<String>,
    id: Option<String>,
    name: Option<String>,
    image_digest: Option<String>,
    image: Option<String>,
    user: Option<String>,
    labels: Option<String>,
}

impl FactsQuery {
    fn read(self) -> Result<(HostName, ContainerFacts), Failure> {
        let host = self.host.ok_or_else(|| lacking("host"))?;
        let host = HostName::parse(&host).map_err(|e| Failure::invalid(e.to_string()))?;
        let id = self.id.ok_or_else(|| lacking("id"))?;
        let id = ContainerId::parse(&id).map_err(|e| Failure::invalid(e.to_string()))?;
        let labels: BTreeMap<String, String> = match self.labels {
            None => BTreeMap::new(),
            // serde's own words may quote a label.
            Some(text) => serde_json::from_str(&text).map_err(|_| {
                Failure::invalid(
                    "`labels` has to be an object of texts like {\"app\": \"payments\"}",
                )
            })?,
        };
        let facts = ContainerFacts {
            id,
            name: self.name.unwrap_or_default(),
            image_digest: self.image_digest.unwrap_or_default(),
            image_name: self.image.unwrap_or_default(),
            labels,
            user: self.user,
        };
        Ok((host, facts))
    }
}

fn lacking(name: &str) -> Failure {
    Failure::invalid(format!(
        "`{name}` is not given; name the container's `host` and its full `id`"
    ))
}

async fn explain(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    query: Result<Query<FactsQuery>, QueryRejection>,
) -> Result<Json<EntitlementView>, Failure> {
    let (host, facts) = query?.0.read()?;
    let seen = seen_beside(&api, &caller, &name)?;
    let is_seen = |name: &SecretName| seen.contains(name);
    with_secret(&api, &name, |committed, secret| {
        entitlement(&committed.world, secret, (&host, &facts), &is_seen)
    })
    .map(Json)
}

/// What bindings give together with a secret, as far as the caller may list it. It is asked while nothing of the state
/// is held.
fn seen_beside(api: &Api, caller: &Caller, name: &str) -> Result<BTreeSet<SecretName>, Failure> {
    let given: BTreeSet<SecretName> = with_secret(api, name, |committed, secret| {
        let world = &committed.world;
        let bindings = world.bindings.values();
        let specs = bindings.filter_map(Binding::declared);
        let own = specs.filter(|spec| spec.names(secret.id));
        let ids = own.flat_map(Spec::secrets);
        let known = ids.filter_map(|id| world.secrets.get(&id));
        known.map(|known| known.name.clone()).collect()
    })?;
    let given: Vec<SecretName> = given.into_iter().collect();
    let resource = |name: &SecretName| [Resource::Secret(name.to_string())];
    Ok(api.rows_for(caller, given, resource).into_iter().collect())
}
