//! What a revocation of more than one secret is about: which versions of which secrets.
//!
//! It decides nothing: each of them is revoked by a command of its own, so that one which cannot be does not
//! hold up the others, and ten thousand do not make one append. Invariant: what is dead is not named.

use std::collections::{BTreeMap, BTreeSet};

use super::revoke;
use crate::assignment::Key;
use crate::binding::{Binding, Spec};
use crate::host::Had;
use crate::id::{BindingId, SecretId};
use crate::lease;
use crate::name::{SecretName, StoreName};
use crate::rotation::Rotation;
use crate::secret::Secret;
use crate::world::World;

/// Fewest digits by which a container may be named.
pub const MIN_CONTAINER_DIGITS: usize = 12;

/// What a revocation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One secret, or one version of it.
    Secret(SecretName, Option<u64>),
    /// Every secret at this path or below it.
    Prefix(String),
    /// Every secret whose values lie in this store.
    Store(StoreName),
    /// Whatever a container has, or is to have; by its name, or its id or the beginning of that.
    Container(String),
    /// The same of every container of an image, by its config digest.
    Image(String),
    /// The same of every container of a service: `PROJECT/SERVICE` under Compose, or `SERVICE` for that service
    /// of whatever project; the service's name under Swarm.
    Service(String),
    /// These secrets, however somebody came upon them.
    Each(BTreeSet<SecretName>),
}

/// One secret that a revocation hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The secret.
    pub secret: SecretId,
    /// The versions that would die, oldest first.
    pub versions: Vec<u64>,
    /// Whether it is all of the secret, also what is alive only when it is decided.
    pub is_whole: bool,
}

/// What a scope hits now, in the order of names.
#[must_use]
pub fn hits(world: &World, scope: &Scope) -> Vec<Hit> {
    let mut hits = match scope {
        Scope::Secret(name, version) => world
            .secret_named(name)
            .and_then(|secret| one(world, secret, *version))
            .into_iter()
            .collect(),
        Scope::Prefix(path) => all_of(world, |secret| is_below(&secret.name, path)),
        Scope::Store(store) => all_of(world, |secret| {
            secret.place().is_some_and(|place| place.store == *store)
        }),
        Scope::Each(names) => all_of(world, |secret| names.contains(&secret.name)),
        Scope::Container(container) => had_by(world, |one| is_named((one.id, one.name), container)),
        Scope::Image(digest) => had_by(world, |one| one.image_digest == *digest),
        Scope::Service(service) => had_by(world, |one| is_of(one.service, service)),
    };
    let name = |hit: &Hit| world.secrets.get(&hit.secret).map(|secret| &secret.name);
    hits.sort_by(|one, other| name(one).cmp(&name(other)));
    hits
}

/// The secrets that bindings grant a service by the name that policies know it by, and those that its containers have, or
/// are to have, whatever grants them: also under a binding for it that grants nothing any more. What gives leases stands
/// for its leases.
#[must_use]
pub fn reached_by_bindings(world: &World, service: &str) -> BTreeSet<SecretName> {
    let all = world.bindings.values();
    let its: Vec<&Binding> = all.filter(|known| is_for(known, service)).collect();
    let granting = its.iter().filter_map(|known| known.spec.as_ref());
    let granted = granting.flat_map(Spec::secrets);
    let ids: BTreeSet<BindingId> = its.iter().map(|known| known.id).collect();
    let is_its = |one: &Seen<'_>| {
        one.service == service || one.binding.is_some_and(|binding| ids.contains(&binding))
    };
    let had = had_by(world, is_its).into_iter();
    let reached = granted.chain(had.map(|hit| world.home(hit.secret)));
    let known = reached.filter_map(|id| world.secrets.get(&id));
    known.map(|secret| secret.name.clone()).collect()
}

/// Whether a binding is for a service of this name, or a container of it is known. Where not, the name may be mistyped.
#[must_use]
pub fn is_known_service(world: &World, service: &str) -> bool {
    let mut bindings = world.bindings.values();
    let mut assigned = world.assignments.values();
    let mut quarantined = world.quarantines();
    bindings.any(|known| is_for(known, service))
        || assigned.any(|state| state.service == service)
        || quarantined.any(|(_, one)| one.subject.service == service)
}

/// Whether a binding is for a service, also while policies withhold it. One that is unbound is known by its name alone.
fn is_for(binding: &Binding, service: &str) -> bool {
    match binding.declared() {
        Some(spec) => spec.service(&binding.name) == service,
        None => binding.name.as_str() == service,
    }
}

