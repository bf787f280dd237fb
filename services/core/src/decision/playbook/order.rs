//! Steps that do something to containers: which they mean, and the orders that their hosts are given. Lifting a
//! quarantine, too.
//!
//! Invariants: a container is named by its full id, so one that takes its place is not meant; what nothing serves is
//! not known here, and a step that means nothing fails. An order and the fact that a step gave it are one append.

use std::collections::{BTreeMap, BTreeSet};

use super::super::order::answered;
use super::super::scope::{beside, is_named, is_of};
use super::super::{Rejection, rollout};
use super::act::Done;
use super::select::{host_of, selected};
use crate::binding::OnRevoke;
use crate::event::Event;
use crate::host::{
    self, Had, Host, MAX_ORDERS, OrderKind, OrderOutcome, Origin, Quarantine, Standing, Subject,
};
use crate::id::{ContainerId, HostId, RevocationId, RunId, SecretId};
use crate::playbook::{Deed, MAX_TARGETS, Selection, Step};
use crate::playbook_run::{self, Begun, Run, StepState, Target};
use crate::revocation::Revocation;
use crate::rotation::MAX_REASON_CHARS;
use crate::time::Timestamp;
use crate::world::World;

/// Where an order comes from.
pub(super) struct Place<'r> {
    /// The run.
    pub(super) run: &'r Run,
    /// Its step.
    pub(super) state: &'r StepState,
    /// Which of the step's targets.
    pub(super) place: u32,
}

impl Place<'_> {
    fn origin(&self) -> Origin {
        Origin {
            run: self.run.id,
            step: self.state.step.name.clone(),
            place: self.place,
        }
    }
}

type Found = BTreeMap<(HostId, ContainerId), String>;

/// The containers that selections mean, each once.
pub(super) fn containers(world: &World, selections: &[Selection]) -> Result<Vec<Target>, String> {
    let mut found = Found::new();
    for selection in selections {
        let before = found.len();
        add(world, selection, &mut found)?;
        if found.len() == before && !means_any(world, selection, &found)? {
            let text = selection.text();
            return Err(format!(
                "no container that is served or in quarantine is meant by `{text}`; `keywheel consumers` lists those that are served"
            ));
        }
    }
    let count = found.len();
    if count > MAX_TARGETS {
        return Err(format!(
            "it means {count} containers; at most {MAX_TARGETS} are allowed; say fewer in several steps"
        ));
    }
    let target = |((host, container), name)| Target::Container {
        host,
        container,
        name,
    };
    Ok(found.into_iter().map(target).collect())
}

/// Whether all that it means was meant by another selection already.
fn means_any(world: &World, selection: &Selection, found: &Found) -> Result<bool, String> {
    let mut own = Found::new();
    add(world, selection, &mut own)?;
    Ok(own.keys().any(|key| found.contains_key(key)))
}

fn add(world: &World, selection: &Selection, found: &mut Found) -> Result<(), String> {
    let mut take = |is_meant: &dyn Fn(HostId, &Subject) -> bool| {
        let known = world.known_containers();
        let meant = known.filter(|(host, subject)| is_meant(*host, subject));
        found.extend(meant.map(|(host, one)| ((host, one.container), one.name)));
    };
    match selection {
        Selection::Container { name } => take(&|_, one| {
            let id = one.container.to_string();
            is_named((&id, &one.name), name)
        }),
        Selection::Image { digest } => take(&|_, one| one.image_digest == *digest),
        Selection::Service { name } => take(&|_, one| is_of(&one.service, name)),
        Selection::HeldBy { host } => {
            let host = host_of(world, host)?.id;
            take(&|at, _| at == host);
        }
        Selection::Secret { .. } | Selection::Prefix { .. } | Selection::Store { .. } => {
            for meant in selected(world, std::slice::from_ref(selection))? {
                let leases = world.leases_of(meant.secret.id).map(|lease| lease.id);
                let all: Vec<SecretId> = leases.chain([meant.secret.id]).collect();
                let consumers = all.into_iter().flat_map(|secret| world.consumers(secret));
                found.extend(consumers.map(|(key, state)| {
                    let at = (key.host, key.container.clone());
                    (at, state.container_name.clone())
                }));
            }
        }
    }
    Ok(())
}

