//! Stores outside as people see them: what was declared, and how store-sync finds them.

use keywheel_core::name::StoreName;
use keywheel_core::secret::Secret;
use keywheel_core::store::{Backend, Declared};
use keywheel_core::world::World;
use keywheel_schemas::api::{Component, FactView, HealthWord, StorePage, StoreSecret, StoreView};
use keywheel_schemas::event::store::{Source, StoreSpec};
use keywheel_schemas::mirror::Mirror;

use super::count;

/// Every store, `local` not among them.
#[must_use]
pub fn list(world: &World, health: &[Component]) -> Vec<StoreView> {
    let mut stores: Vec<StoreView> = world
        .stores
        .values()
        .map(|known| view(world, known, health))
        .collect();
    stores.sort_by(|one, other| one.name.cmp(&other.name));
    stores
}

/// One store, with what lies in it.
#[must_use]
pub fn page(world: &World, name: &StoreName, health: &[Component]) -> Option<StorePage> {
    let known = world.store_named(name)?;
    let declared = declared_in(world, name);
    let mut secrets: Vec<StoreSecret> = declared.filter_map(secret).collect();
    secrets.sort_by(|one, other| one.name.cmp(&other.name));
    Some(StorePage {
        store: view(world, known, health),
        spec: StoreSpec::of(&known.store.spec),
        secrets,
    })
}

fn secret(secret: &Secret) -> Option<StoreSecret> {
    let place = secret.place()?;
    let written = |known: &keywheel_core::store::RemoteVersion| {
        let remote = secret.remotes.iter().find(|remote| remote.remote == *known);
        remote.is_some_and(|remote| remote.written)
    };
    Some(StoreSecret {
        name: secret.name.to_string(),
        source: Source::of(&place.source),
        known: secret.known.as_ref().map(|known| known.0.clone()),
        written: secret.known.as_ref().is_some_and(written),
        current: secret.current,
        generated: secret.spec.generator.is_some(),
    })
}

fn view(world: &World, known: &Declared, health: &[Component]) -> StoreView {
    let (name, spec) = (&known.store.name, &known.store.spec);
    let facts = health
        .iter()
        .find(|component| component.name == name.as_str());
    let worst = facts.and_then(|component| component.facts.iter().max_by_key(|fact| fact.state));
    let unheard = || FactView {
        name: "store".to_owned(),
        state: HealthWord::Unknown,
        note: "no store-sync told about it yet".to_owned(),
        next: Some("it tells every ten seconds; is it running? `keywheel status`".to_owned()),
    };
    let fact = worst.cloned().unwrap_or_else(unheard);
    StoreView {
        name: name.to_string(),
        kind: spec.backend.word().to_owned(),
        address: address(&spec.backend),
        poll_seconds: spec.poll.as_secs(),
        secrets: count(declared_in(world, name).count()),
        health: fact.state,
        note: fact.note,
        next: fact.next,
    }
}

/// Where it is, in a word.
fn address(backend: &Backend) -> String {
    match backend {
        Backend::Vault(vault) => format!("{}/{}", vault.address, vault.mount),
        Backend::Aws(aws) if !aws.endpoint.is_empty() => aws.endpoint.clone(),
        Backend::Aws(aws) if !aws.region.is_empty() => aws.region.clone(),
        Backend::Aws(_) => "region of the standard chain".to_owned(),
    }
}

/// Secrets that a person declared in a store: a container's lease is none.
fn declared_in<'w>(world: &'w World, name: &'w StoreName) -> impl Iterator<Item = &'w Secret> {
    let secrets = world.secrets_in(name);
    secrets.filter(|secret| secret.lease_of().is_none())
}
