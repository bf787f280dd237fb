//! Playbooks and their runs: which are declared, which are open, which are kept for people.

use super::World;
use crate::id::{PlaybookId, RunId};
use crate::name::PlaybookName;
use crate::playbook::{self, Playbook};
use crate::playbook_run::{self, KEPT_CLOSED_RUNS, Run};

impl World {
    /// A playbook by name; one that was removed has its name no more.
    #[must_use]
    pub fn playbook_named(&self, name: &PlaybookName) -> Option<&Playbook> {
        self.playbooks.get(self.playbooks_by_name.get(name)?)
    }

    /// Runs that are open, also those that a person paused.
    pub fn open_runs(&self) -> impl Iterator<Item = &Run> {
        self.open_runs.iter().filter_map(|id| self.runs.get(id))
    }

    pub(super) fn apply_playbook(&mut self, id: PlaybookId, event: &playbook::Event) {
        match event {
            playbook::Event::Declared { name, spec } => {
                self.playbooks_by_name.insert(name.clone(), id);
                let declared = Playbook {
                    id,
                    name: name.clone(),
                    spec: spec.clone(),
                };
                self.playbooks.insert(id, declared);
            }
            playbook::Event::Changed { .. } => {
                if let Some(known) = self.playbooks.get_mut(&id) {
                    known.evolve(event);
                }
            }
            playbook::Event::Removed => {
                self.playbooks.remove(&id);
                self.playbooks_by_name.retain(|_, named| *named != id);
                let closed = self.closed_runs.remove(&id);
                self.closed_of_removed.extend(closed.unwrap_or_default());
                self.forget_closed();
            }
        }
    }

    pub(super) fn apply_playbook_run(&mut self, id: RunId, event: &playbook_run::Event) {
        if let Some(run) = Run::triggered(id, event) {
            self.open_runs.insert(id);
            self.runs.insert(id, run);
            return;
        }
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        run.evolve(event);
        if run.is_open() || !self.open_runs.remove(&id) {
            return;
        }
        let closed = match self.playbooks.contains_key(&run.playbook) {
            true => self.closed_runs.entry(run.playbook).or_default(),
            false => &mut self.closed_of_removed,
        };
        closed.push_back(id);
        self.forget_closed();
    }

    /// Lets the oldest go where more are kept than are to be. How one ended that a step of an open run began, that run
    /// may ask yet; it has no more of them than steps.
    fn forget_closed(&mut self) {
        let kept = self.closed_runs.values_mut();
        for closed in kept.chain([&mut self.closed_of_removed]) {
            while closed.len() > KEPT_CLOSED_RUNS {
                let is_asked = |id: &RunId| {
                    let parent = self.runs.get(id).and_then(|run| run.parent);
                    parent.is_some_and(|parent| self.open_runs.contains(&parent))
                };
                let oldest = closed.iter().position(|id| !is_asked(id));
                let Some(oldest) = oldest.and_then(|at| closed.remove(at)) else {
                    break;
                };
                self.runs.remove(&oldest);
            }
        }
    }
}
