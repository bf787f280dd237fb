//! How long a rotation waits for those who restart under a rollout.
//!
//! Invariant: nobody's time is up by a restart that is held back here.

use std::time::Duration;

use super::{fits, longest_restart, smallest, spec_of};
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

/// Who takes the room that a rotation's consumers wait for, when that does not come by itself: all who take it are down,
/// and none of them has leave or will get it.
pub(in crate::decision) fn barring<'w>(world: &'w World, open: &Rotation) -> Option<&'w Member> {
    let is_ours = |instance: &Instance| {
        let mut waiting = open.waiting.iter();
        waiting.any(|key| key.host == instance.host && key.container == instance.container)
    };
    world.rollouts.values().find_map(|rollout| {
        let has_no_room = |member: &Member| {
            let most = smallest(world, member.due.iter()).max_unavailable;
            !fits(rollout.unavailable(), most)
        };
        let gets_no_leave = |member: &Member| {
            let waits = member.stage == Stage::Waiting && !rollout.has_failed(&member.due);
            member.is_down && !member.has_leave() && !waits
        };
        let mut members = rollout.members.iter();
        let is_short = members.any(|(instance, one)| is_ours(instance) && has_no_room(one));
        let mut taking = rollout.members.values().filter(|one| one.is_unavailable());
        let is_barred = is_short && taking.clone().all(gets_no_leave);
        taking.next().filter(|_| is_barred)
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
