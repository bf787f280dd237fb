//! What of playbooks is part of a revocation, so that it is refused last where there is hardly any room.
//!
//! Owns that question. A step that revokes, evicts or quarantines counts, and that a step before it is over. In an
//! emergency so does what leads to it: that the run begins, as far as that is small, and every step before, since what
//! that waits for would hold the other up; but not another playbook, which may be of any size. An emergency is a run
//! that a person or an event began; what a schedule began is a drill.

use std::collections::BTreeMap;

use crate::id::RotationId;
use crate::playbook::{Deed, Playbook, Step};
use crate::playbook_run::{Begun, Cause, Move, Request, Run, StepState, next_move};
use crate::world::World;

/// Most bytes of the texts of a run that an event begins where there is hardly any room: many may come at a time, and
/// nobody looks at them.
pub const MAX_URGENT_TEXT_BYTES: usize = 16 << 10;

/// Whether a request carries a revocation, an eviction or a quarantine out, or leads to one.
#[must_use]
pub fn is_urgent(world: &World, request: &Request) -> bool {
    match request {
        Request::Start {
            playbook,
            arguments,
            cause,
            ..
        } => {
            let known = world.playbook_named(playbook);
            known.is_some_and(|known| is_urgent_start(known, arguments, *cause))
        }
        Request::Advance { run } => world.runs.get(run).is_some_and(|run| moves(world, run)),
        Request::Due { run, .. }
        | Request::Approve { run, .. }
        | Request::Intervene { run, .. }
        | Request::Answer { run, .. } => world.runs.get(run).is_some_and(is_to_strike),
        Request::Lift { .. } | Request::Remove { .. } => false,
    }
}

/// An open run whose next move is one of those; of several the one that did least.
#[must_use]
pub fn next_urgent_run(world: &World) -> Option<&Run> {
    let open = world.open_runs();
    open.filter(|run| moves(world, run))
        .min_by_key(|run| run.revision)
}

/// Whether an emergency that has yet to strike began this rotation, and so may wait for its end.
#[must_use]
pub fn is_led_over(world: &World, rotation: RotationId) -> bool {
    let began = |run: &Run| {
        let mut begun = run.steps.iter().flat_map(|state| state.begun());
        begun.any(|one| matches!(one, Begun::Rotation { rotation: id } if *id == rotation))
    };
    world.open_runs().any(|run| is_led(run) && began(run))
}

fn is_urgent_start(known: &Playbook, told: &BTreeMap<String, String>, cause: Cause) -> bool {
    let mut steps = known.spec.steps.iter();
    if !steps.any(|step| strikes(&step.deed)) {
        return false;
    }
    match cause {
        Cause::Person => true,
        Cause::Slot { .. } => false,
        Cause::Event { .. } => known.arguments(told).is_ok_and(|told| {
            let steps = known.steps(&told);
            let bytes: usize = steps.iter().map(Step::text_bytes).sum();
            bytes <= MAX_URGENT_TEXT_BYTES
        }),
    }
}

fn moves(world: &World, run: &Run) -> bool {
    let deed = |place: usize| run.steps.get(place).map(|state| &state.step.deed);
    match next_move(world, run) {
        Some(Move::Start(place)) => deed(place).is_some_and(|deed| strikes(deed) || is_led(run)),
        Some(Move::Act(place, _)) => deed(place).is_some_and(|deed| {
            let is_small = !matches!(deed, Deed::Run { .. });
            strikes(deed) || (is_small && is_led(run))
        }),
        Some(Move::Complete(..) | Move::Fail(..) | Move::Skip(_)) => is_to_strike(run),
        Some(Move::End(_)) | None => false,
    }
}

/// Whether an emergency is on its way to what it strikes.
fn is_led(run: &Run) -> bool {
    !matches!(run.cause, Cause::Slot { .. }) && is_to_strike(run)
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
