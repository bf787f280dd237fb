//! The committed world as people and tools see it. Pure; no value is in reach here.

pub mod approvals;
pub mod entitlement;
mod fires;
mod hosts;
mod next;
pub mod plan;
pub mod playbooks;
pub mod radius;
mod replacement;
mod revocations;
pub mod status;
pub mod stores;

pub use fires::{Horizon, NextFires, Outlook, ScheduleDraft, SecretDraft, schedule, secret};
pub use hosts::{held, host, host_page, hosts};
pub use next::{revocation_while_sealed, while_sealed};

use std::collections::BTreeSet;

use keywheel_core::assignment::{self, Assignment, Progress};
use keywheel_core::binding::{self, ImageSelector, OnRevoke, Reload, Target};
use keywheel_core::id::{HostId, RevocationId, RotationId, SecretId};
use keywheel_core::revocation::{Backend, Revocation};
use keywheel_core::rollout::Stage;
use keywheel_core::rotation::{self, Outcome, Phase, Rotation, Step, Trigger};
use keywheel_core::secret::Secret;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::state::Committed;
use keywheel_schemas::api::{
    BindingView, ConsumerView, RevocationView, RotationTimings, RotationView, VersionView,
};
use keywheel_schemas::mirror::TextForm as _;

/// Most versions one answer lists.
pub const MAX_VERSIONS: usize = 1000;

