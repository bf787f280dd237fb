//! Decisions about what takes several people.
//!
//! What was approved is done in one append with the fact that its request was used, so a crash between the last word
//! and the deed leaves a request that is good still, and none after it leaves one.

use super::{Context, Refusal, Rejection, decide_alone};
use crate::approval::{
    self, APPROVAL_LIFETIME, Approval, Ask, Event as Fact, MAX_APPROVAL_OBJECT_BYTES,
    MAX_APPROVAL_REASON_CHARS, MAX_OPEN_APPROVALS, MAX_OPEN_APPROVALS_PER_PERSON, MAX_PEOPLE,
    MAX_PLAN_BYTES, MAX_UNREVIEWED_PER_PERSON, MIN_PEOPLE, Operation, Perform, Request,
};
use crate::event::Event;
use crate::id::ApprovalId;
use crate::time::Timestamp;
use crate::world::World;

pub(super) fn decide(
    world: &World,
    request: &Request,
    ctx: &Context,
) -> Result<Vec<Event>, Refusal> {
    let now = ctx.now;
    Ok(match request {
        Request::Ask(wish) => ask(world, wish, now)?,
        Request::Approve {
            approval,
            by,
            reason,
        } => approve(world, *approval, (by, reason), now)?,
        Request::Deny {
            approval,
            by,
            reason,
        } => deny(world, *approval, (by, reason), now)?,
        Request::Withdraw { approval, by } => withdraw(world, *approval, by, now)?,
        Request::BreakGlass {
            approval,
            by,
            reason,
        } => break_glass(world, *approval, (by, reason), now)?,
        Request::Review {
            approval,
            by,
            reason,
        } => review(world, *approval, (by, reason))?,
        Request::Perform(wish) => return perform(world, wish, ctx),
    })
}

/// What it says of itself: a reason that is there, and not too long.
fn words(reason: &str) -> Result<String, Rejection> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(approval::Rejection::ReasonMissing.into());
    }
    if reason.chars().count() > MAX_APPROVAL_REASON_CHARS {
        return Err(approval::Rejection::ReasonTooLong.into());
    }
    Ok(reason.to_owned())
}

fn known(world: &World, id: ApprovalId) -> Result<&Approval, Rejection> {
    let known = world.approvals.by_id(id);
    known.ok_or_else(|| approval::Rejection::Unknown(id).into())
}

fn open(world: &World, id: ApprovalId, now: Timestamp) -> Result<&Approval, Rejection> {
    let known = known(world, id)?;
    if let Some(end) = known.end {
        let how = end.words();
        return Err(approval::Rejection::Over { id, how }.into());
    }
    match known.is_open(now) {
        true => Ok(known),
        false => Err(approval::Rejection::Expired(id).into()),
    }
}

fn ask(world: &World, wish: &Ask, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    if !(MIN_PEOPLE..=MAX_PEOPLE).contains(&wish.needed) {
        return Err(approval::Rejection::People {
            operation: wish.operation,
            needed: wish.needed,
        }
        .into());
    }
    if wish.plan.len() > MAX_PLAN_BYTES || wish.object.len() > MAX_APPROVAL_OBJECT_BYTES {
        return Err(approval::Rejection::TooLarge.into());
    }
    let reason = words(&wish.reason)?;
    if let Some(same) = world.approvals.open_like(wish, now) {
        // A share is a word each time; any other request is what it was.
        let is_there = same.words.contains(&wish.by) && wish.operation != Operation::Unseal;
        return match is_there {
            true => Ok(Vec::new()),
            false => approve(world, same.id, (&wish.by, &reason), now),
        };
    }
    // One that is there is never made anew: what was said of it, and who broke its glass, would be gone.
    if world.approvals.by_id(wish.id).is_some() {
        return Err(approval::Rejection::Another(wish.id).into());
    }
    let open = || {
        world
            .approvals
            .iter()
            .filter(move |known| known.is_open(now))
    };
    if open().count() >= MAX_OPEN_APPROVALS {
        return Err(approval::Rejection::TooMany.into());
    }
    if open().filter(|known| known.by == wish.by).count() >= MAX_OPEN_APPROVALS_PER_PERSON {
        return Err(approval::Rejection::TooManyOf(wish.by.clone()).into());
    }
    let requested = Fact::Requested {
        operation: wish.operation.word().to_owned(),
        object: wish.object.clone(),
        digest: wish.digest,
        plan: wish.plan.clone(),
        by: wish.by.clone(),
        reason,
        needed: wish.needed,
        asked_at: now,
        expires_at: now.plus(APPROVAL_LIFETIME),
    };
    Ok(vec![Event::Approval(wish.id, requested)])
}

