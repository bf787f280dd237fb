//! Logins by lease: the server that makes and ends them, store-sync's part in it, and what has to hold of them.
//!
//! The server and store-sync do what `services/stores/src/lease.rs` and `services/store-sync/src/outside/look.rs`
//! promise. A login that nobody extended ends by itself soon, one that is extended no more later, and none lives
//! longer than a maximum. Truth of who has which is kept by the events and by the server, apart from the core.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::command::{Command, Observation};
use keywheel_core::effect::StepWork;
use keywheel_core::event::Event;
use keywheel_core::id::{ContainerId, HostId, RevocationId, RotationId, SecretId};
use keywheel_core::lease::{self, Lease, LeaseOf};
use keywheel_core::plan::{HostPlan, PlannedBinding};
use keywheel_core::rotation::{self, Step, Trigger};
use keywheel_core::secret::{self, Secret};
use keywheel_core::store::RemoteVersion;
use keywheel_core::world::World;
use keywheel_core::{assignment, revocation};
use keywheel_engine::port::leases::{Extended, MINT_SPAN};

use crate::host::Host;
use crate::invariants::{Broken, Now, hold};
use crate::orders::is_apart;
use crate::scene::{HOSTS, LEASED_BINDING, apply_leased_binding, binding_name, leased_name};
use crate::sim::{Message, Sim};
use crate::store::{Failure, Store, StoreFault, Value, away, refuses};

/// How long a login lives after it was extended, where nothing limits it.
const WHOLE: Duration = Duration::from_secs(900);
/// How long it lives at most.
const MOST: Duration = Duration::from_secs(1800);

/// A login, as its server has it.
#[derive(Debug)]
struct Login {
    /// What it was made for.
    value: Value,
    /// When it ends by itself.
    ends: Duration,
    /// When it ends at the latest.
    last: Duration,
    /// Whether it was ever extended: what was not is none of store-sync's any more if it died over it.
    is_kept: bool,
}

/// The logins of a server, and what store-sync wrote down of them.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    minted: u64,
    alive: BTreeMap<RemoteVersion, Login>,
    /// On store-sync's disk: what the login of a version is called.
    recorded: BTreeMap<Value, RemoteVersion>,
    /// In its memory: when one is to be renewed.
    renewals: BTreeMap<RemoteVersion, Duration>,
    /// Versions whose login ended by itself.
    pub(crate) expired: BTreeSet<Value>,
    /// Planted: what was written down is not looked for.
    pub(crate) forgets: bool,
}

impl Logins {
    fn mint(&mut self, value: Value, now: Duration) -> RemoteVersion {
        self.minted += 1;
        let lease = RemoteVersion(format!("token{0}:lease{0}:900", self.minted));
        let login = Login {
            value,
            ends: now + MINT_SPAN,
            last: now + MOST,
            is_kept: false,
        };
        self.alive.insert(lease.clone(), login);
        lease
    }

    fn extend(&mut self, lease: &RemoteVersion, now: Duration) -> Extended {
        let Some(login) = self.alive.get_mut(lease) else {
            return Extended::Gone;
        };
        let granted = WHOLE.min(login.last.saturating_sub(now));
        login.ends = now + granted;
        login.is_kept = true;
        let next = now + Extended::renew_after(granted, WHOLE);
        self.renewals.insert(lease.clone(), next);
        Extended::For {
            granted,
            whole: WHOLE,
        }
    }

    fn end(&mut self, lease: &RemoteVersion) {
        self.alive.remove(lease);
        self.renewals.remove(lease);
    }

    /// What store-sync has in memory is gone.
    pub(crate) fn forget(&mut self) {
        self.renewals.clear();
    }

    /// Whether a login has nothing written down for it that was ever to be kept.
    fn kept(&self) -> impl Iterator<Item = (&RemoteVersion, &Login)> {
        self.alive.iter().filter(|(_, login)| login.is_kept)
    }

    /// However often its making is repeated or cut off, a version has one login.
    pub(crate) fn none_is_made_twice(&self) -> Result<(), Broken> {
        let mut seen = BTreeSet::new();
        for (lease, login) in self.kept() {
            hold(seen.insert(login.value), "leases", || {
                format!("{} is another login of {:?}", lease.0, login.value)
            })?;
        }
        Ok(())
    }

    /// Whether a login ended by itself that its container needs no more: a swap that was parked leaves the one
    /// before to the next swap.
    pub(crate) fn is_over(&self, secret: &Secret, version: u64) -> bool {
        secret.current != Some(version) && self.expired.contains(&(secret.id, version))
    }

