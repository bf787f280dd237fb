//! Submitting one command, and sorting its answer.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::command::Command;
use keywheel_core::id::CommandId;
use keywheel_core::playbook_run::Request;
use keywheel_core::time::Timestamp;
use keywheel_daemon::{chain, lines, names};
use keywheel_engine::port::bus::{Address, Body, Bus};
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::Verdict;
use keywheel_telemetry::traces::{Kind, Span, names as spans};

use crate::schedule::derive;
use crate::timer::Fired;

/// Whose spans these are.
const SERVICE: &str = "scheduler";

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

/// Submits the command of a timer under a fresh id, except for a slot, whose command's id follows from
/// the slot, unless it was refused before: two schedulers get one answer. A slot begins a trace; what
/// belongs to a rotation or a revocation goes on with its, which the gateway knows.
pub(super) async fn submit(
    bus: Arc<dyn Bus>,
    fired: Fired,
    ids: Arc<dyn Ids>,
    timeout: Duration,
) -> Submitted {
    let (id, span) = match &fired.command {
        Command::Due {
            slot,
            scheduled,
            secret,
            rotation,
            ..
        } => {
            let id = match fired.attempt {
                0 => derive(b"keywheel slot command v1", slot.bytes(), *scheduled),
                // The answer to a command is kept: another id asks anew. What it asks the core takes once.
                _ => ids.draw(),
            };
            let span = Span::root(SERVICE, spans::TIMER, Kind::Internal, &*ids)
                .with(spans::SECRET_ID, secret.to_string())
                .with(spans::ROTATION_ID, rotation.to_string());
            (id, span)
        }
        // A run's begin is decided once, whoever asks, so two schedulers get one answer.
        Command::Playbook(Request::Start { run, .. }) => {
            let id = derive(
                b"keywheel playbook command v1",
                run.bytes(),
                Timestamp::default(),
            );
            (id, Span::root(SERVICE, spans::TIMER, Kind::Internal, &*ids))
        }
        _ => (ids.draw(), Span::default()),
    };
    tracing::info!(
        { names::EVENT } = lines::TIMER_FIRED,
        { names::KIND } = ?fired.key,
        { names::DUE } = %fired.due,
        { names::TRACE } = span.context().map(|place| place.trace_id()),
        "timer ran out"
    );
    let body = Body::Submit {
        id: CommandId::from_bytes(id),
        command: fired.command.clone(),
    };
    let answer = match bus
        .request(Address::Gateway, span.traceparent(), body, timeout)
        .await
    {
        Ok(Body::Verdict(Verdict::Accepted { .. })) => Answer::Accepted,
        Ok(Body::Verdict(Verdict::Rejected { text, .. })) => Answer::Refused(text),
        Ok(Body::Failed { text, .. }) => Answer::Silence(text),
        Ok(_) => Answer::Silence("the gateway answered something other than a verdict".to_owned()),
        Err(error) => Answer::Silence(chain(&error)),
    };
    Submitted { fired, answer }
}
