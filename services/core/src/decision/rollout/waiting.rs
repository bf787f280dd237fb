//! How long a rotation waits for those who restart under a rollout.
//!
//! Invariant: nobody's time is up by a restart that is held back here.

use std::time::Duration;

use super::{longest_restart, spec_of};
use crate::assignment;
use crate::id::{BindingId, HostId, SecretId};
use crate::rollout::{Due, Instance, Member, Stage};
use crate::rotation::{self, Rotation};
use crate::time::Timestamp;
use crate::world::World;

/// Until when a consumer has time whose restart begins then.
pub(in crate::decision) fn ends_at(
    world: &World,
    secret: SecretId,
    binding: BindingId,
    begins: Timestamp,
) -> Timestamp {
    let takes = spec_of(world, binding).map_or(Duration::ZERO, longest_restart);
    let secret = world.secrets.get(&secret);
    let waits = secret.map_or(rotation::ACK_DEADLINE, |secret| {
        secret.spec.rotation.ack_deadline()
    });
    begins.plus(waits.saturating_add(takes))
}

/// Until when those of a secret's consumers have time that have leave by now; `None` when none has.
pub(in crate::decision) fn with_leave<'a>(
    world: &World,
    secret: SecretId,
    consumers: impl Iterator<Item = &'a assignment::Key>,
    now: Timestamp,
) -> Option<Timestamp> {
    let ends = consumers.filter_map(|key| {
        let member = world.rollout_member(key.host, &key.container)?;
        let Stage::Leave { not_before, .. } = &member.stage else {
            return None;
        };
        let begins = not_before.filter(|at| *at > now).unwrap_or(now);
        Some(ends_at(world, secret, key.binding, begins))
    });
    ends.max()
}

/// Whether the room that a rotation's consumers wait for does not come by itself: those of their service who take it
/// are down, and wait for a version that failed, with which none of them restarts.
pub(in crate::decision) fn is_barred(world: &World, open: &Rotation) -> bool {
    let is_ours = |instance: &Instance| {
        let mut waiting = open.waiting.iter();
        waiting.any(|key| key.host == instance.host && key.container == instance.container)
    };
    world.rollouts.values().any(|rollout| {
        let mut down = rollout.members.values();
        let is_over = |member: &Member| {
            member.is_down && !member.has_leave() && rollout.has_failed(&member.due)
        };
        rollout.unavailable() > 0
            && rollout.members.keys().any(is_ours)
            && down.all(|member| !member.is_unavailable() || is_over(member))
    })
}

/// Whether all that a rotation waits for is held back here: everyone who is missing waits for leave that
/// there is no room for yet, and no host without such a consumer is missing.
pub(in crate::decision) fn is_held_back(world: &World, open: &Rotation) -> bool {
    let is_due = |due: &Due| due.secret == open.secret && due.version == open.wanted();
    let waits = |key: &assignment::Key| {
        let instance = Instance {
            host: key.host,
            container: key.container.clone(),
        };
        world.rollouts.values().any(|rollout| {
            // With what its service did not run well with it gets none.
            rollout.members.get(&instance).is_some_and(|member| {
                member.stage == Stage::Waiting
                    && member.due.iter().any(is_due)
                    && !rollout.has_failed(&member.due)
            })
        })
    };
    let has_consumer = |host: &HostId| open.waiting.iter().any(|key| key.host == *host);
    !open.waiting.is_empty()
        && open.waiting.iter().all(waits)
        && open.barrier.iter().all(has_consumer)
}
