//! The live stores and what lies in them, as the gateway told last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keywheel_core::effect::{AtResource, Outside};
use keywheel_core::id::{SecretId, StoreId};
use keywheel_core::name::StoreName;
use keywheel_core::resource::Kind;
use keywheel_core::store::{CredentialNow, NamedStore, News, RemoteVersion, SecretNow, StoreNow};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::accounts::ConnectAccounts;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::rotator::Rotator;
use keywheel_engine::port::store::{Connect, Credentials, Store};
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::presence::Fact;
use keywheel_rotators::{AccountRotator, ProbedRotator, WebhookRotator};
use keywheel_seal::Entropy;
use keywheel_stores::{KeptRotator, LeaseRotator, RemoteRotator};
use keywheel_telemetry::{Page, names};
use tokio::sync::watch;

use super::credentials::Book;
use super::health::{self, Health};
use super::look::{Behind, Tries};
use crate::armed::ArmedFailpoints;
use crate::metrics::Metrics;

/// Most stores that are kept after they were tried; then the first by name goes.
const MAX_TRIED: usize = 8;

/// What is needed to make live stores.
pub(crate) struct Parts {
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) accounts: Arc<dyn ConnectAccounts>,
    pub(crate) metrics: Metrics,
    pub(crate) vault: Arc<dyn VersionVault>,
    /// Where credentials lie as files.
    pub(crate) credentials_dir: PathBuf,
    /// Where on this machine and its link a receiver may be.
    pub(crate) webhook_allow: Vec<SocketAddr>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// One store that is asked.
pub(super) struct Live {
    pub(super) id: StoreId,
    pub(super) named: NamedStore,
    pub(super) store: Result<Arc<dyn Store>, PortError>,
    book: Arc<Book>,
    /// As the log says, whichever store-sync said it.
    pub(super) is_stale: bool,
    pub(super) health: Health,
    /// Counts what makes it worth asking it at once, though it did not answer before.
    pub(super) nudges: u64,
}

/// A store as it was declared, or is about to be, and what it reads credentials with.
struct Made {
    named: NamedStore,
    store: Arc<dyn Store>,
    book: Arc<Book>,
}

#[derive(Default)]
pub(super) struct State {
    /// Up to which event all is known.
    pub(super) through: u64,
    pub(super) stores: BTreeMap<StoreName, Live>,
    pub(super) secrets: BTreeMap<SecretId, SecretNow>,
    pub(super) tries: BTreeMap<SecretId, Tries>,
    pub(super) behind: BTreeMap<SecretId, Behind>,
    /// When each lease that a secret has now is to be renewed.
    pub(super) leases: BTreeMap<SecretId, BTreeMap<RemoteVersion, Timestamp>>,
    /// Stores that were tried and are not declared yet.
    tried: BTreeMap<StoreName, Made>,
}

/// All of it. Rings when something changed.
pub(crate) struct Registry {
    pub(super) parts: Parts,
    state: Mutex<State>,
    bell: watch::Sender<u64>,
    /// Held by who asks for news because work came before them.
    pub(super) hearing: tokio::sync::Mutex<()>,
}

impl Registry {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts,
            state: Mutex::default(),
            bell: watch::Sender::new(0),
            hearing: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets every store, and with it what that was spoken to with; they are heard of again.
    pub(crate) fn forget(&self) {
        *self.state() = State::default();
    }

    /// Rings with the event's number up to which all is known.
    pub(super) fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Takes what changed; `false` when somebody else heard meanwhile, so that one has to ask again.
    /// What came from an older log than what is known is dropped.
    pub(super) fn apply(&self, after: u64, news: News) -> bool {
        let mut state = self.state();
        if state.through != after {
            return false;
        }
        // A gateway that lags behind the others knows less than we do.
        if news.through < after {
            return true;
        }
        for now in news.stores {
            self.apply_store(&mut state, now);
        }
        for now in news.secrets {
            for live in state.stores.values_mut() {
                if !lies_in(&now, &live.named.name) {
                    live.health.faults.remove(&now.secret);
                }
            }
            if let Some(known) = state.leases.get_mut(&now.secret) {
                known.retain(|lease, _| now.leases.contains(lease));
            }
            if now.place.is_some() {
                state.secrets.insert(now.secret, now);
            } else {
                state.secrets.remove(&now.secret);
                state.tries.remove(&now.secret);
                state.behind.remove(&now.secret);
                state.leases.remove(&now.secret);
            }
        }
        state.through = news.through;
        drop(state);
        self.bell.send_replace(news.through);
        true
    }