fn approve(
    world: &World,
    id: ApprovalId,
    (by, reason): (&str, &str),
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let known = open(world, id, now)?;
    let reason = words(reason)?;
    if known.words.contains(by) {
        return Err(approval::Rejection::SamePerson {
            id,
            by: by.to_owned(),
        }
        .into());
    }
    let is_last = known.missing() <= 1;
    let approved = Fact::Approved {
        by: by.to_owned(),
        reason,
    };
    Ok(with_deed(known, approved, is_last))
}

/// The set of sinks is what it is: confirming it is all there is to do.
fn with_deed(known: &Approval, fact: Fact, is_last: bool) -> Vec<Event> {
    let is_all = is_last && known.operation == Some(Operation::SinkChange);
    let used = is_all.then_some(Fact::Used);
    let facts = std::iter::once(fact).chain(used);
    facts.map(|fact| Event::Approval(known.id, fact)).collect()
}

fn deny(
    world: &World,
    id: ApprovalId,
    (by, reason): (&str, &str),
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let known = open(world, id, now)?;
    let reason = words(reason)?;
    if known.by == by {
        return Err(approval::Rejection::OwnRequest {
            id,
            by: by.to_owned(),
        }
        .into());
    }
    let denied = Fact::Denied {
        by: by.to_owned(),
        reason,
    };
    Ok(vec![Event::Approval(id, denied)])
}

fn withdraw(
    world: &World,
    id: ApprovalId,
    by: &str,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let known = open(world, id, now)?;
    if !known.words.contains(by) {
        return Err(approval::Rejection::NoWord {
            id,
            by: by.to_owned(),
        }
        .into());
    }
    let withdrawn = Fact::Withdrawn { by: by.to_owned() };
    Ok(vec![Event::Approval(id, withdrawn)])
}

fn break_glass(
    world: &World,
    id: ApprovalId,
    (by, reason): (&str, &str),
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let known = open(world, id, now)?;
    let reason = words(reason)?;
    if known.missing() == 0 {
        return Err(approval::Rejection::Granted(id).into());
    }
    let unreviewed = world.approvals.iter().filter(|one| one.is_unreviewed());
    let is_theirs = |one: &&Approval| one.glass.as_ref().is_some_and(|glass| glass.by == by);
    if unreviewed.filter(is_theirs).count() >= MAX_UNREVIEWED_PER_PERSON {
        return Err(approval::Rejection::TooManyUnreviewed(by.to_owned()).into());
    }
    let broken = Fact::GlassBroken {
        by: by.to_owned(),
        reason,
        at: now,
    };
    Ok(with_deed(known, broken, true))
}

fn review(
    world: &World,
    id: ApprovalId,
    (by, reason): (&str, &str),
) -> Result<Vec<Event>, Rejection> {
    let known = known(world, id)?;
    let reason = words(reason)?;
    let broke = known.glass.as_ref().filter(|_| known.is_unreviewed());
    let Some(glass) = broke else {
        return Err(approval::Rejection::NoReview(id).into());
    };
    if glass.by == by || known.by == by {
        return Err(approval::Rejection::OwnReview {
            id,
            by: by.to_owned(),
        }
        .into());
    }
    let reviewed = Fact::GlassReviewed {
        by: by.to_owned(),
        reason,
    };
    Ok(vec![Event::Approval(id, reviewed)])
}

fn perform(world: &World, wish: &Perform, ctx: &Context) -> Result<Vec<Event>, Refusal> {
    let id = wish.approval;
    let known = open(world, id, ctx.now)?;
    let operation = Operation::of(&wish.command);
    let is_same = operation.is_some() && known.operation == operation;
    if !is_same || known.digest != wish.digest || known.by != wish.by {
        let reason: Rejection = approval::Rejection::Another(id).into();
        return Err(reason.into());
    }
    let more = known.missing();
    if more > 0 {
        let reason: Rejection = approval::Rejection::Waits { id, more }.into();
        return Err(reason.into());
    }
    // What is refused uses nothing up.
    let mut events = decide_alone(world, &wish.command, ctx)?;
    events.push(Event::Approval(id, Fact::Used));
    Ok(events)
}
