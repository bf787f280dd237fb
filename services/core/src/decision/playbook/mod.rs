//! Decisions of playbooks and their runs. A run's step and what the step does are one append: what
//! another aggregate decides for it stands beside the fact that it was done, or the refusal does.

mod act;
mod order;
mod plan;
mod select;
mod urgent;

use std::collections::BTreeMap;

use super::{Context, Rejection};
use crate::event::Event;
use crate::id::{PlaybookId, RunId};
use crate::name::PlaybookName;
use crate::playbook::{self, Deed, Spec, Step};
use crate::playbook_run::{
    self, Begun, Cause, Intervention, MAX_DEPTH, MAX_FAILURE_CHARS, MAX_OPEN_RUNS,
    MAX_RUN_TEXT_BYTES, Move, Outcome, Progress, Request, Run, SCHEDULER, StepState, next_move,
    score,
};
use crate::rotation::MAX_REASON_CHARS;
use crate::time::Timestamp;
use crate::world::World;

pub use plan::{MAX_PLANNED_RUNS, PlannedStep, plan_playbook};
pub use urgent::{MAX_URGENT_TEXT_BYTES, is_led_over, is_urgent, next_urgent_run};

/// The begin of a run: of one that a person starts, or a step.
struct Start<'a> {
    run: RunId,
    playbook: &'a PlaybookName,
    arguments: &'a BTreeMap<String, String>,
    by: &'a str,
    reason: &'a str,
    cause: Cause,
}

pub(super) fn decide(
    world: &World,
    request: &Request,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    match request {
        Request::Start {
            run,
            playbook,
            arguments,
            by,
            reason,
            cause,
        } => {
            let wish = Start {
                run: *run,
                playbook,
                arguments,
                by: match cause {
                    Cause::Person => by.as_str(),
                    Cause::Event { .. } | Cause::Slot { .. } => SCHEDULER,
                },
                reason,
                cause: *cause,
            };
            start(world, &wish)
        }
        Request::Advance { run } => advance(world, *run, ctx),
        Request::Due { run, step } => due(world, *run, step, ctx.now),
        Request::Approve {
            run,
            step,
            by,
            is_person,
            reason,
        } => approve(world, (*run, step.as_deref()), (by, *is_person), reason),
        Request::Intervene {
            run,
            intervention,
            by,
            reason,
        } => intervene(world, (*run, *intervention), (by, reason), ctx.now),
        Request::Answer {
            run,
            step,
            place,
            failure,
        } => answer(world, *run, (step, *place), failure.as_deref()),
        Request::Lift {
            container,
            by,
            reason,
        } => order::lift(world, (container, ctx.now), by, reason),
        Request::Remove { name } => remove(world, name),
    }
}

/// An open run that has something to do now. Of several the one that did least: a run over a thousand secrets holds no
/// other up.
#[must_use]
pub fn next_run(world: &World) -> Option<&Run> {
    let open = world.open_runs();
    open.filter(|run| next_move(world, run).is_some())
        .min_by_key(|run| run.revision)
}

pub(super) fn declare(
    world: &World,
    id: PlaybookId,
    name: &PlaybookName,
    spec: &Spec,
) -> Result<Vec<Event>, Rejection> {
    if let Some(fault) = spec.fault() {
        let playbook = name.clone();
        return Err(playbook::Rejection::Faulty { playbook, fault }.into());
    }
    let Some(known) = world.playbook_named(name) else {
        let declared = playbook::Event::Declared {
            name: name.clone(),
            spec: spec.clone(),
        };
        return Ok(vec![Event::Playbook(id, declared)]);
    };
    let changed = known.decide_declare(spec);
    Ok(changed
        .map(|event| Event::Playbook(known.id, event))
        .into_iter()
        .collect())
}

fn remove(world: &World, name: &PlaybookName) -> Result<Vec<Event>, Rejection> {
    let known = named(world, name)?;
    let mut others = world.playbooks.values();
    let uses = |other: &&playbook::Playbook| {
        other.id != known.id && other.spec.runs().any(|run| run == name)
    };
    if let Some(other) = others.find(uses) {
        let (playbook, other) = (name.clone(), other.name.clone());
        return Err(playbook::Rejection::InUse { playbook, other }.into());
    }
    let removed = playbook::Event::Removed;
    Ok(vec![Event::Playbook(known.id, removed)])
}

fn named<'w>(world: &'w World, name: &PlaybookName) -> Result<&'w playbook::Playbook, Rejection> {
    let known = world.playbook_named(name);
    known.ok_or_else(|| playbook::Rejection::Unknown(name.clone()).into())
}

fn start(world: &World, wish: &Start<'_>) -> Result<Vec<Event>, Rejection> {
    check_reason(wish.reason)?;
    if world.runs.contains_key(&wish.run) {
        return Ok(Vec::new());
    }
    let known = named(world, wish.playbook)?;
    if !known.spec.allows(wish.cause, wish.arguments) {
        return Err(playbook_run::Rejection::NotTriggered(known.name.clone()).into());
    }
    begin(world, wish, (None, 0))
}