    /// Has a store asked at once: it answered somebody else.
    pub(super) fn nudge(&self, name: &StoreName) {
        let mut state = self.state();
        let through = state.through;
        if let Some(live) = state.stores.get_mut(name) {
            live.nudges += 1;
        }
        drop(state);
        self.bell.send_replace(through);
    }

    fn apply_store(&self, state: &mut State, now: StoreNow) {
        let StoreNow {
            id,
            store,
            is_stale,
            credentials,
        } = now;
        let Some(named) = store else {
            state.stores.retain(|_, live| live.id != id);
            return;
        };
        if let Some(live) = state.stores.get_mut(&named.name)
            && live.id == id
            && is_one_store(&live.named, &named)
        {
            live.named = named;
            live.is_stale = is_stale;
            live.nudges += u64::from(live.book.learn(&credentials));
            return;
        }
        let tried = state.tried.remove(&named.name);
        let (store, book) = match tried.filter(|tried| is_one_store(&tried.named, &named)) {
            Some(tried) => (Ok(tried.store), tried.book),
            None => self.make(&named),
        };
        book.learn(&credentials);
        let name = named.name.clone();
        let live = Live {
            id,
            named,
            store,
            book,
            is_stale,
            health: Health::default(),
            nudges: 0,
        };
        state.stores.insert(name, live);
    }

    fn make(&self, named: &NamedStore) -> (Result<Arc<dyn Store>, PortError>, Arc<Book>) {
        let book = Arc::new(self.book());
        let connect = &self.parts.connect;
        let store = connect.connect(&named.name, &named.spec, Arc::clone(&book) as _);
        (store, book)
    }

    fn book(&self) -> Book {
        Book::new(Arc::clone(&self.parts.vault), &self.parts.credentials_dir)
    }

    /// Whether it is live as it was declared when the work was decided.
    pub(super) fn has(&self, named: &NamedStore) -> bool {
        let state = self.state();
        let live = state.stores.get(&named.name);
        live.is_some_and(|live| is_one_store(&live.named, named))
    }

    /// The store as it was declared when the work was decided: the live one when that is the same.
    fn store(&self, named: &NamedStore) -> Result<Arc<dyn Store>, PortError> {
        let book = {
            let state = self.state();
            let live = state.stores.get(&named.name);
            if let Some(live) = live
                && is_one_store(&live.named, named)
                && let Ok(store) = &live.store
            {
                return Ok(Arc::clone(store));
            }
            live.map(|live| Arc::clone(&live.book))
        };
        let book = book.unwrap_or_else(|| Arc::new(self.book()));
        self.parts.connect.connect(&named.name, &named.spec, book)
    }

    /// Who performs work outside.
    pub(crate) fn rotator(&self, outside: &Outside) -> Result<Arc<dyn Rotator>, PortError> {
        let store = self.store(&outside.store)?;
        let (vault, entropy) = (&self.parts.vault, &self.parts.entropy);
        let rotator: Arc<dyn Rotator> = match outside.source.is_role(&outside.store.spec.backend) {
            true => self.lease_rotator(store, outside),
            false => {
                let entropy = Arc::clone(entropy);
                Arc::new(RemoteRotator::new(store, Arc::clone(vault), entropy))
            }
        };
        let name = outside.store.name.as_str();
        Ok(self.parts.metrics.of_store(name, rotator))
    }

    /// Who performs work on leases, and tries their logins where a server is named for that.
    fn lease_rotator(&self, store: Arc<dyn Store>, outside: &Outside) -> Arc<dyn Rotator> {
        let parts = &self.parts;
        let rotator = LeaseRotator::new(store, Arc::clone(&parts.vault)).at(outside);
        let rotator: Arc<dyn Rotator> = Arc::new(rotator.passing(Arc::new(ArmedFailpoints)));
        let Some(probe) = outside.probe.as_deref() else {
            return rotator;
        };
        let credentials: Arc<dyn Credentials> = Arc::new(self.book());
        let way = (Arc::clone(&parts.accounts), credentials);
        let vault = Arc::clone(&parts.vault);
        Arc::new(ProbedRotator::new(rotator, way, vault, probe.clone()))
    }

