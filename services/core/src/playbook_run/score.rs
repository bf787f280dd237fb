//! How well a run went: how many of the rotations and revocations that its steps were to begin came to a good end.

use super::event::{Begun, Target};
use super::moves::ended;
use super::state::{Act, Run};
use crate::playbook::Deed;
use crate::world::World;

/// A score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Score {
    /// How many its steps were to begin.
    pub targets: u64,
    /// How many of them came to a good end.
    pub through: u64,
}

/// Why something is not through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// It did not begin.
    NotBegun,
    /// It is under way.
    UnderWay,
    /// It was refused, or did not end well.
    Failed(String),
    /// It ended so long ago that the log alone tells how.
    Forgotten,
}

/// The score of now, and what is not through.
#[must_use]
pub fn score<'r>(world: &World, run: &'r Run) -> (Score, Vec<(&'r Target, Lack)>) {
    let mut score = Score::default();
    let mut lacking = Vec::new();
    for state in &run.steps {
        if !matches!(state.step.deed, Deed::Rotate { .. } | Deed::Revoke { .. }) {
            continue;
        }
        for (place, target) in (0_u32..).zip(&state.targets) {
            score.targets += 1;
            let lack = match state.acts.get(&place) {
                None => Some(Lack::NotBegun),
                Some(Act::Refused(reason)) => Some(Lack::Failed(reason.clone())),
                Some(Act::Begun(Begun::Rotation { rotation }))
                    if !world.rotations.contains_key(rotation) =>
                {
                    Some(Lack::Forgotten)
                }
                Some(Act::Begun(begun)) => match ended(world, begun) {
                    None => Some(Lack::UnderWay),
                    Some(end) => end.err().map(Lack::Failed),
                },
            };
            match lack {
                None => score.through += 1,
                Some(lack) => lacking.push((target, lack)),
            }
        }
    }
    (score, lacking)
}
