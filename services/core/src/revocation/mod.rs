//! The revocation: one run that makes versions unusable everywhere, until the store confirms.
//!
//! Its states do not wait for each other: withdrawn from every host, dead at the store, proven dead by a
//! login that is refused, data keys destroyed. Invariants: the data keys go after the proof, or after the
//! store's confirmation where nothing can be probed, and never wait for a host; the store's half is tried
//! for ever until the store confirmed (rule X3), or two principals put on record that it is given up; it
//! closes when every half is done. One that waits for a replacement has not begun: its versions live.

mod proof;
mod rejection;
mod replacement;
#[cfg(test)]
mod tests;

pub use proof::{Answer, Evidence, NOTHING_TO_ASK, Proof};
pub use rejection::Rejection;
pub use replacement::Replacement;

use std::collections::BTreeSet;
use std::time::Duration;

use self::proof::Judged;
use crate::audit::Principal;
use crate::effect::{AtResource, Effect, Outside, Part, RevokeWork, Work};
use crate::id::{HostId, RevocationId, RotationId, SecretId};
use crate::store::RemoteVersion;
use crate::time::Timestamp;
use crate::world::World;

/// How long the first word of two counts, that a revocation's store is asked no more.
pub const FORGET_LIFETIME: Duration = Duration::from_secs(24 * 3600);

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
        /// Whether a login with each of them has to be refused before its data key goes.
        is_to_prove: bool,
        /// Whether a person said that it is an emergency: it goes before other revocations, too.
        is_emergency: bool,
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
    /// The store made them unusable: they are dead at the backend. Their data keys went with that, unless
    /// the proof needs them.
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
    /// The last host that was waited for holds none of them.
    WithdrawnEverywhere,
    /// A login with each of them was refused.
    ProvenDead {
        /// The logins.
        evidence: Vec<Evidence>,
    },
    /// No login can show that all of them are dead.
    NotProvable {
        /// The logins that could be made.
        evidence: Vec<Evidence>,
        /// Why not with the others.
        reason: String,
    },
    /// A login with one of them was let in: it is not dead, and the store is asked once more.
    StillAccepted {
        /// Which attempt found it.
        attempt: u32,
        /// The logins.
        evidence: Vec<Evidence>,
    },
    /// Their data keys are gone.
    Destroyed,
    /// The first of two principals would have the store asked no more.
    ForgetAsked {
        /// Who.
        by: Principal,
        /// Why, in a person's words.
        reason: String,
        /// When; absent from builds before, whose first words do not expire.
        at: Option<Timestamp>,
    },
    /// The second one agrees: the store is asked no more, though it never confirmed.
    Forgotten {
        /// Who.
        by: Principal,
        /// Why, in a person's words.
        reason: String,
    },
    /// The versions die once another one is in use instead of them.
    ReplacementAwaited {
        /// The secret.
        secret: SecretId,
        /// The versions.
        versions: Vec<u64>,
        /// Why, in a person's words.
        reason: String,
        /// The rotation that is to bring the other one.
        rotation: RotationId,
        /// Whether they die as soon as that is promoted, and without one where it is not.
        is_emergency: bool,
    },
    /// Nothing takes their place, or nothing of them was left to revoke.
    ReplacementGivenUp {
        /// Why.
        reason: String,
    },
}

/// Most characters of a reason for which something is revoked, or a revocation forgotten.
pub const MAX_REASON_CHARS: usize = 1000;

/// Where the open part of the store's half stands.
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
    /// Every part of it is done.
    Confirmed,
    /// Nobody asked it yet: the versions live until something takes their place.
    NotAsked,
}

