//! What a secret that gives leases, or is one, refuses. How leases come and go is decided elsewhere.

use super::{Rejection, Secret, Spec};
use crate::lease::{Lease, LeaseOf};

impl Secret {
    /// Whose leases its versions are.
    #[must_use]
    pub fn lease_of(&self) -> Option<&LeaseOf> {
        match self.spec.lease.as_deref() {
            Some(Lease::Of(of)) => Some(of),
            Some(Lease::PerContainer { .. }) | None => None,
        }
    }

    /// Whether each container gets a lease instead of a value of this secret.
    #[must_use]
    pub fn gives_leases(&self) -> bool {
        matches!(self.spec.lease.as_deref(), Some(Lease::PerContainer { .. }))
    }

    /// Refuses what its store alone makes.
    ///
    /// # Errors
    /// When it gives leases, or is one and the value was provided.
    pub fn refuse_lease(&self, has_value: bool) -> Result<(), Rejection> {
        let secret = self.name.clone();
        match self.spec.lease.as_deref() {
            Some(Lease::PerContainer { .. }) => Err(Rejection::OnlyLeases { secret }),
            Some(Lease::Of(_)) if has_value => Err(Rejection::LeaseNotProvided { secret }),
            Some(Lease::Of(_)) | None => Ok(()),
        }
    }

    /// Whether what is current at a store outside stays so: leases stand beside each other, and end alone.
    #[must_use]
    pub fn stays_outside(&self) -> bool {
        self.place().is_some() && self.lease_of().is_none()
    }

    /// Refuses to make a secret with leases of one with a value or of a container's lease, and the other way.
    ///
    /// # Errors
    /// When that is what the manifest asks for.
    pub fn refuse_lease_change(&self, spec: &Spec) -> Result<(), Rejection> {
        let kind = |spec: &Spec| spec.lease.as_deref().map(std::mem::discriminant);
        if kind(&self.spec) == kind(spec) {
            return Ok(());
        }
        let secret = self.name.clone();
        Err(Rejection::LeaseFixed { secret })
    }
}
