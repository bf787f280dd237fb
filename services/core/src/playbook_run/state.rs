//! What the log says of a run.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Begun, Cause, Event, Intervention, Outcome, Target};
use super::score::Score;
use crate::id::{PlaybookId, RunId};
use crate::name::PlaybookName;
use crate::playbook::Step;
use crate::time::Timestamp;

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// It did not begin yet.
    Pending,
    /// It is under way.
    Open,
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// It will not begin.
    Skipped,
}

/// What came of a step's deed to one of its targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It began this.
    Begun(Begun),
    /// It was refused, for this reason.
    Refused(String),
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepState {
    /// What it does.
    pub step: Step,
    /// Where it stands.
    pub progress: Progress,
    /// Why it failed.
    pub failure: Option<String>,
    /// What it does something to.
    pub targets: Vec<Target>,
    /// What came of it, by place.
    pub acts: BTreeMap<u32, Act>,
    /// Who approved.
    pub approvals: BTreeSet<String>,
    /// What receivers that are waited for answered, by place: `None` when one took what it was told.
    pub answers: BTreeMap<u32, Option<String>>,
    /// Containers that were gone, or down, before what was ordered of them was done, by place.
    pub gone: BTreeSet<u32>,
    /// When the last of its orders about a container was over.
    pub rested_at: Option<Timestamp>,
    /// What it found, in words.
    pub note: Option<String>,
    /// When it has to be over.
    pub until: Option<Timestamp>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The playbook.
    pub playbook: PlaybookId,
    /// Its name.
    pub name: PlaybookName,
    /// What it was told.
    pub arguments: BTreeMap<String, String>,
    /// Its steps, in the order in which they are declared.
    pub steps: Vec<StepState>,
    /// Who started it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The run whose step it is.
    pub parent: Option<RunId>,
    /// How many runs are above it.
    pub depth: u32,
    /// Why it began.
    pub cause: Cause,
    /// Whether a person paused it.
    pub paused: bool,
    /// How it ended; `None` while it is open.
    pub outcome: Option<Outcome>,
    /// How many of what its steps were to begin were through when it ended.
    pub score: Option<Score>,
    /// How many events it has: each move is decided once per number.
    pub revision: u64,
}

impl StepState {
    fn pending(step: Step) -> Self {
        Self {
            step,
            progress: Progress::Pending,
            failure: None,
            targets: Vec::new(),
            acts: BTreeMap::new(),
            approvals: BTreeSet::new(),
            answers: BTreeMap::new(),
            gone: BTreeSet::new(),
            rested_at: None,
            note: None,
            until: None,
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(
            self.progress,
            Progress::Done | Progress::Failed | Progress::Skipped
        )
    }

    /// Whether what comes after it may begin as if it was done.
    #[must_use]
    pub const fn counts_as_done(&self) -> bool {
        match self.progress {
            Progress::Done => true,
            Progress::Failed => self.step.may_fail,
            _ => false,
        }
    }

    /// What it began.
    pub fn begun(&self) -> impl Iterator<Item = &Begun> {
        self.acts.values().filter_map(|act| match act {
            Act::Begun(begun) => Some(begun),
            Act::Refused(_) => None,
        })
    }
}

impl Run {
    /// A run by its first event; `None` for any other event.
    #[must_use]
    pub fn triggered(id: RunId, event: &Event) -> Option<Self> {
        let Event::Triggered {
            playbook,
            name,
            arguments,
            steps,
            by,
            reason,
            parent,
            depth,
            cause,
        } = event
        else {
            return None;
        };
        Some(Self {
            id,
            playbook: *playbook,
            name: name.clone(),
            arguments: arguments.clone(),
            steps: steps.iter().cloned().map(StepState::pending).collect(),
            by: by.clone(),
            reason: reason.clone(),
            parent: *parent,
            depth: *depth,
            cause: *cause,
            paused: false,
            outcome: None,
            score: None,
            revision: 1,
        })
    }

    /// Whether it still runs; one that is paused does.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.outcome.is_none()
    }

    /// A step by name.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&StepState> {
        self.steps.iter().find(|state| state.step.name == name)
    }

    /// Folds one event; total. Its first is [`Run::triggered`]'s.
    pub fn evolve(&mut self, event: &Event) {
        self.revision = self.revision.saturating_add(1);
        match event {
            Event::Triggered { .. } => {}
            Event::StepStarted {
                step,
                targets,
                until,
            } => self.change(step, |state| {
                state.progress = Progress::Open;
                state.targets.clone_from(targets);
                state.until = Some(*until);
            }),
            Event::Acted { step, place, begun } => self.change(step, |state| {
                state.acts.insert(*place, Act::Begun(*begun));
            }),
            Event::ActRefused {
                step,
                place,
                reason,
            } => self.change(step, |state| {
                state.acts.insert(*place, Act::Refused(reason.clone()));
            }),
            Event::Approved { step, by, .. } => self.change(step, |state| {
                state.approvals.insert(by.clone());
            }),
            Event::StepCompleted { step, note } => self.change(step, |state| {
                state.progress = Progress::Done;
                state.note.clone_from(note);
            }),
            Event::Notified {
                step,
                place,
                notification,
                ..
            } => self.change(step, |state| {
                let notification = *notification;
                let begun = Begun::Message { notification };
                state.acts.insert(*place, Act::Begun(begun));
            }),
            Event::Answered {
                step,
                place,
                failure,
                at,
            } => self.change(step, |state| {
                state.answers.insert(*place, failure.clone());
                state.rested_at = at.or(state.rested_at);
            }),
            Event::StepFailed { step, reason } => self.change(step, |state| {
                state.progress = Progress::Failed;
                state.failure = Some(reason.clone());
            }),
            Event::StepSkipped { step } => {
                self.change(step, |state| state.progress = Progress::Skipped);
            }
            Event::Intervened { intervention, .. } => match intervention {
                Intervention::Pause => self.paused = true,
                Intervention::Resume => self.paused = false,
                Intervention::Cancel => {}
            },
            Event::Completed { outcome, score } => {
                self.outcome = Some(*outcome);
                self.score = Some(*score);
            }
        }
    }

    /// A container was gone, or down, before what a step ordered of it was done; its host's event says so, and the step
    /// hears of it after that.
    pub(crate) fn note_gone(&mut self, step: &str, place: u32) {
        self.change(step, |state| {
            if !state.answers.contains_key(&place) {
                state.gone.insert(place);
            }
        });
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut StepState)) {
        let mut steps = self.steps.iter_mut();
        if let Some(state) = steps.find(|state| state.step.name == name) {
            change(state);
        }
    }
}
