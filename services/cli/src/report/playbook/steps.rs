//! Steps of a playbook's run and of the runs below it: where each stands, when it began and ended, who approved. Pure.

use std::collections::{BTreeMap, btree_map::Entry};

use keywheel_core::event::Event;
use keywheel_core::id::RunId;
use keywheel_core::playbook::{After, Deed};
use keywheel_core::playbook_run::{Act, Begun, Event as Fact, Progress, Run, StepState};
use keywheel_schemas::api::{ReportApproval, ReportStep, ReportTarget};
use keywheel_schemas::event::EventMeta;
use keywheel_schemas::mirror::TextForm as _;

use super::super::names::Names;
use super::super::summary::{Case, micros};
use super::words;

/// One run, folded, with the events that moved its steps.
pub(super) struct Course<'r> {
    pub(super) run: Run,
    /// Its last event.
    pub(super) ended: Option<&'r EventMeta>,
    begun: BTreeMap<&'r str, &'r EventMeta>,
    over: BTreeMap<&'r str, &'r EventMeta>,
    acts: BTreeMap<(&'r str, u32), u64>,
    approved: Vec<(&'r EventMeta, &'r Fact)>,
}

/// Every run of a report, its own first and then those below in their order.
pub(super) fn courses<'r>(case: &Case<'r>) -> Vec<Course<'r>> {
    let (mut order, mut known): (Vec<RunId>, BTreeMap<RunId, Course<'r>>) = Default::default();
    for (meta, event) in case.parts() {
        let Event::PlaybookRun(id, fact) = event else {
            continue;
        };
        match known.entry(*id) {
            Entry::Occupied(mut course) => course.get_mut().note(meta, fact),
            Entry::Vacant(free) => {
                if let Some(run) = Run::triggered(*id, fact) {
                    free.insert(Course::new(run));
                    order.push(*id);
                }
            }
        }
    }
    order.sort_by_key(|id| id.to_string() != case.id);
    order.iter().filter_map(|id| known.remove(id)).collect()
}

impl<'r> Course<'r> {
    const fn new(run: Run) -> Self {
        Self {
            run,
            ended: None,
            begun: BTreeMap::new(),
            over: BTreeMap::new(),
            acts: BTreeMap::new(),
            approved: Vec::new(),
        }
    }

    fn note(&mut self, meta: &'r EventMeta, fact: &'r Fact) {
        self.run.evolve(fact);
        match fact {
            Fact::StepStarted { step, .. } => {
                self.begun.insert(step, meta);
            }
            Fact::StepCompleted { step, .. }
            | Fact::StepFailed { step, .. }
            | Fact::StepSkipped { step } => {
                self.over.insert(step, meta);
            }
            Fact::Acted { step, place, .. }
            | Fact::ActRefused { step, place, .. }
            | Fact::Notified { step, place, .. }
            | Fact::Answered { step, place, .. } => {
                self.acts.insert((step.as_str(), *place), meta.number);
            }
            Fact::Approved { .. } => self.approved.push((meta, fact)),
            Fact::Completed { .. } => self.ended = Some(meta),
            Fact::Triggered { .. } | Fact::Intervened { .. } => {}
        }
    }

    /// Who approved, in order.
    pub(super) fn approvals(&self) -> Vec<ReportApproval> {
        let view = |(meta, fact): &(&EventMeta, &Fact)| {
            let Fact::Approved { step, by, reason } = fact else {
                return None;
            };
            let begun = self.begun.get(step.as_str());
            Some(ReportApproval {
                playbook: self.run.name.to_string(),
                step: step.clone(),
                who: by.clone(),
                at: meta.time.text(),
                after_us: begun.map_or(0, |begun| micros(meta.time, begun.time)),
                reason: reason.clone(),
                event: meta.number,
            })
        };
        self.approved.iter().filter_map(view).collect()
    }

    /// The first step whose failure the run does not bear, and why it failed.
    pub(super) fn first_failure(&self) -> Option<(&str, &str)> {
        let failed =
            |state: &&StepState| state.progress == Progress::Failed && !state.step.may_fail;
        let failed = self.run.steps.iter().filter(failed);
        // A step that never began has no time; a run has a name for each.
        let first = failed.min_by_key(|state| {
            self.over
                .get(state.step.name.as_str())
                .map(|meta| meta.number)
        })?;
        Some((
            first.step.name.as_str(),
            first.failure.as_deref().unwrap_or_default(),
        ))
    }

