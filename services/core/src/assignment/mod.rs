//! The assignment: which version of a secret one container instance has under one binding, as its
//! injector reported it. A restart keeps the instance; a recreated container is a new one.

#[cfg(test)]
mod tests;

use crate::binding::AckLevel;
use crate::id::{BindingId, ContainerId, HostId, SecretId};
use crate::time::Timestamp;

/// Names one assignment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The host.
    pub host: HostId,
    /// The container instance.
    pub container: ContainerId,
    /// The binding it is served under.
    pub binding: BindingId,
    /// Which further secret of the binding it is about; `None`: the binding's own. An assignment keeps its
    /// key while it lives, also when its binding makes another secret its own.
    pub also: Option<SecretId>,
}

impl Key {
    /// The one that is before all others of a host in their order.
    pub(crate) fn first_at(host: HostId) -> Self {
        Self {
            host,
            container: ContainerId::first(),
            binding: BindingId::from_bytes([0; 16]),
            also: None,
        }
    }
}

/// What happened to an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The instance has to run on this version.
    Assigned {
        /// The secret.
        secret: SecretId,
        /// The version.
        version: u64,
        /// Name of the container, for people.
        container_name: String,
        /// Config digest of its image, for the audit.
        image_digest: String,
    },
    /// The file holds the version (read back), or the env variable of the new first program does.
    Swapped {
        /// The version.
        version: u64,
        /// When the rename was done, or the new first program ran, by the host's clock.
        at: Timestamp,
    },
    /// The consumer was told and caught it, or restarted and is healthy.
    Reloaded {
        /// The version.
        version: u64,
        /// When, by the host's clock.
        at: Timestamp,
    },
    /// The copy is gone from the container.
    Withdrawn,
    /// The container is gone.
    Vanished,
    /// The injector could not or would not serve it.
    Refused {
        /// The version.
        version: u64,
        /// Why, with the next step.
        reason: String,
    },
    /// Its host told to which service the container belongs.
    ServiceNoted {
        /// `PROJECT/SERVICE` under Compose, the service's name under Swarm.
        service: String,
    },
}

/// A normal "no" about an assignment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The report speaks of something never assigned.
    #[error("container {0} has no assignment under this binding")]
    NotAssigned(String),
}

/// How far a consumer is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Progress {
    /// It has to move to `assigned`.
    #[default]
    Waiting,
    /// Its copy is replaced.
    Swapped,
    /// It uses the new value.
    Reloaded,
    /// Its copy is gone.
    Withdrawn,
    /// It is gone itself.
    Vanished,
    /// It was refused.
    Refused(String),
}

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment {
    /// The secret.
    pub secret: SecretId,
    /// The version it has to run on.
    pub assigned: u64,
    /// The version its copy holds, as last reported; 0 for none.
    pub holds: u64,
    /// The version its program took last, as far as it showed; 0 for none. It began with its first copy; a
    /// later one it takes when it is told and shows it.
    pub runs_on: u64,
    /// How far it is.
    pub progress: Progress,
    /// The highest level it has shown for the version it holds.
    pub shown: Option<AckLevel>,
    /// When its copy was replaced.
    pub swapped_at: Option<Timestamp>,
    /// When it began to use the new value.
    pub reloaded_at: Option<Timestamp>,
    /// Name of the container.
    pub container_name: String,
    /// Config digest of its image.
    pub image_digest: String,
    /// The service it belongs to; empty when it belongs to none, or its host did not tell yet.
    pub service: String,
}

impl Assignment {
    /// Whether it has shown, at the level asked, that it runs on the version.
    #[must_use]
    pub fn has_reached(&self, version: u64, level: AckLevel) -> bool {
        let reached = match level {
            AckLevel::Swapped => matches!(self.progress, Progress::Swapped | Progress::Reloaded),
            AckLevel::Reloaded => self.progress == Progress::Reloaded,
        };
        self.holds == version && reached
    }

    /// Whether it still takes part: the container exists and was not withdrawn.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.assigned > 0 && !matches!(self.progress, Progress::Vanished | Progress::Withdrawn)
    }

    /// Whether it was refused before it held anything: it runs on no version, so no rotation waits
    /// for it.
    #[must_use]
    pub fn is_unserved(&self) -> bool {
        self.holds == 0 && matches!(self.progress, Progress::Refused(_))
    }

    /// Notes a fact the injector reported; a repeat gives no event.
    ///
    /// # Errors
    /// When nothing was ever assigned.
    pub fn decide_report(&self, key: &Key, event: Event) -> Result<Option<Event>, Rejection> {
        if self.assigned == 0 {
            return Err(Rejection::NotAssigned(key.container.short().to_owned()));
        }
        let known = match &event {
            Event::Assigned { version, .. } => self.assigned == *version && self.is_live(),
            Event::Swapped { version, .. } => {
                self.holds == *version
                    && matches!(self.progress, Progress::Swapped | Progress::Reloaded)
            }
            Event::Reloaded { version, .. } => {
                self.holds == *version && self.progress == Progress::Reloaded
            }
            Event::Withdrawn => self.progress == Progress::Withdrawn,
            Event::Vanished => self.progress == Progress::Vanished,
            Event::Refused { reason, .. } => self.progress == Progress::Refused(reason.clone()),
            Event::ServiceNoted { service } => self.service == *service,
        };
        Ok(if known { None } else { Some(event) })
    }

    /// Folds one event; total.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Assigned {
                secret,
                version,
                container_name,
                image_digest,
            } => {
                if self.secret != *secret {
                    // Its binding means another secret now; numbers of the old one say nothing.
                    self.holds = 0;
                    self.runs_on = 0;
                    self.shown = None;
                }
                self.secret = *secret;
                self.assigned = *version;
                // It may be back to what it never left.
                self.progress = match self.shown.filter(|_| self.holds == *version) {
                    Some(AckLevel::Reloaded) => Progress::Reloaded,
                    Some(AckLevel::Swapped) => Progress::Swapped,
                    None => Progress::Waiting,
                };
                self.swapped_at = None;
                self.reloaded_at = None;
                self.container_name.clone_from(container_name);
                self.image_digest.clone_from(image_digest);
            }
            Event::Swapped { version, at } => {
                if self.holds == 0 {
                    self.runs_on = *version;
                }
                self.holds = *version;
                self.shown = Some(AckLevel::Swapped);
                // What it shows late of what it has says nothing of what it is to have.
                if self.assigned == *version {
                    self.progress = Progress::Swapped;
                    self.swapped_at = Some(*at);
                }
            }
            Event::Reloaded { version, at } => {
                self.holds = *version;
                self.runs_on = *version;
                self.shown = Some(AckLevel::Reloaded);
                if self.assigned == *version {
                    self.progress = Progress::Reloaded;
                    self.reloaded_at = Some(*at);
                }
            }
            Event::Withdrawn => {
                self.holds = 0;
                self.runs_on = 0;
                self.shown = None;
                self.progress = Progress::Withdrawn;
            }
            Event::Vanished => {
                self.holds = 0;
                self.runs_on = 0;
                self.shown = None;
                self.progress = Progress::Vanished;
            }
            Event::Refused { reason, .. } => self.progress = Progress::Refused(reason.clone()),
            Event::ServiceNoted { service } => self.service.clone_from(service),
        }
    }
}