    /// The end: what the server lets in and what store-sync wrote down is on the log, and what is in use is let in.
    /// Nobody looks after what was given up.
    fn are_those_of(&self, world: &World, given_up: &BTreeSet<Value>) -> Result<(), Broken> {
        let leases = world.secrets.values();
        let leases = leases.filter(|secret| secret.lease_of().is_some());
        let living: BTreeSet<RemoteVersion> =
            leases.clone().flat_map(Secret::living_leases).collect();
        let there = self.kept();
        let there = there.filter(|(_, login)| !given_up.contains(&login.value));
        let there: BTreeSet<RemoteVersion> = there.map(|(lease, _)| lease.clone()).collect();
        hold(there.is_subset(&living), "leases", || {
            format!("the server lets in {there:?}, on the log are {living:?}")
        })?;
        let in_use = leases.clone().filter(|secret| secret.current.is_some());
        let mut in_use = in_use.filter_map(|secret| secret.known.as_ref());
        let refused = in_use.find(|lease| !there.contains(*lease));
        hold(refused.is_none(), "leases", || {
            format!("{refused:?} is in use, and the server lets in {there:?}")
        })?;
        let alive = leases.flat_map(|secret| {
            let alive = secret.alive().into_iter();
            alive.map(|version| (secret.id, version))
        });
        let alive: BTreeSet<Value> = alive.collect();
        let recorded = self.recorded.keys().copied();
        let recorded: BTreeSet<Value> = recorded.filter(|one| !given_up.contains(one)).collect();
        hold(recorded == alive, "leases", || {
            format!("written down are {recorded:?}, alive are {alive:?}")
        })
    }
}

impl Store {
    /// Time passes at the server that makes logins.
    pub(crate) fn expire(&mut self, now: Duration) {
        let over = |(_, login): &(&RemoteVersion, &Login)| now >= login.ends;
        let over = self.logins.alive.iter().filter(over);
        let over: Vec<(RemoteVersion, Value)> = over
            .map(|(lease, login)| (lease.clone(), login.value))
            .collect();
        for (lease, value) in over {
            self.logins.end(&lease);
            if self.logins.recorded.get(&value) == Some(&lease) {
                self.accepted.remove(&value);
                self.logins.expired.insert(value);
            }
        }
    }

    /// One step of a rotation that makes a login.
    pub(crate) fn lease_step(
        &mut self,
        work: &StepWork,
        fault: StoreFault,
        now: Duration,
    ) -> Result<(), Failure> {
        let outside = work.outside.iter();
        let retire: Vec<RemoteVersion> = outside.flat_map(|one| one.retire.clone()).collect();
        for value in work.versions.iter().map(|version| (work.secret, *version)) {
            match work.step {
                Step::Create if self.gone.contains(&value) => return Err(refuses("it is revoked")),
                Step::Create => self.make_login(value, fault, now)?,
                Step::Test | Step::Finish if !self.values.contains(&value) => {
                    return Err(refuses("the login ended before the container had it"));
                }
                Step::Set | Step::Test | Step::Finish | Step::Drain => {}
                Step::RevokeOld | Step::RollBack => {
                    self.end_logins(work.secret, &[value.1], &retire);
                }
            }
        }
        Ok(())
    }

    /// Makes a login, writes down what it is called, extends it, and only then keeps its value.
    fn make_login(
        &mut self,
        value: Value,
        fault: StoreFault,
        now: Duration,
    ) -> Result<(), Failure> {
        let recorded = self.logins.recorded.get(&value);
        let recorded = recorded.filter(|_| !self.logins.forgets).cloned();
        let lease = match recorded {
            Some(lease) => lease,
            None => {
                let lease = self.logins.mint(value, now);
                if fault == StoreFault::Halfway {
                    // Nobody knows of it: it ends by itself.
                    return Err(away());
                }
                self.logins.recorded.insert(value, lease.clone());
                lease
            }
        };
        if self.logins.extend(&lease, now) == Extended::Gone {
            return Err(refuses("the login ended before the container had it"));
        }
        self.values.insert(value);
        self.accepted.insert(value);
        Ok(())
    }

    /// Ends logins at the server, then what is written down of them.
    pub(crate) fn end_logins(
        &mut self,
        secret: SecretId,
        versions: &[u64],
        retire: &[RemoteVersion],
    ) {
        self.end(secret, versions);
        for value in versions.iter().map(|version| (secret, *version)) {
            if let Some(lease) = self.logins.recorded.remove(&value) {
                self.logins.end(&lease);
            }
        }
        for lease in retire {
            self.logins.end(lease);
        }
    }

    /// What the login is called that a step made.
    pub(crate) fn login_of(&self, work: &StepWork) -> Option<RemoteVersion> {
        let version = work
            .versions
            .first()
            .filter(|_| work.step == Step::Create)?;
        let recorded = &self.logins.recorded;
        recorded.get(&(work.secret, *version)).cloned()
    }
}

