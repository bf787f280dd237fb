//! The wait for sessions, between the last acknowledgement and the end of the old credential: whether there
//! is one, and what an answer about them leads to.
//!
//! Invariants: where it is promised, an old version is not revoked before no session of it from before the
//! last acknowledgement is left, but for a person's or the deadline policy's `force`; that a backend does
//! not tell them is on record, and then a grace counts instead. A backend that told of open sessions and
//! then tells none is asked again: no grace ends what is known to be in use. A lease that is in use waits for no
//! grace of the one before: where it needs another one, that wait is over.

use std::time::Duration;

use super::report::Moved;
use super::rotate::{self, Answer};
use super::{Context, Rejection};
use crate::assignment::{self, Assignment};
use crate::binding::AckLevel;
use crate::event::Event;
use crate::id::HostId;
use crate::lease;
use crate::resource::Strategy;
use crate::rotation::{self, GRACE, Rotation, Sessions, Step, Trigger};
use crate::schedule::Ack;
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::world::World;

/// Why an attempt at asking counts as failed after one that told of open sessions.
const UNTOLD: &str =
    "the server does not tell sessions now, and some were open when it last did; it is asked again";

/// Why a rotation waits for sessions of the old credential before that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainCause {
    /// The secret asks for it.
    Asked,
    /// Two accounts alternate.
    Alternating,
    /// Nobody knows when some consumer reads its file again.
    Unreloaded,
}

/// Why a rotation of this secret waits for sessions of the old credential before that dies, if it does.
///
/// | `ack` | accounts that alternate | one that takes two passwords | a lease | one with one password | no account |
/// |---|---|---|---|---|---|
/// | `drained` | yes | yes | yes: it cannot be told, so a grace counts | yes | yes: as of a lease |
/// | `reloaded` | no | no | no | no | no |
/// | absent | yes | where a consumer has no reload | likewise | no | no |
///
/// Where two accounts alternate, whatever is open on the old one was opened with the old credential, and the
/// account stands by for the next one only once that is gone. Where one account takes two passwords, the old
/// one lives until the end. Consumers that are told of the new one, or begin anew with it, have left it behind.
/// Of one whose file is only replaced nobody knows that, so sessions are asked; those that it opened anew before
/// the last acknowledgement look the same, and are waited for, too, up to the deadline.
///
/// At all others nothing that opens anything is left to die at the end: with one password the old one is refused
/// since the cut-over, and so it is where the store makes the value itself (a static role). Without an account
/// Keywheel knows of nothing that the value opens. What it ends then is its own copy, and the version that it wrote
/// to a store outside: a store that destroys a version, disables it or moves a stage off it takes away a way to read
/// the value, and ends no session, login or key of whoever has read it.
///
/// A container's lease opens something until it ends, as the old one of two passwords does. Its store tells no
/// sessions, so a grace counts: [`grace`]. It goes by what the declared secret says of `ack` now.
fn cause(
    world: &World,
    secret: &Secret,
    has_unreloaded: impl FnOnce() -> bool,
) -> Option<DrainCause> {
    let strategy = secret.spec.rotator.as_deref().map(|at| at.strategy);
    let is_lease = secret.lease_of().is_some();
    match (ack_of(world, secret), strategy) {
        (Some(Ack::Drained), _) => Some(DrainCause::Asked),
        (None, Some(Strategy::AlternatingUsers)) => Some(DrainCause::Alternating),
        (None, Some(Strategy::DualPassword)) => has_unreloaded().then_some(DrainCause::Unreloaded),
        (None, None) if is_lease => has_unreloaded().then_some(DrainCause::Unreloaded),
        (Some(Ack::Reloaded), _) | (None, Some(Strategy::SingleUser) | None) => None,
    }
}

/// What a secret says of `ack`; a lease's declared one says it.
fn ack_of(world: &World, secret: &Secret) -> Option<Ack> {
    let declared = secret.lease_of();
    let declared = declared.and_then(|of| world.secrets.get(&of.secret));
    declared.unwrap_or(secret).spec.rotation.ack
}

/// How long versions live on where their sessions cannot be told. Leases do for no more than a part of their time: one
/// that took another's place is not to need the next one meanwhile.
#[must_use]
pub fn grace(secret: &Secret, versions: &[u64]) -> Duration {
    let of = secret.lease_of();
    let leases = of.map(|_| secret.remotes_of(versions)).unwrap_or_default();
    let times = leases.iter().filter_map(lease::whole_of);
    times.map(lease::grace_of).min().unwrap_or(GRACE)
}

