//! The run of a playbook in words for people. What a step tells others is not among them.

use keywheel_core::event::Event;
use keywheel_core::id::{RunId, SecretId};
use keywheel_core::playbook::{Deed, Which, approval_words};
use keywheel_core::playbook_run::{Begun, Cause, Event as Fact, Intervention, Progress};
use keywheel_core::time::Timestamp;
use keywheel_core::{revocation, rotation};
use keywheel_schemas::event;
use keywheel_schemas::mirror::TextForm as _;

use super::super::names::Names;
use super::super::summary::Case;

/// One line for an event of a run.
pub(in super::super) fn line(run: RunId, fact: &Fact, names: &Names) -> String {
    match fact {
        Fact::Triggered {
            name,
            by,
            reason,
            cause,
            parent,
            ..
        } => {
            let below = match parent {
                Some(_) => " by a step of the run above",
                None => "",
            };
            let cause = cause_words(*cause);
            format!("playbook {name} begun{below}, {by}{cause}: {reason}")
        }
        Fact::Intervened {
            intervention,
            by,
            reason,
        } => format!("{by} {} the run: {reason}", stepped_in(*intervention)),
        Fact::Completed { outcome, score } => format!(
            "the run ended: {}, {} of {} through",
            outcome.word(),
            score.through,
            score.targets
        ),
        Fact::Acted { step, place, .. }
        | Fact::ActRefused { step, place, .. }
        | Fact::Notified { step, place, .. }
        | Fact::Answered { step, place, .. } => {
            let target = names.target(run, step, *place);
            format!("step {step}: {}", target_line(fact, &target))
        }
        Fact::StepStarted { .. }
        | Fact::Approved { .. }
        | Fact::StepCompleted { .. }
        | Fact::StepFailed { .. }
        | Fact::StepSkipped { .. } => step_line(fact),
    }
}

/// What became of a step.
fn step_line(fact: &Fact) -> String {
    match fact {
        Fact::StepStarted {
            step,
            targets,
            until,
        } => {
            let many = match targets.len() {
                0 => String::new(),
                1 => ", 1 target".to_owned(),
                many => format!(", {many} targets"),
            };
            format!("step {step} begun{many}, to be over by {}", clock(*until))
        }
        Fact::Approved { step, by, reason } => format!("{by} approved step {step}: {reason}"),
        Fact::StepCompleted {
            step,
            note: Some(note),
        } => format!("step {step} is done: {note}"),
        Fact::StepCompleted { step, note: None } => format!("step {step} is done"),
        Fact::StepFailed { step, reason } => format!("step {step} FAILED: {reason}"),
        Fact::StepSkipped { step } => {
            format!("step {step} is skipped: what it comes after ended another way")
        }
        _ => String::new(),
    }
}

/// What became of one of a step's targets.
fn target_line(fact: &Fact, target: &str) -> String {
    match fact {
        Fact::Acted { begun, .. } => act(begun, target),
        Fact::ActRefused { reason, .. } => format!("refused for {target}: {reason}"),
        Fact::Answered {
            failure: Some(why),
            at: Some(_),
            ..
        } => format!("order for {target} not carried out: {why}"),
        Fact::Answered {
            failure: None,
            at: Some(_),
            ..
        } => format!("order for {target} carried out"),
        Fact::Answered {
            failure: Some(why), ..
        } => format!("{target} did not take it: {why}"),
        Fact::Answered { failure: None, .. } => format!("{target} took it"),
        _ => format!("{target} is told"),
    }
}

fn act(begun: &Begun, target: &str) -> String {
    match begun {
        Begun::Rotation { .. } => format!("rotation of {target} begun"),
        Begun::Revocation { .. } => format!("revocation of {target} begun"),
        Begun::Eviction { .. } => format!("{target} evicted"),
        Begun::Run { .. } => format!("run of {target} begun"),
        Begun::Nothing => format!("{target} is as it is to be already"),
        Begun::Message { .. } => format!("{target} is told"),
        Begun::Restart { .. } => format!("restart of {target} ordered"),
        Begun::Quarantine { .. } => format!("quarantine of {target} ordered"),
    }
}

fn cause_words(cause: Cause) -> String {
    match cause {
        Cause::Person => String::new(),
        Cause::Event { number } => format!(", by event {number}"),
        Cause::Slot { scheduled } => format!(", due at {}", clock(scheduled)),
    }
}

const fn stepped_in(intervention: Intervention) -> &'static str {
    match intervention {
        Intervention::Pause => "paused",
        Intervention::Resume => "resumed",
        Intervention::Cancel => "cancelled",
    }
}

/// A line of a run that is about several secrets, and may have other runs below it: it says which.
pub(in super::super) fn in_run(case: &Case<'_>, event: &Event, line: String) -> String {
    let about = match event {
        Event::PlaybookRun(id, _) if id.to_string() != case.id => Some(case.names.playbook(*id)),
        Event::Rotation(..) | Event::Revocation(..) => secret_of(case, event),
        _ => None,
    };
    match about {
        Some(name) if !line.contains(&name) => format!("{name}: {line}"),
        _ => line,
    }
}

/// The secret that a rotation or revocation is about.
fn secret_of(case: &Case<'_>, event: &Event) -> Option<String> {
    case.secret_of(&event::subject(event))
        .map(|id| case.names.secret(id))
}

/// Which secret an event says that its rotation or revocation is about.
pub(in super::super) const fn secret_in(event: &Event) -> Option<SecretId> {
    match event {
        Event::Rotation(_, rotation::Event::Started { secret, .. })
        | Event::Revocation(
            _,
            revocation::Event::Requested { secret, .. }
            | revocation::Event::ReplacementAwaited { secret, .. },
        ) => Some(*secret),
        _ => None,
    }
}

/// An instant to the second.
pub(super) fn clock(at: Timestamp) -> String {
    let text = at.text();
    let whole = text.get(..19).map(|head| head.replace('T', " "));
    whole.map_or(text, |whole| format!("{whole} UTC"))
}

/// What a step does.
pub(super) fn action(deed: &Deed) -> String {
    match deed {
        Deed::Revoke { which, .. } => match which {
            Which::Alive => "revoke every version".to_owned(),
            Which::Old => "revoke versions before the current one".to_owned(),
        },
        Deed::Wait { span: None } => "wait for what began".to_owned(),
        Deed::Wait { span: Some(span) } => format!("wait {} s", span.as_secs()),
        Deed::Approve { count, not } => approval_words(*count, not),
        Deed::Run { playbook, .. } => format!("run playbook {playbook}"),
        Deed::Withdrawn => "wait until no host has it".to_owned(),
        Deed::Prove => "prove dead".to_owned(),
        Deed::Call { .. } => "call and wait for the receiver".to_owned(),
        other => other.word().to_owned(),
    }
}

/// Where a step stands.
pub(super) const fn progress(progress: Progress) -> &'static str {
    match progress {
        Progress::Pending => "pending",
        Progress::Open => "open",
        Progress::Done => "completed",
        Progress::Failed => "failed",
        Progress::Skipped => "skipped",
    }
}
