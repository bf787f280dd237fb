//! What a step does next that gives orders about containers: quarantines all at once, restarts as their services have
//! room, and none after one that did not run well.

use super::event::{Begun, Target};
use super::moves::{End, Move, all, answered};
use super::state::{Act, StepState};
use crate::playbook::Deed;
use crate::world::{Room, World};

pub(super) fn next(world: &World, place: usize, state: &StepState) -> Option<Move> {
    let is_restart = matches!(state.step.deed, Deed::Restart { .. });
    let is_halted = is_restart && state.answers.values().any(Option::is_some);
    let mut waiting = waiting(state).peekable();
    let is_complete = waiting.peek().is_none();
    if !is_complete && !is_halted {
        // Counted once for all that wait: this is asked at each turn of the command bus.
        let room = is_restart.then(|| Room::in_world(world));
        let (at, _) = waiting.find(|(_, target)| is_free(world, room.as_ref(), target))?;
        return Some(Move::Act(place, at));
    }
    let left = waiting.count();
    let ends = state.acts.iter().map(|(at, act)| match act {
        Act::Begun(Begun::Restart { .. } | Begun::Quarantine { .. }) => answered(state, *at),
        Act::Begun(_) => End::Well,
        Act::Refused(reason) => End::Badly(reason.clone()),
    });
    match all(ends) {
        End::NotYet => None,
        End::Badly(reason) if left > 0 => {
            let reason = format!("{reason}; {left} were not restarted after that");
            Some(Move::Fail(place, reason))
        }
        End::Badly(reason) => Some(Move::Fail(place, reason)),
        End::Well => Some(Move::Complete(place, Some(found(state)))),
    }
}

/// Targets that nothing was done to yet.
fn waiting(state: &StepState) -> impl Iterator<Item = (u32, &Target)> {
    let all = (0_u32..).zip(&state.targets);
    all.filter(|(at, _)| !state.acts.contains_key(at))
}

/// Whether its host can be told now; only restarts need room.
fn is_free(world: &World, room: Option<&Room<'_>>, target: &Target) -> bool {
    let Target::Container {
        host, container, ..
    } = target
    else {
        return true;
    };
    match room {
        Some(room) => room.may_restart(*host, container),
        None => !world.awaits_quarantine(*host, container),
    }
}

/// What it did, in words: what was gone by then counts for itself.
fn found(state: &StepState) -> String {
    let ordered = state.begun().filter(|begun| **begun != Begun::Nothing);
    let (ordered, gone, all) = (ordered.count(), state.gone.len(), state.targets.len());
    let count = ordered.saturating_sub(gone);
    let done = match &state.step.deed {
        Deed::Quarantine { action, .. } => {
            format!("{count} newly in quarantine ({})", action.word())
        }
        _ => format!("{count} restarted"),
    };
    let found = match gone {
        0 => done,
        gone => format!("{done}; {gone} gone or down before that"),
    };
    match all.saturating_sub(ordered) {
        0 => found,
        rest => format!("{found}; nothing was to be done to {rest}"),
    }
}

/// What of a step is not over, in words, for when its time is.
pub(crate) fn late(state: &StepState) -> Option<String> {
    let is_late = |(at, _): &(u32, &Target)| match state.acts.get(at) {
        None => true,
        Some(Act::Begun(Begun::Restart { .. } | Begun::Quarantine { .. })) => {
            !state.answers.contains_key(at)
        }
        Some(_) => false,
    };
    let mut late = (0_u32..).zip(&state.targets).filter(is_late);
    let (_, first) = late.next()?;
    let Target::Container { name, .. } = first else {
        return None;
    };
    let (count, of) = (late.count() + 1, state.targets.len());
    let late =
        format!("{count} of {of} containers were not through at its deadline; the first: `{name}`");
    // What went wrong before says more than that somebody is late.
    let mut failures = state.answers.values().flatten();
    Some(match failures.next() {
        Some(failure) => format!("{failure}; {late}"),
        None => late,
    })
}
