//! The policies in force, and the ones before them.

use std::sync::Arc;

use super::World;
use crate::approval::{Approval, Operation};
use crate::id::PolicySetId;
use crate::policy::{Applied, Event, KEPT_POLICY_SETS};

impl World {
    /// The set in force; `None` where nobody applied one yet.
    #[must_use]
    pub fn policies(&self) -> Option<&Arc<Applied>> {
        self.policies.back()
    }

    /// Sets that are kept, the oldest first and the one in force last.
    pub fn policies_kept(&self) -> impl Iterator<Item = &Arc<Applied>> {
        self.policies.iter()
    }

    /// Whether a request that nobody ended can never be done any more: a change of the policies is made over the set
    /// that was in force when it was asked for, and another one came since.
    #[must_use]
    pub fn is_overtaken(&self, asked: &Approval) -> bool {
        let is_change = asked.operation == Some(Operation::PolicyChange);
        let came_since = |set: &Arc<Applied>| set.number > asked.number;
        is_change && asked.end.is_none() && self.policies().is_some_and(came_since)
    }

    pub(super) fn apply_policy(&mut self, number: u64, id: PolicySetId, event: &Event) {
        let Event::Applied {
            version,
            policies,
            by,
        } = event;
        self.policies.push_back(Arc::new(Applied {
            id,
            version: *version,
            policies: policies.clone(),
            by: by.clone(),
            number,
        }));
        // The one in force is none of those before it.
        if self.policies.len() > KEPT_POLICY_SETS + 1 {
            self.policies.pop_front();
        }
    }
}
