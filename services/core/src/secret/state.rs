//! The secret's state, its decisions one by one, and the fold of its events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Event, Place, Remote, Spec, Store};
use crate::id::{DeliveryId, HostId, RotationId, SecretId};
use crate::name::{BindingName, SecretName};
use crate::store::RemoteVersion;
use crate::time::Timestamp;

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
    /// A purpose is given before the first value.
    #[error(
        "`credentialFor` of secret `{secret}` does not change any more: it has had a value, which was given for something else; declare another secret for it"
    )]
    PurposeFixed {
        /// Name of the secret.
        secret: SecretName,
    },
    /// Two of a group would rotate at the same time.
    #[error(
        "secret `{secret}` has the same offset in group `{group}` as secret `{other}`: both would rotate at once; give one of them another `phase.offset`"
    )]
    PhaseTaken {
        /// Name of the secret.
        secret: SecretName,
        /// The group.
        group: String,
        /// The one that has the offset.
        other: SecretName,
    },
    /// What its versions open is not known to another resource.
    #[error(
        "`rotator` of secret `{secret}` does not change its server, accounts or strategy any more: its versions open accounts there; declare another secret for the others"
    )]
    ResourceFixed {
        /// Name of the secret.
        secret: SecretName,
    },
    /// Two would set the password of one account in turn.
    #[error(
        "secret `{secret}` cannot have account `{account}` of {resource}: it is that of secret `{other}`, and an account belongs to one secret; bind `{other}` instead, or name another account"
    )]
    AccountTaken {
        /// Name of the secret.
        secret: SecretName,
        /// Whose it is.
        other: SecretName,
        /// The account.
        account: String,
        /// Where.
        resource: String,
    },
    /// The admin's password would be shown to a server for which it was not given.
    #[error(
        "`adminSecret` of secret `{secret}` names `{admin}`, which is no credential for {server}; apply it first (`kind: Secret` with `credentialFor: {server}`), then give its value with `keywheel secret put {admin} --value-file FILE`"
    )]
    AdminNotMeant {
        /// Name of the secret.
        secret: SecretName,
        /// The secret it names.
        admin: SecretName,
        /// The server.
        server: String,
    },
    /// A store's credential is made at the store.
    #[error(
        "secret `{secret}` is a credential for `{server}`, which makes its values; give one with `keywheel secret put {secret} --value-file FILE`"
    )]
    CredentialNotMade {
        /// Name of the secret.
        secret: SecretName,
        /// The server.
        server: String,
    },
    /// A store's credential is for Keywheel alone.
    #[error(
        "secret `{secret}` is a credential with which Keywheel asks `{server}`; no container gets it: bind another secret"
    )]
    CredentialNotBound {
        /// Name of the secret.
        secret: SecretName,
        /// The server.
        server: String,
    },
    /// Each container has a login of its own.
    #[error(
        "secret `{secret}` has no value of its own: each container gets a lease; `keywheel consumers --secret {secret}` shows them, `keywheel revoke {secret}` ends all of them"
    )]
    OnlyLeases {
        /// Name of the secret.
        secret: SecretName,
    },
    /// The store makes what a lease opens.
    #[error(
        "secret `{secret}` is the lease of one container, and its store makes its values; `keywheel rotate {secret}` gets another one"
    )]
    LeaseNotProvided {
        /// Name of the secret.
        secret: SecretName,
    },
    /// A secret with leases is one from the beginning, and stays one.
    #[error(
        "secret `{secret}` does not change whether it gives out leases (`rotator: {{ type: dynamic }}`); declare another secret"
    )]
    LeaseFixed {
        /// Name of the secret.
        secret: SecretName,
    },
    /// The container is added to the name.
    #[error(
        "the name of secret `{secret}` is too long for one that gives out leases: at most {} bytes; declare it under another one",
        crate::lease::MAX_NAME_BYTES
    )]
    LeaseNameTooLong {
        /// Name of the secret.
        secret: SecretName,
    },
    /// A file of several secrets would mix those of a host with that of a container.
    #[error(
        "secret `{secret}` gives each container a lease, and stands alone in a binding; leave the other secrets out of its templates"
    )]
    LeaseNotAlone {
        /// Name of the secret.
        secret: SecretName,
    },
    /// Names of leases are given by Keywheel alone.
    #[error(
        "the name `{secret}` is that of a container's lease, which Keywheel makes itself; declare the secret under another name"
    )]
    LeaseName {
        /// The name.
        secret: SecretName,
    },
    /// What a container's login opens lies where it was made.
    #[error(
        "secret `{secret}` does not change its store or role, nor its store its server, while containers have leases of it; end them with `keywheel revoke {secret} --reason \"…\"`, then apply that again"
    )]
    LeasesLive {
        /// Name of the secret.
        secret: SecretName,
    },
    /// A host that is trusted with nothing gets no lease.
    #[error(
        "the host of the container of secret `{secret}` was evicted: it gets no lease any more"
    )]
    LeaseHostGone {
        /// Name of the secret.
        secret: SecretName,
    },
    /// A login has no version before it.
    #[error(
        "secret `{secret}` gives each container a lease, and the login before it ends; leave `version=\"previous\"` out of the template"
    )]
    PreviousOfLease {
        /// Name of the secret.
        secret: SecretName,
    },
    /// The container is there, or the time is not over.
    #[error("the lease of secret `{secret}` is not kept for a container that is gone")]
    NotLingering {
        /// Name of the secret.
        secret: SecretName,
    },
    /// A version must be revoked before its data key is destroyed.
    #[error("version {version} of secret `{secret}` is not revoked; revoke it first")]
    VersionAlive {
        /// Name of the secret.
        secret: SecretName,
        /// The version asked for.
        version: u64,
    },
    /// A template names a version that is dead soon.
    #[error(
        "secret `{secret}` keeps no version before its current one, which a template names by `version=\"previous\"`; apply the secret with `rotation: {{ previous: keep }}` first"
    )]
    PreviousNotKept {
        /// Name of the secret.
        secret: SecretName,
    },
    /// A resource takes a certain number of credentials, and the one before has to die there.
    #[error(
        "secret `{secret}` cannot have `previous: keep`: its versions open accounts of {resource}, where the one before is refused at the end of each rotation; leave it out"
    )]
    PreviousAtResource {
        /// Name of the secret.
        secret: SecretName,
        /// Where.
        resource: String,
    },
    /// Nobody can be asked for sessions, and whoever waits for them has an old value that opens nothing.
    #[error(
        "secret `{secret}` cannot have `ack: drained`: {resource} refuses the value before at once, and tells nobody of sessions; leave `ack` out, or write `ack: reloaded`"
    )]
    DrainedUntold {
        /// Name of the secret.
        secret: SecretName,
        /// Where.
        resource: String,
    },
    /// The next rotation would take away what a template names.
    #[error(
        "secret `{secret}` has to keep the version before its current one: templates of binding `{binding}` name it by `version=\"previous\"`; apply that binding without it first, or in the same apply"
    )]
    PreviousNamed {
        /// Name of the secret.
        secret: SecretName,
        /// The binding.
        binding: BindingName,
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
    /// The version we know at the store outside: only that one may be replaced there.
    pub known: Option<RemoteVersion>,
    /// Versions outside that hold ours, oldest first.
    pub remotes: Vec<Remote>,
    /// Versions outside that hold one that was revoked in an incident, oldest first: they are never
    /// taken over again.
    pub revoked_remotes: VecDeque<RemoteVersion>,
    /// Whether a version ever was current.
    pub was_promoted: bool,
    /// Until when the lease of a container that does not run is kept.
    pub lingers_until: Option<Timestamp>,
    /// A version before the current one, when it is kept for templates: the rotation that replaced it
    /// leaves it alive, the next one retires it, unless that one is turned back.
    pub retained: Option<u64>,
    /// Versions alive that a host may have which was evicted: none of them is kept beside another.
    pub lost: BTreeSet<u64>,
    /// What was kept beside the version before the current one, for the way back to it.
    pub retained_before: Option<u64>,
    /// Whether its store makes no values, as AWS does not: folded by the world, which knows the store.
    pub is_only_kept: bool,
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
            known: None,
            remotes: Vec::new(),
            revoked_remotes: VecDeque::new(),
            was_promoted: false,
            lingers_until: None,
            retained: None,
            lost: BTreeSet::new(),
            retained_before: None,
            is_only_kept: false,
        }
    }

    /// Where outside its values lie, if they do.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match &self.spec.store {
            Store::Local => None,
            Store::Outside(place) => Some(place),
        }
    }

    /// Refuses another purpose than the one it got its values for.
    ///
    /// # Errors
    /// When it has had a value.
    pub fn refuse_purpose(&self, spec: &Spec) -> Result<(), Rejection> {
        if self.last_version == 0 || self.spec.credential_for == spec.credential_for {
            return Ok(());
        }
        let secret = self.name.clone();
        Err(Rejection::PurposeFixed { secret })
    }

    /// Refuses other accounts than those that its versions open. A value that opened none so far may be
    /// the password of one account.
    ///
    /// # Errors
    /// When it has had a value.
    pub fn refuse_resource(&self, spec: &Spec) -> Result<(), Rejection> {
        let is_same = match (&self.spec.rotator, &spec.rotator) {
            (None, None) => true,
            (Some(ours), Some(wished)) => ours.has_same_accounts(wished),
            (None, Some(wished)) => wished.accounts.len() == 1,
            (Some(_), None) => false,
        };
        if self.last_version == 0 || is_same {
            return Ok(());
        }
        let secret = self.name.clone();
        Err(Rejection::ResourceFixed { secret })
    }

    /// Versions whose data key may still be there, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = u64> {
        (1..=self.last_version).filter(|version| !self.destroyed.contains(version))
    }

    /// Refuses to make a value for a credential.
    ///
    /// # Errors
    /// When it is one.
    pub fn refuse_making(&self) -> Result<(), Rejection> {
        let Some(server) = self.spec.credential_for.clone() else {
            return Ok(());
        };
        let secret = self.name.clone();
        Err(Rejection::CredentialNotMade { secret, server })
    }

    /// Refuses to give a credential to containers.
    ///
    /// # Errors
    /// When it is one.
    pub fn refuse_binding(&self) -> Result<(), Rejection> {
        let Some(server) = self.spec.credential_for.clone() else {
            return Ok(());
        };
        let secret = self.name.clone();
        Err(Rejection::CredentialNotBound { secret, server })
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

    /// Makes a version current again.
    ///
    /// # Errors
    /// When the version is unknown or dead.
    pub fn decide_return(&self, version: u64) -> Result<Event, Rejection> {
        self.alive_or_reject(version)?;
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
            Event::SpecChanged { spec } => {
                if self.spec.store != spec.store {
                    self.forget_place();
                }
                self.spec = spec.clone();
            }
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
                self.retain(*version);
                self.previous = self.current.filter(|v| self.is_deliverable(*v));
                self.current = Some(*version);
                self.was_promoted = true;
                self.pending = self.pending.filter(|v| v != version);
                self.know_lease_of(*version);
            }
            Event::VersionRevoked { version } => self.bury(*version),
            Event::VersionDestroyed { version } => {
                self.destroyed.insert(*version);
                // Somebody else's are not ours to retire.
                let kept = |remote: &Remote| remote.written || remote.version != *version;
                self.remotes.retain(kept);
            }
            Event::ExternalChangeDetected { .. } => {}
            Event::RemoteVersionNoted {
                version,
                remote,
                written,
            } => self.note_remote(*version, remote, *written),
            Event::RemoteVersionRetired { remote } => {
                self.remotes.retain(|kept| kept.remote != *remote);
            }
            Event::LeaseLingering { until } => self.lingers_until = Some(*until),
            Event::LeaseResumed | Event::LeaseEnded => self.lingers_until = None,
        }
    }

    /// Takes every grant of a host that was evicted, and says which versions it had.
    pub(crate) fn void_grants(&mut self, evicted: HostId) -> BTreeSet<u64> {
        let granted = self.delivered.keys().filter(|(host, _)| *host == evicted);
        let held: BTreeSet<u64> = granted.map(|(_, version)| *version).collect();
        self.lost.extend(&held);
        self.delivered.retain(|(host, _), _| *host != evicted);
        held
    }

    /// One above the last was given out in a time that this log does not know: it was put back to before it.
    fn bury(&mut self, version: u64) {
        self.last_version = self.last_version.max(version);
        self.dead.insert(version);
        self.lost.remove(&version);
        for stage in [
            &mut self.pending,
            &mut self.current,
            &mut self.previous,
            &mut self.retained,
            &mut self.retained_before,
        ] {
            *stage = stage.filter(|v| *v != version);
        }
        self.delivered.retain(|(_, v), _| *v != version);
        while self.dead.remove(&self.floor.saturating_add(1)) {
            self.floor = self.floor.saturating_add(1);
        }
    }
}
