//! Who holds a rotation up, and what each of them lacks. Pure; for the log and for people alike.

use super::{Rotation, Straggler};
use crate::assignment::{Key, Progress};
use crate::rollout::Stage;
use crate::world::World;

/// Everyone who did not acknowledge yet, with what they lack.
#[must_use]
pub fn stragglers(world: &World, open: &Rotation) -> Vec<Straggler> {
    let straggler = |consumer: &Key| Straggler {
        consumer: consumer.clone(),
        reason: lack_of(world, consumer),
    };
    open.waiting.iter().map(straggler).collect()
}

/// What a consumer lacks that is waited for.
#[must_use]
pub fn lack_of(world: &World, consumer: &Key) -> String {
    let known = world.assignments.get(consumer);
    if let Some(Progress::Refused(reason)) = known.map(|known| &known.progress) {
        return reason.clone();
    }
    let member = world.rollout_member(consumer.host, &consumer.container);
    let stage = member
        .filter(|member| member.due.iter().any(|due| due.binding == consumer.binding))
        .map(|member| &member.stage);
    match (stage, known.map(|known| &known.progress)) {
        (Some(Stage::Failed(reason)), _) => format!("did not run well after its restart: {reason}"),
        (Some(Stage::Waiting), _) => "waits for leave to restart".to_owned(),
        (Some(Stage::Leave { .. }), _) => "may restart, and did not show it yet".to_owned(),
        (Some(Stage::Unwell), _) => "restarted, and is not well yet".to_owned(),
        (None, Some(Progress::Swapped)) => "has the new value, reload not confirmed yet".to_owned(),
        (None, _) => "new value not in place yet".to_owned(),
    }
}
