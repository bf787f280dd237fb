//! What the reconciler and the runtime's requests share: the plan, sealed values, and the list of
//! versions being handled.
//!
//! Invariants: the plan never goes back, and an older one that is no repeat is refused aloud; whoever is about to open a version says so first, under
//! the same lock under which it read the plan, so a report's `holds` never lacks one; an envelope
//! that no present or staged version of the plan names is dropped with the plan that says so, and then from the
//! disk; nothing is given out once the lease is over. The lock is never held across a wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::{ContainerId, DeliveryId, SecretId};
use keywheel_core::plan::{Grant, HostPlan, PlannedBinding};
use keywheel_core::report::{HostReport, StalePlan};
use keywheel_engine::delivery;
use keywheel_engine::port::bus::{Address, Body, Bus, Source, ValueRequest};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::trace::Context;
use keywheel_seal::hpke::{Envelope, HostKeyPair};
use keywheel_seal::{Entropy, SecretBytes};
use keywheel_telemetry::traces::{Kind, Span, names as spans};

use async_trait::async_trait;
use keywheel_daemon::{chain, names};
use keywheel_identity::bundle::SealingKey;
use keywheel_member::{RenewalFault, SealingKeys};
use tokio::sync::Notify;

use crate::contact::Contact;
use crate::granted::versions_in;
use crate::host_cache::{HostCache, Restored};
use crate::kept::{KeptValue, KeptValues};
use crate::keyring::Keyring;
use crate::lease::Moment;
use crate::leases::Wants;
use crate::metrics::Reads;
use crate::model::Place;
use crate::options::HostSettings;
use crate::origin::{self, Origins, SERVICE};
use crate::stale::StalePlans;

/// How long store-sync may take to answer for a value.
const VALUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a resolved container may take until its second request.
pub(crate) const PENDING_LIMIT: Duration = Duration::from_secs(60);

/// A secret's version.
pub(crate) type VersionKey = (SecretId, u64);

/// A sealed value.
pub(crate) enum Sealed {
    /// As store-sync sealed it to us.
    ToHost {
        /// It.
        envelope: Envelope,
        /// Under which grant.
        delivery: DeliveryId,
    },
    /// As the host cache kept it.
    Kept(Vec<u8>),
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed(..)")
    }
}

/// A version a container gets at its start, and under which binding.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) binding: PlannedBinding,
    pub(crate) version: u64,
    pub(crate) place: Place,
}

/// A container between the runtime's two requests.
pub(crate) struct Pending {
    pub(crate) facts: ContainerFacts,
    pub(crate) env: Vec<Given>,
    /// What its variables were opened from.
    pub(crate) kept: BTreeMap<VersionKey, Arc<KeptValue>>,
    pub(crate) intent: Intent,
    /// Where what follows from the container's start stands.
    pub(crate) trace: Option<Context>,
    /// Of its whole create, until the second request was answered.
    pub(crate) create: Span,
    since: Duration,
}

#[derive(Default)]
struct Inner {
    plan: Option<Arc<HostPlan>>,
    stale: StalePlans,
    sealed: BTreeMap<VersionKey, Arc<Sealed>>,
    intents: BTreeMap<u64, Vec<VersionKey>>,
    pending: BTreeMap<ContainerId, Pending>,
    next: u64,
}

/// Everything both halves of the injector use.
pub(crate) struct Shared {
    pub(crate) options: HostSettings,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) containers: Arc<dyn ContainerHost>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: Keyring,
    /// Whether the gateway knows host and key since the host joined; else they are told at start.
    pub(crate) has_joined: bool,
    pub(crate) contact: Contact,
    /// Set once, at start; not at all when nothing is kept.
    pub(crate) cache: OnceLock<Arc<HostCache>>,
    /// Something changed that a pass has to see.
    pub(crate) changed: Notify,
    /// How often a value was held when it was needed.
    pub(crate) reads: Reads,
    /// What it does comes from there.
    pub(crate) origins: Origins,
    /// What running containers were started with.
    pub(crate) kept: KeptValues,
    pub(crate) wants: Wants,
    inner: Arc<Mutex<Inner>>,
}

