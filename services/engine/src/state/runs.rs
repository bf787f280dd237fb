//! When runs of playbooks and their steps were durable, and in which trace each stands.

use std::collections::{BTreeMap, VecDeque};

use keywheel_core::id::RunId;
use keywheel_core::playbook_run::Event;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;

use crate::trace::Context;

/// When something began and ended, by the gateway's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Began.
    pub begun: Option<Timestamp>,
    /// Ended.
    pub ended: Option<Timestamp>,
}

/// When a run's steps were durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunTimes {
    /// The run.
    pub whole: Span,
    /// Its steps, by name.
    pub steps: BTreeMap<String, Span>,
}

/// What is kept of runs beside the world.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Where open runs began.
    traces: BTreeMap<RunId, Context>,
    /// Of runs that the world has.
    times: BTreeMap<RunId, RunTimes>,
    /// The same, in the order in which they began.
    order: VecDeque<RunId>,
}

impl Runs {
    pub(super) fn trace(&self, id: RunId) -> Option<Context> {
        self.traces.get(&id).copied()
    }

    pub(super) fn times(&self, id: RunId) -> Option<&RunTimes> {
        self.times.get(&id)
    }

    /// In the order in which they began.
    pub(super) const fn order(&self) -> &VecDeque<RunId> {
        &self.order
    }

    /// Notes an event that was committed at `at`; `world` is as it was before.
    pub(super) fn note(
        &mut self,
        world: &World,
        (id, event): (RunId, &Event),
        (at, trace): (Timestamp, Option<Context>),
    ) {
        if let Event::Triggered { .. } = event {
            self.times.retain(|id, _| world.runs.contains_key(id));
            self.times.insert(id, RunTimes::default());
            self.order.retain(|id| world.runs.contains_key(id));
            self.order.push_back(id);
            self.traces.extend(trace.map(|trace| (id, trace)));
        }
        let times = self.times.entry(id).or_default();
        match event {
            Event::Triggered { .. } => times.whole.begun = Some(at),
            Event::StepStarted { step, .. } => {
                times.steps.entry(step.clone()).or_default().begun = Some(at);
            }
            Event::StepCompleted { step, .. } | Event::StepFailed { step, .. } => {
                times.steps.entry(step.clone()).or_default().ended = Some(at);
            }
            Event::Completed { .. } => {
                times.whole.ended = Some(at);
                self.traces.remove(&id);
            }
            _ => {}
        }
    }
}
