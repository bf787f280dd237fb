//! The host: a machine with an injector, known by its keys, from its join token to its eviction.
//!
//! Invariants: a join token is spent before anything about it is checked (rule Z4); an evicted host
//! stays evicted, and the machine can only come back under a new id.

mod event;
mod order;
#[cfg(test)]
mod tests;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use event::Event;
pub use order::{
    Had, MAX_ORDERS, OrderKind, OrderOutcome, Origin, Quarantine, Restart, Standing, Subject,
};
pub use token::{JoinRequest, JoinToken, TokenHash, TokenRequest};

use crate::id::{ContainerId, HostId, RevocationId, SecretId};
use crate::name::{BusKey, HostName};
use crate::time::Timestamp;
use crate::world::World;

/// Public key to which values for a host are sealed (X25519).
pub type SealingKey = [u8; 32];
/// Public key with which a host signs what it says (Ed25519).
pub type SigningKey = [u8; 32];

/// How long a join token opens the door.
pub const JOIN_TOKEN_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// Most join tokens that are open at once, over all hosts.
pub const MAX_OPEN_JOIN_TOKENS: usize = 256;
/// Most permits for the bus that one host has at once.
pub const MAX_PERMITS: usize = 64;
/// How long a host may serve from its own cache without contact.
pub const LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// A normal "no" about a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nobody enrolled it.
    #[error("host {0} is not enrolled")]
    NotEnrolled(HostId),
    /// Another host has that name.
    #[error("a host named `{0}` is enrolled already under another id")]
    NameTaken(HostName),
    /// The id was another host's, or an evicted one's.
    #[error("host id {0} was given out before; ask again with a new one")]
    IdTaken(HostId),
    /// It was evicted, for good.
    #[error(
        "host `{name}` ({host}) was evicted and is refused everything; `keywheel host join-token {name}` lets the machine join again as a new host"
    )]
    Evicted {
        /// The host.
        host: HostId,
        /// The name it had.
        name: HostName,
    },
    /// Hosts join here, and this one did not.
    #[error(
        "host `{0}` has not joined this deployment; `keywheel host join-token {0}` gives a token for `keywheel-injector join`"
    )]
    NotJoined(HostName),
    /// Its keys are pinned; only the host itself replaces them.
    #[error("host `{0}` has joined with keys of its own; enrolling it again does not replace them")]
    KeysPinned(HostName),
    /// Too many tokens are open.
    #[error(
        "{MAX_OPEN_JOIN_TOKENS} join tokens are open already; use one, or wait until one expires (ten minutes at most)"
    )]
    TooManyTokens,
    /// No such token is open.
    #[error(
        "this join token is not known: it was used before, or never issued here; `keywheel host join-token NAME` gives a new one"
    )]
    TokenUnknown,
    /// It came too late.
    #[error(
        "the join token of host `{0}` has expired; `keywheel host join-token {0}` gives a new one"
    )]
    TokenExpired(HostName),
    /// It came with another secret than it was issued with.
    #[error(
        "this is not the join token that was issued for host `{0}`, which is used up now; `keywheel host join-token {0}` gives a new one"
    )]
    TokenForged(HostName),
    /// It was issued for another host.
    #[error(
        "the join token was issued for host `{bound}`, not for `{asked}`, and is used up now; `keywheel host join-token {asked}` gives one for that name"
    )]
    TokenOfAnother {
        /// The host it was issued for.
        bound: HostName,
        /// The host that came with it.
        asked: HostName,
    },
    /// New keys that do not follow the known ones.
    #[error("generation {asked} of the keys of host `{name}` does not follow generation {known}")]
    KeysOutOfTurn {
        /// The host.
        name: HostName,
        /// The generation asked for.
        asked: u64,
        /// The generation that is known.
        known: u64,
    },
    /// It asked for permits again and again.
    #[error(
        "host `{0}` has {MAX_PERMITS} permits for the bus already; its next one is made when one of them ends"
    )]
    TooManyPermits(HostName),
    /// What is refused with it would be refused to another one.
    #[error(
        "host `{0}` came with a key for the bus that another host has a permit for; each makes its own"
    )]
    PermitOfAnother(HostName),
    /// An eviction needs a reason on the record.
    #[error("an eviction needs a reason; give one with --reason \"…\"")]
    ReasonMissing,
    /// Its injector would refuse a whole plan with an order in it.
    #[error(
        "the injector of host `{0}` knows no orders about containers; bring it to the gateway's version"
    )]
    OrdersUnknown(HostName),
    /// Its plan names all of them.
    #[error(
        "host `{0}` has {MAX_ORDERS} open orders already; lift quarantines that are not needed any more: `keywheel playbook quarantines` lists them"
    )]
    TooManyOrders(HostName),
    /// What is cut off is not brought up.
    #[error(
        "container `{0}` is in quarantine; a person lifts that with `keywheel playbook lift {0} --reason \"…\"`"
    )]
    InQuarantine(String),
    /// Nothing to lift.
    #[error(
        "no container `{0}` is in quarantine; `keywheel playbook quarantines` lists those that are"
    )]
    NoQuarantine(String),
    /// Several containers have that name.
    #[error("{count} containers in quarantine are named `{name}`; give the id of one: {ids}")]
    WhichQuarantine {
        /// The name.
        name: String,
        /// How many.
        count: usize,
        /// Their ids, shortened.
        ids: String,
    },
    /// Lifting a quarantine needs a reason on the record.
    #[error("lifting a quarantine needs a reason; give one with --reason \"…\"")]
    LiftReasonMissing,
    /// Nobody would know that its program has ended.
    #[error(
        "container `{name}` has a version in a variable that revocation {revocation} made unusable, and its host did not say yet that it was stopped; wait for that, or stop it by hand: `docker stop {name}`"
    )]
    StillInMemory {
        /// The container's name.
        name: String,
        /// The revocation.
        revocation: RevocationId,
    },
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its name; free for another once it is evicted.
    pub name: HostName,
    /// Values for it are sealed to this key.
    pub sealing_key: SealingKey,
    /// What it says is signed with this key; `None` while it lives in the gateway's own machine.
    pub signing_key: Option<SigningKey>,
    /// Counts its keys from the first join on; 0 for a host that never joined.
    pub key_generation: u64,
    /// Keys with which it may speak on the bus, and when each one's permit ends.
    pub permits: BTreeMap<BusKey, Timestamp>,
    /// Why it was evicted, if it was.
    pub evicted: Option<String>,
    /// What it may have held when it was evicted: versions that were granted to it.
    pub held: BTreeMap<SecretId, BTreeSet<u64>>,
    /// Whether its injector takes versions that are staged, and gives them to canaries, as it once said.
    pub knows_staged: bool,
    /// Whether its injector carries out orders about containers, as it once said.
    pub knows_orders: bool,
    /// Restarts that are ordered and not over.
    pub restarts: BTreeMap<ContainerId, Restart>,
    /// Containers in quarantine.
    pub quarantines: BTreeMap<ContainerId, Quarantine>,
    /// The number of the last quarantine that was lifted here: what it told by an older plan leaves out what the
    /// program of that container has in its variables.
    pub lifted: u64,
}

