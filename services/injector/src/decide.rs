//! What is to be done with one container, from the plan and what it holds. Pure.
//!
//! Invariants: only a binding whose selector matches the engine's facts gives anything; what no
//! binding gives any more is taken back; two bindings never share a file; a file with a version that may
//! not be used any more stays only for as long as it takes to replace it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::{OnRevoke, Reload, Target};
use keywheel_core::id::{BindingId, SecretId};
use keywheel_core::name::{Directory, FileName, HostName};
use keywheel_core::plan::{Grant, HostPlan, PlannedBinding};
use keywheel_sys::secretfs::FileAttr;

use crate::form::Form;
use crate::granted::{further_of, grant_of, is_dead, parts_of, previous_of, versions_of};
use crate::model::{Ack, Holding, Place, Tracked};
use crate::reload::reload_in;
use crate::shared::VersionKey;

/// What one container needs.
#[derive(Debug, Default)]
pub(crate) struct Todo {
    /// Files to take away.
    pub(crate) removes: Vec<(BindingId, SecretId, Directory, FileName)>,
    /// Files to bring to a version.
    pub(crate) writes: Vec<FileWish>,
    /// Variables changed, or a changed file waits for a restart.
    pub(crate) restart: Vec<(BindingId, SecretId, u64)>,
    /// Variables to take away, which only a stop can.
    pub(crate) stop: Vec<(BindingId, SecretId)>,
    /// What cannot be served, and why.
    pub(crate) refusals: Vec<(BindingId, SecretId, u64, String)>,
    /// Values that the writes and restarts need.
    pub(crate) needs: Vec<(SecretId, Grant)>,
    /// What befalls it because a file goes whose value was revoked, and nothing takes its place.
    pub(crate) on_revoke: OnRevoke,
}

/// How far the injector is with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Had {
    /// It is here.
    Here,
    /// It is asked for, or about to be.
    Awaited,
    /// Store-sync did not give it.
    Failed,
}

/// A file to bring to a version.
#[derive(Debug, Clone)]
pub(crate) struct FileWish {
    pub(crate) binding: BindingId,
    pub(crate) secret: SecretId,
    pub(crate) grant: Grant,
    /// The further secrets that it is made of.
    pub(crate) further: Vec<(SecretId, Grant)>,
    /// Versions before the current ones that it is made of.
    pub(crate) previous: Vec<(SecretId, Grant)>,
    /// Which of all those versions it does not have yet; all of them when only its form changes.
    pub(crate) news: Vec<VersionKey>,
    pub(crate) directory: Directory,
    pub(crate) name: FileName,
    pub(crate) attr: FileAttr,
    pub(crate) form: Option<Arc<Form>>,
    /// In this container.
    pub(crate) reload: Reload,
    /// It is there with content nobody has compared yet.
    pub(crate) compare_first: bool,
}

impl FileWish {
    /// Every version that it brings.
    pub(crate) fn versions(&self) -> impl Iterator<Item = VersionKey> + '_ {
        let further = self.further.iter();
        let further = further.map(|(secret, grant)| (*secret, grant.version));
        std::iter::once((self.secret, self.grant.version)).chain(further)
    }

    /// Every version that it is made of, those before the current ones among them.
    pub(crate) fn parts(&self) -> impl Iterator<Item = VersionKey> + '_ {
        let previous = self.previous.iter();
        let previous = previous.map(|(secret, grant)| (*secret, grant.version));
        self.versions().chain(previous)
    }
}

/// The bindings that give this container something, in the plan's order.
pub(crate) fn matching<'a>(
    plan: &'a HostPlan,
    host: &'a HostName,
    tracked: &'a Tracked,
) -> impl Iterator<Item = &'a PlannedBinding> {
    plan.bindings
        .iter()
        .filter(move |binding| binding.selector.matches(host, &tracked.record.facts))
}

/// What a binding gives: the place.
pub(crate) fn place_of(target: &Target) -> Place {
    match target {
        Target::File {
            directory, name, ..
        }
        | Target::Files {
            directory, name, ..
        } => Place::File {
            directory: directory.clone(),
            name: name.clone(),
        },
        Target::Env { name } => Place::Env { name: name.clone() },
    }
}

/// Owner and mode a binding gives its file.
pub(crate) fn attr_of(target: &Target) -> Option<FileAttr> {
    match target {
        Target::File { uid, gid, mode, .. } | Target::Files { uid, gid, mode, .. } => {
            Some(FileAttr {
                uid: *uid,
                gid: *gid,
                mode: *mode,
            })
        }
        Target::Env { .. } => None,
    }
}

