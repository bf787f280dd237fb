//! The secret's state, its decisions one by one, and the fold of its events.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Spec};
use crate::id::{DeliveryId, HostId, RotationId, SecretId};
use crate::name::SecretName;

/// A normal "no" about a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The version number was never given out.
    #[error(
        "secret `{secret}` has no version {version}; `keywheel secret versions {secret}` lists them"
    )]
    VersionUnknown {
        /// Name of the secret.
        secret: SecretName,
        /// The version asked for.
        version: u64,
    },
    /// The version is dead and stays dead.
    #[error(
        "version {version} of secret `{secret}` is revoked and never comes back; rotate to get a new one"
    )]
    VersionDead {
        /// Name of the secret.
        secret: SecretName,
        /// The version asked for.
        version: u64,
    },
    /// Only `pending` can be promoted.
    #[error("version {version} of secret `{secret}` is not pending")]
    VersionNotPending {
        /// Name of the secret.
        secret: SecretName,
        /// The version asked for.
        version: u64,
    },
    /// Another version is being made.
    #[error("secret `{secret}` already has a pending version {version}")]
    PendingExists {
        /// Name of the secret.
        secret: SecretName,
        /// The pending version.
        version: u64,
    },
    /// A version must be revoked before its data key is destroyed.
    #[error("version {version} of secret `{secret}` is not revoked; revoke it first")]
    VersionAlive {
        /// Name of the secret.
        secret: SecretName,
        /// The version asked for.
        version: u64,
    },
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its id.
    pub id: SecretId,
    /// Its name.
    pub name: SecretName,
    /// What a person asked for.
    pub spec: Spec,
    /// Highest number ever given out.
    pub last_version: u64,
    /// Version being made.
    pub pending: Option<u64>,
    /// Version a starting container gets.
    pub current: Option<u64>,
    /// Version that was current before.
    pub previous: Option<u64>,
    /// Every version up to here is dead.
    pub floor: u64,
    /// Dead versions above the floor.
    pub dead: BTreeSet<u64>,
    /// Versions whose data key is gone.
    pub destroyed: BTreeSet<u64>,
    /// Which host may hold which version, and under which grant.
    pub delivered: BTreeMap<(HostId, u64), DeliveryId>,
}

impl Secret {
    /// The state after `Registered`.
    #[must_use]
    pub fn registered(id: SecretId, name: SecretName, spec: Spec) -> Self {
        Self {
            id,
            name,
            spec,
            last_version: 0,
            pending: None,
            current: None,
            previous: None,
            floor: 0,
            dead: BTreeSet::new(),
            destroyed: BTreeSet::new(),
            delivered: BTreeMap::new(),
        }
    }

    /// Whether a host may be given this version (rule X4).
    #[must_use]
    pub fn is_deliverable(&self, version: u64) -> bool {
        version > self.floor && version <= self.last_version && !self.dead.contains(&version)
    }

    /// Versions that are alive, oldest first.
    #[must_use]
    pub fn alive(&self) -> Vec<u64> {
        (self.floor + 1..=self.last_version)
            .filter(|v| self.is_deliverable(*v))
            .collect()
    }

    fn known(&self, version: u64) -> Result<(), Rejection> {
        if version == 0 || version > self.last_version {
            return Err(Rejection::VersionUnknown {
                secret: self.name.clone(),
                version,
            });
        }
        Ok(())
    }

    fn alive_or_reject(&self, version: u64) -> Result<(), Rejection> {
        self.known(version)?;
        if self.is_deliverable(version) {
            return Ok(());
        }
        Err(Rejection::VersionDead {
            secret: self.name.clone(),
            version,
        })
    }

    /// Takes the next version number for a rotation.
    ///
    /// # Errors
    /// When a pending version exists.
    pub fn decide_stage(&self, rotation: RotationId) -> Result<Event, Rejection> {
        match self.pending {
            Some(version) => Err(Rejection::PendingExists {
                secret: self.name.clone(),
                version,
            }),
            None => Ok(Event::VersionStaged {
                version: self.last_version.saturating_add(1),
                rotation,
            }),
        }
    }

    /// Promotes the pending version.
    ///
    /// # Errors
    /// When the version is unknown, dead or not pending.
    pub fn decide_promote(&self, version: u64) -> Result<Event, Rejection> {
        self.alive_or_reject(version)?;
        if self.pending != Some(version) {
            return Err(Rejection::VersionNotPending {
                secret: self.name.clone(),
                version,
            });
        }
        Ok(Event::VersionPromoted { version })
    }

    /// Grants a version to a host; a grant that exists is kept and gives no event.
    ///
    /// # Errors
    /// When the version is unknown or dead.
    pub fn decide_deliver(
        &self,
        host: HostId,
        version: u64,
        delivery: DeliveryId,
    ) -> Result<Option<Event>, Rejection> {
        self.alive_or_reject(version)?;
        if self.delivered.contains_key(&(host, version)) {
            return Ok(None);
        }
        Ok(Some(Event::Delivered {
            host,
            version,
            delivery,
        }))
    }

    /// Puts a version into the dead set.
    ///
    /// # Errors
    /// When the version is unknown or dead already.
    pub fn decide_revoke(&self, version: u64) -> Result<Event, Rejection> {
        self.alive_or_reject(version)?;
        Ok(Event::VersionRevoked { version })
    }

    /// Notes that a version's data key is gone; a repeat gives no event.
    ///
    /// # Errors
    /// When the version is unknown or alive.
    pub fn decide_destroy(&self, version: u64) -> Result<Option<Event>, Rejection> {
        self.known(version)?;
        if self.is_deliverable(version) {
            return Err(Rejection::VersionAlive {
                secret: self.name.clone(),
                version,
            });
        }
        if self.destroyed.contains(&version) {
            return Ok(None);
        }
        Ok(Some(Event::VersionDestroyed { version }))
    }

    /// Folds one event; total.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Registered { name, spec } => {
                self.name = name.clone();
                self.spec = spec.clone();
            }
            Event::SpecChanged { spec } => self.spec = spec.clone(),
            Event::VersionStaged { version, .. } => {
                self.pending = Some(*version);
                self.last_version = self.last_version.max(*version);
            }
            Event::Delivered {
                host,
                version,
                delivery,
            } => {
                self.delivered.insert((*host, *version), *delivery);
            }
            Event::VersionPromoted { version } => {
                self.previous = self.current.filter(|v| self.is_deliverable(*v));
                self.current = Some(*version);
                self.pending = self.pending.filter(|v| v != version);
            }
            Event::VersionRevoked { version } => self.bury(*version),
            Event::VersionDestroyed { version } => {
                self.destroyed.insert(*version);
            }
        }
    }

    /// Takes every grant of a host that was evicted, and says which versions it had.
    pub(crate) fn void_grants(&mut self, evicted: HostId) -> BTreeSet<u64> {
        let granted = self.delivered.keys().filter(|(host, _)| *host == evicted);
        let held = granted.map(|(_, version)| *version).collect();
        self.delivered.retain(|(host, _), _| *host != evicted);
        held
    }

    fn bury(&mut self, version: u64) {
        self.dead.insert(version);
        for stage in [&mut self.pending, &mut self.current, &mut self.previous] {
            *stage = stage.filter(|v| *v != version);
        }
        self.delivered.retain(|(_, v), _| *v != version);
        while self.dead.remove(&self.floor.saturating_add(1)) {
            self.floor = self.floor.saturating_add(1);
        }
    }
}