/// Says that versions are being handled, until dropped.
pub(crate) struct Intent {
    token: u64,
    inner: Arc<Mutex<Inner>>,
}

impl Drop for Intent {
    fn drop(&mut self) {
        lock(&self.inner).intents.remove(&self.token);
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        options: HostSettings,
        bus: Arc<dyn Bus>,
        containers: Arc<dyn ContainerHost>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        entropy: Arc<dyn Entropy>,
        joined: Option<Keyring>,
    ) -> Self {
        let has_joined = joined.is_some();
        let keys = joined.unwrap_or_else(|| Keyring::of(1, HostKeyPair::generate(&*entropy)));
        let contact = Contact::new(clock.monotonic());
        Self {
            has_joined,
            options,
            bus,
            containers,
            clock,
            ids,
            entropy,
            keys,
            contact,
            cache: OnceLock::new(),
            changed: Notify::new(),
            reads: Reads::default(),
            origins: Origins::default(),
            kept: KeptValues::default(),
            wants: Wants::default(),
            inner: Arc::default(),
        }
    }

    /// The trace of what last changed what is given out of a secret.
    pub(crate) fn trace_of(&self, secret: SecretId) -> Option<Context> {
        origin::of_secret(lock(&self.inner).plan.as_deref(), secret)
    }

    /// The traces that a report belongs to.
    pub(crate) fn traces_of(&self, report: &HostReport) -> Vec<Context> {
        let plan = lock(&self.inner).plan.clone();
        let now = self.clock.monotonic();
        self.origins.of_report(report, plan.as_deref(), now)
    }

    /// Goes on with what an earlier run kept, until the gateway speaks.
    pub(crate) fn restore(&self, cache: HostCache, restored: Restored) {
        let Restored {
            plan,
            lease,
            values,
        } = restored;
        let at = Moment::read(&*self.clock);
        self.contact
            .resume(self.clock.monotonic(), lease.as_ref(), &at);
        // Set before anything else can be.
        let _ = self.cache.set(Arc::new(cache));
        let Some(plan) = plan else { return };
        let generation = plan.generation;
        if !self.take_plan(plan) {
            return;
        }
        let mut inner = lock(&self.inner);
        let current = inner.plan.as_deref().map(current_versions);
        let current = current.unwrap_or_default();
        let kept = values.into_iter().filter(|(key, _)| current.contains(key));
        inner
            .sealed
            .extend(kept.map(|(key, sealed)| (key, Arc::new(Sealed::Kept(sealed)))));
        let count = inner.sealed.len();
        drop(inner);
        tracing::info!(
            { names::GENERATION } = generation,
            { names::COUNT } = count,
            "plan and values taken from the host cache"
        );
    }

    /// The plan; with nothing to be held in it where the lease is over and says so.
    pub(crate) fn plan(&self) -> Option<Arc<HostPlan>> {
        let plan = lock(&self.inner).plan.clone()?;
        if !self.withdraws() {
            return Some(plan);
        }
        let mut bare = (*plan).clone();
        bare.bindings
            .iter_mut()
            .for_each(|binding| binding.current = None);
        bare.staged.clear();
        Some(Arc::new(bare))
    }

    pub(crate) fn held_generation(&self) -> Option<u64> {
        lock(&self.inner).plan.as_ref().map(|plan| plan.generation)
    }

    /// The plan as it was told, and the versions that may be kept under it.
    pub(crate) fn newest_word(&self) -> Option<(Arc<HostPlan>, BTreeSet<VersionKey>)> {
        let withdraws = self.withdraws();
        let plan = lock(&self.inner).plan.clone()?;
        let wanted = if withdraws {
            BTreeSet::new()
        } else {
            current_versions(&plan)
        };
        Some((plan, wanted))
    }