/// The begin of a run; of one that a step begins, too.
fn begin(
    world: &World,
    wish: &Start<'_>,
    (parent, depth): (Option<RunId>, u32),
) -> Result<Vec<Event>, Rejection> {
    let known = named(world, wish.playbook)?;
    let arguments = known.arguments(wish.arguments)?;
    if depth > MAX_DEPTH {
        return Err(playbook_run::Rejection::TooDeep { limit: MAX_DEPTH }.into());
    }
    if world.open_runs().count() >= MAX_OPEN_RUNS {
        let limit = MAX_OPEN_RUNS;
        return Err(playbook_run::Rejection::TooMany { limit }.into());
    }
    let mut steps = known.steps(&arguments);
    let bytes: usize = steps.iter().map(Step::text_bytes).sum();
    if bytes > MAX_RUN_TEXT_BYTES {
        let (playbook, limit) = (known.name.clone(), MAX_RUN_TEXT_BYTES);
        return Err(playbook_run::Rejection::TooLarge {
            playbook,
            bytes,
            limit,
        }
        .into());
    }
    // What is evicted on the way has its name no more.
    act::pin_hosts(world, &mut steps);
    let triggered = playbook_run::Event::Triggered {
        playbook: known.id,
        name: known.name.clone(),
        steps,
        arguments,
        by: wish.by.to_owned(),
        reason: wish.reason.trim().to_owned(),
        parent,
        depth,
        cause: wish.cause,
    };
    Ok(vec![Event::PlaybookRun(wish.run, triggered)])
}

/// Does what a run does next; nothing while it waits.
fn advance(world: &World, id: RunId, ctx: &Context) -> Result<Vec<Event>, Rejection> {
    let run = known(world, id)?;
    let Some(next) = next_move(world, run) else {
        return Ok(Vec::new());
    };
    let name = |place: usize| {
        let state = run.steps.get(place);
        state.map_or_else(String::new, |state| state.step.name.clone())
    };
    let event = match next {
        Move::Start(place) => act::start(world, run, place, ctx.now),
        Move::Act(place, target) => return Ok(act::act(world, run, (place, target), ctx)),
        Move::Complete(place, note) => playbook_run::Event::StepCompleted {
            step: name(place),
            note: note.map(|note| note.chars().take(MAX_FAILURE_CHARS).collect()),
        },
        Move::Fail(place, reason) => failed(name(place), &reason),
        Move::Skip(place) => playbook_run::Event::StepSkipped { step: name(place) },
        Move::End(outcome) => playbook_run::Event::Completed {
            outcome,
            score: score(world, run).0,
        },
    };
    Ok(vec![Event::PlaybookRun(id, event)])
}

fn failed(step: String, reason: &str) -> playbook_run::Event {
    let reason = reason.chars().take(MAX_FAILURE_CHARS).collect();
    playbook_run::Event::StepFailed { step, reason }
}

/// A step's time is over: what was only to wait so long is done, all else failed.
fn due(world: &World, id: RunId, step: &str, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    let run = open(world, id)?;
    let state = run.step(step).filter(|state| {
        state.progress == Progress::Open && state.until.is_some_and(|until| until <= now)
    });
    let Some(state) = state else {
        let step = step.chars().take(playbook::MAX_WORD_BYTES).collect();
        return Err(playbook_run::Rejection::NotDue { run: id, step }.into());
    };
    let name = state.step.name.clone();
    let event = match &state.step.deed {
        Deed::Wait { span: Some(_) } => playbook_run::Event::StepCompleted {
            step: name,
            note: None,
        },
        Deed::Approve { count, .. } => {
            let reason = format!(
                "{} of {count} principals approved before its deadline",
                state.approvals.len()
            );
            failed(name, &reason)
        }
        _ => {
            let late = playbook_run::late(state);
            failed(
                name,
                late.as_deref().unwrap_or("it was not over at its deadline"),
            )
        }
    };
    let mut events = order::withdrawn(world, (std::slice::from_ref(&id), Some(step)), now);
    events.push(Event::PlaybookRun(id, event));
    Ok(events)
}

/// A receiver that a step waits for has taken what it was told, or never will; said once.
fn answer(
    world: &World,
    id: RunId,
    (step, place): (&str, u32),
    failure: Option<&str>,
) -> Result<Vec<Event>, Rejection> {
    let run = open(world, id)?;
    let waits = |state: &&StepState| {
        let is_called = matches!(state.step.deed, Deed::Call { .. });
        let is_told = state.acts.contains_key(&place) && !state.answers.contains_key(&place);
        is_called && is_told && state.progress == Progress::Open
    };
    if run.step(step).filter(waits).is_none() {
        let step = step.chars().take(playbook::MAX_WORD_BYTES).collect();
        return Err(playbook_run::Rejection::NotCalled { run: id, step }.into());
    }
    let failure = failure.map(|reason| reason.chars().take(MAX_FAILURE_CHARS).collect());
    let answered = playbook_run::Event::Answered {
        step: step.to_owned(),
        place,
        failure,
        at: None,
    };
    Ok(vec![Event::PlaybookRun(id, answered)])
}

