//! Who one end of the bus is, and whose key speaks for whom.
//!
//! Invariants: one key per service role, one per host; an evicted or unknown host has none. What is
//! learned never goes back: an evicted host stays evicted, and an older key does not return, also when
//! somebody kept an old list and sends it again. All clones of a [`Trust`] are one: a host learned or
//! evicted counts at once for every receiver.

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
    hosts: RwLock<BTreeMap<HostId, Known>>,
}

#[derive(Debug)]
struct Known {
    generation: u64,
    /// None of an evicted host, or when the key is none.
    key: Option<VerifyingKey>,
    evicted: bool,
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

    /// From now on exactly these hosts are trusted, each with its key, whatever was learned before.
    /// For the gateway's own machine and for tests.
    pub fn set_hosts(&self, hosts: BTreeMap<HostId, VerifyingKey>) {
        let known = |key| Known {
            generation: 0,
            key: Some(key),
            evicted: false,
        };
        let hosts = hosts.into_iter().map(|(host, key)| (host, known(key)));
        *self.0.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts.collect();
    }

    /// Takes the gateway's list: newer keys replace older ones, evicted hosts have none from now on.
    /// Hosts that are not in it stay as they are.
    pub fn learn_hosts(&self, list: &[HostKeys]) {
        let mut hosts = self.0.hosts.write().unwrap_or_else(PoisonError::into_inner);
        for keys in list {
            let is_older = |known: &Known| known.evicted || known.generation > keys.generation;
            if !keys.evicted && hosts.get(&keys.host).is_some_and(is_older) {
                continue;
            }
            let key = VerifyingKey::from_bytes(keys.signing_key).ok();
            let known = Known {
                generation: keys.generation,
                key: key.filter(|_| !keys.evicted),
                evicted: keys.evicted,
            };
            hosts.insert(keys.host, known);
        }
    }

    /// The key that speaks for a sender.
    pub(crate) fn key_of(&self, role: Role, host: Option<HostId>) -> Option<VerifyingKey> {
        match (role, host) {
            (Role::Injector, Some(host)) => {
                let hosts = self.0.hosts.read().unwrap_or_else(PoisonError::into_inner);
                hosts.get(&host).and_then(|known| known.key.clone())
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
        let (first, second) = (key(), key());
        let keys = |key: &VerifyingKey, generation, evicted| HostKeys {
            host: HOST,
            signing_key: key.to_bytes(),
            generation,
            evicted,
        };
        let known = || other.key_of(Role::Injector, Some(HOST));
        trust.learn_hosts(&[keys(&first, 1, false)]);
        assert_eq!(known(), Some(first.clone()));
        assert!(other.key_of(Role::Injector, None).is_none());
        assert!(other.key_of(Role::Gateway, Some(HOST)).is_none());
        trust.learn_hosts(&[keys(&second, 2, false)]);
        trust.learn_hosts(&[keys(&first, 1, false)]);
        assert_eq!(known(), Some(second.clone()), "an old list changes nothing");
        trust.learn_hosts(&[]);
        assert_eq!(known(), Some(second.clone()), "a short list neither");
        trust.learn_hosts(&[keys(&first, 1, true)]);
        assert_eq!(known(), None);
        trust.learn_hosts(&[keys(&second, 3, false)]);
        assert_eq!(known(), None, "evicted for good");
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
