//! The blast radius of a revocation: secret, version, host, container, image and resource, and who stops. Pure.

use std::collections::BTreeSet;

use keywheel_core::assignment::{self, Assignment};
use keywheel_core::binding::{OnRevoke, Reload, Target};
use keywheel_core::decision::scope::{Hit, struck};
use keywheel_core::host::LEASE;
use keywheel_core::id::{ContainerId, HostId, SecretId};
use keywheel_core::rotation::{Phase, Rotation};
use keywheel_core::secret::Secret;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::presence::SILENT_AFTER;
use keywheel_engine::state::Contact;
use keywheel_schemas::api::{AwayHost, PlannedLoss, PlannedRevocation, RevokePlan};
use keywheel_schemas::mirror::TextForm as _;

use super::replacement::{Planned, planned};
use super::{beside, count, host_name};

/// What revoking these would do at this time; hosts were heard as `contact` says. With `replace` another version is
/// made of each first, in an emergency or not.
#[must_use]
pub fn revoke_plan(
    world: &World,
    hits: &[Hit],
    contact: &dyn Fn(HostId) -> Option<Contact>,
    (now, replace): (Timestamp, Option<bool>),
) -> RevokePlan {
    let mut hosts: BTreeSet<HostId> = BTreeSet::new();
    let (mut losing, mut stopping) = (BTreeSet::new(), BTreeSet::new());
    let mut restarting = BTreeSet::new();
    let mut secrets = Vec::new();
    for hit in hits {
        let Some(secret) = world.secrets.get(&hit.secret) else {
            continue;
        };
        let planned = replace.map(|is_emergency| planned(world, (secret, hit), is_emergency, now));
        let (dying, beaten, next) = dying(world, secret, hit, planned.as_ref());
        let is_refused = planned.as_ref().is_some_and(|planned| planned.is_refused);
        let words = planned.map(|planned| planned.words);
        if is_refused {
            secrets.push(planned_revocation(secret, &dying, words));
            continue;
        }
        let hit = &dying;
        let losses = losses(world, secret, hit, next);
        for (key, loss) in &losses {
            let instance: (HostId, &ContainerId) = (key.host, &key.container);
            losing.insert(instance);
            if loss.stops {
                stopping.insert(instance);
            }
            if loss.restarts {
                restarting.insert(instance);
            }
        }
        let holding = holding(world, secret, hit);
        hosts.extend(holding.iter().copied());
        let holding = holding.iter().map(|host| host_name(world, *host));
        secrets.push(PlannedRevocation {
            cancels: beaten.map(|open| open.id.to_string()),
            hosts: holding.collect(),
            consumers: losses.into_iter().map(|(_, loss)| loss).collect(),
            ..planned_revocation(secret, hit, words)
        });
    }
    // One that stops does not restart.
    let restarting = restarting.difference(&stopping).count();
    let away = away(world, &hosts, contact, now);
    RevokePlan {
        note: None,
        secrets,
        containers: count(losing.len()),
        stops: count(stopping.len()),
        restarts: count(restarting),
        away,
        hosts: count(hosts.len()),
    }
}

/// What dies of a secret, before anybody is known to lose it.
fn planned_revocation(secret: &Secret, hit: &Hit, words: Option<String>) -> PlannedRevocation {
    PlannedRevocation {
        secret: secret.name.to_string(),
        versions: hit.versions.clone(),
        store: secret
            .place()
            .map_or_else(|| "local".to_owned(), |place| place.store.to_string()),
        resource: secret.spec.rotator.as_ref().map(ToString::to_string),
        is_proven: is_proven(secret),
        cancels: None,
        hosts: Vec::new(),
        consumers: Vec::new(),
        replacement: words,
    }
}

/// What of a hit dies, the rotation that ends with it, and the version that takes its place.
fn dying<'w>(
    world: &'w World,
    secret: &Secret,
    hit: &Hit,
    planned: Option<&Planned>,
) -> (Hit, Option<&'w Rotation>, Option<u64>) {
    let left = |versions| Hit {
        versions,
        ..hit.clone()
    };
    match planned {
        Some(planned) if planned.is_refused => (left(Vec::new()), None, None),
        Some(Planned {
            versions: Some(versions),
            next,
            ..
        }) => (left(versions.clone()), None, *next),
        _ => {
            let (versions, beaten) = struck(world, hit);
            let dying = left(versions);
            let next = replacement(world, secret, &dying, beaten);
            (dying, beaten, next)
        }
    }
}

/// Those of these hosts that are not heard.
#[must_use]
pub fn away(
    world: &World,
    hosts: &BTreeSet<HostId>,
    contact: &dyn Fn(HostId) -> Option<Contact>,
    now: Timestamp,
) -> Vec<AwayHost> {
    let named = |host: &HostId| away_host(host_name(world, *host), contact(*host), now);
    hosts.iter().filter_map(named).collect()
}

/// A host that is not heard, and until when it may start containers with what it holds.
fn away_host(host: String, contact: Option<Contact>, now: Timestamp) -> Option<AwayHost> {
    let seen = contact.map(|contact| contact.at);
    if seen.is_some_and(|at| now.since(at) <= SILENT_AFTER) {
        return None;
    }
    Some(AwayHost {
        host,
        last_seen: seen.map(|at| at.text()),
        starts_until: seen.map(|at| at.plus(LEASE).text()),
    })
}

fn is_proven(secret: &Secret) -> bool {
    secret.spec.rotator.is_some()
}

/// The secrets whose copies die: it, or the leases that it gives.
fn given(world: &World, secret: &Secret) -> Vec<SecretId> {
    match secret.gives_leases() {
        true => world.leases_of(secret.id).map(|lease| lease.id).collect(),
        false => vec![secret.id],
    }
}

