//! The wait for sessions: what is known of those of the credentials that die at a rotation's end.
//!
//! Invariants: what dies is alive until the wait is over; an attempt at asking names its effect, so the
//! count of attempts only grows; another last acknowledgement draws another line.

use super::{Event, Phase, Rotation, Step};
use crate::time::Timestamp;

/// What is known of the sessions of what dies at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drain {
    /// How often they were asked for.
    pub asked: u32,
    /// Where the backend drew the line.
    pub mark: Option<i64>,
    /// How many were left at the last answer.
    pub left: Option<u64>,
    /// Since when they are waited for.
    pub since: Option<Timestamp>,
    /// When the grace ends, where the backend does not tell them.
    pub grace: Option<Timestamp>,
}

impl Drain {
    /// Folds one event of its rotation; total.
    pub(super) const fn evolve(&mut self, event: &Event) {
        match event {
            Event::StepStarted {
                step: Step::Drain,
                attempt,
            } => self.asked = *attempt,
            Event::SessionsLeft {
                mark,
                sessions,
                since,
                ..
            } => {
                self.mark = Some(*mark);
                self.left = Some(*sessions);
                self.since = Some(*since);
                self.grace = None;
            }
            Event::SessionsUntold { until, .. } => {
                self.left = None;
                self.grace = Some(*until);
            }
            Event::StepCompleted { step: Step::Drain } => {
                self.left = None;
                self.grace = None;
            }
            Event::Reopened { .. } | Event::TurnedBack { .. } => {
                *self = Self {
                    asked: self.asked,
                    mark: None,
                    left: None,
                    since: None,
                    grace: None,
                };
            }
            _ => {}
        }
    }
}

impl Rotation {
    /// Whether everyone acknowledged, and sessions of what dies are asked or waited for.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        matches!(
            self.phase,
            Phase::Draining { .. }
                | Phase::Performing {
                    step: Step::Drain,
                    ..
                }
                | Phase::Retrying {
                    step: Step::Drain,
                    ..
                }
        )
    }

    /// When its wait ends: at the grace's end where one counts, else at its deadline.
    #[must_use]
    pub fn waits_until(&self) -> Option<Timestamp> {
        self.drain.grace.or(self.deadline)
    }

    /// Whether its deadline has passed and sessions of what dies are waited for all the same.
    #[must_use]
    pub fn is_held_by_sessions(&self) -> bool {
        self.is_draining() && self.waits_until().is_none()
    }

    /// The next attempt at asking for sessions.
    #[must_use]
    pub const fn ask_for_sessions(&self) -> Event {
        Event::StepStarted {
            step: Step::Drain,
            attempt: self.drain.asked.saturating_add(1),
        }
    }
}
