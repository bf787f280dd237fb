//! What a step means, and what it does: decided by those who own it, each with its own refusals.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Context, Rejection, evict, revoke, rotate, secret_or_reject};
use super::{Start, begin, failed};
use crate::event::Event;
use crate::host::Host;
use crate::id::{HostId, RevocationId, RotationId, RunId, SecretId};
use crate::name::{HostName, PlaybookName, SecretName};
use crate::playbook::{Deed, MAX_TARGETS, Selection, Step, Which};
use crate::playbook_run::{self, Begun, Cause, MAX_FAILURE_CHARS, Run, Target};
use crate::rotation::Trigger;
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::world::World;

/// Names hosts by their ids, as far as they are known.
pub(super) fn pin_hosts(world: &World, steps: &mut [Step]) {
    let pin = |host: &mut String| {
        if let Ok(known) = host_of(world, host) {
            *host = known.id.to_string();
        }
    };
    for step in steps {
        match &mut step.deed {
            Deed::Evict { host } => pin(host),
            Deed::Rotate { secrets } | Deed::Revoke { secrets, .. } => {
                for selection in secrets {
                    if let Selection::HeldBy { host } = selection {
                        pin(host);
                    }
                }
            }
            Deed::Wait { .. } | Deed::Approve { .. } | Deed::Run { .. } => {}
        }
    }
}

/// The begin of a step: what it means is looked up once, now.
pub(super) fn start(world: &World, run: &Run, place: usize, now: Timestamp) -> playbook_run::Event {
    let Some(step) = run.steps.get(place).map(|state| &state.step) else {
        return failed(String::new(), "there is no such step");
    };
    let span = match &step.deed {
        Deed::Wait { span: Some(span) } => *span,
        _ => step.deadline,
    };
    match targets(world, &step.deed) {
        Ok(targets) => playbook_run::Event::StepStarted {
            step: step.name.clone(),
            targets,
            until: now.plus(span),
        },
        Err(reason) => failed(step.name.clone(), &reason),
    }
}

/// What a deed means on the estate as it is; or why it means nothing.
pub(super) fn targets(world: &World, deed: &Deed) -> Result<Vec<Target>, String> {
    match deed {
        Deed::Rotate { secrets } => {
            let all = selected(world, secrets)?;
            let target = |secret: &&Secret| Target::Secret {
                secret: secret.id,
                version: None,
            };
            Ok(all.iter().map(target).collect())
        }
        Deed::Revoke { secrets, which } => revoked(world, &selected(world, secrets)?, *which),
        Deed::Evict { host } => {
            let host = host_of(world, host)?.id;
            Ok(vec![Target::Host { host }])
        }
        Deed::Run { playbook, .. } => Ok(vec![Target::Playbook {
            name: playbook.clone(),
        }]),
        Deed::Wait { .. } | Deed::Approve { .. } => Ok(Vec::new()),
    }
}

