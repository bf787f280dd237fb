//! The revocation: one run that makes versions unusable everywhere, until the store confirms.
//!
//! Withdrawing from hosts and revoking at the store run beside each other; neither waits for the
//! other's stragglers. It closes when both are done, never before the store confirmed (rule X3).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::effect::{Effect, RevokeWork, Work};
use crate::id::{HostId, RevocationId, SecretId};
use crate::name::SecretName;
use crate::store::RemoteVersion;
use crate::world::World;

/// What happened to a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The versions are dead from now on.
    Requested {
        /// The secret.
        secret: SecretId,
        /// The versions.
        versions: Vec<u64>,
        /// Hosts that may hold one of them.
        hosts: Vec<HostId>,
        /// Why, in a person's words.
        reason: String,
    },
    /// A host shows that it holds none of them.
    WithdrawnOnHost {
        /// The host.
        host: HostId,
    },
    /// A host was evicted: nothing waits for it any more, though it may hold one of them.
    HostReleased {
        /// The host.
        host: HostId,
    },
    /// The store made them unusable and destroyed their data keys.
    BackendConfirmed,
    /// The store could not yet; it is tried again for ever.
    BackendFailed {
        /// Which attempt.
        attempt: u32,
        /// Why, without a value.
        reason: String,
    },
    /// The store is asked again.
    BackendRetried {
        /// Which attempt.
        attempt: u32,
    },
    /// Withdrawn everywhere and confirmed.
    Closed,
}

/// A normal "no" about a revocation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No version is alive.
    #[error("secret `{secret}` has no version that is alive; there is nothing to revoke")]
    NothingAlive {
        /// Name of the secret.
        secret: SecretName,
    },
    /// An incident needs a reason on the record.
    #[error("a revocation needs a reason; give one with --reason \"…\"")]
    ReasonMissing,
    /// An outcome nobody waits for.
    #[error("revocation {revocation} does not wait for attempt {attempt}")]
    AttemptNotOpen {
        /// The revocation.
        revocation: RevocationId,
        /// The attempt.
        attempt: u32,
    },
    /// No such revocation, or ended long ago.
    #[error("no revocation {0}; `keywheel get revocations` lists them")]
    Unknown(RevocationId),
}

/// Where the store's half stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A worker was asked.
    Asked {
        /// First is 1.
        attempt: u32,
    },
    /// It failed and is asked again later.
    Failed {
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// Unusable at the store, data keys destroyed.
    Confirmed,
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its id.
    pub id: RevocationId,
    /// The secret.
    pub secret: SecretId,
    /// The versions.
    pub versions: Vec<u64>,
    /// Hosts that may still hold one.
    pub waiting: BTreeSet<HostId>,
    /// The store's half.
    pub backend: Backend,
    /// Why, in a person's words.
    pub reason: String,
    /// Whether it ended.
    pub closed: bool,
    /// Plan generation from which a host's report counts.
    pub generation: u64,
    /// Versions at the store outside that it makes unusable; the world says them when it is requested.
    pub retire: Vec<RemoteVersion>,
}

impl Revocation {
    /// A revocation nobody requested yet.
    #[must_use]
    pub fn new(id: RevocationId) -> Self {
        Self {
            id,
            secret: SecretId::default(),
            versions: Vec::new(),
            waiting: BTreeSet::new(),
            backend: Backend::Asked { attempt: 1 },
            reason: String::new(),
            closed: false,
            generation: 0,
            retire: Vec::new(),
        }
    }

    /// Takes the store's answer.
    ///
    /// # Errors
    /// When that attempt is not open.
    pub fn decide_outcome(&self, attempt: u32, failure: Option<&str>) -> Result<Event, Rejection> {
        if self.closed || self.backend != (Backend::Asked { attempt }) {
            return Err(Rejection::AttemptNotOpen {
                revocation: self.id,
                attempt,
            });
        }
        Ok(match failure {
            None => Event::BackendConfirmed,
            Some(reason) => Event::BackendFailed {
                attempt,
                reason: reason.to_owned(),
            },
        })
    }

    /// Asks the store again.
    ///
    /// # Errors
    /// When no failed attempt waits.
    pub fn decide_retry(&self) -> Result<Event, Rejection> {
        match self.backend {
            Backend::Failed { attempt, .. } if !self.closed => Ok(Event::BackendRetried {
                attempt: attempt.saturating_add(1),
            }),
            _ => Err(Rejection::AttemptNotOpen {
                revocation: self.id,
                attempt: 0,
            }),
        }
    }

    /// Whether both halves are done and it can close.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.closed && self.waiting.is_empty() && self.backend == Backend::Confirmed
    }

    /// Folds one event; total.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Requested {
                secret,
                versions,
                hosts,
                reason,
            } => {
                self.secret = *secret;
                self.versions.clone_from(versions);
                self.waiting = hosts.iter().copied().collect();
                self.reason.clone_from(reason);
                self.backend = Backend::Asked { attempt: 1 };
            }
            Event::WithdrawnOnHost { host } | Event::HostReleased { host } => {
                self.waiting.remove(host);
            }
            Event::BackendConfirmed => self.backend = Backend::Confirmed,
            Event::BackendFailed { attempt, reason } => {
                self.backend = Backend::Failed {
                    attempt: *attempt,
                    reason: reason.clone(),
                };
            }
            Event::BackendRetried { attempt } => {
                self.backend = Backend::Asked { attempt: *attempt }
            }
            Event::Closed => self.closed = true,
        }
    }
}

/// Derives the effects of one event, given the state after it.
#[must_use]
pub fn react(world: &World, revocation: &Revocation, event: &Event) -> Vec<Effect> {
    let attempt = match event {
        Event::Requested { .. } => 1,
        Event::BackendRetried { attempt } => *attempt,
        _ => return Vec::new(),
    };
    let secret = world.secrets.get(&revocation.secret);
    let outside = secret.and_then(|secret| world.outside(secret));
    let outside = outside.map(|mut outside| {
        outside.retire.clone_from(&revocation.retire);
        Box::new(outside)
    });
    // An account that was only about to be taken over is none of ours to lock.
    let may_be_set = |version: &u64| world.may_be_set(revocation.secret, *version);
    let opening = secret.filter(|_| revocation.versions.iter().any(may_be_set));
    let resource = opening.and_then(|secret| world.at_resource(secret, &revocation.versions));
    let resource = resource.map(Box::new);
    vec![Effect {
        work: Work::Revoke(RevokeWork {
            revocation: revocation.id,
            secret: revocation.secret,
            versions: revocation.versions.clone(),
            attempt,
            outside,
            resource,
        }),
    }]
}