fn milliseconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<f64> {
    let micros = to?.micros().saturating_sub(from?.micros()).max(0);
    // A span of a rotation is far below 2^52 microseconds.
    #[expect(clippy::cast_precision_loss, reason = "spans are small")]
    Some(micros as f64 / 1000.0)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Versions of a secret, newest first, at most [`MAX_VERSIONS`].
#[must_use]
pub fn versions(world: &World, secret: &Secret) -> Vec<VersionView> {
    (1..=secret.last_version)
        .rev()
        .take(MAX_VERSIONS)
        .map(|version| version_view(world, secret, version))
        .collect()
}

fn version_view(world: &World, secret: &Secret, version: u64) -> VersionView {
    let stages = [
        ("current", secret.current),
        ("pending", secret.pending),
        ("previous", secret.previous),
    ];
    let stage = stages
        .iter()
        .find(|(_, v)| *v == Some(version))
        .map_or("", |(name, _)| name);
    let state = if secret.destroyed.contains(&version) {
        "destroyed"
    } else if secret.is_deliverable(version) {
        "alive"
    } else {
        "revoked"
    };
    let holds = secret.delivered.keys().filter(|(_, v)| *v == version);
    let hosts = holds
        .filter_map(|(host, _)| world.hosts.get(host))
        .map(|host| host.name.to_string());
    // Nothing they say counts any more, so nobody can say that they gave it up.
    let evicted = world.hosts.values().filter(|host| {
        let held = host.held.get(&secret.id);
        held.is_some_and(|held| held.contains(&version))
    });
    VersionView {
        version,
        stage: stage.to_owned(),
        state: state.to_owned(),
        hosts: hosts.collect(),
        evicted_hosts: evicted.map(|host| host.name.to_string()).collect(),
    }
}

fn secret_name(world: &World, secret: SecretId) -> Option<String> {
    let secret = world.secrets.get(&secret)?;
    Some(secret.name.to_string())
}

/// One binding, also one that policies withhold; `None` once unbound.
#[must_use]
pub fn binding(world: &World, binding: &binding::Binding) -> Option<BindingView> {
    let spec = binding.declared()?;
    let consumers = with_leases(world, spec.secret).filter(|(key, _)| key.binding == binding.id);
    Some(BindingView {
        name: binding.name.to_string(),
        id: binding.id.to_string(),
        secret: secret_name(world, spec.secret).unwrap_or_default(),
        also: spec
            .also
            .iter()
            .filter_map(|secret| secret_name(world, *secret))
            .collect(),
        selector: selector_words(&spec.selector),
        target: target_words(&spec.target),
        reload: match &spec.reload {
            Reload::None => "none".to_owned(),
            Reload::Signal(number) => format!("signal {number}"),
            Reload::Restart {
                settle,
                health_timeout,
                rollout,
            } => {
                format!(
                    "restart (settle {} s, health timeout {} s{})",
                    settle.as_secs(),
                    health_timeout.as_secs(),
                    rollout.as_ref().map(rollout_words).unwrap_or_default()
                )
            }
            Reload::Command { argv, timeout } => {
                format!("command {argv:?} (timeout {} s)", timeout.as_secs())
            }
            Reload::Label => "label".to_owned(),
        },
        on_revoke: Some(on_revoke(spec).word().to_owned()),
        consumers: count(consumers.count()),
        note: binding_note(&spec.selector, &spec.target),
        withheld: entitlement::withheld_words(world, binding, &|_| true),
    })
}

/// File or env variable, in words.
fn target_words(target: &Target) -> String {
    match target {
        Target::File {
            directory,
            name,
            uid,
            gid,
            mode,
            template,
        } => {
            let by = if template.is_some() {
                ", by a template"
            } else {
                ""
            };
            format!("file {directory}/{name} uid {uid} gid {gid} mode {mode:04o}{by}")
        }
        Target::Files {
            directory,
            name,
            uid,
            gid,
            mode,
            files,
        } => {
            let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
            let names = names.join(", ");
            format!("files {names} in {directory}/{name} uid {uid} gid {gid} mode {mode:04o}")
        }
        Target::Env { name } => format!("env {name}"),
    }
}

/// What befalls who loses a revoked value; one that has it in a variable is stopped, whatever its binding says.
fn on_revoke(spec: &binding::Spec) -> OnRevoke {
    match spec.target {
        Target::Env { .. } => OnRevoke::Stop,
        Target::File { .. } | Target::Files { .. } => spec.on_revoke,
    }
}

fn rollout_words(rollout: &binding::Rollout) -> String {
    format!(
        ", rollout: {} at a time, {} unavailable, delay {} s, monitor {} s",
        rollout.max_parallel,
        rollout.max_unavailable,
        rollout.delay.as_secs(),
        rollout.monitor.as_secs()
    )
}

/// What to know about a binding.
#[must_use]
pub fn binding_note(selector: &binding::Selector, target: &Target) -> Option<String> {
    let mut notes = Vec::new();
    if selector.insecure && !selector.is_strong() {
        notes.push(
            "insecure selector: anyone on the engine's socket can make a container that matches",
        );
    }
    if matches!(selector.image, Some(ImageSelector::Repository(_))) {
        notes.push("image by repository name is weaker than by digest: the name can be moved to another image");
    }
    if matches!(target, Target::Env { .. }) {
        notes.push(
            "env is the weaker tier: root on the host and the program's children can read it",
        );
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn selector_words(selector: &binding::Selector) -> String {
    let mut words = Vec::new();
    words.extend(selector.host.as_ref().map(|host| format!("host {host}")));
    words.extend(selector.image.as_ref().map(|image| match image {
        ImageSelector::Digest(digest) => format!("image {}", digest.get(..19).unwrap_or(digest)),
        ImageSelector::Repository(name) => format!("image {name}"),
    }));
    words.extend(
        selector
            .labels
            .iter()
            .map(|(key, value)| format!("label {key}={value}")),
    );
    words.extend(selector.name.as_ref().map(|name| format!("name {name}")));
    words.extend(selector.user.as_ref().map(|user| format!("user {user}")));
    words.join(", ")
}

/// Consumers of a secret, and of the leases that it gives.
fn with_leases(
    world: &World,
    secret: SecretId,
) -> impl Iterator<Item = (&assignment::Key, &assignment::Assignment)> {
    let leases = world.leases_of(secret);
    let leased = leases.flat_map(move |lease| world.consumers(lease.id));
    world.consumers(secret).chain(leased)
}

/// All consumers, of one secret or of all.
#[must_use]
pub fn consumers(committed: &Committed, of: Option<&Secret>) -> Vec<ConsumerView> {
    let world = &committed.world;
    let view = |(key, assignment)| consumer(world, key, assignment, None);
    match of {
        Some(secret) => with_leases(world, secret.id).map(view).collect(),
        None => world.assignments.iter().map(view).collect(),
    }
}

const fn progress_word(progress: &Progress) -> &'static str {
    match progress {
        Progress::Waiting => "waiting",
        Progress::Swapped => "swapped",
        Progress::Reloaded => "reloaded",
        Progress::Withdrawn => "withdrawn",
        Progress::Vanished => "vanished",
        Progress::Refused(_) => "refused",
    }
}

fn consumer(
    world: &World,
    key: &assignment::Key,
    assignment: &Assignment,
    promoted: Option<Timestamp>,
) -> ConsumerView {
    let state = progress_word(&assignment.progress);
    let reason = match &assignment.progress {
        Progress::Refused(reason) => Some(reason.clone()),
        _ => None,
    };
    ConsumerView {
        container: key.container.to_string(),
        name: assignment.container_name.clone(),
        host: world
            .hosts
            .get(&key.host)
            .map(|h| h.name.to_string())
            .unwrap_or_default(),
        secret: world
            .secrets
            .get(&assignment.secret)
            .map(|s| s.name.to_string())
            .unwrap_or_default(),
        binding: world
            .bindings
            .get(&key.binding)
            .map(|b| b.name.to_string())
            .unwrap_or_default(),
        version: assignment.holds,
        assigned: assignment.assigned,
        state: state.to_owned(),
        reason,
        restart: world
            .rollout_member(key.host, &key.container)
            .filter(|member| member.due.iter().any(|due| due.binding == key.binding))
            .map(|member| restart_word(&member.stage).to_owned()),
        latency_ms: milliseconds(promoted, assignment.swapped_at),
        previous: beside(world, key, assignment),
    }
}

/// The version before its own that a consumer's file may have, too: the newest one alive that its host was
/// granted, where its binding names it. A consumer that has not moved yet has the one before its own.
fn beside(world: &World, key: &assignment::Key, assignment: &Assignment) -> Option<u64> {
    let secret = world.secrets.get(&assignment.secret)?;
    let spec = world.bindings.get(&key.binding)?.spec.as_ref()?;
    if !spec.previous.contains(&secret.id) {
        return None;
    }
    let is_granted = |version: &u64| {
        let grant = (key.host, *version);
        *version < assignment.holds && secret.delivered.contains_key(&grant)
    };
    secret.alive().into_iter().rev().find(is_granted)
}

const fn restart_word(stage: &Stage) -> &'static str {
    match stage {
        Stage::Waiting => "waits for leave",
        Stage::Leave { .. } => "may restart",
        Stage::Unwell => "not well yet",
        Stage::Failed(_) => "failed",
    }
}

/// One rotation.
#[must_use]
pub fn rotation(committed: &Committed, id: RotationId) -> Option<RotationView> {
    let world = &committed.world;
    let rotation = world.rotations.get(&id)?;
    let times = committed.rotation_times(id);
    let keys = rotation.waiting.iter().chain(&rotation.left_behind);
    let keys = keys.chain(&rotation.acknowledged);
    let consumers: Vec<ConsumerView> = keys
        .map(|key| {
            let gone = Assignment {
                progress: Progress::Vanished,
                ..Assignment::default()
            };
            let known = world.assignments.get(key).unwrap_or(&gone);
            let promoted = times
                .promoted
                .filter(|_| known.assigned == rotation.version);
            consumer(world, key, known, promoted)
        })
        .collect();
    let slowest = consumers
        .iter()
        .filter_map(|c| c.latency_ms)
        .fold(None, |max: Option<f64>, ms| {
            Some(max.map_or(ms, |max| max.max(ms)))
        });
    Some(RotationView {
        rotation_id: id.to_string(),
        secret: world
            .secrets
            .get(&rotation.secret)
            .map(|s| s.name.to_string())
            .unwrap_or_default(),
        version: rotation.version,
        state: phase_word(&rotation.phase).to_owned(),
        trigger: trigger_word(&rotation.trigger).to_owned(),
        waiting_for: waiting_words(world, rotation),
        dying: dying(world, rotation),
        next_step: next::step(world, rotation),
        timings: RotationTimings {
            requested_to_acknowledged_ms: milliseconds(times.requested, times.acknowledged),
            promoted_to_swapped_ms: slowest,
            requested_to_closed_ms: milliseconds(times.requested, times.closed),
            gap_ms: rotation.gap.map(|gap| gap.as_secs_f64() * 1000.0),
        },
        consumers,
    })
}

fn trigger_word(trigger: &Trigger) -> &'static str {
    match trigger {
        Trigger::Initial => "initial",
        Trigger::OnDemand => "on_demand",
        Trigger::Provided => "provided",
        Trigger::External { .. } => "external",
        Trigger::Slot { .. } => "schedule",
        Trigger::Playbook { .. } => "playbook",
    }
}

fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Performing { step, .. } => match step {
            Step::Create => "creating",
            Step::Set => "setting",
            Step::Test => "testing",
            Step::Finish => "finishing",
            Step::RevokeOld => "revoking_old",
            Step::RollBack => "rolling_back",
            Step::Drain => "draining",
        },
        Phase::Retrying { .. } => "retrying",
        Phase::Staging => "staging",
        Phase::Canary => "canary",
        Phase::Distributing => "distributing",
        Phase::Draining { .. } => "draining",
        Phase::Closed(Outcome::Completed) => "completed",
        Phase::Closed(Outcome::RolledBack) => "rolled_back",
        Phase::Closed(Outcome::Parked) => "parked",
        Phase::Closed(Outcome::Cancelled) => "cancelled",
    }
}

/// Versions that die at a rotation's end, as it stands.
fn dying(world: &World, rotation: &Rotation) -> Vec<u64> {
    let Some(secret) = world.secrets.get(&rotation.secret) else {
        return Vec::new();
    };
    let may_end = match rotation.phase {
        Phase::Distributing => true,
        _ if rotation.is_draining() => true,
        Phase::Closed(Outcome::Parked) => {
            secret.last_version == rotation.version && secret.current == Some(rotation.wanted())
        }
        _ => false,
    };
    // On the way back a store outside keeps what it has; what only canaries had it does not have as current.
    let is_kept = rotation
        .returning
        .is_some_and(|back| secret.place().is_some() || !secret.is_deliverable(back))
        && !rotation.is_canary_return();
    let old = rotation.old.iter().copied();
    old.filter(|version| may_end && !is_kept && secret.is_deliverable(*version))
        .collect()
}