    /// Takes a plan that was received; an older one that is no repeat is refused aloud.
    pub(crate) fn receive_plan(&self, plan: HostPlan, from: Source) -> bool {
        let (host, generation) = (plan.host, plan.generation);
        if self.take_plan(plan) {
            return true;
        }
        let (now, at) = (self.clock.monotonic(), self.clock.now());
        let mut inner = lock(&self.inner);
        let held = inner.plan.as_ref().map_or(0, |plan| plan.generation);
        let is_stale = host == self.options.host
            && generation < held
            && inner.stale.came((generation, held), now, at);
        drop(inner);
        if is_stale {
            self.bus.refuse_stale(from);
            self.changed.notify_one();
        }
        false
    }

    /// What the audit has to hear of stale plans now.
    pub(crate) fn stale_plans(&self) -> Option<StalePlan> {
        let now = self.clock.monotonic();
        lock(&self.inner).stale.note(now)
    }

    /// Takes a plan unless it is older than, or the same as, what is held.
    pub(crate) fn take_plan(&self, plan: HostPlan) -> bool {
        let mut inner = lock(&self.inner);
        if plan.host != self.options.host {
            return false;
        }
        if inner
            .plan
            .as_ref()
            .is_some_and(|held| plan.generation <= held.generation)
        {
            return false;
        }
        let now = self.clock.monotonic();
        self.origins.take(inner.plan.as_deref(), &plan, now);
        let current = current_versions(&plan);
        inner.sealed.retain(|key, _| current.contains(key));
        inner.stale.took(plan.generation, self.clock.monotonic());
        inner.plan = Some(Arc::new(plan));
        drop(inner);
        self.contact.unbar();
        self.wants.look();
        true
    }

    /// Reads the plan and says, in the same breath, which versions will be handled.
    pub(crate) fn intend<T>(
        &self,
        choose: impl FnOnce(Option<&Arc<HostPlan>>) -> (T, Vec<VersionKey>),
    ) -> (T, Intent) {
        let mut inner = lock(&self.inner);
        let (chosen, versions) = choose(inner.plan.as_ref());
        inner.next += 1;
        let token = inner.next;
        inner.intents.insert(token, versions);
        (
            chosen,
            Intent {
                token,
                inner: Arc::clone(&self.inner),
            },
        )
    }

    /// Keeps what the first request of a container decided, for its second.
    pub(crate) fn keep_pending(
        &self,
        facts: ContainerFacts,
        (env, kept): (Vec<Given>, BTreeMap<VersionKey, Arc<KeptValue>>),
        intent: Intent,
        create: Span,
    ) {
        let since = self.clock.monotonic();
        let id = facts.id.clone();
        let old = lock(&self.inner).pending.insert(
            id,
            Pending {
                facts,
                env,
                kept,
                intent,
                trace: create.context(),
                create,
                since,
            },
        );
        // Its intent takes the lock when it goes.
        drop(old);
    }

    pub(crate) fn take_pending(&self, id: &ContainerId) -> Option<Pending> {
        lock(&self.inner).pending.remove(id)
    }

    /// Versions that are cached, here or on the disk, or being handled now. Forgets containers whose second request never came.
    pub(crate) fn holds(&self) -> BTreeSet<VersionKey> {
        let now = self.clock.monotonic();
        let mut inner = lock(&self.inner);
        let is_late = |pending: &Pending| now.saturating_sub(pending.since) > PENDING_LIMIT;
        let late: Vec<ContainerId> = inner
            .pending
            .iter()
            .filter(|(_, one)| is_late(one))
            .map(|(id, _)| id.clone())
            .collect();
        let mut gone: Vec<Pending> = late
            .iter()
            .filter_map(|id| inner.pending.remove(id))
            .collect();
        for pending in &mut gone {
            inner.intents.remove(&pending.intent.token);
            let reason = "the runtime did not ask for the files";
            pending.create.fail("abandoned", reason);
        }
        let mut held: BTreeSet<VersionKey> = inner.sealed.keys().copied().collect();
        held.extend(inner.intents.values().flatten().copied());
        if let Some(cache) = self.cache.get() {
            held.extend(cache.held());
        }
        drop(inner);
        drop(gone);
        held
    }