    /// Where an open run stands, in words.
    pub(super) fn standing(&self) -> String {
        let open = self
            .run
            .steps
            .iter()
            .filter(|state| state.progress == Progress::Open);
        let open: Vec<String> = open.map(waits).collect();
        let word = match self.run.paused {
            true => "open, and paused by a person",
            false => "open",
        };
        match open.is_empty() {
            true => word.to_owned(),
            false => format!("{word}: {}", open.join("; ")),
        }
    }
}

fn waits(state: &StepState) -> String {
    let name = &state.step.name;
    let until = state
        .until
        .map(|until| format!(", until {} at most", words::clock(until)));
    let until = until.unwrap_or_default();
    match &state.step.deed {
        Deed::Approve { count, .. } => format!(
            "step {name} waits for people, {} of {count} approved{until}",
            state.approvals.len()
        ),
        _ => format!("step {name} is under way{until}"),
    }
}

/// Steps of one run, as they are declared.
pub(super) fn steps(case: &Case<'_>, course: &Course<'_>) -> Vec<ReportStep> {
    let states = course.run.steps.iter();
    states.map(|state| step(case, course, state)).collect()
}

fn step(case: &Case<'_>, course: &Course<'_>, state: &StepState) -> ReportStep {
    let name = state.step.name.as_str();
    let (begun, over) = (course.begun.get(name), course.over.get(name));
    // One that never began is over when it is skipped, or when what it means could not be found.
    let took = begun
        .zip(over)
        .map(|(begun, over)| micros(over.time, begun.time));
    ReportStep {
        playbook: course.run.name.to_string(),
        run: course.run.id.to_string(),
        name: name.to_owned(),
        action: words::action(&state.step.deed),
        after: state.step.after.iter().map(after).collect(),
        state: words::progress(state.progress).to_owned(),
        begun: begun.map(|meta| meta.time.text()),
        ended: over.map(|meta| meta.time.text()),
        took_us: took,
        until: state.until.map(|until| until.text()),
        result: result(state),
        targets: targets(&case.names, course, state),
    }
}

fn after(after: &After) -> String {
    match after.failed {
        true => format!("{} failed", after.step),
        false => after.step.clone(),
    }
}

fn result(state: &StepState) -> String {
    let text = state.failure.as_ref().or(state.note.as_ref());
    let text = text.cloned().unwrap_or_default();
    match state.progress == Progress::Failed && state.step.may_fail {
        true => format!("{text} (the run goes on all the same)"),
        false => text,
    }
}

fn targets(names: &Names, course: &Course<'_>, state: &StepState) -> Vec<ReportTarget> {
    let name = state.step.name.as_str();
    let view = |(place, _)| ReportTarget {
        target: names.target(course.run.id, name, place),
        outcome: match state.acts.get(&place) {
            None => "not begun".to_owned(),
            Some(Act::Refused(reason)) => format!("refused: {reason}"),
            Some(Act::Begun(begun)) => begun_words(begun, state.answers.get(&place)),
        },
        event: course.acts.get(&(name, place)).copied(),
    };
    (0_u32..).zip(&state.targets).map(view).collect()
}

/// An order that a host has for a container.
fn ordered(order: &str, answer: Option<&Option<String>>) -> String {
    match answer {
        None => format!("{order} ordered"),
        Some(None) => format!("{order} done"),
        Some(Some(why)) => format!("{order} failed: {why}"),
    }
}

fn begun_words(begun: &Begun, answer: Option<&Option<String>>) -> String {
    match begun {
        Begun::Rotation { rotation } => format!("rotation {rotation}"),
        Begun::Revocation { revocation } => format!("revocation {revocation}"),
        Begun::Eviction { .. } => "eviction".to_owned(),
        Begun::Run { run } => format!("run {run}"),
        Begun::Nothing => "nothing to do".to_owned(),
        Begun::Message { .. } => match answer {
            None => "told".to_owned(),
            Some(None) => "told, and taken".to_owned(),
            Some(Some(why)) => format!("told, and not taken: {why}"),
        },
        Begun::Restart { .. } => ordered("restart", answer),
        Begun::Quarantine { .. } => ordered("quarantine", answer),
    }
}