fn waiting_words(world: &World, rotation: &Rotation) -> Vec<String> {
    let mut words = Vec::new();
    if let Phase::Retrying {
        step,
        attempt,
        reason,
    } = &rotation.phase
    {
        words.push(format!("step {step:?}, attempt {attempt} failed: {reason}"));
    }
    words.extend(lent_words(world, rotation).or_else(|| sessions_words(rotation)));
    if rotation.phase == Phase::Staging {
        let missing = rotation.staging.iter();
        words.extend(missing.map(|host| {
            let name = host_name(world, *host);
            format!("host {name}: has not yet said that it has the version at hand")
        }));
    }
    words.extend(canary_words(world, rotation));
    if let Some(reason) = &rotation.halted {
        words.push(match rotation.returning {
            Some(back) => format!("halted, back to version {back}: {reason}"),
            None => format!("halted, nothing more is restarted: {reason}"),
        });
    }
    if let Some(reason) = &rotation.aborted {
        words.push(format!("aborted: {reason}"));
    }
    for key in rotation.waiting.iter().chain(&rotation.left_behind) {
        let known = world.assignments.get(key);
        let name = known.map_or_else(
            || key.container.short().to_owned(),
            |a| a.container_name.clone(),
        );
        let lack = rotation::lack_of(world, key);
        let left = match rotation.left_behind.contains(key) {
            true => " (not waited for any more)",
            false => "",
        };
        words.push(format!("container {name}: {lack}{left}"));
    }
    for host in &rotation.barrier {
        let name = host_name(world, *host);
        words.push(format!(
            "host {name}: has not yet shown that it holds no older version"
        ));
    }
    words
}

