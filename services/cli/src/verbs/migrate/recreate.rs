//! From what the engine says of a container to what it is told to create: the mapper.
//!
//! Pure. Invariants: what is not known here is carried over as it is; nothing is left out but what the
//! engine measured itself; the variables are put in at the very end, by whoever sends it.

use serde_json::{Map, Value, json};

use super::endpoints::{self, Networks};
use super::engine::{Api, Change};
use super::json::{is_empty, members, text, text_at};
use crate::exit::{Exit, Failure};

/// Digits of an id that engines use as a name.
const SHORT_ID: usize = 12;
/// Labels of those who would make the container anew by themselves.
const OWNERS: [(&str, &str); 2] = [
    ("com.docker.swarm.task.id", "Docker Swarm"),
    ("io.kubernetes.pod.name", "Kubernetes"),
];
/// Where programs keep what does not outlive them, and what the engine puts there itself.
const PASSING: [&str; 7] = [
    "/tmp",
    "/run",
    "/var/run",
    "/var/tmp",
    "/var/lock",
    "/dev",
    "/sbin/docker-init",
];

/// What is to be created, without variables, and how it is connected.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recreation {
    body: Map<String, Value>,
    /// Networks beside the first.
    pub(super) networks: Networks,
}

impl Recreation {
    /// The whole body, with the variables.
    pub(super) fn body(&self, env: Vec<String>) -> Map<String, Value> {
        let mut body = self.body.clone();
        body.insert("Env".to_owned(), Value::from(env));
        body
    }
}

/// Whether a container as it is now can be recreated at all.
pub(super) fn refuse_impossible(about: &Value) -> Result<(), Failure> {
    let name = name(about);
    let no = |why: &str, next: String| {
        Err(Failure::new(
            Exit::Conflict,
            format!("{name} cannot be migrated: {why}"),
            next,
        ))
    };
    let is = |pointer: &str| about.pointer(pointer).and_then(Value::as_bool) == Some(true);
    if is("/HostConfig/AutoRemove") {
        let next =
            "stop it and run it under the runtime by hand: deploy/docs/migrate.md".to_owned();
        return no(
            "it is removed when it stops (--rm), so it could not be put back",
            next,
        );
    }
    if !is("/State/Running") || is("/State/Restarting") {
        let next = format!("start it (`docker start {name}`), then repeat the command");
        return no(
            "it does not run, so nobody could see whether the new one does as well",
            next,
        );
    }
    if is("/State/Paused") {
        let next = format!("go on with it (`docker unpause {name}`), then repeat the command");
        return no("it is paused", next);
    }
    for (label, owner) in OWNERS {
        let labels = about.pointer("/Config/Labels");
        if labels.is_some_and(|labels| labels.get(label).is_some()) {
            let next = format!("name runtime and placeholders in its description at {owner}");
            return no(
                &format!("it is {owner}'s, which would replace it again"),
                next,
            );
        }
    }
    Ok(())
}

/// A container's name, without the slash.
pub(super) fn name(about: &Value) -> &str {
    text(about, "Name").trim_start_matches('/')
}

/// The first digits of a container's id.
pub(super) fn short_id(about: &Value) -> &str {
    short(text(about, "Id"))
}

/// The first digits of an id, which engines and people use as a name.
pub(super) fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// What to tell the engine so that the same container comes out, under another runtime.
pub(super) fn recreation(
    about: &Value,
    image: &Value,
    runtime: &str,
    api: Api,
) -> Result<Recreation, Failure> {
    let part = |name: &str| {
        let found = about.get(name).and_then(Value::as_object).cloned();
        found.ok_or_else(|| {
            Failure::new(
                Exit::Unexpected,
                format!("what Docker says of the container has no {name}"),
                "report this fault of keywheel, with what `docker version` prints",
            )
        })
    };
    let (mut body, mut host) = (part("Config")?, part("HostConfig")?);
    body.remove("Env");
    keep_entrypoint(&mut body, image);
    leave_what_is_shared(&mut body, &host);
    keep_volumes(&mut host, about);
    host.insert("Runtime".to_owned(), runtime.into());
    let networks = endpoints::of(about, api);
    body.insert("HostConfig".to_owned(), Value::Object(host));
    if let Some((network, settings)) = &networks.first {
        let endpoints = json!({ "EndpointsConfig": { network: settings } });
        body.insert("NetworkingConfig".to_owned(), endpoints);
    }
    Ok(Recreation { body, networks })
}