/// Orders the restart of a container; nothing where it is gone. A host that was evicted takes no orders.
pub(super) fn restart(
    world: &World,
    place: &Place<'_>,
    (at, container): (HostId, &ContainerId),
    now: Timestamp,
) -> Done {
    let Some((host, subject)) = known(world, (at, container))? else {
        return Ok((Vec::new(), Begun::Nothing));
    };
    if host.quarantines.contains_key(container) {
        return Err(host::Rejection::InQuarantine(subject.name).into());
    }
    check(host)?;
    let rests = place.state.rested_at;
    let until = rests.map(|rested| rested.plus(world.restart_policy(at, container).delay));
    let ordered = host::Event::RestartOrdered {
        subject,
        origin: place.origin(),
        not_before: until.filter(|until| *until > now),
    };
    Ok((vec![Event::Host(at, ordered)], Begun::Restart { host: at }))
}

/// Orders the quarantine of a container; nothing where it is gone, or is in as strict a one.
pub(super) fn quarantine(
    world: &World,
    place: &Place<'_>,
    (at, container): (HostId, &ContainerId),
    (action, reason): (OnRevoke, String),
) -> Done {
    let Some((host, subject)) = known(world, (at, container))? else {
        return Ok((Vec::new(), Begun::Nothing));
    };
    let before = host.quarantines.get(container);
    let is_kept = |one: &&host::Quarantine| one.action >= action;
    match before.filter(is_kept).map(|one| &one.standing) {
        Some(Standing::Done) => return Ok((Vec::new(), Begun::Nothing)),
        Some(Standing::Ordered | Standing::Failed(_)) => {}
        // A stricter one takes the room that it has.
        None if before.is_some() => {}
        None => check(host)?,
    }
    let ordered = host::Event::QuarantineOrdered {
        subject,
        origin: place.origin(),
        action: before.map_or(action, |before| before.action.max(action)),
        reason,
        had: had(world, (at, container), before),
    };
    let begun = Begun::Quarantine { host: at };
    Ok((vec![Event::Host(at, ordered)], begun))
}

/// What a container has, runs on or is to have, what lies beside that in its files, and what it had when it was put into
/// quarantine before.
fn had(
    world: &World,
    (at, container): (HostId, &ContainerId),
    before: Option<&host::Quarantine>,
) -> Vec<Had> {
    let own = world.assignments_of(at, container);
    let now = own.flat_map(|(key, state)| {
        let versions = [state.holds, state.runs_on, state.assigned].into_iter();
        let secret = world.secrets.get(&state.secret).into_iter();
        let lying = secret.flat_map(move |secret| beside(world, key, secret));
        let real = versions.chain(lying).filter(|version| *version > 0);
        let in_variable = world.is_in_variable(key, state.secret);
        real.map(move |version| Had {
            secret: state.secret,
            version,
            in_variable,
        })
    });
    let earlier = before.into_iter().flat_map(|one| one.had.iter().copied());
    let all: BTreeSet<Had> = earlier.chain(now).collect();
    all.into_iter().collect()
}

/// A container that is known, and its host; nothing that an evicted one has is.
fn known<'w>(
    world: &'w World,
    (at, container): (HostId, &ContainerId),
) -> Result<Option<(&'w Host, Subject)>, host::Rejection> {
    let Some(host) = world.hosts.get(&at) else {
        return Ok(None);
    };
    host.refuse_evicted()?;
    let subject = world.known_container(at, container);
    Ok(subject.map(|subject| (host, subject)))
}

/// Whether a host takes one more order.
fn check(host: &Host) -> Result<(), host::Rejection> {
    if !host.knows_orders {
        return Err(host::Rejection::OrdersUnknown(host.name.clone()));
    }
    match host.open_orders() < MAX_ORDERS {
        true => Ok(()),
        false => Err(host::Rejection::TooManyOrders(host.name.clone())),
    }
}