/// Hosts that were granted one of the versions, or have a container that holds one.
fn holding(world: &World, secret: &Secret, hit: &Hit) -> BTreeSet<HostId> {
    let is_meant = |version: &u64| secret.gives_leases() || hit.versions.contains(version);
    let mut hosts = BTreeSet::new();
    for id in given(world, secret) {
        let known = world.secrets.get(&id).into_iter();
        let granted = known.flat_map(|known| known.delivered.keys());
        let granted = granted.filter(|(_, version)| is_meant(version));
        hosts.extend(granted.map(|(host, _)| *host));
        let held = world
            .consumers(id)
            .filter(|(_, state)| is_meant(&state.holds));
        hosts.extend(held.map(|(key, _)| key.host));
    }
    hosts
}

/// The version that takes the place of what dies: the current one, where that lives on, or the one that canaries have
/// already, which everybody gets at once then.
fn replacement(
    world: &World,
    secret: &Secret,
    hit: &Hit,
    beaten: Option<&Rotation>,
) -> Option<u64> {
    let lives = |version: &u64| !hit.versions.contains(version);
    let ahead = world.open_rotation(secret.id);
    let ahead = ahead.filter(|open| open.phase == Phase::Canary && beaten.is_none());
    let ahead = ahead.map(|open| open.version).filter(lives);
    let current = secret.current.filter(lives);
    current.or(ahead)
}

/// Everybody who has what dies, and what befalls them; `next` takes its place, where anything does.
fn losses<'w>(
    world: &'w World,
    secret: &Secret,
    hit: &Hit,
    next: Option<u64>,
) -> Vec<(&'w assignment::Key, PlannedLoss)> {
    let is_lost = |state: &Assignment| {
        let has = [state.holds, state.runs_on];
        let is_held = has.iter().any(|version| hit.versions.contains(version));
        secret.gives_leases() || is_held
    };
    let mut losses = Vec::new();
    for id in given(world, secret) {
        for (key, state) in world.consumers(id) {
            let before = beside(world, key, state);
            let before = before.filter(|version| hit.versions.contains(version));
            match (is_lost(state), before) {
                (true, _) => losses.push((key, loss(world, key, state, next))),
                (false, Some(version)) => losses.push((key, rewritten(world, key, state, version))),
                (false, None) => {}
            }
        }
    }
    losses
}

/// Whose file has it as the version before the current one.
fn rewritten(
    world: &World,
    key: &assignment::Key,
    state: &Assignment,
    version: u64,
) -> PlannedLoss {
    PlannedLoss {
        version,
        action: "file made again without it, as the version before".to_owned(),
        stops: false,
        restarts: false,
        ..loss(world, key, state, None)
    }
}

fn loss(
    world: &World,
    key: &assignment::Key,
    state: &Assignment,
    next: Option<u64>,
) -> PlannedLoss {
    let binding = world.bindings.get(&key.binding);
    let spec = binding.and_then(|known| known.spec.as_ref());
    let is_env = spec.is_some_and(|spec| matches!(spec.target, Target::Env { .. }));
    let on_revoke = spec.map(|spec| spec.on_revoke).unwrap_or_default();
    let is_restarted = spec.is_some_and(|spec| matches!(spec.reload, Reload::Restart { .. }));
    let (action, stops, restarts) = match next {
        Some(next) => (
            replaced(is_env, is_restarted, next),
            false,
            is_env || is_restarted,
        ),
        None => (
            action(is_env, on_revoke).to_owned(),
            is_env || on_revoke == OnRevoke::Stop,
            !is_env && on_revoke == OnRevoke::Restart,
        ),
    };
    PlannedLoss {
        container: key.container.to_string(),
        name: state.container_name.clone(),
        image: state.image_digest.clone(),
        host: host_name(world, key.host),
        binding: binding.map_or_else(String::new, |known| known.name.to_string()),
        version: state.holds,
        action,
        stops,
        restarts,
    }
}

/// What befalls a container that gets another version at once, in words.
fn replaced(is_env: bool, is_restarted: bool, next: u64) -> String {
    match (is_env, is_restarted) {
        (true, _) => format!("restarted with version {next}"),
        (false, true) => format!("file replaced by version {next}, then restarted"),
        (false, false) => format!("file replaced by version {next}"),
    }
}

/// What befalls a container that gets no other version, in words.
const fn action(is_env: bool, on_revoke: OnRevoke) -> &'static str {
    match (is_env, on_revoke) {
        (true, _) => "stopped: the value is in its environment",
        (false, OnRevoke::Remove) => "file removed",
        (false, OnRevoke::Restart) => "file removed, then restarted without it",
        (false, OnRevoke::Disconnect) => "file removed, then cut off its networks",
        (false, OnRevoke::Pause) => "file removed, then paused",
        (false, OnRevoke::Stop) => "file removed, then stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_heard_is_not_away_and_one_that_is_says_until_when_it_starts_containers() {
        let at = Timestamp::from_micros(1_767_492_000_000_000);
        let heard = |now| {
            let contact = Contact {
                at,
                acknowledged: None,
            };
            away_host("web-1".to_owned(), Some(contact), now)
        };
        assert_eq!(heard(at.plus(SILENT_AFTER)), None);
        let now = at.plus(SILENT_AFTER * 2);
        let silent = heard(now).unwrap();
        assert_eq!(silent.last_seen, Some(at.text()));
        assert_eq!(silent.starts_until, Some(at.plus(LEASE).text()));
        let never = away_host("web-1".to_owned(), None, now).unwrap();
        assert_eq!((never.last_seen, never.starts_until), (None, None));
    }
}