    pub(crate) fn has_value(&self, key: VersionKey) -> bool {
        self.sealed(key).is_some()
    }

    /// What is held of a version; nothing once the lease is over.
    pub(crate) fn sealed(&self, key: VersionKey) -> Option<Arc<Sealed>> {
        let sealed = lock(&self.inner).sealed.get(&key).cloned()?;
        (!self.is_lease_over()).then_some(sealed)
    }

    /// The sealed value: from the cache, else from store-sync, below `trace`.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        secret: SecretId,
        grant: Grant,
        trace: Option<Context>,
    ) -> Result<Arc<Sealed>, PortError> {
        let key = (secret, grant.version);
        if let Some(sealed) = self.sealed(key) {
            self.reads.hit();
            return Ok(sealed);
        }
        let fetched = self.fetch_anew(key, grant, trace).await;
        self.reads.asked(&fetched);
        fetched
    }

    async fn fetch_anew(
        self: &Arc<Self>,
        key: VersionKey,
        grant: Grant,
        trace: Option<Context>,
    ) -> Result<Arc<Sealed>, PortError> {
        self.come_back().await?;
        if let Some(sealed) = self.sealed(key) {
            return Ok(sealed);
        }
        let ((), _intent) = self.intend(|_| ((), vec![key]));
        let request = ValueRequest {
            host: self.options.host,
            secret: key.0,
            version: grant.version,
            delivery: grant.delivery,
        };
        let body = Body::OpenValue(request);
        let _flight = self.keys.begin();
        let mut span = Span::below(SERVICE, spans::OPEN_VALUE, Kind::Client, trace)
            .with(spans::RPC_SYSTEM, spans::SYSTEM)
            .with(spans::RPC_METHOD, spans::OPEN_VALUE)
            .with(spans::HOST, self.options.host_name.to_string())
            .with(spans::SECRET_ID, key.0.to_string())
            .with(spans::VERSION, grant.version);
        let asked = self
            .bus
            .request(Address::StoreSync, span.traceparent(), body, VALUE_TIMEOUT)
            .await;
        let asked = asked.inspect_err(|error| self.lost(error));
        let envelope = asked.and_then(envelope_of);
        let envelope = envelope.inspect_err(|error| span.fail(error.kind.word(), &error.text))?;
        drop(span);
        let sealed = Arc::new(Sealed::ToHost {
            envelope,
            delivery: grant.delivery,
        });
        let mut inner = lock(&self.inner);
        if is_current(&inner, key) {
            inner.sealed.insert(key, Arc::clone(&sealed));
        }
        drop(inner);
        self.keep(key, &sealed);
        Ok(sealed)
    }

    /// Keeps a value on the disk, in the background: it serves whether or not that works.
    fn keep(self: &Arc<Self>, key: VersionKey, sealed: &Arc<Sealed>) {
        let Some(cache) = self.cache.get().cloned() else {
            return;
        };
        let (shared, sealed) = (Arc::clone(self), Arc::clone(sealed));
        tokio::task::spawn_blocking(move || {
            let Ok(value) = shared.open(key, &sealed) else {
                return;
            };
            if let Err(error) = cache.keep_value(key, &value, || shared.claim(key)) {
                tracing::warn!({ names::SECRET } = %key.0, { names::VERSION } = key.1, { names::ERROR } = chain(&error), "value not kept in the host cache");
            }
        });
    }

    /// Claims a version for the disk, if the plan still names it: in the same breath, so that no
    /// report comes between.
    fn claim(&self, key: VersionKey) -> bool {
        let withdraws = self.withdraws();
        let inner = lock(&self.inner);
        let is_wanted = !withdraws && is_current(&inner, key);
        if let Some(cache) = self.cache.get().filter(|_| is_wanted) {
            cache.claim(key);
        }
        is_wanted
    }

    fn try_open(&self, key: VersionKey, sealed: &Sealed) -> Option<SecretBytes> {
        match sealed {
            Sealed::ToHost { envelope, delivery } => {
                let (info, aad) = bound(self, key, *delivery);
                self.keys.open(&info, &aad, envelope)
            }
            Sealed::Kept(bytes) => self.cache.get()?.open_value(key, bytes),
        }
    }

    /// Seals what is kept to the newest key, so that an older one can go.
    fn reseal(&self) {
        for (key, sealed) in &mut lock(&self.inner).sealed {
            if let Some(anew) = self.sealed_anew(*key, sealed) {
                *sealed = anew;
            }
        }
        let anew = |key, sealed: &Sealed| self.sealed_anew(key, sealed);
        self.kept.replace(anew);
    }

    fn sealed_anew(&self, key: VersionKey, sealed: &Sealed) -> Option<Arc<Sealed>> {
        let Sealed::ToHost { envelope, delivery } = sealed else {
            return None;
        };
        let (delivery, (info, aad)) = (*delivery, bound(self, key, *delivery));
        let envelope = self.keys.reseal(&info, &aad, envelope, &*self.entropy)?;
        Some(Arc::new(Sealed::ToHost { envelope, delivery }))
    }

    /// Opens a sealed value; the caller keeps it only while it writes.
    pub(crate) fn open(&self, key: VersionKey, sealed: &Sealed) -> Result<SecretBytes, PortError> {
        let opened = self.try_open(key, sealed).or_else(|| {
            // Sealed anew meanwhile, because its key is gone.
            let newest = lock(&self.inner).sealed.get(&key).cloned()?;
            self.try_open(key, &newest)
        });
        opened.ok_or_else(|| {
            lock(&self.inner).sealed.remove(&key);
            PortError::new(
                ErrorKind::Corrupt,
                "the value sealed for this host does not open",
            )
        })
    }
}