    /// Who performs work on accounts; the admin's password is the one that was current when the work was
    /// decided.
    pub(crate) fn account_rotator(&self, at: &AtResource) -> Result<Arc<dyn Rotator>, PortError> {
        let book = self.book();
        book.learn(at.admin.as_slice());
        let parts = &self.parts;
        let (vault, entropy) = (Arc::clone(&parts.vault), Arc::clone(&parts.entropy));
        let rotator: Arc<dyn Rotator> = if at.resource.kind == Kind::Webhook {
            let clock = Arc::clone(&parts.clock);
            let book = Arc::new(book);
            let made = WebhookRotator::new(at.clone(), book, vault, entropy, clock)?;
            let made = made.passing(Arc::new(ArmedFailpoints));
            Arc::new(made.allowing(&parts.webhook_allow))
        } else {
            let accounts = parts.accounts.connect(&at.resource, Arc::new(book))?;
            Arc::new(AccountRotator::new(accounts, at.clone(), vault, entropy))
        };
        let label = at.resource.kind.word();
        Ok(parts.metrics.of_store(label, rotator))
    }

    /// Who performs work on accounts whose passwords lie at a store outside, too.
    pub(crate) fn kept_rotator(
        &self,
        outside: &Outside,
        at: &AtResource,
    ) -> Result<Arc<dyn Rotator>, PortError> {
        let accounts = self.account_rotator(at)?;
        let store = self.store(&outside.store)?;
        let rotator = KeptRotator::new(accounts, store, Arc::clone(&self.parts.vault));
        let name = outside.store.name.as_str();
        Ok(self.parts.metrics.of_store(name, Arc::new(rotator)))
    }

    /// A store that is about to be declared. It is kept, because a credential that is good for one
    /// login only (a wrapped secret id) is spent by the trial: the declared store goes on with it.
    pub(super) fn trial(
        &self,
        named: &NamedStore,
        credentials: &[CredentialNow],
    ) -> Result<Arc<dyn Store>, PortError> {
        let mut state = self.state();
        let live = state.stores.get(&named.name);
        if let Some(live) = live.filter(|live| is_one_store(&live.named, named))
            && let Ok(store) = &live.store
        {
            live.book.learn(credentials);
            return Ok(Arc::clone(store));
        }
        let tried = state.tried.get(&named.name);
        if let Some(tried) = tried.filter(|tried| is_one_store(&tried.named, named)) {
            tried.book.learn(credentials);
            return Ok(Arc::clone(&tried.store));
        }
        let (store, book) = self.make(named);
        book.learn(credentials);
        let store = store?;
        if state.tried.len() >= MAX_TRIED {
            state.tried.pop_first();
        }
        let made = Made {
            named: named.clone(),
            store: Arc::clone(&store),
            book,
        };
        state.tried.insert(named.name.clone(), made);
        Ok(store)
    }

    /// How every store is, worst first.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let now = self.parts.clock.now();
        let state = self.state();
        let facts = state.stores.values().map(|live| {
            let lies = |secret: &&SecretNow| lies_in(secret, &live.named.name);
            let secrets = state.secrets.values().filter(lies).count();
            health::fact(live, secrets, now)
        });
        health::bounded(facts.collect())
    }

    /// What Prometheus reads of every store.
    pub(crate) fn show(&self, page: &mut Page) {
        let state = self.state();
        for (name, live) in &state.stores {
            let label = [name.as_str()];
            let lies = |secret: &&SecretNow| lies_in(secret, name);
            let secrets = state.secrets.values().filter(lies).count();
            let health = &live.health;
            page.count(&names::STORE_SECRETS, &label, count(secrets));
            page.count(&names::STORE_UNREADABLE, &label, count(health.faults.len()));
            let is_known = health.answered.is_some() || health.silent.is_some();
            if is_known || live.store.is_err() {
                let is_up = live.store.is_ok() && health.silent.is_none();
                page.flag(&names::STORE_UP, &label, is_up);
            }
            if let Some(answered) = health.answered {
                page.at(&names::STORE_LAST_LOOK, &label, answered);
            }
        }
    }

    /// Names of the stores.
    pub(super) fn names(&self) -> BTreeSet<(StoreName, StoreId)> {
        let state = self.state();
        let live = state.stores.iter();
        live.map(|(name, live)| (name.clone(), live.id)).collect()
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Whether both are asked in the same way, by one login: how often is no part of that.
fn is_one_store(one: &NamedStore, other: &NamedStore) -> bool {
    let (a, b) = (&one.spec, &other.spec);
    one.name == other.name && a.backend == b.backend && a.timeout == b.timeout
}

/// Whether a secret lies in a store.
pub(super) fn lies_in(secret: &SecretNow, store: &StoreName) -> bool {
    secret.place.as_ref().is_some_and(|at| at.store == *store)
}
