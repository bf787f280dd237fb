//! How playbooks and their runs stand in the audit: who started, approved or stepped in, and every move that
//! a run made by itself, with the one who started it.

use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::id::RunId;
use keywheel_core::playbook_run::{Event as E, Intervention, Request};
use keywheel_core::rotation::MAX_REASON_CHARS;
use keywheel_core::world::World;

use super::Described;

/// Longest name of a container in a record's object.
const MAX_NAME_CHARS: usize = 128;

/// Verb and object of a request.
pub(super) fn described(world: &World, request: &Request) -> Described {
    let of = |run: &RunId| {
        let known = world.runs.get(run);
        known.map_or_else(
            || format!("playbook-run/{run}"),
            |known| format!("playbook/{}", known.name),
        )
    };
    match request {
        Request::Start { playbook, .. } => ("run-playbook", format!("playbook/{playbook}"), None),
        Request::Advance { run } => ("advance-playbook", of(run), None),
        Request::Due { run, .. } => ("end-playbook-step", of(run), None),
        Request::Approve { run, .. } => ("approve-playbook", of(run), None),
        Request::Intervene {
            run, intervention, ..
        } => (intervention_verb(*intervention), of(run), None),
        Request::Answer { run, .. } => ("answer-playbook", of(run), None),
        Request::Lift { container, .. } => {
            let name: String = container.chars().take(MAX_NAME_CHARS).collect();
            ("lift-quarantine", format!("container/{name}"), None)
        }
        Request::Remove { name } => ("remove-playbook", format!("playbook/{name}"), None),
    }
}

const fn intervention_verb(intervention: Intervention) -> &'static str {
    match intervention {
        Intervention::Pause => "pause-playbook",
        Intervention::Resume => "resume-playbook",
        Intervention::Cancel => "cancel-playbook",
    }
}

/// Why a person asked for it, as far as a record has room.
pub(super) fn own_words(command: &Command) -> Option<String> {
    let Command::Playbook(
        Request::Start { reason, .. }
        | Request::Approve { reason, .. }
        | Request::Intervene { reason, .. }
        | Request::Lift { reason, .. },
    ) = command
    else {
        return None;
    };
    let words: String = reason.trim().chars().take(MAX_REASON_CHARS).collect();
    (!words.is_empty()).then_some(words)
}

/// What a run did by itself, in words; `None` where a person's own say it.
pub(super) fn told(before: &World, events: &[Event]) -> Option<String> {
    let (id, event) = events.iter().rev().find_map(|event| match event {
        Event::PlaybookRun(id, event) => Some((id, event)),
        _ => None,
    })?;
    let known = before.runs.get(id)?;
    let moved = match event {
        E::StepStarted { step, targets, .. } => {
            format!("step `{step}` began with {} targets", targets.len())
        }
        E::Acted { step, place, .. } => format!("step `{step}`, target {}: begun", place + 1),
        E::ActRefused {
            step,
            place,
            reason,
        } => format!("step `{step}`, target {}: refused: {reason}", place + 1),
        E::StepCompleted { step, note: None } => format!("step `{step}` is done"),
        E::StepCompleted {
            step,
            note: Some(note),
        } => format!("step `{step}` is done: {note}"),
        E::Notified { step, place, .. } => format!("step `{step}`, target {}: told", place + 1),
        E::Answered {
            step,
            place,
            failure: None,
            ..
        } => format!("step `{step}`, target {}: taken", place + 1),
        E::Answered {
            step,
            place,
            failure: Some(reason),
            ..
        } => format!("step `{step}`, target {}: not taken: {reason}", place + 1),
        E::StepFailed { step, reason } => format!("step `{step}` failed: {reason}"),
        E::StepSkipped { step } => format!("step `{step}` is skipped"),
        E::Completed { outcome, score } if events.len() == 1 => format!(
            "ended as {}, {} of {} are through",
            outcome.word(),
            score.through,
            score.targets
        ),
        E::Completed { .. } | E::Triggered { .. } | E::Approved { .. } | E::Intervened { .. } => {
            return None;
        }
    };
    Some(format!("{moved} (run {id}, started by {})", known.by))
}
