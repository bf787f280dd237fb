//! Which leases there are: the hidden secrets of containers, and whom they belong to.
//!
//! Only those with a version that is alive are looked through: of a container that is gone for long nothing is
//! left here but its hidden secret.

use super::World;
use crate::binding;
use crate::id::{BindingId, HostId, SecretId};
use crate::lease::{self, Lease};
use crate::resource::Probe;
use crate::revocation::Backend;
use crate::secret::Secret;

impl World {
    /// Secrets that a person declared: containers' leases are none.
    pub fn declared_secrets(&self) -> impl Iterator<Item = &Secret> {
        let secrets = self.secrets.values();
        secrets.filter(|secret| secret.lease_of().is_none())
    }

    /// The secret that a person declared: of a lease the one it is a lease of.
    #[must_use]
    pub fn home(&self, secret: SecretId) -> SecretId {
        let known = self.secrets.get(&secret);
        let of = known.and_then(Secret::lease_of);
        of.map_or(secret, |of| of.secret)
    }

    /// Whether a binding is about a secret, or about the one that it is a lease of.
    #[must_use]
    pub fn gives(&self, spec: &binding::Spec, secret: SecretId) -> bool {
        spec.names(self.home(secret))
    }

    /// A binding's own id, where a host told of it as its plan has it: a lease's is another one there.
    #[must_use]
    pub fn own_binding(&self, planned: BindingId, secret: SecretId) -> BindingId {
        let known = self.secrets.get(&secret);
        match known.and_then(Secret::lease_of) {
            Some(_) => lease::binding_of(planned, secret),
            None => planned,
        }
    }

    /// Whether a host may have it: a lease is its container's host's alone.
    #[must_use]
    pub fn may_have(&self, secret: SecretId, host: HostId) -> bool {
        let known = self.secrets.get(&secret);
        let of = known.and_then(Secret::lease_of);
        of.is_none_or(|of| of.host == host)
    }

    /// The server at which a lease's logins are tried, as its declared secret says now.
    #[must_use]
    pub fn probe_of(&self, secret: &Secret) -> Option<Box<Probe>> {
        let declared = self.secrets.get(&secret.lease_of()?.secret)?;
        match declared.spec.lease.as_deref()? {
            Lease::PerContainer { probe, .. } => probe.clone(),
            Lease::Of(_) => None,
        }
    }

    /// Leases of a secret that are alive, or being made.
    pub fn leases_of(&self, secret: SecretId) -> impl Iterator<Item = &Secret> {
        let ids = self.leases.get(&secret).into_iter().flatten();
        ids.filter_map(|id| self.secrets.get(id))
    }

    /// The same of a host's containers.
    pub fn leases_at(&self, host: HostId) -> impl Iterator<Item = &Secret> {
        let ids = self.leases_at.get(&host).into_iter().flatten();
        ids.filter_map(|id| self.secrets.get(id))
    }

    /// Whether a container's lease ended, and nothing is under way to give it another one or to end this one.
    #[must_use]
    pub fn is_lease_over(&self, secret: &Secret) -> bool {
        secret.lease_of().is_some()
            && secret.alive().is_empty()
            && self.open_rotation(secret.id).is_none()
            && self.unconfirmed_revocation(secret.id).is_none()
    }

    /// Whether a rotation of a secret is under way that another one waits for. Not one that but keeps the lease before
    /// alive for a while, where the one in use has to give way.
    #[must_use]
    pub fn is_held_up(&self, secret: SecretId) -> bool {
        let known = self.secrets.get(&secret);
        let is_lease = known.and_then(Secret::lease_of).is_some();
        let open = self.open_rotation(secret);
        open.is_some_and(|open| !is_lease || !open.is_draining() || open.returning.is_some())
    }

    /// How many revocations of a secret its store did not confirm yet.
    #[must_use]
    pub fn unconfirmed_revocations(&self, secret: SecretId) -> usize {
        let of_secret = self.revocations.values().filter(|one| one.secret == secret);
        let open = of_secret.filter(|one| one.is_begun() && one.backend != Backend::Confirmed);
        open.count()
    }

    /// Keeps the indexes as a secret is now.
    pub(super) fn index_lease(&mut self, id: SecretId) {
        let Some(secret) = self.secrets.get(&id) else {
            return;
        };
        let Some(of) = secret.lease_of() else {
            return;
        };
        let (declared, host) = (of.secret, of.host);
        if secret.alive().is_empty() {
            if let Some(ids) = self.leases.get_mut(&declared) {
                ids.remove(&id);
            }
            if let Some(ids) = self.leases_at.get_mut(&host) {
                ids.remove(&id);
            }
            return;
        }
        self.leases.entry(declared).or_default().insert(id);
        self.leases_at.entry(host).or_default().insert(id);
    }
}
