//! What hosts tell of their orders about containers, and what becomes of orders with a host.
//!
//! Invariants: what is told of another number is of an order that is over; a step hears once of each order that it
//! gave, and only while it is under way; a repeated report gives no event; no revocation counts as withdrawn while a
//! container in quarantine has one of its versions in a variable.

use std::collections::BTreeSet;

use super::rollout;
use crate::event::Event;
use crate::host::{self, Host, OrderKind, OrderOutcome, Origin, Standing};
use crate::id::{ContainerId, HostId, RevocationId};
use crate::playbook_run::{self, MAX_FAILURE_CHARS, Progress};
use crate::report::{HostReport, MAX_REPORT_ITEMS, OrderState, OrderTold};
use crate::revocation::{self, Revocation};
use crate::time::Timestamp;
use crate::world::World;

/// That a host's injector carries out orders, the first time it says so.
pub(super) fn shown(world: &World, report: &HostReport) -> Option<Event> {
    let host = world.hosts.get(&report.host)?;
    let is_news = report.orders.is_some() && !host.knows_orders;
    is_news.then_some(Event::Host(host.id, host::Event::OrdersKnown))
}

/// Takes what a host tells of its orders.
pub(super) fn record(
    world: &World,
    (report, now): (&HostReport, Timestamp),
    rollouts: &mut rollout::Draft<'_>,
    events: &mut Vec<Event>,
) {
    let Some(host) = world.live_host(report.host) else {
        return;
    };
    for told in report.orders.iter().flatten().take(MAX_REPORT_ITEMS) {
        let restart = host.restarts.get(&told.container);
        if let Some(one) = restart.filter(|one| one.number == told.number) {
            rollouts.end_ordered(host.id, one);
            let ended = (OrderKind::Restart, outcome_of(told));
            end(
                world,
                (host.id, &told.container),
                (&one.origin, ended),
                now,
                events,
            );
        }
        let quarantine = host.quarantines.get(&told.container);
        if let Some(one) = quarantine.filter(|one| one.number == told.number) {
            let outcome = outcome_of(told);
            if is_news(&one.standing, &outcome) {
                let ended = (OrderKind::Quarantine, outcome);
                end(
                    world,
                    (host.id, &told.container),
                    (&one.origin, ended),
                    now,
                    events,
                );
            }
        }
    }
}

/// Why an order of a host that was evicted failed.
const EVICTED: &str = "its host was evicted, so that nobody knows what becomes of it";

/// A host was evicted: nothing that was ordered there is waited for, and nothing of it counts as done.
pub(super) fn let_go(world: &World, host: &Host, now: Timestamp, events: &mut Vec<Event>) {
    let restarts = host.restarts.iter();
    let restarts = restarts.map(|(id, one)| (id, &one.origin, OrderKind::Restart));
    let quarantines = host.quarantines.iter();
    let quarantines = quarantines.map(|(id, one)| (id, &one.origin, OrderKind::Quarantine));
    for (container, origin, order) in restarts.chain(quarantines) {
        let reason = EVICTED.to_owned();
        let ended = (order, OrderOutcome::Failed { reason });
        end(world, (host.id, container), (origin, ended), now, events);
    }
}

/// Whether a container of the host is in quarantine with one of a revocation's versions in a variable, and was not
/// stopped. By the plan that has the revocation it is to be, so that what this report says of it means that.
pub(super) fn keeps_in_memory(world: &World, report: &HostReport, open: &Revocation) -> bool {
    let is_over = |number: u64, container: &ContainerId| {
        let mut told = report.orders.iter().flatten();
        told.any(|told| {
            let is_meant = told.number == number && told.container == *container;
            is_meant && matches!(told.state, OrderState::Done | OrderState::Gone)
        })
    };
    let mut kept = world.kept_in_memory(open.secret, &open.versions);
    kept.any(|(host, one)| host.id == report.host && !is_over(one.number, &one.subject.container))
}

/// Whether a host told this by a plan in which every quarantine is over that was lifted: by an older one it leaves out
/// what such a container has in its variables.
pub(super) fn knows_lifted(world: &World, report: &HostReport) -> bool {
    let host = world.hosts.get(&report.host);
    host.is_none_or(|host| report.generation >= host.lifted)
}

