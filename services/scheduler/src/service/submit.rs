//! Submitting one command, and sorting its answer.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::command::Command;
use keywheel_core::id::CommandId;
use keywheel_daemon::chain;
use keywheel_engine::port::bus::{Address, Body, Bus};
use keywheel_engine::port::journal::Verdict;

use crate::schedule::derive;
use crate::timer::Fired;

/// A command and its answer.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) fired: Fired,
    pub(super) answer: Answer,
}

/// What became of a command.
#[derive(Debug)]
pub(super) enum Answer {
    Accepted,
    Refused(String),
    Silence(String),
}

/// Submits the command of a timer. `drawn` is its id, except for a slot, whose command's id follows
/// from the slot: two schedulers get one answer.
pub(super) async fn submit(
    bus: Arc<dyn Bus>,
    fired: Fired,
    drawn: [u8; 16],
    timeout: Duration,
) -> Submitted {
    let id = match &fired.command {
        Command::Due {
            slot, scheduled, ..
        } => derive(b"keywheel slot command v1", slot.bytes(), *scheduled),
        _ => drawn,
    };
    let body = Body::Submit {
        id: CommandId::from_bytes(id),
        command: fired.command.clone(),
    };
    let answer = match bus.request(Address::Gateway, None, body, timeout).await {
        Ok(Body::Verdict(Verdict::Accepted { .. })) => Answer::Accepted,
        Ok(Body::Verdict(Verdict::Rejected { text, .. })) => Answer::Refused(text),
        Ok(Body::Failed { text, .. }) => Answer::Silence(text),
        Ok(_) => Answer::Silence("the gateway answered something other than a verdict".to_owned()),
        Err(error) => Answer::Silence(chain(&error)),
    };
    Submitted { fired, answer }
}