/// What is known of whether a login with what was revoked is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// Nobody looks: no login is known that could be refused.
    NotAsked,
    /// It is looked once the store confirmed, and again until it is known.
    Awaited,
    /// A login with each was refused.
    Dead(Vec<Evidence>),
    /// It cannot be known of all of them, for this reason.
    Unknown(Vec<Evidence>, String),
    /// One was let in; the store is asked once more.
    Alive(Vec<Evidence>),
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
    /// The open part of the store's half.
    pub backend: Backend,
    /// Why, in a person's words.
    pub reason: String,
    /// Whether it ended.
    pub closed: bool,
    /// Plan generation from which a host's report counts.
    pub generation: u64,
    /// Versions at the store outside that it makes unusable; the world says them when it is requested.
    pub retire: Vec<RemoteVersion>,
    /// Which part of the store's half is open, or was the last.
    pub part: Part,
    /// Whether the store made them unusable.
    pub is_dead_at_backend: bool,
    /// Whether a login with each was refused.
    pub proven: Proven,
    /// Whether their data keys are gone.
    pub is_destroyed: bool,
    /// Who would have the store asked no more, and why; the second one settles it. What the store does or a login
    /// shows meanwhile makes the first one void.
    pub forget: Vec<(Principal, String)>,
    /// Until when the first one counts.
    pub forget_until: Option<Timestamp>,
    /// Whether a store outside goes on to give one of them out, since it cannot be without a current version; the world
    /// says so when it is requested.
    pub stays_at_store: bool,
    /// What that is called there, until a rotation put another one in its place and ended it; the world says so.
    pub left_at_store: Option<RemoteVersion>,
    /// The rotation that it cancelled, if that may have left a half-made value outside; the world says so when it is
    /// requested.
    pub unstage: Option<RotationId>,
    /// What it waits for, or waited for, before its versions die.
    pub replacement: Option<Replacement>,
    /// Why nothing takes their place.
    pub given_up: Option<String>,
    /// Whether it goes before other revocations, too.
    pub is_emergency: bool,
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
            part: Part::Whole,
            is_dead_at_backend: false,
            proven: Proven::NotAsked,
            is_destroyed: false,
            forget: Vec::new(),
            forget_until: None,
            stays_at_store: false,
            left_at_store: None,
            unstage: None,
            replacement: None,
            given_up: None,
            is_emergency: false,
        }
    }

    fn open_or_reject(&self, attempt: u32) -> Result<(), Rejection> {
        if self.closed || self.backend != (Backend::Asked { attempt }) {
            return Err(Rejection::AttemptNotOpen {
                revocation: self.id,
                attempt,
            });
        }
        Ok(())
    }

    /// Takes the store's answer. Whoever was asked for the proof and only says that it is done, proved nothing, and is
    /// asked again.
    ///
    /// # Errors
    /// When that attempt is not open.
    pub fn decide_outcome(&self, attempt: u32, failure: Option<&str>) -> Result<Event, Rejection> {
        self.open_or_reject(attempt)?;
        Ok(match (failure, self.part) {
            (Some(reason), _) => Event::BackendFailed {
                attempt,
                reason: reason.to_owned(),
            },
            (None, Part::Whole | Part::Disable) => Event::BackendConfirmed,
            (None, Part::Prove) => Event::BackendFailed {
                attempt,
                reason: NOT_PROVEN.to_owned(),
            },
            (None, Part::Destroy) => Event::Destroyed,
        })
    }

    /// Takes what came of the logins with these versions: of the others no server ever heard.
    ///
    /// # Errors
    /// When that attempt is not open, or was not to make any.
    pub fn decide_proof(
        &self,
        attempt: u32,
        proof: &Proof,
        versions: &[u64],
    ) -> Result<Event, Rejection> {
        self.open_or_reject(attempt)?;
        if self.part != Part::Prove {
            return Err(Rejection::AttemptNotOpen {
                revocation: self.id,
                attempt,
            });
        }
        Ok(match proof.judge(versions) {
            Judged::Dead(evidence) => Event::ProvenDead { evidence },
            Judged::Alive(evidence) => Event::StillAccepted { attempt, evidence },
            Judged::Unknown(evidence, reason) => Event::NotProvable { evidence, reason },
        })
    }

    /// A principal would have the store asked no more: the first one asks, another one settles it.
    ///
    /// # Errors
    /// When there is nothing to give up, the reason is none, or it is the same principal again.
    pub fn decide_forget(
        &self,
        by: &Principal,
        reason: &str,
        now: Timestamp,
    ) -> Result<Event, Rejection> {
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(Rejection::ReasonMissing);
        }
        if reason.chars().count() > MAX_REASON_CHARS {
            return Err(Rejection::ReasonTooLong);
        }
        if !by.is_person() {
            return Err(Rejection::NoPerson);
        }
        let is_asked = self.is_begun() && self.backend != Backend::Confirmed;
        if self.closed || !is_asked || self.part == Part::Destroy {
            return Err(Rejection::NothingToForget(self.id));
        }
        let (by, reason) = (by.clone(), reason.to_owned());
        let is_over = self.forget_until.is_some_and(|until| now >= until);
        match self.forget.first().filter(|_| !is_over) {
            None => Ok(Event::ForgetAsked {
                by,
                reason,
                at: Some(now),
            }),
            Some((first, _)) if is_same(first, &by) => Err(Rejection::SecondPrincipal(self.id)),
            Some(_) => Ok(Event::Forgotten { by, reason }),
        }
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

    /// Whether the last host that was waited for is gone with this event.
    #[must_use]
    pub fn is_withdrawn_by(&self, event: &Event) -> bool {
        let mut after = self.clone();
        after.evolve(event);
        !self.waiting.is_empty() && after.waiting.is_empty()
    }

    /// Whether two principals gave the store's half up.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.forget.len() > 1
    }

    /// The next part is asked for, under a number that no attempt had.
    fn begin(&mut self, part: Part) {
        let last = match &self.backend {
            Backend::Asked { attempt } | Backend::Failed { attempt, .. } => *attempt,
            Backend::Confirmed | Backend::NotAsked => 0,
        };
        self.part = part;
        self.backend = Backend::Asked {
            attempt: last.saturating_add(1),
        };
    }

    /// Folds one event; total.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Requested {
                secret,
                versions,
                hosts,
                reason,
                is_to_prove,
                is_emergency,
            } => {
                self.secret = *secret;
                self.versions.clone_from(versions);
                self.waiting = hosts.iter().copied().collect();
                self.reason.clone_from(reason);
                self.is_emergency = *is_emergency;
                self.backend = Backend::Asked { attempt: 1 };
                (self.part, self.proven) = match is_to_prove {
                    true => (Part::Disable, Proven::Awaited),
                    false => (Part::Whole, Proven::NotAsked),
                };
            }
            Event::WithdrawnOnHost { host } | Event::HostReleased { host } => {
                self.waiting.remove(host);
            }
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
            Event::WithdrawnEverywhere => {}
            Event::ForgetAsked { by, reason, at } => {
                self.forget = vec![(by.clone(), reason.clone())];
                self.forget_until = at.map(|at| at.plus(FORGET_LIFETIME));
            }
            Event::Forgotten { by, reason } => {
                self.forget.push((by.clone(), reason.clone()));
                self.begin(Part::Destroy);
            }
            Event::ReplacementAwaited { .. } | Event::ReplacementGivenUp { .. } => {
                self.evolve_replacement(event);
            }
            Event::BackendConfirmed
            | Event::ProvenDead { .. }
            | Event::NotProvable { .. }
            | Event::StillAccepted { .. }
            | Event::Destroyed => self.evolve_backend(event),
        }
    }

    /// A rotation ended at the store outside what was left there.
    pub fn note_ended_there(&mut self, remote: &RemoteVersion) {
        if self.left_at_store.as_ref() != Some(remote) {
            return;
        }
        self.left_at_store = None;
        if self.part == Part::Whole && self.backend == Backend::Confirmed {
            self.is_dead_at_backend = true;
        }
    }

    /// What goes on at the store, part after part.
    fn evolve_backend(&mut self, event: &Event) {
        // The first word was about how it stood then.
        if !self.is_forgotten() {
            self.forget.clear();
        }
        match event {
            Event::BackendConfirmed if self.part == Part::Disable => {
                self.is_dead_at_backend = true;
                self.begin(Part::Prove);
            }
            // Nothing else was said of the data keys before there were proofs.
            Event::BackendConfirmed => {
                self.is_dead_at_backend = self.left_at_store.is_none();
                self.is_destroyed = true;
                self.backend = Backend::Confirmed;
            }
            Event::ProvenDead { evidence } => {
                self.proven = Proven::Dead(evidence.clone());
                self.begin(Part::Destroy);
            }
            Event::NotProvable { evidence, reason } => {
                self.proven = Proven::Unknown(evidence.clone(), reason.clone());
                self.begin(Part::Destroy);
            }
            Event::StillAccepted { attempt, evidence } => {
                self.is_dead_at_backend = false;
                self.proven = Proven::Alive(evidence.clone());
                self.part = Part::Disable;
                self.backend = Backend::Failed {
                    attempt: *attempt,
                    reason: STILL_ACCEPTED.to_owned(),
                };
            }
            Event::Destroyed => {
                self.is_destroyed = true;
                self.backend = Backend::Confirmed;
            }
            _ => {}
        }
    }
}

