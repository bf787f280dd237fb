//! What a run does next, from its state and the world's: one move at a time.
//!
//! No clock is read here: a deadline that passes is a command of its own, and a move of nobody.

use std::collections::BTreeSet;

use super::event::{Begun, Outcome, Target};
use super::proof::Revoked;
use super::state::{Act, Progress, Run, StepState};
use super::{orders, proof};
use crate::id::{RevocationId, RotationId};
use crate::lease;
use crate::playbook::Deed;
use crate::rotation::{self, Rotation};
use crate::world::World;

/// One move of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// A step begins.
    Start(usize),
    /// A step does its deed to one of its targets.
    Act(usize, u32),
    /// A step is done, and found this beside.
    Complete(usize, Option<String>),
    /// A step failed, for this reason.
    Fail(usize, String),
    /// A step will not begin.
    Skip(usize),
    /// The run ends.
    End(Outcome),
}

/// Whether something a run waits for came to its end.
pub(super) enum End {
    NotYet,
    Well,
    Badly(String),
}

/// What a run does next; `None` while it waits for something, is paused or has ended.
#[must_use]
pub fn next_move(world: &World, run: &Run) -> Option<Move> {
    if !run.is_open() || run.paused {
        return None;
    }
    let mut steps = run.steps.iter().enumerate();
    let next = steps.find_map(|(place, state)| match state.progress {
        Progress::Pending => pending_move(run, place, state),
        Progress::Open => open_move(world, run, place, state),
        Progress::Done | Progress::Failed | Progress::Skipped => None,
    });
    let is_over = || run.steps.iter().all(StepState::is_over);
    next.or_else(|| is_over().then(|| Move::End(outcome(run))))
}

fn outcome(run: &Run) -> Outcome {
    let has_failed = |state: &StepState| state.progress == Progress::Failed && !state.step.may_fail;
    match run.steps.iter().any(has_failed) {
        true => Outcome::Failed,
        false => Outcome::Completed,
    }
}

fn pending_move(run: &Run, place: usize, state: &StepState) -> Option<Move> {
    let mut is_ready = true;
    for after in &state.step.after {
        // A step that is not there is never over; declarations are checked for it.
        let before = run.step(&after.step)?;
        if !before.is_over() {
            is_ready = false;
            continue;
        }
        let is_as_wanted = match after.failed {
            true => before.progress == Progress::Failed,
            false => before.counts_as_done(),
        };
        if !is_as_wanted {
            return Some(Move::Skip(place));
        }
    }
    is_ready.then_some(Move::Start(place))
}

fn open_move(world: &World, run: &Run, place: usize, state: &StepState) -> Option<Move> {
    match &state.step.deed {
        Deed::Wait { span: Some(_) } => None,
        Deed::Wait { span: None } => {
            let begun: Vec<&Begun> = begun_before(run, state, true).collect();
            let revoked = Revoked::beside(world, &begun);
            let end = |one: &&Begun| match one {
                Begun::Rotation { rotation } if revoked.is_all_of(*rotation) => End::Well,
                one => end_of(world, one),
            };
            over(place, all(begun.iter().map(end)))
        }
        Deed::Withdrawn => {
            let ends = begun_before(run, state, true).map(|begun| withdrawn(world, begun));
            over(place, all(ends))
        }
        Deed::Prove => proof::prove(world, place, begun_before(run, state, false)),
        Deed::Approve { count, .. } => {
            let approved = u32::try_from(state.approvals.len()).unwrap_or(u32::MAX);
            (approved >= *count).then_some(Move::Complete(place, None))
        }
        Deed::Rotate { .. }
        | Deed::Revoke { .. }
        | Deed::Evict { .. }
        | Deed::Run { .. }
        | Deed::Notify { .. }
        | Deed::Call { .. } => acting_move(world, place, state),
        Deed::Restart { .. } | Deed::Quarantine { .. } => orders::next(world, place, state),
    }
}

