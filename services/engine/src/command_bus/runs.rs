//! Runs of playbooks go on by themselves: whatever the log says comes next is decided next.
//!
//! Invariant: nothing is remembered here. What a run does next follows from the state that is decided on, so
//! after a crash, and at whichever gateway, the same comes next, and what was done is not done again.

use std::cell::Cell;

use keywheel_core::audit::{Principal, Role};
use keywheel_core::command::Command;
use keywheel_core::decision::{self, Rejection};
use keywheel_core::id::{CommandId, RunId};
use keywheel_core::playbook_run::{self, Cause, Request as Wish};
use keywheel_core::rotation;
use tokio::sync::oneshot;

use super::{CommandBus, Request, Submission};
use crate::port::PortError;

/// How runs stand after a look at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// None has anything to do now.
    AtRest,
    /// One did something, and there may be more.
    Moved,
    /// One has something to do that could not be made durable; it is tried again in a while.
    Stuck,
}

/// Whether a refusal of what a scheduler asks for is over after a while: a slot comes early, or a trigger's run would be
/// one too many.
pub(super) fn is_no_for_now(command: &Command, reason: &Rejection) -> bool {
    match (command, reason) {
        (_, Rejection::Rotation(rotation::Rejection::SlotEarly { .. })) => true,
        (
            Command::Playbook(Wish::Start { cause, .. }),
            Rejection::PlaybookRun(playbook_run::Rejection::TooMany { .. }),
        ) => *cause != Cause::Person,
        _ => false,
    }
}

/// Whether a command that leads to nothing leaves no record either: others were first, and a run waits now, or bindings
/// are judged.
pub(super) const fn was_done_by_others(command: &Command) -> bool {
    matches!(
        command,
        Command::Playbook(Wish::Advance { .. }) | Command::JudgeBindings
    )
}

impl CommandBus {
    /// Does one move of one run, if there is one to do.
    pub(super) async fn advance_run(&mut self) -> Result<Runs, PortError> {
        let Some(run) = decision::next_run(&self.draft).map(|run| run.id) else {
            return Ok(Runs::AtRest);
        };
        let runs = self.advance(run).await?;
        if runs != Runs::Stuck {
            return Ok(runs);
        }
        // What finds no room on a full disk holds no revocation up, for which there is some.
        match decision::next_urgent_run(&self.draft).map(|run| run.id) {
            Some(urgent) if urgent != run => self.advance(urgent).await,
            _ => Ok(runs),
        }
    }

    async fn advance(&mut self, run: RunId) -> Result<Runs, PortError> {
        (self.parts.failpoint)("gateway.before_move");
        let before = self.next;
        let traceparent = self.trace_of(run);
        let submission = Submission {
            // Another one each time: the move is decided on the head, so it cannot be made twice.
            id: CommandId::from_bytes(self.parts.ids.draw()),
            principal: Principal::Service(Role::Gateway),
            traceparent,
            command: Command::Playbook(Wish::Advance { run }),
        };
        let (sender, _nobody_waits) = oneshot::channel();
        self.serve(vec![Request::Submit(submission, None, sender)])
            .await?;
        if self.next == before {
            return Ok(Runs::Stuck);
        }
        (self.parts.failpoint)("gateway.after_move");
        Ok(Runs::Moved)
    }

    /// One incident is one trace.
    fn trace_of(&self, run: RunId) -> Option<String> {
        let found = Cell::new(None);
        self.writer
            .show_all(&|committed| found.set(committed.run_trace(run)));
        found.into_inner().map(|trace| trace.to_string())
    }
}