impl Host {
    /// The state after `Enrolled`.
    #[must_use]
    pub fn enrolled(
        id: HostId,
        name: HostName,
        sealing_key: SealingKey,
        signing_key: Option<SigningKey>,
    ) -> Self {
        Self {
            id,
            name,
            sealing_key,
            signing_key,
            key_generation: u64::from(signing_key.is_some()),
            permits: BTreeMap::new(),
            evicted: None,
            held: BTreeMap::new(),
            knows_staged: false,
            knows_orders: false,
            restarts: BTreeMap::new(),
            quarantines: BTreeMap::new(),
            lifted: 0,
        }
    }

    /// Whether it was evicted.
    #[must_use]
    pub const fn is_evicted(&self) -> bool {
        self.evicted.is_some()
    }

    /// Refuses a host that was evicted.
    ///
    /// # Errors
    /// When it was.
    pub fn refuse_evicted(&self) -> Result<(), Rejection> {
        if self.is_evicted() {
            return Err(Rejection::Evicted {
                host: self.id,
                name: self.name.clone(),
            });
        }
        Ok(())
    }

    /// Brings the key of a host without a pinned one up to date; the same key gives no event.
    ///
    /// # Errors
    /// When it was evicted, or joined with keys of its own.
    pub fn decide_replace_key(&self, sealing_key: SealingKey) -> Result<Option<Event>, Rejection> {
        self.refuse_evicted()?;
        if self.signing_key.is_some() {
            return Err(Rejection::KeysPinned(self.name.clone()));
        }
        let replaced = Event::KeyReplaced {
            sealing_key,
            signing_key: None,
            generation: 0,
        };
        Ok((self.sealing_key != sealing_key).then_some(replaced))
    }

