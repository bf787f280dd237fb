//! Orders to a host about its containers, as steps of playbooks give them: to restart one, once, and to keep one in
//! quarantine until a person lifts that.
//!
//! Invariants: an order is named by its container and its number in the log, so none is carried out twice; a
//! quarantine ends by a person's word, with its container, or with its host; a restart also with its step.

use super::{Event, Host};
use crate::binding::OnRevoke;
use crate::id::{ContainerId, RunId, SecretId};
use crate::rollout;
use crate::time::Timestamp;

/// Most orders of one host that are open: its plan names them all.
pub const MAX_ORDERS: usize = 1000;

/// The container that an order is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its full id.
    pub container: ContainerId,
    /// Its name, for people.
    pub name: String,
    /// Config digest of its image.
    pub image_digest: String,
    /// `PROJECT/SERVICE` under Compose, the service's name under Swarm; empty for one of its own.
    pub service: String,
}

impl Subject {
    /// What restarts together with it.
    #[must_use]
    pub fn rollout_service(&self) -> rollout::Service {
        let compose = self.service.rsplit_once('/').map(|(_, name)| name);
        rollout::Service::of(&self.image_digest, compose.unwrap_or_default())
    }
}

/// A version that a container had when its quarantine was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Had {
    /// The secret.
    pub secret: SecretId,
    /// The version.
    pub version: u64,
    /// Whether it had it in a variable of its program, which only its end takes away.
    pub in_variable: bool,
}

/// The step of a run that gave an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The run.
    pub run: RunId,
    /// Its step.
    pub step: String,
    /// Which of the step's targets; the first is 0.
    pub place: u32,
}

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderKind {
    /// A restart.
    Restart,
    /// A quarantine.
    Quarantine,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderOutcome {
    /// It restarted and runs well; or it is cut off, paused or stopped, and has nothing any more.
    Done,
    /// The container is gone, or does not run any more and was not to be brought up.
    Gone,
    /// It did not run well after its restart; or it could not be cut off, paused or stopped, which is tried again.
    Failed {
        /// Why, with the next step.
        reason: String,
    },
    /// Its step was over before its host carried it out.
    Withdrawn,
}

/// A restart that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Its number: that of the event in the log.
    pub number: u64,
    /// The container.
    pub subject: Subject,
    /// Who gave it.
    pub origin: Origin,
    /// Not before this time; `None`: at once.
    pub not_before: Option<Timestamp>,
}

/// How a quarantine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its host did not say anything yet.
    Ordered,
    /// The container is cut off, paused or stopped.
    Done,
    /// It could not be, for this reason; it is tried again.
    Failed(String),
}

/// A container in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Its number: that of the event in the log.
    pub number: u64,
    /// The container.
    pub subject: Subject,
    /// Who gave it.
    pub origin: Origin,
    /// What is done to it.
    pub action: OnRevoke,
    /// Why, in words.
    pub reason: String,
    /// What it had, or was to have, when that was ordered: whoever is in it may know that.
    pub had: Vec<Had>,
    /// How it stands.
    pub standing: Standing,
}

impl Host {
    /// How many orders of it are open.
    #[must_use]
    pub fn open_orders(&self) -> usize {
        self.restarts.len() + self.quarantines.len()
    }

    /// Folds an event about an order with its number in the log; total. Every other event changes nothing.
    pub fn evolve_order(&mut self, number: u64, event: &Event) {
        match event {
            Event::RestartOrdered {
                subject,
                origin,
                not_before,
            } => {
                let ordered = Restart {
                    number,
                    subject: subject.clone(),
                    origin: origin.clone(),
                    not_before: *not_before,
                };
                self.restarts.insert(subject.container.clone(), ordered);
            }
            Event::QuarantineOrdered {
                subject,
                origin,
                action,
                reason,
                had,
            } => {
                let ordered = Quarantine {
                    number,
                    subject: subject.clone(),
                    origin: origin.clone(),
                    action: *action,
                    reason: reason.clone(),
                    had: had.clone(),
                    standing: Standing::Ordered,
                };
                self.quarantines.insert(subject.container.clone(), ordered);
            }
            Event::OrderEnded {
                container,
                order: OrderKind::Restart,
                ..
            } => {
                self.restarts.remove(container);
            }
            Event::OrderEnded {
                container,
                order: OrderKind::Quarantine,
                outcome,
                ..
            } => self.note_quarantine(container, outcome),
            Event::QuarantineLifted { container, .. } => {
                self.quarantines.remove(container);
                self.lifted = number;
            }
            _ => {}
        }
    }

    fn note_quarantine(&mut self, container: &ContainerId, outcome: &OrderOutcome) {
        let standing = match outcome {
            OrderOutcome::Gone | OrderOutcome::Withdrawn => {
                self.quarantines.remove(container);
                return;
            }
            OrderOutcome::Done => Standing::Done,
            OrderOutcome::Failed { reason } => Standing::Failed(reason.clone()),
        };
        if let Some(known) = self.quarantines.get_mut(container) {
            known.standing = standing;
        }
    }
}