/// A revocation that begins waits for the hosts of containers in quarantine that have one of its versions in a variable,
/// though they are no consumers any more: their programs have it until they are stopped.
pub(super) fn wait_for(world: &World, events: &mut Vec<Event>) {
    let evicted = |event: &Event| match event {
        Event::Host(host, host::Event::Evicted { .. }) => Some(*host),
        _ => None,
    };
    let evicted: Vec<HostId> = events.iter().filter_map(evicted).collect();
    let mut waits: BTreeSet<RevocationId> = BTreeSet::new();
    for event in events.iter_mut() {
        let Event::Revocation(id, requested) = event else {
            continue;
        };
        let revocation::Event::Requested {
            secret,
            versions,
            hosts,
            ..
        } = requested
        else {
            continue;
        };
        let kept = world.kept_in_memory(*secret, versions);
        let kept: BTreeSet<HostId> = kept.map(|(host, _)| host.id).collect();
        let news = kept.into_iter();
        let news = news.filter(|host| !hosts.contains(host) && !evicted.contains(host));
        let news: Vec<HostId> = news.collect();
        if !news.is_empty() {
            hosts.extend(news);
            hosts.sort_unstable();
            waits.insert(*id);
        }
    }
    let is_early = |event: &Event| match event {
        Event::Revocation(id, revocation::Event::WithdrawnEverywhere) => waits.contains(id),
        _ => false,
    };
    events.retain(|event| !is_early(event));
}

fn outcome_of(told: &OrderTold) -> OrderOutcome {
    match &told.state {
        OrderState::Done => OrderOutcome::Done,
        OrderState::Gone => OrderOutcome::Gone,
        OrderState::Failed { reason } => OrderOutcome::Failed {
            reason: reason.chars().take(MAX_FAILURE_CHARS).collect(),
        },
    }
}

/// Whether it says something else of a quarantine than is known. A failure is said once until it is done: its words
/// may change with each try. One that was done may fail with a container's next incarnation.
fn is_news(known: &Standing, outcome: &OrderOutcome) -> bool {
    !matches!(
        (known, outcome),
        (Standing::Done, OrderOutcome::Done) | (Standing::Failed(_), OrderOutcome::Failed { .. })
    )
}

/// An order is over, and its step hears of it if it waits for that.
fn end(
    world: &World,
    (host, container): (HostId, &ContainerId),
    (origin, (order, outcome)): (&Origin, (OrderKind, OrderOutcome)),
    now: Timestamp,
    events: &mut Vec<Event>,
) {
    let failure = match &outcome {
        OrderOutcome::Failed { reason } => Some(told_of(world, (host, container), reason)),
        OrderOutcome::Done | OrderOutcome::Gone | OrderOutcome::Withdrawn => None,
    };
    let ended = host::Event::OrderEnded {
        container: container.clone(),
        order,
        outcome,
        at: now,
    };
    events.push(Event::Host(host, ended));
    events.extend(answered(world, origin, failure, now));
}

/// What a step hears of its order that is over, if it waits for that.
pub(super) fn answered(
    world: &World,
    origin: &Origin,
    failure: Option<String>,
    now: Timestamp,
) -> Option<Event> {
    let run = world.runs.get(&origin.run).filter(|run| run.is_open())?;
    let state = run.step(&origin.step)?;
    let waits = state.progress == Progress::Open && !state.answers.contains_key(&origin.place);
    let answered = playbook_run::Event::Answered {
        step: origin.step.clone(),
        place: origin.place,
        failure,
        at: Some(now),
    };
    waits.then_some(Event::PlaybookRun(origin.run, answered))
}

fn told_of(world: &World, (host, container): (HostId, &ContainerId), reason: &str) -> String {
    let subject = world.known_container(host, container);
    let name = subject.map_or_else(|| container.short().to_owned(), |one| one.name);
    let text = format!("container `{name}`: {reason}");
    text.chars().take(MAX_FAILURE_CHARS).collect()
}
