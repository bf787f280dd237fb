//! The version before the current one: whether it is kept, for templates that name it, and until when; and
//! what cannot be promised of it.
//!
//! Invariant: what is kept is alive, and older than what is current. It owns no state; the fold of a
//! promotion asks here.

use super::{Rejection, Secret, Spec, Store};
use crate::name::SecretName;
use crate::resource::Kind;
use crate::schedule::Ack;

impl Secret {
    /// Refuses to keep versions that die at their resource.
    ///
    /// # Errors
    /// When they would be.
    pub fn refuse_keeping(name: &SecretName, spec: &Spec) -> Result<(), Rejection> {
        let resource = spec.rotator.as_ref().map(ToString::to_string);
        match resource.or_else(|| role_of(spec)) {
            Some(resource) if spec.rotation.keep_previous => Err(Rejection::PreviousAtResource {
                secret: name.clone(),
                resource,
            }),
            _ => Ok(()),
        }
    }

    /// Refuses to wait for sessions where the value before is worthless already and nobody can count them.
    ///
    /// # Errors
    /// When that is asked for.
    pub fn refuse_draining(name: &SecretName, spec: &Spec) -> Result<(), Rejection> {
        let receiver = spec.rotator.as_ref();
        let receiver = receiver.filter(|at| at.kind == Kind::Webhook && !at.strategy.overlaps());
        let resource = receiver.map(ToString::to_string);
        match resource.or_else(|| role_of(spec)) {
            Some(resource) if spec.rotation.ack == Some(Ack::Drained) => {
                Err(Rejection::DrainedUntold {
                    secret: name.clone(),
                    resource,
                })
            }
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

/// The static role that makes a secret's values, in words.
fn role_of(spec: &Spec) -> Option<String> {
    let Store::Outside(place) = &spec.store else {
        return None;
    };
    let role = place.source.static_role()?;
    Some(format!("static role {} of {}", role.name, place.store))
}
