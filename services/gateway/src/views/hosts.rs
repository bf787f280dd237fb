//! Hosts as people and tools see them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::host::{Host, LEASE, held_by_evicted};
use keywheel_core::id::{HostId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::state::{Contact, View};
use keywheel_schemas::api::{HeldView, HostPage, HostView};
use keywheel_schemas::mirror::TextForm as _;

use super::count;

/// All hosts by name, those that were evicted last.
#[must_use]
pub fn hosts(view: &View, now: Timestamp) -> Vec<HostView> {
    let committed = view.read();
    let world = &committed.world;
    let mut hosts: Vec<&Host> = world.hosts.values().collect();
    hosts.sort_by_key(|known| (known.is_evicted(), &known.name, known.id));
    hosts
        .into_iter()
        .map(|known| host(world, known, view.contact(known.id), now))
        .collect()
}

/// One host.
#[must_use]
pub fn host(world: &World, host: &Host, contact: Option<Contact>, now: Timestamp) -> HostView {
    let generation = world.host_generation(host.id);
    let contact = contact.filter(|_| !host.is_evicted());
    let acknowledged = contact.and_then(|contact| contact.acknowledged);
    let state = match (host.is_evicted(), host.signing_key) {
        (true, _) => "evicted",
        (false, Some(_)) => "joined",
        (false, None) => "enrolled",
    };
    let consumers = world.assignments.keys().filter(|key| key.host == host.id);
    HostView {
        name: host.name.to_string(),
        id: host.id.to_string(),
        state: state.to_owned(),
        generation,
        acknowledged,
        lag: acknowledged.map(|acknowledged| generation.saturating_sub(acknowledged)),
        last_seen: contact.map(|contact| contact.at.text()),
        consumers: count(consumers.count()),
        note: note(world, host, contact, now),
    }
}

fn note(world: &World, host: &Host, contact: Option<Contact>, now: Timestamp) -> Option<String> {
    if host.is_evicted() {
        let left = held_by_evicted(world, host.id).len();
        return (left > 0).then(|| {
            format!("secrets it may hold that are not rotated yet: {left}; `keywheel host describe {}` names them", host.id)
        });
    }
    let silent = contact.map(|contact| now.since(contact.at))?;
    (silent > LEASE).then(|| {
        format!(
            "silent for {} h, longer than its lease of {} h; it may have withdrawn its secrets",
            silent.as_secs() / 3600,
            LEASE.as_secs() / 3600
        )
    })
}

/// One host with its keys and what it may hold.
#[must_use]
pub fn host_page(
    world: &World,
    known: &Host,
    contact: Option<Contact>,
    now: Timestamp,
) -> HostPage {
    HostPage {
        host: host(world, known, contact, now),
        signing_key: known.signing_key.map(|key| STANDARD.encode(key)),
        sealing_key: STANDARD.encode(known.sealing_key),
        key_generation: known.key_generation,
        evicted_because: known.evicted.clone(),
        held: held(world, known.id),
    }
}

/// What a host may hold and is alive; of an evicted one, what is to be rotated.
#[must_use]
pub fn held(world: &World, host: HostId) -> Vec<HeldView> {
    let mut versions: BTreeMap<SecretId, Vec<u64>> = BTreeMap::new();
    for secret in world.secrets.values() {
        let granted = secret.delivered.keys().filter(|(of, _)| *of == host);
        let granted: Vec<u64> = granted.map(|(_, version)| *version).collect();
        if !granted.is_empty() {
            versions.insert(secret.id, granted);
        }
    }
    for left in held_by_evicted(world, host) {
        versions.insert(left.secret, left.alive);
    }
    let view = |(id, versions): (SecretId, Vec<u64>)| {
        let secret = world.secrets.get(&id)?;
        Some(HeldView {
            secret: secret.name.to_string(),
            current: secret.current.is_some_and(|v| versions.contains(&v)),
            versions,
        })
    };
    let mut held: Vec<HeldView> = versions.into_iter().filter_map(view).collect();
    held.sort_by(|a, b| a.secret.cmp(&b.secret));
    held
}
