//! What holds of every log, whoever died: no step is begun, done to something or ended twice, and nothing that a
//! playbook does is done twice.

use std::collections::BTreeMap;

use keywheel_core::event::Event;
use keywheel_core::id::{RevocationId, RotationId, RunId, SecretId};
use keywheel_core::playbook_run::{Begun, Event as RunEvent};
use keywheel_core::rotation::Trigger;
use keywheel_core::{host, revocation, rotation};
use keywheel_engine::port::journal::RecordedEvent;

use crate::outside::Outside;

/// How often something was done.
#[derive(Default)]
struct Counted(BTreeMap<String, u64>);

impl Counted {
    fn add(&mut self, what: String) {
        *self.0.entry(what).or_default() += 1;
    }

    fn twice(&self) -> Option<String> {
        let found = self.0.iter().find(|(_, times)| **times > 1);
        found.map(|(what, _)| format!("{what} twice"))
    }
}

/// What was begun for runs, and what runs say they began.
#[derive(Default)]
struct Deeds {
    rotations: Vec<RotationId>,
    revocations: Vec<RevocationId>,
    runs: Vec<RunId>,
    said_rotations: Vec<RotationId>,
    said_revocations: Vec<RevocationId>,
    said_runs: Vec<RunId>,
}

impl Deeds {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Rotation(
                id,
                rotation::Event::Started {
                    trigger: Trigger::Playbook { .. },
                    ..
                },
            ) => {
                self.rotations.push(*id);
            }
            Event::Revocation(id, revocation::Event::Requested { reason, .. })
                if reason.contains("(playbook `") =>
            {
                self.revocations.push(*id);
            }
            Event::PlaybookRun(
                id,
                RunEvent::Triggered {
                    parent: Some(_), ..
                },
            ) => {
                self.runs.push(*id);
            }
            Event::PlaybookRun(_, RunEvent::Acted { begun, .. }) => match begun {
                Begun::Rotation { rotation } => self.said_rotations.push(*rotation),
                Begun::Revocation { revocation } => self.said_revocations.push(*revocation),
                Begun::Run { run } => self.said_runs.push(*run),
                Begun::Eviction { .. }
                | Begun::Nothing
                | Begun::Message { .. }
                | Begun::Restart { .. }
                | Begun::Quarantine { .. } => {}
            },
            _ => {}
        }
    }

    fn fault(&self) -> Option<String> {
        let are_said = self.rotations == self.said_rotations
            && self.revocations == self.said_revocations
            && self.runs == self.said_runs;
        (!are_said).then(|| "what was begun for a run is not what it says it began".to_owned())
    }
}

/// The first law that does not hold.
pub(crate) fn broken(log: &[RecordedEvent], outside: &Outside) -> Option<String> {
    let mut counted = Counted::default();
    let mut deeds = Deeds::default();
    let mut begun = 0;
    for recorded in log {
        deeds.note(&recorded.event);
        count(&mut counted, &recorded.event);
        let is_begin = matches!(
            recorded.event,
            Event::PlaybookRun(_, RunEvent::Triggered { parent: None, .. })
        );
        begun += u64::from(is_begin);
    }
    let broken = counted.twice();
    let broken = broken.or_else(|| (begun > 1).then(|| format!("{begun} runs were begun")));
    let broken = broken.or_else(|| deeds.fault());
    broken.or_else(|| broken_outside(outside))
}

fn broken_outside(outside: &Outside) -> Option<String> {
    let mut made = outside.store.made.iter();
    let twice = made.find(|(_, made)| **made > 1);
    let twice = twice.map(|(token, made)| format!("{made} credentials were made for {token}"));
    let mut told = Counted::default();
    for message in outside.messages.values() {
        told.add(format!("`{message}` was told"));
    }
    twice.or_else(|| told.twice())
}

fn count(counted: &mut Counted, event: &Event) {
    match event {
        Event::PlaybookRun(run, event) => {
            if let Some(what) = of_run(event) {
                counted.add(format!("run {run}: {what}"));
            }
        }
        Event::Revocation(
            _,
            revocation::Event::Requested {
                secret, versions, ..
            },
        ) => {
            for version in versions {
                counted.add(revoked(*secret, *version));
            }
        }
        Event::Host(id, host::Event::Evicted { .. }) => counted.add(format!("{id} was evicted")),
        _ => {}
    }
}

fn revoked(secret: SecretId, version: u64) -> String {
    format!("version {version} of {secret} was revoked")
}

/// What may happen to a run once.
fn of_run(event: &RunEvent) -> Option<String> {
    Some(match event {
        RunEvent::Triggered { .. } => "was triggered".to_owned(),
        RunEvent::StepStarted { step, .. } => format!("step {step} began"),
        RunEvent::Acted { step, place, .. }
        | RunEvent::ActRefused { step, place, .. }
        | RunEvent::Notified { step, place, .. } => format!("step {step} place {place} acted"),
        RunEvent::Approved { step, by, .. } => format!("{by} approved step {step}"),
        RunEvent::StepCompleted { step, .. }
        | RunEvent::StepFailed { step, .. }
        | RunEvent::StepSkipped { step } => format!("step {step} ended"),
        RunEvent::Answered { step, place, .. } => format!("step {step} place {place} was answered"),
        RunEvent::Completed { .. } => "ended".to_owned(),
        RunEvent::Intervened { .. } => return None,
    })
}
