//! Canaries' part of a rotation's state: who has its version before it is promoted. Who is chosen, and what
//! comes of it, is `decision`'s.
//!
//! Invariant: whoever is ahead stays so over restarts, until the version is promoted or given up; a container
//! that is not named is not ahead.

use super::{Event, Phase, Rotation};
use crate::assignment;
use crate::id::{ContainerId, HostId};
use crate::rollout::Instance;

impl Rotation {
    /// Whether canaries have its version, or had it and go back, while it is not promoted.
    #[must_use]
    pub fn has_canaries(&self) -> bool {
        !self.canaries.is_empty()
    }

    /// Whether a consumer is to have its version before it is promoted.
    #[must_use]
    pub fn is_ahead(&self, key: &assignment::Key) -> bool {
        self.returning.is_none() && self.canaries.contains(key)
    }

    /// Whether a container may have it: of what is not promoted, canaries alone.
    pub(crate) fn may_have(&self, instance: &Instance) -> bool {
        let is_it = |key: &assignment::Key| {
            key.host == instance.host && key.container == instance.container
        };
        !self.has_canaries() || self.canaries.iter().any(is_it)
    }

    /// Whether its canaries go back to the version that is still current.
    #[must_use]
    pub fn is_canary_return(&self) -> bool {
        self.has_canaries() && self.returning.is_some()
    }

    /// Whether their time to go back is over, and they are waited for all the same.
    #[must_use]
    pub fn is_held_by_canaries(&self) -> bool {
        let goes_back = self.phase == Phase::Distributing && self.is_canary_return();
        goes_back && self.deadline.is_none()
    }

    /// Containers of a host that get its version before it is promoted, in order; none once they go back.
    #[must_use]
    pub fn ahead_on(&self, host: HostId) -> Vec<ContainerId> {
        if self.returning.is_some() {
            return Vec::new();
        }
        let own = self.canaries.iter().filter(|key| key.host == host);
        let mut containers: Vec<ContainerId> = own.map(|key| key.container.clone()).collect();
        containers.dedup();
        containers
    }

    /// Folds what happens with canaries; total.
    pub(super) fn evolve_canary(&mut self, event: &Event) {
        match event {
            Event::CanaryStarted {
                consumers,
                deadline,
                ..
            } => {
                self.phase = Phase::Canary;
                self.canaries = consumers.iter().cloned().collect();
                self.wait_for(consumers, &[], *deadline);
            }
            Event::CanaryWatched { until } => self.deadline = Some(*until),
            Event::CanaryPassed | Event::CanarySkipped { .. } => {
                self.waiting.clear();
                self.deadline = None;
            }
            _ => {}
        }
    }
}