/// What would refuse a step's orders; each once.
pub(super) fn faults(world: &World, step: &Step, targets: &[Target]) -> Vec<String> {
    let is_restart = matches!(step.deed, Deed::Restart { .. });
    let mut faults: Vec<String> = Vec::new();
    for target in targets {
        let Target::Container {
            host,
            container,
            name,
        } = target
        else {
            continue;
        };
        let held = world.quarantine_of(*host, container).is_some();
        let fault = match world.live_host(*host).map(check) {
            Some(Err(fault)) => fault,
            _ if held && is_restart => host::Rejection::InQuarantine(name.clone()),
            _ => continue,
        };
        let fault = fault.to_string();
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    faults
}

/// Restarts that runs ordered, or one step of theirs, and that are not over: their hosts need not do them any more, and
/// what waited for their room gets it.
pub(super) fn withdrawn(
    world: &World,
    (runs, step): (&[RunId], Option<&str>),
    now: Timestamp,
) -> Vec<Event> {
    let is_meant =
        |origin: &Origin| runs.contains(&origin.run) && step.is_none_or(|step| step == origin.step);
    let mut rollouts = rollout::Draft::of(world, now);
    let mut events = Vec::new();
    let open = world.ordered_restarts();
    for (host, one) in open.filter(|(_, one)| is_meant(&one.origin)) {
        rollouts.end_ordered(host, one);
        let ended = host::Event::OrderEnded {
            container: one.subject.container.clone(),
            order: OrderKind::Restart,
            outcome: OrderOutcome::Withdrawn,
            at: now,
        };
        events.push(Event::Host(host, ended));
    }
    if !events.is_empty() {
        // Other services of the same hosts may have room, too.
        rollouts.touch_all();
        events.extend(rollouts.give());
    }
    events
}

/// Lifts the quarantine of a container. A step that waits for it hears that it was lifted before it was done. While a
/// revocation waits for its program's end, it stays.
pub(super) fn lift(
    world: &World,
    (container, now): (&str, Timestamp),
    by: &str,
    reason: &str,
) -> Result<Vec<Event>, Rejection> {
    if reason.trim().is_empty() {
        return Err(host::Rejection::LiftReasonMissing.into());
    }
    if reason.chars().count() > MAX_REASON_CHARS {
        return Err(playbook_run::Rejection::ReasonTooLong(MAX_REASON_CHARS).into());
    }
    let meant = world.quarantines().filter(|(_, one)| {
        let id = one.subject.container.to_string();
        is_named((&id, &one.subject.name), container)
    });
    let meant: Vec<(&Host, &Quarantine)> = meant.collect();
    let named = || container.chars().take(MAX_NAME_CHARS).collect();
    match meant.as_slice() {
        [] => Err(host::Rejection::NoQuarantine(named()).into()),
        [(host, one)] => {
            let (container, name) = (&one.subject.container, &one.subject.name);
            if let Some(revocation) = awaits_end(world, host, container) {
                let name = name.clone();
                return Err(host::Rejection::StillInMemory { name, revocation }.into());
            }
            let lifted = host::Event::QuarantineLifted {
                container: container.clone(),
                by: by.to_owned(),
                reason: reason.trim().to_owned(),
            };
            let why = format!("container `{name}`: its quarantine was lifted before it was done");
            let mut events = vec![Event::Host(host.id, lifted)];
            events.extend(answered(world, &one.origin, Some(why), now));
            Ok(events)
        }
        several => {
            let ids = several.iter();
            let ids: Vec<&str> = ids.map(|(_, one)| one.subject.container.short()).collect();
            let (name, count, ids) = (named(), several.len(), ids.join(", "));
            Err(host::Rejection::WhichQuarantine { name, count, ids }.into())
        }
    }
}

/// The revocation that waits until the program of a container in quarantine has ended, for that has one of its versions
/// in a variable.
fn awaits_end(world: &World, host: &Host, container: &ContainerId) -> Option<RevocationId> {
    let open = world.revocations.values();
    let mut open = open.filter(|open| !open.closed && open.waiting.contains(&host.id));
    let is_kept = |open: &&Revocation| {
        let mut kept = world.kept_in_memory(open.secret, &open.versions);
        kept.any(|(at, one)| at.id == host.id && one.subject.container == *container)
    };
    open.find(is_kept).map(|open| open.id)
}

/// Longest name of a container in an answer.
const MAX_NAME_CHARS: usize = 128;