fn over(place: usize, end: End) -> Option<Move> {
    match end {
        End::NotYet => None,
        End::Well => Some(Move::Complete(place, None)),
        End::Badly(reason) => Some(Move::Fail(place, reason)),
    }
}

fn acting_move(world: &World, place: usize, state: &StepState) -> Option<Move> {
    let waiting = (0_u32..).zip(&state.targets);
    let mut waiting = waiting.filter(|(at, _)| !state.acts.contains_key(at));
    let mut is_complete = true;
    let next = waiting.find(|(_, target)| {
        is_complete = false;
        is_free(world, &state.step.deed, target)
    });
    if let Some((at, _)) = next {
        return Some(Move::Act(place, at));
    }
    if !is_complete {
        return None;
    }
    let refused: Vec<&str> = state
        .acts
        .values()
        .filter_map(|act| match act {
            Act::Refused(reason) => Some(reason.as_str()),
            Act::Begun(_) => None,
        })
        .collect();
    if let Some(first) = refused.first() {
        let of = state.targets.len();
        let count = refused.len();
        let reason = format!("{count} of {of} refused; the first: {first}");
        return Some(Move::Fail(place, reason));
    }
    let is_called = matches!(state.step.deed, Deed::Call { .. });
    let ends = state.acts.iter().map(|(at, act)| match act {
        Act::Begun(begun @ Begun::Run { .. }) => end_of(world, begun),
        Act::Begun(Begun::Message { .. }) if is_called => answered(state, *at),
        Act::Begun(_) | Act::Refused(_) => End::Well,
    });
    over(place, all(ends))
}

/// Whether a receiver has taken what it was told.
pub(super) fn answered(state: &StepState, at: u32) -> End {
    match state.answers.get(&at) {
        None => End::NotYet,
        Some(None) => End::Well,
        Some(Some(reason)) => End::Badly(reason.clone()),
    }
}

/// Whether a deed can be done to a target now; a rotation has to wait for one that is open.
fn is_free(world: &World, deed: &Deed, target: &Target) -> bool {
    match (deed, target) {
        (Deed::Rotate { .. }, Target::Secret { secret, .. }) => !world.is_held_up(*secret),
        _ => true,
    }
}

/// What the steps before one began; where `to_wait`, as far back as the `wait` before it.
fn begun_before<'r>(
    run: &'r Run,
    state: &'r StepState,
    to_wait: bool,
) -> impl Iterator<Item = &'r Begun> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut next: Vec<&str> = state.step.after.iter().map(|after| &*after.step).collect();
    let mut begun = Vec::new();
    while let Some(name) = next.pop() {
        let Some(before) = run.step(name).filter(|_| seen.insert(name)) else {
            continue;
        };
        if to_wait && matches!(before.step.deed, Deed::Wait { span: None }) {
            continue;
        }
        begun.extend(before.begun());
        next.extend(before.step.after.iter().map(|after| &*after.step));
    }
    begun.into_iter()
}

/// Whether no host has what it took away any more.
fn withdrawn(world: &World, begun: &Begun) -> End {
    match begun {
        Begun::Rotation { rotation } => match world.rotations.get(rotation) {
            Some(known) if is_given_up_by_all(known) => {
                withdrawn_by(world, lease::end_of(*rotation))
            }
            Some(known) if known.phase == rotation::Phase::Closed(rotation::Outcome::Completed) => {
                withdrawn_by(world, lease::end_of(*rotation))
            }
            _ => end_of_rotation(world, *rotation),
        },
        Begun::Revocation { revocation } => withdrawn_by(world, *revocation),
        _ => end_of(world, begun),
    }
}

/// Whether no host is waited for; of a revocation that is known no more, none is.
fn withdrawn_by(world: &World, id: RevocationId) -> End {
    match world.revocations.get(&id) {
        Some(open) if !open.waiting.is_empty() => End::NotYet,
        _ => End::Well,
    }
}

