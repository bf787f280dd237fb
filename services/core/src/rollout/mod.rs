//! The rollout: the restarts of one service, over all hosts and all secrets. It gives leave to restart,
//! one container at a time, and remembers which versions the service did not run well with.
//!
//! Invariant: a leave ends by what its host says or by the host's eviction, never by time. How much room
//! there is, `decision::rollout` decides.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{BindingId, ContainerId, HostId, SecretId};
use crate::time::Timestamp;

/// Containers of one host that may restart at the same time, over all services and secrets: what starts
/// together slows each other down, and a health check that is late takes a rotation back. Leave whose time
/// comes later, after a rollout's delay, counts from then on.
pub const MAX_LEAVES_PER_HOST: usize = 8;

/// What restarts together: a Compose service, on whatever images and hosts it runs, or the containers of
/// one image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Config digest of the image; empty for a Compose service, which may be on its way from one image to
    /// another.
    pub image_digest: String,
    /// The Compose service; empty outside Compose.
    pub name: String,
}

impl Service {
    /// The service of a container with this image and, under Compose, this service's name.
    #[must_use]
    pub fn of(image_digest: &str, name: &str) -> Self {
        let digest = if name.is_empty() { image_digest } else { "" };
        Self {
            image_digest: digest.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// One container of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    /// The host.
    pub host: HostId,
    /// The container.
    pub container: ContainerId,
}

/// A version that a restart brings, and under which binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Due {
    /// The binding.
    pub binding: BindingId,
    /// The secret.
    pub secret: SecretId,
    /// The version.
    pub version: u64,
}

/// What happened to a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A container has to restart and waits for leave.
    Asked {
        /// The container.
        instance: Instance,
        /// Its name, for people.
        container_name: String,
        /// What it restarts for.
        due: Vec<Due>,
    },
    /// It may restart, once.
    LeaveGiven {
        /// The container.
        instance: Instance,
        /// Not before this time; `None`: at once, whatever the host's clock says.
        not_before: Option<Timestamp>,
    },
    /// It started on its own and does not count as running well yet.
    Unwell {
        /// The container.
        instance: Instance,
        /// Its name, for people.
        container_name: String,
    },
    /// It did not run well after its restart.
    Failed {
        /// The container.
        instance: Instance,
        /// Its name, for people.
        container_name: String,
        /// What it was restarted for.
        due: Vec<Due>,
        /// Why, with the next step.
        reason: String,
    },
    /// It runs well, has nothing to restart for any more, or is gone.
    Settled {
        /// The container.
        instance: Instance,
        /// When this was decided.
        at: Timestamp,
    },
}

impl Event {
    /// The container it is about.
    #[must_use]
    pub const fn instance(&self) -> &Instance {
        match self {
            Self::Asked { instance, .. }
            | Self::LeaveGiven { instance, .. }
            | Self::Unwell { instance, .. }
            | Self::Failed { instance, .. }
            | Self::Settled { instance, .. } => instance,
        }
    }
}

/// How far a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It waits for leave.
    Waiting,
    /// It has leave.
    Leave {
        /// Journal number of the event that gave it.
        number: u64,
        /// Not before this time; `None`: at once, whatever the host's clock says.
        not_before: Option<Timestamp>,
    },
    /// It started on its own and is not well yet.
    Unwell,
    /// It did not run well, and why.
    Failed(String),
}

/// A container that is in the rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, for people.
    pub container_name: String,
    /// What it restarts for.
    pub due: Vec<Due>,
    /// How far it is.
    pub stage: Stage,
    /// Whether it is known not to run well.
    pub is_down: bool,
    /// Whether what it restarts with changed since it asked, though the versions did not: it may ask again
    /// for the same ones.
    pub may_ask_again: bool,
}

