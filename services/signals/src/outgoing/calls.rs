//! What playbooks tell receivers, and what they are answered when one has taken it, or never will.
//!
//! Invariant: a run is answered before its receiver's place moves on, so no crash loses an answer; the same answer given
//! again is the first one.

use keywheel_core::audit::{Principal, Role};
use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, NotificationId};
use keywheel_core::playbook::Deed;
use keywheel_core::playbook_run::{self, Request};
use keywheel_engine::command_bus::Submission;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_seal::digest;

use crate::desk::Inner;

/// What an answer's command id is a digest of.
const CONTEXT: &[u8] = b"keywheel/playbook-answer/v1";

/// Whether a playbook tells this receiver something by an event, whatever else it is told.
pub(super) fn is_told(receiver: NotificationId, event: &Event) -> bool {
    matches!(event, Event::PlaybookRun(_, playbook_run::Event::Notified { notification, .. }) if *notification == receiver)
}

/// Answers the run whose step waits for the receiver; nothing where none does.
pub(super) async fn answer(
    inner: &Inner,
    receiver: NotificationId,
    event: &RecordedEvent,
    failure: Option<String>,
) -> Result<(), PortError> {
    let Event::PlaybookRun(
        run,
        playbook_run::Event::Notified {
            step,
            place,
            notification,
            ..
        },
    ) = &event.event
    else {
        return Ok(());
    };
    let waits = {
        let committed = inner.parts.view.read();
        let known = committed.world.runs.get(run).filter(|run| run.is_open());
        let state = known.and_then(|known| known.step(step));
        state.is_some_and(|state| matches!(state.step.deed, Deed::Call { .. }))
    };
    if *notification != receiver || !waits {
        return Ok(());
    }
    let mut id = [0; 16];
    let seed = [CONTEXT, event.id.bytes().as_slice()].concat();
    id.copy_from_slice(&digest::sha256(&seed)[..16]);
    let submission = Submission {
        id: CommandId::from_bytes(id),
        principal: Principal::Service(Role::Gateway),
        traceparent: event.traceparent.clone(),
        command: Command::Playbook(Request::Answer {
            run: *run,
            step: step.clone(),
            place: *place,
            failure,
        }),
    };
    // Refused where the step's time is over, or a repeat comes late: then nobody waits.
    let _verdict = inner.parts.commands.decide(submission).await?;
    Ok(())
}
