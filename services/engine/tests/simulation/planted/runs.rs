//! Bugs about runs of playbooks.

use keywheel_core::command::Command;
use keywheel_core::decision::{Refusal, Rejection};
use keywheel_core::event::Event;
use keywheel_core::id::RunId;
use keywheel_core::playbook::Deed;
use keywheel_core::playbook_run::{
    self, Intervention, Progress, Rejection as No, Request, Run, StepState,
};
use keywheel_core::revocation;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;

use super::Planted;

/// An approval that does not count is taken all the same.
pub(super) fn approve(
    planted: Planted,
    command: &Command,
    refusal: &Refusal,
) -> Option<Vec<Event>> {
    let Command::Playbook(Request::Approve {
        run,
        step,
        by,
        reason,
        ..
    }) = command
    else {
        return None;
    };
    let step = match &refusal.reason {
        Rejection::PlaybookRun(No::ApprovedAlready { step, .. })
            if planted == Planted::CountsTwice =>
        {
            step.clone()
        }
        Rejection::PlaybookRun(No::OwnRun { .. }) if planted == Planted::ApprovesOwn => {
            step.clone()?
        }
        _ => return None,
    };
    let approved = playbook_run::Event::Approved {
        step,
        by: by.clone(),
        reason: reason.clone(),
    };
    Some(vec![Event::PlaybookRun(*run, approved)])
}

/// A step that others have to end before begins beside them.
pub(super) fn begin_early(world: &World, command: &Command, events: &mut Vec<Event>) {
    let Command::Playbook(Request::Advance { run }) = command else {
        return;
    };
    let Some(run) = world.runs.get(run) else {
        return;
    };
    let is_over = |name: &str| run.step(name).is_some_and(StepState::is_over);
    let early = pending(run).find(|state| {
        let mut after = state.step.after.iter();
        after.any(|after| !is_over(&after.step))
    });
    events.extend(early.map(|state| started(run.id, state)));
}

/// Who pauses a run has it begin one step more.
pub(super) fn begin_paused(world: &World, events: &mut Vec<Event>) {
    let paused = events.iter().find_map(|event| match event {
        Event::PlaybookRun(id, playbook_run::Event::Intervened { intervention, .. })
            if *intervention == Intervention::Pause =>
        {
            world.runs.get(id)
        }
        _ => None,
    });
    if let Some(run) = paused {
        events.extend(pending(run).next().map(|state| started(run.id, state)));
    }
}

/// A run that is cancelled is not told.
pub(super) fn forget_cancel(events: &mut Vec<Event>) {
    events.retain(|event| {
        !matches!(
            event,
            Event::PlaybookRun(
                _,
                playbook_run::Event::Completed {
                    outcome: playbook_run::Outcome::Cancelled,
                    ..
                }
            )
        )
    });
}

/// Runs below one that is cancelled are not told.
pub(super) fn forget_below(command: &Command, events: &mut Vec<Event>) {
    if let Command::Playbook(Request::Intervene {
        run,
        intervention: Intervention::Cancel,
        ..
    }) = command
    {
        events.retain(|event| matches!(event, Event::PlaybookRun(id, _) if id == run));
    }
}

/// What a server says to have made unusable is taken for proven.
pub(super) fn prove_by_word(world: &World, events: &mut Vec<Event>) {
    let is_word = |event: &Event| {
        matches!(
            event,
            Event::Revocation(_, revocation::Event::BackendConfirmed)
        )
    };
    if !events.iter().any(is_word) {
        return;
    }
    for run in world.open_runs() {
        let open = run.steps.iter().filter(|state| {
            state.progress == Progress::Open && matches!(state.step.deed, Deed::Prove)
        });
        let completed = open.map(|state| playbook_run::Event::StepCompleted {
            step: state.step.name.clone(),
            note: Some("1 proven dead".to_owned()),
        });
        events.extend(completed.map(|event| Event::PlaybookRun(run.id, event)));
    }
}

/// After a crash a step that was under way begins again.
pub(super) fn begin_again(world: &World, events: &mut Vec<Event>) {
    let moved = events.iter().find_map(|event| match event {
        Event::PlaybookRun(id, _) => world.runs.get(id),
        _ => None,
    });
    let Some(run) = moved else {
        return;
    };
    let mut steps = run.steps.iter();
    let open = steps.find(|state| state.progress == Progress::Open);
    events.extend(open.map(|state| started(run.id, state)));
}

fn pending(run: &Run) -> impl Iterator<Item = &StepState> {
    let steps = run.steps.iter();
    steps.filter(|state| state.progress == Progress::Pending)
}

fn started(run: RunId, state: &StepState) -> Event {
    let started = playbook_run::Event::StepStarted {
        step: state.step.name.clone(),
        targets: state.targets.clone(),
        until: Timestamp::default(),
    };
    Event::PlaybookRun(run, started)
}
