//! One run of a playbook: which step stands where, what each began, who approved.
//!
//! A run carries its steps as they were when it began, so a later manifest changes no run. What a step
//! does and the fact that it did are one append, so no crash makes it do anything twice. What comes next
//! follows from the state alone (`moves`): nothing has to be remembered beside the log.

mod event;
mod moves;
mod orders;
mod proof;
mod request;
mod score;
mod state;
#[cfg(test)]
mod tests;

pub use event::{Begun, Cause, Event, Intervention, Outcome, Rejection, Target};
pub use moves::{Move, next_move};
pub(crate) use orders::late;
pub use request::Request;
pub use score::{Lack, Score, score};
pub use state::{Act, Progress, Run, StepState};

/// Most runs that are open at the same time.
pub const MAX_OPEN_RUNS: usize = 64;
/// How deep playbooks may run each other; the first is 0.
pub const MAX_DEPTH: u32 = 4;
/// Runs that have ended and are kept for people, per playbook, and of all that were removed together; older ones are in
/// the log only. One that an open run began is kept beside them until that one ends.
pub const KEPT_CLOSED_RUNS: usize = 16;
/// Who started a run that a trigger began.
pub const SCHEDULER: &str = "scheduler";
/// Most bytes of a run's texts together, its parameters put in: its begin is one event, which has to fit into a message.
pub const MAX_RUN_TEXT_BYTES: usize = 1 << 20;
/// Longest reason of a step that failed, in characters.
pub const MAX_FAILURE_CHARS: usize = 500;
