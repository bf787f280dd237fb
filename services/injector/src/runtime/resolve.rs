//! Which version goes where, for a container that is being created. Pure.
//!
//! Invariant: a placeholder is a request; only a binding that matches the engine's facts, names the
//! variable and the secret, grants it (rule Z2). `{keywheel:file:NAME}` becomes the path of the secret's
//! file: no value, so it is nothing that the container holds, and no rotation changes it.

use keywheel_core::binding::{ContainerFacts, OnRevoke, Part, Target};
use keywheel_core::name::{BindingName, HostName};
use keywheel_core::plan::{Grant, HostPlan, PlannedBinding};

use crate::decide::place_of;
use crate::granted::{grant_of, is_quarantined, lacking, seen_by};
use crate::leases::{is_lease, meant};
use crate::runtime::wire::Refusal;
use crate::shared::Given;

/// What opens a placeholder.
const OPEN: &str = "{keywheel:";
/// What stands before the name where the path of the secret's file is meant; no name has a colon.
const FILE: &str = "file:";
/// Most parts of a binding's selector that a refusal names.
const MAX_PARTS: usize = 4;

/// One piece of an env value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As it stands.
    Text(String),
    /// A secret by name.
    Secret(String),
    /// The path of a secret's file, by the secret's name.
    File(String),
}

/// An env entry, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) pieces: Vec<Piece>,
}

/// What a container gets, decided.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen {
    pub(crate) entries: Vec<Entry>,
    /// What each secret of each entry is, in order of the pieces.
    pub(crate) env: Vec<(Given, Grant)>,
    pub(crate) files: Vec<(Given, Grant)>,
}

/// A "no" and what it is about.
#[derive(Debug, Clone)]
pub(crate) struct Denied {
    pub(crate) refusal: Refusal,
    /// The secret as it was asked for; empty when none is known.
    pub(crate) secret: String,
    /// What grants it; none where nothing does, or where that is not known.
    pub(crate) binding: Option<BindingName>,
}

