//! Who one end of the bus is, and whose key speaks for whom.
//!
//! Invariants: one key per service role, one per host; an evicted or unknown host has none. All
//! clones of a [`Trust`] are one: a host learned or evicted counts at once for every receiver.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_engine::port::bus::HostKeys;
use keywheel_seal::sign::{SigningKey, VerifyingKey};

/// Who one end of the bus is.
pub struct Identity {
    deployment: DeploymentId,
    role: Role,
    host: Option<HostId>,
    key: SigningKey,
}

impl Identity {
    /// A service and the key it signs with.
    #[must_use]
    pub const fn service(deployment: DeploymentId, role: Role, key: SigningKey) -> Self {
        Self {
            deployment,
            role,
            host: None,
            key,
        }
    }

    /// A host's injector and the key it signs with.
    #[must_use]
    pub const fn injector(deployment: DeploymentId, host: HostId, key: SigningKey) -> Self {
        Self {
            deployment,
            role: Role::Injector,
            host: Some(host),
            key,
        }
    }

    /// Its deployment.
    #[must_use]
    pub const fn deployment(&self) -> DeploymentId {
        self.deployment
    }

    /// Its role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Its host, if it is an injector.
    #[must_use]
    pub const fn host(&self) -> Option<HostId> {
        self.host
    }

    /// The public half of its key.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    pub(crate) const fn key(&self) -> &SigningKey {
        &self.key
    }
}

/// Whose key speaks for whom in one deployment. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Trust(Arc<Keys>);

#[derive(Debug)]
struct Keys {
    deployment: DeploymentId,
    services: BTreeMap<Role, VerifyingKey>,
    hosts: RwLock<BTreeMap<HostId, VerifyingKey>>,
}

impl Trust {
    /// One key per service role, and no host yet. A key for the injector's role counts for nobody:
    /// injectors speak with their host's key.
    #[must_use]
    pub fn new(
        deployment: DeploymentId,
        services: impl IntoIterator<Item = (Role, VerifyingKey)>,
    ) -> Self {
        let services = services
            .into_iter()
            .filter(|(role, _)| *role != Role::Injector)
            .collect();
        Self(Arc::new(Keys {
            deployment,
            services,
            hosts: RwLock::default(),
        }))
    }

    /// The deployment.
    #[must_use]
    pub fn deployment(&self) -> DeploymentId {
        self.0.deployment
    }

    /// From now on exactly these hosts are trusted, each with its key.
    pub fn set_hosts(&self, hosts: BTreeMap<HostId, VerifyingKey>) {
        *self.0.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// From now on exactly the hosts of the gateway's list are trusted, without those evicted and
    /// those whose key is none.
    pub fn learn_hosts(&self, list: &[HostKeys]) {
        let hosts = list
            .iter()
            .filter(|keys| !keys.evicted)
            .filter_map(|keys| {
                let key = VerifyingKey::from_bytes(keys.signing_key).ok()?;
                Some((keys.host, key))
            })
            .collect();
        self.set_hosts(hosts);
    }

    /// The key that speaks for a sender.
    pub(crate) fn key_of(&self, role: Role, host: Option<HostId>) -> Option<VerifyingKey> {
        match (role, host) {
            (Role::Injector, Some(host)) => {
                let hosts = self.0.hosts.read().unwrap_or_else(PoisonError::into_inner);
                hosts.get(&host).cloned()
            }
            (Role::Injector, None) | (_, Some(_)) => None,
            (role, None) => self.0.services.get(&role).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use keywheel_seal::OsEntropy;

    use super::*;

    const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([1; 16]);
    const HOST: HostId = HostId::from_bytes([2; 16]);

    fn key() -> VerifyingKey {
        SigningKey::generate(&OsEntropy).verifying_key()
    }

    #[test]
    fn a_host_is_trusted_until_it_is_evicted_in_every_clone() {
        let trust = Trust::new(DEPLOYMENT, []);
        let other = trust.clone();
        let key = key();
        let keys = |evicted| HostKeys {
            host: HOST,
            signing_key: key.to_bytes(),
            evicted,
        };
        trust.learn_hosts(&[keys(false)]);
        let known = other.key_of(Role::Injector, Some(HOST));
        assert_eq!(known.map(|known| known.to_bytes()), Some(key.to_bytes()));
        assert!(other.key_of(Role::Injector, None).is_none());
        assert!(other.key_of(Role::Gateway, Some(HOST)).is_none());
        trust.learn_hosts(&[keys(true)]);
        assert!(other.key_of(Role::Injector, Some(HOST)).is_none());
    }

    #[test]
    fn a_key_for_all_injectors_counts_for_nobody() {
        let trust = Trust::new(
            DEPLOYMENT,
            [(Role::Injector, key()), (Role::Gateway, key())],
        );
        assert!(trust.key_of(Role::Injector, None).is_none());
        assert!(trust.key_of(Role::Injector, Some(HOST)).is_none());
        assert!(trust.key_of(Role::Gateway, None).is_some());
    }
}
