//! Decisions about the policies: one set replaces the one before it, whole.

use super::Rejection;
use crate::event::Event;
use crate::policy::{self, MAX_POLICY_SET_BYTES, Request};
use crate::world::World;

pub(super) fn apply(world: &World, wish: &Request) -> Result<Vec<Event>, Rejection> {
    let size = wish.policies.size();
    if size > MAX_POLICY_SET_BYTES {
        return Err(policy::Rejection::TooLarge(size).into());
    }
    let known = world.policies();
    let found = known.map_or(0, |known| known.version);
    if let Some(expected) = wish.expected.filter(|expected| *expected != found) {
        return Err(policy::Rejection::Moved { expected, found }.into());
    }
    if known.is_some_and(|known| known.policies == wish.policies) {
        return Ok(Vec::new());
    }
    let applied = policy::Event::Applied {
        version: found + 1,
        policies: wish.policies.clone(),
        by: wish.by.clone(),
    };
    let id = known.map_or(wish.id, |known| known.id);
    Ok(vec![Event::Policy(id, applied)])
}