/// Why a proof is asked for again.
const NOT_PROVEN: &str =
    "who was asked for the proof says that it is done, and not what the server answered";
/// Why the store is asked once more.
const STILL_ACCEPTED: &str =
    "a login with it was let in after the store had confirmed; it is made unusable once more";

/// Whether it is the same principal, whatever its name was then.
fn is_same(one: &Principal, other: &Principal) -> bool {
    match (one, other) {
        (Principal::User { uid, .. }, Principal::User { uid: other, .. }) => uid == other,
        _ => one == other,
    }
}

/// Derives the effects of one event, given the state after it.
#[must_use]
pub fn react(world: &World, revocation: &Revocation, event: &Event) -> Vec<Effect> {
    let (attempt, part) = match event {
        Event::Requested { is_to_prove, .. } if *is_to_prove => (1, Part::Disable),
        Event::Requested { .. } => (1, Part::Whole),
        Event::BackendRetried { attempt } => (*attempt, revocation.part),
        Event::BackendConfirmed
        | Event::ProvenDead { .. }
        | Event::NotProvable { .. }
        | Event::Forgotten { .. } => match revocation.backend {
            Backend::Asked { attempt } => (attempt, revocation.part),
            Backend::Failed { .. } | Backend::Confirmed | Backend::NotAsked => return Vec::new(),
        },
        Event::WithdrawnOnHost { .. }
        | Event::HostReleased { .. }
        | Event::BackendFailed { .. }
        | Event::Closed
        | Event::WithdrawnEverywhere
        | Event::StillAccepted { .. }
        | Event::Destroyed
        | Event::ReplacementAwaited { .. }
        | Event::ReplacementGivenUp { .. }
        | Event::ForgetAsked { .. } => return Vec::new(),
    };
    let (outside, resource) = match part {
        Part::Destroy => (None, None),
        Part::Whole | Part::Disable | Part::Prove => reach(world, revocation),
    };
    let versions = match part {
        Part::Prove => to_prove(world, revocation),
        Part::Whole | Part::Disable | Part::Destroy => revocation.versions.clone(),
    };
    vec![Effect {
        work: Work::Revoke(RevokeWork {
            revocation: revocation.id,
            secret: revocation.secret,
            versions,
            attempt,
            outside,
            resource,
            part,
            is_emergency: revocation.is_emergency,
        }),
    }]
}