/// Decides for one container that runs, at this time.
pub(crate) fn decide(
    plan: &HostPlan,
    host: &HostName,
    (tracked, now): (&Tracked, Duration),
    is_wrapped: bool,
    had: &dyn Fn(VersionKey) -> Had,
) -> Todo {
    let mut todo = Todo::default();
    let given: Vec<&PlannedBinding> = matching(plan, host, tracked).collect();
    take_back(&given, (tracked, now), had, &mut todo);
    let mut taken = BTreeSet::new();
    for binding in given {
        let Some(grant) = grant_of(binding) else {
            continue;
        };
        match &binding.target {
            Target::File {
                directory,
                name,
                uid,
                gid,
                mode,
                ..
            }
            | Target::Files {
                directory,
                name,
                uid,
                gid,
                mode,
                ..
            } => {
                if !taken.insert((directory, name)) {
                    let reason = format!(
                        "another binding already gives {directory}/{name} to this container; set another file name in one of them"
                    );
                    todo.refusals
                        .push((binding.binding, binding.secret, grant.version, reason));
                    continue;
                }
                let attr = FileAttr {
                    uid: *uid,
                    gid: *gid,
                    mode: *mode,
                };
                decide_file(binding, grant, tracked, (directory, name, attr), &mut todo);
            }
            Target::Env { .. } => decide_env(binding, grant, tracked, is_wrapped, &mut todo),
        }
    }
    todo
}

/// Holdings that no binding gives any more, that moved to another place, or that may not be used any more
/// and cannot be replaced now.
fn take_back(
    given: &[&PlannedBinding],
    (tracked, now): (&Tracked, Duration),
    had: &dyn Fn(VersionKey) -> Had,
    todo: &mut Todo,
) {
    for (id, holding) in tracked.holdings.iter() {
        let stays = given.iter().any(|binding| {
            binding.binding == *id
                && grant_of(binding).is_some()
                && place_of(&binding.target) == holding.place
                // A file is replaced; a variable of another secret goes only with its program.
                && (binding.secret == holding.secret
                    || matches!(holding.place, Place::File { .. }))
                && !is_left_over(binding, holding, (tracked, now), had)
        });
        if stays {
            continue;
        }
        let mut meant = given.iter().filter(|binding| binding.binding == *id);
        let is_file = matches!(holding.place, Place::File { .. });
        if let Some(binding) = meant.find(|binding| is_file && is_revoked(binding, holding)) {
            todo.on_revoke = todo.on_revoke.max(binding.on_revoke);
        }
        match &holding.place {
            Place::File { directory, name } => {
                todo.removes
                    .push((*id, holding.secret, directory.clone(), name.clone()));
            }
            Place::Env { .. } => todo.stop.push((*id, holding.secret)),
        }
    }
}

/// Whether what is held may not be used any more, and its binding gives out nothing else.
fn is_revoked(binding: &PlannedBinding, holding: &Holding) -> bool {
    grant_of(binding).is_none() && holding.held().any(|one| is_dead(binding, one))
}

/// Whether a file holds what its binding gives out no more, and what would replace it cannot be made now.
/// What a binding names no more may be dead, and nobody would hear it; but it need not be, so that it stays
/// until its successor cannot be had.
fn is_left_over(
    binding: &PlannedBinding,
    holding: &Holding,
    (tracked, now): (&Tracked, Duration),
    had: &dyn Fn(VersionKey) -> Had,
) -> bool {
    if !matches!(holding.place, Place::File { .. }) {
        return false;
    }
    let names = |secret: &SecretId| {
        binding.secret == *secret || binding.also.iter().any(|one| one.secret == *secret)
    };
    let mut secrets = std::iter::once(&holding.secret).chain(holding.further.keys());
    let is_forgotten = secrets.any(|secret| !names(secret));
    let has_dead = holding.parts().any(|one| is_dead(binding, one));
    let mut versions = versions_of(binding);
    let is_unformed = versions.next().is_some_and(|own| {
        let form = Form::of(binding);
        tracked
            .unformed(binding.binding, own, form.as_ref())
            .is_some()
    });
    let mut missing = parts_of(binding).map(had);
    match (has_dead, is_forgotten) {
        // What is dead waits for nothing, neither for a value nor for the container.
        (true, _) => is_unformed || !tracked.can_write(now) || missing.any(|one| one != Had::Here),
        (false, true) => is_unformed || missing.any(|one| one == Had::Failed),
        (false, false) => false,
    }
}