/// Secrets that selections mean, each once, by name.
fn selected<'w>(world: &'w World, selections: &[Selection]) -> Result<Vec<&'w Secret>, String> {
    let mut found: BTreeMap<&SecretName, &Secret> = BTreeMap::new();
    for selection in selections {
        match selection {
            Selection::Secret { name } => {
                let name = SecretName::parse(name).map_err(|fault| fault.to_string())?;
                let secret = secret_or_reject(world, &name).map_err(|no| no.to_string())?;
                found.insert(&secret.name, secret);
            }
            Selection::Prefix { path } => {
                let path = path.trim_end_matches('/');
                // Whoever means all says so by a name, not by an empty parameter.
                SecretName::parse(path).map_err(|fault| fault.to_string())?;
                let all = world.secrets.values().filter(|one| is_declared(one));
                let below = all.filter(|one| is_below(&one.name, path));
                found.extend(below.map(|secret| (&secret.name, secret)));
            }
            Selection::HeldBy { host } => {
                let ids = held_by(world, host_of(world, host)?);
                let all = ids.iter().filter_map(|id| world.secrets.get(id));
                let all = all.filter(|one| is_declared(one));
                found.extend(all.map(|secret| (&secret.name, secret)));
            }
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

/// Whether a person declared it; a container's lease is no secret of a playbook.
fn is_declared(secret: &Secret) -> bool {
    secret.lease_of().is_none()
}

fn is_below(name: &SecretName, path: &str) -> bool {
    let rest = name.as_str().strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A host by id or name; of those that were evicted only by id.
fn host_of<'w>(world: &'w World, text: &str) -> Result<&'w Host, String> {
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

fn revoked(world: &World, secrets: &[&Secret], which: Which) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    for secret in secrets {
        let whole = |secret: SecretId| Target::Secret {
            secret,
            version: None,
        };
        match which {
            // Leases have no version that is older than another container's.
            _ if secret.gives_leases() => {
                let leases = world.leases_of(secret.id);
                targets.extend(leases.map(|lease| whole(lease.id)));
            }
            Which::Alive => targets.push(whole(secret.id)),
            Which::Old => {
                let current = secret.current.unwrap_or(0);
                let old = secret.alive().into_iter().filter(|one| *one < current);
                targets.extend(old.map(|version| Target::Secret {
                    secret: secret.id,
                    version: Some(version),
                }));
            }
        }
    }
    let count = targets.len();
    match count > MAX_TARGETS {
        true => Err(format!(
            "it means {count} versions; at most {MAX_TARGETS} are allowed; use longer prefixes in several steps"
        )),
        false => Ok(targets),
    }
}

/// A step's deed to one of its targets, and the fact that it was done, or why not.
pub(super) fn act(
    world: &World,
    run: &Run,
    (place, at): (usize, u32),
    ctx: &Context,
) -> Vec<Event> {
    let state = run.steps.get(place);
    let target = state.and_then(|state| state.targets.get(usize::try_from(at).ok()?));
    let (Some(state), Some(target)) = (state, target) else {
        return Vec::new();
    };
    let step = state.step.name.clone();
    let (mut events, event) = match done(world, run, (&state.step, target), ctx) {
        Ok((events, begun)) => {
            let place = at;
            (events, playbook_run::Event::Acted { step, place, begun })
        }
        Err(refusal) => {
            let reason = refusal
                .to_string()
                .chars()
                .take(MAX_FAILURE_CHARS)
                .collect();
            let refused = playbook_run::Event::ActRefused {
                step,
                place: at,
                reason,
            };
            (Vec::new(), refused)
        }
    };
    events.push(Event::PlaybookRun(run.id, event));
    events
}

type Done = Result<(Vec<Event>, Begun), Rejection>;

fn done(world: &World, run: &Run, (step, target): (&Step, &Target), ctx: &Context) -> Done {
    // What others draw is drawn apart from the id of what is begun.
    let (fresh, inner) = (ctx.part(1).id(0), ctx.part(2));
    match (target, &step.deed) {
        (Target::Secret { secret, .. }, Deed::Rotate { .. }) => {
            let Some(known) = world.secrets.get(secret) else {
                return Ok((Vec::new(), Begun::Nothing));
            };
            let rotation = RotationId::from_bytes(fresh);
            let events = rotate::start(world, known, rotation, Trigger::OnDemand, &inner)?;
            Ok((events, Begun::Rotation { rotation }))
        }
        (Target::Secret { secret, version }, Deed::Revoke { .. }) => {
            revoke_one(world, (*secret, *version), fresh, &reason(run, step))
        }
        (Target::Host { host }, _) => {
            let evicted = evict::evict(world, *host, &reason(run, step), &inner)?;
            Ok((evicted, Begun::Eviction { host: *host }))
        }
        (Target::Playbook { name }, Deed::Run { arguments, .. }) => {
            let below = RunId::from_bytes(fresh);
            let events = run_below(world, run, (below, name, arguments))?;
            Ok((events, Begun::Run { run: below }))
        }
        _ => Ok((Vec::new(), Begun::Nothing)),
    }
}

fn revoke_one(
    world: &World,
    (secret, version): (SecretId, Option<u64>),
    fresh: [u8; 16],
    reason: &str,
) -> Done {
    let dies = |known: &&Secret| {
        let alive = known.alive();
        match version {
            Some(version) => alive.contains(&version),
            None => !alive.is_empty(),
        }
    };
    let Some(known) = world.secrets.get(&secret).filter(dies) else {
        return Ok((Vec::new(), Begun::Nothing));
    };
    let revocation = RevocationId::from_bytes(fresh);
    let events = revoke::request_of(world, revocation, known, version, reason, None)?;
    Ok((events, Begun::Revocation { revocation }))
}

fn run_below(
    world: &World,
    above: &Run,
    (run, playbook, arguments): (RunId, &PlaybookName, &BTreeMap<String, String>),
) -> Result<Vec<Event>, Rejection> {
    let wish = Start {
        run,
        playbook,
        arguments,
        by: &above.by,
        reason: &above.reason,
        cause: Cause::Person,
    };
    begin(
        world,
        &wish,
        (Some(above.id), above.depth.saturating_add(1)),
    )
}

/// Why, for the log of what is begun.
fn reason(run: &Run, step: &Step) -> String {
    format!(
        "{} (playbook `{}`, step `{}`, run {}, started by {})",
        run.reason, run.name, step.name, run.id, run.by
    )
}
