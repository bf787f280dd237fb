//! What is asked of playbooks and their runs.

use std::collections::BTreeMap;

use super::{Cause, Intervention};
use crate::id::RunId;
use crate::name::PlaybookName;

/// A request about a playbook or a run of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Runs a playbook.
    Start {
        /// The run.
        run: RunId,
        /// The playbook.
        playbook: PlaybookName,
        /// What it is told.
        arguments: BTreeMap<String, String>,
        /// Who starts it.
        by: String,
        /// Why, in a person's words.
        reason: String,
        /// What led to it.
        cause: Cause,
    },
    /// A run does what it does next. The gateway submits it to itself.
    Advance {
        /// The run.
        run: RunId,
    },
    /// The time of a run's step is over.
    Due {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
    },
    /// A person approves what a run waits for.
    Approve {
        /// The run.
        run: RunId,
        /// The step; `None` for the one that waits.
        step: Option<String>,
        /// Who approves.
        by: String,
        /// Whether they came themselves, and with no token.
        is_person: bool,
        /// Why, in a person's words.
        reason: String,
    },
    /// A person steps into a run.
    Intervene {
        /// The run.
        run: RunId,
        /// How.
        intervention: Intervention,
        /// Who.
        by: String,
        /// Why, in a person's words.
        reason: String,
    },
    /// A receiver that a step waits for has taken what it was told, or never will. The gateway submits it to itself.
    Answer {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// Which of its targets; the first is 0.
        place: u32,
        /// Why it did not take it; `None` when it did.
        failure: Option<String>,
    },
    /// A person lifts the quarantine of a container.
    Lift {
        /// The container, by its name, or its id or the beginning of that.
        container: String,
        /// Who.
        by: String,
        /// Why, in a person's words.
        reason: String,
    },
    /// Lets a playbook be run no more.
    Remove {
        /// Its name.
        name: PlaybookName,
    },
}