fn decide_file(
    binding: &PlannedBinding,
    grant: Grant,
    tracked: &Tracked,
    (directory, name, attr): (&Directory, &FileName, FileAttr),
    todo: &mut Todo,
) {
    // What is elsewhere is taken back, and does not count here.
    let is_here = |place: &Place| {
        *place
            == Place::File {
                directory: directory.clone(),
                name: name.clone(),
            }
    };
    let holding = tracked
        .holdings
        .get(&binding.binding)
        .filter(|holding| is_here(&holding.place));
    // Version numbers of another secret say nothing.
    let same =
        holding.filter(|holding| holding.secret == binding.secret && holding.attr == Some(attr));
    let reload = reload_in(&binding.reload, &tracked.label);
    let form = Form::of(binding);
    let further = further_of(binding).map(|(one, grant)| (one.secret, grant));
    let further: Vec<(SecretId, Grant)> = further.collect();
    let previous: Vec<(SecretId, Grant)> = previous_of(binding).collect();
    let is_done =
        |holding: &&Holding| holding.version == Some(grant.version) && holding.form == form;
    if let Some(holding) = same.filter(is_done) {
        if holding.ack == Ack::Due && matches!(reload, Reload::Restart { .. }) {
            let untold = holding.untold().into_iter();
            let due = untold.map(|(secret, version)| (binding.binding, secret, version));
            todo.restart.extend(due);
            todo.needs.push((binding.secret, grant));
            todo.needs.extend(further);
            todo.needs.extend(previous);
        }
        return;
    }
    let version = (binding.secret, grant.version);
    if let Some(reason) = tracked.unformed(binding.binding, version, form.as_ref()) {
        let (secret, version) = version;
        todo.refusals
            .push((binding.binding, secret, version, reason.to_owned()));
        return;
    }
    todo.needs.push((binding.secret, grant));
    todo.needs.extend(further.iter().chain(&previous).copied());
    let news = news_for(binding, same);
    todo.writes.push(FileWish {
        binding: binding.binding,
        secret: binding.secret,
        grant,
        further,
        previous,
        news,
        directory: directory.clone(),
        name: name.clone(),
        attr,
        form,
        reload,
        compare_first: same.is_some_and(|holding| holding.version.is_none()),
    });
}

/// Which versions are not held yet; all of them when all are, and only the form changes.
fn news_for(binding: &PlannedBinding, held: Option<&Holding>) -> Vec<VersionKey> {
    let all: Vec<VersionKey> = versions_of(binding).collect();
    let is_new = |one: &VersionKey| held.is_none_or(|held| !held.has(*one));
    let news: Vec<VersionKey> = all.iter().copied().filter(is_new).collect();
    if news.is_empty() { all } else { news }
}

fn decide_env(
    binding: &PlannedBinding,
    grant: Grant,
    tracked: &Tracked,
    is_wrapped: bool,
    todo: &mut Todo,
) {
    let Target::Env { name } = &binding.target else {
        return;
    };
    let placeholder = format!("{{keywheel:{}}}", binding.secret_name);
    let wish = format!("`-e {name}={placeholder}`");
    let mut refuse = |reason: String| {
        todo.refusals
            .push((binding.binding, binding.secret, grant.version, reason));
    };
    if !is_wrapped {
        let (container, secret) = (&tracked.record.facts.name, &binding.secret_name);
        return refuse(format!(
            "it runs under `{}`, where no variable can change; recreate it with `keywheel migrate {container} --env {name}={secret} --use-current {secret}`, or by hand with `--runtime keywheel` and {wish}",
            tracked.record.runtime
        ));
    }
    let asks = |entry: &String| {
        entry
            .split_once('=')
            .is_some_and(|(key, value)| key == name.as_str() && value.contains(&placeholder))
    };
    if !tracked.record.placeholders.iter().any(asks) {
        return refuse(format!(
            "it has no placeholder for this secret in {name}; recreate it with {wish}"
        ));
    }
    let held = tracked
        .holdings
        .get(&binding.binding)
        .filter(|holding| holding.secret == binding.secret)
        .and_then(|holding| holding.version);
    if held != Some(grant.version) {
        todo.needs.push((binding.secret, grant));
        todo.restart
            .push((binding.binding, binding.secret, grant.version));
    }
}

#[cfg(test)]
pub(crate) mod tests;
