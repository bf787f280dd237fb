//! Requests that take several people as people and tools see them. Pure.

use keywheel_core::approval::{Approval, End, Glass};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_schemas::api::{ApprovalView, BrokenGlassView};
use keywheel_schemas::mirror::TextForm as _;

/// One request.
#[must_use]
pub fn one(world: &World, known: &Approval, now: Timestamp) -> ApprovalView {
    ApprovalView {
        approval_id: known.id.to_string(),
        operation: known.word.clone(),
        object: known.object.clone(),
        plan: known.plan.clone(),
        digest: known.digest.iter().map(|b| format!("{b:02x}")).collect(),
        by: known.by.clone(),
        reason: known.reason.clone(),
        state: state(world, known, now).to_owned(),
        over: overtaken(world, known).filter(|_| known.is_open(now)),
        needed: known.needed,
        missing: known.missing(),
        approved_by: known.words.iter().cloned().collect(),
        asked_at: known.asked_at.text(),
        expires_at: known.expires_at.text(),
        broken_glass: known.glass.as_ref().map(glass),
    }
}

/// Why nothing can be done with a request that nobody ended; no event says it.
#[must_use]
pub fn overtaken(world: &World, known: &Approval) -> Option<String> {
    let set = world.policies().filter(|_| world.is_overtaken(known))?;
    Some(format!(
        "request {} is over: it was made over an older set than version {} of the policies, which came since, and takes the place of none that nobody looked at; ask anew by giving the command again",
        known.id, set.version
    ))
}

fn state(world: &World, known: &Approval, now: Timestamp) -> &'static str {
    match known.end {
        Some(End::Denied) => "denied",
        Some(End::Withdrawn) => "withdrawn",
        Some(End::Used) => "used",
        None if !known.is_open(now) => "expired",
        None if world.is_overtaken(known) => "overtaken",
        None if known.missing() == 0 => "approved",
        None => "waiting",
    }
}

fn glass(broken: &Glass) -> BrokenGlassView {
    let review = broken.review.as_ref();
    BrokenGlassView {
        by: broken.by.clone(),
        reason: broken.reason.clone(),
        at: broken.at.text(),
        reviewed_by: review.map(|(by, _)| by.clone()),
        review: review.map(|(_, found)| found.clone()),
    }
}