/// The versions with which a login has to be refused: those that a server may have been told of, and every lease.
#[must_use]
pub fn to_prove(world: &World, revocation: &Revocation) -> Vec<u64> {
    let secret = world.secrets.get(&revocation.secret);
    let is_lease = secret.is_some_and(|secret| secret.lease_of().is_some());
    let may_be_set = |version: &u64| is_lease || world.may_be_set(revocation.secret, *version);
    let versions = revocation.versions.iter().copied();
    versions.filter(may_be_set).collect()
}

/// Where its versions die.
type Reach = (Option<Box<Outside>>, Option<Box<AtResource>>);

fn reach(world: &World, revocation: &Revocation) -> Reach {
    let secret = world.secrets.get(&revocation.secret);
    let outside = secret.and_then(|secret| world.outside(secret));
    let outside = outside.map(|mut outside| {
        outside.retire.clone_from(&revocation.retire);
        outside.unstage = revocation.unstage;
        Box::new(outside)
    });
    // An account that was only about to be taken over is none of ours to lock.
    let may_be_set = |version: &u64| world.may_be_set(revocation.secret, *version);
    let opening = secret.filter(|_| revocation.versions.iter().any(may_be_set));
    let resource = opening.and_then(|secret| world.at_resource(secret, &revocation.versions));
    (outside, resource.map(Box::new))
}