/// Whether every consumer and every host gave the version before up: sessions may be waited for, or it dies now.
fn is_given_up_by_all(known: &Rotation) -> bool {
    use rotation::{Phase, Step};
    let is_after = match &known.phase {
        Phase::Performing { step, .. } | Phase::Retrying { step, .. } => {
            matches!(step, Step::RevokeOld | Step::Drain)
        }
        _ => known.is_draining(),
    };
    is_after && known.returning.is_none() && known.barrier.is_empty()
}

/// Bad when one is and none is under way any more, so that all that can end well does. Nothing is looked at
/// beyond one that is: this is asked at each turn of the command bus.
pub(super) fn all(ends: impl Iterator<Item = End>) -> End {
    let mut bad: Vec<String> = Vec::new();
    for end in ends {
        match end {
            End::NotYet => return End::NotYet,
            End::Well => {}
            End::Badly(reason) => bad.push(reason),
        }
    }
    match bad.first() {
        None => End::Well,
        Some(first) if bad.len() == 1 => End::Badly(first.clone()),
        Some(first) => End::Badly(format!("{first}; and {} more", bad.len() - 1)),
    }
}

/// How what a step began ended, with why not well; `None` while it is under way. What no host has any more, and of which
/// is known whether it is dead, is through: only its data keys may be left.
pub(super) fn ended(world: &World, begun: &Begun) -> Option<Result<(), String>> {
    match end_of(world, begun) {
        End::NotYet if is_gone(world, begun) => Some(Ok(())),
        End::NotYet => None,
        End::Well => Some(Ok(())),
        End::Badly(reason) => Some(Err(reason)),
    }
}

fn is_gone(world: &World, begun: &Begun) -> bool {
    proof::is_shown(world, begun) && matches!(withdrawn(world, begun), End::Well)
}

fn end_of(world: &World, begun: &Begun) -> End {
    match begun {
        Begun::Rotation { rotation } => end_of_rotation(world, *rotation),
        Begun::Revocation { revocation } => match world.revocations.get(revocation) {
            Some(open) if !open.closed => End::NotYet,
            // One that is known no more was closed long ago, and there is one way to close.
            _ => End::Well,
        },
        Begun::Run { run } => match world.runs.get(run).map(|run| run.outcome) {
            Some(None) => End::NotYet,
            Some(Some(Outcome::Completed)) => End::Well,
            Some(Some(outcome)) => End::Badly(format!("run {run} ended as {}", outcome.word())),
            None => End::Badly(format!("how run {run} ended is in the log only")),
        },
        Begun::Eviction { .. }
        | Begun::Nothing
        | Begun::Message { .. }
        | Begun::Restart { .. }
        | Begun::Quarantine { .. } => End::Well,
    }
}

pub(super) fn end_of_rotation(world: &World, id: RotationId) -> End {
    let Some(known) = world.rotations.get(&id) else {
        return End::Badly(format!("how rotation {id} ended is in the log only"));
    };
    let rotation::Phase::Closed(outcome) = &known.phase else {
        return End::NotYet;
    };
    let word = match outcome {
        rotation::Outcome::Completed => {
            // What it replaced dies by a revocation of its own, where a login can show that.
            let end = world.revocations.get(&lease::end_of(id));
            return match end {
                Some(end) if !end.closed => End::NotYet,
                _ => End::Well,
            };
        }
        rotation::Outcome::RolledBack => "rolled back",
        rotation::Outcome::Parked => "parked",
        rotation::Outcome::Cancelled => "cancelled",
    };
    let secret = world.secrets.get(&known.secret);
    let name = secret.map_or_else(
        || known.secret.to_string(),
        |secret| secret.name.to_string(),
    );
    End::Badly(format!(
        "rotation {id} of `{name}` is {word}; `keywheel describe rotation {id}` says why"
    ))
}

impl Outcome {
    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
