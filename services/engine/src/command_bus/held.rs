//! New work that may not begin now, because too few sinks take the audit's records (rule A1).
//!
//! Invariants: a revocation, what carries one out or may lead to one, who comes in to begin one, what keeps hosts within
//! its reach, what a host says that is so, and records of what was denied are never held back; nothing of what is held
//! back is remembered, so the same command is decided as if it were new once there are sinks enough. That a person asked
//! and was refused is on record by whoever served the request.
//!
//! What came of a step that was begun is a fact and is taken at once: else its worker would do it again and again. What
//! it leads to is decided and stays open in the log; no worker is told of it before there are sinks enough.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use keywheel_core::approval;
use keywheel_core::command::{Command, Outward};
use keywheel_core::decision;
use keywheel_core::effect::{self, Effect, Work};
use keywheel_core::id::RotationId;
use keywheel_core::token;
use keywheel_core::world::World;

use super::{CommandBus, Submission, class};
use crate::port::journal::Class;
use crate::port::{ErrorKind, PortError};

/// Says why no new work may begin now; nothing where it may.
pub type HoldBack = Arc<dyn Fn() -> Option<String> + Send + Sync>;

impl CommandBus {
    /// Asks this before each new work.
    #[must_use]
    pub fn with_hold_back(mut self, hold_back: HoldBack) -> Self {
        self.hold_back = Some(hold_back);
        self
    }

    /// Why a command is not decided now.
    pub(super) fn held_back(&self, submission: &Submission) -> Option<PortError> {
        let hold_back = self.hold_back.as_ref()?;
        if class::of(&self.draft, &submission.command) > Class::Work {
            return None;
        }
        let why = hold_back()?;
        let goes_on = serves_revocations(&self.draft, &submission.command);
        (!goes_on).then(|| PortError::new(ErrorKind::Unavailable, why))
    }
}

/// Whether revocations would not begin, or not reach everybody, without a command that is none of them.
fn serves_revocations(world: &World, command: &Command) -> bool {
    match command {
        // A host whose permit or keys end is off the bus, and hears of no revocation.
        Command::NotePermit(_) | Command::RotateHostKey(_) => true,
        Command::EnrolHost { host, .. } => world.live_host(*host).is_some(),
        // Who comes in by a login alone revokes nothing without one, and confirms no sinks.
        Command::Token(token::Request::Issue(wish)) => wish.login.is_some(),
        // What others say before something may begin, and who confirms the sinks. What was approved is new work.
        Command::Approval(request) => !matches!(request, approval::Request::Perform(_)),
        // Somebody outside says that something leaked; a store answers again that revocations wait for.
        Command::Outward(Outward::TakeSignal(_)) | Command::StoreContact { .. } => true,
        // It was done, whether that is written down or not.
        Command::StepOutcome { .. } => true,
        Command::RetryStep { rotation } | Command::DeadlinePassed { rotation } => {
            is_awaited(world, *rotation)
        }
        _ => false,
    }
}

/// Work that no worker is told of yet.
pub struct HoldWork {
    why: HoldBack,
    waiting: Mutex<BTreeSet<effect::Key>>,
}

impl HoldWork {
    /// Holds work while this says why.
    #[must_use]
    pub fn new(why: HoldBack) -> Self {
        Self {
            why,
            waiting: Mutex::default(),
        }
    }

    /// Whether an effect waits while there is a reason to.
    pub(crate) fn may_wait(world: &World, effect: &Effect) -> bool {
        match &effect.work {
            Work::Revoke(_) => false,
            Work::Step(work) => !is_awaited(world, work.rotation),
        }
    }

    /// Whether an effect that may wait does; then it is remembered. The reason may look at the state, so whoever asks
    /// holds no lock on it.
    pub(crate) fn waits(&self, effect: &Effect) -> bool {
        let waits = (self.why)().is_some();
        if waits {
            self.waiting().insert(effect.key());
        }
        waits
    }

    /// Whether anything waits.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting().is_empty()
    }

    /// What waited up to now, which is to be asked for again.
    pub(crate) fn take(&self) -> BTreeSet<effect::Key> {
        std::mem::take(&mut *self.waiting())
    }

    /// What could not be asked for.
    pub(crate) fn put_back(&self, keys: BTreeSet<effect::Key>) {
        self.waiting().extend(keys);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeSet<effect::Key>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether versions die once this rotation has brought another one, or a playbook waits for it before it strikes.
fn is_awaited(world: &World, rotation: RotationId) -> bool {
    let secret = world.rotations.get(&rotation).map(|known| known.secret);
    secret.is_some_and(|secret| world.awaiting(secret).next().is_some())
        || decision::is_led_over(world, rotation)
}
