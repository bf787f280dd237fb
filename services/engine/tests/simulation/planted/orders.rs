//! Bugs about orders to hosts.

use keywheel_core::event::Event;
use keywheel_core::host::{self, OrderOutcome, Origin};
use keywheel_core::plan::{HostPlan, Task};
use keywheel_core::playbook_run::{self, Begun, Target};
use keywheel_core::rollout;
use keywheel_core::world::World;

pub(super) fn forget_quarantines(plan: &mut HostPlan) {
    plan.orders
        .retain(|order| !matches!(order.task, Task::Quarantine { .. }));
}

/// With the first restart of a step all others are ordered.
pub(super) fn restart_all(world: &World, events: &mut Vec<Event>) {
    let first = events.iter().find_map(|event| match event {
        Event::Host(_, host::Event::RestartOrdered { origin, .. }) => Some(origin.clone()),
        _ => None,
    });
    let Some(first) = first else {
        return;
    };
    let run = world.runs.get(&first.run);
    let Some(state) = run.and_then(|run| run.step(&first.step)) else {
        return;
    };
    let targets = (0_u32..).zip(&state.targets);
    let others = targets.filter(|(at, _)| *at != first.place && !state.acts.contains_key(at));
    for (place, target) in others {
        let Target::Container {
            host, container, ..
        } = target
        else {
            continue;
        };
        let Some(subject) = world.known_container(*host, container) else {
            continue;
        };
        let origin = Origin {
            place,
            ..first.clone()
        };
        let ordered = host::Event::RestartOrdered {
            subject,
            origin,
            not_before: None,
        };
        let acted = playbook_run::Event::Acted {
            step: first.step.clone(),
            place,
            begun: Begun::Restart { host: *host },
        };
        events.push(Event::Host(*host, ordered));
        events.push(Event::PlaybookRun(first.run, acted));
    }
}

/// A step hears of its order with the order.
pub(super) fn count_as_done(events: &mut Vec<Event>) {
    let given = events.iter().filter_map(|event| match event {
        Event::Host(
            _,
            host::Event::RestartOrdered { origin, .. }
            | host::Event::QuarantineOrdered { origin, .. },
        ) => Some(origin.clone()),
        _ => None,
    });
    let given: Vec<Origin> = given.collect();
    let heard = given.into_iter().map(|origin| {
        let answered = playbook_run::Event::Answered {
            step: origin.step,
            place: origin.place,
            failure: None,
            at: None,
        };
        Event::PlaybookRun(origin.run, answered)
    });
    events.extend(heard);
}

/// Who waits for the room of an order that is taken back is not told.
pub(super) fn keep_room(events: &mut Vec<Event>) {
    let is_withdrawn = |event: &Event| {
        matches!(
            event,
            Event::Host(
                _,
                host::Event::OrderEnded {
                    outcome: OrderOutcome::Withdrawn,
                    ..
                }
            )
        )
    };
    if events.iter().any(is_withdrawn) {
        events
            .retain(|event| !matches!(event, Event::Rollout(_, rollout::Event::LeaveGiven { .. })));
    }
}
