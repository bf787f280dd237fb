//! What of playbooks is part of a revocation, so that it is refused last where there is hardly any room.
//!
//! Owns that question. A step that revokes, evicts or quarantines counts, and what leads to it and is as small as that a
//! step is over; what begins other work does not, nor does a run that no person began.

use crate::playbook::Deed;
use crate::playbook_run::{Cause, Move, Request, Run, StepState, next_move};
use crate::world::World;

/// Whether a request carries a revocation, an eviction or a quarantine out, or leads to one.
#[must_use]
pub fn is_urgent(world: &World, request: &Request) -> bool {
    match request {
        Request::Start {
            playbook,
            cause: Cause::Person,
            ..
        } => {
            let known = world.playbook_named(playbook);
            known.is_some_and(|known| known.spec.steps.iter().any(|step| strikes(&step.deed)))
        }
        Request::Advance { run } => world.runs.get(run).is_some_and(|run| moves(world, run)),
        Request::Due { run, .. }
        | Request::Approve { run, .. }
        | Request::Intervene { run, .. }
        | Request::Answer { run, .. } => world.runs.get(run).is_some_and(is_to_strike),
        Request::Start { .. } | Request::Lift { .. } | Request::Remove { .. } => false,
    }
}

/// An open run whose next move is one of those; of several the one that did least.
#[must_use]
pub fn next_urgent_run(world: &World) -> Option<&Run> {
    let open = world.open_runs();
    open.filter(|run| moves(world, run))
        .min_by_key(|run| run.revision)
}

fn moves(world: &World, run: &Run) -> bool {
    match next_move(world, run) {
        Some(Move::Start(place) | Move::Act(place, _)) => {
            let state = run.steps.get(place);
            state.is_some_and(|state| strikes(&state.step.deed))
        }
        Some(Move::Complete(..) | Move::Fail(..) | Move::Skip(_)) => is_to_strike(run),
        Some(Move::End(_)) | None => false,
    }
}

fn is_to_strike(run: &Run) -> bool {
    let mut left = run.steps.iter().filter(|state| !StepState::is_over(state));
    run.is_open() && left.any(|state| strikes(&state.step.deed))
}

fn strikes(deed: &Deed) -> bool {
    matches!(
        deed,
        Deed::Revoke { .. } | Deed::Evict { .. } | Deed::Quarantine { .. }
    )
}