/// Bindings of which a container is to have a login of its own and has none, nor is one being made that its host
/// knows of: it tells so.
pub(crate) fn wants<'p>(
    plan: &'p HostPlan,
    container: &'p ContainerId,
) -> impl Iterator<Item = &'p PlannedBinding> {
    let declared = plan.bindings.iter().filter(|one| one.leases);
    let declared = declared.filter(move |_| !is_apart(plan, container));
    declared.filter(move |one| {
        let secret = lease::secret_of(one.secret, container);
        let own = lease::binding_of(one.binding, secret);
        !plan.bindings.iter().any(|other| other.binding == own)
    })
}

/// Whether a container does not start yet for want of a login.
pub(crate) fn lacks(plan: &HostPlan, container: &ContainerId) -> bool {
    let mut own = plan.bindings.iter();
    let is_made = |one: &PlannedBinding| {
        one.selector.container.as_ref() == Some(container) && one.current.is_none()
    };
    let is_awaited = own.any(is_made) || wants(plan, container).next().is_some();
    is_awaited && !is_apart(plan, container)
}

impl Sim {
    /// What store-sync finds when it looks at the logins it has to renew: one that ended, or is at its longest
    /// time, gives way to another one.
    pub(crate) fn look_at_logins(&mut self) {
        if !self.wishes.leases || self.store.is_away {
            return;
        }
        let now = self.now;
        self.store.expire(now);
        let mut seen = Vec::new();
        for secret in self.gateway.committed.world.secrets.values() {
            let logins = &mut self.store.logins;
            for lease in secret.living_leases() {
                let next = logins.renewals.get(&lease);
                if next.is_some_and(|next| now < *next) {
                    continue;
                }
                let extended = logins.extend(&lease, now);
                let is_in_use = secret.current.is_some() && secret.known.as_ref() == Some(&lease);
                if is_in_use && extended.gives_way() {
                    seen.push((secret.id, lease, extended == Extended::Gone));
                }
            }
        }
        for (secret, known, is_gone) in seen {
            let rotation = RotationId::from_bytes(self.fresh(0xa0));
            let observed = Command::Observed(Observation {
                secret,
                rotation,
                known: Some(known),
                found: None,
                is_unchanged: false,
                is_gone,
            });
            let observed = self.of_service(Role::StoreSync, observed);
            self.send(Message::Command(observed));
        }
    }

    /// Logins of containers that do not run are kept only so long.
    pub(crate) fn lingers_end(&mut self) {
        let now = self.gateway_time();
        let secrets = self.gateway.world().secrets.values();
        let over = |secret: &&Secret| secret.lingers_until.is_some_and(|until| now >= until);
        let over: Vec<SecretId> = secrets.filter(over).map(|secret| secret.id).collect();
        for secret in over {
            self.timer(Command::LingerEnded { secret });
        }
    }

    /// A person wants something about logins.
    pub(crate) fn wish_about_logins(
        &mut self,
        rotation: RotationId,
        revocation: RevocationId,
    ) -> Option<Command> {
        if !self.wishes.leases {
            return None;
        }
        let leases = self.gateway.world().secrets.values();
        let leases = leases.filter(|secret| secret.lease_of().is_some());
        let leases: Vec<_> = leases.map(|secret| secret.name.clone()).collect();
        let some = leases.get(self.random.below(leases.len())).cloned();
        Some(match self.random.weighted(&[40, 15, 10, 10, 25]) {
            0 => Command::Rotate {
                rotation,
                secret: some?,
            },
            one @ (1 | 2) => Command::Revoke {
                revocation,
                secret: if one == 1 { some? } else { leased_name() },
                version: None,
                reason: "leaked".to_owned(),
                is_emergency: false,
            },
            3 => Command::Unbind {
                name: binding_name(LEASED_BINDING),
            },
            _ => {
                let host = self.random.below(HOSTS * 3);
                apply_leased_binding((host < HOSTS).then_some(host))
            }
        })
    }

    /// Whether every container that is to have a login has one that its server lets in, and nothing is kept for any
    /// other.
    pub(crate) fn logins_are_settled(&self) -> bool {
        if !self.wishes.leases {
            return true;
        }
        let mut secrets = self.gateway.world().secrets.values();
        let is_settled = |secret: &Secret| {
            let mut alive = secret.alive().into_iter();
            let is_lease = secret.lease_of().is_some();
            let is_let_in = |version| {
                let is_in_use = secret.current == Some(version);
                !is_in_use || self.store.accepted.contains(&(secret.id, version))
            };
            secret.lingers_until.is_none() && (!is_lease || alive.all(is_let_in))
        };
        let is_given = |host: &Host| {
            let mut running = host.containers.values();
            let plan = host.plan.as_ref();
            running.all(|one| plan.is_none_or(|plan| !lacks(plan, &one.id)))
                && host.down.values().all(|down| !down.is_refused)
        };
        // What was made for a container that was gone by then ends once its host told of all that runs.
        let runs = |of: &LeaseOf| {
            let mut own = self.hosts.iter().filter(|host| host.id == of.host);
            own.any(|host| host.containers.values().any(|one| one.id == of.container))
        };
        let is_used = |secret: &Secret| {
            let of = secret.lease_of().filter(|_| !secret.alive().is_empty());
            of.is_none_or(runs)
        };
        secrets.all(|secret| is_settled(secret) && is_used(secret))
            && self.hosts.iter().all(is_given)
    }
}