    /// Pins the keys of a machine that came with a token for this host.
    ///
    /// # Errors
    /// When it was evicted.
    pub fn decide_join(
        &self,
        signing_key: SigningKey,
        sealing_key: SealingKey,
    ) -> Result<Event, Rejection> {
        self.refuse_evicted()?;
        Ok(Event::KeyReplaced {
            sealing_key,
            signing_key: Some(signing_key),
            generation: self.key_generation.saturating_add(1),
        })
    }

    /// Replaces pinned keys by the next ones; the ones that are known give no event.
    ///
    /// # Errors
    /// When it was evicted or never joined, or the generation is not the next.
    pub fn decide_rotate_keys(&self, next: &KeyRequest) -> Result<Option<Event>, Rejection> {
        self.refuse_evicted()?;
        let Some(pinned) = self.signing_key else {
            return Err(Rejection::NotJoined(self.name.clone()));
        };
        let known = (pinned, self.sealing_key, self.key_generation);
        if known == (next.signing_key, next.sealing_key, next.generation) {
            return Ok(None);
        }
        if next.generation != self.key_generation.saturating_add(1) {
            return Err(Rejection::KeysOutOfTurn {
                name: self.name.clone(),
                asked: next.generation,
                known: self.key_generation,
            });
        }
        Ok(Some(Event::KeyReplaced {
            sealing_key: next.sealing_key,
            signing_key: Some(next.signing_key),
            generation: next.generation,
        }))
    }

    /// Notes a permit for the bus that is about to be made for it.
    ///
    /// # Errors
    /// When it was evicted or never joined, or has too many.
    pub fn decide_permit(&self, wish: &PermitRequest, now: Timestamp) -> Result<Event, Rejection> {
        self.refuse_evicted()?;
        if self.signing_key.is_none() {
            return Err(Rejection::NotJoined(self.name.clone()));
        }
        let others = self
            .permits
            .iter()
            .filter(|(key, end)| **key != wish.key && **end > now);
        if others.count() >= MAX_PERMITS {
            return Err(Rejection::TooManyPermits(self.name.clone()));
        }
        Ok(Event::PermitIssued {
            key: wish.key.clone(),
            issued_at: now,
            expires_at: wish.expires_at,
        })
    }

    /// Folds one event; total. Tokens are the world's, orders [`Self::evolve_order`]'s.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Enrolled {
                name,
                sealing_key,
                signing_key,
            } => *self = Self::enrolled(self.id, name.clone(), *sealing_key, *signing_key),
            Event::KeyReplaced {
                sealing_key,
                signing_key,
                generation,
            } => {
                self.sealing_key = *sealing_key;
                self.signing_key = signing_key.or(self.signing_key);
                self.key_generation = self.key_generation.max(*generation);
            }
            Event::PermitIssued {
                key,
                issued_at,
                expires_at,
            } => {
                self.permits.retain(|_, end| *end > *issued_at);
                self.permits.insert(key.clone(), *expires_at);
            }
            Event::Evicted { reason } => {
                self.evicted = Some(reason.clone());
                self.restarts.clear();
                self.quarantines.clear();
            }
            Event::StagingKnown => self.knows_staged = true,
            Event::OrdersKnown => self.knows_orders = true,
            Event::JoinTokenIssued { .. }
            | Event::JoinTokenSpent { .. }
            | Event::RestartOrdered { .. }
            | Event::QuarantineOrdered { .. }
            | Event::OrderEnded { .. }
            | Event::QuarantineLifted { .. } => {}
        }
    }
}

