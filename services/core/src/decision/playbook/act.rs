//! What a step means, and what it does: decided by those who own it, each with its own refusals.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Context, Rejection, evict, lease, revoke};
use super::select::{self, Meant, host_of};
use super::{Start, begin, failed, order};
use crate::event::Event;
use crate::id::{NotificationId, RevocationId, RotationId, RunId, SecretId};
use crate::name::{NotificationName, PlaybookName};
use crate::notification;
use crate::playbook::{Deed, MAX_TARGETS, Selection, Step, Which, is_person};
use crate::playbook_run::{self, Begun, Cause, MAX_FAILURE_CHARS, Run, StepState, Target};
use crate::revocation::MAX_REASON_CHARS;
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
            Deed::Rotate {
                secrets: selections,
            }
            | Deed::Revoke {
                secrets: selections,
                ..
            }
            | Deed::Restart {
                containers: selections,
            }
            | Deed::Quarantine {
                containers: selections,
                ..
            } => {
                for selection in selections {
                    if let Selection::HeldBy { host } = selection {
                        pin(host);
                    }
                }
            }
            Deed::Wait { .. }
            | Deed::Approve { .. }
            | Deed::Run { .. }
            | Deed::Withdrawn
            | Deed::Prove
            | Deed::Notify { .. }
            | Deed::Call { .. } => {}
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
        Deed::Rotate { secrets } => rotated(world, &select::selected(world, secrets)?),
        Deed::Revoke { secrets, which } => {
            revoked(world, &select::selected(world, secrets)?, *which)
        }
        Deed::Evict { host } => {
            let host = host_of(world, host)?.id;
            Ok(vec![Target::Host { host }])
        }
        Deed::Run { playbook, .. } => Ok(vec![Target::Playbook {
            name: playbook.clone(),
        }]),
        Deed::Notify { notifications, .. } => {
            let told = notifications.iter().map(|name| receiver(world, name));
            told.collect()
        }
        Deed::Call { notification, .. } => Ok(vec![receiver(world, notification)?]),
        Deed::Restart { containers } | Deed::Quarantine { containers, .. } => {
            order::containers(world, containers)
        }
        Deed::Approve { not, .. } => match not.iter().find(|one| !is_person(one)) {
            None => Ok(Vec::new()),
            Some(one) => Err(nobody(one)),
        },
        Deed::Wait { .. } | Deed::Withdrawn | Deed::Prove => Ok(Vec::new()),
    }
}

/// Why nobody may be asked: whoever was meant to be left out would not be.
fn nobody(text: &str) -> String {
    format!(
        "it leaves out `{text}`, which names no person; tell the run `unix:UID`, `certificate:NAME` or `oidc:NAME`"
    )
}

fn receiver(world: &World, name: &NotificationName) -> Result<Target, String> {
    let Some(known) = world.notification_named(name) else {
        return Err(notification::Rejection::Unknown(name.clone()).to_string());
    };
    let notification = known.id;
    Ok(Target::Notification { notification })
}