/// What revoking it kills, and the rotation that is cancelled by that.
#[must_use]
pub fn struck<'w>(world: &'w World, hit: &Hit) -> (Vec<u64>, Option<&'w Rotation>) {
    match world.secrets.get(&hit.secret) {
        Some(secret) => revoke::struck(world, secret, &hit.versions),
        None => (hit.versions.clone(), None),
    }
}

/// Whether a name is this path, or lies below it. A slash at its end is left out.
fn is_below(name: &SecretName, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let rest = name.as_str().strip_prefix(path);
    !path.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn one(world: &World, secret: &Secret, version: Option<u64>) -> Option<Hit> {
    let Some(version) = version else {
        return whole(world, secret);
    };
    secret.is_deliverable(version).then(|| Hit {
        secret: secret.id,
        versions: vec![version],
        is_whole: false,
    })
}

/// All that is alive of a secret; of one that gives leases, they are.
fn whole(world: &World, secret: &Secret) -> Option<Hit> {
    let versions = secret.alive();
    let has_leases = secret.gives_leases() && world.leases_of(secret.id).next().is_some();
    (has_leases || !versions.is_empty()).then_some(Hit {
        secret: secret.id,
        versions,
        is_whole: true,
    })
}

/// A lease goes with the secret that gives it.
fn all_of(world: &World, is_meant: impl Fn(&Secret) -> bool) -> Vec<Hit> {
    let secrets = world.secrets.values();
    let meant = secrets.filter(|secret| !lease::is_name(&secret.name) && is_meant(secret));
    meant.filter_map(|secret| whole(world, secret)).collect()
}

/// Whether a container, given by its id and name, is meant.
pub(super) fn is_named((id, name): (&str, &str), meant: &str) -> bool {
    (meant.len() >= MIN_CONTAINER_DIGITS && id.starts_with(meant)) || name == meant
}

/// Whether a container of this service is meant.
pub(super) fn is_of(service: &str, meant: &str) -> bool {
    let last = service.rsplit_once('/').map(|(_, last)| last);
    !meant.is_empty() && (service == meant || last == Some(meant))
}

/// The versions before the current one that may lie in a container's file beside it.
pub(super) fn beside(world: &World, key: &Key, secret: &Secret) -> impl Iterator<Item = u64> {
    let binding = world.bindings.get(&key.binding);
    let spec = binding.and_then(|binding| binding.spec.as_ref());
    let is_named = spec.is_some_and(|spec| spec.previous.contains(&secret.id));
    let before = [secret.retained, secret.retained_before];
    before.into_iter().flatten().filter(move |_| is_named)
}

/// What a container is meant by.
struct Seen<'w> {
    id: &'w str,
    name: &'w str,
    image_digest: &'w str,
    service: &'w str,
    /// What gave it this; of what a container in quarantine had it is not known.
    binding: Option<BindingId>,
}

/// What containers have, are to have, or run on, as far as it is alive; of those in quarantine what they had by then.
fn had_by(world: &World, is_meant: impl Fn(&Seen<'_>) -> bool) -> Vec<Hit> {
    let mut had: BTreeMap<SecretId, BTreeSet<u64>> = BTreeMap::new();
    for (key, state) in &world.assignments {
        let id = key.container.to_string();
        let seen = Seen {
            id: &id,
            name: &state.container_name,
            image_digest: &state.image_digest,
            service: &state.service,
            binding: Some(key.binding),
        };
        if !is_meant(&seen) {
            continue;
        }
        let Some(secret) = world.secrets.get(&state.secret) else {
            continue;
        };
        let versions = [state.holds, state.runs_on, state.assigned].into_iter();
        let alive = versions
            .chain(beside(world, key, secret))
            .filter(|one| secret.is_deliverable(*one));
        had.entry(secret.id).or_default().extend(alive);
    }
    for (_, one) in world.quarantines() {
        let id = one.subject.container.to_string();
        let seen = Seen {
            id: &id,
            name: &one.subject.name,
            image_digest: &one.subject.image_digest,
            service: &one.subject.service,
            binding: None,
        };
        for Had {
            secret, version, ..
        } in one.had.iter().filter(|_| is_meant(&seen))
        {
            let known = world.secrets.get(secret);
            if known.is_some_and(|known| known.is_deliverable(*version)) {
                had.entry(*secret).or_default().insert(*version);
            }
        }
    }
    had.retain(|_, versions| !versions.is_empty());
    let hit = |(secret, versions): (SecretId, BTreeSet<u64>)| Hit {
        secret,
        versions: versions.into_iter().collect(),
        is_whole: false,
    };
    had.into_iter().map(hit).collect()
}
