//! The version before the current one: whether it is kept, for templates that name it, and until when; and
//! what cannot be promised of it.
//!
//! Invariant: what is kept is alive, and older than what is current. On the way back to a version what was
//! kept beside it is kept again, so that whoever never left it sees no change.

use super::{Rejection, Secret, Spec, Store};
use crate::name::SecretName;
use crate::resource::Kind;
use crate::schedule::Ack;
use crate::store::Backend;

impl Secret {
    /// Refuses to keep versions that die at their resource, or at the store outside in which they lie.
    ///
    /// # Errors
    /// When they would be.
    pub fn refuse_keeping(
        name: &SecretName,
        spec: &Spec,
        backend: Option<&Backend>,
    ) -> Result<(), Rejection> {
        let resource = spec.rotator.as_ref().map(ToString::to_string);
        match resource.or_else(|| role_of(spec, backend)) {
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
    pub fn refuse_draining(
        name: &SecretName,
        spec: &Spec,
        backend: Option<&Backend>,
    ) -> Result<(), Rejection> {
        let receiver = spec.rotator.as_ref();
        let receiver = receiver.filter(|at| at.kind == Kind::Webhook && !at.strategy.overlaps());
        let resource = receiver.map(ToString::to_string);
        match resource.or_else(|| role_of(spec, backend)) {
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

    /// Whether the version before is still good at its resource while consumers move to the next one.
    #[must_use]
    pub fn overlaps(&self) -> bool {
        let rotator = self.spec.rotator.as_ref();
        rotator.is_none_or(|resource| resource.strategy.overlaps())
    }

    /// Whether the version before may become current again: what a server made itself ended it there.
    #[must_use]
    pub fn has_way_back(&self) -> bool {
        self.overlaps() && !self.is_made_there()
    }

    /// Whether the server outside makes the values itself.
    #[must_use]
    pub fn is_made_there(&self) -> bool {
        let place = self.place().filter(|_| !self.is_only_kept);
        place.is_some_and(|place| place.source.is_made_there())
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

    /// The version that is kept again beside this one, once consumers move back to it: the one that was kept
    /// beside it before they left it.
    #[must_use]
    pub fn retains_on_return(&self, back: u64) -> Option<u64> {
        let before = self.retained_before;
        let before = before.filter(|_| self.spec.rotation.keep_previous)?;
        let is_before = before < back && self.is_deliverable(before);
        (is_before && !self.lost.contains(&before)).then_some(before)
    }

    /// The version that is given beside the current one; none while there is no current one.
    #[must_use]
    pub fn given_beside(&self) -> Option<u64> {
        self.retained.filter(|_| self.current.is_some())
    }

    /// Folds what a promotion keeps, while the version before is still the current one.
    pub(super) fn retain(&mut self, promoted: u64) {
        let is_return = self.current.is_some_and(|current| promoted < current);
        if is_return {
            self.retained = self.retains_on_return(promoted);
            self.retained_before = None;
            return;
        }
        let kept = self.retains_beside(promoted);
        self.retained_before = std::mem::replace(&mut self.retained, kept);
    }
}

/// The static role that makes a secret's values, in words.
fn role_of(spec: &Spec, backend: Option<&Backend>) -> Option<String> {
    let Store::Outside(place) = &spec.store else {
        return None;
    };
    if !backend.is_some_and(Backend::has_static_roles) {
        return None;
    }
    let role = place.source.static_role()?;
    Some(format!("static role {} of {}", role.name, place.store))
}