/// What rotations would be of, each once: of a secret that gives leases, each container's that is in use.
fn rotated(world: &World, meant: &[Meant<'_>]) -> Result<Vec<Target>, String> {
    let mut seen = BTreeSet::new();
    let mut targets = Vec::new();
    let is_in_use = |lease: &&Secret| lease.current.is_some();
    for Meant { secret, .. } in meant {
        let leases = world.leases_of(secret.id).filter(is_in_use);
        let own = Some(*secret).filter(|one| !one.gives_leases());
        // One of a container that is gone would be made for nobody.
        let own = own.filter(|one| select::is_declared(one) || is_in_use(one));
        for secret in own.into_iter().chain(leases).map(|one| one.id) {
            if seen.insert(secret) {
                let version = None;
                targets.push(Target::Secret { secret, version });
            }
        }
    }
    match targets.len() {
        count if count > MAX_TARGETS => Err(format!(
            "it means {count} secrets and leases; at most {MAX_TARGETS} are allowed; use longer prefixes"
        )),
        _ => Ok(targets),
    }
}

fn revoked(world: &World, meant: &[Meant<'_>], which: Which) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    for Meant { secret, versions } in meant {
        let whole = |secret: SecretId| Target::Secret {
            secret,
            version: None,
        };
        let single = |version| Target::Secret {
            secret: secret.id,
            version: Some(version),
        };
        let is_meant = |version: &u64| versions.as_ref().is_none_or(|all| all.contains(version));
        match which {
            // Leases have no version that is older than another container's.
            _ if secret.gives_leases() => {
                let leases = world.leases_of(secret.id);
                targets.extend(leases.map(|lease| whole(lease.id)));
            }
            Which::Alive if versions.is_none() => targets.push(whole(secret.id)),
            Which::Alive => {
                let alive = secret.alive().into_iter();
                targets.extend(alive.rev().filter(is_meant).map(single));
            }
            Which::Old => {
                let current = secret.current.unwrap_or(0);
                let alive = secret.alive().into_iter();
                let old = alive.filter(|one| *one < current && is_meant(one));
                targets.extend(old.map(single));
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
    if let Target::Notification { notification } = target {
        let told = notified(world, state, (step, at), *notification);
        return vec![Event::PlaybookRun(run.id, told)];
    }
    let (mut events, event) = match done(world, run, ((state, at), target), ctx) {
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

/// What a receiver is told; it may have been removed since the step began.
fn notified(
    world: &World,
    state: &StepState,
    (step, place): (String, u32),
    notification: NotificationId,
) -> playbook_run::Event {
    let text = match &state.step.deed {
        Deed::Notify { text, .. } | Deed::Call { text, .. } => text.clone(),
        _ => String::new(),
    };
    match world.notifications.contains_key(&notification) {
        true => playbook_run::Event::Notified {
            step,
            place,
            notification,
            text,
        },
        false => playbook_run::Event::ActRefused {
            step,
            place,
            reason: "the notification was removed; declare it again".to_owned(),
        },
    }
}

pub(super) type Done = Result<(Vec<Event>, Begun), Rejection>;

fn done(
    world: &World,
    run: &Run,
    ((state, at), target): ((&StepState, u32), &Target),
    ctx: &Context,
) -> Done {
    let step = &state.step;
    // What others draw is drawn apart from the id of what is begun.
    let (fresh, inner) = (ctx.part(1).id(0), ctx.part(2));
    match (target, &step.deed) {
        (Target::Secret { secret, .. }, Deed::Rotate { .. }) => {
            let Some(known) = world.secrets.get(secret) else {
                return Ok((Vec::new(), Begun::Nothing));
            };
            let rotation = RotationId::from_bytes(fresh);
            let trigger = Trigger::Playbook { run: run.id };
            let events = lease::succeed(world, known, (rotation, trigger), &inner)?;
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
        (
            Target::Container {
                host, container, ..
            },
            deed,
        ) => {
            let place = order::Place {
                run,
                state,
                place: at,
            };
            let reason = reason(run, step);
            match deed {
                Deed::Quarantine { action, .. } => {
                    order::quarantine(world, &place, (*host, container), (*action, reason))
                }
                _ => order::restart(world, &place, (*host, container), ctx.now),
            }
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
    // Persons wrote the steps: where a lease is meant, its store is asked.
    let why = revoke::Why::of_person(reason, false);
    let events = revoke::request_of(world, revocation, known, version, why, None)?;
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

/// Why, for the log of what is begun. A run's own words give way where both are longer than a reason may be.
fn reason(run: &Run, step: &Step) -> String {
    let whose = format!(
        " (playbook `{}`, step `{}`, run {}, started by {})",
        run.name, step.name, run.id, run.by
    );
    let room = MAX_REASON_CHARS.saturating_sub(whose.chars().count());
    let own: String = run.reason.chars().take(room).collect();
    own + &whose
}