/// What an envelope to this host is bound to.
fn bound(shared: &Shared, key: VersionKey, delivery: DeliveryId) -> (Vec<u8>, Vec<u8>) {
    let info = delivery::info(shared.options.deployment, shared.options.host);
    (info, delivery::aad(delivery, key.0, key.1))
}

#[async_trait]
impl SealingKeys for Shared {
    fn hold(&self, keys: &[SealingKey]) -> Result<(), RenewalFault> {
        for key in keys {
            let pair = HostKeyPair::from_private_bytes(&key.pair.private_bytes())?;
            self.keys.add(key.generation, pair);
        }
        Ok(())
    }

    async fn supersede(&self, known: u64) {
        self.keys.supersede(known);
        for generation in self.keys.older_than(known) {
            self.keys.settled(generation).await;
        }
    }

    fn destroy(&self, generation: u64) {
        self.reseal();
        self.keys.destroy(generation);
    }
}

fn envelope_of(answer: Body) -> Result<Envelope, PortError> {
    let bytes = match answer {
        Body::SealedValue(bytes) => bytes,
        Body::Failed { kind, text } => return Err(PortError::new(kind, text)),
        _ => {
            return Err(PortError::new(
                ErrorKind::Corrupt,
                "store-sync answered something else than a value",
            ));
        }
    };
    Envelope::from_bytes(&bytes).map_err(|error| {
        PortError::caused(
            ErrorKind::Corrupt,
            "store-sync's envelope is not understood",
            error,
        )
    })
}

fn is_current(inner: &Inner, key: VersionKey) -> bool {
    let plan = inner.plan.as_deref();
    plan.is_some_and(|plan| versions_in(plan).any(|kept| kept == key))
}

fn current_versions(plan: &HostPlan) -> BTreeSet<VersionKey> {
    versions_in(plan).collect()
}