/// What is true of logins, by the events in their order.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Versions of each container's logins that are alive.
    living: BTreeMap<SecretId, BTreeSet<u64>>,
    /// In what is being appended: ends of what a rotation replaced or took back.
    ends: BTreeSet<RevocationId>,
}

impl Leases {
    /// What is appended counts as one.
    pub(crate) fn begin(&mut self, event: &Event) {
        if let Event::Rotation(id, rotation::Event::Closed { .. }) = event {
            self.ends.insert(lease::end_of(*id));
        }
    }

    pub(crate) fn begin_append(&mut self) {
        self.ends.clear();
    }

    /// Whether a revocation is nobody's wish: what a rotation replaced ends.
    pub(crate) fn is_end(&self, id: RevocationId) -> bool {
        self.ends.contains(&id)
    }

    pub(crate) fn see_secret(&mut self, id: SecretId, event: &secret::Event) {
        match event {
            secret::Event::Registered { spec, .. }
                if matches!(spec.lease.as_deref(), Some(Lease::Of(_))) =>
            {
                self.living.entry(id).or_default();
            }
            secret::Event::VersionStaged { version, .. } => {
                if let Some(living) = self.living.get_mut(&id) {
                    living.insert(*version);
                }
            }
            secret::Event::VersionRevoked { version } => {
                if let Some(living) = self.living.get_mut(&id) {
                    living.remove(version);
                }
            }
            _ => {}
        }
    }

    /// A container that wants a login has none: a crash loop makes no second one.
    pub(crate) fn see_started(&self, event: &rotation::Event) -> Result<(), Broken> {
        let rotation::Event::Started {
            secret,
            version,
            trigger: Trigger::Initial,
        } = event
        else {
            return Ok(());
        };
        let Some(living) = self.living.get(secret) else {
            return Ok(());
        };
        let is_alone = living.iter().all(|other| other == version);
        hold(is_alone, "leases", || {
            format!("a container gets login {version} of {secret} and has {living:?}")
        })
    }

    /// What a rotation replaced ends only when nobody has it any more (I9).
    pub(crate) fn see_revocation(
        &self,
        id: RevocationId,
        event: &revocation::Event,
        (by_person, now): (&BTreeSet<Value>, &Now<'_>),
    ) -> Result<(), Broken> {
        let revocation::Event::Requested {
            secret, versions, ..
        } = event
        else {
            return Ok(());
        };
        if !self.is_end(id) {
            return Ok(());
        }
        let ends = |value: &Value| {
            value.0 == *secret && versions.contains(&value.1) && !by_person.contains(value)
        };
        let live = now.hosts.iter();
        for host in live.filter(|host| now.world.live_host(host.id).is_some()) {
            let copies = host.containers.values().flat_map(|one| one.copies.values());
            for copy in copies {
                hold(!ends(&copy.there) && !ends(&copy.used), "I9", || {
                    format!("host {} still has {copy:?}, which ends", host.n)
                })?;
            }
        }
        Ok(())
    }
}

/// The end: no login is an orphan, and each is that of a container that runs on it.
pub(crate) fn no_login_is_an_orphan(
    world: &World,
    hosts: &[Host],
    (store, given_up): (&Store, &BTreeSet<Value>),
) -> Result<(), Broken> {
    store.logins.are_those_of(world, given_up)?;
    let containers = hosts.iter().flat_map(|host| {
        let running = host.containers.values();
        running.map(|one| (host.id, one.id.clone()))
    });
    let running: BTreeSet<(HostId, ContainerId)> = containers.collect();
    for secret in world.secrets.values() {
        let Some(of) = secret.lease_of().filter(|_| !secret.alive().is_empty()) else {
            continue;
        };
        let is_there = running.contains(&(of.host, of.container.clone()));
        hold(is_there, "leases", || {
            format!("{} is alive, and its container is gone", secret.name)
        })?;
    }
    Ok(())
}

/// The consumer's key, as the world has it: a login's binding is another one on its host.
pub(crate) fn own_key(world: &World, key: assignment::Key, secret: SecretId) -> assignment::Key {
    assignment::Key {
        binding: world.own_binding(key.binding, secret),
        ..key
    }
}
