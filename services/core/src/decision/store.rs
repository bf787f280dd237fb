//! Decisions about stores outside: what a person declares, and what store-sync sees there.

use super::{Context, Rejection, lease, rotate};
use crate::command::Observation;
use crate::event::Event;
use crate::id::StoreId;
use crate::name::{SecretName, StoreName};
use crate::rotation::{self, Trigger};
use crate::secret::{self, LOCAL_STORE, Secret, Store};
use crate::store::{self, StoreSpec};
use crate::world::World;

pub(super) fn declare(
    world: &World,
    id: StoreId,
    name: &StoreName,
    spec: &StoreSpec,
) -> Result<Vec<Event>, Rejection> {
    if name.as_str() == LOCAL_STORE {
        return Err(store::Rejection::NameTaken.into());
    }
    refuse_credentials(world, name, spec)?;
    let Some(known) = world.store_named(name) else {
        let declared = store::Event::Declared {
            name: name.clone(),
            spec: spec.clone(),
        };
        return Ok(vec![Event::Store(id, declared)]);
    };
    let moves = !known.store.spec.backend.is_same_server(&spec.backend);
    // What lies there has to be a place in the new kind of store, too.
    for secret in in_use(world, name) {
        if moves {
            lease::refuse_moved(world, secret)?;
            refuse_move(world, secret)?;
        }
        let fault = secret.place().and_then(|at| match secret.spec.lease {
            Some(_) => at.source.lease_fault(&spec.backend),
            None => at.source.fault(&spec.backend),
        });
        if let Some(reason) = fault {
            let secret = secret.name.clone();
            return Err(store::Rejection::NoPlace { secret, reason }.into());
        }
        let backend = Some(&spec.backend);
        Secret::refuse_keeping(&secret.name, &secret.spec, backend)?;
        Secret::refuse_draining(&secret.name, &secret.spec, backend)?;
    }
    let changed = known.decide_declare(spec);
    Ok(changed
        .map(|event| Event::Store(known.id, event))
        .into_iter()
        .collect())
}

/// Secrets of which something lies in a store. Of a lease that is over nothing does, and nobody could take its hidden
/// secret out of there.
fn in_use<'w>(world: &'w World, name: &'w StoreName) -> impl Iterator<Item = &'w Secret> {
    let secrets = world.secrets_in(name);
    secrets.filter(|secret| !world.is_lease_over(secret))
}

fn refuse_credentials(
    world: &World,
    name: &StoreName,
    spec: &StoreSpec,
) -> Result<(), store::Rejection> {
    let to = spec.backend.server();
    for secret in spec.credential_secrets() {
        let (store, secret, server) = (name.clone(), secret.clone(), to.to_owned());
        let known = world.secret_named(&secret);
        return Err(match known {
            None => store::Rejection::CredentialUnknown {
                store,
                secret,
                server,
            },
            Some(known) if known.place().is_some() => {
                store::Rejection::CredentialOutside { store, secret }
            }
            Some(known) if known.spec.credential_for.as_deref() != Some(to) => {
                store::Rejection::CredentialNotMeant {
                    store,
                    secret,
                    server,
                }
            }
            Some(_) => continue,
        });
    }
    Ok(())
}

/// Refuses to move a secret while something works at its place: a version there is a name of that
/// place alone, and elsewhere it may be somebody else's.
pub(super) fn refuse_move(world: &World, secret: &Secret) -> Result<(), Rejection> {
    let rotation = world.open_rotation(secret.id);
    let rotation = rotation.map(|open| format!("rotation {}", open.id));
    let revocation = world.unconfirmed_revocation(secret.id);
    let revocation = || revocation.map(|open| format!("revocation {}", open.id));
    match rotation.or_else(revocation) {
        None => Ok(()),
        Some(what) => {
            let secret = secret.name.clone();
            Err(store::Rejection::Working { secret, what }.into())
        }
    }
}

pub(super) fn remove(world: &World, name: &StoreName) -> Result<Vec<Event>, Rejection> {
    let known = world
        .store_named(name)
        .ok_or_else(|| store::Rejection::Unknown(name.clone()))?;
    if let Some(secret) = in_use(world, name).next() {
        let (store, secret) = (name.clone(), secret.name.clone());
        return Err(store::Rejection::InUse { store, secret }.into());
    }
    Ok(vec![Event::Store(known.id, store::Event::Removed)])
}