impl Member {
    /// Whether it takes away from what may be unavailable.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        self.is_down || self.has_leave()
    }

    /// Whether it may restart.
    #[must_use]
    pub const fn has_leave(&self) -> bool {
        matches!(self.stage, Stage::Leave { .. })
    }
}

/// One service's rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Containers that wait, may restart, or are not well.
    pub members: BTreeMap<Instance, Member>,
    /// Versions that a container of the service did not run well with.
    pub failed: BTreeSet<(SecretId, u64)>,
    /// When the last container that had been unavailable was through.
    pub rested_at: Option<Timestamp>,
}

impl Rollout {
    /// Whether nothing of it has to be remembered.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.members.is_empty() && self.failed.is_empty()
    }

    /// Members that may restart.
    #[must_use]
    pub fn leaves(&self) -> usize {
        self.members.values().filter(|m| m.has_leave()).count()
    }

    /// Members that take away from what may be unavailable.
    #[must_use]
    pub fn unavailable(&self) -> usize {
        let unavailable = |member: &&Member| member.is_unavailable();
        self.members.values().filter(unavailable).count()
    }

    /// Whether the service did not run well with one of these versions.
    #[must_use]
    pub fn has_failed(&self, due: &[Due]) -> bool {
        due.iter()
            .any(|due| self.failed.contains(&(due.secret, due.version)))
    }

    /// A person changed what containers get of a secret: what failed with it may ask again.
    pub(crate) fn try_again(&mut self, secret: SecretId) {
        self.failed.retain(|(failed, _)| *failed != secret);
        for member in self.members.values_mut() {
            let is_about = member.due.iter().any(|due| due.secret == secret);
            if is_about && matches!(member.stage, Stage::Failed(_)) {
                member.due.clear();
            }
            member.may_ask_again |= is_about && member.has_leave();
        }
    }

    /// A version that lay beside the current one under these bindings is dead: whoever has leave may restart
    /// once more for the same versions, to be rid of it.
    pub(crate) fn ask_again(&mut self, bindings: &BTreeSet<BindingId>) {
        for member in self.members.values_mut() {
            let is_about = member.due.iter().any(|due| bindings.contains(&due.binding));
            member.may_ask_again |= is_about && member.has_leave();
        }
    }

    /// Folds one event with its journal number; total.
    pub fn evolve(&mut self, number: u64, event: &Event) {
        match event {
            Event::Asked {
                instance,
                container_name,
                due,
            } => {
                let member = self.member(instance, container_name);
                member.due.clone_from(due);
                member.may_ask_again = false;
                if !member.has_leave() {
                    member.stage = Stage::Waiting;
                }
            }
            Event::LeaveGiven {
                instance,
                not_before,
            } => {
                if let Some(member) = self.members.get_mut(instance) {
                    member.stage = Stage::Leave {
                        number,
                        not_before: *not_before,
                    };
                }
            }
            Event::Unwell {
                instance,
                container_name,
            } => {
                let member = self.member(instance, container_name);
                member.stage = Stage::Unwell;
                member.is_down = true;
            }
            Event::Failed {
                instance,
                container_name,
                due,
                reason,
            } => {
                let member = self.member(instance, container_name);
                member.due.clone_from(due);
                member.stage = Stage::Failed(reason.clone());
                member.is_down = true;
                let failed = due.iter().map(|due| (due.secret, due.version));
                self.failed.extend(failed);
            }
            Event::Settled { instance, at } => {
                // Nobody has to recover from a restart that never was.
                let left = self.members.remove(instance);
                if left.is_some_and(|member| member.is_unavailable()) {
                    self.rested_at = Some(*at);
                }
            }
        }
    }

    fn member(&mut self, instance: &Instance, container_name: &str) -> &mut Member {
        let fresh = || Member {
            container_name: container_name.to_owned(),
            due: Vec::new(),
            stage: Stage::Waiting,
            is_down: false,
            may_ask_again: false,
        };
        self.members.entry(instance.clone()).or_insert_with(fresh)
    }
}