/// Takes an entry apart; `None` when it has no name or an unclosed placeholder.
pub(crate) fn parse_entry(entry: &str) -> Option<Entry> {
    let (name, mut rest) = entry.split_once('=')?;
    let mut pieces = Vec::new();
    while let Some((before, after)) = rest.split_once(OPEN) {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let (secret, behind) = after.split_once('}')?;
        pieces.push(match secret.strip_prefix(FILE) {
            Some(secret) => Piece::File(secret.to_owned()),
            None => Piece::Secret(secret.to_owned()),
        });
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Some(Entry {
        name: name.to_owned(),
        pieces,
    })
}

/// Decides what a container gets.
pub(crate) fn choose(
    plan: &HostPlan,
    host: &HostName,
    facts: &ContainerFacts,
    env: &[String],
    mounts: &[String],
) -> Result<Chosen, Box<Denied>> {
    if is_quarantined(plan, &facts.id) {
        let error = format!("container {} is in quarantine", facts.name);
        let next = format!(
            "a person lifts that with `keywheel playbook lift {} --reason \"…\"`",
            facts.id.short()
        );
        return Err(denied(error, next, ""));
    }
    let plan = seen_by(plan, &facts.id);
    let matching = meant(&plan, host, facts);
    let mut chosen = Chosen::default();
    for text in env {
        let mut entry = parse_entry(text).ok_or_else(|| {
            let name = text.split('=').next().unwrap_or_default();
            denied(
                format!("the placeholder in {name} is not understood"),
                "write it as `{keywheel:NAME}`, or `{keywheel:file:NAME}` for the path of its file",
                "",
            )
        })?;
        for piece in &mut entry.pieces {
            match piece {
                Piece::Text(_) => {}
                Piece::Secret(secret) => {
                    let given = choose_env((&plan, &matching), host, facts, (&entry.name, secret))?;
                    chosen.env.push(given);
                }
                Piece::File(secret) => {
                    *piece = Piece::Text(path_of((&plan, &matching), host, facts, secret)?);
                }
            }
        }
        chosen.entries.push(entry);
    }
    let is_file = |binding: &&&PlannedBinding| !matches!(binding.target, Target::Env { .. });
    for binding in matching
        .iter()
        .filter(is_file)
        .filter(|one| !goes_without(one))
    {
        chosen.files.push(choose_file(binding, facts, mounts)?);
    }
    Ok(chosen)
}

/// Whether a container starts without a file: its value was revoked, nothing takes its place, and its binding says so.
fn goes_without(binding: &PlannedBinding) -> bool {
    let was_revoked = binding.floor > 0 || !binding.dead.is_empty();
    binding.on_revoke == OnRevoke::Restart && was_revoked && grant_of(binding).is_none()
}

fn choose_env(
    (plan, matching): (&HostPlan, &[&PlannedBinding]),
    host: &HostName,
    facts: &ContainerFacts,
    (variable, secret): (&str, &str),
) -> Result<(Given, Grant), Box<Denied>> {
    let gives = |binding: &&&PlannedBinding| {
        binding.secret_name.as_str() == secret
            && matches!(&binding.target, Target::Env { name } if name.as_str() == variable)
    };
    let Some(binding) = matching.iter().find(gives) else {
        let next = format!(
            "apply a Binding with `secret: {secret}`, `containers: {{ host: {host}, image: \"{}\" }}` and `env: {{ name: {variable} }}`",
            facts.image_digest
        );
        let error = format!(
            "no binding grants secret `{secret}` to a container of image {} as variable {variable}{}",
            facts.image_digest,
            nearest(plan, host, facts, secret)
        );
        return Err(denied(error, next, secret));
    };
    give(binding)
}

/// Which binding of a secret comes nearest to a container that none gives it to as it asks, and by which of its parts
/// it means others; nothing where this host has none.
fn nearest(plan: &HostPlan, host: &HostName, facts: &ContainerFacts, secret: &str) -> String {
    let gives = |one: &&PlannedBinding| one.secret_name.as_str() == secret && !is_lease(one);
    let others = plan.bindings.iter().filter(gives);
    let judged = others.map(|one| (one, one.selector.missing(host, facts)));
    let Some((binding, missing)) = judged.min_by_key(|(_, missing)| missing.len()) else {
        return String::new();
    };
    if missing.is_empty() {
        let name = &binding.name;
        return format!("; binding `{name}` gives it to this container in another form");
    }
    let parts = missing.iter().take(MAX_PARTS).map(Part::words);
    let parts: Vec<String> = parts.collect();
    format!(
        "; binding `{}` comes nearest: {}",
        binding.name,
        parts.join(", ")
    )
}

/// Where the file of a secret will be in the container.
fn path_of(
    (plan, matching): (&HostPlan, &[&PlannedBinding]),
    host: &HostName,
    facts: &ContainerFacts,
    secret: &str,
) -> Result<String, Box<Denied>> {
    let files = matching
        .iter()
        .filter(|binding| binding.secret_name.as_str() == secret);
    let mut paths = files.filter_map(|binding| match &binding.target {
        Target::File {
            directory, name, ..
        }
        | Target::Files {
            directory, name, ..
        } => Some((&binding.name, format!("{directory}/{name}"))),
        Target::Env { .. } => None,
    });
    let Some((first, path)) = paths.next() else {
        let error = format!(
            "no binding gives secret `{secret}` as a file to a container of image {}{}",
            facts.image_digest,
            nearest(plan, host, facts, secret)
        );
        let next = format!(
            "apply a Binding with `secret: {secret}`, `containers: {{ host: {host}, image: \"{}\" }}` and `file: {{ name: FILE }}`",
            facts.image_digest
        );
        return Err(denied(error, next, secret));
    };
    if let Some((second, _)) = paths.next() {
        let error = format!(
            "bindings `{first}` and `{second}` both give secret `{secret}` as a file, so its path is not one"
        );
        let next = format!("write the path itself in place of the placeholder, like `{path}`");
        return Err(denied(error, next, secret));
    }
    Ok(path)
}

fn choose_file(
    binding: &PlannedBinding,
    facts: &ContainerFacts,
    mounts: &[String],
) -> Result<(Given, Grant), Box<Denied>> {
    if let Target::File { directory, .. } | Target::Files { directory, .. } = &binding.target
        && let Some(other) = mounts
            .iter()
            .find(|mount| is_at_or_below(mount, directory.as_str()))
    {
        let error = format!(
            "container {} mounts {other} where binding `{}` puts its files ({directory})",
            facts.name, binding.name
        );
        let next = "create it without that mount, or set another `directory` in the binding";
        let secret = binding.secret_name.as_str();
        return Err(denied_by(binding, error, next, secret));
    }
    give(binding)
}

fn give(binding: &PlannedBinding) -> Result<(Given, Grant), Box<Denied>> {
    let Some(grant) = grant_of(binding) else {
        if binding.leases || is_lease(binding) {
            return Err(unleased(binding));
        }
        let secret = lacking(binding).unwrap_or(&binding.secret_name);
        let error = format!("secret `{secret}` has no version that may be used");
        let next =
            format!("make one with `keywheel rotate {secret}` or `keywheel secret put {secret}`");
        return Err(denied_by(binding, error, next, secret.as_str()));
    };
    let given = Given {
        binding: binding.clone(),
        version: grant.version,
        place: place_of(&binding.target),
    };
    Ok((given, grant))
}

/// A lease that is still to come; [`LEASE_WAIT`](crate::leases::LEASE_WAIT) is over.
fn unleased(binding: &PlannedBinding) -> Box<Denied> {
    let secret = binding.secret_name.as_str();
    let error = format!("the container has no lease of secret `{secret}` yet");
    let next = "nothing, if the engine is to start it: that is done once the lease is there; `keywheel get rotations` says what is in its way";
    denied_by(binding, error, next, secret)
}

fn is_at_or_below(mount: &str, directory: &str) -> bool {
    let mount = mount.trim_end_matches('/');
    mount == directory
        || mount
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn denied(error: impl Into<String>, next: impl Into<String>, secret: &str) -> Box<Denied> {
    Box::new(Denied {
        refusal: Refusal::new(error, next),
        secret: secret.to_owned(),
        binding: None,
    })
}

/// The same of what a binding grants.
fn denied_by(
    binding: &PlannedBinding,
    error: impl Into<String>,
    next: impl Into<String>,
    secret: &str,
) -> Box<Denied> {
    let mut denied = denied(error, next, secret);
    denied.binding = Some(binding.name.clone());
    denied
}

#[cfg(test)]
mod tests;
