//! Of what a run consists: itself, and of a playbook's run all that its steps began, down to the runs below. Pure.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::event::Event;
use keywheel_core::id::RunId;
use keywheel_core::lease;
use keywheel_core::playbook_run::{Begun, Event as Fact};
use keywheel_schemas::event::EventMeta;

use super::Kind;

/// Parts of a run, as the subjects of their events name them.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The run itself.
    pub(super) own: String,
    /// Those that have to be there: the run itself and what its steps began.
    pub(super) begun: BTreeSet<String>,
    /// Those that may be there besides: a revocation by which dies what a rotation replaced.
    ends: BTreeSet<String>,
}

impl Parts {
    /// Of a run, out of its events.
    pub(super) fn of(kind: Kind, id: &str, events: &[(EventMeta, Event)]) -> Self {
        let own = format!("{}/{id}", kind.aggregate());
        let mut parts = Self {
            begun: BTreeSet::from([own.clone()]),
            own,
            ends: BTreeSet::new(),
        };
        if let (Kind::PlaybookRun, Ok(run)) = (kind, RunId::parse(id)) {
            parts.follow(run, &acts(events));
        }
        parts
    }

    fn follow(&mut self, run: RunId, acts: &BTreeMap<RunId, Vec<Begun>>) {
        let mut next = vec![run];
        while let Some(run) = next.pop() {
            for begun in acts.get(&run).into_iter().flatten() {
                let subject = match begun {
                    Begun::Rotation { rotation } => {
                        let end = lease::end_of(*rotation);
                        self.ends.insert(format!("revocation/{end}"));
                        format!("rotation/{rotation}")
                    }
                    Begun::Revocation { revocation } => format!("revocation/{revocation}"),
                    Begun::Run { run } => format!("playbook_run/{run}"),
                    Begun::Eviction { .. }
                    | Begun::Nothing
                    | Begun::Message { .. }
                    | Begun::Restart { .. }
                    | Begun::Quarantine { .. } => continue,
                };
                if self.begun.insert(subject)
                    && let Begun::Run { run } = begun
                {
                    next.push(*run);
                }
            }
        }
    }

    /// Whether events of this subject are of the run.
    pub(super) fn has(&self, subject: &str) -> bool {
        self.begun.contains(subject) || self.ends.contains(subject)
    }
}

fn acts(events: &[(EventMeta, Event)]) -> BTreeMap<RunId, Vec<Begun>> {
    let mut all: BTreeMap<RunId, Vec<Begun>> = BTreeMap::new();
    for (_, event) in events {
        if let Event::PlaybookRun(id, Fact::Acted { begun, .. }) = event {
            all.entry(*id).or_default().push(*begun);
        }
    }
    all
}