fn approve(
    world: &World,
    (id, step): (RunId, Option<&str>),
    (by, is_person): (&str, bool),
    reason: &str,
) -> Result<Vec<Event>, Rejection> {
    check_reason(reason)?;
    let run = open(world, id)?;
    if !is_person {
        let by = by.to_owned();
        return Err(playbook_run::Rejection::NoPerson { run: id, by }.into());
    }
    let waits = run.steps.iter().filter(|state| {
        let is_meant = step.is_none_or(|step| step == state.step.name);
        let asks = matches!(state.step.deed, Deed::Approve { .. });
        is_meant && asks && state.progress == Progress::Open
    });
    let waiting: Vec<&str> = waits.map(|state| state.step.name.as_str()).collect();
    let name = match waiting.as_slice() {
        [] => {
            let step = step.map(|step| step.chars().take(playbook::MAX_WORD_BYTES).collect());
            return Err(playbook_run::Rejection::NothingToApprove { run: id, step }.into());
        }
        [one] => (*one).to_owned(),
        several => {
            let steps = several.join(", ");
            return Err(playbook_run::Rejection::WhichStep { run: id, steps }.into());
        }
    };
    let by = by.to_owned();
    if run.by == by {
        return Err(playbook_run::Rejection::OwnRun { run: id, by }.into());
    }
    if run.step(&name).is_some_and(|at| at.step.leaves_out(&by)) {
        let step = name;
        return Err(playbook_run::Rejection::LeftOut { run: id, step, by }.into());
    }
    let is_repeat = |name: &str| run.step(name).is_some_and(|at| at.approvals.contains(&by));
    if is_repeat(&name) {
        return Err(playbook_run::Rejection::ApprovedAlready { step: name, by }.into());
    }
    let approved = playbook_run::Event::Approved {
        step: name,
        by,
        reason: reason.trim().to_owned(),
    };
    Ok(vec![Event::PlaybookRun(id, approved)])
}

fn intervene(
    world: &World,
    (id, intervention): (RunId, Intervention),
    (by, reason): (&str, &str),
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    check_reason(reason)?;
    let run = open(world, id)?;
    let is_again = match intervention {
        Intervention::Pause => run.paused,
        Intervention::Resume => !run.paused,
        Intervention::Cancel => false,
    };
    if is_again {
        let paused = run.paused;
        return Err(playbook_run::Rejection::PausedAlready { run: id, paused }.into());
    }
    let mut events = Vec::new();
    let mut runs = Vec::new();
    let said = (intervention, by, reason.trim());
    step_in(world, run, said, (&mut runs, &mut events));
    if intervention == Intervention::Cancel {
        // Of all of them at once, for they may wait for the same room.
        events.extend(order::withdrawn(world, (runs.as_slice(), None), now));
    }
    Ok(events)
}

/// What is said of a run is said of the runs that its open steps began; those are told, too.
fn step_in(
    world: &World,
    run: &Run,
    (intervention, by, reason): (Intervention, &str, &str),
    (runs, events): (&mut Vec<RunId>, &mut Vec<Event>),
) {
    runs.push(run.id);
    let intervened = playbook_run::Event::Intervened {
        intervention,
        by: by.to_owned(),
        reason: reason.to_owned(),
    };
    events.push(Event::PlaybookRun(run.id, intervened));
    if intervention == Intervention::Cancel {
        let outcome = Outcome::Cancelled;
        let score = score(world, run).0;
        let completed = playbook_run::Event::Completed { outcome, score };
        events.push(Event::PlaybookRun(run.id, completed));
    }
    for begun in run.steps.iter().flat_map(|state| state.begun()) {
        if let Begun::Run { run: below } = begun
            && let Some(below) = world.runs.get(below).filter(|below| below.is_open())
        {
            let both = (&mut *runs, &mut *events);
            step_in(world, below, (intervention, by, reason), both);
        }
    }
}

fn known(world: &World, id: RunId) -> Result<&Run, Rejection> {
    let known = world.runs.get(&id);
    known.ok_or_else(|| playbook_run::Rejection::Unknown(id).into())
}

fn open(world: &World, id: RunId) -> Result<&Run, Rejection> {
    let run = known(world, id)?;
    match run.is_open() {
        true => Ok(run),
        false => Err(playbook_run::Rejection::Ended(id).into()),
    }
}

fn check_reason(reason: &str) -> Result<(), Rejection> {
    if reason.trim().is_empty() {
        return Err(playbook_run::Rejection::ReasonMissing.into());
    }
    if reason.chars().count() > MAX_REASON_CHARS {
        return Err(playbook_run::Rejection::ReasonTooLong(MAX_REASON_CHARS).into());
    }
    Ok(())
}