/// None in place of the image's one is said by an empty word; nothing said means the image's.
fn keep_entrypoint(body: &mut Map<String, Value>, image: &Value) {
    let of_image = image.pointer("/Config/Entrypoint");
    let has_none = body.get("Entrypoint").is_none_or(is_empty);
    if has_none && !of_image.is_none_or(is_empty) {
        body.insert("Entrypoint".to_owned(), json!([""]));
    }
}

/// Whether a container lives in another's network.
pub(super) fn shares_network(host: &Map<String, Value>) -> bool {
    text_at(host, "NetworkMode").starts_with("container:")
}

/// Who lives in another's network, or has the host's name, may not name these; they come by themselves.
fn leave_what_is_shared(body: &mut Map<String, Value>, host: &Map<String, Value>) {
    let shares = shares_network(host);
    if shares || text_at(host, "UTSMode") == "host" {
        body.remove("Hostname");
        body.remove("Domainname");
    }
    if shares {
        body.remove("ExposedPorts");
    }
}

/// Names the volumes that the engine named itself: without that it would make new, empty ones.
fn keep_volumes(host: &mut Map<String, Value>, about: &Value) {
    let bound: Vec<String> = members(host.get("Binds"))
        .filter_map(|bind| bind.as_str()?.split(':').nth(1).map(clean))
        .collect();
    let declared = about.pointer("/Config/Volumes").and_then(Value::as_object);
    let declared: Vec<String> = declared
        .into_iter()
        .flatten()
        .map(|(path, _)| clean(path))
        .collect();
    let borrows = !host.get("VolumesFrom").is_none_or(is_empty);
    let mut mounts: Vec<Value> = members(host.get("Mounts")).cloned().collect();
    for mount in members(about.get("Mounts")) {
        let (volume, at) = (text(mount, "Name"), clean(text(mount, "Destination")));
        if text(mount, "Type") != "volume" || volume.is_empty() || bound.contains(&at) {
            continue;
        }
        let same = mounts
            .iter_mut()
            .find(|mount| clean(text(mount, "Target")) == at);
        match same {
            Some(mount) => name_source(mount, volume),
            // From another container: it is named there.
            None if borrows && !declared.contains(&at) => {}
            None => {
                let is_writable = mount.get("RW").and_then(Value::as_bool) != Some(false);
                mounts.push(json!({
                    "Type": "volume",
                    "Source": volume,
                    "Target": at,
                    "ReadOnly": !is_writable,
                    "VolumeOptions": { "NoCopy": true },
                }));
            }
        }
    }
    if !mounts.is_empty() {
        host.insert("Mounts".to_owned(), mounts.into());
    }
}

fn name_source(mount: &mut Value, volume: &str) {
    let Some(mount) = mount.as_object_mut() else {
        return;
    };
    if !mount.get("Source").is_none_or(is_empty) {
        return;
    }
    mount.insert("Source".to_owned(), volume.into());
    let options = mount
        .entry("VolumeOptions")
        .or_insert_with(|| Value::Object(Map::new()));
    if options.is_null() {
        *options = Value::Object(Map::new());
    }
    if let Some(options) = options.as_object_mut() {
        options.insert("NoCopy".to_owned(), true.into());
    }
}

/// A path without slashes at its end.
fn clean(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// Paths that the container wrote in its own layer, and that would be lost with it.
pub(super) fn lost(changes: &[Change], about: &Value) -> Vec<String> {
    let mounts: Vec<String> = members(about.get("Mounts"))
        .map(|mount| clean(text(mount, "Destination")))
        .chain(tmpfs(about))
        .collect();
    let is_below = |path: &str, top: &str| {
        let rest = path.strip_prefix(top);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let is_of_mount = |path: &str| {
        let mut mounts = mounts.iter();
        mounts.any(|mount| is_below(path, mount) || is_below(mount, path))
    };
    let is_passing = |path: &str| PASSING.iter().any(|top| is_below(path, top));
    // A directory is listed with what is in it; that tells.
    let is_parent = |path: &str| {
        let mut others = changes.iter();
        others.any(|other| other.path != path && is_below(&other.path, path))
    };
    let lost = changes.iter().filter(|change| {
        let path = change.path.as_str();
        !is_of_mount(path) && !is_passing(path) && !is_parent(path)
    });
    lost.map(|change| change.path.clone()).collect()
}

fn tmpfs(about: &Value) -> impl Iterator<Item = String> {
    let found = about
        .pointer("/HostConfig/Tmpfs")
        .and_then(Value::as_object);
    found.into_iter().flatten().map(|(path, _)| clean(path))
}