/// The next keys of a host that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The host.
    pub host: HostId,
    /// The new key for what it says.
    pub signing_key: SigningKey,
    /// The new key for what is sealed to it.
    pub sealing_key: SealingKey,
    /// One more than that of the known keys.
    pub generation: u64,
}

/// A permit for the bus that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitRequest {
    /// The host.
    pub host: HostId,
    /// Public key of its user on the bus server.
    pub key: BusKey,
    /// When the permit ends, at the latest.
    pub expires_at: Timestamp,
}

/// A key that the bus server must refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedKey {
    /// The key.
    pub key: BusKey,
    /// When its permit ends by itself.
    pub expires_at: Timestamp,
}

/// What is noted of the permit that a host asks for, which nobody else may have one for: with its eviction the key is
/// refused, whoever has it as well.
///
/// # Errors
/// [`Rejection::NotEnrolled`], [`Rejection::PermitOfAnother`], and those of [`Host::decide_permit`].
pub fn permit_of(world: &World, wish: &PermitRequest, now: Timestamp) -> Result<Event, Rejection> {
    let known = world.hosts.get(&wish.host);
    let known = known.ok_or(Rejection::NotEnrolled(wish.host))?;
    let mut others = world.hosts.values().filter(|other| other.id != known.id);
    let has_it = |other: &Host| {
        let end = other.permits.get(&wish.key);
        end.is_some_and(|end| *end > now)
    };
    match others.any(has_it) {
        true => Err(Rejection::PermitOfAnother(known.name.clone())),
        false => known.decide_permit(wish, now),
    }
}

/// Keys of evicted hosts whose permits may still live.
#[must_use]
pub fn refused_keys(world: &World) -> Vec<RefusedKey> {
    let evicted = world.hosts.values().filter(|host| host.is_evicted());
    let permits = evicted.flat_map(|host| &host.permits);
    let refused = permits.map(|(key, end)| RefusedKey {
        key: key.clone(),
        expires_at: *end,
    });
    refused.collect()
}

/// The keys of one host that joined, as everyone who checks its signature needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKeys {
    /// The host.
    pub host: HostId,
    /// What it says is signed with this key.
    pub signing_key: SigningKey,
    /// Values for it are sealed to this key.
    pub sealing_key: SealingKey,
    /// Counts its keys.
    pub generation: u64,
    /// Whether it was evicted: then nothing it says counts and nothing is sealed to it.
    pub evicted: bool,
}

/// The keys of every host that ever joined, in the order of their ids.
#[must_use]
pub fn host_keys(world: &World) -> Vec<HostKeys> {
    let keys = |host: &Host| {
        Some(HostKeys {
            host: host.id,
            signing_key: host.signing_key?,
            sealing_key: host.sealing_key,
            generation: host.key_generation,
            evicted: host.is_evicted(),
        })
    };
    world.hosts.values().filter_map(keys).collect()
}

/// Versions an evicted host may still hold, of one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The secret.
    pub secret: SecretId,
    /// Versions that are still alive, oldest first. A rotation that retires them takes them off.
    pub alive: Vec<u64>,
}

/// What a person has to rotate because a host was evicted: every secret of which it may hold a
/// version that still is alive. Empty for a host that is not evicted.
#[must_use]
pub fn held_by_evicted(world: &World, host: HostId) -> Vec<Held> {
    let held = world.hosts.get(&host).map(|host| &host.held);
    let alive = |(id, versions): (&SecretId, &BTreeSet<u64>)| {
        let secret = world.secrets.get(id)?;
        let versions = versions.iter().copied();
        let alive: Vec<u64> = versions.filter(|v| secret.is_deliverable(*v)).collect();
        (!alive.is_empty()).then_some(Held { secret: *id, alive })
    };
    held.into_iter().flatten().filter_map(alive).collect()
}
