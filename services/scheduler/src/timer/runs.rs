//! When the steps of playbook runs have to be over. A run has one timer: of the first step that is due.

use std::collections::BTreeMap;

use keywheel_core::command::Command;
use keywheel_core::id::RunId;
use keywheel_core::playbook_run::{Event, Request};
use keywheel_core::time::Timestamp;

use super::queue::Queue;
use super::{DEADLINE_RETRY, Key};

/// Steps that are under way, by run, and until when each may be.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    open: BTreeMap<RunId, BTreeMap<String, Timestamp>>,
}

impl Runs {
    /// Folds one event; total.
    pub(super) fn apply(&mut self, id: RunId, event: &Event, queue: &mut Queue) {
        match event {
            Event::StepStarted { step, until, .. } => {
                let steps = self.open.entry(id).or_default();
                steps.insert(step.clone(), *until);
            }
            Event::StepCompleted { step, .. }
            | Event::StepFailed { step, .. }
            | Event::StepSkipped { step } => {
                if let Some(steps) = self.open.get_mut(&id) {
                    steps.remove(step);
                }
            }
            Event::Completed { .. } => {
                self.open.remove(&id);
            }
            Event::Triggered { .. }
            | Event::Acted { .. }
            | Event::ActRefused { .. }
            | Event::Approved { .. }
            | Event::Notified { .. }
            | Event::Answered { .. }
            | Event::Intervened { .. } => return,
        }
        if self.open.get(&id).is_some_and(BTreeMap::is_empty) {
            self.open.remove(&id);
        }
        match self.first(id) {
            Some((_, until)) => queue.set(Key::Playbook(id), until),
            None => queue.clear(Key::Playbook(id)),
        }
    }

    fn first(&self, id: RunId) -> Option<(&str, Timestamp)> {
        let steps = self.open.get(&id)?.iter();
        let (step, until) = steps.min_by_key(|(_, until)| **until)?;
        Some((step, *until))
    }

    /// Whether a step of the run is under way.
    pub(super) fn is_open(&self, id: RunId) -> bool {
        self.open.contains_key(&id)
    }

    /// What the run's timer leads to.
    pub(super) fn fire(&self, id: RunId) -> Option<Command> {
        let (step, _) = self.first(id)?;
        let step = step.to_owned();
        Some(Command::Playbook(Request::Due { run: id, step }))
    }

    /// A gateway's clock lags, or the step is over already and its event is on its way.
    pub(super) fn ask_again(&self, id: RunId, now: Timestamp, queue: &mut Queue) {
        if let Some((_, until)) = self.first(id) {
            queue.set(Key::Playbook(id), now.plus(DEADLINE_RETRY).max(until));
        }
    }
}