/// Takes word that a store answers, or does not; of a store that was removed it is worth nothing.
pub(super) fn note(
    world: &World,
    id: StoreId,
    failure: Option<&str>,
) -> Result<Vec<Event>, Rejection> {
    let known = world.stores.get(&id);
    let event = known.and_then(|known| known.decide_contact(failure));
    let events = event.map(|event| Event::Store(id, event)).into_iter();
    Ok(events.collect())
}

/// Refuses a place that is none, or another secret's; and to move a credential out of reach.
pub(super) fn refuse_place(
    world: &World,
    name: &SecretName,
    spec: &secret::Spec,
) -> Result<(), Rejection> {
    let Store::Outside(place) = &spec.store else {
        return Ok(());
    };
    let known = world
        .store_named(&place.store)
        .ok_or_else(|| store::Rejection::Unknown(place.store.clone()))?;
    let backend = &known.store.spec.backend;
    let fault = match spec.lease {
        Some(_) => place.source.lease_fault(backend),
        None => place.source.fault(backend),
    };
    let is_generated = spec.generator.is_some();
    let fault = fault.or_else(|| {
        let source = is_generated.then_some(&place.source)?;
        source.generator_fault(backend)
    });
    let makes_itself = backend.has_static_roles() && place.source.static_role().is_some();
    let fault = fault.or_else(|| {
        (makes_itself && spec.rotator.is_some()).then_some(
            "the server of a static role rotates its account itself; leave `rotator` out, or name a place where values are only kept",
        )
    });
    if let Some(reason) = fault {
        let secret = name.clone();
        return Err(store::Rejection::NoPlace { secret, reason }.into());
    }
    // Each login that a role gives is another one.
    if spec.lease.is_some() {
        return Ok(());
    }
    let is_there = |other: &&Secret| {
        let there = other.place().map(|at| &at.source);
        other.name != *name && there.is_some_and(|at| at.is_same_place(&place.source, backend))
    };
    if let Some(other) = world.secrets_in(&place.store).find(is_there) {
        let (secret, other) = (name.clone(), other.name.clone());
        return Err(store::Rejection::PlaceTaken { secret, other }.into());
    }
    let needs = |known: &&store::Declared| known.store.spec.credential_secrets().contains(&name);
    if let Some(user) = world.stores.values().find(needs) {
        let (store, secret) = (user.store.name.clone(), name.clone());
        return Err(store::Rejection::CredentialOutside { store, secret }.into());
    }
    Ok(())
}

/// Takes what store-sync saw. A look that was made against another known version than now is
/// refused: in between something of ours was written there, and the look may be older than that. The
/// version that is known is told only where a person wants it who had it passed over before.
pub(super) fn observed(
    world: &World,
    seen: &Observation,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let Some(secret) = world.secrets.get(&seen.secret) else {
        return Err(rotation::Rejection::Unknown(seen.rotation).into());
    };
    if secret.place().is_none() {
        return Err(store::Rejection::NotOutside(secret.name.clone()).into());
    }
    // What is current where the server makes the values may be what a revocation is about to end.
    let is_dying = secret.is_made_there() && world.unconfirmed_revocation(secret.id).is_some();
    if secret.known != seen.known || world.awaits_finish(secret.id) || is_dying {
        return Err(store::Rejection::LookOutdated(secret.name.clone()).into());
    }
    if secret.lease_of().is_some() {
        return lease::observed(world, secret, seen, ctx);
    }
    let Some(found) = &seen.found else {
        let makes_first = !secret.was_promoted && secret.spec.generator.is_some();
        return match makes_first {
            true => rotate::start(world, secret, seen.rotation, Trigger::Initial, ctx),
            false => Ok(Vec::new()),
        };
    };
    if secret.known.as_ref() == Some(found) && secret.passed_over().is_none() {
        return Ok(Vec::new());
    }
    if secret.revoked_remotes.contains(found) || world.is_cancelled_write(secret.id, found) {
        return Err(store::Rejection::RevokedThere(secret.name.clone()).into());
    }
    let remote = found.clone();
    if seen.is_unchanged {
        // What it was compared with is revoked since.
        let version = secret
            .current
            .ok_or_else(|| store::Rejection::LookOutdated(secret.name.clone()))?;
        let noted = secret::Event::RemoteVersionNoted {
            version,
            remote,
            written: false,
        };
        return Ok(vec![Event::Secret(secret.id, noted)]);
    }
    let trigger = Trigger::External {
        remote: remote.clone(),
    };
    let started = rotate::start(world, secret, seen.rotation, trigger, ctx)?;
    let detected = secret::Event::ExternalChangeDetected {
        remote,
        rotation: seen.rotation,
    };
    let mut events = vec![Event::Secret(secret.id, detected)];
    events.extend(started);
    Ok(events)
}
