//! Which secrets a step means, and which of their versions: looked up once, when the step begins.
//!
//! Invariant: what means nothing is said to, so that a name which is off is not taken for a deed that is done.

use std::collections::{BTreeMap, BTreeSet};

use super::super::scope::{Hit, Scope, hits};
use super::super::secret_or_reject;
use crate::host::Host;
use crate::id::{HostId, SecretId};
use crate::name::{HostName, SecretName, StoreName};
use crate::playbook::{MAX_TARGETS, Selection};
use crate::secret::Secret;
use crate::world::World;

/// A secret that a step means.
pub(super) struct Meant<'w> {
    /// Which.
    pub(super) secret: &'w Secret,
    /// Which of its versions; `None` for all of it.
    pub(super) versions: Option<BTreeSet<u64>>,
}

type Found<'w> = BTreeMap<&'w SecretName, Meant<'w>>;

/// Secrets that selections mean, each once, by name.
pub(super) fn selected<'w>(
    world: &'w World,
    selections: &[Selection],
) -> Result<Vec<Meant<'w>>, String> {
    let mut found: Found<'w> = BTreeMap::new();
    for selection in selections {
        match selection {
            Selection::Secret { name } => {
                let name = SecretName::parse(name).map_err(|fault| fault.to_string())?;
                let secret = secret_or_reject(world, &name).map_err(|no| no.to_string())?;
                add(&mut found, secret, None);
            }
            Selection::HeldBy { host } => {
                let ids = held_by(world, host_of(world, host)?);
                let all = ids.iter().filter_map(|id| world.secrets.get(id));
                for secret in all.filter(|one| is_declared(one)) {
                    add(&mut found, secret, None);
                }
            }
            Selection::Prefix { path } => {
                // Whoever means all says so by a name, not by an empty parameter.
                let path = path.trim_end_matches('/');
                SecretName::parse(path).map_err(|fault| fault.to_string())?;
                let all = world.secrets.values().filter(|one| is_declared(one));
                let below: Vec<&Secret> = all.filter(|one| is_below(&one.name, path)).collect();
                if below.is_empty() {
                    return Err(format!("no secret is named `{path}` or lies below it"));
                }
                for secret in below {
                    add(&mut found, secret, None);
                }
            }
            Selection::Store { .. }
            | Selection::Container { .. }
            | Selection::Image { .. }
            | Selection::Service { .. } => add_hits(world, selection, &mut found)?,
        }
    }
    let count = found.len();
    if count > MAX_TARGETS {
        return Err(format!(
            "it means {count} secrets; at most {MAX_TARGETS} are allowed; use longer prefixes in several steps"
        ));
    }
    Ok(found.into_values().collect())
}

/// All of it is more than some of its versions.
fn add<'w>(found: &mut Found<'w>, secret: &'w Secret, versions: Option<&[u64]>) {
    let versions = versions.map(|all| all.iter().copied().collect::<BTreeSet<u64>>());
    match found.get_mut(&secret.name) {
        None => {
            found.insert(&secret.name, Meant { secret, versions });
        }
        Some(known) => match (&mut known.versions, versions) {
            (Some(known), Some(more)) => known.extend(more),
            (whole, _) => *whole = None,
        },
    }
}

/// What a store has, or a container, an image or a service.
fn add_hits<'w>(
    world: &'w World,
    selection: &Selection,
    found: &mut Found<'w>,
) -> Result<(), String> {
    let text = selection.text();
    let (what, scope) = match selection {
        Selection::Store { .. } => {
            let name = StoreName::parse(text).map_err(|fault| fault.to_string())?;
            ("store", Scope::Store(name))
        }
        Selection::Image { .. } => ("image", Scope::Image(text.to_owned())),
        Selection::Service { .. } => ("service", Scope::Service(text.to_owned())),
        _ => ("container", Scope::Container(text.to_owned())),
    };
    let hit = hits(world, &scope);
    if hit.is_empty() {
        return Err(format!(
            "nothing that is alive is meant by {what} `{text}`; `keywheel consumers` lists who has what"
        ));
    }
    for Hit {
        secret,
        versions,
        is_whole,
    } in &hit
    {
        if let Some(secret) = world.secrets.get(secret) {
            add(found, secret, (!is_whole).then_some(versions));
        }
    }
    Ok(())
}

/// Whether a person declared it; a container's lease has its name from the engine.
pub(super) fn is_declared(secret: &Secret) -> bool {
    secret.lease_of().is_none()
}

fn is_below(name: &SecretName, path: &str) -> bool {
    let rest = name.as_str().strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A host by id or name; of those that were evicted only by id.
pub(super) fn host_of<'w>(world: &'w World, text: &str) -> Result<&'w Host, String> {
    if let Some(known) = HostId::parse(text).ok().and_then(|id| world.hosts.get(&id)) {
        return Ok(known);
    }
    let name = HostName::parse(text).map_err(|fault| fault.to_string())?;
    let known = world.host_named(&name);
    known.ok_or_else(|| format!("no host is named `{name}`; `keywheel host list` lists them"))
}

/// All that a host may hold or have held.
fn held_by(world: &World, host: &Host) -> BTreeSet<SecretId> {
    let was_given = |secret: &&Secret| {
        let mut given = secret.delivered.keys();
        given.any(|(to, _)| *to == host.id)
    };
    let given = world.secrets.values().filter(was_given);
    let given = given.map(|secret| secret.id);
    let assigned = world.assignments_at(host.id).map(|(_, one)| one.secret);
    given
        .chain(assigned)
        .chain(host.held.keys().copied())
        .collect()
}