/// Who runs on the version before all others, and until when, once all of them do.
fn canary_words(world: &World, rotation: &Rotation) -> Option<String> {
    if rotation.phase != Phase::Canary || !rotation.waiting.is_empty() {
        return None;
    }
    let known = rotation.canaries.iter();
    let known = known.filter_map(|key| world.assignments.get(key));
    let names: BTreeSet<&str> = known.map(|one| one.container_name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let until = rotation.deadline.map(|until| until.text());
    Some(format!(
        "canaries: {} on version {} before all others, watched until {}",
        names.join(", "),
        rotation.version,
        until.unwrap_or_default()
    ))
}

/// What is known of the sessions of what dies, while that holds the rotation up.
fn sessions_words(rotation: &Rotation) -> Option<String> {
    let is_parked = rotation.phase == Phase::Closed(Outcome::Parked);
    if !rotation.is_draining() && !is_parked {
        return None;
    }
    let drain = &rotation.drain;
    if let Some(until) = drain.grace {
        return Some(format!(
            "sessions: the server does not tell those of the old credential, which lives on until {}",
            until.text()
        ));
    }
    let (left, since) = (drain.left?, drain.since?);
    let open = match left {
        1 => "1 session of the old credential is open".to_owned(),
        n => format!("{n} sessions of the old credential are open"),
    };
    let late = match rotation.is_held_by_sessions() {
        true => "; its deadline has passed, and they are asked for on",
        false => "",
    };
    Some(format!(
        "sessions: {open} since before {}{late}",
        since.text()
    ))
}

/// Until when a lease lives on that gave way, and why.
fn lent_words(world: &World, rotation: &Rotation) -> Option<String> {
    let _lease = world.secrets.get(&rotation.secret)?.lease_of()?;
    let until = rotation.drain.grace.filter(|_| rotation.is_draining())?;
    Some(format!(
        "sessions: no store tells those of a login that it lent, so the one before lives on until {}, unless its store ends it first",
        until.text()
    ))
}

fn host_name(world: &World, host: HostId) -> String {
    let known = world.hosts.get(&host);
    known.map_or_else(|| host.to_string(), |host| host.name.to_string())
}

/// One revocation.
#[must_use]
pub fn revocation(committed: &Committed, id: RevocationId) -> Option<RevocationView> {
    let world = &committed.world;
    let revocation: &Revocation = world.revocations.get(&id)?;
    let times = committed.revocation_times(id);
    let hosts = revocation
        .waiting
        .iter()
        .filter_map(|host| world.hosts.get(host));
    Some(RevocationView {
        revocation_id: id.to_string(),
        secret: world
            .secrets
            .get(&revocation.secret)
            .map(|s| s.name.to_string())
            .unwrap_or_default(),
        versions: revocation.versions.clone(),
        state: match revocation.closed {
            true => "closed",
            false if revocation.is_awaiting() => "awaiting_replacement",
            false => "running",
        }
        .to_owned(),
        backend: match &revocation.backend {
            _ if revocation.is_dead_at_backend => "confirmed",
            _ if revocation.is_forgotten() => "forgotten",
            Backend::Failed { .. } => "failed",
            Backend::Confirmed => "confirmed",
            Backend::Asked { .. } => "asked",
            Backend::NotAsked => "not_asked",
        }
        .to_owned(),
        waiting_hosts: hosts.map(|host| host.name.to_string()).collect(),
        reason: revocation.reason.clone(),
        withdrawn_ms: milliseconds(times.requested, times.withdrawn),
        states: revocations::states(world, revocation, times),
        next_step: None,
    })
}

#[cfg(test)]
mod tests;
