//! The wait for sessions, between the last acknowledgement and the end of the old credential: whether there
//! is one, and what an answer about them leads to.
//!
//! Invariants: where it is promised, an old version is not revoked before no session of it from before the
//! last acknowledgement is left, but for a person's or the deadline policy's `force`; that a backend does
//! not tell them is on record, and then a grace counts instead. A backend that told of open sessions and
//! then tells none is asked again: no grace ends what is known to be in use.

use super::rotate::{self, Answer};
use super::{Context, Rejection};
use crate::event::Event;
use crate::resource::Strategy;
use crate::rotation::{self, GRACE, Rotation, Sessions, Step};
use crate::schedule::Ack;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Why an attempt at asking counts as failed after one that told of open sessions.
const UNTOLD: &str =
    "the server does not tell sessions now, and some were open when it last did; it is asked again";

/// Whether a rotation of this secret waits for sessions of the old credential before that dies.
///
/// | `ack` | two accounts that alternate | one account | no account |
/// |---|---|---|---|
/// | `drained` | yes | yes | yes: it cannot be told, so a grace counts |
/// | `reloaded` | no | no | no |
/// | absent | yes | no | no |
///
/// Where two accounts alternate, whatever is open on the old one was opened with the old credential. Sessions
/// of one account look alike whichever password opened them: a pool that reconnected with the new one
/// before the last acknowledgement would be waited for, too, up to the deadline. So there it is waited for
/// only where somebody asks for it.
#[must_use]
pub fn drains(secret: &Secret) -> bool {
    let strategy = secret.spec.rotator.as_deref().map(|at| at.strategy);
    match (secret.spec.rotation.ack, strategy) {
        (Some(Ack::Drained), _) | (None, Some(Strategy::AlternatingUsers)) => true,
        (Some(Ack::Reloaded), _)
        | (None, Some(Strategy::DualPassword | Strategy::SingleUser) | None) => false,
    }
}

/// Whether something is left that dies at the end.
pub(super) fn is_left_to_die(open: &Rotation, secret: &Secret) -> bool {
    let dies = |version: &u64| secret.is_deliverable(*version);
    open.old.iter().any(dies)
}

/// Begins to ask for sessions, where that is promised and something dies at the end. They have as long as
/// consumers had, whatever those left of it. Who moves back before anybody was asked asks for none: what dies
/// then was in use for moments.
pub(super) fn begin(open: &Rotation, secret: &Secret, now: Timestamp) -> Option<Vec<Event>> {
    let was_short = open.returning.is_some() && (open.drain.asked == 0 || secret.stays_outside());
    let waits = drains(secret) && !was_short && is_left_to_die(open, secret);
    if !waits {
        return None;
    }
    let deadline = now.plus(secret.spec.rotation.ack_deadline());
    let is_later = open.deadline.is_none_or(|known| known < deadline);
    let moved = is_later.then_some(rotation::Event::DeadlineMoved { deadline });
    let events = moved.into_iter().chain([open.ask_for_sessions()]);
    Some(
        events
            .map(|event| Event::Rotation(open.id, event))
            .collect(),
    )
}

/// What the answer to one question leads to.
pub(super) fn counted(
    open: &Rotation,
    secret: &Secret,
    answer: &Answer<'_>,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    if !is_left_to_die(open, secret) {
        return drained(open, secret);
    }
    let attempt = answer.attempt;
    let event = match answer.sessions {
        Some(Sessions { left: 0, .. }) => return drained(open, secret),
        Some(Sessions { mark, left }) => rotation::Event::SessionsLeft {
            attempt,
            mark,
            sessions: left,
            since: open.drain.since.unwrap_or(ctx.now),
        },
        None if open.drain.left.is_some() => rotation::Event::StepFailed {
            step: Step::Drain,
            attempt,
            reason: UNTOLD.to_owned(),
        },
        None => rotation::Event::SessionsUntold {
            attempt,
            until: open.drain.grace.unwrap_or_else(|| ctx.now.plus(GRACE)),
        },
    };
    Ok(vec![Event::Rotation(open.id, event)])
}

/// The wait is over: the old versions die.
pub(super) fn drained(open: &Rotation, secret: &Secret) -> Result<Vec<Event>, Rejection> {
    let done = rotation::Event::StepCompleted { step: Step::Drain };
    let mut events = vec![Event::Rotation(open.id, done)];
    events.extend(rotate::ended(open, secret)?);
    Ok(events)
}
