//! What differs between a container and the one that was made after it: the judge over the mapper.
//!
//! Pure. Invariant: whatever is not named here is compared, so a field of a newer engine that gets lost
//! is found before anything is stopped.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::endpoints;
use super::json::{condensed, is_empty, members, text, text_at};
use super::recreate::shares_network;

/// What belongs to one container for itself, or is compared part by part below.
const OWN: [&str; 18] = [
    "AppArmorProfile",
    "Config",
    "Created",
    "ExecIDs",
    "GraphDriver",
    "HostConfig",
    "HostnamePath",
    "HostsPath",
    "Id",
    "LogPath",
    "MountLabel",
    "Mounts",
    "Name",
    "NetworkSettings",
    "ProcessLabel",
    "ResolvConfPath",
    "RestartCount",
    "State",
];
/// The same for parts that engines add at times, or on demand.
const OWN_SIZES: [&str; 3] = ["SizeRw", "SizeRootFs", "Storage"];
/// What a mount is, apart from how it was written down.
const OF_MOUNT: [&str; 5] = ["Type", "Name", "Driver", "RW", "Propagation"];

/// Paths at which the two differ, apart from runtime and variables.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<String> {
    let none = Map::new();
    let part = |value: &'_ Value, name: &str| {
        let found = value.get(name).and_then(Value::as_object);
        found.cloned().unwrap_or_else(|| none.clone())
    };
    let (host, new_host) = (part(before, "HostConfig"), part(after, "HostConfig"));
    let is_own = |name: &str| OWN.contains(&name) || OWN_SIZES.contains(&name);
    let mut found = fields(&top(before), &top(after), "", is_own);
    let is_hosts = shares_network(&host) || text_at(&host, "UTSMode") == "host";
    let is_named = |name: &str| {
        let is_name = name == "Hostname" || name == "Domainname";
        name == "Env" || (is_name && is_hosts)
    };
    let (config, new_config) = (part(before, "Config"), part(after, "Config"));
    found.extend(fields(&config, &new_config, "Config.", is_named));
    let is_judged = |name: &str| name == "Runtime" || name == "Mounts";
    found.extend(fields(&host, &new_host, "HostConfig.", is_judged));
    if !are_contained(host.get("Mounts"), new_host.get("Mounts")) {
        found.push("HostConfig.Mounts".to_owned());
    }
    found.extend(mounts(before, after));
    if endpoints::comparable(before) != endpoints::comparable(after) {
        found.push("NetworkSettings.Networks".to_owned());
    }
    found
}

fn top(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn fields(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    place: &str,
    is_left_out: impl Fn(&str) -> bool,
) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let said = |fields: &Map<String, Value>, name: &str| {
        condensed(fields.get(name).unwrap_or(&Value::Null))
    };
    let differs = |name: &str| {
        let (one, other) = (said(before, name), said(after, name));
        one != other && !(is_empty(&one) && is_empty(&other))
    };
    let names = names.into_iter();
    names
        .filter(|name| !is_left_out(name) && differs(name))
        .map(|name| format!("{place}{name}"))
        .collect()
}

/// Whether every mount that was asked for is asked for again; volumes without a name got theirs.
fn are_contained(before: Option<&Value>, after: Option<&Value>) -> bool {
    members(before).all(|mount| {
        members(after).any(|other| {
            let names = ["Type", "Target", "ReadOnly", "BindOptions", "TmpfsOptions"];
            let said = |mount: &Value, name: &str| {
                condensed(mount.get(name).unwrap_or(&Value::Bool(false)))
            };
            let source = text(mount, "Source");
            let is_same = names
                .iter()
                .all(|name| said(mount, name) == said(other, name));
            is_same && (source.is_empty() || source == text(other, "Source"))
        })
    })
}

/// Destinations at which something else is mounted.
fn mounts(before: &Value, after: &Value) -> Vec<String> {
    let of = |about: &Value| -> BTreeMap<String, Vec<Value>> {
        let mounts = members(about.get("Mounts"));
        mounts
            .map(|mount| {
                let said = |name: &&str| mount.get(*name).cloned().unwrap_or_default();
                let mut parts: Vec<Value> = OF_MOUNT.iter().map(said).collect();
                // Where the engine keeps a volume is its own matter.
                if text(mount, "Type") != "volume" {
                    parts.push(text(mount, "Source").into());
                    parts.push(text(mount, "Mode").into());
                }
                (text(mount, "Destination").to_owned(), parts)
            })
            .collect()
    };
    let (before, after) = (of(before), of(after));
    let places: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let places = places.into_iter();
    places
        .filter(|place| before.get(*place) != after.get(*place))
        .map(|place| format!("Mounts {place}"))
        .collect()
}