/// Why a rotation that began now would wait for sessions, as far as its consumers stay who they are.
#[must_use]
pub fn drain_cause(world: &World, secret: &Secret) -> Option<DrainCause> {
    cause(world, secret, || unreloaded(world, secret).next().is_some())
}

/// Consumers that show no more of a version than that their file was replaced: they have no reload, and only
/// their program knows when it reads the file again. One that was refused before it had a value is none.
pub fn unreloaded<'w>(
    world: &'w World,
    secret: &'w Secret,
) -> impl Iterator<Item = (&'w assignment::Key, &'w Assignment)> {
    let all = world.consumers(secret.id);
    all.filter(move |(key, state)| is_unreloaded(world, secret, key, state))
}

fn is_unreloaded(
    world: &World,
    secret: &Secret,
    key: &assignment::Key,
    state: &Assignment,
) -> bool {
    let is_served = state.is_live() && !state.is_unserved() && state.secret == secret.id;
    let binding = world.bindings.get(&key.binding);
    let spec = binding.and_then(|binding| binding.spec.as_ref());
    let given = spec.filter(|spec| world.gives(spec, secret.id));
    is_served && given.is_some_and(|spec| spec.ack_level() == AckLevel::Swapped)
}

/// Consumers as they are once what is being decided is on the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// What was on it before.
    world: &'a World,
    /// What a report moves.
    moved: Option<&'a Moved>,
    /// The host that is let go.
    without: Option<HostId>,
}

impl<'a> Seen<'a> {
    /// Nothing moves.
    pub(super) const fn of(world: &'a World) -> Self {
        Self {
            world,
            moved: None,
            without: None,
        }
    }

    pub(super) const fn moved(self, moved: &'a Moved) -> Self {
        Self {
            moved: Some(moved),
            ..self
        }
    }

    pub(super) const fn without(self, host: Option<HostId>) -> Self {
        Self {
            without: host,
            ..self
        }
    }

    /// Whether one of them has the version that is wanted, and nobody knows whether its program does.
    fn has_unreloaded(&self, open: &Rotation, secret: &Secret) -> bool {
        let moved = self.moved.into_iter().flatten();
        let is_moved =
            |key: &assignment::Key| self.moved.is_some_and(|moved| moved.contains_key(key));
        let still = self.world.consumers(secret.id);
        let mut all = still.filter(|(key, _)| !is_moved(key)).chain(moved);
        all.any(|(key, state)| {
            Some(key.host) != self.without
                && state.holds == open.wanted()
                && is_unreloaded(self.world, secret, key, state)
        })
    }
}

/// Whether something is left that dies at the end.
pub(super) fn is_left_to_die(open: &Rotation, secret: &Secret) -> bool {
    let dies = |version: &u64| secret.is_deliverable(*version);
    open.old.iter().any(dies)
}

/// Whether it replaces a lease since a playbook says so: what may have leaked keeps no grace by itself.
fn is_told_to_end(open: &Rotation, secret: &Secret) -> bool {
    secret.lease_of().is_some() && matches!(open.trigger, Trigger::Playbook { .. })
}

/// Begins to ask for sessions, where that is promised and something dies at the end. Who the consumers are by
/// now decides, and the event says what was decided. Sessions have as long as consumers had, whatever those left
/// of it. Who moves back before anybody was asked asks for none: what dies
/// then was in use for moments.
pub(super) fn begin(
    seen: &Seen<'_>,
    open: &Rotation,
    secret: &Secret,
    now: Timestamp,
) -> Option<Vec<Event>> {
    let was_short = open.returning.is_some() && (open.drain.asked == 0 || secret.stays_outside());
    if was_short || !is_left_to_die(open, secret) {
        return None;
    }
    let cause = cause(seen.world, secret, || seen.has_unreloaded(open, secret))?;
    if cause == DrainCause::Unreloaded && is_told_to_end(open, secret) {
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
            until: open.drain.grace.unwrap_or_else(|| {
                let both: Vec<u64> = open.old.iter().copied().chain([open.wanted()]).collect();
                ctx.now.plus(grace(secret, &both))
            }),
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
