//! The version before the current one: whether it is kept, for templates that name it, and until when.
//!
//! Invariant: what is kept is alive, and older than what is current. It owns no state; the fold of a
//! promotion asks here.

use super::{Rejection, Secret, Spec};
use crate::name::SecretName;

impl Secret {
    /// Refuses to keep versions that die at their resource.
    ///
    /// # Errors
    /// When they would be.
    pub fn refuse_keeping(name: &SecretName, spec: &Spec) -> Result<(), Rejection> {
        match &spec.rotator {
            Some(resource) if spec.rotation.keep_previous => Err(Rejection::PreviousAtResource {
                secret: name.clone(),
                resource: resource.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a template that names the version before.
    ///
    /// # Errors
    /// When none is kept.
    pub fn refuse_previous(&self) -> Result<(), Rejection> {
        if self.spec.rotation.keep_previous {
            return Ok(());
        }
        let secret = self.name.clone();
        Err(Rejection::PreviousNotKept { secret })
    }

    /// The version that stays alive beside this one, once it is promoted: the one that is current before
    /// it. What a rotation goes back from is no version before, and what an evicted host may have is not
    /// kept: one rotation has to end it.
    #[must_use]
    pub fn retains_beside(&self, promoted: u64) -> Option<u64> {
        let current = self.current.filter(|_| self.spec.rotation.keep_previous)?;
        let is_before = current < promoted && self.is_deliverable(current);
        (is_before && !self.lost.contains(&current)).then_some(current)
    }
}
